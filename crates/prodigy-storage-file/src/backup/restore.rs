//! Restores an archive into a root.
//!
//! A whole archive is restored into an empty root. Its `format.json` says until the end that a restore is unfinished,
//! so no program opens it earlier. A job is restored beside others behind a tombstone: until the tombstone is removed,
//! the job is absent. If the process dies, the next write to the job or the next restore removes the partial data.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{
    Deadline, Durability, ErrorKind, FenceMarks, LockOptions, Moved, Result, StorageError, shell_flags,
    shell_operands,
};
use prodigy_storage_layout::{Document, Entry, JobAddress, Part, SegmentForm, Timestamp};

use super::RESTORE;
use super::job_of::{is_fencing, job_of};
use super::log_names::own_segment;
use super::verify::{Archived, Receiver, Verified, damaged};
use crate::backend::Stores;
use crate::fs::{CLOSED_MODE, SEALED_MODE, TEMP_PREFIX, UNLOCKED_MODE};
use crate::root::{self, LockedFile, Replace, Root, TempFile};

/// The largest number of bytes that are copied at once.
const CHUNK: usize = 256 << 10;

/// Restores a whole archive into an empty root.
pub(super) struct WholeRoot<'r> {
    root: &'r Root,
    archive: &'r Verified,
    folders: Folders<'r>,
    format: Vec<u8>,
    moved: u64,
    _lock: LockedFile<'r>,
}

impl<'r> WholeRoot<'r> {
    /// Marks an empty root as being restored. Continues if an earlier restore of this archive was interrupted there.
    pub(super) fn begin(root: &'r Root, archive: &'r Verified) -> Result<Self> {
        root::check_owner(root)?;
        let id = &archive.head.id;
        if root::unfinished_restore(root)?.as_ref() != Some(id) {
            let names = root.names_in(RESTORE, Path::new(""))?;
            if names.iter().any(|entry| !entry.name.starts_with(TEMP_PREFIX)) {
                return Err(refused(
                    root,
                    "the folder is not empty, and a whole archive is restored into an empty one",
                    "set another `base_dir`, or restore one job of the archive with `--job`",
                ));
            }
            root.fs
                .create_root()
                .map_err(|error| root.write_fault(RESTORE, Path::new(""), error))?;
            let text = root::restoring_text(id)?;
            write_text(root, &Entry::Format.path(), &text, Replace::Never)?;
        }
        root::enter(root)?;
        let lock = Entry::RegistryLock.path();
        let lock = LockedFile::take(root, &lock, RESTORE, RESTORE, Deadline::after(super::MOMENT))?;
        if root::unfinished_restore(root)?.as_ref() != Some(id) {
            return Err(refused(
                root,
                "another restore into it has begun",
                "look at what is in it",
            ));
        }
        Ok(Self {
            root,
            archive,
            folders: Folders::new(root),
            format: Vec::new(),
            moved: 0,
            _lock: lock,
        })
    }

    /// Ends the restore, so that the root can be opened. Returns the number of restored marks of moved parts.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.folders.finish()?;
        let path = Entry::Format.path();
        // The archive of a root of format 1 has no `format.json`: a new one is written.
        if self.format.is_empty() {
            self.format = root::format_text(&path, None)?;
        }
        write_text(self.root, &path, &self.format, Replace::Over)?;
        Ok(self.moved)
    }
}

impl Receiver for WholeRoot<'_> {
    fn file(&mut self, file: &Archived, contents: &mut dyn Read) -> Result<()> {
        let is_deleted = |job| self.archive.is_deleted(&job);
        if !is_fencing(&file.path) && job_of(&file.path).is_some_and(is_deleted) {
            return Ok(());
        }
        if file.path == Entry::Format.path() {
            return read_small(file, contents, &mut self.format);
        }
        if let Some(Entry::Moved(part)) = Entry::parse(&file.path) {
            self.moved += write_mark(self.root, &read_mark(file, contents, &part)?)?;
            return Ok(());
        }
        self.folders.write(file, contents)
    }
}

/// Restores one job into a root that may have other jobs.
pub(super) struct OneJob<'s> {
    store: &'s Stores,
    job: &'s JobAddress,
    folders: Folders<'s>,
    marks: Option<&'s FenceMarks>,
    moved: Option<Moved>,
    restored: Restored,
}

/// The number and size of the restored files of a job.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The number of restored marks that the job was moved.
    pub(super) moved: u64,
}

impl<'s> OneJob<'s> {
    /// Creates a tombstone, which hides the job during the restore. The caller holds the job's lock.
    pub(super) fn begin(
        store: &'s Stores,
        job: &'s JobAddress,
        marks: Option<&'s FenceMarks>,
        archive: &Verified,
    ) -> Result<Self> {
        let text = root::restoring_text(&archive.head.id)?;
        write_text(
            &store.root,
            &Entry::Tombstone(job.clone()).path(),
            &text,
            Replace::Over,
        )?;
        Ok(Self {
            store,
            job,
            folders: Folders::new(&store.root),
            marks,
            moved: None,
            restored: Restored::default(),
        })
    }

    /// Raises the job's fencing marks, and removes the tombstone, which hid the job during the restore.
    pub(super) fn finish(mut self) -> Result<Restored> {
        self.folders.finish()?;
        if let Some(marks) = self.marks {
            self.store.documents.include_marks(self.job, marks)?;
        }
        if let Some(moved) = self.moved.take() {
            let moved = Moved::new(Part::Job(self.job.clone()), moved.to, moved.at);
            self.restored.moved = write_mark(&self.store.root, &moved)?;
        }
        self.store.remove_tombstone(self.job)?;
        Ok(self.restored)
    }
}

impl Receiver for OneJob<'_> {
    fn file(&mut self, file: &Archived, contents: &mut dyn Read) -> Result<()> {
        let entry = Entry::parse(&file.path);
        if let Some(Entry::Moved(part)) = &entry {
            // The mark of the smallest part that contains the job counts; it comes last in the archive.
            if part.contains(&Part::Job(self.job.clone())) {
                self.moved = Some(read_mark(file, contents, part)?);
            }
            return Ok(());
        }
        // Also what no entry names: the mark of removed segments, and files of other programs.
        if job_of(&file.path).as_ref() != Some(self.job) {
            return Ok(());
        }
        self.restored.files += 1;
        self.restored.bytes += file.len;
        match entry {
            Some(Entry::Document(Document::Fencing(_))) => Ok(()),
            _ => self.folders.write(file, contents),
        }
    }
}

/// Raises the tokens of the named locks above the fencing marks. Otherwise the next holders would get tokens that are
/// refused.
pub(super) fn raise_locks(store: &Stores, marks: &FenceMarks) -> Result<()> {
    for (lock, mark) in marks.named() {
        if store.locks.newest_token(lock)? < mark {
            let moment = Deadline::after(super::MOMENT);
            let guard = store
                .locks
                .lock_above(lock, &LockOptions::new(RESTORE), mark, moment)?;
            guard.release()?;
        }
    }
    Ok(())
}

/// Fails if data of a job exists.
pub(super) fn refuse_existing(root: &Root, job: &JobAddress) -> Result<()> {
    if !root.has_data_of(RESTORE, job)? {
        return Ok(());
    }
    Err(StorageError::new(
        ErrorKind::Conflict,
        RESTORE,
        job,
        "the store has data of this job; nothing was changed",
    )
    .with_hint(format!(
        "if this restore was run before, it may have ended: restore the archive into another root (`--base-dir DIR`) and compare. To replace the \
         job, delete it first with `prodigy-storage job delete {} {}`",
        shell_flags([("--repo", job.repo.as_str())]),
        shell_operands([job.job.as_str()])
    )))
}

/// The folders that files are restored into. They are completed one at a time.
struct Folders<'r> {
    root: &'r Root,
    /// The folder that is being filled, and the newest mtime of the files restored into it.
    last: Option<(PathBuf, Timestamp)>,
}

impl<'r> Folders<'r> {
    fn new(root: &'r Root) -> Self {
        Self { root, last: None }
    }

    fn write(&mut self, file: &Archived, contents: &mut dyn Read) -> Result<()> {
        if file.len == 0 && is_segment(file) {
            // It could not be sealed: an empty segment that is sealed looks like one that lost its events.
            return Ok(());
        }
        let folder = file.path.parent().unwrap_or(Path::new(""));
        if self.last.as_ref().is_some_and(|(last, _)| last != folder) {
            self.finish()?;
        }
        if self.last.is_none() {
            TempFile::sweep_all(self.root, folder);
        }
        let mut temp = TempFile::create(self.root, RESTORE, folder)?;
        copy(contents, &mut temp)?;
        let prepared = temp
            .file()
            .set_mode(mode_of(file))
            .and_then(|()| temp.file().set_modified(file.modified));
        prepared.map_err(|error| temp.fault(error))?;
        temp.publish(&file.path, Replace::Over)?;
        let newest = self
            .last
            .take()
            .map_or(file.modified, |(_, newest)| newest.max(file.modified));
        self.last = Some((folder.to_owned(), newest));
        Ok(())
    }

    /// Syncs the names in the current folder. Sets the mtime of the folder to that of its newest file, since the store
    /// reads it as the time of the last write.
    fn finish(&mut self) -> Result<()> {
        let Some((folder, newest)) = self.last.take() else {
            return Ok(());
        };
        let set = self
            .root
            .fs
            .folder(&folder)
            .and_then(|opened| opened.set_modified(newest));
        set.map_err(|error| self.root.write_fault(RESTORE, &folder, error))?;
        self.root.sync_folder(&folder)
    }
}

/// True for a segment of ours that is not compressed.
fn is_segment(file: &Archived) -> bool {
    let name = file.path.file_name().and_then(|name| name.to_str());
    let segment = name.and_then(own_segment);
    segment.is_some_and(|(_, form)| form == SegmentForm::Plain)
}

/// The mode of a restored file. A segment that was open is closed, so that the next writer begins a new one, and a cursor
/// keeps its place in it: it may be longer in the store that was backed up, and in a later archive.
fn mode_of(file: &Archived) -> u32 {
    // No writer continues a sealed segment, or one that an earlier version wrote without locks.
    let is_final = matches!(file.mode & UNLOCKED_MODE, SEALED_MODE | UNLOCKED_MODE);
    match is_segment(file) && !is_final {
        true => CLOSED_MODE,
        false => file.mode & 0o700 | SEALED_MODE,
    }
}

fn copy(contents: &mut dyn Read, temp: &mut TempFile<'_>) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match contents.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged("the archive", "a file in it can't be read", Some(error))),
        };
        let bytes = chunk.get(..read).unwrap_or_default();
        temp.append(bytes).map_err(|error| temp.fault(error))?;
    }
}

/// Reads a small file of an archive into memory.
pub(super) fn read_small(file: &Archived, contents: &mut dyn Read, into: &mut Vec<u8>) -> Result<()> {
    const LARGEST: u64 = 1 << 20;
    let name = file.path.display().to_string();
    if file.len > LARGEST {
        return Err(damaged(&name, "it is too large", None));
    }
    into.clear();
    let read = contents.read_to_end(into);
    read.map(drop)
        .map_err(|error| damaged(&name, "it can't be read", Some(error)))
}

fn read_mark(file: &Archived, contents: &mut dyn Read, part: &Part) -> Result<Moved> {
    let mut text = Vec::new();
    read_small(file, contents, &mut text)?;
    let name = file.path.display().to_string();
    root::moved_in(part, &text).map_err(|error| damaged(&name, "it is no mark of a move", Some(error.into())))
}

/// Writes the mark that a part was moved, unless it was moved to this very root. Returns the number of marks written: 0
/// or 1.
fn write_mark(root: &Root, moved: &Moved) -> Result<u64> {
    if moved.to == root.options.root.display().to_string() {
        return Ok(0);
    }
    root.write_moved(RESTORE, moved)?;
    Ok(1)
}

fn write_text(root: &Root, path: &Path, text: &[u8], replace: Replace) -> Result<()> {
    TempFile::sweep_all(root, path.parent().unwrap_or(Path::new("")));
    TempFile::write_whole(root, RESTORE, path, &[text], replace, Durability::Strict)
}

fn refused(root: &Root, why: &'static str, hint: &'static str) -> StorageError {
    StorageError::new(ErrorKind::Refused, RESTORE, root.options.root.display(), why).with_hint(hint)
}
