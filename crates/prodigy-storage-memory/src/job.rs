//! The data of one job.

use parking_lot::Mutex;

use crate::document::Documents;
use crate::log::EventLog;
use crate::queue::Queue;

/// A job, behind a lock of its own: threads on different jobs never wait for each other.
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
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.documents.is_empty() && self.queue.is_empty()
    }
}
