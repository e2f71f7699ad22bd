//! The named choices of the configuration.

use std::fmt;

/// Where data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendKind {
    /// Files under one folder: for production.
    #[default]
    File,
    /// The memory of this process: for tests.
    Memory,
}

/// The failures that a write survives once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// An acknowledged write survives power loss: data and every directory entry are synced before the call
    /// returns.
    #[default]
    Strict,
    /// An acknowledged write survives the death of the process, but perhaps not that of the machine.
    Relaxed,
}

impl BackendKind {
    /// Every backend of this build.
    pub const ALL: &'static [Self] = &[Self::File, Self::Memory];

    /// Another word for [`BackendKind::File`], which Prodigy's own documentation uses.
    pub(crate) const FILE_ALIAS: &'static str = "filesystem";

    /// The word in a configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

impl Durability {
    /// Every durability.
    pub const ALL: &'static [Self] = &[Self::Strict, Self::Relaxed];

    /// The word in a configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
