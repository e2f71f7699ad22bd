//! The state that this process keeps of its queues.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use prodigy_storage_backend::{Deadline, Result};

use super::CLOSING;
use super::leases::Leases;
use super::line;
use super::scan::{Fragment, Scanner};
use crate::fs::{FsFile, Metadata, OpenMode};
use crate::root::{Quarantine, Replace, Root, TempFile};

/// Queues that are kept open at once.
const OPEN: usize = 64;
/// Units between two looks at the clock.
pub(super) const STRIDE: usize = 256;

/// Hashes of ids.
pub(super) type Hashes = HashSet<u64, BuildHasherDefault<Hashed>>;

/// Takes a hash for its own hash.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The queues of a root.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(super) root: Arc<Root>,
    pub(crate) leases: Leases,
    /// The state that this process keeps of its queues: checked against the file, under its lock, before every use.
    open: Mutex<HashMap<PathBuf, QueueState>>,
    hasher: RandomState,
    /// Bits of a hash that are left out: tests make all ids collide.
    #[cfg(test)]
    pub(super) ignored_bits: std::sync::atomic::AtomicU64,
}

impl Queues {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            leases: Leases::default(),
            open: Mutex::default(),
            hasher: RandomState::new(),
            #[cfg(test)]
            ignored_bits: std::sync::atomic::AtomicU64::default(),
        }
    }

    pub(super) fn hash(&self, id: &str) -> u64 {
        let hash = self.hasher.hash_one(id);
        #[cfg(test)]
        let hash = hash & !self.ignored_bits.load(std::sync::atomic::Ordering::Relaxed);
        hash
    }

    fn take(&self, path: &Path) -> Option<QueueState> {
        self.open.lock().remove(path)
    }

    /// Remembers a queue; only after everything went well.
    pub(super) fn keep(&self, path: &Path, state: QueueState) {
        let mut all = self.open.lock();
        if all.len() >= OPEN
            && let Some(other) = all.keys().next().cloned()
        {
            all.remove(&other);
        }
        all.insert(path.to_owned(), state);
    }
}

/// One queue's file, as it was when its lock was last held.
#[derive(Debug)]
pub(super) struct QueueState {
    /// Kept open, so that no other file can have its identity.
    pub(super) file: Arc<dyn FsFile>,
    pub(super) identity: (u64, u64),
    /// Where the next item goes: behind the last one.
    pub(super) end: u64,
    /// The whole length.
    pub(super) len: u64,
    /// Whether anything is before the end.
    pub(super) any: bool,
    /// Whether a new item can be written behind the last one; else the file has to be rewritten first.
    pub(super) plain: bool,
    /// Hashes of the ids in it, and perhaps of others: a hit is looked up.
    pub(super) hashes: Hashes,
    /// Whether its name survives power loss.
    pub(super) linked: bool,
    /// Whether all that others left in it survives power loss, as far as this process knows.
    pub(super) synced: bool,
}

impl Queues {
    /// The queue's file in its present state, repaired after a writer that died; `None` if there is no file. Under
    /// the queue's lock.
    pub(super) fn queue_open(
        &self,
        operation: &'static str,
        path: &Path,
        deadline: Deadline,
    ) -> Result<Option<QueueState>> {
        let state = self.take(path);
        let found = match self.root.fs.metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.root.write_fault(operation, path, error)),
        };
        let found = if found.links > 1 {
            if let Some(file) = self.queue_file(operation, path)? {
                self.check_queue(operation, path, &file, deadline)?;
            }
            self.unshare(operation, path, deadline)?
        } else {
            found
        };
        let state = match state {
            Some(state) if state.identity == found.identity && state.end <= found.len => state,
            _ => {
                let folder = path.parent().unwrap_or(Path::new(""));
                TempFile::sweep_all(&self.root, folder);
                let file: Arc<dyn FsFile> = self
                    .root
                    .fs
                    .open(path, OpenMode::Write)
                    .map_err(|error| self.root.write_fault(operation, path, error))?
                    .into();
                let identity = file
                    .metadata()
                    .map_err(|error| self.root.write_fault(operation, path, error))?
                    .identity;
                QueueState {
                    file,
                    identity,
                    end: 0,
                    len: 0,
                    any: false,
                    plain: false,
                    hashes: Hashes::default(),
                    linked: false,
                    synced: false,
                }
            }
        };
        self.catch_up(operation, path, state, found.len, deadline)
            .map(Some)
    }

    /// Replaces a file that has a second name, which may be outside of the root, by a copy: the file is written
    /// in place.
    fn unshare(&self, operation: &'static str, path: &Path, deadline: Deadline) -> Result<Metadata> {
        const CHUNK: usize = 256 << 10;
        let fault = |error| self.root.write_fault(operation, path, error);
        let from = self.root.fs.open(path, OpenMode::Read).map_err(fault)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut temp = TempFile::create(&self.root, operation, folder)?;
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            deadline.check(operation, &path.display(), "the queue to be copied")?;
            let read = from.read_full_at(&mut buffer, offset).map_err(fault)?;
            if read == 0 {
                break;
            }
            temp.append(buffer.get(..read).unwrap_or_default())
                .map_err(|error| temp.fault(error))?;
            offset += read as u64;
        }
        temp.publish(path, Replace::Over)?;
        self.root.sync_folder(folder)?;
        tracing::warn!(path = %path.display(), "a file with a second name was replaced by a copy before it is written to");
        self.root.fs.metadata(path).map_err(fault)
    }

    /// Reads what was added since, and mends the end.
    fn catch_up(
        &self,
        operation: &'static str,
        path: &Path,
        mut state: QueueState,
        len: u64,
        deadline: Deadline,
    ) -> Result<QueueState> {
        let fault = |error| self.root.write_fault(operation, path, error);
        if state.plain && len == state.end + CLOSING.len() as u64 {
            let mut closing = [0; CLOSING.len()];
            let read = state.file.read_full_at(&mut closing, state.end).map_err(fault)?;
            if read == CLOSING.len() && closing == CLOSING {
                state.len = len;
                return Ok(state);
            }
        }
        self.check_queue(operation, path, &state.file, deadline)?;
        // Its writer may have died before the sync, and the repair here is not synced either.
        state.synced = false;
        // A file that has to be rewritten is read from its beginning.
        if !state.plain {
            state.end = 0;
            state.hashes.clear();
        }
        let limit = self.root.options.largest_read();
        let file = Arc::clone(&state.file);
        let any = state.any && state.end > 0;
        let mut scanner = Scanner::resume(file, limit, state.end, any).map_err(fault)?;
        let mut count = 0;
        while let Some(fragment) = scanner.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                deadline.check(operation, &path.display(), "the queue to be read")?;
            }
            match fragment {
                Fragment::Item { range, .. } => {
                    if let Some(id) = line::id(scanner.bytes(range)) {
                        state.hashes.insert(self.hash(&id));
                    }
                }
                Fragment::TooLarge { head, .. } => {
                    if let Some(id) = line::head_id(&head) {
                        state.hashes.insert(self.hash(&id));
                    }
                }
                Fragment::Foreign { .. } => {}
                Fragment::Damage { start, end, why } => {
                    tracing::warn!(path = %path.display(), offset = start, bytes = end - start, why, "damage in a queue");
                }
            }
        }
        let array = scanner.array();
        state.end = array.end;
        state.any = array.any;
        state.plain = array.plain;
        state.len = scanner.len();
        if array.tail.is_some() || !array.closed {
            // It may be in memory only: a loss of power that took it, and not what mends it, would leave a hole.
            state.file.sync().map_err(fault)?;
        }
        if let Some(tail) = array.tail {
            // It was never acknowledged.
            let bytes = state.file.read_to_end(tail, u64::MAX).map_err(fault)?;
            Quarantine::of(&self.root).keep(path, tail, &bytes)?;
        }
        if array.plain && (array.tail.is_some() || !array.closed) {
            close(&mut state).map_err(fault)?;
        } else if let Some(tail) = array.tail {
            state.file.set_len(tail).map_err(fault)?;
            state.len = tail;
        }
        Ok(state)
    }
}

/// Closes the array behind the last item, and cuts what follows: that first, since half an item behind the bracket would
/// be damage. The room of the bracket is kept, which a full disk could not give back.
pub(super) fn close(state: &mut QueueState) -> io::Result<()> {
    let len = state.end + CLOSING.len() as u64;
    if state.file.metadata()?.len > len {
        state.file.set_len(len)?;
        state.file.sync()?;
    }
    state.file.write_all_at(CLOSING, state.end)?;
    state.len = len;
    Ok(())
}
