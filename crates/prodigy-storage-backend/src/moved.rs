//! Marks on parts of a store that were moved to another store.

use std::fmt;

use prodigy_storage_layout::{Part, Timestamp};

use crate::error::{ErrorKind, StorageError};
use crate::shell::shell_flags;

/// The mark on a part of a store that was moved to another store. The part can't be written to any more; the mark
/// says where the data is now.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, Moved};
/// use prodigy_storage_layout::{Part, Timestamp};
///
/// let moved = Moved::new(Part::Store, "postgresql://app@db.example.com/jobs", Timestamp::now());
/// let refused = moved.refused("append events", &"shop/mapreduce-7");
/// assert_eq!(refused.kind(), ErrorKind::ReadOnly);
/// assert!(refused.to_string().contains("was moved to postgresql://app@db.example.com/jobs"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The part that was moved: a job, a repository, or the whole store.
    pub part: Part,
    /// The new place of the data, for a person: a folder, or a connection string without a password.
    pub to: String,
    /// The time of the move.
    pub at: Timestamp,
}

impl Moved {
    /// A mark that a part was moved to this place at this time.
    #[must_use]
    pub fn new(part: Part, to: impl Into<String>, at: Timestamp) -> Self {
        Self {
            part,
            to: to.into(),
            at,
        }
    }

    /// The error for a write to the moved part.
    #[must_use]
    pub fn refused(&self, operation: &'static str, target: &dyn fmt::Display) -> StorageError {
        let why = format!(
            "{} was moved to {} at {}",
            self.part,
            self.to,
            self.at.to_rfc3339()
        );
        StorageError::new(ErrorKind::ReadOnly, operation, target, why).with_hint(format!(
            "set the configuration to that place; to write here again, and only if nobody writes there, take the mark away with `{}`",
            Self::reopening(&self.part)
        ))
    }

    /// The command of the tool that takes the mark of a part away, and the marks of the parts within it.
    ///
    /// ```
    /// use prodigy_storage_backend::Moved;
    /// use prodigy_storage_layout::{JobAddress, JobId, Part, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let command = "prodigy-storage copy --reopen --repo shop --job mapreduce-7";
    /// assert_eq!(Moved::reopening(&Part::Job(job)), command);
    /// assert_eq!(Moved::reopening(&Part::Store), "prodigy-storage copy --reopen");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reopening(part: &Part) -> String {
        let repo = part.repo().map(|repo| ("--repo", repo.as_str()));
        let job = part.job().map(|job| ("--job", job.as_str()));
        let flags = shell_flags(repo.into_iter().chain(job));
        format!("prodigy-storage copy --reopen {flags}")
            .trim_end()
            .to_owned()
    }
}
