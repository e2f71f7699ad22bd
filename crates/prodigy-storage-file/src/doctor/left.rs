//! Finds the files that a deletion leaves in the folders of a job.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::Result;
use prodigy_storage_layout::{
    Document, DocumentOwner, Entry, JobAddress, checkpoints_folder, documents_folder, events_folder,
    queue_folder,
};

use super::Parts;
use crate::fs::{DirEntry, FileKind, TEMP_PREFIX};
use crate::log::removed_mark::RemovedMark;
use crate::log::sealed_mark::SealedMark;

const LOOK: &str = "look for files that stay";

/// The contents of the folders of a job: before its deletion, what that will leave; after it, what it left.
///
/// ```
/// use prodigy_storage_file::{Doctor, FileOptions};
/// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
///
/// let folder = tempfile::tempdir()?;
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let left = Doctor::new(FileOptions::new(folder.path()))?.left_of(&job)?;
/// assert!(left.foreign.is_empty() && !left.begun_again);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftovers {
    /// The absolute paths, sorted, of the files and empty folders that the store did not write. No deletion removes them.
    pub foreign: Vec<PathBuf>,
    /// The bytes of those of these files that readers of the store read, and count as data of the job.
    pub foreign_bytes: u64,
    /// True if there is data of the store: after a deletion, a process has begun the job again.
    pub begun_again: bool,
}

impl Leftovers {
    /// True if there are files of other programs, and no data of the store: a deletion has nothing to remove.
    #[must_use]
    pub fn is_only_foreign(&self) -> bool {
        !self.foreign.is_empty() && !self.begun_again
    }
}

/// The writer of a file in the folders of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The store, as data of the job.
    Store,
    /// The store, and a deletion may leave it: a fencing mark, a lock file.
    Kept,
    /// Another program.
    Other,
}

pub(super) fn left_of(parts: &Parts, job: &JobAddress) -> Result<Leftovers> {
    let root = &parts.root;
    let (log, state) = (events_folder(job), checkpoints_folder(job));
    let own = documents_folder(&DocumentOwner::Job(job.clone()));
    let mut folders = vec![log, queue_folder(job), state];
    let areas = folders.clone();
    let mut left = Leftovers::default();
    while let Some(folder) = folders.pop() {
        let entries = root.names_in(LOOK, &folder)?;
        let bytes = match root.fs.names_of_bytes(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(root.read_fault(LOOK, &folder, error)),
        };
        if entries.is_empty() && bytes.is_empty() && !areas.contains(&folder) && !folder.starts_with(&own) {
            left.foreign.push(root.absolute(&folder));
        }
        left.foreign
            .extend(bytes.iter().map(|name| root.absolute(&folder.join(name))));
        for entry in entries {
            let path = folder.join(&entry.name);
            if entry.kind == FileKind::Folder {
                folders.push(path);
                continue;
            }
            match owner(parts, job, &path, &entry)? {
                Owner::Store => left.begun_again = true,
                Owner::Kept => {}
                Owner::Other => {
                    left.foreign_bytes += counted(parts, &path);
                    left.foreign.push(root.absolute(&path));
                }
            }
        }
    }
    let orphans = Document::Orphans(job.clone());
    if root.fs.metadata(&orphans.path()).is_ok() {
        match parts.documents.is_ours(LOOK, &orphans)? {
            true => left.begun_again = true,
            false => left.foreign.push(root.absolute(&orphans.path())),
        }
    }
    left.foreign.sort();
    Ok(left)
}

/// The bytes that the size of a job has of a file of another program.
fn counted(parts: &Parts, path: &Path) -> u64 {
    let is_counted = match Entry::parse(path) {
        Some(Entry::Segment(..) | Entry::Queue(_)) => true,
        Some(Entry::Document(document) | Entry::Compressed(document)) => document.phase().is_some(),
        _ => false,
    };
    match parts.root.fs.metadata(path) {
        Ok(found) if is_counted => found.len,
        _ => 0,
    }
}

/// Finds the owner by the name, and only where another program may use the same name by the content.
fn owner(parts: &Parts, job: &JobAddress, path: &Path, entry: &DirEntry) -> Result<Owner> {
    // The store makes no links.
    if entry.kind != FileKind::File {
        return Ok(Owner::Other);
    }
    if entry.name.starts_with(TEMP_PREFIX) {
        return Ok(Owner::Store);
    }
    let is_ours = match Entry::parse(path) {
        Some(Entry::Segment(_, name, _)) => name.is_canonical(),
        Some(Entry::QueueLock(_) | Entry::Document(Document::Fencing(_))) => return Ok(Owner::Kept),
        Some(Entry::Queue(_)) => parts.queues.is_ours(LOOK, job)?,
        Some(Entry::Document(document) | Entry::Compressed(document)) => {
            parts.documents.is_ours(LOOK, &document)?
        }
        Some(_) => true,
        None => {
            path.parent() == Some(&events_folder(job))
                && (SealedMark::parse(&entry.name).is_some() || RemovedMark::parse(&entry.name).is_some())
        }
    };
    Ok(match is_ours {
        true => Owner::Store,
        false => Owner::Other,
    })
}
