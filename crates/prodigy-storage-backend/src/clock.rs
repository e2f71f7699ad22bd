//! The clocks that a store reads, injected so that tests can set them.

use std::fmt;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{ErrorKind, Result, StorageError};

/// Identifies a boot of a machine: a random id that the kernel makes at each start.
///
/// ```
/// use prodigy_storage_backend::BootId;
///
/// let boot = BootId::parse("3f1c0b52-6a0f-4b53-9d5e-0f3f2b9e7a11").expect("a boot id");
/// assert_eq!(boot.to_string(), "3f1c0b52-6a0f-4b53-9d5e-0f3f2b9e7a11");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(Uuid);

impl BootId {
    /// The boot id with these 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// Parses the hyphenated text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// A moment on the clock that counts from the boot of the machine, even while the machine is suspended. Nobody can set
/// this clock.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::{Clock, SystemClock};
///
/// let now = SystemClock.uptime();
/// let end = now.after(Duration::from_secs(60));
/// assert!(!end.has_come(SystemClock.uptime()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is complete: a boot, and the time since"
)]
pub struct Uptime {
    /// The boot to which the time refers.
    pub boot: BootId,
    /// The time since that boot.
    pub since: Duration,
}

impl Uptime {
    /// The moment `duration` after this one, at most [`Duration::MAX`] after the boot.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self {
            since: self.since.saturating_add(duration),
            ..self
        }
    }

    /// True if this moment is not after `now`, or if the machine was restarted in between.
    #[must_use]
    pub fn has_come(self, now: Self) -> bool {
        self.boot != now.boot || self.since <= now.since
    }
}

/// A source of the time of day, and of the time since the boot of the machine.
///
/// ```
/// use prodigy_storage_backend::{BootId, Clock, Uptime};
/// use prodigy_storage_layout::Timestamp;
///
/// /// A clock that was stopped.
/// #[derive(Debug)]
/// struct Stopped(Timestamp);
///
/// impl Clock for Stopped {
///     fn now(&self) -> Timestamp {
///         self.0
///     }
///
///     fn uptime(&self) -> Uptime {
///         Uptime { boot: BootId::default(), since: std::time::Duration::ZERO }
///     }
/// }
/// # let _ = Stopped(Timestamp::MIN);
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day. It may step back, stop or jump: only dates for people depend on it.
    fn now(&self) -> Timestamp;

    /// The time since the boot of the machine, by which leases end.
    fn uptime(&self) -> Uptime;

    /// The time since a fixed moment in the life of the process. It never steps back.
    fn monotonic(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }
}

/// The present time of day, checked to be one that can be stored.
///
/// # Errors
/// [`ErrorKind::Io`] if the clock is outside the years 1970 to 2262, which no id or date can express.
pub fn time_to_store(
    clock: &dyn Clock,
    operation: &'static str,
    target: &dyn fmt::Display,
) -> Result<Timestamp> {
    let now = clock.now();
    if now > Timestamp::MIN && now < Timestamp::MAX {
        return Ok(now);
    }
    let end = if now == Timestamp::MIN {
        "before 1970"
    } else {
        "after 2262"
    };
    let why = format!("the clock of this machine is wrong: it shows a time {end}");
    Err(StorageError::new(ErrorKind::Io, operation, target, why)
        .with_hint("set the clock (`timedatectl`, or the host's clock for a container or virtual machine), then try again"))
}

/// The clocks of the operating system.
///
/// ```
/// use prodigy_storage_backend::{Clock, SystemClock};
///
/// assert!(SystemClock.monotonic() <= SystemClock.monotonic());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit, written as a value")]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// On Linux this is the time of the kernel's last tick, at most 10 ms ago. Reading it costs a tenth of the
    /// exact clock.
    #[cfg(target_os = "linux")]
    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn uptime(&self) -> Uptime {
        static BOOT: OnceLock<(BootId, i128)> = OnceLock::new();
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let since = rustix::time::clock_gettime(clock);
        let (boot, ahead) = *BOOT.get_or_init(|| (boot_id().unwrap_or_default(), nanos_ahead()));
        let nanos = i128::from(since.tv_sec) * NANOS + i128::from(since.tv_nsec) - ahead;
        let since = Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX));
        Uptime { boot, since }
    }
}

const NANOS: i128 = 1_000_000_000;

/// The offset of this process's time namespace (`man 7 time_namespaces`) from the machine's time since the boot,
/// in nanoseconds. It is subtracted so that the processes of all namespaces agree on the end of a lease.
#[expect(clippy::disallowed_methods, reason = "a table of the kernel")]
fn nanos_ahead() -> i128 {
    let table = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offset_in(&table).unwrap_or_default()
}

/// The offset of the clock `boottime` in the kernel's table of a time namespace. A line of the table has a clock's
/// name, seconds and nanoseconds.
fn offset_in(table: &str) -> Option<i128> {
    let mut fields = table
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?
        .split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<i64>().ok().map(i128::from);
    Some(next()? * NANOS + next()?)
}

/// The id of this boot; `None` if the system has none. Then a lease from before a restart can't be distinguished
/// from a new one.
#[expect(clippy::disallowed_methods, reason = "a table of the kernel")]
fn boot_id() -> Option<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    BootId::parse(text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_boot_ascends_and_names_the_boot() {
        let (first, second) = (SystemClock.uptime(), SystemClock.uptime());
        assert!(first.since <= second.since && first.since > Duration::ZERO);
        assert_eq!(first.boot, second.boot);
        if cfg!(target_os = "linux") {
            assert_ne!(first.boot, BootId::default());
        }
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let table = "monotonic           5         0\nboottime       -86400       250\n";
        assert_eq!(offset_in(table), Some(-86_400 * NANOS + 250));
        assert_eq!(offset_in("monotonic 5 0\n"), None);
        assert_eq!(offset_in(""), None);
    }

    #[test]
    fn a_moment_of_another_boot_has_come() {
        let now = Uptime {
            boot: BootId::from_u128(1),
            since: Duration::from_secs(10),
        };
        let end = now.after(Duration::from_secs(5));
        assert!(!end.has_come(now.after(Duration::from_millis(4_999))));
        assert!(end.has_come(now.after(Duration::from_secs(5))));
        let boot = BootId::from_u128(2);
        assert!(end.has_come(Uptime { boot, ..now }));
        assert!(!now.after(Duration::MAX).has_come(now));
    }
}
