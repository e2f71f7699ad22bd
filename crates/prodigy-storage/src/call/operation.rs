//! The table of operations: what [`call`](super::Caller::call) does for each.

use prodigy_storage_backend::{ErrorKind, StorageError};

/// A kind of call to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Its name in errors and in events of `tracing`.
    pub(crate) name: &'static str,
    /// Whether a handle that was opened for reading only refuses it.
    pub(crate) access: Access,
    /// Whether the operation takes one of the `connection_pool_size` permits.
    pub(crate) limit: Limit,
    repeat: Repeat,
    /// Its place in the table.
    pub(super) index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// It runs while it holds a permit.
    Permit,
    /// It runs without one. Appends share a sync and are one piece of work. Callers wait for a named lock whose holder
    /// may need a permit before it can release the lock, and for events that a writer may need one to append.
    Free,
}

/// Which failed calls may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// None: the first failure is the answer.
    Never,
    /// Those whose error is transient and that certainly did nothing.
    Transient,
    /// Also those whose outcome is unknown, if the error names the ids: the same ids are stored once.
    SameIds,
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

        /// Every operation, in the order of the table.
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
    PERSIST:           "persist events",         Write, Permit, Transient;
    GET:               "get document",           Read,  Permit, Transient;
    REVISION:          "get revision",           Read,  Permit, Transient;
    PUT:               "put document",           Write, Permit, Transient;
    ADD:               "add checkpoint",         Write, Permit, Transient;
    DELETE:            "delete document",        Write, Permit, Transient;
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
    FIND_WRITERS:      "find active jobs",       Write, Permit, Transient;
    ACTIVITY:          "look at job",            Read,  Permit, Transient;
    SURVEY:            "survey jobs",            Read,  Permit, Transient;
    DELETE_JOB:        "delete job",             Write, Permit, Transient;
    FLUSH:             "flush",                  Read,  Permit, Transient;
    HEALTH:            "check health",           Read,  Permit, Never;
    USAGE:             "measure usage",          Read,  Permit, Transient;
}

impl Operation {
    /// True if a call that failed with this error may be made again.
    ///
    /// A conflict and a refused fencing token are answers to decide on. They are never repeated, whatever the error
    /// says of itself.
    pub(super) fn may_repeat(&self, error: &StorageError) -> bool {
        if !error.is_transient() {
            return false;
        }
        match error.kind() {
            ErrorKind::Conflict | ErrorKind::Fenced => false,
            ErrorKind::OutcomeUnknown => self.repeat == Repeat::SameIds && !error.ids().is_empty(),
            _ => self.repeat != Repeat::Never,
        }
    }
}
