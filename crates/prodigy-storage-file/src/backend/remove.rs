//! Removes the files of a job.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, ErrorKind, Result};
use prodigy_storage_layout::{
    Document, DocumentOwner, Entry, JobAddress, SegmentName, checkpoints_folder, documents_folder,
    events_folder, orphans_folder, queue_folder,
};

use super::delete::DELETE;
use super::stores::Stores;
use crate::fs::{DirEntry, FileKind, TEMP_PREFIX};
use crate::log::removed_mark::RemovedMark;
use crate::log::sealed_mark::SealedMark;
use crate::root::Root;

impl Stores {
    /// Removes the files of a job, and the tombstone last. The caller holds the locks of the job.
    pub(super) fn remove(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.remove_files(job, deadline)?;
        self.remove_tombstone(job)
    }

    pub(crate) fn remove_files(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        let root = &*self.root;
        // After an interrupted restore, the copied files of other programs are removed, too.
        let all = root.is_restored(job);
        if all {
            for folder in [queue_folder(job), checkpoints_folder(job), events_folder(job)] {
                remove_subfolders(root, &folder)?;
            }
        }
        let is_ours = |document: &Document| Ok(all || self.documents.is_ours(DELETE, document)?);
        let orphans = Document::Orphans(job.clone());
        if is_ours(&orphans)? {
            let folder = orphans_folder(&job.repo);
            // Syncs the folder even if the file is already absent: the process that removed it may have died before its
            // sync.
            if root.unlink(DELETE, &orphans.path())? || root.fs.metadata(&folder).is_ok() {
                root.sync_folder(&folder)?;
            }
        }
        let is_temporary = |name: &str| name.starts_with(TEMP_PREFIX);
        let queue = all || self.queues.is_ours(DELETE, job)?;
        remove_folder(root, &queue_folder(job), &|entry| {
            Ok(match Entry::parse(&queue_folder(job).join(&entry.name)) {
                Some(Entry::Queue(_)) => queue,
                Some(_) => true,
                None => all || is_temporary(&entry.name),
            })
        })?;
        let own = documents_folder(&DocumentOwner::Job(job.clone()));
        for kind in root.names_in(DELETE, &own)? {
            remove_folder(root, &own.join(&kind.name), &|entry| match Entry::parse(
                &own.join(&kind.name).join(&entry.name),
            ) {
                Some(Entry::Document(document)) => is_ours(&document),
                _ => Ok(is_temporary(&entry.name)),
            })?;
        }
        remove_folder(root, &own, &|_| Ok(false))?;
        remove_folder(root, &checkpoints_folder(job), &|entry| {
            match Document::in_checkpoints_or_packed(job, &entry.name) {
                // The fencing marks outlast the job, so that a holder of an old token can't write to a new job of this
                // name.
                Some(Document::Fencing(_)) => Ok(false),
                Some(document) => is_ours(&document),
                None => Ok(all || is_temporary(&entry.name)),
            }
        })?;
        // The note needs disk space, so it is written after the removals above, which free some.
        if let Some(made) = self.logs.newest_made(job, deadline)? {
            let note = || root.note_deleted(DELETE, &job.repo, made, deadline);
            match note() {
                Err(error) if error.kind() == ErrorKind::DiskFull => {
                    self.logs.empty_segments(job, deadline)?;
                    note()?;
                }
                noted => noted?,
            }
        }
        remove_folder(root, &events_folder(job), &|entry| {
            let segment = SegmentName::parse(&entry.name);
            let is_segment = segment.is_some_and(|(name, _)| name.is_canonical());
            let is_mark =
                SealedMark::parse(&entry.name).is_some() || RemovedMark::parse(&entry.name).is_some();
            Ok(all || is_segment || is_mark || is_temporary(&entry.name))
        })
    }

    /// Removes the tombstone, after which the job can be seen or created. The caller holds the locks of the job.
    pub(crate) fn remove_tombstone(&self, job: &JobAddress) -> Result<()> {
        let tombstone = Entry::Tombstone(job.clone()).path();
        self.root.unlink(DELETE, &tombstone)?;
        // Syncs while the locks are held. If a power loss brought the tombstone back, everything written after this
        // point would be removed as well.
        self.root.sync_folder(tombstone.parent().unwrap_or(Path::new("")))
    }
}

/// Removes our files from a folder, and the folder itself if it is then empty. Files of other programs stay, and links
/// are not followed.
pub(super) fn remove_folder(
    root: &Root,
    folder: &Path,
    is_ours: &dyn Fn(&DirEntry) -> Result<bool>,
) -> Result<()> {
    let mut is_any_left = false;
    for entry in root.names_in(DELETE, folder)? {
        match entry.kind == FileKind::File && is_ours(&entry)? {
            true => drop(root.unlink(DELETE, &folder.join(&entry.name))?),
            false => is_any_left = true,
        }
    }
    if is_any_left {
        return root.sync_folder(folder);
    }
    match root.fs.remove_dir(folder) {
        Ok(()) => root.sync_folder(folder.parent().unwrap_or(Path::new(""))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The folder holds a file that the listing skipped, because its name is not Unicode.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => root.sync_folder(folder),
        Err(error) => Err(root.write_fault(DELETE, folder, error)),
    }
}

/// Removes the folders below a folder, with all files in them.
fn remove_subfolders(root: &Root, folder: &Path) -> Result<()> {
    for entry in root.names_in(DELETE, folder)? {
        if entry.kind == FileKind::Folder {
            let below = folder.join(&entry.name);
            remove_subfolders(root, &below)?;
            remove_folder(root, &below, &|_| Ok(true))?;
        }
    }
    Ok(())
}
