//! Dead letters in the file backend.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Change, Claim, Compaction, Deadline, Durability, Fence, ItemId, PutReport, QueueEntry, QueueItem,
    QueueScan, QueueStore, QueueSummary, Result, Select, Settled, Settlement,
};
use prodigy_storage_layout::JobAddress;

use super::handle::CheckedItems;
use super::{FileBackend, gated};

const PUSH: &str = "put items";
const TAKE: &str = "take items";
const SETTLE: &str = "settle items";

impl QueueStore for FileBackend {
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.handle.write_dated(PUSH, job, durability, |store| {
            store.past_deletion(Some(job), deadline, || {
                gated(store, PUSH, job, fence, deadline, |gate| {
                    store.queues.queue_put(job, items, durability, gate, deadline)
                })
            })
        })
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.handle.read("get item", |store| {
            match store.is_gone("get item", Some(job))? {
                true => Ok(None),
                false => store.queues.queue_get(job, id, deadline),
            }
        })
    }

    fn queue_scan(
        &self,
        job: &JobAddress,
        select: &Select,
        deadline: Deadline,
    ) -> Result<QueueScan<'static>> {
        self.handle
            .scan("read items", |stores| {
                let items = match stores.is_gone("read items", Some(job))? {
                    true => Box::new(std::iter::empty()),
                    false => stores.queues.queue_scan(job, select, deadline)?,
                };
                Ok(CheckedItems {
                    items,
                    store: Arc::clone(stores),
                    ended: false,
                })
            })
            .map(|items| Box::new(items) as QueueScan<'static>)
    }

    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary> {
        self.handle.read("summarise items", |stores| {
            match stores.is_gone("summarise items", Some(job))? {
                true => Ok(QueueSummary::default()),
                false => stores.queues.queue_summary(job, deadline),
            }
        })
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.handle.write(TAKE, Durability::Strict, |stores| {
            let taken = stores.past_deletion(Some(job), deadline, || {
                gated(stores, TAKE, job, fence, deadline, |gate| {
                    stores
                        .queues
                        .queue_take(job, select, limit, lease, gate, deadline)
                })
            })?;
            let until = stores.monotonic().saturating_add(lease);
            stores.queues.leases.taken(taken.len(), until);
            Ok(taken)
        })
    }

    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>> {
        self.handle.write(SETTLE, Durability::Strict, |stores| {
            let settled = stores.past_deletion(Some(job), deadline, || {
                gated(stores, SETTLE, job, fence, deadline, |gate| {
                    stores.queues.queue_settle(job, settlements, gate, deadline)
                })
            })?;
            for (settlement, settled) in settlements.iter().zip(&settled) {
                let counts = matches!(settlement.claim, Claim::Lease(_))
                    && matches!(settled, Settled::Done | Settled::Kept);
                if counts {
                    stores.queues.leases.settled(1);
                    if let Change::Extend(length) = settlement.change {
                        let until = stores.monotonic().saturating_add(length);
                        stores.queues.leases.taken(1, until);
                    }
                }
            }
            Ok(settled)
        })
    }

    fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction> {
        self.handle.write("compact queue", Durability::Strict, |stores| {
            stores.past_deletion(Some(job), deadline, || stores.queues.queue_compact(job, deadline))
        })
    }
}
