//! Helpers of the properties.

use std::time::Duration;

use prodigy_storage_layout::{DocumentScope, JobAddress, JobId, LockName, RepoName, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::clock::ManualClock;
use super::failure::Failure;
use super::harness::Harness;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::body::Body;
use crate::clock::Clock;
use crate::dead_letter;
use crate::deadline::Deadline;
use crate::document::DocumentEntry;
use crate::error::{ErrorKind, StorageError};
use crate::id::EventId;
use crate::lock::LockInfo;
use crate::log::{AppendOptions, Appended, Cursor, Durability, Scan, ScanItem, ScanOptions};
use crate::page::Entries;
use crate::queue::{
    Change, Claim, ItemId, LeaseToken, PutReport, QueueEntry, QueueItem, QueueStep, Select, Settled,
    Settlement,
};

pub(super) type Check = Result<(), Failure>;

/// An event that was read: its id and the text of its payload.
pub(super) type Event = (EventId, String);

/// A deadline that no call reaches, unless it hangs.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub(super) fn repo(name: &str) -> Result<RepoName, Failure> {
    Ok(RepoName::new(name)?)
}

pub(super) fn job(name: &str) -> Result<JobAddress, Failure> {
    Ok(JobAddress::new(repo("shop")?, JobId::new(name)?))
}

pub(super) fn lock_name(name: &str) -> Result<LockName, Failure> {
    Ok(LockName::new(name)?)
}

/// The moment `millis` milliseconds after the clock's start.
pub(super) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(ManualClock::START.as_millis() + millis)
}

/// The id of this moment: always the same id for the same `millis`.
pub(super) fn given(millis: i64) -> EventId {
    EventId::floor(moment(millis))
}

pub(super) fn object(text: &str) -> Result<Body<'_>, Failure> {
    Ok(Body::parse(text.as_bytes())?)
}

pub(super) fn batch(payloads: &[&str]) -> Result<Batch, Failure> {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.push(&RawValue::from_string((*payload).to_owned())?)?;
    }
    Ok(batch)
}

/// Appends JSON texts, and returns their ids.
pub(super) fn append(
    backend: &dyn Backend,
    job: &JobAddress,
    payloads: &[&str],
) -> Result<Vec<EventId>, Failure> {
    let mut batch = batch(payloads)?;
    let appended = backend.append(job, &mut batch, &AppendOptions::default(), soon())?;
    super::failure::ensure_eq!(appended.stored, payloads.len(), "events stored by an append");
    Ok(batch.ids().to_vec())
}

/// Appends JSON texts under given ids.
pub(super) fn append_given(
    backend: &dyn Backend,
    job: &JobAddress,
    events: &[(EventId, &str)],
) -> Result<Appended, Failure> {
    let payloads: Vec<&str> = events.iter().map(|(_, payload)| *payload).collect();
    let mut batch = batch(&payloads)?;
    batch.set_ids(events.iter().map(|(id, _)| *id));
    let appended = backend.append(job, &mut batch, &AppendOptions::default(), soon())?;
    let ids: Vec<EventId> = events.iter().map(|(id, _)| *id).collect();
    super::failure::ensure_eq!(
        batch.ids(),
        ids.as_slice(),
        "ids of the batch after an append under given ids"
    );
    Ok(appended)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: EventId,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// Reads up to `limit` events. Returns them, and the cursor after the last one of them.
pub(super) fn read_some(
    backend: &dyn Backend,
    job: &JobAddress,
    options: &ScanOptions,
    limit: usize,
) -> Result<(Vec<Event>, Cursor), Failure> {
    drain(backend.scan(job, options, soon())?, limit)
}

/// The next events of a scan, at most `limit`, and the cursor after the last one of them.
pub(super) fn drain(mut scan: Box<dyn Scan>, limit: usize) -> Result<(Vec<Event>, Cursor), Failure> {
    let mut events = Vec::new();
    while events.len() < limit {
        match scan.next()? {
            None => break,
            Some(ScanItem::Damage(damage)) => {
                return Err(Failure::new(format!("damage in a whole log: {damage}")));
            }
            Some(ScanItem::TooLarge(record)) => {
                return Err(Failure::new(format!("a stored event is not returned: {record}")));
            }
            Some(ScanItem::Record(record)) => {
                super::failure::ensure!(record.verified, "the record is not verified: {}", record.line);
                let envelope: Envelope<'_> = record.parse()?;
                super::failure::ensure_eq!(
                    envelope.id,
                    record.id,
                    "the id in the line and the id of the record"
                );
                events.push((record.id, envelope.event.get().to_owned()));
            }
        }
    }
    let cursor = scan.cursor();
    Ok((events, cursor))
}

pub(super) fn read_from(
    backend: &dyn Backend,
    job: &JobAddress,
    from: Option<Cursor>,
) -> Result<(Vec<Event>, Cursor), Failure> {
    let options = from.map_or_else(ScanOptions::all, ScanOptions::after);
    read_some(backend, job, &options, usize::MAX)
}

pub(super) fn read(backend: &dyn Backend, job: &JobAddress) -> Result<Vec<Event>, Failure> {
    Ok(read_from(backend, job, None)?.0)
}

pub(super) fn payloads(events: &[Event]) -> Vec<&str> {
    events.iter().map(|(_, payload)| payload.as_str()).collect()
}

/// Fails the property unless the result is an error of this kind. Returns the error.
pub(super) fn refused<T>(
    result: Result<T, StorageError>,
    kind: ErrorKind,
    what: &str,
) -> Result<StorageError, Failure> {
    match result {
        Ok(_) => Err(Failure::new(format!(
            "{what} was accepted, `{kind}` was expected"
        ))),
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(Failure::new(format!(
            "{what}: `{kind}` was expected, got: {error}"
        ))),
    }
}

pub(super) fn item_id(name: &str) -> Result<ItemId, Failure> {
    Ok(ItemId::new(name)?)
}

/// An item with one failure at this time, as a caller pushes it. The failure differs for different data.
pub(super) fn item(name: &str, data: &str, now: Timestamp) -> Result<QueueItem, Failure> {
    let text = format!(
        r#"{{"item_id":{},"item_data":{data},"failure_history":[{{"error_type":"Timeout","error_message":{},"timestamp":{}}}]}}"#,
        serde_json::to_string(name)?,
        serde_json::to_string(&format!("no answer to {data}"))?,
        serde_json::to_string(&now)?
    );
    Ok(dead_letter::normalise(&RawValue::from_string(text)?)?)
}

/// Pushes items with these names.
pub(super) fn put(
    harness: &dyn Harness,
    backend: &dyn Backend,
    job: &JobAddress,
    names: &[&str],
) -> Result<PutReport, Failure> {
    let now = harness.clock().now();
    let items = names
        .iter()
        .map(|name| item(name, "1", now))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(backend.queue_put(job, &items, Durability::Strict, None, soon())?)
}

/// All documents of a scope, read in pages of two entries.
pub(super) fn list(backend: &dyn Backend, scope: &DocumentScope) -> Result<Vec<DocumentEntry>, Failure> {
    Ok(Entries::new(|page| backend.list(scope, page, soon()))
        .limit(2)
        .collect::<crate::Result<_>>()?)
}

/// All locks of a store, read in pages.
pub(super) fn locks(backend: &dyn Backend) -> Result<Vec<LockInfo>, Failure> {
    Ok(Entries::new(|page| backend.locks(page, soon()))
        .limit(2)
        .collect::<crate::Result<_>>()?)
}

/// All repositories of a store, read in pages.
pub(super) fn repositories(backend: &dyn Backend) -> Result<Vec<RepoName>, Failure> {
    Ok(Entries::new(|page| backend.repositories(page, soon()))
        .limit(2)
        .collect::<crate::Result<_>>()?)
}

/// All jobs of a repository, read in pages.
pub(super) fn jobs(backend: &dyn Backend, repo: &RepoName) -> Result<Vec<JobId>, Failure> {
    Ok(Entries::new(|page| backend.jobs(repo, page, soon()))
        .limit(2)
        .collect::<crate::Result<_>>()?)
}

/// The keys of a queue, in its order.
pub(super) fn keys(backend: &dyn Backend, job: &JobAddress) -> Result<Vec<String>, Failure> {
    selected(backend, job, &Select::any())
}

/// The keys of the selected items, in the order of the queue.
pub(super) fn selected(
    backend: &dyn Backend,
    job: &JobAddress,
    select: &Select,
) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for step in backend.queue_scan(job, select, soon())? {
        match step? {
            QueueStep::Entry(entry) => keys.push(entry.id.as_str().to_owned()),
            QueueStep::Damage(damage) => {
                return Err(Failure::new(format!("damage in a whole queue: {damage}")));
            }
            QueueStep::TooLarge(item) => {
                return Err(Failure::new(format!("a stored item is not returned: {item}")));
            }
        }
    }
    Ok(keys)
}

/// The length of most leases in the suite.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The stored item with this key; fails if the item does not exist.
pub(super) fn entry(backend: &dyn Backend, job: &JobAddress, name: &str) -> Result<QueueEntry, Failure> {
    let got = backend.queue_get(job, &item_id(name)?, soon())?;
    got.ok_or_else(|| Failure::new(format!("item {name} is gone")))
}

/// Takes up to `limit` eligible items, for a minute.
pub(super) fn take(
    backend: &dyn Backend,
    job: &JobAddress,
    limit: usize,
) -> Result<Vec<QueueEntry>, Failure> {
    Ok(backend.queue_take(job, &Select::eligible(), limit, MINUTE, None, soon())?)
}

pub(super) fn names(entries: &[QueueEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

/// Takes one item, and returns its token.
pub(super) fn take_one(backend: &dyn Backend, job: &JobAddress) -> Result<LeaseToken, Failure> {
    let taken = tokens(&take(backend, job, 1)?);
    taken
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new("no item was taken"))
}

pub(super) fn tokens(entries: &[QueueEntry]) -> Vec<LeaseToken> {
    entries
        .iter()
        .filter_map(|entry| Some(entry.lease.as_ref()?.token.clone()))
        .collect()
}

/// Makes one change of one item. Returns its outcome.
pub(super) fn settle(
    backend: &dyn Backend,
    job: &JobAddress,
    claim: Claim,
    change: Change,
) -> Result<Settled, Failure> {
    let settled = backend.queue_settle(job, &[Settlement::new(claim, change)], None, soon())?;
    super::failure::ensure_eq!(settled.len(), 1, "results of one settlement");
    settled
        .first()
        .copied()
        .ok_or_else(|| Failure::new("a settlement without a result"))
}

/// Makes one change of the item that was taken under this token.
pub(super) fn settle_token(
    backend: &dyn Backend,
    job: &JobAddress,
    token: &LeaseToken,
    change: Change,
) -> Result<Settled, Failure> {
    settle(backend, job, Claim::Lease(token.clone()), change)
}

/// Makes one change by key, as an operator does.
pub(super) fn settle_item(
    backend: &dyn Backend,
    job: &JobAddress,
    name: &str,
    change: Change,
) -> Result<Settled, Failure> {
    settle(backend, job, Claim::Item(item_id(name)?), change)
}

/// Removes the items that were taken under these tokens.
pub(super) fn acknowledge(
    backend: &dyn Backend,
    job: &JobAddress,
    tokens: &[LeaseToken],
) -> Result<Vec<Settled>, Failure> {
    let each = tokens
        .iter()
        .map(|token| Settlement::new(Claim::Lease(token.clone()), Change::Remove));
    Ok(backend.queue_settle(job, &each.collect::<Vec<_>>(), None, soon())?)
}

/// A field of a JSON object.
pub(super) fn field(body: &[u8], name: &str) -> Result<serde_json::Value, Failure> {
    let value: serde_json::Value = serde_json::from_slice(body)?;
    Ok(value.get(name).cloned().unwrap_or_default())
}

/// A release with a delay.
pub(super) fn release(delay: std::time::Duration) -> crate::queue::Change {
    crate::queue::Change::Release { delay }
}
