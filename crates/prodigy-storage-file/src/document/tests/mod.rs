//! Tests of documents.

mod conditions;
mod damage;
mod fences;
mod newest;
#[cfg(feature = "compression")]
mod packed;
mod safety;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    Added, Body, Clock, Deadline, Durability, ErrorKind, Expected, Fence, PutOptions, Result, Revision,
    SystemClock, Uptime,
};
use prodigy_storage_layout::{
    Document, DocumentScope, Entry, JobAddress, JobId, Phase, RepoName, Stamp, Timestamp,
};

use crate::document::Documents;
use crate::fs::TEMP_PREFIX;
use crate::fs::faulty::{Faulty, Switches};
use crate::fs::{FILE_MODE, FOLDER_MODE, RealFs};
use crate::root::FileOptions;

#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }
}

struct Place {
    dir: tempfile::TempDir,
    hand: Arc<Hand>,
}

impl Place {
    fn new() -> Self {
        let hand = Arc::new(Hand::default());
        hand.0.store(1_764_018_118_000_000_000, Ordering::Relaxed);
        Self {
            dir: tempfile::tempdir().unwrap(),
            hand,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A second store with no shared state, like that of another process.
    fn store(&self, change: impl FnOnce(FileOptions) -> FileOptions) -> Documents {
        let clock: Arc<dyn Clock> = Arc::clone(&self.hand) as _;
        let options = change(FileOptions::new(self.root()).clock(clock));
        Documents::new(crate::root::Root::new(
            Arc::new(RealFs::new(self.root())),
            options,
        ))
    }

    fn writer(&self) -> Documents {
        self.store(|options| options)
    }

    fn reader(&self) -> Documents {
        self.store(|options| options.read_only(true))
    }

    fn path(&self, document: &Document) -> PathBuf {
        self.root().join(document.path())
    }

    /// All paths below the root, with the bytes of files.
    fn everything(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let mut all = BTreeSet::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let kind = std::fs::symlink_metadata(&path).unwrap();
                all.insert((path.clone(), std::fs::read(&path).unwrap_or_default()));
                if kind.is_dir() {
                    folders.push(path);
                }
            }
        }
        all
    }

    fn quarantined(&self) -> Vec<Vec<u8>> {
        std::fs::read_dir(self.root().join("quarantine"))
            .into_iter()
            .flatten()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }
}

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("mapreduce-7").unwrap())
}

fn never() -> Deadline {
    Deadline::never()
}

fn parsed(body: &str) -> Body<'_> {
    Body::parse(body.as_bytes()).unwrap()
}

fn put(store: &Documents, document: &Document, body: &str, expected: Expected) -> Result<Revision> {
    let options = PutOptions::default().expect(expected);
    store.put(document, parsed(body), &options, never())
}

fn add(store: &Documents, phase: Phase, body: &str, options: &PutOptions) -> Result<Added> {
    store.add(&job(), phase, parsed(body), options, never())
}

fn body(store: &Documents, document: &Document) -> Option<String> {
    let document = store.get(document, never()).unwrap()?;
    Some(String::from_utf8(document.body().to_vec()).unwrap())
}

fn fenced(token: u64) -> PutOptions {
    PutOptions::default().fencing(Fence::unnamed(token).ok())
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn all_documents() -> [Document; 6] {
    let stamp = Stamp::from(Timestamp::from_millis(7));
    [
        Document::Setup(job()),
        Document::Map(job(), stamp.clone()),
        Document::Reduce(job(), stamp),
        Document::Orphans(job()),
        Document::Finished(job()),
        Document::Repository(job().repo),
    ]
}
