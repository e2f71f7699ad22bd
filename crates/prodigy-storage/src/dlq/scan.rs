//! Iterates over the items of a queue.

use std::fmt;
use std::sync::Arc;

use prodigy_storage_backend::{Clock, QueueScan, QueueStep, Result, StorageError};

use super::item::DlqItem;

/// An iterator over the items of a queue, as they were stored when it was made.
///
/// Damage is returned as an `Err` of kind [`Damaged`](crate::ErrorKind::Damaged), and an item that is larger than
/// `max_record_size` as an `Err` of kind [`TooLarge`](crate::ErrorKind::TooLarge). After both, the iterator
/// continues with the next item.
///
/// ```
/// use prodigy_storage::{Select, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// for item in dlq.scan(&Select::any())? {
///     println!("{}", item?.id);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
pub struct DlqScan {
    scan: QueueScan<'static>,
    clock: Arc<dyn Clock>,
}

impl DlqScan {
    pub(crate) fn new(scan: QueueScan<'static>, clock: Arc<dyn Clock>) -> Self {
        Self { scan, clock }
    }
}

impl Iterator for DlqScan {
    type Item = Result<DlqItem>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.scan.next()? {
            Ok(QueueStep::Entry(entry)) => Ok(DlqItem::new(entry, &*self.clock)),
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
