//! Items as they are read.

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

/// An item of a dead-letter queue, as it is stored. It is parsed when it is asked for, so that an item of another shape
/// never keeps the others from being read.
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
    /// Its key.
    pub id: ItemId,
    /// The whole object.
    pub body: Box<RawValue>,
    /// Its state when it was read.
    pub state: ItemState,
    /// The claim on it, if it was taken; it may have ended.
    pub lease: Option<Lease>,
    /// How long it has to wait, if it was released with a delay; that may have passed.
    pub delay: Option<Delay>,
    /// The change that gave it its contents: [`Dlq::edit`](super::Dlq::edit) compares it.
    pub revision: QueueMark,
    /// Its place: items are taken in the order of their places.
    pub place: QueueMark,
    /// Whether its line carried a checksum that held. An item of another program has none.
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

    /// The whole item.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where it holds no `T`.
    pub fn letter<T: DeserializeOwned>(&self) -> Result<DeadLetter<T>> {
        json::parse(self.body.get().as_bytes()).map_err(|error| other_shape("read item", &self.id, error))
    }

    /// The work item alone.
    ///
    /// # Errors
    /// As [`letter`](Self::letter).
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        let data: Data<T> = json::parse(self.body.get().as_bytes())
            .map_err(|error| other_shape("read item", &self.id, error))?;
        Ok(data.item_data)
    }

    /// The facts about the item without its data.
    ///
    /// # Errors
    /// [`Foreign`](crate::ErrorKind::Foreign) where a field has the wrong type: another program wrote the item.
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

/// The facts about an item without its data.
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
    /// Its key.
    pub id: ItemId,
    /// Its state when it was read.
    pub state: ItemState,
    /// The signature that failures of one cause share.
    pub signature: Option<String>,
    /// The type of its last failure.
    pub error_type: Option<String>,
    /// How often it failed.
    pub failure_count: u64,
    /// When it was tried first.
    pub first_attempt: Option<Timestamp>,
    /// When it was tried last.
    pub last_attempt: Option<Timestamp>,
    /// Whether a redrive takes it.
    pub eligible: bool,
    /// Whether a person has to look at it first.
    pub review: bool,
    /// The claim on it, if it was taken; it may have ended.
    pub lease: Option<Lease>,
    /// How long it has to wait, if it was released with a delay; that may have passed.
    pub delay: Option<Delay>,
}

/// The items of a queue by their signatures.
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
    /// Why items can't be read, and so are in no group: at most [`REASONS`](Self::REASONS).
    pub left_out: Vec<StorageError>,
    /// The number of items that can't be read.
    pub left_out_count: u64,
}

impl SignatureCounts {
    /// The most reasons that are given.
    pub const REASONS: usize = 100;

    pub(super) fn leave_out(&mut self, error: StorageError) {
        self.left_out_count += 1;
        if self.left_out.len() < Self::REASONS {
            self.left_out.push(error);
        }
    }
}

/// The items of one signature.
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
    /// The signature; `None` for items that have none.
    pub signature: Option<String>,
    /// Items in all.
    pub items: u64,
    /// Items that a redrive takes.
    pub eligible: u64,
    /// Items that need a manual review first.
    pub review: u64,
    /// The earliest `first_attempt` of them.
    pub first: Option<Timestamp>,
    /// The latest `last_attempt` of them.
    pub last: Option<Timestamp>,
    /// The first of their keys: at most [`SAMPLES`](Self::SAMPLES).
    pub samples: Vec<ItemId>,
}

/// Puts items into groups by their signature.
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
    /// Counts an item.
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
        // Stable: those of one frequency stay in the order of their signatures.
        counts.sort_by_key(|count| std::cmp::Reverse(count.items));
        counts
    }
}

impl SignatureCount {
    /// The most keys that are given as samples.
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
