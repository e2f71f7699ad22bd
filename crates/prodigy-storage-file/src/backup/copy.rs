//! Copies a root to an archive, without a lock and without a write to the root.
//!
//! Documents and queues are copied first, then logs, then fencing marks and named locks. So the copy is a state that a
//! crash could have left: no cursor points past the end of its log, and no document has a token above its fencing mark.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prodigy_storage_backend::record::Checksum;
use prodigy_storage_backend::{Deadline, ErrorKind, Moved, Result, StorageError, StreamedLine};
use prodigy_storage_layout::{
    DELETIONS, DLQ, Document, EVENTS, Entry, IMPORTED, JobAddress, LOCKS, ORPHANED, QUARANTINE, STATE,
    SegmentForm, Timestamp, checkpoints_folder, events_folder, orphans_folder, queue_folder,
};
use tempfile::SpooledTempFile;

use super::archive::{ArchiveWriter, Failed, FileHead, IN_MEMORY, unwritten};
use super::job_of::{is_fencing, job_of, may_be_archived};
use super::log_names::{Kept, LogNames, own_segment};
use super::{BACKUP, MOMENT};
use crate::backend::Stores;
use crate::fs::{DirEntry, FileKind, FileRead, FsFile, Metadata, OpenMode};
use crate::log::folder::wait_until_free;
use crate::log::listing;
use crate::log::segment_ref::SegmentRef;
use crate::log::source;
use crate::log::tail::whole_lines;
use crate::root::{self, FolderId, InTheWay, io_cause, is_misplaced};

/// The largest depth of folders that are copied; the layout has no deeper ones.
const DEEPEST: usize = 32;

/// A copy in progress.
pub(super) struct Copy<'c, 'w> {
    store: &'c Stores,
    archive: ArchiveWriter<'w>,
    job: Option<&'c JobAddress>,
    /// The jobs of which a file was copied, each with the identity of its log's folder at that time.
    jobs: HashMap<JobAddress, Option<FolderId>>,
    /// The number of damaged places: damaged items of queues, which are left out, and damaged events, which are copied
    /// unchanged.
    damaged: u64,
    /// The paths that are left out, with a description each: links, other things at the path of a file, and files and
    /// folders that this process may not read.
    left_out: Vec<String>,
    in_the_way: InTheWay,
}

/// The result of a copy, with everything that it left out.
pub(super) struct Copied<'w> {
    pub(super) archive: ArchiveWriter<'w>,
    pub(super) damaged: u64,
    pub(super) left_out: Vec<String>,
}

/// A reader of a segment's bytes that counts the damaged lines it passes on.
struct Lines<R> {
    from: R,
    line: StreamedLine,
    damaged: u64,
}

impl<R> Lines<R> {
    fn of(from: R) -> Self {
        Self {
            from,
            line: StreamedLine::default(),
            damaged: 0,
        }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let mut bytes = buffer.get(..read).unwrap_or_default();
        while let Some((line, rest)) =
            memchr::memchr(b'\n', bytes).and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)))
        {
            self.line.push(line);
            let line = std::mem::take(&mut self.line);
            self.damaged += u64::from(match line.check(<[u8]>::trim_ascii_end).0 {
                Checksum::Valid => false,
                // A line without a checksum is damaged if it has the form of our events; otherwise another program
                // wrote it.
                Checksum::Missing => line.event().is_some(),
                Checksum::Mismatch => true,
            });
            bytes = rest;
        }
        self.line.push(bytes);
        Ok(read)
    }
}

impl<'c, 'w> Copy<'c, 'w> {
    pub(super) fn new(store: &'c Stores, archive: ArchiveWriter<'w>, job: Option<&'c JobAddress>) -> Self {
        Self {
            store,
            archive,
            job,
            jobs: HashMap::new(),
            damaged: 0,
            left_out: Vec::new(),
            in_the_way: InTheWay::default(),
        }
    }

    /// Copies the root, or the job.
    pub(super) fn run(mut self, moved: &[Moved]) -> Result<Copied<'w>> {
        self.file(&Entry::Format.path())?;
        for moved in moved {
            self.mark(moved)?;
        }
        let (documents, logs): (Vec<PathBuf>, PathBuf) = match self.job {
            Some(job) => (
                vec![queue_folder(job), checkpoints_folder(job)],
                events_folder(job),
            ),
            None => ([DLQ, STATE, ORPHANED].map(PathBuf::from).into(), EVENTS.into()),
        };
        let mut marks = Vec::new();
        for folder in &documents {
            if !self.is_folder(folder)? {
                continue;
            }
            self.walk(folder, 0, &mut |copy, path| match Entry::parse(path) {
                Some(Entry::Document(Document::Fencing(_))) => {
                    marks.push(path.to_owned());
                    Ok(true)
                }
                Some(Entry::Queue(job)) => copy.queue(&job).map(|()| true),
                Some(Entry::QueueJournal(job)) if copy.has_queue(&job)? => Ok(true),
                _ => copy.file(path),
            })?;
        }
        if let Some(job) = self.job {
            let orphans = Document::Orphans(job.clone()).path();
            debug_assert!(orphans.starts_with(orphans_folder(&job.repo)));
            self.file(&orphans)?;
        }
        if self.is_folder(&logs)? {
            self.logs(&logs, 0)?;
        }
        for path in marks {
            self.file(&path)?;
        }
        if self.job.is_none() {
            for folder in [LOCKS, DELETIONS, IMPORTED, QUARANTINE].map(Path::new) {
                if self.is_folder(folder)? {
                    self.walk(folder, 0, &mut |copy, path| copy.file(path))?;
                }
            }
        }
        for path in std::mem::take(&mut self.in_the_way).files() {
            self.leave_out(&path);
        }
        self.find_deleted()?;
        let closing = &mut self.archive.closing;
        closing.jobs = (self.jobs.len() - closing.deleted.len()) as u64;
        Ok(Copied {
            archive: self.archive,
            damaged: self.damaged,
            left_out: self.left_out,
        })
    }

    /// True if the copy leaves out this entry: a link, or an entry of the wrong kind for its path. It is then added to
    /// the list for the report.
    fn leaves_out(&mut self, path: &Path, kind: FileKind) -> bool {
        let is_left_out = kind == FileKind::Other || is_misplaced(path, kind);
        match is_left_out {
            true => self.leave_out(path),
            false => self.in_the_way.add(path, kind),
        }
        is_left_out
    }

    fn leave_out(&mut self, path: &Path) {
        let root = &self.store.root;
        let what = root.describe_misplaced(path);
        self.left_out
            .push(format!("{}: {what}", root.absolute(path).display()));
    }

    /// Leaves out a file or folder that this process may not read, and reports it. In an archive of one job, this is an
    /// error instead.
    fn leave_out_refused(&mut self, path: &Path, error: StorageError) -> Result<()> {
        if self.job.is_some() || !is_refused(&error) {
            return Err(error);
        }
        let what = format!("{}: {}", self.store.root.absolute(path).display(), error.why());
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
        Ok(())
    }

    /// The entries of a folder. If the folder is left out, no entries.
    fn names_in(&mut self, folder: &Path) -> Result<Vec<DirEntry>> {
        match self.store.root.names_in(BACKUP, folder) {
            Ok(names) => Ok(names),
            Err(error) => self.leave_out_refused(folder, error).map(|()| Vec::new()),
        }
    }

    /// True if a top-level folder exists. Anything else at its path is added to the list of what is left out.
    fn is_folder(&mut self, path: &Path) -> Result<bool> {
        match self.store.root.fs.metadata(path) {
            Ok(found) => Ok(!self.leaves_out(path, found.kind) && found.kind == FileKind::Folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.store.root.read_fault(BACKUP, path, error)),
        }
    }

    /// Calls `copy` with each file below a folder, except files of jobs that are being deleted. Their fencing marks
    /// are copied, since they outlive the job.
    ///
    /// If `copy` returns false, the file is gone. The folder is then listed again: what was deleted may have been
    /// replaced by a new file, as a checkpoint is by the next one.
    fn walk(
        &mut self,
        folder: &Path,
        depth: usize,
        copy: &mut dyn FnMut(&mut Self, &Path) -> Result<bool>,
    ) -> Result<()> {
        let (mut seen, mut is_whole) = (BTreeSet::new(), false);
        while !is_whole {
            is_whole = true;
            let mut entries = self.names_in(folder)?;
            entries.retain(|entry| seen.insert(entry.name.clone()));
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                let path = folder.join(&entry.name);
                match entry.kind {
                    kind if self.leaves_out(&path, kind) => {}
                    FileKind::Folder if depth < DEEPEST => self.walk(&path, depth + 1, copy)?,
                    FileKind::File
                        if may_be_archived(&path) && (is_fencing(&path) || self.begins(job_of(&path))?) =>
                    {
                        is_whole &= copy(self, &path)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Records that a file of a job is copied. Returns false if the job is being deleted.
    fn begins(&mut self, job: Option<JobAddress>) -> Result<bool> {
        let Some(job) = job else {
            return Ok(true);
        };
        if self.store.root.is_deleted(BACKUP, &job)? {
            return Ok(false);
        }
        if !self.jobs.contains_key(&job) {
            let log = self.log_folder(&job)?;
            self.jobs.insert(job, log);
        }
        Ok(true)
    }

    fn log_folder(&self, job: &JobAddress) -> Result<Option<FolderId>> {
        let folder = events_folder(job);
        match self.store.root.folder_id(&folder) {
            Ok(found) => Ok(Some(found)),
            // A file at the path of the folder is left out of the copy and reported.
            Err(error) if is_no_folder(&error) => Ok(None),
            // This user may not search the folder above. That folder is left out and reported.
            Err(error) if self.job.is_none() && error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(self.store.root.read_fault(BACKUP, &folder, error)),
        }
    }

    /// Lists the jobs that were deleted after their first file was copied, even if they exist again.
    fn find_deleted(&mut self) -> Result<()> {
        for (job, log) in &self.jobs {
            let is_gone = self.store.root.is_deleted(BACKUP, job)?
                || (log.is_some() && self.log_folder(job)? != *log)
                || match self.store.is_anything_of(BACKUP, job) {
                    Err(error) if self.job.is_none() && is_refused(&error) => false,
                    found => !found?,
                };
            if is_gone {
                self.archive.closing.deleted.push(job.into());
            }
        }
        Ok(())
    }

    /// True if the queue of a job has a file of items. Its journal is then copied with the items.
    fn has_queue(&mut self, job: &JobAddress) -> Result<bool> {
        let path = Entry::Queue(job.clone()).path();
        let left_out = self.left_out.len();
        Ok(self.open(&path)?.is_some() || self.left_out.len() > left_out)
    }

    /// Copies the items and the journal of a queue. Leaves out leases, which are valid only in their own store.
    fn queue(&mut self, job: &JobAddress) -> Result<()> {
        let items = Entry::Queue(job.clone()).path();
        let mut copied = SpooledTempFile::new(IN_MEMORY);
        let Some((_, found)) = self.open(&items)? else {
            return Ok(());
        };
        let copy = match self.store.queues.copy(job, &mut copied, Deadline::never()) {
            Ok(Some(copy)) => copy,
            Ok(None) => return self.file(&items).map(drop),
            Err(error) => return self.leave_out_refused(&items, error),
        };
        self.damaged += copy.damaged;
        let journal = Entry::QueueJournal(job.clone()).path();
        let changed = self.open(&journal)?.map(|(_, journal)| journal.modified);
        let modified = changed.unwrap_or(found.modified).max(found.modified);
        let len = copied.stream_position().map_err(unwritten)?;
        copied.seek(SeekFrom::Start(0)).map_err(unwritten)?;
        self.add(&FileHead::of_text(&items, modified, len), copied)?;
        let head = FileHead::of_text(&journal, modified, copy.journal.len() as u64);
        self.add(&head, copy.journal.as_slice())
    }

    /// Copies the logs below a folder.
    fn logs(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let mut names = self.names_of_log(folder)?;
        for (name, kind) in names.all() {
            let path = folder.join(name);
            if !self.leaves_out(&path, kind) && kind == FileKind::Folder && depth < DEEPEST {
                self.logs(&path, depth + 1)?;
            }
        }
        while !self.log(folder, &names)? {
            names = self.names_of_log(folder)?;
        }
        Ok(())
    }

    /// Lists the folder of a log. If a removal of old events is under way there, waits for its end: none of the listed
    /// segments is about to be unlinked.
    fn names_of_log(&mut self, folder: &Path) -> Result<LogNames> {
        let mut before = None;
        loop {
            let names = self.list_log(folder)?;
            let (root, moment) = (&self.store.root, Deadline::after(MOMENT));
            // A removal that died left such segments too, and so did a person who copied a mark. They are copied as they are.
            let hides =
                || listing::list(root, folder, moment).is_ok_and(|listed| !listed.leftovers.is_empty());
            let marks = names.marks();
            if before.as_ref() == Some(&marks) || marks.is_empty() || !hides() {
                return Ok(names);
            }
            wait_until_free(root, folder, moment);
            before = Some(marks);
        }
    }

    /// Lists the folder of a log at least twice: while a segment is compressed, one pass may miss both of its names, and while
    /// a mark of removed segments is replaced, both of its names.
    fn list_log(&mut self, folder: &Path) -> Result<LogNames> {
        let mut names = LogNames::default();
        loop {
            let pass = self.names_in(folder)?;
            if names.add(pass) {
                return Ok(names);
            }
        }
    }

    /// Copies the files in the folder of a log. The segments come from the newest to the oldest, and then the marks of
    /// removed ones. A removal of old events takes the oldest ones first, so what it leaves of the copy has no hole: the copy
    /// ends where the first segment is gone, and gets a mark that says so. Returns false if the removal took all segments
    /// of which the names were listed: newer ones are there.
    fn log(&mut self, folder: &Path, names: &LogNames) -> Result<bool> {
        let (store, job) = (self.store, job_of(&folder.join("file")));
        let mut files = names
            .files(folder)
            .filter(|(path, _)| may_be_archived(path))
            .peekable();
        let is_nothing = files.peek().is_none() && names.marks().is_empty();
        if is_nothing || !self.begins(job.clone())? {
            return Ok(true);
        }
        // Reads the lengths of all segments before any contents, so that the copy never has an event without those
        // stored before it.
        let (mut segments, mut others) = (BTreeMap::new(), BTreeMap::new());
        for (path, name) in files {
            let compressed = path.with_extension("jsonl.zst");
            let found = match self.open(&path)? {
                Some((_, found)) => Some((path.clone(), found.len)),
                None => self.open(&compressed)?.map(|(_, found)| (compressed, found.len)),
            };
            let (path, len) = found.map_or((path, None), |(path, len)| (path, Some(len)));
            match (own_segment(name), len) {
                (Some((name, _)), len) => {
                    segments.entry((name.made(), path)).or_insert((name, len));
                }
                (None, Some(len)) => {
                    others.entry(path).or_insert(len);
                }
                (None, None) => {}
            }
        }
        let (mut kept, mut cut) = (Kept::default(), None);
        for ((made, path), (name, len)) in segments.iter().rev() {
            let copied = match len {
                Some(len) => self.segment(path, *len)?,
                None => None,
            };
            if let Some((len, modified)) = copied {
                kept.add(*made, len, modified);
            } else if !kept.has(*made)
                && names.removal_of(*made).is_none()
                && SegmentRef::new(&store.root, folder, name).is_gone()
            {
                if let Some(mark) = self.list_log(folder)?.removal_of(*made) {
                    cut = Some((mark, *made));
                    break;
                }
                if let Some(job) = &job
                    && store.root.is_deleted(BACKUP, job)?
                {
                    return Ok(true);
                }
            }
        }
        if cut.is_some() && kept.is_empty() {
            return Ok(false);
        }
        for (path, len) in others {
            self.segment(&path, len)?;
        }
        let marks = match cut {
            Some((mark, up_to)) => vec![kept.mark_of(mark, up_to)],
            None => names.marks_beside(&kept),
        };
        for mark in marks {
            let path = mark.path(folder);
            match self.open(&path)? {
                Some((file, found)) => self.copy_of(&path, &*file, &found)?,
                None => self.add(&FileHead::of_text(&path, kept.modified(), 0), io::empty())?,
            }
        }
        Ok(true)
    }

    /// Adds the mark that a part was moved to another store.
    fn mark(&mut self, moved: &Moved) -> Result<()> {
        let path = Entry::Moved(moved.part.clone()).path();
        let text = root::moved_text(BACKUP, &path, moved)?;
        self.add(
            &FileHead::of_text(&path, moved.at, text.len() as u64),
            text.as_slice(),
        )
    }

    /// Copies the whole records in the first `len` bytes of a segment. A record that is still being written is left
    /// out. Returns the length of the copy and the mtime; `None` if the segment does not exist or is left out.
    fn segment(&mut self, path: &Path, len: u64) -> Result<Option<(u64, Timestamp)>> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some((file, found)) = self.open(path)? else {
            let packed = path.with_extension("jsonl.zst");
            return match self.open(&packed)? {
                Some(_) => self.segment(&packed, len),
                None => Ok(None),
            };
        };
        let whole = Some((found.len, found.modified));
        match own_segment(name) {
            Some((_, SegmentForm::Plain)) => {}
            Some((name, form)) => {
                self.copy_of(path, &*file, &found)?;
                let folder = path.parent().unwrap_or(Path::new(""));
                let segment = SegmentRef::new(&self.store.root, folder, &name);
                self.damaged += damaged_when_unpacked(segment, file, form)?;
                return Ok(whole);
            }
            None => return self.copy_of(path, &*file, &found).map(|()| whole),
        }
        let fault = |error| self.store.root.read_fault(BACKUP, path, error);
        let (end, lacks_line_end) = whole_lines(&*file, len.min(found.len)).map_err(fault)?;
        let head = FileHead {
            path,
            mode: found.mode,
            modified: found.modified,
            len: end + u64::from(lacks_line_end),
        };
        let line_end = if lacks_line_end { &b"\n"[..] } else { b"" };
        let mut lines = Lines::of(FileRead::new(&*file, 0).take(end).chain(line_end));
        self.add(&head, &mut lines)?;
        self.damaged += lines.damaged;
        Ok(Some((head.len, head.modified)))
    }

    /// Copies a file unchanged. Also tries the name of a document's compressed form. Returns false if the file is gone or left
    /// out.
    fn file(&mut self, path: &Path) -> Result<bool> {
        if let Some((file, found)) = self.open(path)? {
            return self.copy_of(path, &*file, &found).map(|()| true);
        }
        if let Some(Entry::Document(document)) = Entry::parse(path)
            && document.may_be_packed()
            && let Some((file, found)) = self.open(&document.packed_path())?
        {
            return self
                .copy_of(&document.packed_path(), &*file, &found)
                .map(|()| true);
        }
        Ok(false)
    }

    fn copy_of(&mut self, path: &Path, file: &dyn FsFile, found: &Metadata) -> Result<()> {
        let head = FileHead {
            path,
            mode: found.mode,
            modified: found.modified,
            len: found.len,
        };
        self.add(&head, FileRead::new(file, 0))
    }

    /// Opens a file. `None` if it does not exist or is left out.
    fn open(&mut self, path: &Path) -> Result<Option<(Box<dyn FsFile>, Metadata)>> {
        let opened = self.store.root.fs.open(path, OpenMode::Read);
        match opened.and_then(|file| file.metadata().map(|found| (file, found))) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let error = self.store.root.read_fault(BACKUP, path, error);
                self.leave_out_refused(path, error).map(|()| None)
            }
        }
    }

    fn add(&mut self, head: &FileHead<'_>, contents: impl Read) -> Result<()> {
        self.archive.add(head, contents).map_err(|failed| match failed {
            Failed::Archive(error) => error,
            Failed::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => StorageError::new(
                ErrorKind::Conflict,
                BACKUP,
                self.store.root.absolute(head.path).display(),
                "the file became shorter while it was copied",
            )
            .with_hint("make the backup again; if a repair is under way, after it"),
            Failed::Source(error) => self.store.root.read_fault(BACKUP, head.path, error),
        })
    }
}

/// The number of damaged places in a compressed segment: its damaged events, and one more if it does not decompress to its end.
/// A build that can't decompress counts none.
fn damaged_when_unpacked(segment: SegmentRef<'_>, file: Box<dyn FsFile>, form: SegmentForm) -> Result<u64> {
    let from = match source::decode(segment, file, form) {
        Ok(from) => from,
        Err(error) => {
            return match error.kind() {
                ErrorKind::Unsupported => Ok(0),
                ErrorKind::Damaged => Ok(1),
                _ => Err(error),
            };
        }
    };
    let mut lines = Lines::of(from);
    match io::copy(&mut lines, &mut io::sink()) {
        Ok(_) => Ok(lines.damaged),
        // An error of the system itself has a number.
        Err(error) if error.raw_os_error().is_none() => Ok(lines.damaged + 1),
        Err(error) => Err(segment.root.read_fault(BACKUP, &segment.path(form), error)),
    }
}

/// True if the operating system denied this process access.
fn is_refused(error: &StorageError) -> bool {
    io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
