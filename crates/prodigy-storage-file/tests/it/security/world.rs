//! A root, files outside of it, and a run of all operations of a backend on it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::letters::{acknowledged, released, removed};
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, Durability, Expected, ItemId, LockOptions,
    LockStore, LogStore, PutOptions, QueueItem, QueueStore, Result, ScanOptions, Select, StorageError,
};
use prodigy_storage_file::fs::FileSystem;
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName};
use serde_json::value::RawValue;
use tempfile::TempDir;

pub const NEVER: Deadline = Deadline::never();

/// The state of a path, without following links: kind and mode, owner, mtime, and contents.
type Seen = (u32, u32, (i64, i64), Vec<u8>);

pub struct World {
    dir: TempDir,
}

impl World {
    /// Creates a world without a root. Outside of the root's path, there are a file and a folder.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("outside/folder")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "keep this").unwrap();
        std::fs::write(dir.path().join("outside/folder/file"), "this too").unwrap();
        Self { dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub fn top(&self) -> &Path {
        self.dir.path()
    }

    pub fn options(&self) -> FileOptions {
        options(&self.root())
    }

    /// Creates another world, with a copy of the root.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy_tree(&self.root(), &copy.root());
        copy
    }

    /// The state of all files and folders outside of the root.
    pub fn seen_outside(&self) -> BTreeMap<PathBuf, Seen> {
        let mut all = BTreeMap::new();
        for path in paths(&self.outside()) {
            all.insert(path.clone(), look(&self.outside().join(path)));
        }
        all
    }
}

/// Options with small segments, which are compressed.
pub fn options(root: &Path) -> FileOptions {
    FileOptions::new(root).max_file_size(700).compression(true)
}

/// The paths below a folder, relative to it. The first path is empty, for the folder itself.
pub fn paths(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        let whole = top.join(&path);
        if std::fs::symlink_metadata(&whole).is_ok_and(|seen| seen.is_dir()) {
            let mut names: Vec<_> = std::fs::read_dir(&whole)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            found.extend(names.into_iter().map(|name| path.join(name)));
        }
    }
    found
}

fn look(path: &Path) -> Seen {
    let seen = std::fs::symlink_metadata(path).unwrap();
    let contents = if seen.is_file() {
        std::fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    (
        seen.mode(),
        seen.uid(),
        (seen.mtime(), seen.mtime_nsec()),
        contents,
    )
}

/// Copies a folder with everything in it, including the modes.
pub fn copy_tree(from: &Path, to: &Path) {
    let seen = std::fs::symlink_metadata(from).unwrap();
    if seen.is_dir() {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        }
        std::fs::set_permissions(to, seen.permissions()).unwrap();
    } else if seen.is_file() {
        std::fs::copy(from, to).unwrap();
    }
}

pub fn remove(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|seen| seen.is_dir()) {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        let _ = std::fs::remove_file(path);
    }
}

/// An object that another user puts at the path of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A link to a copy of the file, which is outside of the root.
    LinkToCopy,
    /// A link to another file outside of the root.
    LinkToFile,
    /// A link to a folder outside of the root.
    LinkToFolder,
    /// A dangling link into a folder outside of the root.
    Dangling,
    /// A hard link to a copy of the file, which is outside of the root.
    HardLink,
    Fifo,
    /// A folder instead of a file, or a file instead of a folder.
    Wrong,
}

impl Plant {
    pub const LINKS: [Self; 4] = [
        Self::LinkToCopy,
        Self::LinkToFile,
        Self::LinkToFolder,
        Self::Dangling,
    ];

    /// Puts this object at a path of the root, in place of the file or folder there.
    pub fn at(self, world: &World, path: &Path) {
        let whole = world.root().join(path);
        let twin = world.outside().join("twin");
        let folder = std::fs::symlink_metadata(&whole).is_ok_and(|seen| seen.is_dir());
        if matches!(self, Self::LinkToCopy | Self::HardLink) {
            remove(&twin);
            if std::fs::symlink_metadata(&whole).is_ok() {
                copy_tree(&whole, &twin);
            } else {
                std::fs::write(&twin, "").unwrap();
            }
        }
        remove(&whole);
        match self {
            Self::LinkToCopy => symlink(twin, whole).unwrap(),
            Self::LinkToFile => symlink(world.outside().join("file"), whole).unwrap(),
            Self::LinkToFolder => symlink(world.outside().join("folder"), whole).unwrap(),
            Self::Dangling => symlink(world.outside().join("folder/new"), whole).unwrap(),
            Self::HardLink => std::fs::hard_link(twin, whole).unwrap(),
            Self::Fifo => make_fifo(&whole),
            Self::Wrong if folder => std::fs::write(whole, "").unwrap(),
            Self::Wrong => std::fs::create_dir(whole).unwrap(),
        }
    }
}

pub fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

pub fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("mapreduce-7").unwrap())
}

/// The result of running all operations of a backend.
#[derive(Default)]
pub struct Run {
    pub errors: Vec<StorageError>,
    /// The number of events that a scan returned.
    pub events: usize,
}

impl Run {
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    pub fn on(options: FileOptions) -> Self {
        let mut run = Self::default();
        if let Some(backend) = run.note(FileBackend::open(options)) {
            run.all(&backend);
        }
        run
    }

    pub fn on_file_system(fs: Arc<dyn FileSystem>, options: FileOptions) -> Self {
        let mut run = Self::default();
        if let Some(backend) = run.note(FileBackend::open_on(fs, options)) {
            run.all(&backend);
        }
        run
    }

    pub fn all(&mut self, backend: &FileBackend) {
        self.log(backend);
        self.documents(backend);
        self.queue(backend);
        self.others(backend);
        self.note(backend.flush(NEVER));
    }

    fn log(&mut self, backend: &FileBackend) {
        for round in 0..8 {
            let mut batch = Batch::new();
            batch.push(&format!("{round}{}", "x".repeat(200))).unwrap();
            let options = AppendOptions::new(Durability::Relaxed);
            self.note(backend.append(&job(), &mut batch, &options, NEVER));
        }
        self.note(backend.flush(NEVER));
        if let Some(mut scan) = self.note(backend.scan(&job(), &ScanOptions::all(), NEVER)) {
            while let Some(Some(_)) = self.note(scan.next()) {
                self.events += 1;
            }
        }
        self.note(backend.log_summary(&job(), NEVER));
    }

    fn documents(&mut self, backend: &FileBackend) {
        let relaxed = PutOptions::new(Durability::Relaxed);
        for document in [
            Document::Setup(job()),
            Document::Orphans(job()),
            Document::Finished(job()),
            Document::Repository(job().repo),
        ] {
            self.note(backend.get(&document, NEVER));
            self.note(backend.put(&document, Body::parse(b"{\"n\":1}").unwrap(), &relaxed, NEVER));
            if let Some(Some(revision)) = self.note(backend.revision(&document, NEVER)) {
                let expected = PutOptions::new(Durability::Relaxed).expect(Expected::Revision(revision));
                self.note(backend.put(&document, Body::parse(b"{\"n\":2}").unwrap(), &expected, NEVER));
            }
        }
        for phase in [Phase::Map, Phase::Reduce] {
            self.note(backend.add(&job(), phase, Body::EMPTY, &relaxed, NEVER));
        }
        for scope in [DocumentScope::Job(job()), DocumentScope::Repositories] {
            let page = self.note(backend.list(&scope, &Default::default(), NEVER));
            for listed in page.map(|page| page.entries).unwrap_or_default() {
                self.note(backend.get(&listed.document, NEVER));
            }
        }
        let gone = Document::Finished(job());
        self.note(backend.delete(&gone, Expected::Any, Durability::Relaxed, None, NEVER));
    }

    fn queue(&mut self, backend: &FileBackend) {
        for id in ["a", "b", "a"] {
            let body = format!("{{\"item_id\":\"{id}\",\"item_data\":{{\"n\":1}}}}");
            let item = QueueItem {
                id: ItemId::new(id).unwrap(),
                body: RawValue::from_string(body).unwrap(),
            };
            self.note(backend.queue_put(&job(), &[item], Durability::Relaxed, None, NEVER));
        }
        self.note(backend.queue_get(&job(), &ItemId::new("a").unwrap(), NEVER));
        if let Some(scan) = self.note(backend.queue_scan(&job(), &Select::any(), NEVER)) {
            for item in scan {
                self.note(item);
            }
        }
        let lease = Duration::from_secs(3600);
        if let Some(taken) = self.note(backend.queue_take(&job(), &Select::eligible(), 1, lease, None, NEVER))
        {
            let tokens: Vec<_> = taken
                .iter()
                .filter_map(|entry| entry.lease.as_ref().map(|lease| lease.token.clone()))
                .collect();
            for change in [released, acknowledged] {
                let changes: Vec<_> = tokens.iter().map(change).collect();
                self.note(backend.queue_settle(&job(), &changes, None, NEVER));
            }
        }
        let gone = removed(&ItemId::new("b").unwrap());
        self.note(backend.queue_settle(&job(), &[gone], None, NEVER));
        self.note(backend.queue_compact(&job(), NEVER));
    }

    fn others(&mut self, backend: &FileBackend) {
        let name = LockName::new("shop/resume").unwrap();
        if let Some(guard) = self.note(backend.lock(&name, &LockOptions::new("a test"), NEVER)) {
            self.note(guard.release());
        }
        self.note(backend.locks(&Default::default(), NEVER));
        self.note(backend.repositories(&Default::default(), NEVER));
        self.note(backend.jobs(&job().repo, &Default::default(), NEVER));
        self.note(backend.health(NEVER));
        self.note(backend.usage(NEVER));
    }
}

pub fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
