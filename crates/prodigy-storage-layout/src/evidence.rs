//! Evidence that distinguishes the directory of one repository from that of another.

use std::path::PathBuf;

use crate::time::Timestamp;

/// Known facts about a repository's common git directory, or about a plain folder. A registry stores them and
/// compares them with later ones.
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
    /// The device and the inode number on it, where the platform has them.
    pub file_id: Option<(u64, u64)>,
    /// When the directory was created. A new directory that gets the inode number of a deleted one has another
    /// birth time. Some file systems keep none.
    pub born: Option<Timestamp>,
    /// The address of the remote `origin`, without credentials.
    pub origin: Option<String>,
}

/// How recorded evidence relates to a directory that was found.
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
    /// Same path, inode and birth time, on whatever device: the same directory.
    Same,
    /// Same path and inode; the birth time, or the inode, is not known on one side: taken for the same directory.
    Incomplete,
    /// Same device, inode and birth time at another path: the same directory, moved or mounted twice.
    Elsewhere,
    /// Same device and inode at another path; the birth time is not known on one side: either the same directory,
    /// moved or mounted twice, or another one that was given the inode number of a deleted one.
    PerhapsElsewhere,
    /// Same path, another directory.
    Replaced {
        /// Both have the same remote `origin`.
        same_origin: bool,
    },
    /// Same device and inode, another birth time: another directory, which was given the inode number of a deleted
    /// one.
    Reused,
    /// Nothing says that the two belong together.
    Unrelated,
}

impl Evidence {
    /// How this recorded evidence relates to what was found.
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

/// `None` where one side is not known.
fn known_equal<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
    Some(one? == other?)
}
