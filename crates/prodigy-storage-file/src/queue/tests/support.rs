use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::dead_letter::normalise;
use prodigy_storage_backend::{
    BootId, Change, Claim, Clock, Compaction, Deadline, Durability, ForeignKind, ItemId, Lease, LeaseToken,
    PutReport, QueueEntry, QueueItem, QueueStep, Result, Select, Settled, Settlement, Stats, Uptime,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::FileOptions;
use crate::fs::{DirEntry, FileSystem, FsFile, FsFolder, Metadata, OpenMode, RealFs, Space};
use crate::queue::Queues;
use crate::queue::standing::encode_claims;

pub(super) const NEVER: Deadline = Deadline::never();

/// A clock that is set by the test.
#[derive(Debug)]
pub(in crate::queue) struct Hand {
    wall: AtomicI64,
    /// The time since the boot, in seconds.
    uptime: AtomicU64,
    boots: AtomicU64,
}

impl Hand {
    pub(in crate::queue) fn new(nanos: i64) -> Self {
        Self {
            wall: AtomicI64::new(nanos),
            uptime: AtomicU64::new(100),
            boots: AtomicU64::new(1),
        }
    }

    /// Advances the wall clock and the time since the boot.
    pub(in crate::queue) fn turn(&self, seconds: u32) {
        self.set_by(i64::from(seconds));
        self.uptime.fetch_add(u64::from(seconds), Ordering::Relaxed);
    }

    /// Moves only the wall clock.
    pub(in crate::queue) fn set_by(&self, seconds: i64) {
        self.wall.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }

    /// Simulates a restart of the machine.
    pub(in crate::queue) fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
        self.uptime.store(1, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.wall.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        Uptime {
            boot: BootId::from_u128(u128::from(self.boots.load(Ordering::Relaxed))),
            since: Duration::from_secs(self.uptime.load(Ordering::Relaxed)),
        }
    }
}

pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<Hand>,
    pub(super) job: JobAddress,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(Hand::new(1_800_000_000_000_000_000)),
            job: JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("j").unwrap()),
        }
    }

    /// A queue with a file of these bytes.
    pub(super) fn holding(bytes: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        place.write(bytes);
        place
    }

    pub(super) fn write(&self, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    pub(super) fn options(&self) -> FileOptions {
        FileOptions::new(self.folder.path()).clock(self.clock.clone())
    }

    /// Opens the store as another process would.
    pub(super) fn store(&self) -> Queues {
        Faulty::open(self, true).0
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("dlq/shop/j/items.json")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// The number of another program's dead letters that this store has skipped.
    pub(super) fn skipped(&self, store: &Queues) -> u64 {
        let mut stats = Stats::default();
        store.root.foreign.add_to(&mut stats);
        stats.get(ForeignKind::DeadLetters.counter())
    }

    /// The array of items, as a JSON parser reads it.
    pub(super) fn array(&self) -> Vec<Value> {
        let bytes = self.bytes();
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
    }

    pub(super) fn quarantined(&self) -> Vec<Vec<u8>> {
        let Ok(folder) = std::fs::read_dir(self.folder.path().join("quarantine")) else {
            return Vec::new();
        };
        folder
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    pub(super) fn put(&self, store: &Queues, ids: &[&str]) -> Result<PutReport> {
        let items: Vec<QueueItem> = ids.iter().map(|id| item(id)).collect();
        store.queue_put(&self.job, &items, Durability::Strict, None, NEVER)
    }

    /// Settles items by key or token. Returns those that were settled, and the others.
    fn settle<K: Clone>(
        &self,
        store: &Queues,
        keys: &[K],
        settlement: impl Fn(&K) -> Settlement,
    ) -> Result<Outcome<K>> {
        let settlements: Vec<Settlement> = keys.iter().map(settlement).collect();
        let found = store.queue_settle(&self.job, &settlements, None, NEVER)?;
        let (mut settled, mut unknown, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (key, found) in keys.iter().zip(found) {
            match found {
                Settled::Done => settled.push(key.clone()),
                Settled::Unknown => unknown.push(key.clone()),
                Settled::Kept => kept.push(key.clone()),
                other => panic!("{other:?}"),
            }
        }
        Ok(Outcome {
            settled,
            unknown,
            kept,
        })
    }

    pub(super) fn ack(&self, store: &Queues, tokens: &[LeaseToken]) -> Result<Outcome<LeaseToken>> {
        self.settle(store, tokens, |token| {
            Settlement::new(Claim::Lease(token.clone()), Change::Remove)
        })
    }

    pub(super) fn nack(&self, store: &Queues, tokens: &[LeaseToken]) -> Result<Outcome<LeaseToken>> {
        let delay = Duration::ZERO;
        self.settle(store, tokens, |token| {
            Settlement::new(Claim::Lease(token.clone()), Change::Release { delay })
        })
    }

    pub(super) fn remove(&self, store: &Queues, ids: &[ItemId]) -> Result<Outcome<ItemId>> {
        self.settle(store, ids, |id| {
            Settlement::new(Claim::Item(id.clone()), Change::Remove)
        })
    }

    pub(super) fn compact(&self, store: &Queues) -> Compaction {
        store.queue_compact(&self.job, NEVER).unwrap()
    }

    pub(super) fn journal_path(&self) -> PathBuf {
        self.folder.path().join("dlq/shop/j/items.journal")
    }

    pub(super) fn journal(&self) -> Vec<u8> {
        std::fs::read(self.journal_path()).unwrap_or_default()
    }

    pub(super) fn steps(&self, store: &Queues) -> Vec<QueueStep> {
        store
            .queue_scan(&self.job, &Select::any(), NEVER)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    pub(super) fn entries(&self, store: &Queues) -> Vec<QueueEntry> {
        let entries = self.steps(store).into_iter().map(|step| match step {
            QueueStep::Entry(entry) => entry,
            QueueStep::Damage(damage) => panic!("{damage}"),
            QueueStep::TooLarge(item) => panic!("{item}"),
        });
        entries.collect()
    }

    pub(super) fn ids(&self, store: &Queues) -> Vec<String> {
        self.entries(store)
            .iter()
            .map(|entry| entry.id.to_string())
            .collect()
    }
}

/// The keys or tokens that were settled, and the others.
#[derive(Debug)]
pub(super) struct Outcome<K> {
    pub(super) settled: Vec<K>,
    pub(super) unknown: Vec<K>,
    pub(super) kept: Vec<K>,
}

pub(super) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

pub(super) fn id(text: &str) -> ItemId {
    ItemId::new(text).unwrap()
}

pub(super) fn item(id: &str) -> QueueItem {
    let id_json = Value::from(id);
    item_of(&format!(
        r#"{{"item_id":{id_json},"item_data":{{"for":{id_json},"crc":"x","a":[1,{{"crc":"y"}}]}}}}"#
    ))
}

pub(super) fn item_of(json: &str) -> QueueItem {
    // Each item gets a different time of failure, so that a push of the same id counts as a new failure.
    static TIME: AtomicI64 = AtomicI64::new(1_700_000_000_000);
    let time = Timestamp::from_millis(TIME.fetch_add(1, Ordering::Relaxed)).to_rfc3339();
    let mut fields = json.trim_end().strip_suffix('}').unwrap().to_owned();
    for name in ["first_attempt", "last_attempt"] {
        if !json.contains(&format!("\"{name}\":")) {
            fields.push_str(&format!(r#","{name}":"{time}""#));
        }
    }
    normalise(&raw(&(fields + "}"))).unwrap()
}

pub(super) fn value(entry: &QueueEntry) -> Value {
    serde_json::from_str(entry.body.get()).unwrap()
}

/// A file system that counts its calls, and makes calls fail on request. With `quick` it skips syncs, for tests with
/// thousands of calls.
#[derive(Debug)]
pub(super) struct Faulty {
    real: RealFs,
    quick: bool,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The number of bytes that can still be written, plus 1; 0 means no limit.
    pub(super) room: AtomicU64,
    /// The number of upcoming syncs that fail.
    pub(super) syncs: AtomicU64,
    /// `spoilt` is the offset of a byte that is read with a wrong value; 0 means none. `sound` is the number of reads
    /// before that, which still return the right value.
    pub(super) spoilt: AtomicU64,
    pub(super) sound: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) synced: AtomicU64,
}

impl Faults {
    /// The numbers since the last call: of bytes read, bytes written, writes and syncs.
    pub(super) fn work(&self) -> [u64; 4] {
        [&self.read, &self.written, &self.writes, &self.synced]
            .map(|counter| counter.swap(0, Ordering::Relaxed))
    }
}

impl Faulty {
    pub(super) fn store(place: &Place) -> (Queues, Arc<Faults>) {
        Self::open(place, false)
    }

    fn open(place: &Place, quick: bool) -> (Queues, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let fs = Self {
            real: RealFs::new(place.folder.path()),
            quick,
            faults: Arc::clone(&faults),
        };
        (
            Queues::new(crate::root::Root::new(Arc::new(fs), place.options())),
            faults,
        )
    }
}

impl FileSystem for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        let file = self.real.open(path, mode)?;
        // Faults apply only to the two files of a queue, and not to its lock file or to fencing marks.
        let counts = path.starts_with("dlq") && path.extension().is_none_or(|end| end != "lock");
        if !counts && !self.quick {
            return Ok(file);
        }
        Ok(Box::new(FaultyFile {
            file,
            quick: self.quick,
            faults: Arc::clone(&self.faults),
        }))
    }

    fn create_root(&self) -> io::Result<()> {
        self.real.create_root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.quick {
            Ok(())
        } else {
            self.real.sync_dir(path)
        }
    }

    fn sync_above_root(&self) -> io::Result<()> {
        if self.quick {
            Ok(())
        } else {
            self.real.sync_above_root()
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.real.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.real.list(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        self.real.folder(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.real.metadata(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn FsFile>,
    quick: bool,
    faults: Arc<Faults>,
}

impl FaultyFile {
    fn sync_with(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        self.faults.synced.fetch_add(1, Ordering::Relaxed);
        let left = &self.faults.syncs;
        if left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
        {
            return Err(io::Error::other("the disk is gone"));
        }
        if self.quick { Ok(()) } else { sync() }
    }
}

impl FsFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        let spoilt = self.faults.spoilt.load(Ordering::Relaxed);
        if spoilt > 0 && (offset..offset + read as u64).contains(&spoilt) {
            let sound = &self.faults.sound;
            let less = |n: u64| n.checked_sub(1);
            if sound
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_err()
            {
                buffer[(spoilt - offset) as usize] ^= 1;
            }
        }
        self.faults.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let end = self.file.metadata()?.len;
        let grows = (offset + bytes.len() as u64).saturating_sub(end);
        let room = self.faults.room.load(Ordering::Relaxed);
        let mut len = bytes.len() as u64;
        if room > 0 && grows > room - 1 {
            len -= grows - (room - 1);
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let written = self.file.write_at(&bytes[..len as usize], offset)?;
        if room > 0 {
            self.faults.room.fetch_sub(grows.min(room - 1), Ordering::Relaxed);
        }
        self.faults.writes.fetch_add(1, Ordering::Relaxed);
        self.faults.written.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_with(|| self.file.sync())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_with(|| self.file.sync_all())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_mode(mode)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.file.descriptor()
    }
}

/// The line of an item as an earlier version wrote it, without birth and other numbers.
pub(super) fn old_line(body: &RawValue, lease: Option<&Lease>) -> Vec<u8> {
    let mut line = body.get().strip_suffix('}').unwrap().as_bytes().to_vec();
    encode_claims(&mut line, lease, None);
    prodigy_storage_backend::record::add_checksum(&mut line, 0);
    line
}
