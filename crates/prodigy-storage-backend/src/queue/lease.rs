//! Leases of items, and delays before an item can be taken.

use std::fmt;
use std::time::Duration;

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Uptime};

/// Identifies one lease. A worker needs it to settle the item that it took.
///
/// ```
/// use prodigy_storage_backend::LeaseToken;
///
/// assert_ne!(LeaseToken::random(), LeaseToken::random());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(String);

impl LeaseToken {
    /// A new token that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The text of the token.
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

/// The right to work on an item until a moment. When the lease ends, the item is pending again.
///
/// The end of a lease is measured by the time since the boot of the machine, which nobody can set: a step of the
/// wall clock neither ends a lease nor prolongs it. A lease from before a restart of the machine has ended.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::{Lease, SystemClock};
///
/// let lease = Lease::begin(Duration::from_secs(60), &SystemClock);
/// assert!(!lease.has_ended(&SystemClock));
/// let longer = lease.extended(Duration::from_secs(600), &SystemClock);
/// assert_eq!(longer.token, lease.token);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Lease {
    /// The token that identifies the lease. A worker needs it to settle the item.
    pub token: LeaseToken,
    /// The end by the wall clock of the process that took the item, for people to read.
    pub until: Timestamp,
    /// The end of the lease. `None` in a lease of the older format 1, which ends at `until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Uptime>,
}

/// The longest possible lease of format 1, in nanoseconds. If the end of such a lease is further ahead, it was
/// taken under another clock, and counts as ended.
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

    /// The same lease, which lasts this long from now on.
    #[must_use]
    pub fn extended(&self, length: Duration, clock: &dyn Clock) -> Self {
        Self {
            token: self.token.clone(),
            ..Self::begin(length, clock)
        }
    }

    /// True if the lease has ended.
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

/// The delay of a released item. Until the delay has ended, the item is not taken.
///
/// Like a [`Lease`], a delay is measured by the time since the boot of the machine. A restart ends it.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::{Delay, SystemClock};
///
/// assert!(Delay::begin(Duration::ZERO, &SystemClock).is_none());
/// let delay = Delay::begin(Duration::from_secs(60), &SystemClock).expect("a length above 0");
/// assert!(!delay.has_ended(&SystemClock));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Delay {
    /// The end by the wall clock of the process that released the item, for people to read.
    pub until: Timestamp,
    /// The end of the delay.
    pub end: Uptime,
}

impl Delay {
    /// A delay of this length from now on; `None` for a length of 0.
    #[must_use]
    pub fn begin(length: Duration, clock: &dyn Clock) -> Option<Self> {
        if length.is_zero() {
            return None;
        }
        let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        Some(Self {
            until: Timestamp::from_nanos(clock.now().as_nanos().saturating_add(nanos)),
            end: clock.uptime().after(length),
        })
    }

    /// True if the delay has ended.
    #[must_use]
    pub fn has_ended(&self, clock: &dyn Clock) -> bool {
        self.end.has_come(clock.uptime())
    }
}
