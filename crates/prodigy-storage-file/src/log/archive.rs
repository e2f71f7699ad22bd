//! Compresses sealed segments in the background.
//!
//! `events-….jsonl` becomes `events-….jsonl.zst`: temporary file, sync, rename, sync of the folder, and then removal of
//! the plain form. If a process dies at any of these steps, a later one completes the work. A skippable frame (RFC
//! 8878, 3.1.2) before the Zstandard frame holds the last id, for searches.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{Deadline, EventId, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};
use serde::{Deserialize, Serialize};

use super::active::SegmentFile;
use super::sealed_mark;
use super::segment_ref::SegmentRef;
use crate::root::Root;

/// The folder of a log, and a sealed segment to compress; or `None`, to replace the log's mark of sealed segments (a
/// `.sealed-…` file) with a newer one.
type Task = (PathBuf, Option<SegmentName>);

/// The number of queued segments whose locks, and so descriptors, are kept from their writer. Further segments are
/// locked again when they are compressed.
const HELD: usize = 32;

/// Compresses the segments of a root in a background thread.
#[derive(Debug)]
pub(crate) struct Archive {
    root: Arc<Root>,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sender: Option<Sender<(Task, Option<Arc<SegmentFile>>)>>,
    queued: HashSet<Task>,
}

/// The contents of the skippable frame at the start of a compressed segment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The last id; `None` if the segment has no record.
    pub(crate) last: Option<EventId>,
    /// The uncompressed length in bytes.
    pub(crate) bytes: u64,
    /// The times of the first and the last record. A segment compressed in format 1 has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Timestamp>,
}

impl Summary {
    /// The time of the last record. In format 1, the time of an event is the time in its id.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.to.or_else(|| self.last.map(EventId::time))
    }
}

fn run(archive: &Weak<Archive>, tasks: &Receiver<(Task, Option<Arc<SegmentFile>>)>) {
    while let Ok((task, held)) = tasks.recv() {
        let Some(archive) = archive.upgrade() else { return };
        let (folder, name) = &task;
        let done = match name {
            Some(name) => {
                let segment = SegmentRef::new(&archive.root, folder, name);
                match &held {
                    Some(file) => compress_locked(segment, file.file()),
                    None => compress(segment),
                }
            }
            None => sealed_mark::renew(&archive.root, folder),
        };
        if let Err(error) = done {
            tracing::warn!(
                segment = name.as_ref().map(SegmentName::stem),
                error = &error as &dyn std::error::Error,
                "a sealed segment could not be compressed, or not be marked as sealed"
            );
        }
        drop(held);
        archive.state.lock().queued.remove(&task);
        archive.idle.notify_all();
    }
}

impl Archive {
    pub(crate) fn new(root: Arc<Root>) -> Arc<Self> {
        Arc::new(Self {
            root,
            state: Mutex::default(),
            idle: Condvar::default(),
        })
    }

    /// Queues a sealed segment for compression, or for the completion of an interrupted one. A writer passes on its
    /// lock on the segment, so that no other process can take the lock in between.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        folder: &Path,
        name: &SegmentName,
        held: Option<Arc<SegmentFile>>,
    ) {
        self.add(&(folder.to_owned(), Some(name.clone())), held);
    }

    /// Queues the replacement of a log's mark of sealed segments (a `.sealed-…` file) with a newer one.
    pub(super) fn mark_sealed(self: &Arc<Self>, folder: &Path) {
        self.add(&(folder.to_owned(), None), None);
    }

    fn add(self: &Arc<Self>, task: &Task, held: Option<Arc<SegmentFile>>) {
        let mut state = self.state.lock();
        if !state.queued.insert(task.clone()) {
            return;
        }
        let held = held.filter(|_| state.queued.len() <= HELD);
        if state.sender.is_none() {
            let (sender, receiver) = channel();
            let weak = Arc::downgrade(self);
            let spawned = std::thread::Builder::new()
                .name("prodigy-archive".into())
                .spawn(move || run(&weak, &receiver));
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for compression: sealed segments stay as they are");
                state.queued.remove(task);
                return;
            }
            state.sender = Some(sender);
        }
        if state
            .sender
            .as_ref()
            .is_none_or(|sender| sender.send((task.clone(), held)).is_err())
        {
            state.queued.remove(task);
        }
    }

    /// Waits until all queued marks of sealed segments are written. Otherwise a process that ends early would leave
    /// this work to the next process, which may end early as well.
    pub(super) fn finish_marks(&self, deadline: Deadline) {
        let mut state = self.state.lock();
        while let Some(at) = deadline.instant()
            && state.queued.iter().any(|(_, name)| name.is_none())
        {
            if self.idle.wait_until(&mut state, at).timed_out() {
                return;
            }
        }
    }

    /// Waits until the queue is empty, or the deadline has passed.
    pub(crate) fn finish(&self, deadline: Deadline) -> Result<()> {
        let mut state = self.state.lock();
        while !state.queued.is_empty() {
            match deadline.instant() {
                None => self.idle.wait(&mut state),
                Some(at) => {
                    if self.idle.wait_until(&mut state, at).timed_out() {
                        deadline.check("flush", &"compression", "sealed segments to be compressed")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(feature = "compression")]
mod zstandard {
    use std::io::{self, Read};

    use prodigy_storage_backend::record::{Checksum, add_checksum, check_crc};
    use prodigy_storage_backend::{ErrorKind, StorageError};

    use super::*;
    use crate::fs::{FileRead, FsFile, Metadata, OpenMode, SEALED_MODE};
    use crate::log::clock::StepClock;
    use crate::log::search;
    use crate::log::{source, tail};
    use crate::root::{Replace, TempFile, count, has_no_locks};

    const LEVEL: i32 = 3;
    /// The first of the sixteen magic numbers of skippable frames (RFC 8878, 3.1.2), in the byte order of the file.
    const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
    /// The magic number of a Zstandard frame, in the byte order of the file.
    pub(crate) const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    const COPY: &str = "compress segment";

    /// Compresses a sealed segment, or completes an interrupted compression. Does nothing if only the compressed form
    /// exists.
    pub(crate) fn compress(segment: SegmentRef<'_>) -> Result<()> {
        let plain = segment.path(SegmentForm::Plain);
        let fault = |error| segment.root.write_fault(COPY, &plain, error);
        let file = match segment.root.fs.open(&plain, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault(error)),
        };
        match file.try_lock() {
            Ok(true) => {}
            // Without locks, a thread may still be syncing the segment, so it stays plain.
            Err(error) if has_no_locks(&error) => return Ok(()),
            Ok(false) => return Ok(()),
            Err(error) => return Err(fault(error)),
        }
        compress_locked(segment, &*file)
    }

    /// Like [`compress`], for a file whose lock the caller holds.
    pub(crate) fn compress_locked(segment: SegmentRef<'_>, file: &dyn FsFile) -> Result<()> {
        let plain = segment.path(SegmentForm::Plain);
        let packed = segment.path(SegmentForm::Zstd);
        let fault = |error| segment.root.write_fault(COPY, &plain, error);
        let found = file.metadata().map_err(fault)?;
        let same = segment
            .root
            .fs
            .metadata(&plain)
            .is_ok_and(|at_path| at_path.identity == found.identity);
        // A copy by hand that is under way is not compressed: what is still to come would be written to an unlinked file.
        if !same || !found.is_sealed() || !tail::is_whole(file, found.len).map_err(fault)? {
            return Ok(());
        }
        let expected = digest(FileRead::new(file, 0)).map_err(fault)?;
        if segment.root.fs.metadata(&packed).is_err() {
            if !segment.root.options.compression {
                return Ok(());
            }
            write(segment.root, segment.folder, &plain, &packed, file, &found)?;
        }
        // Compares the contents of the compressed form before the plain form is removed.
        let again = segment
            .root
            .fs
            .open(&packed, OpenMode::Read)
            .map_err(|error| segment.root.read_fault(COPY, &packed, error))?;
        let decoder = source::decode(segment, again, SegmentForm::Zstd)?;
        if digest(decoder).map_err(|error| source::undecodable(segment.root, &packed, error))? != expected {
            return Err(StorageError::new(
                ErrorKind::Damaged,
                COPY,
                segment.root.absolute(&packed).display(),
                "it does not hold what the plain segment beside it holds",
            )
            .with_hint("the plain segment is kept; move the compressed one away"));
        }
        segment.root.sync_folder(segment.folder)?;
        segment.root.fs.unlink(&plain).map_err(fault)?;
        count(&segment.root.counters.compressed, 1);
        tracing::debug!(segment = %plain.display(), "compressed");
        Ok(())
    }

    fn write(
        root: &Root,
        folder: &Path,
        plain: &Path,
        packed: &Path,
        file: &dyn FsFile,
        found: &Metadata,
    ) -> Result<()> {
        let len = found.len;
        let from = search::first_time(root, plain, file)?;
        let last = search::last_record(root, plain, file, len, &mut StepClock::default())?;
        let summary = Summary {
            last: last.map(|last| last.id),
            bytes: len,
            from,
            to: last.map(|last| last.time),
        };
        let mut temp = TempFile::create(root, COPY, folder)?;
        // Keeps the mtime of the plain file: the compression does not count as a write to the job.
        pack(&mut temp, summary, file)
            .and_then(|()| temp.file().set_modified(found.modified))
            .map_err(|error| temp.fault(error))?;
        temp.publish(packed, Replace::Never)
    }

    fn pack(temp: &mut TempFile<'_>, summary: Summary, file: &dyn FsFile) -> io::Result<()> {
        temp.append(&summary_frame(summary))?;
        let mut encoder = zstd::stream::write::Encoder::new(&mut *temp, LEVEL)?;
        encoder.include_checksum(true)?;
        io::copy(&mut FileRead::new(file, 0), &mut encoder)?;
        encoder.finish()?;
        temp.file().set_mode(SEALED_MODE)
    }

    fn summary_frame(summary: Summary) -> Vec<u8> {
        let mut json = serde_json::to_vec(&summary).unwrap_or_default();
        json.pop();
        add_checksum(&mut json, 0);
        let mut frame = SKIPPABLE.to_vec();
        frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
        frame.extend_from_slice(&json);
        frame
    }

    /// The contents of the skippable frame of a compressed segment; `None` if the frame is absent or invalid.
    pub(crate) fn summary(segment: SegmentRef<'_>) -> Result<Option<Summary>> {
        let Some((file, _)) = source::open_form(segment, SegmentForm::Zstd)? else {
            return Ok(None);
        };
        let mut bytes = [0; 512];
        let filled = file
            .read_full_at(&mut bytes, 0)
            .map_err(|error| segment.root.read_fault("read segment", segment.folder, error))?;
        let told = bytes.get(..filled).and_then(|bytes| {
            let rest = bytes.strip_prefix(&SKIPPABLE)?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let json = rest.get(..u32::from_le_bytes(*len) as usize)?;
            (check_crc(json) == Checksum::Valid)
                .then(|| serde_json::from_slice(json).ok())
                .flatten()
        });
        Ok(told)
    }

    /// The offset at which decompression begins: after the skippable frame that this store writes, even if its contents
    /// are damaged; 0 if the file has no such frame.
    pub(crate) fn frame_start(file: &dyn FsFile) -> io::Result<u64> {
        let mut bytes = [0; 512];
        let filled = file.read_full_at(&mut bytes, 0)?;
        let bytes = bytes.get(..filled).unwrap_or_default();
        if bytes.starts_with(&FRAME) {
            return Ok(0);
        }
        Ok(memchr::memmem::find(bytes, &FRAME).unwrap_or(0) as u64)
    }

    /// True if a compressed segment begins with a skippable frame of this store whose contents are invalid.
    pub(crate) fn header_is_damaged(segment: SegmentRef<'_>) -> Result<bool> {
        let Some((file, _)) = source::open_form(segment, SegmentForm::Zstd)? else {
            return Ok(false);
        };
        let mut magic = [0; 4];
        let filled = file
            .read_full_at(&mut magic, 0)
            .map_err(|error| segment.root.read_fault("read segment", segment.folder, error))?;
        let foreign = filled == magic.len() && magic == FRAME;
        Ok(!foreign && summary(segment)?.is_none())
    }

    /// True if the compressed form decompresses to the contents of the plain form.
    pub(crate) fn says_the_same(segment: SegmentRef<'_>, form: SegmentForm) -> Result<bool> {
        let (Some((plain, _)), Some((packed, _))) = (
            source::open_form(segment, SegmentForm::Plain)?,
            source::open_form(segment, form)?,
        ) else {
            return Ok(true);
        };
        let fault = |error| segment.root.read_fault("read segment", segment.folder, error);
        let expected = digest(FileRead::new(&*plain, 0)).map_err(fault)?;
        let decoder = source::decode(segment, packed, form)?;
        match digest(decoder) {
            Ok(found) => Ok(found == expected),
            Err(error) if error.raw_os_error().is_none() => Ok(false),
            Err(error) => Err(fault(error)),
        }
    }

    /// The length and the hash of all bytes that a reader returns.
    fn digest(mut from: impl Read) -> io::Result<(u64, u128)> {
        let (mut hash, mut bytes) = (xxhash_rust::xxh3::Xxh3::new(), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 {
                return Ok((bytes, hash.digest128()));
            }
            hash.update(buffer.get(..read).unwrap_or_default());
            bytes += read as u64;
        }
    }
}

#[cfg(feature = "compression")]
use zstandard::compress_locked;
#[cfg(feature = "compression")]
pub(crate) use zstandard::{compress, frame_start, header_is_damaged, says_the_same, summary};

#[cfg(not(feature = "compression"))]
pub(crate) fn compress(_: SegmentRef<'_>) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "compression"))]
fn compress_locked(_: SegmentRef<'_>, _: &dyn crate::fs::FsFile) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "compression"))]
pub(crate) fn summary(_: SegmentRef<'_>) -> Result<Option<Summary>> {
    Ok(None)
}

#[cfg(not(feature = "compression"))]
pub(crate) fn header_is_damaged(_: SegmentRef<'_>) -> Result<bool> {
    Ok(false)
}

#[cfg(not(feature = "compression"))]
pub(crate) fn says_the_same(_: SegmentRef<'_>, _: SegmentForm) -> Result<bool> {
    Ok(true)
}
