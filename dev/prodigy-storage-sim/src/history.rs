//! The operations of a workload, and their answers.

use std::collections::HashSet;
use std::sync::Arc;

use crate::crash::Loss;
use prodigy_storage_backend::{Cursor, Durability, EventId, LeaseToken};
use prodigy_storage_layout::{Document, JobAddress, LockName, Phase, Timestamp};

/// An operation that was started.
#[derive(Clone, Debug)]
pub enum Action {
    /// Events were appended.
    Append {
        /// The job of the log.
        job: JobAddress,
        /// The payloads, each of which is unique.
        payloads: Vec<String>,
        /// The ids, if they were given.
        given: Option<Vec<EventId>>,
        /// The fencing token.
        fence: Option<u64>,
        /// The durability.
        durability: Durability,
    },
    /// A log was read to its end.
    Scan {
        /// The job of the log.
        job: JobAddress,
    },
    /// Background work was completed, and relaxed writes were made durable.
    Flush,
    /// A document was put or deleted.
    Put {
        /// The document.
        document: Document,
        /// The body; `None` for a deletion.
        body: Option<String>,
        /// The durability.
        durability: Durability,
    },
    /// A document was added to a series.
    Add {
        /// The job.
        job: JobAddress,
        /// The phase.
        phase: Phase,
        /// The body.
        body: String,
        /// The fencing token.
        fence: Option<u64>,
        /// The durability.
        durability: Durability,
    },
    /// Dead letters were pushed.
    Push {
        /// The job of the queue.
        job: JobAddress,
        /// The keys, each with the message of its failure, which is unique.
        items: Vec<(String, String)>,
        /// The fencing token.
        fence: Option<u64>,
        /// The durability.
        durability: Durability,
    },
    /// Dead letters were taken.
    Take {
        /// The job of the queue.
        job: JobAddress,
    },
    /// Dead letters were acknowledged or removed.
    Settle {
        /// The job of the queue.
        job: JobAddress,
        /// The keys.
        keys: Vec<String>,
    },
    /// Dead letters were released.
    Nack {
        /// The job of the queue.
        job: JobAddress,
        /// The keys.
        keys: Vec<String>,
    },
    /// Leases on dead letters were extended.
    Extend {
        /// The job of the queue.
        job: JobAddress,
    },
    /// Dead letters failed again.
    Fail {
        /// The job of the queue.
        job: JobAddress,
        /// The keys, each with the message of its failure, which is unique.
        items: Vec<(String, String)>,
    },
    /// A queue was compacted.
    Compact {
        /// The job of the queue.
        job: JobAddress,
    },
    /// A job was deleted.
    DeleteJob {
        /// The job.
        job: JobAddress,
    },
    /// The old events of a log were removed.
    RemoveOld {
        /// The job of the log.
        job: JobAddress,
        /// The events before this time were removed.
        before: Timestamp,
        /// The ids of these events.
        ids: Vec<EventId>,
    },
    /// The power failed: no later sync makes earlier writes durable.
    PowerFailure,
    /// A named lock was taken.
    Lock {
        /// The lock.
        name: LockName,
    },
}

impl Action {
    /// The job that the operation reads or writes.
    #[must_use]
    pub fn job(&self) -> Option<&JobAddress> {
        match self {
            Self::Append { job, .. }
            | Self::Scan { job }
            | Self::Add { job, .. }
            | Self::Push { job, .. }
            | Self::Take { job }
            | Self::Settle { job, .. }
            | Self::Nack { job, .. }
            | Self::Extend { job }
            | Self::Fail { job, .. }
            | Self::Compact { job }
            | Self::DeleteJob { job }
            | Self::RemoveOld { job, .. } => Some(job),
            Self::Put { document, .. } => document.job(),
            Self::Flush | Self::PowerFailure | Self::Lock { .. } => None,
        }
    }
}

/// The answer to an operation.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The operation succeeded.
    Done,
    /// The operation was refused, and changed nothing.
    Refused,
    /// The events are stored under these ids; some may have been stored before.
    Appended {
        /// The ids, one per event.
        ids: Vec<EventId>,
        /// The number of events that were not stored before.
        stored: usize,
    },
    /// The position after all events that were read.
    Scanned {
        /// The position.
        cursor: Cursor,
        /// The events that were read.
        given: Arc<HashSet<EventId>>,
    },
    /// The document is stored under this name.
    Added(Document),
    /// The taken keys with their tokens.
    Taken(Vec<(String, LeaseToken)>),
    /// The keys that were kept, because they were pushed again meanwhile.
    Kept(Vec<String>),
    /// The token of the lock.
    Token(u64),
}

/// An operation of a workload.
#[derive(Clone, Debug)]
pub struct Op {
    /// The process that made it.
    pub process: u32,
    /// The kind and the arguments of the operation.
    pub action: Action,
    /// The number of calls before it began.
    pub begun: usize,
    /// The answer, and the number of calls before it; `None` without an answer.
    pub answer: Option<(usize, Answer)>,
}

/// All operations, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
}

impl History {
    /// A history of these operations, in order.
    pub(crate) fn of(ops: Vec<Op>) -> Self {
        Self { ops }
    }

    /// Records the beginning of an operation.
    pub fn begin(&mut self, process: u32, action: Action, position: usize) -> usize {
        self.ops.push(Op {
            process,
            action,
            begun: position,
            answer: None,
        });
        self.ops.len() - 1
    }

    /// Records the answer.
    pub fn answer(&mut self, op: usize, answer: Answer, position: usize) {
        if let Some(op) = self.ops.get_mut(op) {
            op.answer = Some((position, answer));
        }
    }

    /// The history after a crash.
    #[must_use]
    pub fn after(&self, loss: Loss) -> Self {
        let mut history = self.clone();
        if loss == Loss::Power {
            history.begin(0, Action::PowerFailure, 0);
        }
        history
    }

    /// The number of starts of the machine.
    #[must_use]
    pub fn boots(&self) -> usize {
        let failures = self
            .ops
            .iter()
            .filter(|op| matches!(op.action, Action::PowerFailure));
        1 + failures.count()
    }

    /// The operations, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations and answers before the call with this number, as a complete history.
    #[must_use]
    pub fn before(&self, call: usize) -> Self {
        let begun = self.ops.iter().filter(|op| op.begun <= call);
        let ops = begun.map(|op| Op {
            begun: 0,
            answer: op
                .answer
                .as_ref()
                .filter(|(position, _)| *position <= call)
                .map(|(_, answer)| (0, answer.clone())),
            ..op.clone()
        });
        Self { ops: ops.collect() }
    }

    /// A number that increases with each record before the call with this number.
    #[must_use]
    pub fn answers_before(&self, call: usize) -> usize {
        let begun = self.ops.iter().filter(|op| op.begun <= call).count();
        let answered = self.ops.iter().filter_map(|op| op.answer.as_ref());
        begun + answered.filter(|(position, _)| *position <= call).count()
    }
}
