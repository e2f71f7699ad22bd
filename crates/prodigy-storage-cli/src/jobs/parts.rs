//! The parts of a job, counted.

use prodigy_storage::{Job, Result};
use serde_json::{Value, json};

use super::row::{JobRow, state_word};
use crate::output::{bytes, counted};
use crate::time::{age, passed};

/// Entries of one kind, and their bytes.
#[derive(Clone, Copy, Default)]
struct Count {
    entries: usize,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn json(self) -> Value {
        json!({"count": self.entries, "bytes": self.bytes})
    }
}

/// The parts of a job in numbers.
pub(crate) struct Parts {
    row: JobRow,
    checkpoints: Count,
    documents: Count,
    orphans: usize,
}

impl Parts {
    pub(crate) fn of(job: &Job) -> Result<Self> {
        let (mut checkpoints, mut documents) = (Count::default(), Count::default());
        for checkpoint in job.checkpoints().list() {
            checkpoints.add(checkpoint?.bytes);
        }
        for document in job.all_documents() {
            documents.add(document?.bytes);
        }
        Ok(Self {
            row: JobRow::of(job)?,
            checkpoints,
            documents,
            orphans: job.orphans().list()?.len(),
        })
    }

    /// True if nothing is stored.
    pub(super) fn is_nothing(&self) -> bool {
        self.row.log.segments == 0
            && self.row.letters.items == 0
            && self.checkpoints.entries + self.documents.entries + self.orphans == 0
            && self.row.status.finished_at.is_none()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.row.log.bytes + self.row.letters.bytes + self.checkpoints.bytes + self.documents.bytes
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = self.row.json();
        if let Value::Object(json) = &mut json {
            json.insert("checkpoints".to_owned(), self.checkpoints.json());
            json.insert("documents".to_owned(), self.documents.json());
            json.insert("orphaned_worktrees".to_owned(), json!(self.orphans));
            json.insert("bytes".to_owned(), json!(self.bytes()));
        }
        json
    }

    /// The size of each kind of data, of all, and the name: cells of a table.
    pub(crate) fn sizes(&self) -> [String; 6] {
        let JobRow { repo, job, .. } = &self.row;
        [
            bytes(self.row.log.bytes),
            bytes(self.checkpoints.bytes),
            bytes(self.documents.bytes),
            bytes(self.row.letters.bytes),
            bytes(self.bytes()),
            format!("{repo}/{job}"),
        ]
    }

    /// The lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let JobRow {
            repo,
            job,
            status,
            letters,
            log,
        } = &self.row;
        let mut lines = vec![
            format!("job          {repo}/{job}"),
            format!("state        {}", state_word(status.state)),
        ];
        if let Some(last) = status.last_activity {
            lines.push(format!(
                "last write   {} ago, {}",
                age(passed(last)),
                last.to_rfc3339()
            ));
        }
        if let Some(finished) = status.finished_at {
            let at = finished.to_rfc3339();
            lines.push(format!("finished     {} ago, {at}", age(passed(finished))));
        }
        let segments = counted(usize::try_from(log.segments).unwrap_or(usize::MAX), "segment");
        lines.push(format!(
            "events       {} in {segments} ({} sealed, {} compressed)",
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
            self.checkpoints.entries,
            bytes(self.checkpoints.bytes)
        ));
        lines.push(format!(
            "documents    {}, {}",
            self.documents.entries,
            bytes(self.documents.bytes)
        ));
        lines.push(format!("orphaned     {}", counted(self.orphans, "worktree")));
        lines.push(format!("size         {}", bytes(self.bytes())));
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
