//! Which items are meant.

use std::time::Duration;

use prodigy_storage_layout::Timestamp;

use super::{ItemId, QueueMark};

/// Whether items are meant that are eligible (`reprocess_eligible`).
///
/// ```
/// use prodigy_storage_backend::{Eligible, Select};
///
/// assert_eq!(Select::any().with(Eligible::No).eligible, Eligible::No);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an item is eligible or not")]
pub enum Eligible {
    /// Only those that are.
    #[default]
    Yes,
    /// Only those that are not: parked items.
    No,
    /// All.
    Any,
}

/// Which items are meant. All given conditions have to hold; `Default` is every item that is eligible.
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
    /// Only these.
    pub ids: Option<Vec<ItemId>>,
    /// Only items with this `error_signature`.
    pub signature: Option<String>,
    /// Only items whose last failure has this `error_type`.
    pub error_type: Option<String>,
    /// Only items whose `last_attempt` is not after this. One without `last_attempt` counts as old.
    pub not_after: Option<Timestamp>,
    /// Only items whose `last_attempt` is not before this.
    pub not_before: Option<Timestamp>,
    /// Only items with at least this number of failures (`failure_count`).
    pub min_attempts: Option<u64>,
    /// Only items with at most this number of failures.
    pub max_attempts: Option<u64>,
    /// Whether they are eligible.
    pub eligible: Eligible,
    /// Only items whose place is not after this: what a run through the queue found when it began.
    pub until: Option<QueueMark>,
}

impl Select {
    /// Every item that is eligible.
    #[must_use]
    pub fn eligible() -> Self {
        Self::default()
    }

    /// Every item.
    #[must_use]
    pub fn any() -> Self {
        Self::default().with(Eligible::Any)
    }

    /// Only these items, eligible or not.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = ItemId>) -> Self {
        Self {
            ids: Some(ids.into_iter().collect()),
            ..Self::any()
        }
    }

    /// Whether they are eligible.
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

    /// Only items whose `last_attempt` is not after this.
    #[must_use]
    pub fn not_after(mut self, bound: Timestamp) -> Self {
        self.not_after = Some(bound);
        self
    }

    /// Only items whose `last_attempt` is not before this.
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

    /// Only items whose place is not after this.
    #[must_use]
    pub fn until(mut self, mark: QueueMark) -> Self {
        self.until = Some(mark);
        self
    }
}
