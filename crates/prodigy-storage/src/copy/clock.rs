//! The clock of the target of a copy. It shows the time of the event that is being copied.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{Clock, Result, Uptime};
use prodigy_storage_layout::Timestamp;

use crate::builder::StorageBuilder;
use crate::storage::Storage;

/// A clock whose time can be set. So an event gets the same time in the copy as in the source, and retention and
/// reports by time give the same results.
#[derive(Debug)]
pub(super) struct CopyClock {
    system: Arc<dyn Clock>,
    shown: Mutex<Option<Timestamp>>,
}

impl CopyClock {
    /// Sets the time that the clock shows; the system's time for `None`.
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

/// Opens the target of a copy with a clock that can be set.
pub(super) fn open(target: StorageBuilder) -> Result<(Storage, Arc<CopyClock>)> {
    let clock = Arc::new(CopyClock {
        system: target.clock_in_use(),
        shown: Mutex::new(None),
    });
    let target = target.clock(Arc::clone(&clock) as Arc<dyn Clock>).open()?;
    Ok((target, clock))
}
