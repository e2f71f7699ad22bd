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
    /// A checkpoint was saved.
    Add {
        /// The job that the checkpoint belongs to.
        job: JobAddress,
        /// The phase that the checkpoint belongs to.
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
        /// The ids of the removed events.
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
    /// A log was read: the cursor at its end, and the events.
    Scanned {
        /// The cursor after the last event.
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
    /// The number of the process that ran the operation.
    pub process: u32,
    /// The kind and the arguments of the operation.
    pub action: Action,
    /// The number of file-system calls before the operation began.
    pub begun: usize,
    /// The answer, and the number of file-system calls before it. `None` if the process died before the answer.
    pub answer: Option<(usize, Answer)>,
}

/// The operations of a workload with their answers, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
}

impl History {
    /// A history of these operations, in order.
    pub(crate) fn of(ops: Vec<Op>) -> Self {
        Self { ops }
    }

    /// Records the beginning of an operation at this number of file-system calls. Returns the operation's index.
    pub fn begin(&mut self, process: u32, action: Action, position: usize) -> usize {
        self.ops.push(Op {
            process,
            action,
            begun: position,
            answer: None,
        });
        self.ops.len() - 1
    }

    /// Records the answer to the operation with this index, at this number of file-system calls.
    pub fn answer(&mut self, op: usize, answer: Answer, position: usize) {
        if let Some(op) = self.ops.get_mut(op) {
            op.answer = Some((position, answer));
        }
    }

    /// This history with a crash at its end. A power failure is recorded as an action of its own.
    #[must_use]
    pub fn after(&self, loss: Loss) -> Self {
        let mut history = self.clone();
        if loss == Loss::Power {
            history.begin(0, Action::PowerFailure, 0);
        }
        history
    }

    /// The number of times that the machine was started: one more than the number of power failures.
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

    /// The part of the history up to a number of file-system calls: operations that had begun, and answers that were
    /// given.
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

    /// The number of operations begun plus the number of answers given, up to this number of file-system calls.
    #[must_use]
    pub fn answers_before(&self, call: usize) -> usize {
        let begun = self.ops.iter().filter(|op| op.begun <= call).count();
        let answered = self.ops.iter().filter_map(|op| op.answer.as_ref());
        begun + answered.filter(|(position, _)| *position <= call).count()
    }
}
