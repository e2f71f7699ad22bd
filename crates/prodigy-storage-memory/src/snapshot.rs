//! The snapshot: all data in one file, which is written atomically, and verified before its data is used.
//!
//! The file has JSON lines: a head that names the format, a line for each job, the registry, the locks, and a foot with
//! the XXH3-128 hash of all bytes before it. Records and bodies are stored as strings, unchanged.
#![expect(clippy::disallowed_methods, reason = "the snapshot is a file")]

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{
    Delay, ErrorKind, Holder, ItemId, Lease, QueueMark, Result, Revision, StorageError,
};
use prodigy_storage_layout::{Document, Entry, JobAddress, LockName, Timestamp};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::document::{Documents, Kept, cost as document_cost};
use crate::job::{Job, JobData};
use crate::log::{EventLog, Removed};
use crate::named_lock::cost as lock_cost;
use crate::queue::{Item, Queue};
use crate::snapshot_lock::SnapshotLock;
use crate::store::{Store, count, job_cost};

const FORMAT: &str = "prodigy-storage-memory";
/// The version of the format that is written. In version 1, items have no numbers. In version 2, the ends of segments
/// and the removed events are missing.
const VERSION: u32 = 3;
const SAVE: &str = "write snapshot";
const LOAD: &str = "load snapshot";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedLine {
    Head(Head),
    Job(SavedJob),
    Registry(Vec<SavedDocument>),
    Locks(Vec<SavedLock>),
    Foot(Foot),
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Foot {
    checksum: String,
}

#[derive(Serialize, Deserialize)]
struct SavedJob {
    address: JobAddress,
    incarnation: u64,
    #[serde(default)]
    removed: Removed,
    /// The positions at which the sealed segments end.
    #[serde(default)]
    sealed: Vec<usize>,
    events: Vec<String>,
    documents: Vec<SavedDocument>,
    /// The number of the queue's last change.
    #[serde(default)]
    queue_counter: QueueMark,
    items: Vec<SavedItem>,
}

#[derive(Serialize, Deserialize)]
struct SavedDocument {
    path: String,
    revision: Revision,
    modified: Timestamp,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct SavedItem {
    id: ItemId,
    /// The birth, the revision and the place of the item; `None` in version 1.
    #[serde(default)]
    numbers: Option<[QueueMark; 3]>,
    lease: Option<Lease>,
    #[serde(default)]
    delay: Option<Delay>,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct SavedLock {
    name: LockName,
    holder: Option<Holder>,
    fencing: u64,
}

impl Store {
    /// Writes a snapshot, if a file is configured and anything has changed since the last snapshot.
    pub(crate) fn save(&self) -> Result<()> {
        let Some(path) = self
            .options
            .persistence
            .as_ref()
            .filter(|_| !self.options.read_only)
        else {
            return Ok(());
        };
        let mut saved = self.saved.lock();
        let changes = self.changes();
        if *saved == Some(changes) {
            return Ok(());
        }
        self.write(path).map_err(|error| io_error(SAVE, path, error))?;
        *saved = Some(changes);
        count(&self.counters.snapshots, 1);
        tracing::debug!(path = %path.display(), "snapshot written");
        Ok(())
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = folder_of(path);
        make_folders(folder)?;
        let temp = private_temp(folder)?;
        let mut out = Hashing {
            inner: BufWriter::new(temp),
            hash: Xxh3::new(),
        };
        out.line(&SavedLine::Head(Head {
            format: FORMAT.into(),
            version: VERSION,
        }))?;
        for (address, job) in self.all_jobs() {
            let saved = save_job(address, &job);
            if let Some(saved) = saved {
                out.line(&SavedLine::Job(saved))?;
            }
        }
        let registry = save_documents(&self.registry.lock());
        out.line(&SavedLine::Registry(registry))?;
        let locks = self.locks.list().into_iter().map(|lock| SavedLock {
            name: lock.name,
            holder: lock.holder,
            fencing: lock.fencing,
        });
        out.line(&SavedLine::Locks(locks.collect()))?;
        let checksum = hex(out.hash.digest128());
        out.line(&SavedLine::Foot(Foot { checksum }))?;
        let temp = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        temp.as_file().sync_all()?;
        temp.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    /// Locks the snapshot, unless the store is read-only or no file is configured.
    pub(crate) fn lock_snapshot(&mut self) -> Result<()> {
        if let Some(path) = self
            .options
            .persistence
            .as_ref()
            .filter(|_| !self.options.read_only)
        {
            make_folders(folder_of(path)).map_err(|error| io_error(SAVE, path, error))?;
            self.snapshot_lock = Some(SnapshotLock::take(path)?);
        }
        Ok(())
    }

    /// Loads the snapshot, if its file exists.
    pub(crate) fn load(&self) -> Result<()> {
        let Some(path) = &self.options.persistence else {
            return Ok(());
        };
        let text = match read_file(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(LOAD, path, error)),
        };
        self.restore(&text).map_err(|fault| {
            match fault {
            Fault::Newer(version) => StorageError::new(
                ErrorKind::NewerFormat,
                LOAD,
                path.display(),
                format!("it has version {version}, this program knows {VERSION}"),
            )
            .with_hint("open it with the newer program, or give another `persistence_path`"),
            Fault::Damaged(why) => StorageError::new(ErrorKind::Damaged, LOAD, path.display(), why).with_hint(
                "it was left as it is: bring back a copy of it, or move it away to begin with an empty store",
            ),
        }
        })?;
        *self.saved.lock() = Some(self.changes());
        Ok(())
    }

    fn restore(&self, bytes: &[u8]) -> Result<(), Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not well-formed UTF-8"))?;
        let body = text
            .strip_suffix('\n')
            .ok_or_else(|| damaged("the end of the file is missing"))?;
        let (head, _) = body.split_once('\n').unwrap_or((body, ""));
        match serde_json::from_str(head) {
            Ok(SavedLine::Head(head)) if head.format == FORMAT && head.version > VERSION => {
                return Err(Fault::Newer(head.version));
            }
            Ok(SavedLine::Head(head)) if head.format == FORMAT => {}
            _ => return Err(damaged("it does not begin as a snapshot of the memory backend")),
        }
        let foot_at = body.rfind('\n').map_or(0, |at| at + 1);
        let (summed, foot) = body.split_at(foot_at);
        let Ok(SavedLine::Foot(foot)) = serde_json::from_str(foot) else {
            return Err(damaged("its last line, with the checksum, is missing"));
        };
        if foot.checksum != hex(xxh3_128(summed.as_bytes())) {
            return Err(damaged("its checksum does not match"));
        }
        for line in summed.lines().skip(1) {
            let line = serde_json::from_str(line).map_err(|error| {
                // The parser's messages contain stored data, so only the column is reported.
                let column = error.column();
                Fault::Damaged(format!("a line of it can't be read, at its column {column}"))
            })?;
            self.restore_line(line)?;
        }
        Ok(())
    }

    fn restore_line(&self, line: SavedLine) -> Result<(), Fault> {
        match line {
            SavedLine::Head(_) | SavedLine::Foot(_) => Err(damaged("its lines are out of order")),
            SavedLine::Job(saved) => self.restore_saved_job(saved),
            SavedLine::Registry(saved) => self.restore_documents(saved, &mut self.registry.lock()),
            SavedLine::Locks(locks) => {
                for lock in locks {
                    self.budget.force(lock_cost(&lock.name));
                    self.locks.restore(lock.name, lock.holder, lock.fencing);
                }
                Ok(())
            }
        }
    }

    fn restore_saved_job(&self, saved: SavedJob) -> Result<(), Fault> {
        let log = EventLog::restore(saved.incarnation, saved.removed, saved.sealed, saved.events)
            .ok_or_else(|| damaged("an event in it is not a record"))?;
        let mut documents = Documents::default();
        self.restore_documents(saved.documents, &mut documents)?;
        let mut items = Vec::with_capacity(saved.items.len());
        for (item, position) in saved.items.into_iter().zip(1..) {
            let body = RawValue::from_string(item.body).map_err(|_| damaged("an item in it is not JSON"))?;
            let numbers = item.numbers.unwrap_or([QueueMark(position); 3]);
            let item = Item::restored(item.id, &body, item.lease, item.delay, numbers)
                .map_err(|error| Fault::Damaged(format!("an item in it can't be read: {error}")))?;
            items.push(item);
        }
        let queue = Queue::restored(saved.queue_counter, items);
        self.budget
            .force(job_cost(&saved.address) + log.cost() + queue.cost());
        let job = Job::of(JobData {
            log,
            documents,
            queue,
        });
        self.restore_job(saved.address, job);
        Ok(())
    }

    fn restore_documents(&self, saved: Vec<SavedDocument>, into: &mut Documents) -> Result<(), Fault> {
        for one in saved {
            let Some(Entry::Document(document)) = Entry::parse(Path::new(&one.path)) else {
                return Err(Fault::Damaged(format!("`{}` in it is not a document", one.path)));
            };
            self.budget.force(document_cost(&document, one.body.len()));
            let kept = Kept {
                body: Arc::new(one.body.into_bytes()),
                revision: one.revision,
                modified: one.modified,
            };
            into.restore(document, kept);
        }
        Ok(())
    }
}

/// The saved form of a job; `None` if the job is empty. The job is locked only while pointers to its data are copied.
fn save_job(address: JobAddress, job: &Job) -> Option<SavedJob> {
    let data = job.data.lock();
    let queue_counter = data.queue.counter();
    // The counter of an empty queue is saved, since it must continue.
    if data.is_empty() && data.documents.iter().next().is_none() && queue_counter == QueueMark::default() {
        return None;
    }
    let lines = data.log.lines().to_vec();
    let items: Vec<_> = data.queue.items().cloned().collect();
    let documents = save_documents(&data.documents);
    let (sealed, removed) = (data.log.segments().to_vec(), data.log.removed());
    let incarnation = data.log.incarnation;
    drop(data);
    Some(SavedJob {
        address,
        incarnation,
        removed,
        sealed,
        events: lines.iter().map(|line| line.text.to_string()).collect(),
        documents,
        queue_counter,
        items: items
            .iter()
            .map(|item| SavedItem {
                id: item.id.clone(),
                numbers: Some([item.birth, item.revision, item.place]),
                lease: item.lease.clone(),
                delay: item.delay,
                body: item.body.get().to_owned(),
            })
            .collect(),
    })
}

fn save_documents(documents: &Documents) -> Vec<SavedDocument> {
    let save = |(document, kept): (&Document, &Kept)| SavedDocument {
        path: document.path().to_string_lossy().into_owned(),
        revision: kept.revision,
        modified: kept.modified,
        // The body was checked to be Unicode when it was stored.
        body: String::from_utf8_lossy(&kept.body).into_owned(),
    };
    documents.iter().map(save).collect()
}

enum Fault {
    Newer(u32),
    Damaged(String),
}

fn damaged(why: &str) -> Fault {
    Fault::Damaged(why.to_owned())
}

fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// Passes bytes on to `inner`, and hashes them.
struct Hashing<W> {
    inner: W,
    hash: Xxh3,
}

impl<W: Write> Hashing<W> {
    fn line(&mut self, line: &SavedLine) -> io::Result<()> {
        serde_json::to_writer(&mut *self, line)?;
        self.write_all(b"\n")
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The folder that contains the snapshot.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Fails if this user may not create a file at the path, or the missing folders above it.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    let mut folder = folder_of(path);
    loop {
        match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
            Err(Errno::NOENT) if folder != folder_of(folder) => folder = folder_of(folder),
            other => return Ok(other?),
        }
    }
}

/// Creates a folder and the missing folders above it. Only this user has access to them, whatever the umask is.
pub(crate) fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    match std::fs::create_dir(folder) {
        // Another process has just created the folder.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

/// A new temporary file to which only this user has access. Its name contains 122 random bits from the operating
/// system.
fn private_temp(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let temp = tempfile::Builder::new()
        .prefix(&format!(".tmp-{}", uuid::Uuid::new_v4().simple()))
        .rand_bytes(0)
        .tempfile_in(folder)?;
    temp.as_file().set_permissions(Permissions::from_mode(0o600))?;
    Ok(temp)
}

/// Reads a whole file. Only a regular file is opened, since opening a pipe could wait forever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    std::fs::read(path)
}

pub(crate) fn io_error(operation: &'static str, path: &Path, error: io::Error) -> StorageError {
    let (kind, why, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::NotWritable,
            "this user may not access the file or its folder",
            "give a `persistence_path` in a folder that this user may write to",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            ErrorKind::DiskFull,
            "the disk is full; the earlier snapshot is intact",
            "free some space, or give a `persistence_path` on another disk",
        ),
        _ => (
            ErrorKind::Io,
            "the operating system failed",
            "set `persistence_path` to a file in a writable folder",
        ),
    };
    StorageError::new(kind, operation, path.display(), why)
        .with_hint(hint)
        .with_source(error)
}
