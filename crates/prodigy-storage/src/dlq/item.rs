//! Dead letters that were read from a queue.

use std::collections::BTreeMap;

use prodigy_storage_backend::dead_letter::{DeadLetter, facts};
use prodigy_storage_backend::{
    Clock, Delay, ItemId, ItemState, Lease, QueueEntry, QueueMark, Result, StorageError,
};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::other_shape;
use crate::json;

/// A stored item of a dead-letter queue. Its contents are parsed only on request, so an item of an unexpected form
/// does not prevent a reader from reading the others.
///
/// ```
/// use prodigy_storage::{DeadLetter, ItemId, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// let id = ItemId::new("src/a.rs")?;
/// dlq.push(&DeadLetter::new(id.clone(), "review this file"))?;
/// let item = dlq.get(&id)?.expect("it was pushed");
/// assert_eq!(item.data::<String>()?, "review this file");
/// assert_eq!(item.summary()?.failure_count, 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DlqItem {
    /// The key of the item.
    pub id: ItemId,
    /// The contents of the item: a JSON object.
    pub body: Box<RawValue>,
    /// Whether the item was pending, delayed or leased when it was read.
    pub state: ItemState,
    /// The lease of the item, if it is or was taken; the lease may have ended.
    pub lease: Option<Lease>,
    /// The delay with which the item was released, if any; the delay may have ended.
    pub delay: Option<Delay>,
    /// The number of the change that wrote the present contents; [`Dlq::edit`](super::Dlq::edit) compares it.
    pub revision: QueueMark,
    /// The place of the item: items are taken in the order of their places.
    pub place: QueueMark,
    /// True if the item is stored with a checksum that matches. An item of another program has no checksum.
    pub verified: bool,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Data<T> {
    item_data: T,
}

impl DlqItem {
    pub(super) fn new(entry: QueueEntry, clock: &dyn Clock) -> Self {
        Self {
            state: entry.state(clock),
            id: entry.id,
            body: entry.body,
            lease: entry.lease,
            delay: entry.delay,
            revision: entry.revision,
            place: entry.place,
            verified: entry.verified,
        }
    }

    /// Parses the whole item.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the data of the item is not a `T`.
    pub fn letter<T: DeserializeOwned>(&self) -> Result<DeadLetter<T>> {
        json::parse(self.body.get().as_bytes()).map_err(|error| other_shape("read item", &self.id, error))
    }

    /// Parses only the data of the item.
    ///
    /// # Errors
    /// As [`letter`](Self::letter).
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        let data: Data<T> = json::parse(self.body.get().as_bytes())
            .map_err(|error| other_shape("read item", &self.id, error))?;
        Ok(data.item_data)
    }

    /// The summary of the item: its key, state, times and counts, without its data.
    ///
    /// # Errors
    /// [`Foreign`](crate::ErrorKind::Foreign) if a field has the wrong type. This happens only for an item that
    /// another program wrote.
    pub fn summary(self) -> Result<DlqSummary> {
        let facts = facts(&self.body).map_err(|error| {
            let why = error.why().to_owned();
            StorageError::new(error.kind(), "read item", &self.id, why)
        })?;
        Ok(DlqSummary {
            id: self.id,
            state: self.state,
            signature: facts.signature,
            error_type: facts.error_type,
            failure_count: facts.failure_count,
            first_attempt: facts.first_attempt,
            last_attempt: facts.last_attempt,
            eligible: facts.eligible,
            review: facts.review,
            lease: self.lease,
            delay: self.delay,
        })
    }
}

/// The key, state, times and counts of an item, without its data.
///
/// ```
/// use prodigy_storage::{Select, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// for summary in dlq.list(&Select::any())? {
///     let summary = summary?;
///     println!("{} failed {} times", summary.id, summary.failure_count);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DlqSummary {
    /// The key of the item.
    pub id: ItemId,
    /// Whether the item was pending, delayed or leased when it was read.
    pub state: ItemState,
    /// The signature that failures with one cause share.
    pub signature: Option<String>,
    /// The type of the last failure.
    pub error_type: Option<String>,
    /// The number of failures.
    pub failure_count: u64,
    /// The time of the first attempt.
    pub first_attempt: Option<Timestamp>,
    /// The time of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// True if a redrive may take the item.
    pub eligible: bool,
    /// True if a person has to check the item first.
    pub review: bool,
    /// The lease of the item, if it is or was taken; the lease may have ended.
    pub lease: Option<Lease>,
    /// The delay with which the item was released, if any; the delay may have ended.
    pub delay: Option<Delay>,
}

/// The items of a queue, grouped by signature.
///
/// ```
/// use prodigy_storage::{Select, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// let counts = dlq.by_signature(&Select::any())?;
/// assert!(counts.groups.is_empty() && counts.left_out_count == 0);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SignatureCounts {
    /// A group for each signature, the largest first.
    pub groups: Vec<SignatureCount>,
    /// The errors of items that can't be read and are in no group, at most [`REASONS`](Self::REASONS) of them.
    pub left_out: Vec<StorageError>,
    /// The number of all items that can't be read.
    pub left_out_count: u64,
}

impl SignatureCounts {
    /// The largest number of errors in `left_out`.
    pub const REASONS: usize = 100;

    pub(super) fn leave_out(&mut self, error: StorageError) {
        self.left_out_count += 1;
        if self.left_out.len() < Self::REASONS {
            self.left_out.push(error);
        }
    }
}

/// The items with one signature.
///
/// ```
/// use prodigy_storage::{Select, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// for group in dlq.by_signature(&Select::any())?.groups {
///     println!("{}: {}", group.items, group.signature.as_deref().unwrap_or("no signature"));
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignatureCount {
    /// The signature; `None` for items without one.
    pub signature: Option<String>,
    /// The number of items.
    pub items: u64,
    /// The number of items that a redrive may take.
    pub eligible: u64,
    /// The number of items that a person has to check first.
    pub review: u64,
    /// The earliest `first_attempt` of the items.
    pub first: Option<Timestamp>,
    /// The latest `last_attempt` of the items.
    pub last: Option<Timestamp>,
    /// The keys of the first items, at most [`SAMPLES`](Self::SAMPLES) of them.
    pub samples: Vec<ItemId>,
}

/// Collects items in groups by signature.
///
/// ```
/// use prodigy_storage::{DeadLetter, Failure, ItemId, Select, SignatureGroups, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// for name in ["a", "b"] {
///     dlq.push(&DeadLetter::new(ItemId::new(name)?, 1).failure(Failure::new("Timeout", "30 s")))?;
/// }
/// let mut groups = SignatureGroups::default();
/// for summary in dlq.list(&Select::any())? {
///     groups.add(summary?);
/// }
/// assert_eq!(groups.into_vec()[0].items, 2);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SignatureGroups(BTreeMap<Option<String>, SignatureCount>);

impl SignatureGroups {
    /// Adds an item to its group.
    pub fn add(&mut self, item: DlqSummary) {
        let new = |signature: &Option<String>| SignatureCount {
            signature: signature.clone(),
            ..SignatureCount::default()
        };
        self.0
            .entry(item.signature.clone())
            .or_insert_with_key(new)
            .add(item);
    }

    /// The groups, the largest first.
    #[must_use]
    pub fn into_vec(self) -> Vec<SignatureCount> {
        let mut counts: Vec<_> = self.0.into_values().collect();
        // Groups of equal size stay in the order of their signatures, since the sort is stable.
        counts.sort_by_key(|count| std::cmp::Reverse(count.items));
        counts
    }
}

impl SignatureCount {
    /// The largest number of keys in `samples`.
    pub const SAMPLES: usize = 5;

    fn add(&mut self, item: DlqSummary) {
        self.items += 1;
        self.eligible += u64::from(item.eligible);
        self.review += u64::from(item.review);
        self.first = [self.first, item.first_attempt].into_iter().flatten().min();
        self.last = self.last.max(item.last_attempt);
        if self.samples.len() < Self::SAMPLES {
            self.samples.push(item.id);
        }
    }
}
