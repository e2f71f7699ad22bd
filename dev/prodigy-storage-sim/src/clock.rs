//! The true time, and the clocks of processes, which may differ from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{BootId, Clock, Uptime};
use prodigy_storage_layout::Timestamp;

/// When simulated time begins, in nanoseconds since 1970.
pub const START: i64 = 1_800_000_000_000_000_000;
/// The advance of the clock at each reading, in nanoseconds.
const STEP: i64 = 1_000;

/// The true time. Each reading advances it by a microsecond, so equal runs see equal times.
#[derive(Debug)]
pub struct SimClock {
    nanos: AtomicI64,
    boot: u128,
}

impl SimClock {
    /// A clock that shows this time at the first reading.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self {
            nanos: AtomicI64::new(time.as_nanos()),
            boot: 1,
        }
    }

    /// The same clock, with `boot` as the number of the machine's boot.
    #[must_use]
    pub fn boot(mut self, boot: usize) -> Self {
        self.boot = boot as u128;
        self
    }

    /// Moves the clock forward, or back if `nanos` is negative.
    pub fn turn(&self, nanos: i64) {
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The present time, without advancing the clock.
    #[must_use]
    pub fn shown(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::at(Timestamp::from_nanos(START))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.fetch_add(STEP, Ordering::Relaxed))
    }

    /// The time since [`START`], which continues over boots. Setting the wall clock of a process does not change it.
    fn uptime(&self) -> Uptime {
        let since = self.now().as_nanos().saturating_sub(START);
        Uptime {
            boot: BootId::from_u128(self.boot),
            since: Duration::from_nanos(u64::try_from(since).unwrap_or(0)),
        }
    }
}

/// The wall clock of a process: the true time plus an offset, which may change at any moment.
#[derive(Debug)]
pub struct ProcessClock {
    time: Arc<SimClock>,
    offset: AtomicI64,
}

impl ProcessClock {
    /// A clock that shows the true time.
    #[must_use]
    pub fn new(time: Arc<SimClock>) -> Self {
        Self {
            time,
            offset: AtomicI64::new(0),
        }
    }

    /// Sets the clock to `offset` nanoseconds after (or, if negative, before) the true time.
    pub fn set(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let time = self.time.now().as_nanos();
        Timestamp::from_nanos(time.saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    fn uptime(&self) -> Uptime {
        self.time.uptime()
    }
}
