//! Iterates over the items of a queue.

use std::fmt;
use std::sync::Arc;

use prodigy_storage_backend::{Clock, QueueScan, QueueStep, Result, Select, StorageError};
use prodigy_storage_layout::JobAddress;

use super::item::DlqItem;
use crate::call::operation::SCAN_ITEMS;
use crate::storage::Inner;

/// The items of a queue. A step that failed with a transient error is repeated, as any other call.
pub(crate) struct RepeatedItems {
    inner: Arc<Inner>,
    job: JobAddress,
    items: QueueScan<'static>,
}

impl RepeatedItems {
    pub(crate) fn begin(inner: &Arc<Inner>, job: &JobAddress, select: &Select) -> Result<Self> {
        let deadline = inner.deadline();
        let items = inner.caller.call(SCAN_ITEMS, job, deadline, |backend| {
            backend.queue_scan(job, select, deadline)
        })?;
        Ok(Self {
            inner: Arc::clone(inner),
            job: job.clone(),
            items,
        })
    }
}

impl Iterator for RepeatedItems {
    type Item = Result<QueueStep>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.items.next() {
            Some(Err(error)) if SCAN_ITEMS.may_repeat(&error) => {
                let (inner, deadline) = (Arc::clone(&self.inner), self.inner.deadline());
                let again = inner
                    .caller
                    .call(SCAN_ITEMS, &self.job, deadline, |_| self.items.next().transpose());
                again.transpose()
            }
            step => step,
        }
    }
}

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
    items: RepeatedItems,
    clock: Arc<dyn Clock>,
}

impl DlqScan {
    pub(crate) fn new(items: RepeatedItems, clock: Arc<dyn Clock>) -> Self {
        Self { items, clock }
    }
}

impl Iterator for DlqScan {
    type Item = Result<DlqItem>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.items.next()? {
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
