//! The kinds of backends and their names.

use std::fmt;

/// The kind of backend that stores the data.
///
/// ```
/// use prodigy_storage_config::BackendKind;
///
/// assert_eq!(BackendKind::default(), BackendKind::File);
/// assert_eq!(BackendKind::Memory.to_string(), "memory");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendKind {
    /// Files under one folder: for production.
    #[default]
    File,
    /// The memory of this process: for tests.
    Memory,
    /// A PostgreSQL database: for many machines.
    Postgres,
}

impl BackendKind {
    /// All kinds of backends. A program may be built without some of them.
    pub const ALL: &'static [Self] = &[Self::File, Self::Memory, Self::Postgres];

    /// Another name of [`BackendKind::File`], which Prodigy's own documentation uses.
    pub(crate) const FILE_ALIAS: &'static str = "filesystem";

    /// The name of the backend in a configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
