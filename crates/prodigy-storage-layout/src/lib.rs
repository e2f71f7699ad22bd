//! Names, typed addresses, paths and repository identity of Prodigy storage.
//!
//! A storage root contains the data of the jobs of many repositories. This crate defines the names and the paths of that
//! data, and nothing else:
//!
//! - **names** ([`RepoName`], [`JobId`], [`SessionId`], [`AgentId`], [`LockName`]) are validated when they are created, and
//!   are then safe as a part of a path;
//! - **addresses** ([`JobAddress`], [`Document`], [`SegmentName`]) identify stored data, and a [`DocumentScope`] defines
//!   which documents a listing covers;
//! - an [`Entry`] is a file or folder with a fixed path: [`Entry::path`] returns the path relative to the root, and
//!   [`Entry::parse`] parses a path;
//! - a [`Timestamp`] has a text form that sorts like the time, and a [`Stamp`] is a timestamp in a file name, in this form
//!   or in that of another program;
//! - an [`Identity`] identifies the git repository that a folder belongs to, and is the same from each of its worktrees.
//!
//! # Limitations
//!
//! - Nothing here touches the file system except [`Identity::at`], which only reads.
//! - Two names that differ only in case are different here. On a file system that ignores case they share a folder, so
//!   the code that creates folders has to distinguish them.
//! - Names are checked against one version of Unicode: newer characters are refused as unassigned.
//! - A [`Timestamp`] is between 1970 and 2262.
//! - An identity describes the files at the time of the call. [`decide`] finds its entry in a registry from [`Evidence`].
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//! use prodigy_storage_layout::{Document, Entry, JobAddress, JobId, Phase, RepoName, Stamp, Timestamp};
//!
//! let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
//! let stamp = Stamp::from(Timestamp::from_millis(1_763_192_166_123));
//! let entry = Entry::Document(Document::checkpoint(&job, Phase::Map, stamp));
//!
//! let path = Path::new(
//!     "state/shop/mapreduce/jobs/mapreduce-7/map-checkpoint-20251115T073606.123000000Z.json",
//! );
//! assert_eq!(entry.path(), path);
//! assert_eq!(Entry::parse(path), Some(entry));
//!
//! let refused = JobId::new("../../etc").unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     r#"job id "../../etc" is refused: it holds the path separator `/` at byte 2"#,
//! );
//! # Ok::<(), prodigy_storage_layout::NameError>(())
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod address;
mod decision;
mod document;
mod entry;
mod evidence;
mod folder;
mod git_config;
mod git_dir;
mod identity;
mod name;
mod name_error;
mod name_rule;
mod origin;
mod phase;
mod segment;
mod stamp;
mod suggested;
mod time;
mod time_text;
mod worktree;

pub use address::{JobAddress, Part};
pub use decision::{Decision, KnownRepo, NameRole, Present, decide};
pub use document::{Document, DocumentOwner, DocumentScope};
pub use entry::Entry;
pub use evidence::{Evidence, Relation};
pub use folder::{
    DELETIONS, DLQ, DOCUMENTS, EVENTS, Folder, IMPORTED, LOCKS, MOVED, ORPHANED, QUARANTINE, STATE,
    WORKTREES, all_moved_jobs_folder, checkpoints_folder, documents_folder, events_folder, jobs_folder,
    locks_folder, moved_jobs_folder, moved_repositories_folder, orphans_folder, quarantine_folder,
    queue_folder, repo_events_folder, repo_queues_folder, state_folder, state_locks_folder,
    tombstones_folder, worktrees_folder,
};
pub use identity::{Ceilings, Identity, IdentityError, IdentityKind};
pub use name::{AgentId, CheckpointKey, DocumentKind, DocumentName, JobId, LockName, RepoName, SessionId};
pub use name_error::{NameError, NameProblem};
pub use phase::{Phase, PhaseError, PhaseName};
pub use segment::{SegmentForm, SegmentName};
pub use stamp::Stamp;
pub use time::{Timestamp, TimestampError};
