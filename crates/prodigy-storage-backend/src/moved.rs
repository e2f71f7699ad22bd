//! Marks of what was moved to another store.

use std::fmt;

use prodigy_storage_layout::{Part, Timestamp};

use crate::error::{ErrorKind, StorageError};

/// The mark of a part of a store that was moved to another store: it takes no more writes, and says where they belong.
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
    /// The part.
    pub part: Part,
    /// The new place, in words for a person: a folder, or a connection string without a password.
    pub to: String,
    /// The time of the move.
    pub at: Timestamp,
}

impl Moved {
    /// The mark of a part.
    #[must_use]
    pub fn new(part: Part, to: impl Into<String>, at: Timestamp) -> Self {
        Self {
            part,
            to: to.into(),
            at,
        }
    }

    /// The error for a write to the part.
    #[must_use]
    pub fn refused(&self, operation: &'static str, target: &dyn fmt::Display) -> StorageError {
        let why = format!(
            "{} was moved to {} at {}",
            self.part,
            self.to,
            self.at.to_rfc3339()
        );
        StorageError::new(ErrorKind::ReadOnly, operation, target, why).with_hint(
            "set the configuration to that place; to write here again, and only if nobody writes there, take the mark away with \
             `prodigy-storage copy --reopen`",
        )
    }
}
