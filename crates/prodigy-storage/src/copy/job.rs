//! Copies one job into another store.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::record::checksum_on;
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Change, Claim, Cursor, Durability, ErrorKind, EventId, Expected, ItemId,
    ItemState, Moved, PutOptions, QueueEntry, QueueItem, QueueMark, QueueStep, Record, Result, Select,
    Settlement, StorageError, StoredDocument, shell_flags_of, shell_operands,
};
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobAddress, Part, RepoName, Timestamp};

use super::begun::Begun;
use super::clock::CopyClock;
use super::compare::{Same, way_out};
use super::positions::{self, Position, between, cursor_in, next_record, with_cursor, with_gap};
use super::same::{leads_to, marks_over, refuse_moved};
use super::{COPY, CopiedJob, compare, lines, mark};
use crate::call::operation::{GET_ITEM, PERSIST, PUSH, SEAL, SETTLE};
use crate::dlq::RepeatedItems;
use crate::job::{Job, JobState, JobStatus};
use crate::listing::Listing;
use crate::storage::Storage;

/// The largest numbers of events and of bytes in one append.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// Copies a job, and compares the copy with the source. Then marks the job as moved in the source, unless
/// `is_kept` is true or the backend keeps no marks. Returns true with the copy if the job has a mark, and `None` if the job was
/// deleted meanwhile: nothing of it stays in the target then, unless it was there before.
///
/// If the oldest events were removed from the source meanwhile, the copy begins again.
pub(super) fn copy(
    source: &Storage,
    target: &Storage,
    clock: &CopyClock,
    address: &JobAddress,
    to: (&str, bool),
    begun: &Begun,
) -> Result<Option<(CopiedJob, bool)>> {
    let job = |storage: &Storage| Job::new(Arc::clone(storage.inner()), address.clone());
    let is_new = is_nothing(&job(target).status()?);
    let mut first = None;
    loop {
        let before = job(source).status()?;
        if is_nothing(&before) {
            return Ok(None);
        }
        first = first.max(first_event(source, address));
        let error = match copy_stored(source, target, clock, address, &before, to, begun) {
            Ok(copied) => return Ok(Some(copied)),
            Err(error) => error,
        };
        let is_gone = is_nothing(&job(source).status()?);
        let is_shorter = first.is_some() && first_event(source, address) > first;
        if is_new && (is_gone || is_shorter) {
            // A deletion is refused while the writer of this copy has the log open.
            seal(target, address)?;
            job(target).delete()?;
        }
        match is_gone {
            true => return Ok(None),
            false if is_new && is_shorter => {}
            false => return Err(error),
        }
    }
}

/// The id of the first event; `None` if the log has no event, or it can't be read.
fn first_event(storage: &Storage, job: &JobAddress) -> Option<EventId> {
    let mut all = lines(storage, job, None).ok()?;
    let first = next_record(&mut all).ok()??;
    Some(first.id)
}

/// True if the job has no data: it was never written to, or was deleted. The mark of a finished job is read before the activity, so it
/// may be of the job before its deletion.
fn is_nothing(status: &JobStatus) -> bool {
    status.last_activity.is_none()
}

/// Copies a job that had data at first.
fn copy_stored(
    source: &Storage,
    target: &Storage,
    clock: &CopyClock,
    address: &JobAddress,
    before: &JobStatus,
    (place, is_kept): (&str, bool),
    begun: &Begun,
) -> Result<(CopiedJob, bool)> {
    let job = |storage: &Storage| Job::new(Arc::clone(storage.inner()), address.clone());
    let part = Part::Job(address.clone());
    // Each removal from the source is appended to the audit log, also while it is copied.
    let may_grow = address.repo.as_str() == RepoName::AUDIT;
    if before.state == JobState::Active && !may_grow {
        let why = job(source).why_active()?;
        return Err(StorageError::new(ErrorKind::LockUnavailable, COPY, address, why)
            .with_hint("end the process, or let it finish the job; then copy again"));
    }
    let end = |same: Same| -> Result<Same> {
        match before.state {
            JobState::Finished => job(target).finish()?,
            _ => seal(target, address)?,
        }
        Ok(same)
    };
    if !is_kept {
        refuse_moved(source, &part, place)?;
    }
    let earlier = own_mark(source, &part)?.filter(|mark| leads_to(mark, place));
    let (same, stored, is_marked) = if let Some(earlier) = earlier
        && job(target).status()?.last_activity.is_some()
    {
        // The job was moved before, so it is only compared: an item that was settled in the target since must not
        // return.
        let compared = compare::job(source, target, address, None).and_then(end);
        let same = compared.map_err(|error| {
            error.with_hint(format!(
                "the job was moved there at {}: if it is in use there, there is nothing to copy; otherwise delete it there, and copy again",
                earlier.at.to_rfc3339()
            ))
        })?;
        (same, 0, !is_kept)
    } else {
        // The target appends to its own audit log.
        let is_resumed = may_grow || compare::refuse_other_events(source, target, address)?;
        compare::refuse_others(source, target, address)?;
        let mut copy = Copy {
            source,
            target,
            clock,
            job: address,
            begun,
            is_resumed,
            covered: 0,
            stored: 0,
            batch: Batch::new(),
            ids: Vec::new(),
            time: None,
        };
        begun.put(target)?;
        copy.log_and_documents()?;
        copy.letters()?;
        if !may_grow && job(source).status()?.last_activity != before.last_activity {
            return Err(positions::written_to(address));
        }
        // The flush comes before the job is finished, since a write at the flush counts as a write to the job.
        target.flush()?;
        let moved = Moved::new(part, place, source.now());
        let is_marked = !is_kept && mark(source, &moved, before.last_activity)?;
        if is_marked {
            // Another copy may have marked the job meanwhile, for another place. Its mark stays.
            refuse_moved(source, &moved.part, place)?;
        }
        // The comparison comes after the mark, because then nobody can write to the source. The time of its last
        // write would not show that an item or a document was removed.
        let copied = may_grow.then_some(copy.covered);
        let same = match compare::job(source, target, address, copied).and_then(end) {
            Err(error) if is_marked => return Err(without_mark(source, &moved, error)),
            same => same?,
        };
        (same, copy.stored, is_marked)
    };
    let copied = CopiedJob {
        address: address.clone(),
        events: same.events,
        stored,
        documents: same.documents,
        letters: same.letters,
        checksum: same.checksum,
    };
    Ok((copied, is_marked))
}

/// The mark of this part; a mark of a whole that contains the part does not count.
fn own_mark(source: &Storage, part: &Part) -> Result<Option<Moved>> {
    let marks = marks_over(source, part)?;
    Ok(marks.into_iter().find(|moved| moved.part == *part))
}

/// Removes the mark that this copy made, since the copy failed with `error`. A mark of an earlier copy is kept.
fn without_mark(source: &Storage, moved: &Moved, error: StorageError) -> StorageError {
    let taken = own_mark(source, &moved.part).and_then(|found| match found.as_ref() == Some(moved) {
        true => source.reopen(&moved.part).map(drop),
        false => Ok(()),
    });
    match taken {
        Ok(()) => error,
        Err(left) => {
            tracing::warn!(part = %moved.part, error = &left as &dyn std::error::Error, "the mark of a copy that failed was not taken away");
            error.with_hint(format!(
                "the source may still have its mark: take it away with `{}`, then copy again",
                Moved::reopening(&moved.part)
            ))
        }
    }
}

fn seal(target: &Storage, job: &JobAddress) -> Result<()> {
    let inner = target.inner();
    let deadline = inner.deadline();
    inner
        .caller
        .call(SEAL, job, deadline, |backend| backend.seal(job, deadline))
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

/// The key of a dead letter, and the values by which it is ordered and compared.
pub(super) struct Letter {
    place: QueueMark,
    pub(super) id: ItemId,
    /// The CRC-32C of the dead letter's contents.
    pub(super) checksum: u32,
}

/// The dead letters of a job, in the order of their places. Fails if a dead letter is under a lease.
pub(super) fn letters(storage: &Storage, job: &JobAddress) -> Result<Vec<Letter>> {
    let inner = storage.inner();
    let mut found = Vec::new();
    for step in RepeatedItems::begin(inner, job, &Select::any())? {
        match step? {
            QueueStep::Entry(entry) if entry.state(&*inner.clock) == ItemState::Leased => {
                let why = format!("a worker holds its dead letter {}", entry.id);
                return Err(StorageError::new(ErrorKind::LockUnavailable, COPY, job, why)
                    .with_hint(format!(
                        "let the worker settle it, or wait until its lease has ended; if the worker is gone, `prodigy-storage dlq release {} {}` \
                         ends the lease",
                        shell_flags_of(job),
                        shell_operands([entry.id.as_str()])
                    )));
            }
            QueueStep::Entry(entry) => found.push(Letter {
                place: entry.place,
                checksum: checksum_on(0, entry.body.get().as_bytes()),
                id: entry.id,
            }),
            QueueStep::Damage(damage) => return Err(damage.into()),
            QueueStep::TooLarge(record) => return Err(record.into()),
        }
    }
    found.sort_by_key(|letter| letter.place);
    Ok(found)
}

pub(super) fn get(storage: &Storage, document: &Document) -> Result<Option<StoredDocument>> {
    let inner = storage.inner();
    inner.caller.get(document, inner.deadline())
}

pub(super) fn put(target: &Storage, document: &Document, body: &[u8]) -> Result<()> {
    let body = Body::parse(body).map_err(|fault| fault.refused(COPY, document))?;
    let inner = target.inner();
    let options = PutOptions::new(Durability::Strict);
    inner
        .caller
        .put(document, body, &options, inner.deadline())
        .map(drop)
}

/// Copies a document byte for byte. Returns false if the source does not have it.
pub(super) fn copy_document(
    source: &Storage,
    target: &Storage,
    document: &Document,
    begun: &Begun,
) -> Result<bool> {
    let Some(stored) = get(source, document)? else {
        return Ok(false);
    };
    if get(target, document)?.is_none_or(|there| there.body() != stored.body()) {
        begun.put(target)?;
        put(target, document, stored.body())?;
    }
    Ok(true)
}

/// Stores a document, unless the target has it already.
fn put_new(target: &Storage, document: &Document, body: &[u8]) -> Result<()> {
    match get(target, document)? {
        Some(there) if there.body() == body => Ok(()),
        _ => put(target, document, body),
    }
}

/// Deletes a document from the target that an earlier step of this copy stored there.
pub(super) fn delete_document(target: &Storage, document: &Document) -> Result<()> {
    let inner = target.inner();
    let deadline = inner.deadline();
    let deleted = inner
        .caller
        .delete(document, Expected::Any, Durability::Strict, None, deadline);
    deleted.map(drop)
}

struct Copy<'s> {
    source: &'s Storage,
    target: &'s Storage,
    clock: &'s CopyClock,
    job: &'s JobAddress,
    begun: &'s Begun,
    /// True if an earlier copy that was cut short has stored events in the target.
    is_resumed: bool,
    /// The number of events that this copy has appended, or has found in the target.
    covered: u64,
    /// The number of events that this copy has appended.
    stored: u64,
    batch: Batch,
    ids: Vec<EventId>,
    /// The time of the events in the batch.
    time: Option<Timestamp>,
}

impl Copy<'_> {
    /// Copies the events, each checkpoint once the events that its cursor covers have been copied, and then all
    /// other documents.
    fn log_and_documents(&mut self) -> Result<()> {
        let mut documents = documents(self.source, self.job)?;
        let positions = positions::find(self.source, self.job, &documents)?;
        let mut from: Option<&Cursor> = None;
        for position in &positions.ordered {
            self.events(from, Some(&position.cursor))?;
            self.checkpoints_at(position)?;
            from = Some(&position.cursor);
            documents.retain(|document| !position.documents.contains(document));
        }
        self.events(from, None)?;
        documents.retain(|document| !positions.refused.contains(document));
        for document in &positions.refused {
            if let Some(stored) = get(self.source, document)? {
                put_new(self.target, document, &with_gap(&stored, document))?;
            }
        }
        documents.push(Document::Orphans(self.job.clone()));
        for document in &documents {
            copy_document(self.source, self.target, document, self.begun)?;
        }
        Ok(())
    }

    /// Copies the events that `to` covers and `from` does not.
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
        self.batch.set_copied();
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

    /// Stores the checkpoints of a position. Their cursor becomes the present end of the new log.
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

    /// The cursor at the end of the new log. Fails if the log holds other events than those that this copy has
    /// covered.
    fn end(&self) -> Result<Cursor> {
        if self.is_resumed {
            let (mut lines, mut found) = (lines(self.target, self.job, None)?, 0);
            while next_record(&mut lines)?.is_some() {
                found += 1;
            }
            if found != self.covered {
                let why = "a checkpoint is missing in the target at a position within the events that an earlier copy stored there: it was saved since then, or deleted there";
                return Err(StorageError::new(ErrorKind::Conflict, COPY, self.job, why)
                    .with_hint(way_out(self.target, self.job)));
            }
        }
        let job = Job::new(Arc::clone(self.target.inner()), self.job.clone());
        job.events().end()
    }

    /// Copies the dead letters in the order of their places. A delay that has not ended is kept.
    fn letters(&self) -> Result<()> {
        let inner = self.target.inner();
        for Letter { id, .. } in letters(self.source, self.job)? {
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
                    .with_hint(way_out(self.target, self.job)));
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

    /// The time until the delay of a dead letter ends; zero without one.
    fn delay(&self, entry: &QueueEntry) -> Duration {
        let now = self.source.inner().clock.uptime();
        let lasting = entry.delay.filter(|delay| !delay.end.has_come(now));
        lasting.map_or(Duration::ZERO, |delay| delay.end.since.saturating_sub(now.since))
    }
}
