//! A job as a row of a listing.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use prodigy_storage::{ErrorKind, Job, JobId, JobState, JobStatus, LogSummary, QueueSummary, Repo};
use serde_json::{Value, json};

use crate::app::App;
use crate::errors::Result;

/// Jobs that are examined before the first of them is given.
const CHUNK: usize = 256;
/// The most threads that examine jobs.
const THREADS: usize = 8;

/// A job in numbers that cost no reading of its events and documents.
pub(crate) struct JobRow {
    pub(crate) repo: String,
    pub(crate) job: JobId,
    pub(crate) status: JobStatus,
    pub(crate) letters: QueueSummary,
    pub(crate) log: LogSummary,
}

impl JobRow {
    pub(super) fn of(job: &Job) -> prodigy_storage::Result<Self> {
        let address = job.address();
        Ok(Self {
            repo: address.repo.to_string(),
            job: address.job.clone(),
            status: job.status()?,
            letters: job.dlq().summary()?,
            log: job.events().summary()?,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "repo": self.repo,
            "job": self.job,
            "state": self.status.state,
            "last_activity": self.status.last_activity,
            "finished_at": self.status.finished_at,
            "dead_letters": letters_json(&self.letters),
            "log": log_json(&self.log),
        })
    }
}

/// The word for a state, as `--json` has it.
pub(crate) fn state_word(state: JobState) -> &'static str {
    match state {
        JobState::Active => "active",
        JobState::Open => "open",
        JobState::Finished => "finished",
        _ => "unknown",
    }
}

pub(super) fn letters_json(letters: &QueueSummary) -> Value {
    json!({
        "items": letters.items,
        "pending": letters.pending,
        "leased": letters.leased,
        "delayed": letters.delayed,
        "parked": letters.parked,
        "unreadable": letters.unreadable,
        "bytes": letters.bytes,
    })
}

pub(super) fn log_json(log: &LogSummary) -> Value {
    json!({
        "segments": log.segments,
        "sealed": log.sealed,
        "compressed": log.compressed,
        "bytes": log.bytes,
    })
}

/// Gives each job of a repository, in the order of their ids. A job with a damaged part is reported,
/// and the others are given. A bounded number of jobs is in memory.
pub(crate) fn each_row(
    app: &mut App<'_>,
    repo: &Repo,
    mut row: impl FnMut(&mut App<'_>, JobRow) -> Result<()>,
) -> Result<()> {
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(THREADS);
    let mut ids = repo.jobs();
    loop {
        let mut jobs = Vec::with_capacity(CHUNK);
        for id in ids.by_ref().take(CHUNK) {
            jobs.push(repo.job(id?)?);
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let share = jobs.len().div_ceil(threads);
        let rows: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = jobs
                .chunks(share)
                .map(|jobs| scope.spawn(|| jobs.iter().map(JobRow::of).collect::<Vec<_>>()))
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        for found in rows {
            match found {
                Ok(found) => row(app, found)?,
                Err(error) if error.kind() == ErrorKind::Damaged => app.damaged_by(&error),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
