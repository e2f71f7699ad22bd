//! The validated names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name_error::{NameError, NameProblem};
use crate::name_rule::check;

/// Implements the traits that all names have, for a type with a method `new`.
macro_rules! checked_text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        /// Checks the rules of `new`.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Implements `Display` and `Serialize` for names whose written form is the stored text.
macro_rules! written_as_kept {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

macro_rules! single_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Creates a name from a text.
            ///
            /// # Errors
            /// [`NameError`] with the rule that the text breaks.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                let name = name.as_ref();
                check(name).map_err(|problem| NameError::new($kind, name, problem))?;
                Ok(Self(Arc::from(name)))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        checked_text!($name);
        written_as_kept!($name);
    };
}

single_name!(
    /// The name of a repository, which is the name of its folders under `events/`, `dlq/`, `state/` and others.
    RepoName,
    "repository name"
);

impl RepoName {
    /// The reserved repository of the audit log, which is the log of its job `clean`.
    pub const AUDIT: &'static str = "_audit";

    /// The reserved repository of a document by which a copy to another store notices that both are the same store.
    pub const PROBE: &'static str = "_copy";

    /// True for a name under which the store keeps data of its own, in upper or lower case. No git repository gets such
    /// a name.
    ///
    /// ```
    /// use prodigy_storage_layout::RepoName;
    ///
    /// assert!(RepoName::new("_audit")?.is_reserved() && RepoName::new("_Copy")?.is_reserved());
    /// assert!(!RepoName::new("audit")?.is_reserved());
    /// # Ok::<(), prodigy_storage_layout::NameError>(())
    /// ```
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        [Self::AUDIT, Self::PROBE]
            .iter()
            .any(|own| self.as_str().eq_ignore_ascii_case(own))
    }

    /// Creates a name from a word and a number. Such a name is always valid.
    pub(crate) fn numbered(word: &'static str, number: u64) -> Self {
        Self(Arc::from(format!("{word}-{number:016x}")))
    }
}

single_name!(
    /// The id of a job within its repository.
    JobId,
    "job id"
);

single_name!(
    /// The id of an agent that works on an item of a job.
    AgentId,
    "agent id"
);

single_name!(
    /// A name that a caller gives a checkpoint, to find it again.
    CheckpointKey,
    "checkpoint key"
);

single_name!(
    /// A kind of caller-defined documents. All documents of a kind are in a folder of this name.
    DocumentKind,
    "document kind"
);

single_name!(
    /// The name of a caller-defined document within its kind.
    DocumentName,
    "document name"
);

/// The id of a session: the part after `session-` in the name of its worktree's folder.
///
/// The id is stored without this prefix. [`new`](Self::new) removes it once if the text has it. An id that itself starts
/// with `session-` is written (by `Display` and serde) with the prefix added, so it is read back as the same id.
///
/// ```
/// use prodigy_storage_layout::SessionId;
/// assert_eq!(SessionId::new("session-7f3a")?, SessionId::new("7f3a")?);
/// let nested = SessionId::new("session-session-7")?;
/// assert_eq!(nested.as_str(), "session-7");
/// assert_eq!(nested.to_string(), "session-session-7");
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The text that precedes the id in the name of the session's folder.
    pub const PREFIX: &'static str = "session-";

    /// Creates an id from a text with or without the prefix.
    ///
    /// # Errors
    /// [`NameError`] with the rule that the text without the prefix breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        Self::without_prefix(name.strip_prefix(Self::PREFIX).unwrap_or(name))
    }

    /// Creates an id from a text whose prefix was already removed.
    pub(crate) fn without_prefix(id: &str) -> Result<Self, NameError> {
        check(id).map_err(|problem| NameError::new("session id", id, problem))?;
        Ok(Self(Arc::from(id)))
    }

    /// The id, without the prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the session's folder: the id with the prefix.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("{}{}", Self::PREFIX, self.0)
    }
}

checked_text!(SessionId);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with(Self::PREFIX) {
            f.pad(&self.folder_name())
        } else {
            f.pad(&self.0)
        }
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a lock: 1 to 4 names joined by `/`, such as `shop/mapreduce-7/resume`.
///
/// ```
/// use prodigy_storage_layout::LockName;
///
/// let name = LockName::new("shop/mapreduce-7/resume")?;
/// assert_eq!(name.parts().count(), 3);
/// assert!(LockName::new("a/b/c/d/e").is_err());
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

impl LockName {
    /// The largest number of parts in a lock name.
    pub const MAX_PARTS: usize = 4;

    /// Creates a lock name from a text.
    ///
    /// # Errors
    /// [`NameError`] with the rule that one of the parts breaks, or if there are too many parts.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        let refused = |problem| NameError::new("lock name", name, problem);
        let parts = name.split('/').count();
        if parts > Self::MAX_PARTS {
            return Err(refused(NameProblem::TooManyParts { parts }));
        }
        let mut start = 0;
        for part in name.split('/') {
            check(part).map_err(|problem| refused(of_part(problem, name, start)))?;
            start += part.len() + 1;
        }
        Ok(Self(Arc::from(name)))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of the name: at least one.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

checked_text!(LockName);
written_as_kept!(LockName);

/// Converts the problem of a part into one of the whole name, in which offsets are counted from the start.
fn of_part(problem: NameProblem, whole: &str, start: usize) -> NameProblem {
    match problem {
        NameProblem::Empty if !whole.is_empty() => NameProblem::EmptyPart,
        NameProblem::Separator { char, at } => NameProblem::Separator { char, at: at + start },
        NameProblem::Control { char, at } => NameProblem::Control { char, at: at + start },
        NameProblem::Space { char, at } => NameProblem::Space { char, at: at + start },
        other => other,
    }
}
