//! The operations of a workload, and their answers.

use std::collections::HashSet;
use std::sync::Arc;

use crate::crash::Loss;
use prodigy_storage_backend::{Cursor, Durability, EventId, LeaseToken};
use prodigy_storage_layout::{Document, JobAddress, LockName, Phase, Timestamp};

/// An operation that was begun.
#[derive(Clone, Debug)]
pub enum Action {
    /// Events were appended.
    Append {
        /// To this log.
        job: JobAddress,
        /// Each with a payload of its own.
        payloads: Vec<String>,
        /// Under ids that were given.
        given: Option<Vec<EventId>>,
        /// Under this fencing token.
        fence: Option<u64>,
        /// As durable as this.
        durability: Durability,
    },
    /// A log was read to its end.
    Scan {
        /// This one.
        job: JobAddress,
    },
    /// Background work was waited for, relaxed writes were made durable.
    Flush,
    /// A document was put; `None`: deleted.
    Put {
        /// This one.
        document: Document,
        /// Its body.
        body: Option<String>,
        /// As durable as this.
        durability: Durability,
    },
    /// A document was added to a series.
    Add {
        /// Of this job.
        job: JobAddress,
        /// Of this phase.
        phase: Phase,
        /// Its body.
        body: String,
        /// Under this fencing token.
        fence: Option<u64>,
        /// As durable as this.
        durability: Durability,
    },
    /// Dead letters were pushed.
    Push {
        /// To this queue.
        job: JobAddress,
        /// Key, and the message of its failure, which is unique.
        items: Vec<(String, String)>,
        /// Under this fencing token.
        fence: Option<u64>,
        /// As durable as this.
        durability: Durability,
    },
    /// Dead letters were taken.
    Take {
        /// From this queue.
        job: JobAddress,
    },
    /// Dead letters were acknowledged, or removed.
    Settle {
        /// From this queue.
        job: JobAddress,
        /// These.
        keys: Vec<String>,
    },
    /// Dead letters were given back.
    Nack {
        /// To this queue.
        job: JobAddress,
        /// These.
        keys: Vec<String>,
    },
    /// Leases on dead letters were extended.
    Extend {
        /// In this queue.
        job: JobAddress,
    },
    /// Dead letters failed again.
    Fail {
        /// In this queue.
        job: JobAddress,
        /// Key, and the message of the failure, which is unique.
        items: Vec<(String, String)>,
    },
    /// A queue was compacted.
    Compact {
        /// This one.
        job: JobAddress,
    },
    /// A job was deleted.
    DeleteJob {
        /// This one.
        job: JobAddress,
    },
    /// The old events of a log were removed.
    RemoveOld {
        /// Of this job.
        job: JobAddress,
        /// Those before this time.
        before: Timestamp,
        /// That is these.
        ids: Vec<EventId>,
    },
    /// The power failed: what was not durable is no one's to make durable any more.
    PowerFailure,
    /// A named lock was taken.
    Lock {
        /// This one.
        name: LockName,
    },
}

impl Action {
    /// The job that it reads or writes.
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
    /// It is done.
    Done,
    /// It was refused, and nothing was done.
    Refused,
    /// Stored under these ids; some of them may have been stored before.
    Appended {
        /// One an event.
        ids: Vec<EventId>,
        /// How many were not stored before.
        stored: usize,
    },
    /// The position behind all events that were read.
    Scanned {
        /// The position.
        cursor: Cursor,
        /// The events that were read.
        given: Arc<HashSet<EventId>>,
    },
    /// Stored under this name.
    Added(Document),
    /// These keys were taken, under these tokens.
    Taken(Vec<(String, LeaseToken)>),
    /// These keys stayed: they were pushed again meanwhile.
    Kept(Vec<String>),
    /// The token of the lock.
    Token(u64),
}

/// One operation of a workload.
#[derive(Clone, Debug)]
pub struct Op {
    /// The process that made it.
    pub process: u32,
    /// The kind and the arguments of the operation.
    pub action: Action,
    /// Calls that were made before it began.
    pub begun: usize,
    /// The answer, and the calls that were made before it; `None` if there was none.
    pub answer: Option<(usize, Answer)>,
}

/// All operations, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
}

impl History {
    /// Of these operations, in order.
    pub(crate) fn of(ops: Vec<Op>) -> Self {
        Self { ops }
    }

    /// Records the begin of an operation.
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

    /// How often the machine was started.
    #[must_use]
    pub fn boots(&self) -> usize {
        let failures = self
            .ops
            .iter()
            .filter(|op| matches!(op.action, Action::PowerFailure));
        1 + failures.count()
    }

    /// The ops, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations and answers before the call of this number, as a history that is over.
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

    /// A number that grows with each record up to the call of this number.
    #[must_use]
    pub fn answers_before(&self, call: usize) -> usize {
        let begun = self.ops.iter().filter(|op| op.begun <= call).count();
        let answered = self.ops.iter().filter_map(|op| op.answer.as_ref());
        begun + answered.filter(|(position, _)| *position <= call).count()
    }
}
