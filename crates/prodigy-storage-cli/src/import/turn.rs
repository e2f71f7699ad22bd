//! Imports into a store take turns: two at once could both find that a value is missing, and both store it.

use std::time::Duration;

use prodigy_storage::{LockName, LockOptions, Result as Stored, Storage, StorageLock};

use crate::app::App;
use crate::errors::Result;
use crate::lock;

/// The lock of the store for imports. `lock list` shows who has it.
const LOCK: &str = "_import";
/// The shortest wait for it. A database keeps the lock of a process that was killed for 30 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The turn of an import.
pub(super) struct Turn(Option<StorageLock>);

impl Turn {
    /// Waits for the turn. A dry run needs none.
    pub(super) fn of(app: &mut App<'_>, storage: &Storage, is_dry: bool) -> Result<Self> {
        if is_dry {
            return Ok(Self(None));
        }
        let wait = storage.config().timeout.max(PATIENCE);
        let lock = lock::take(
            app,
            storage,
            &LockName::new(LOCK)?,
            LockOptions::new("import"),
            Some(wait),
        )?;
        Ok(lock.into())
    }

    /// True for a dry run, which stores nothing.
    pub(super) fn is_dry(&self) -> bool {
        self.0.is_none()
    }

    /// Fails if the lock was lost: another import may have begun.
    pub(super) fn check(&self) -> Stored<()> {
        self.0.as_ref().map_or(Ok(()), StorageLock::check)
    }
}

impl From<StorageLock> for Turn {
    fn from(lock: StorageLock) -> Self {
        Self(Some(lock))
    }
}
