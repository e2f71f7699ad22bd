//! Items as they are read.

use prodigy_storage_backend::dead_letter::{DeadLetter, facts};
use prodigy_storage_backend::{ItemId, Lease, LeaseToken, QueueEntry, Result};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::other_shape;
use crate::json;

/// An item of a dead-letter queue, as it is stored. It is parsed when it is asked for, so that an item of another shape
/// never keeps the others from being read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DlqItem {
    /// Its key.
    pub id: ItemId,
    /// The whole object.
    pub body: Box<RawValue>,
    /// The claim on it, if it was taken; it has ended where its time has passed.
    pub lease: Option<Lease>,
    /// Whether its line carried a checksum that held. An item of another program has none.
    pub verified: bool,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Data<T> {
    item_data: T,
}

impl DlqItem {
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
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where a field is of another type than it has to be.
    pub fn summary(self) -> Result<DlqSummary> {
        let facts = facts(&self.body)?;
        Ok(DlqSummary {
            id: self.id,
            signature: facts.signature,
            failure_count: facts.failure_count,
            last_attempt: facts.last_attempt,
            eligible: facts.eligible,
            review: facts.review,
            lease: self.lease,
        })
    }
}

impl From<QueueEntry> for DlqItem {
    fn from(entry: QueueEntry) -> Self {
        Self {
            id: entry.id,
            body: entry.body,
            lease: entry.lease,
            verified: entry.verified,
        }
    }
}

/// An item that this caller took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The item.
    pub item: DlqItem,
    /// The claim on it.
    pub lease: Lease,
}

impl Taken {
    /// Its key.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        &self.item.id
    }

    /// The token that acknowledges the item or gives it back.
    #[must_use]
    pub fn token(&self) -> &LeaseToken {
        &self.lease.token
    }

    /// The work item.
    ///
    /// # Errors
    /// As [`DlqItem::data`].
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        self.item.data()
    }
}

/// The facts about an item without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DlqSummary {
    /// Its key.
    pub id: ItemId,
    /// The signature that failures of one cause share.
    pub signature: Option<String>,
    /// How often it failed.
    pub failure_count: u64,
    /// When it was tried last.
    pub last_attempt: Option<Timestamp>,
    /// Whether a redrive takes it.
    pub eligible: bool,
    /// Whether a person has to look at it first.
    pub review: bool,
    /// The claim on it, if it was taken; it has ended where its time has passed.
    pub lease: Option<Lease>,
}

/// How many items have one signature.
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
}
