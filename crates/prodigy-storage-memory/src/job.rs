//! The data of one job.

use parking_lot::Mutex;

use prodigy_storage_layout::Timestamp;

use crate::document::Documents;
use crate::log::EventLog;
use crate::queue::Queue;

/// A random number that distinguishes a log from all others. Cursors contain it.
pub(crate) fn new_incarnation() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// A job with a lock of its own, so that threads that use different jobs never wait for each other.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) data: Mutex<JobData>,
}

#[derive(Debug)]
pub(crate) struct JobData {
    pub(crate) log: EventLog,
    pub(crate) documents: Documents,
    pub(crate) queue: Queue,
}

impl Job {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self::of(JobData {
            log: EventLog::new(incarnation),
            documents: Documents::default(),
            queue: Queue::default(),
        })
    }

    pub(crate) fn of(data: JobData) -> Self {
        Self {
            data: Mutex::new(data),
        }
    }
}

impl JobData {
    /// True if the job has no data, except what a deletion keeps (fencing marks).
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.documents.are_marks_only() && self.queue.is_empty()
    }

    /// Removes all data except the fencing marks. Returns the number of bytes that this frees in the budget.
    pub(crate) fn clear(&mut self) -> u64 {
        let freed = self.log.cost() + self.queue.cost() + self.documents.keep_marks_only();
        self.log = EventLog::new(new_incarnation());
        self.queue = Queue::default();
        freed
    }

    /// The time of the last write to the job.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        let queue = self.queue.last_write();
        self.log.last_write().max(self.documents.last_write()).max(queue)
    }
}
