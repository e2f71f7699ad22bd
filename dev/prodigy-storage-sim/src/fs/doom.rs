//! The call in which a process dies.

use std::path::Path;

/// The call in which a process dies: the next call of a kind, on a file whose path contains a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doom {
    pub(super) file: &'static str,
    pub(super) kind: Kind,
}

/// The kind of a call in which a process can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write(Written),
    Rename,
}

/// The part of a write that is made before the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    First(usize),
    AllBut(usize),
}

impl Doom {
    /// Dies in a write to a file whose path contains `file`, after this number of bytes, or after all bytes if the
    /// write is shorter.
    #[must_use]
    pub fn after_bytes(file: &'static str, bytes: usize) -> Self {
        let kind = Kind::Write(Written::First(bytes));
        Self { file, kind }
    }

    /// Dies in a write to a file whose path contains `file`, with this number of bytes missing at the end.
    #[must_use]
    pub fn short_of(file: &'static str, bytes: usize) -> Self {
        let kind = Kind::Write(Written::AllBut(bytes));
        Self { file, kind }
    }

    /// Dies before a rename to a path that contains `file`.
    #[must_use]
    pub fn before_rename(file: &'static str) -> Self {
        let kind = Kind::Rename;
        Self { file, kind }
    }

    pub(super) fn is_on(&self, path: &Path) -> bool {
        path.to_string_lossy().contains(self.file)
    }
}

impl Written {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        let end = match self {
            Self::First(end) => end,
            Self::AllBut(missing) => bytes.len().saturating_sub(missing),
        };
        bytes.get(..end).unwrap_or(bytes)
    }
}
