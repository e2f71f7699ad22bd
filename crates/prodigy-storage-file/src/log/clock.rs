//! Limits the duration of the steps of a scan.

use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, Result, StorageError};

use crate::root::Root;

/// Limits the duration of one step of a scan, without reading the clock for each record.
#[derive(Debug, Default)]
pub(crate) struct StepClock {
    timeout: Option<Duration>,
    began: Option<Instant>,
}

impl StepClock {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, began: None }
    }

    /// Creates a clock that limits the total duration of all steps.
    pub(crate) fn until(deadline: Deadline) -> Self {
        Self {
            timeout: deadline.remaining(),
            began: Some(Instant::now()),
        }
    }

    /// Begins a new step, with its full time.
    pub(crate) fn restart(&mut self) {
        self.began = None;
    }

    pub(crate) fn check(&mut self, root: &Root, path: &Path) -> Result<()> {
        let Some(timeout) = self.timeout else {
            return Ok(());
        };
        match self.began {
            None => self.began = Some(Instant::now()),
            Some(began) if began.elapsed() > timeout => {
                return Err(StorageError::timeout(
                    "read segment",
                    root.absolute(path).display(),
                    "the next record",
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }
}
