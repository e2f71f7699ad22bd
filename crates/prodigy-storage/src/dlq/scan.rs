//! Walking through a queue.

use std::fmt;

use prodigy_storage_backend::{QueueScan, QueueStep, Result, StorageError};

use super::item::DlqItem;

/// Items, one after another, as they were stored when it was made.
pub struct DlqScan {
    scan: QueueScan<'static>,
}

impl DlqScan {
    pub(crate) fn new(scan: QueueScan<'static>) -> Self {
        Self { scan }
    }
}

impl Iterator for DlqScan {
    type Item = Result<DlqItem>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.scan.next()? {
            Ok(QueueStep::Entry(entry)) => Ok(DlqItem::from(entry)),
            Ok(QueueStep::Damage(damage)) => Err(StorageError::from(damage)),
            Ok(QueueStep::TooLarge(item)) => Err(StorageError::from(item)),
            Err(error) => Err(error),
        })
    }
}

impl fmt::Debug for DlqScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DlqScan").finish_non_exhaustive()
    }
}
