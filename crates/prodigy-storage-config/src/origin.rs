//! Where values and errors come from.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::shown;

/// Where the effective value of a key, or an error, comes from.
///
/// ```
/// use prodigy_storage_config::{Loader, MapEnvironment, Origin};
///
/// let loaded = Loader::new(MapEnvironment::new().with("HOME", "/home/me")).set("timeout", "5s").load()?;
/// assert_eq!(loaded.origin("timeout"), &Origin::Code);
/// assert_eq!(loaded.origin("backend"), &Origin::Default);
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// No source set the value: it is the default.
    Default,
    /// A configuration file.
    File {
        /// The path of the file, as it was found or named.
        path: PathBuf,
        /// The line, from 1; 0 if the origin is the file as a whole.
        line: usize,
        /// The column in characters, from 1; 0 if the origin is the file as a whole.
        column: usize,
    },
    /// The environment variable of this name.
    Variable(String),
    /// A command-line flag, which is named after its key, such as `--base-dir`.
    Flag(String),
    /// The program itself.
    Code,
}

impl Origin {
    /// The configuration file, if the origin is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The line in the configuration file, from 1; `None` if the origin is not a line of a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } if *line > 0 => Some(*line),
            _ => None,
        }
    }

    /// The column in the configuration file in characters, from 1; `None` if the origin is not a line of a file.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::File { column, .. } if *column > 0 => Some(*column),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => f.write_str(&shown(&path.to_string_lossy())),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", shown(&path.to_string_lossy()))
            }
            Self::Variable(name) => write!(f, "variable {}", shown(name)),
            Self::Flag(name) => write!(f, "flag {}", shown(name)),
            Self::Code => f.write_str("program"),
        }
    }
}
