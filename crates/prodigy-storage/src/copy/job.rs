//! Copies one job.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Change, Claim, Cursor, Durability, ErrorKind, EventId, ItemId, ItemState,
    Moved, PutOptions, QueueEntry, QueueItem, QueueMark, QueueStep, Record, Result, Select, Settlement,
    StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobAddress, Part, Timestamp};

use super::clock::CopyClock;
use super::positions::{self, Position, between, cursor_in, next_record, with_cursor};
use super::{COPY, CopiedJob, compare, lines, mark};
use crate::call::operation::{GET_ITEM, PERSIST, PUSH, SCAN_ITEMS, SEAL, SETTLE};
use crate::job::{Job, JobState};
use crate::listing::Listing;
use crate::storage::Storage;

/// Events and bytes of one append, at most.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// Copies a job, and compares it. With a place, the source then gets a mark with it, if its backend keeps any: true if it has one.
pub(super) fn copy(
    source: &Storage,
    target: &Storage,
    clock: &CopyClock,
    address: &JobAddress,
    place: Option<&str>,
) -> Result<(CopiedJob, bool)> {
    let job = |storage: &Storage| Job::new(Arc::clone(storage.inner()), address.clone());
    let before = job(source).status()?;
    if before.state == JobState::Active {
        let why = "the job is active: a process appends to its log or holds one of its locks";
        return Err(StorageError::new(ErrorKind::LockUnavailable, COPY, address, why)
            .with_hint("end the process, or let it finish the job; then copy again"));
    }
    let is_resumed = compare::refuse_others(source, target, address)?;
    let mut copy = Copy {
        source,
        target,
        clock,
        job: address,
        is_resumed,
        covered: 0,
        stored: 0,
        batch: Batch::new(),
        ids: Vec::new(),
        time: None,
    };
    let documents = copy.log_and_documents()?;
    copy.letters()?;
    let letters = compare::same_letters(source, target, address)?;
    let (events, checksum) = compare::events(source, target, address)?;
    if job(source).status()?.last_activity != before.last_activity {
        let why = "it was written to while it was copied";
        return Err(StorageError::new(ErrorKind::Conflict, COPY, address, why)
            .with_hint("end the process that writes to it, then copy again"));
    }
    // Before it is finished: what a backend writes at a flush counts as a write to the job.
    target.flush()?;
    let is_marked = match place {
        Some(place) => {
            let moved = Moved::new(Part::Job(address.clone()), place, source.now());
            mark(source, &moved, before.last_activity)?
        }
        None => false,
    };
    match before.state {
        JobState::Finished => job(target).finish()?,
        _ => copy.seal()?,
    }
    let copied = CopiedJob {
        address: address.clone(),
        events,
        stored: copy.stored,
        documents,
        letters,
        checksum,
    };
    Ok((copied, is_marked))
}

/// The checkpoints and documents of a job.
pub(super) fn documents(storage: &Storage, job: &JobAddress) -> Result<Vec<Document>> {
    let owner = DocumentOwner::Job(job.clone());
    let mut found = Vec::new();
    for scope in [DocumentScope::Job(job.clone()), DocumentScope::Own(owner, None)] {
        for entry in Listing::documents(storage.inner(), scope) {
            found.push(entry?.document);
        }
    }
    Ok(found)
}

/// The dead letters of a job in the order of their places. One under a lease is an error.
pub(super) fn letters(storage: &Storage, job: &JobAddress) -> Result<Vec<(QueueMark, ItemId)>> {
    let inner = storage.inner();
    let deadline = inner.deadline();
    let scan = inner.caller.call(SCAN_ITEMS, job, deadline, |backend| {
        backend.queue_scan(job, &Select::any(), deadline)
    })?;
    let mut found = Vec::new();
    for step in scan {
        match step? {
            QueueStep::Entry(entry) if entry.state(&*inner.clock) == ItemState::Leased => {
                let why = format!("a worker holds its dead letter {}", entry.id);
                return Err(StorageError::new(ErrorKind::LockUnavailable, COPY, job, why)
                    .with_hint("let the worker settle it, or wait until its lease has ended"));
            }
            QueueStep::Entry(entry) => found.push((entry.place, entry.id)),
            QueueStep::Damage(damage) => return Err(damage.into()),
            QueueStep::TooLarge(record) => return Err(record.into()),
        }
    }
    found.sort();
    Ok(found)
}

fn get(storage: &Storage, document: &Document) -> Result<Option<StoredDocument>> {
    let inner = storage.inner();
    inner.caller.get(document, inner.deadline())
}

fn put(target: &Storage, document: &Document, body: &[u8]) -> Result<()> {
    let body = Body::parse(body).map_err(|fault| fault.refused(COPY, document))?;
    let inner = target.inner();
    let options = PutOptions::new(Durability::Strict);
    inner
        .caller
        .put(document, body, &options, inner.deadline())
        .map(drop)
}

/// Copies a document byte for byte. False if the source lacks it.
pub(super) fn copy_document(source: &Storage, target: &Storage, document: &Document) -> Result<bool> {
    let Some(stored) = get(source, document)? else {
        return Ok(false);
    };
    let there = get(target, document)?;
    if there.is_none_or(|there| there.body() != stored.body()) {
        put(target, document, stored.body())?;
    }
    Ok(true)
}

struct Copy<'s> {
    source: &'s Storage,
    target: &'s Storage,
    clock: &'s CopyClock,
    job: &'s JobAddress,
    /// True if an earlier copy stored events.
    is_resumed: bool,
    /// The number of events that were appended or found so far.
    covered: u64,
    /// The number of events that were appended.
    stored: u64,
    batch: Batch,
    ids: Vec<EventId>,
    /// The time of the events in the batch.
    time: Option<Timestamp>,
}

impl Copy<'_> {
    /// Copies the log with the checkpoints at its positions, then all other documents. Returns the number of documents.
    fn log_and_documents(&mut self) -> Result<u64> {
        let mut documents = documents(self.source, self.job)?;
        let positions = positions::find(self.source, self.job, &documents)?;
        let mut from: Option<&Cursor> = None;
        let mut count = 0;
        for position in &positions {
            self.events(from, Some(&position.cursor))?;
            self.checkpoints_at(position)?;
            from = Some(&position.cursor);
            count += position.documents.len() as u64;
            documents.retain(|document| !position.documents.contains(document));
        }
        self.events(from, None)?;
        documents.push(Document::Orphans(self.job.clone()));
        for document in &documents {
            count += u64::from(copy_document(self.source, self.target, document)?);
        }
        Ok(count)
    }

    /// Copies the events behind `from` that are not behind `to`.
    fn events(&mut self, from: Option<&Cursor>, to: Option<&Cursor>) -> Result<()> {
        between(self.source, self.job, from, to, |record| self.event(record))?;
        self.append()
    }

    fn event(&mut self, record: &Record<'_>) -> Result<()> {
        let time = Some(record.time());
        if self.time != time || self.batch.len() >= BATCH || self.batch.bytes() >= BATCH_BYTES {
            self.append()?;
        }
        if !record.id.is_v7() || !self.batch.push_record(record) {
            let why = format!("event {} was written by another program", record.id);
            return Err(StorageError::new(ErrorKind::Foreign, COPY, self.job, why)
                .with_hint("take what other programs left with `import`, and delete it from the source"));
        }
        self.ids.push(record.id);
        self.time = time;
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch.set_ids(self.ids.drain(..));
        let inner = self.target.inner();
        self.clock.show(self.time.take());
        let options = AppendOptions::new(Durability::Relaxed);
        let appended = inner
            .caller
            .append(self.job, &mut self.batch, &options, inner.deadline());
        self.clock.show(None);
        self.stored += appended?.stored as u64;
        self.covered += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    /// Stores the checkpoints of the position at the end of the new log.
    fn checkpoints_at(&self, position: &Position) -> Result<()> {
        let mut missing = Vec::new();
        let mut cursor = None;
        for document in &position.documents {
            let Some(stored) = get(self.source, document)? else {
                continue;
            };
            let there = get(self.target, document)?;
            if let Some(there) = there
                && let Some(known) = cursor_in(there.body())
                && with_cursor(&stored, document, &known)? == there.body()
            {
                cursor = Some(known);
            } else {
                missing.push((document, stored));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let cursor = cursor.map_or_else(|| self.end(), Ok)?;
        let inner = self.target.inner();
        let deadline = inner.deadline();
        inner.caller.call(PERSIST, self.job, deadline, |backend| {
            backend.persist(self.job, &cursor, deadline)
        })?;
        for (document, stored) in missing {
            put(self.target, document, &with_cursor(&stored, document, &cursor)?)?;
        }
        Ok(())
    }

    /// The end of the new log, which has to hold the events so far and no other.
    fn end(&self) -> Result<Cursor> {
        if self.is_resumed {
            let (mut lines, mut found) = (lines(self.target, self.job, None)?, 0);
            while next_record(&mut lines)?.is_some() {
                found += 1;
            }
            if found != self.covered {
                let why = "a checkpoint was saved since the copy that was cut short, at a position within what that copy stored";
                return Err(StorageError::new(ErrorKind::Conflict, COPY, self.job, why)
                    .with_hint("delete the job in the target, and copy again"));
            }
        }
        let job = Job::new(Arc::clone(self.target.inner()), self.job.clone());
        job.events().end()
    }

    /// Copies the dead letters in the order of their places, with the delays that last.
    fn letters(&self) -> Result<()> {
        let inner = self.target.inner();
        for (_, id) in letters(self.source, self.job)? {
            let Some(entry) = self.letter(self.source, &id)? else {
                continue;
            };
            if self.letter(self.target, &id)?.is_none() {
                let item = QueueItem {
                    id: id.clone(),
                    body: entry.body.clone(),
                };
                let deadline = inner.deadline();
                inner.caller.call(PUSH, self.job, deadline, |backend| {
                    let items = std::slice::from_ref(&item);
                    backend.queue_put(self.job, items, Durability::Strict, None, deadline)
                })?;
            }
            let there = self.letter(self.target, &id)?;
            let Some(there) = there.filter(|there| there.body.get() == entry.body.get()) else {
                let why = format!("the target has dead letter {id} with other contents");
                return Err(StorageError::new(ErrorKind::Conflict, COPY, self.job, why)
                    .with_hint("delete the job in the target, and copy again"));
            };
            let left = self.delay(&entry);
            if there.delay.is_none() && !left.is_zero() {
                let later = Settlement::new(Claim::Item(id), Change::Release { delay: left });
                let deadline = inner.deadline();
                inner.caller.call(SETTLE, self.job, deadline, |backend| {
                    backend.queue_settle(self.job, std::slice::from_ref(&later), None, deadline)
                })?;
            }
        }
        Ok(())
    }

    fn letter(&self, storage: &Storage, id: &ItemId) -> Result<Option<QueueEntry>> {
        let inner = storage.inner();
        let deadline = inner.deadline();
        inner.caller.call(GET_ITEM, id, deadline, |backend| {
            backend.queue_get(self.job, id, deadline)
        })
    }

    /// The rest of the delay of a dead letter.
    fn delay(&self, entry: &QueueEntry) -> Duration {
        let now = self.source.inner().clock.uptime();
        let lasting = entry.delay.filter(|delay| !delay.end.has_come(now));
        lasting.map_or(Duration::ZERO, |delay| delay.end.since.saturating_sub(now.since))
    }

    fn seal(&self) -> Result<()> {
        let inner = self.target.inner();
        let deadline = inner.deadline();
        inner.caller.call(SEAL, self.job, deadline, |backend| {
            backend.seal(self.job, deadline)
        })
    }
}
