//! Evidence that distinguishes the directories of repositories from each other.

use std::path::PathBuf;

use crate::time::Timestamp;

/// Facts about a repository's common git directory, or about a plain folder. A registry stores them, and compares them with
/// the facts that are found later.
///
/// ```
/// use prodigy_storage_layout::{Evidence, Relation};
///
/// let recorded = Evidence { path: "/src/shop/.git".into(), file_id: Some((1, 2)), born: None, origin: None };
/// let found = Evidence { file_id: Some((1, 3)), ..recorded.clone() };
/// assert!(matches!(recorded.relation(&found), Relation::Replaced { same_origin: false }));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a registry makes it, and has to fill in each field"
)]
pub struct Evidence {
    /// The canonical path.
    pub path: PathBuf,
    /// The device and inode numbers, if the platform has them.
    pub file_id: Option<(u64, u64)>,
    /// The creation time of the directory, if the file system stores it. A new directory that gets the inode number of a
    /// deleted one has another creation time.
    pub born: Option<Timestamp>,
    /// The address of the remote `origin`, without credentials.
    pub origin: Option<String>,
}

/// The relation of recorded evidence to a directory that was found.
///
/// ```
/// use prodigy_storage_layout::{Evidence, Relation, Timestamp};
///
/// let born = Some(Timestamp::from_millis(1_763_192_166_123));
/// let recorded = Evidence { path: "/src/shop/.git".into(), file_id: Some((1, 2)), born, origin: None };
/// let moved = Evidence { path: "/old/shop/.git".into(), ..recorded.clone() };
/// assert_eq!(recorded.relation(&moved), Relation::Elsewhere);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the table of decisions has a row for each"
)]
pub enum Relation {
    /// The path, the inode and the creation time are the same, on any device: the same directory.
    Same,
    /// The path is the same. The inode and the creation time are the same or unknown, and at least one of them is
    /// unknown. This counts as the same directory.
    Incomplete,
    /// The device, inode and creation time are the same, the path differs: the same directory, moved or mounted twice.
    Elsewhere,
    /// The device and inode are the same, the path differs, and the creation time is unknown on one side. This is either the
    /// same directory, moved or mounted twice, or a new directory with the inode number of a deleted one.
    PerhapsElsewhere,
    /// The path is the same, but it leads to another directory.
    Replaced {
        /// True if both have the same remote `origin`.
        same_origin: bool,
    },
    /// The device and inode are the same, but the path and the creation time differ: a new directory with the inode number of
    /// a deleted one.
    Reused,
    /// No fact shows that the two are the same directory.
    Unrelated,
}

impl Evidence {
    /// Compares this recorded evidence with evidence that was found later.
    #[must_use]
    pub fn relation(&self, found: &Self) -> Relation {
        let device = known_equal(self.file_id.map(|id| id.0), found.file_id.map(|id| id.0));
        let inode = known_equal(self.file_id.map(|id| id.1), found.file_id.map(|id| id.1));
        let born = known_equal(self.born, found.born);
        if self.path == found.path {
            return match (inode, born) {
                (Some(true), Some(true)) => Relation::Same,
                (Some(false), _) | (_, Some(false)) => Relation::Replaced {
                    same_origin: self.has_origin_of(found),
                },
                _ => Relation::Incomplete,
            };
        }
        match (device, inode, born) {
            (Some(true), Some(true), Some(true)) => Relation::Elsewhere,
            (Some(true), Some(true), Some(false)) => Relation::Reused,
            (Some(true), Some(true), None) => Relation::PerhapsElsewhere,
            _ => Relation::Unrelated,
        }
    }

    fn has_origin_of(&self, other: &Self) -> bool {
        self.origin.as_ref().is_some_and(|origin| !origin.is_empty()) && self.origin == other.origin
    }
}

/// True if the two facts are equal. `None` if one of them is unknown.
fn known_equal<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
    Some(one? == other?)
}
