//! Counts of everything that a job has stored.

use prodigy_storage::{Job, JobOverview};
use serde_json::{Value, json};

use super::row::{print_damage, row_json, state_word};
use crate::app::App;
use crate::errors::Failure;
use crate::job::Opened;
use crate::output::{bytes, counted};
use crate::status::read_events;
use crate::time::{age, passed};

/// Counts of a job's data, by kind.
pub(crate) struct Parts {
    row: JobOverview,
    orphans: usize,
}

impl Parts {
    pub(crate) fn of(job: &Job) -> prodigy_storage::Result<Self> {
        Ok(Self {
            row: job.overview()?,
            orphans: job.orphans().list()?.len(),
        })
    }

    /// Reports damaged data, which the counts do not include.
    pub(super) fn print_damage(&self, app: &mut App<'_>) {
        print_damage(app, &self.row);
    }

    /// The number of events, and whether they were counted or estimated; `None` for a compressed log. What can't be read is reported.
    pub(super) fn events(&self, app: &mut App<'_>, opened: &Opened) -> Result<Option<(u64, bool)>, Failure> {
        read_events(app, &opened.storage, &self.row)
    }

    /// True if nothing is stored.
    pub(super) fn is_nothing(&self) -> bool {
        let row = &self.row;
        let damaged = row.letters.damaged + row.checkpoints.damaged + row.documents.damaged;
        row.log.segments + row.letters.items + row.checkpoints.count + row.documents.count + damaged == 0
            && self.orphans == 0
            && row.status.finished_at.is_none()
    }

    pub(super) fn leased(&self) -> u64 {
        self.row.letters.leased
    }

    pub(super) fn bytes(&self) -> u64 {
        self.row.bytes()
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = row_json(&self.row);
        if let Value::Object(json) = &mut json {
            json.insert("orphaned_worktrees".to_owned(), json!(self.orphans));
        }
        json
    }

    /// The counts as lines of text for people. `events` is the number of events, and whether they were counted or estimated.
    pub(super) fn lines(&self, app: &App<'_>, events: Option<(u64, bool)>) -> Vec<String> {
        let JobOverview {
            status, letters, log, ..
        } = &self.row;
        let mut lines = vec![
            format!("job          {}", self.row.address),
            format!("state        {}", state_word(status.state)),
        ];
        if let Some(last) = status.last_activity {
            lines.push(format!(
                "last write   {} ago, {}",
                age(passed(last)),
                app.time(last)
            ));
        }
        if let Some(finished) = status.finished_at {
            let at = app.time(finished);
            lines.push(format!("finished     {} ago, {at}", age(passed(finished))));
        }
        let segments = counted(log.segments, "segment");
        let events = match events {
            Some((count, true)) => format!("{count}, "),
            Some((count, false)) => format!("about {count}, "),
            None => String::new(),
        };
        lines.push(format!(
            "events       {events}{} in {segments} ({} sealed, {} compressed)",
            bytes(log.bytes),
            log.sealed,
            log.compressed
        ));
        lines.push(format!(
            "dead letters {}: {} pending, {} leased, {} delayed, {} parked; {}",
            letters.items,
            letters.pending,
            letters.leased,
            letters.delayed,
            letters.parked,
            bytes(letters.bytes)
        ));
        lines.push(format!(
            "checkpoints  {}, {}",
            self.row.checkpoints.count,
            bytes(self.row.checkpoints.bytes)
        ));
        lines.push(format!(
            "documents    {}, {}",
            self.row.documents.count,
            bytes(self.row.documents.bytes)
        ));
        lines.push(format!("orphaned     {}", counted(self.orphans, "worktree")));
        lines.push(format!("size         {}", bytes(self.row.bytes())));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_anything_is_nothing_and_one_event_is_something() {
        let storage = prodigy_storage::Storage::in_memory().unwrap();
        let job = storage.repo("shop").unwrap().job("job").unwrap();
        assert!(Parts::of(&job).unwrap().is_nothing());
        job.events().append(&1).unwrap();
        let parts = Parts::of(&job).unwrap();
        assert!(!parts.is_nothing());
        assert!(parts.json()["log"]["bytes"].as_u64().unwrap() > 0);
    }
}
