//! What a person should know about a handle that works all the same.

use std::fmt;

use prodigy_storage_config::Notice;

/// A warning about how storage was opened. Each is also logged, once, when storage is opened.
///
/// [`Display`](fmt::Display) gives one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageNotice {
    /// The configuration is valid, and something about it should be known.
    Config(Notice),
    /// `enable_locking: false`: named locks are inert, and protect nothing.
    LockingDisabled,
}

impl fmt::Display for StorageNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(notice) => notice.fmt(f),
            Self::LockingDisabled => f.write_str(
                "`enable_locking` is false: named locks are inert, and nothing keeps two processes apart",
            ),
        }
    }
}

impl From<Notice> for StorageNotice {
    fn from(notice: Notice) -> Self {
        Self::Config(notice)
    }
}
