//! Gathers the figures of a report, in memory that does not depend on the number of jobs, events or items.

use prodigy_storage::{
    CheckpointEntry, DlqItem, ErrorKind, EventCounts, Job, JobId, JobOverview, ReadOptions, Record, Repo,
    RepoName, ScanItem, Select, Storage, StorageError, Timestamp, escape,
};
use serde::Serialize;

use super::kept::{Entries, Entry, Kept, NAME, Sort, shortened};
use super::read_of;
use super::timeline::{self, Timeline};
use crate::app::App;
use crate::dlq::{each_item, words_of};
use crate::errors::{Failure, Result};
use crate::events::{Facts, payload};
use crate::exit::Exit;
use crate::jobs::state_word;
use crate::progress::Progress;
use crate::top::Top;

/// The largest number of jobs, and of checkpoints, that a page lists: the newest ones.
const LISTED: usize = 200;

/// A report while it is gathered.
pub(super) struct Report {
    scope: Scope,
    jobs: u64,
    listed: Top<(Option<Timestamp>, u64), JobRow>,
    counts: EventCounts,
    events: Timeline,
    kinds: Timeline,
    letters: Letters,
    by_signature: Timeline,
    checkpoints: Count,
    newest_checkpoints: Top<(Timestamp, u64), CheckpointRow>,
    space: Space,
    kept: Kept,
    progress: Progress,
    /// The number of bytes read so far, for the progress bar.
    read: u64,
}

#[derive(Serialize)]
struct Scope {
    repo: RepoName,
    job: Option<JobId>,
    backend: &'static str,
    /// The time of the report, in milliseconds since 1970.
    made: i64,
    version: &'static str,
}

#[derive(Serialize)]
struct JobRow {
    job: JobId,
    state: &'static str,
    events: u64,
    letters: u64,
    checkpoints: u64,
    bytes: u64,
    last: Option<i64>,
}

#[derive(Default, Serialize)]
struct Letters {
    items: u64,
    pending: u64,
    leased: u64,
    delayed: u64,
    parked: u64,
    unreadable: u64,
}

#[derive(Default, Serialize)]
struct Count {
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct CheckpointRow {
    job: JobId,
    phase: String,
    name: String,
    time: i64,
    bytes: u64,
}

/// Stored bytes, by kind of data.
#[derive(Default, Serialize)]
struct Space {
    events: u64,
    dead_letters: u64,
    checkpoints: u64,
    documents: u64,
}

impl Report {
    pub(super) fn new(storage: &Storage, repo: &RepoName, job: Option<&JobId>, progress: Progress) -> Self {
        Self {
            scope: Scope {
                repo: repo.clone(),
                job: job.cloned(),
                backend: storage.capabilities().backend,
                made: Timestamp::now().as_millis(),
                version: env!("CARGO_PKG_VERSION"),
            },
            jobs: 0,
            listed: Top::new(LISTED),
            counts: EventCounts::default(),
            events: Timeline::default(),
            kinds: Timeline::default(),
            letters: Letters::default(),
            by_signature: Timeline::default(),
            checkpoints: Count::default(),
            newest_checkpoints: Top::new(LISTED),
            space: Space::default(),
            kept: Kept::new(),
            progress,
            read: 0,
        }
    }

    /// The number of jobs in the report.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Adds everything that a job has stored.
    pub(super) fn add(&mut self, app: &mut App<'_>, repo: &Repo, row: &JobOverview) -> Result<()> {
        let job = repo.job(row.address.job.as_str())?;
        let before = self.counts.events;
        self.add_events(app, &job, row.log.bytes)
            .or_else(|failure| app.pass_over_failure(failure))?;
        self.add_letters(app, &job)
            .or_else(|failure| app.pass_over_failure(failure))?;
        self.read += read_of(row);
        self.progress.at(self.read);
        for entry in job.checkpoints().list() {
            match entry {
                Ok(entry) => self.add_checkpoint(&row.address.job, &entry),
                Err(error) => app.pass_over(error)?,
            }
        }
        self.letters.add(row);
        self.space.add(row);
        self.jobs += 1;
        let last = row.status.last_activity;
        self.listed.offer(
            (last, self.jobs),
            JobRow {
                job: row.address.job.clone(),
                state: state_word(row.status.state),
                events: self.counts.events - before,
                letters: row.letters.items,
                checkpoints: row.checkpoints.count,
                bytes: row.bytes(),
                last: last.map(Timestamp::as_millis),
            },
        );
        Ok(())
    }

    fn add_events(&mut self, app: &mut App<'_>, job: &Job, bytes: u64) -> Result<()> {
        let id = job.address().job.as_str();
        let before = self.counts.line_bytes;
        let mut lines = job.events().read_lines(ReadOptions::new())?;
        while let Some(item) = lines.next()? {
            self.counts.add(&item);
            match item {
                ScanItem::Record(record) => self.add_event(id, &record),
                ScanItem::Damage(damage) => {
                    let text = damage.to_string();
                    self.progress.aside(|| app.damaged(&escape(&text)));
                }
                ScanItem::TooLarge(record) => self.progress.aside(|| app.too_large(&record)),
            }
            // The lines of compressed segments have more bytes than their files, by which the progress is measured.
            let read = (self.counts.line_bytes - before).min(bytes);
            self.progress.at(self.read + read);
        }
        Ok(())
    }

    fn add_event(&mut self, job: &str, record: &Record<'_>) {
        let (time, payload) = (record.time(), payload(record));
        let facts = Facts::of(payload);
        self.events.add(facts.worktree.as_deref(), time, facts.failed);
        self.kinds.add(facts.kind.as_deref(), time, facts.failed);
        let sort = match facts.failed {
            true => Sort::Failure,
            false => Sort::Event,
        };
        self.kept.offer(
            time,
            Entry {
                job: job.to_owned(),
                kind: facts.kind.map(name),
                worktree: facts.worktree.map(name),
                ..Entry::new(time, record.id.to_string(), sort, payload)
            },
        );
    }

    fn add_letters(&mut self, app: &mut App<'_>, job: &Job) -> Result<()> {
        each_item(app, job.dlq().scan(&Select::any())?, |app, item| {
            match self.add_letter(job, item) {
                Err(error) if error.kind() == ErrorKind::Foreign => app.skipped_by(&error),
                added => added?,
            }
            Ok(())
        })?;
        Ok(())
    }

    fn add_letter(&mut self, job: &Job, item: DlqItem) -> Result<(), StorageError> {
        let body = item.body.clone();
        let facts = item.summary()?;
        let time = facts
            .last_attempt
            .or(facts.first_attempt)
            .unwrap_or(Timestamp::MIN);
        let signature = facts.signature.as_deref().or(facts.error_type.as_deref());
        self.by_signature.add(signature, time, !facts.eligible);
        self.kept.offer(
            time,
            Entry {
                job: job.address().job.to_string(),
                signature: signature.map(str::to_owned).map(name),
                kind: words_of(&body).0.or_else(|| facts.error_type.clone()).map(name),
                ..Entry::new(time, facts.id.to_string(), Sort::DeadLetter, body.get())
            },
        );
        Ok(())
    }

    fn add_checkpoint(&mut self, job: &JobId, entry: &CheckpointEntry) {
        self.checkpoints.count += 1;
        self.checkpoints.bytes += entry.bytes;
        // The name of a checkpoint states the time when it was saved, which is right also in a copy of the store.
        let time = entry.id.time().unwrap_or(entry.modified);
        let key = (time, self.checkpoints.count);
        self.newest_checkpoints.offer(
            key,
            CheckpointRow {
                job: job.clone(),
                phase: entry.id.phase().to_string(),
                name: entry.id.to_string(),
                time: time.as_millis(),
                bytes: entry.bytes,
            },
        );
    }

    /// The report in the form that the page embeds.
    pub(super) fn into_shown(self) -> Result<Shown> {
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
        let entries = self.kept.into_shown();
        Ok(Shown {
            scope: self.scope,
            jobs: self.jobs,
            job_rows: self.listed.into_sorted().collect(),
            counts: Counts {
                events: self.counts.events,
                unverified: self.counts.unverified,
                damaged: self.counts.damaged,
                too_large: self.counts.too_large,
                first: millis(self.counts.first),
                last: millis(self.counts.last),
            },
            events: self.events.into_shown(),
            kinds: self.kinds.into_shown(),
            letters: self.letters,
            by_signature: self.by_signature.into_shown(),
            checkpoints: self.checkpoints,
            checkpoint_rows: self.newest_checkpoints.into_sorted().collect(),
            space: self.space,
            entries: entries.map_err(|error| Failure::new(Exit::Failed, format!("write JSON: {error}")))?,
        })
    }
}

impl Letters {
    fn add(&mut self, row: &JobOverview) {
        self.items += row.letters.items;
        self.pending += row.letters.pending;
        self.leased += row.letters.leased;
        self.delayed += row.letters.delayed;
        self.parked += row.letters.parked;
        self.unreadable += row.letters.unreadable;
    }
}

impl Space {
    fn add(&mut self, row: &JobOverview) {
        self.events += row.log.bytes;
        self.dead_letters += row.letters.bytes;
        self.checkpoints += row.checkpoints.bytes;
        self.documents += row.documents.bytes;
    }
}

/// The figures that the page embeds.
#[derive(Serialize)]
pub(super) struct Shown {
    scope: Scope,
    /// The number of all jobs; the newest are rows.
    jobs: u64,
    job_rows: Vec<JobRow>,
    counts: Counts,
    /// The events by worktree; failures are marked.
    events: timeline::Shown,
    /// The events by kind.
    kinds: timeline::Shown,
    letters: Letters,
    /// The dead letters by signature, at the time of their last attempt; parked items are marked.
    by_signature: timeline::Shown,
    checkpoints: Count,
    checkpoint_rows: Vec<CheckpointRow>,
    space: Space,
    entries: Entries,
}

#[derive(Serialize)]
struct Counts {
    events: u64,
    unverified: u64,
    damaged: u64,
    too_large: u64,
    first: Option<i64>,
    last: Option<i64>,
}

fn name(name: String) -> String {
    match name.len() > NAME {
        true => shortened(&name, NAME).to_owned(),
        false => name,
    }
}
