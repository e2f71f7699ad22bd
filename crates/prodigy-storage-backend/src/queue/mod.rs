//! The queue: keyed items of a job that are taken under a lease.

mod change;
mod id;
mod item;
mod lease;
mod select;

pub use change::{Change, Claim, Compaction, PutReport, Settled, Settlement};
pub use id::ItemId;
pub use item::{ItemState, QueueEntry, QueueItem, QueueMark, QueueScan, QueueStep, QueueSummary};
pub use lease::{Delay, Lease, LeaseToken};
pub use select::{Eligible, Select};
