//! The log of a job: `events/{repo}/{job}/events-….jsonl`.

mod active;
mod adopt;
pub(crate) mod archive;
pub(crate) mod clock;
mod commit;
mod covered;
mod cursor;
pub(crate) mod folder;
mod idempotent;
mod lacks;
pub(crate) mod listing;
mod merge;
mod moved;
mod newest;
mod persist;
mod removal;
pub(crate) mod removed_mark;
mod replay_filter;
mod resume;
mod salvage;
pub(crate) mod sealed_mark;
pub(crate) mod search;
pub(crate) mod segment;
mod segment_index;
pub(crate) mod segment_ref;
pub(crate) mod source;
mod sync;
pub(crate) mod tail;
#[cfg(all(test, feature = "compression"))]
mod tests;
mod writer;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::record::RECORD_OVERHEAD;
use prodigy_storage_backend::{
    AppendOptions, Appended, Batch, Cursor, Deadline, ErrorKind, EventId, LogSummary, Result, Scan,
    ScanOptions, StorageError,
};
use prodigy_storage_layout::{Entry, JobAddress, SegmentForm, SegmentName, Timestamp, events_folder};

use crate::fs::{FsFile, FsFolder, Metadata, OpenMode};
use crate::root::holder::{describe_unsigned, process};
use crate::root::{LockNow, Root};
use archive::Archive;
use folder::LockedFolder;
pub(crate) use lacks::Extent;
use listing::Forms;
pub(crate) use writer::HELD;
use writer::LogWriter;

/// The counts and times of a log.
#[derive(Debug, Default)]
pub(crate) struct LogSurvey {
    pub(crate) summary: LogSummary,
    /// A writer that has a segment open.
    pub(crate) writer: Option<OpenLog>,
    pub(crate) last_write: Option<Timestamp>,
}

/// A log that a writer has open.
#[derive(Debug)]
pub(crate) enum OpenLog {
    /// By this process.
    Here,
    /// By any process, which has locked this segment.
    Locked(SegmentName),
}

/// The number of idle logs that are kept open for writing.
const MOST_WRITERS: usize = 128;

/// The locks on a log's folder and segments. No process writes to the log until this is dropped.
#[derive(Debug)]
pub(crate) struct LockedLog {
    _folder: LockedFolder,
    _segments: Vec<Box<dyn FsFile>>,
}

/// The logs of a root.
#[derive(Debug)]
pub(crate) struct Logs {
    root: Arc<Root>,
    archive: Arc<Archive>,
    /// One writer for each log. The table is read at each append, so it uses a fast hash, which is safe because job
    /// names do not come from attackers.
    writers: Mutex<HashMap<JobAddress, Held, foldhash::fast::RandomState>>,
    uses: AtomicU64,
    /// The marks of the removals of this process that did not end.
    begun_removals: Mutex<HashSet<PathBuf>>,
}

#[derive(Debug)]
struct Held {
    writer: Arc<LogWriter>,
    used: u64,
}

impl Logs {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self {
            archive: Archive::new(Arc::clone(&root)),
            root,
            writers: Mutex::default(),
            uses: AtomicU64::new(0),
            begun_removals: Mutex::default(),
        }
    }

    fn writer(&self, job: &JobAddress) -> Arc<LogWriter> {
        let mut writers = self.writers.lock();
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(held) = writers.get_mut(job) {
            held.used = used;
            return Arc::clone(&held.writer);
        }
        if writers.len() >= MOST_WRITERS {
            let idle = writers
                .iter()
                .filter(|(_, held)| Arc::strong_count(&held.writer) == 1 && held.writer.is_forgettable());
            // A later flush must not miss relaxed writes of this writer. If they can't be synced now, the writer stays
            // in the table.
            if let Some((oldest, held)) = idle.min_by_key(|(_, held)| held.used)
                && held.writer.flush().is_ok()
            {
                let oldest = oldest.clone();
                writers.remove(&oldest);
            }
        }
        let writer = Arc::new(LogWriter::new(
            Arc::clone(&self.root),
            Arc::clone(&self.archive),
            job,
        ));
        writers.insert(
            job.clone(),
            Held {
                writer: Arc::clone(&writer),
                used,
            },
        );
        writer
    }

    fn existing(&self, job: &JobAddress) -> Option<Arc<LogWriter>> {
        self.writers.lock().get(job).map(|held| Arc::clone(&held.writer))
    }

    /// True if this process has a segment of this log open for writing.
    pub(crate) fn is_writing_to(&self, job: &JobAddress) -> bool {
        self.existing(job).is_some_and(|writer| writer.is_writing())
    }

    /// True if this process has a segment of any log open for writing.
    pub(crate) fn is_writing(&self) -> bool {
        self.writers.lock().values().any(|held| held.writer.is_writing())
    }

    fn all(&self) -> Vec<Arc<LogWriter>> {
        self.writers
            .lock()
            .values()
            .map(|held| Arc::clone(&held.writer))
            .collect()
    }
}

const MEASURE: &str = "measure log";

/// Whether a segment has data, when it was created, and its mtime. The greatest of these is the time at which the log was last
/// written to: the writer of an empty segment died before it stored anything.
fn written(name: &SegmentName, found: &Metadata) -> (bool, Timestamp, Timestamp) {
    (found.len > 0, name.made(), found.modified)
}

impl Logs {
    pub(crate) fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        self.root.prepare_write("append events", job)?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        self.check_sizes(job, batch)?;
        let writer = self.writer(job);
        if batch.ids().is_empty() {
            writer.append(batch, options.durability, deadline)
        } else {
            writer.append_given(batch, options.durability, deadline)
        }
    }

    fn check_sizes(&self, job: &JobAddress, batch: &Batch) -> Result<()> {
        let limit = self.root.options.max_record_size;
        // For nearly all batches, the total size alone shows that no event is too large.
        if (batch.bytes() + RECORD_OVERHEAD) as u64 <= limit {
            return Ok(());
        }
        for (index, body) in batch.bodies().enumerate() {
            let size = (body.len() + RECORD_OVERHEAD) as u64;
            if size > limit {
                let why = format!("event {index} of the batch has {size} bytes, {limit} are allowed");
                return Err(StorageError::new(ErrorKind::TooLarge, "append events", job, why)
                    .with_hint("raise `backend_config.max_record_size`, or keep large data in a file and its path in the event"));
            }
        }
        Ok(())
    }

    pub(crate) fn scan(
        &self,
        job: &JobAddress,
        options: &ScanOptions,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        Ok(Box::new(merge::scan(
            &self.root,
            &self.folder_of("scan events", job)?,
            options,
            None,
            deadline,
        )?))
    }

    pub(crate) fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        let folder = self.folder_of("read last events", job)?;
        let floor = newest::floor(&self.root, &folder, count, deadline)?;
        let options = ScanOptions::all().step_timeout(step_timeout);
        Ok(Box::new(merge::scan(
            &self.root,
            &folder,
            &options,
            Some(floor),
            deadline,
        )?))
    }

    pub(crate) fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor> {
        let folder = self.folder_of("find end of events", job)?;
        let options = ScanOptions::all().step_timeout(deadline.remaining());
        let mut scan = merge::scan(&self.root, &folder, &options, Some(EventId::MAX), deadline)?;
        while scan.next()?.is_some() {}
        Ok(scan.cursor())
    }

    pub(crate) fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        let folder = self.folder_of("summarise events", job)?;
        Ok(self.measure(&folder, deadline)?.0.summary)
    }

    /// The counts and times of a log, except whether a writer is active. Also returns the segments that are not sealed.
    fn measure(&self, folder: &Path, deadline: Deadline) -> Result<(LogSurvey, Vec<SegmentName>)> {
        let (mut survey, mut unsealed, mut newest) = (LogSurvey::default(), Vec::new(), None);
        let Some((opened, listed)) = listing::open_and_list(&self.root, folder, deadline)? else {
            return Ok((survey, unsealed));
        };
        for (name, forms) in &listed.segments {
            let Some((form, found)) = self.find_form(&*opened, folder, name, *forms)? else {
                continue;
            };
            let plain = form == SegmentForm::Plain;
            let is_sealed = !plain || !found.is_writable();
            if !is_sealed {
                unsealed.push(name.clone());
            }
            survey.summary.segments += 1;
            survey.summary.bytes += found.len;
            survey.summary.sealed += u64::from(is_sealed);
            survey.summary.compressed += u64::from(!plain);
            newest = newest.max(Some(written(name, &found)));
        }
        survey.last_write = newest.map(|(.., modified)| modified);
        Ok((survey, unsealed))
    }

    /// The existing form of a listed segment, and the metadata of its file; `None` if the segment is gone.
    fn find_form(
        &self,
        opened: &dyn FsFolder,
        folder: &Path,
        name: &SegmentName,
        forms: Forms,
    ) -> Result<Option<(SegmentForm, Metadata)>> {
        // The segment may have been compressed after the listing, so the compressed form is tried as well.
        for form in [forms.any(), SegmentForm::Zstd] {
            let file = name.file_name(form);
            match opened.metadata_of(file.as_ref()) {
                Ok(found) => return Ok(Some((form, found))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.root.read_fault(MEASURE, &folder.join(file), error)),
            }
        }
        Ok(None)
    }

    /// The counts and times of a log, and whether a writer has a segment of it open, all from one listing.
    pub(crate) fn survey(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSurvey> {
        let folder = events_folder(job);
        let (mut survey, unsealed) = self.measure(&folder, deadline)?;
        survey.writer = self.find_writer(job, &folder, &unsealed, deadline)?;
        Ok(survey)
    }

    /// Describes the process that has a log open, for an error message.
    pub(crate) fn describe(&self, job: &JobAddress, open: &OpenLog) -> String {
        let OpenLog::Locked(name) = open else {
            return format!("{} appends to its log", process(Some(std::process::id())));
        };
        let path = events_folder(job).join(name.file_name(SegmentForm::Plain));
        format!(
            "{} appends to its log, to a segment of {}",
            self.holder_of(&path),
            name.made().to_rfc3339()
        )
    }

    /// Describes the process that has locked a segment, for an error message.
    fn holder_of(&self, path: &Path) -> String {
        let file = self.root.fs.open(path, OpenMode::Read);
        file.map_or_else(|_| process(None), |file| describe_unsigned(&*file))
    }

    /// A writer that has one of these segments open. Each segment is locked for a moment to find out. A new writer
    /// that fails to lock it just then creates another segment.
    fn find_writer(
        &self,
        job: &JobAddress,
        folder: &Path,
        unsealed: &[SegmentName],
        deadline: Deadline,
    ) -> Result<Option<OpenLog>> {
        // Asks the writer of this process first: on a file system without locks, trying a lock can't show it.
        if let Some(writer) = self.existing(job)
            && writer.holds_a_segment(deadline)?
        {
            return Ok(Some(OpenLog::Here));
        }
        for name in unsealed {
            let path = folder.join(name.file_name(SegmentForm::Plain));
            let fault = |error| self.root.read_fault("find writers", &path, error);
            match self.root.fs.open(&path, OpenMode::Read) {
                Ok(file) if self.root.try_lock(&file).map_err(fault)? => {}
                Ok(_) => return Ok(Some(OpenLog::Locked(name.clone()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(None)
    }

    /// Locks the folder and each segment, so that no process writes to the log. If a process writes to it, the
    /// inner result is an error that describes this process.
    pub(crate) fn hold(
        &self,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<std::result::Result<LockedLog, OpenLog>> {
        let folder = events_folder(job);
        let writer = self.existing(job);
        // A thread that appends takes the folder's lock while it has the writer's, so this is the order.
        let state = writer.as_ref().map(|writer| writer.enter(deadline)).transpose()?;
        if state.as_ref().is_some_and(|state| !state.open.is_empty()) {
            return Ok(Err(OpenLog::Here));
        }
        let locked = LockedFolder::take(&self.root, &folder, deadline)?;
        drop(state);
        let mut segments = Vec::new();
        let listed = listing::list(&self.root, &folder, deadline)?.segments;
        for (name, _) in listed.iter().filter(|(_, forms)| forms.plain) {
            match self.lock_segment(&folder.join(name.file_name(SegmentForm::Plain)), deadline)? {
                LockNow::Taken(file, _) => segments.push(file),
                LockNow::Absent => {}
                LockNow::Held | LockNow::Replaced => return Ok(Err(OpenLog::Locked(name.clone()))),
            }
        }
        Ok(Ok(LockedLog {
            _folder: locked,
            _segments: segments,
        }))
    }

    /// Locks a segment. If the segment is being compressed, waits until the deadline for the end of that.
    fn lock_segment(&self, path: &Path, deadline: Deadline) -> Result<LockNow> {
        const HOLD: &str = "hold log";
        let fault = |error| self.root.read_fault(HOLD, path, error);
        loop {
            let tried = self.root.lock_now(path, OpenMode::Read).map_err(fault)?;
            if !matches!(tried, LockNow::Held | LockNow::Replaced) {
                return Ok(tried);
            }
            match self.root.fs.metadata(path) {
                Ok(found) if !found.is_writable() => {
                    deadline.check(HOLD, &path.display(), "the compression of a segment")?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                // The compression has just ended, and the plain form is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockNow::Absent),
                _ => return Ok(tried),
            }
        }
    }

    /// Truncates all segments of a job that is being deleted, and keeps their names. Used if the disk is too full even
    /// for a small file. The caller has locked the log. A file with a second name, such as a hard link in a backup, is
    /// not changed.
    pub(crate) fn empty_segments(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        let folder = events_folder(job);
        for (name, _) in listing::list(&self.root, &folder, deadline)?.segments {
            for form in SegmentForm::ALL.into_iter().filter(|_| name.is_canonical()) {
                let path = folder.join(name.file_name(form));
                let emptied = self.root.fs.open(&path, OpenMode::Read).and_then(|file| {
                    if file.metadata()?.links == 1 {
                        file.set_mode(0o600)?;
                        self.root.fs.open(&path, OpenMode::Write)?.set_len(0)?;
                    }
                    Ok(())
                });
                match emptied {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.root.write_fault("empty segment", &path, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The creation time of the newest segment, including removed segments.
    pub(crate) fn newest_made(&self, job: &JobAddress, deadline: Deadline) -> Result<Option<Timestamp>> {
        Ok(listing::list(&self.root, &events_folder(job), deadline)?.newest_made())
    }

    /// The mtime of the newest segment that is not empty: the time of the last write to the log.
    pub(crate) fn last_write(&self, job: &JobAddress, deadline: Deadline) -> Result<Option<Timestamp>> {
        let folder = events_folder(job);
        let Some((opened, listed)) = listing::open_and_list(&self.root, &folder, deadline)? else {
            return Ok(None);
        };
        let mut by_age: Vec<_> = listed.segments.iter().collect();
        by_age.sort_by_key(|(name, _)| Reverse(name.made()));
        let mut newest = None;
        for (name, forms) in by_age {
            // Twins have the same creation time. Older segments are examined only if all newer ones are gone or empty.
            if newest.is_some_and(|(has_data, made, _)| has_data && made > name.made()) {
                break;
            }
            let found = self.find_form(&*opened, &folder, name, *forms)?;
            newest = newest.max(found.map(|(_, found)| written(name, &found)));
        }
        Ok(newest.map(|(.., modified)| modified))
    }

    /// The folder of a log, for a reader. For a job that is being deleted, the path of a folder that does not exist.
    fn folder_of(&self, operation: &'static str, job: &JobAddress) -> Result<PathBuf> {
        Ok(match self.root.is_deleted(operation, job)? {
            true => Entry::Tombstone(job.clone()).path().with_extension(""),
            false => events_folder(job),
        })
    }

    pub(crate) fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.root.prepare_write("seal log", job)?;
        match self.existing(job) {
            Some(writer) => writer.seal(deadline),
            None => Ok(()),
        }
    }

    /// Completes the marks of sealed segments, so that the next process does not have to begin that work again.
    pub(crate) fn close(&self, deadline: Deadline) {
        self.archive.finish_marks(deadline);
    }

    /// Syncs relaxed appends, so that they survive power loss, and waits until all sealed segments are compressed.
    pub(crate) fn flush(&self, deadline: Deadline) -> Result<()> {
        for writer in self.all() {
            deadline.check("flush", &writer.job, "the syncs of other logs")?;
            writer.flush()?;
        }
        self.archive.finish(deadline)
    }
}
