//! The queue: keyed items of one job, taken under a lease.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::{Clock, Uptime};
use crate::error::{Result, StorageError};
use crate::log::{Damage, TooLarge};

/// The key of an item: any text of 1 to 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId(String);

impl ItemId {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Checks a key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if it is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX_LEN {
            let shown: String = text.chars().take(40).collect();
            let why = format!(
                "an `item_id` has 1 to {} bytes, this one has {}",
                Self::MAX_LEN,
                text.len()
            );
            return Err(StorageError::invalid("read item", shown, why));
        }
        Ok(Self(text))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ItemId {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for ItemId {
    type Error = StorageError;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0
    }
}

/// Proves that its bearer took an item: needed to acknowledge it or to give it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(String);

impl LeaseToken {
    /// A new, unguessable one.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for LeaseToken {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A claim on an item. When it ends the item is pending again.
///
/// It ends by the time since the boot, which nobody can set: a step of the wall clock neither ends a lease nor makes it
/// last longer. A lease of another boot has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its bearer may acknowledge.
    pub token: LeaseToken,
    /// When it ends by the wall clock of the process that took it: for people to read.
    pub until: Timestamp,
    /// When it ends. `None` in a lease of format 1, which goes by `until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Uptime>,
}

/// A lease of format 1 that would last longer from now was taken under another clock, and has ended.
const LONGEST_BY_WALL_CLOCK: i64 = 7 * 24 * 60 * 60 * 1_000_000_000;

impl Lease {
    /// A lease of this length from now on, with a new token.
    #[must_use]
    pub fn begin(length: Duration, clock: &dyn Clock) -> Self {
        let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        Self {
            token: LeaseToken::random(),
            until: Timestamp::from_nanos(clock.now().as_nanos().saturating_add(nanos)),
            end: Some(clock.uptime().after(length)),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self, clock: &dyn Clock) -> bool {
        match self.end {
            Some(end) => end.has_come(clock.uptime()),
            None => {
                let left = self.until.as_nanos().saturating_sub(clock.now().as_nanos());
                left <= 0 || left > LONGEST_BY_WALL_CLOCK
            }
        }
    }
}

/// An item to put: a JSON object with at least `item_id` and `item_data`.
///
/// [`dead_letter::normalise`](crate::dead_letter::normalise) makes one from what a caller pushes.
#[derive(Clone, Debug)]
pub struct QueueItem {
    /// Its key: the body's `item_id`.
    pub id: ItemId,
    /// The whole object, on one line.
    pub body: Box<RawValue>,
}

/// An item as it is stored.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Its key.
    pub id: ItemId,
    /// The whole object, without lease and checksum.
    pub body: Box<RawValue>,
    /// The claim on it, if it was taken; it may have ended.
    pub lease: Option<Lease>,
    /// Whether its line carried a checksum that held.
    pub verified: bool,
}

impl QueueEntry {
    /// Whether no claim holds it now.
    #[must_use]
    pub fn is_pending(&self, clock: &dyn Clock) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.has_ended(clock))
    }
}

/// One step through a queue.
#[derive(Debug)]
pub enum QueueStep {
    /// An item.
    Entry(QueueEntry),
    /// Bytes that are no item; reading continues behind them.
    Damage(Damage),
    /// An item that is larger than the reader's limit; reading continues behind it.
    TooLarge(TooLarge),
}

/// A walk through a queue in the order in which items were first put; each item's last state once.
pub type QueueScan<'a> = Box<dyn Iterator<Item = Result<QueueStep>> + Send + 'a>;

/// Which items to take. All given conditions have to hold; `Default` is every pending item that is eligible.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Select {
    /// Only these; then `reprocess_eligible` has no effect.
    pub ids: Option<Vec<ItemId>>,
    /// Only items with this `error_signature`.
    pub signature: Option<String>,
    /// Only items whose `last_attempt` is not after this: the upper bound of a redrive, so that what fails again is
    /// not taken twice in one run.
    pub not_after: Option<Timestamp>,
    /// Also items with `reprocess_eligible: false`.
    pub ineligible_too: bool,
}

impl Select {
    /// Every pending item that is eligible.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these items.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = ItemId>) -> Self {
        Self {
            ids: Some(ids.into_iter().collect()),
            ..Self::default()
        }
    }

    /// Only items with this `error_signature`.
    #[must_use]
    pub fn signature(mut self, signature: impl Into<String>) -> Self {
        self.signature = Some(signature.into());
        self
    }

    /// Only items whose `last_attempt` is not after this.
    #[must_use]
    pub fn not_after(mut self, bound: Timestamp) -> Self {
        self.not_after = Some(bound);
        self
    }

    /// Also items with `reprocess_eligible: false`.
    #[must_use]
    pub fn ineligible_too(mut self) -> Self {
        self.ineligible_too = true;
        self
    }
}

/// The result of a put of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutReport {
    /// Items whose key was new.
    pub added: usize,
    /// Items that were merged into one of the same key.
    pub merged: usize,
}

/// The result of an acknowledgement, a return or a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled<K> {
    /// The keys that were found and settled.
    pub settled: Vec<K>,
    /// The keys that name no item: the lease ended and another worker took the item, or the item is gone.
    pub unknown: Vec<K>,
}
