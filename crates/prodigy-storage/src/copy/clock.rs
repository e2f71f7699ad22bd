//! The clock of the target: it shows the time of the event that is copied.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{Clock, Result, Uptime};
use prodigy_storage_layout::Timestamp;

use crate::builder::StorageBuilder;
use crate::storage::Storage;

/// A clock that can be set. An event keeps the time at which it was first appended, so that retention and reports by time
/// are the same in the copy.
#[derive(Debug)]
pub(super) struct CopyClock {
    system: Arc<dyn Clock>,
    shown: Mutex<Option<Timestamp>>,
}

impl CopyClock {
    /// Shows this time, or that of the system again.
    pub(super) fn show(&self, time: Option<Timestamp>) {
        *self.shown.lock() = time;
    }
}

impl Clock for CopyClock {
    fn now(&self) -> Timestamp {
        self.shown.lock().unwrap_or_else(|| self.system.now())
    }

    fn uptime(&self) -> Uptime {
        self.system.uptime()
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

/// Opens the target with such a clock.
pub(super) fn open(target: StorageBuilder) -> Result<(Storage, Arc<CopyClock>)> {
    let clock = Arc::new(CopyClock {
        system: target.clock_in_use(),
        shown: Mutex::new(None),
    });
    let target = target.clock(Arc::clone(&clock) as Arc<dyn Clock>).open()?;
    Ok((target, clock))
}
