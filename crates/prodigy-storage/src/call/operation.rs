//! The table of operations. A row has the rules by which [`call`](super::Caller::call) makes the calls of an
//! operation.

use prodigy_storage_backend::{ErrorKind, StorageError};

/// An operation: a kind of call to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The name of the operation in errors and in `tracing` events.
    pub(crate) name: &'static str,
    /// Whether the operation writes; a read-only handle refuses writes.
    pub(crate) access: Access,
    /// Whether the operation needs one of the `connection_pool_size` permits.
    pub(crate) limit: Limit,
    repeat: Repeat,
    /// The position of the operation in the table.
    pub(super) index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The operation holds a permit while it runs.
    Permit,
    /// The operation runs without a permit. Concurrent appends share a sync, so they are not limited. A caller
    /// that waits for a named lock or for events must not hold a permit, since the lock's holder or the writer of
    /// the events may need it.
    Free,
}

/// Which failed calls of an operation may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// Failed calls are never repeated.
    Never,
    /// Calls that failed with a transient error, which certainly changed nothing.
    Transient,
    /// Also calls with an unknown outcome, if the error has the ids: under the same ids, each event is stored
    /// once.
    SameIds,
    /// Also calls with an unknown outcome: a repeated call has no other effect.
    Idempotent,
}

macro_rules! operations {
    ($($constant:ident: $name:literal, $access:ident, $limit:ident, $repeat:ident;)+) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names of the constants")]
        enum Index { $($constant),+ }

        $(pub(crate) const $constant: Operation = Operation {
            name: $name,
            access: Access::$access,
            limit: Limit::$limit,
            repeat: Repeat::$repeat,
            index: Index::$constant as usize,
        };)+

        /// All operations, in the order of the rows.
        pub(super) const ALL: &[Operation] = &[$($constant),+];
    };
}

operations! {
    // constant        name in errors            access limit   repeated
    APPEND:            "append events",          Write, Free,   SameIds;
    SCAN:              "scan events",            Read,  Permit, Transient;
    TAIL:              "read last events",       Read,  Permit, Transient;
    END:               "find end of events",     Read,  Permit, Transient;
    WAIT:              "wait for events",        Read,  Free,   Transient;
    WATCH:             "watch events",           Read,  Permit, Transient;
    SUMMARISE:         "summarise events",       Read,  Permit, Transient;
    SEAL:              "seal events",            Write, Permit, Transient;
    FIND_OLD:          "find old events",        Read,  Permit, Transient;
    REMOVE_OLD:        "remove events",          Write, Permit, Transient;
    PERSIST:           "persist events",         Write, Permit, Transient;
    GET:               "get document",           Read,  Permit, Transient;
    REVISION:          "get revision",           Read,  Permit, Transient;
    PUT:               "put document",           Write, Permit, Transient;
    ADD:               "add checkpoint",         Write, Permit, Transient;
    DELETE:            "delete document",        Write, Permit, Transient;
    RAISE_MARK:        "raise fencing mark",     Write, Permit, Idempotent;
    LIST:              "list documents",         Read,  Permit, Transient;
    NEWEST:            "find newest document",   Read,  Permit, Transient;
    PUSH:              "put items",              Write, Permit, Transient;
    GET_ITEM:          "get item",               Read,  Permit, Transient;
    SCAN_ITEMS:        "read items",             Read,  Permit, Transient;
    SUMMARISE_ITEMS:   "summarise items",        Read,  Permit, Transient;
    TAKE:              "take items",             Write, Permit, Transient;
    SETTLE:            "settle items",           Write, Permit, Transient;
    COMPACT:           "compact items",          Write, Permit, Transient;
    LOCK:              "acquire lock",           Write, Free,   Transient;
    LIST_LOCKS:        "list locks",             Read,  Permit, Transient;
    LIST_REPOSITORIES: "list repositories",      Read,  Permit, Transient;
    LIST_JOBS:         "list jobs",              Read,  Permit, Transient;
    FIND_WRITERS:      "find active jobs",       Read,  Permit, Transient;
    ACTIVITY:          "look at job",            Read,  Permit, Transient;
    SURVEY:            "survey jobs",            Read,  Permit, Transient;
    DELETE_JOB:        "delete job",             Write, Permit, Transient;
    DELETE_OLD_JOB:    "delete old job",         Write, Permit, Transient;
    LIST_UNFINISHED:   "find deletions",         Read,  Permit, Transient;
    FINISH_DELETION:   "finish deletion",        Write, Permit, Idempotent;
    MARK_MOVED:        "mark as moved",          Write, Permit, Transient;
    UNMARK_MOVED:      "take marks away",        Write, Permit, Transient;
    LIST_MOVED:        "look for marks",         Read,  Permit, Transient;
    FLUSH:             "flush",                  Read,  Permit, Transient;
    HEALTH:            "check health",           Read,  Permit, Never;
    USAGE:             "measure usage",          Read,  Permit, Transient;
}

impl Operation {
    /// True if a call that failed with this error may be repeated.
    ///
    /// A conflict and an overtaken fencing token are never repeated, even if the error is marked as transient: the
    /// caller has to decide what to do.
    pub(crate) fn may_repeat(&self, error: &StorageError) -> bool {
        if !error.is_transient() {
            return false;
        }
        match error.kind() {
            ErrorKind::Conflict | ErrorKind::Fenced => false,
            ErrorKind::OutcomeUnknown => match self.repeat {
                Repeat::SameIds => !error.ids().is_empty(),
                repeat => repeat == Repeat::Idempotent,
            },
            _ => self.repeat != Repeat::Never,
        }
    }
}
