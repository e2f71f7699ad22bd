//! Selects items of a queue.

use std::time::Duration;

use prodigy_storage_layout::Timestamp;

use super::{ItemId, QueueMark};

/// Selects items by their `reprocess_eligible`.
///
/// ```
/// use prodigy_storage_backend::{Eligible, Select};
///
/// assert_eq!(Select::any().with(Eligible::No).eligible, Eligible::No);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an item is eligible or not")]
pub enum Eligible {
    /// Only eligible items.
    #[default]
    Yes,
    /// Only items that are not eligible: parked items.
    No,
    /// All items.
    Any,
}

/// Selects items. An item has to meet all given conditions; `Default` is every eligible item.
///
/// ```
/// use prodigy_storage_backend::Select;
///
/// let timeouts = Select::eligible().error_type("Timeout").attempts(1..=2);
/// assert_eq!(timeouts.error_type.as_deref(), Some("Timeout"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Select {
    /// Only items with these ids.
    pub ids: Option<Vec<ItemId>>,
    /// Only items with this `error_signature`.
    pub signature: Option<String>,
    /// Only items whose last failure has this `error_type`.
    pub error_type: Option<String>,
    /// Only items whose `last_attempt` is not after this time. An item without `last_attempt` counts as old.
    pub not_after: Option<Timestamp>,
    /// Only items whose `last_attempt` is not before this time.
    pub not_before: Option<Timestamp>,
    /// Only items with at least this number of failures (`failure_count`).
    pub min_attempts: Option<u64>,
    /// Only items with at most this number of failures.
    pub max_attempts: Option<u64>,
    /// Eligible items, parked items, or both.
    pub eligible: Eligible,
    /// Only items whose place is at most this number, so that a run takes only items that existed when it began.
    pub until: Option<QueueMark>,
}

impl Select {
    /// Every eligible item.
    #[must_use]
    pub fn eligible() -> Self {
        Self::default()
    }

    /// Every item.
    #[must_use]
    pub fn any() -> Self {
        Self::default().with(Eligible::Any)
    }

    /// Only the items with these ids, eligible or not.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = ItemId>) -> Self {
        Self {
            ids: Some(ids.into_iter().collect()),
            ..Self::any()
        }
    }

    /// Sets whether eligible items, parked items or both are selected.
    #[must_use]
    pub fn with(mut self, eligible: Eligible) -> Self {
        self.eligible = eligible;
        self
    }

    /// Only items with this `error_signature`.
    #[must_use]
    pub fn signature(mut self, signature: impl Into<String>) -> Self {
        self.signature = Some(signature.into());
        self
    }

    /// Only items whose last failure has this `error_type`.
    #[must_use]
    pub fn error_type(mut self, error_type: impl Into<String>) -> Self {
        self.error_type = Some(error_type.into());
        self
    }

    /// Only items whose `last_attempt` is not after this time.
    #[must_use]
    pub fn not_after(mut self, bound: Timestamp) -> Self {
        self.not_after = Some(bound);
        self
    }

    /// Only items whose `last_attempt` is not before this time.
    #[must_use]
    pub fn not_before(mut self, bound: Timestamp) -> Self {
        self.not_before = Some(bound);
        self
    }

    /// Only items whose last attempt was at least this long before `now`.
    #[must_use]
    pub fn older_than(self, age: Duration, now: Timestamp) -> Self {
        let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        self.not_after(Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos)))
    }

    /// Only items whose number of failures is in the range.
    #[must_use]
    pub fn attempts(mut self, range: std::ops::RangeInclusive<u64>) -> Self {
        self.min_attempts = Some(*range.start());
        self.max_attempts = Some(*range.end());
        self
    }

    /// Only items whose place is at most this number.
    #[must_use]
    pub fn until(mut self, mark: QueueMark) -> Self {
        self.until = Some(mark);
        self
    }
}
