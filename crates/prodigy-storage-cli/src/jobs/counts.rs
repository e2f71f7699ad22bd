//! Counts of the jobs of a repository.

use prodigy_storage::{JobOverview, JobState, RepoName, Timestamp};
use serde_json::{Value, json};

use crate::output::bytes;
use crate::table::Column;
use crate::time::age_of;

/// Totals over the jobs of a repository.
#[derive(Clone, Copy, Default)]
pub(crate) struct RepoCounts {
    pub(crate) jobs: u64,
    active: u64,
    open: u64,
    finished: u64,
    moved: u64,
    letters: u64,
    log_bytes: u64,
    bytes: u64,
    last_activity: Option<Timestamp>,
}

impl RepoCounts {
    pub(crate) fn columns() -> [Column; 8] {
        [
            Column::number("JOBS"),
            Column::number("ACTIVE").optional(2),
            Column::number("OPEN").optional(3),
            Column::number("FINISHED").optional(4),
            Column::number("MOVED").optional(5),
            Column::number("DEAD LETTERS"),
            Column::number("LAST"),
            Column::number("SIZE"),
        ]
    }

    /// Counts a job. `is_moved` is true if it was moved to another store.
    pub(crate) fn add(&mut self, row: &JobOverview, is_moved: bool) {
        self.jobs += 1;
        match row.status.state {
            _ if is_moved => self.moved += 1,
            JobState::Active => self.active += 1,
            JobState::Finished => self.finished += 1,
            _ => self.open += 1,
        }
        // Those of a moved job wait in the other store.
        self.letters += if is_moved { 0 } else { row.letters.items };
        self.log_bytes += row.log.bytes;
        self.bytes += row.bytes();
        self.last_activity = self.last_activity.max(row.status.last_activity);
    }

    pub(crate) fn last_activity(&self) -> Option<Timestamp> {
        self.last_activity
    }

    pub(crate) fn json(&self, repo: &RepoName) -> Value {
        json!({
            "repo": repo,
            "jobs": self.jobs,
            "active": self.active,
            "open": self.open,
            "finished": self.finished,
            "moved": self.moved,
            "dead_letters": self.letters,
            "log_bytes": self.log_bytes,
            "bytes": self.bytes,
            "last_activity": self.last_activity,
        })
    }

    pub(crate) fn cells(&self) -> [String; 8] {
        let last = self.last_activity;
        [
            self.jobs.to_string(),
            self.active.to_string(),
            self.open.to_string(),
            self.finished.to_string(),
            self.moved.to_string(),
            self.letters.to_string(),
            age_of(last),
            bytes(self.bytes),
        ]
    }
}
