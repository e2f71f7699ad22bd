//! Decides from evidence under which registered name a repository stores its data.
//!
//! The table of these decisions is in `docs/explanation/identity.md`, with a row for each case.

use crate::evidence::{Evidence, Relation};

/// The relation of the name of a registry entry to the repository that was found.
///
/// ```
/// use prodigy_storage_layout::{Decision, Evidence, NameRole, decide};
///
/// // No name is registered: the repository gets the name of its folder.
/// let found = Evidence { path: "/src/shop/.git".into(), file_id: Some((1, 2)), born: None, origin: None };
/// assert_eq!(decide(&found, &[]), Decision::Register(NameRole::Suggested));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a registry has to handle each")]
pub enum NameRole {
    /// The name that the repository's folder suggests.
    Suggested,
    /// The suggested name, followed by a short hash of the path.
    Distinct,
    /// Any other name.
    Other,
}

/// The result of reading the recorded path of a registry entry again.
///
/// ```
/// use prodigy_storage_layout::Present;
///
/// // A recorded path that leads nowhere any more, and a recorded path that can't be read.
/// let (gone, unknown) = (Present::Nothing, Present::Unreadable);
/// assert_ne!(gone, unknown);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a registry has to say which it found")]
pub enum Present {
    /// The path leads to no repository, or to one whose directory has another path.
    Nothing,
    /// A repository, or a plain folder that is its own identity.
    Found(Evidence),
    /// The path can't be read, so it is not known what it leads to. The entry then keeps its name.
    Unreadable,
}

/// A registry entry that may belong to the repository that was found.
///
/// ```
/// use prodigy_storage_layout::{Evidence, KnownRepo, NameRole, Present};
///
/// let recorded = Evidence { path: "/src/shop/.git".into(), file_id: Some((1, 2)), born: None, origin: None };
/// let present = Present::Found(recorded.clone());
/// assert!(KnownRepo { role: NameRole::Suggested, recorded, present, active: false }.is_home());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a registry makes it, and has to fill in each field"
)]
pub struct KnownRepo {
    /// The relation of the entry's name to the repository.
    pub role: NameRole,
    /// The recorded evidence.
    pub recorded: Evidence,
    /// The result of reading the recorded path again.
    pub present: Present,
    /// True if a live process works on a job under this name. It is only used for [`Relation::Replaced`] with the same
    /// origin.
    pub active: bool,
}

/// The name of a repository. Each index is a position in the given list of entries.
///
/// ```
/// use prodigy_storage_layout::{Decision, Evidence, KnownRepo, NameRole, Present, decide};
///
/// let found = Evidence { path: "/src/shop/.git".into(), file_id: Some((1, 2)), born: None, origin: None };
/// let known = KnownRepo {
///     role: NameRole::Suggested,
///     recorded: found.clone(),
///     present: Present::Found(found.clone()),
///     active: false,
/// };
/// assert!(matches!(decide(&found, &[known]), Decision::Same { index: 0, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a registry has to handle each")]
pub enum Decision {
    /// The repository is the one of this entry.
    Same {
        /// The position of the entry in the list.
        index: usize,
        /// The evidence that the entry should record from now on; `None` if it does not change.
        record: Option<Evidence>,
    },
    /// The repository is a fresh clone of the project of this entry. It continues under the name, and the user should be
    /// informed.
    FreshClone {
        /// The position of the entry in the list.
        index: usize,
        /// The evidence that the entry should record from now on.
        record: Evidence,
    },
    /// No entry belongs to the repository. It is registered under the name of this role, which no entry has. The role
    /// is never [`NameRole::Other`].
    Register(NameRole),
    /// The repository may or may not be the one of this entry. The user has to decide.
    Conflict {
        /// The position of the entry in the list.
        index: usize,
    },
    /// The repository is new, and other repositories have both possible names. The user has to choose a name.
    NoName,
}

impl KnownRepo {
    /// True if the recorded path still leads to the directory of the entry, or if the path can't be read.
    #[must_use]
    pub fn is_home(&self) -> bool {
        match &self.present {
            Present::Nothing => false,
            Present::Unreadable => true,
            Present::Found(present) => matches!(
                self.recorded.relation(present),
                Relation::Same | Relation::Incomplete
            ),
        }
    }

    /// True if the recorded path leads to the directory that was found. Device and inode decide this, since two
    /// directories that exist at the same time never share them.
    fn leads_to(&self, found: &Evidence) -> bool {
        match &self.present {
            Present::Found(present) => {
                present.file_id.is_some()
                    && present.file_id == found.file_id
                    && (present.born.is_none() || found.born.is_none() || present.born == found.born)
            }
            Present::Nothing | Present::Unreadable => false,
        }
    }
}

/// Decides which name the repository that was found has. The first case below that applies decides.
#[must_use]
pub fn decide(found: &Evidence, known: &[KnownRepo]) -> Decision {
    let relations: Vec<Relation> = known.iter().map(|known| known.recorded.relation(found)).collect();
    let having = |wanted: Relation| {
        let all = relations.iter().zip(known).enumerate();
        all.filter(move |(_, (relation, _))| **relation == wanted)
            .map(|(index, (_, known))| (index, known))
    };
    // The case of the same directory at the same path.
    if let Some((index, known)) = having(Relation::Same)
        .next()
        .or_else(|| having(Relation::Incomplete).next())
    {
        return same(index, known, found.clone(), found);
    }
    // The cases of the same directory at another path. If the directory is mounted twice, the entry keeps its recorded
    // path.
    let mounted = having(Relation::Elsewhere)
        .chain(having(Relation::PerhapsElsewhere))
        .find(|(_, known)| known.leads_to(found));
    if let Some((index, known)) = mounted {
        let path = known.recorded.path.clone();
        return same(
            index,
            known,
            Evidence {
                path,
                ..found.clone()
            },
            found,
        );
    }
    if let Some((index, known)) = having(Relation::Elsewhere).next() {
        return same(index, known, found.clone(), found);
    }
    // The cases of another directory at the same path.
    let mut clones = having(Relation::Replaced { same_origin: true });
    if let Some((index, known)) = clones.next() {
        if clones.next().is_some() || known.active {
            return Decision::Conflict { index };
        }
        let record = found.clone();
        return Decision::FreshClone { index, record };
    }
    let unclear = having(Relation::Replaced { same_origin: false })
        .chain(having(Relation::PerhapsElsewhere).filter(|(_, known)| !known.is_home()))
        .next();
    if let Some((index, _)) = unclear {
        return Decision::Conflict { index };
    }
    // The cases of a repository without an entry. It gets a name that no other repository has.
    for role in [NameRole::Suggested, NameRole::Distinct] {
        let holder = known.iter().position(|known| known.role == role);
        let Some(index) = holder else {
            return Decision::Register(role);
        };
        let is_another = known.get(index).is_none_or(KnownRepo::is_home)
            || relations.get(index) == Some(&Relation::Reused);
        if !is_another {
            return Decision::Conflict { index };
        }
    }
    Decision::NoName
}

/// The decision that the repository is the one of this entry. Facts that can't be read now are recorded as before.
fn same(index: usize, known: &KnownRepo, mut record: Evidence, found: &Evidence) -> Decision {
    record.born = found.born.or(known.recorded.born);
    record.file_id = found.file_id.or(known.recorded.file_id);
    let record = (record != known.recorded).then_some(record);
    Decision::Same { index, record }
}
