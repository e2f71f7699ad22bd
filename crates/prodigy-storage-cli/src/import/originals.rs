//! Files that other programs wrote into the root of this store. Some need no import, because the store reads them in
//! place. The others are recorded after their import, and then no longer reported as skipped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[cfg(feature = "file")]
use prodigy_storage::doctor::Doctor;
use prodigy_storage::{Result as Stored, Storage, Timestamp};

use super::find::{Files, ImportFile, Kind};

/// The number of bytes that are compared at once.
const CHUNK: u64 = 64 << 10;

/// The path, length and mtime of a file in the root, taken before the file was read.
pub(crate) struct Original {
    path: PathBuf,
    len: u64,
    modified: Timestamp,
}

/// Replaces the doctor if the file backend is not compiled in. It has no values, since no store then has a root.
#[cfg(not(feature = "file"))]
enum Doctor {}

#[cfg(not(feature = "file"))]
impl Doctor {
    fn is_read(&self, _: &Path) -> bool {
        match *self {}
    }

    fn mark_imported(&self, _: &[(PathBuf, u64, Timestamp)]) -> Stored<()> {
        match *self {}
    }
}

/// The root of a file store, and its doctor, which records imported files.
pub(crate) struct Originals {
    root: PathBuf,
    doctor: Doctor,
}

impl Originals {
    /// The originals of a store; `None` if its backend has no root.
    pub(crate) fn of(storage: &Storage) -> Option<Self> {
        let root = storage.capabilities().root?.canonicalize().ok()?;
        #[cfg(feature = "file")]
        let doctor = storage.doctor().ok();
        #[cfg(not(feature = "file"))]
        let doctor: Option<Doctor> = None;
        Some(Self {
            root,
            doctor: doctor?,
        })
    }

    /// True if a folder is the root of this store.
    pub(super) fn is_root(&self, folder: &Path) -> bool {
        folder.canonicalize().is_ok_and(|folder| folder == self.root)
    }

    /// The path of a file relative to the root, if the file is in the root.
    pub(crate) fn inside(&self, file: &Path) -> Option<PathBuf> {
        let path = file.canonicalize().ok()?;
        Some(path.strip_prefix(&self.root).ok()?.to_owned())
    }

    /// The path, relative to the root, of a file that is in the root or is in a copy of it.
    pub(super) fn of_copy(&self, folder: &Path, file: &Path) -> Option<PathBuf> {
        let below = file.strip_prefix(folder).ok()?;
        let original = self.root.join(below);
        let is_it = self.inside(&original)? == below
            && (original.canonicalize().ok()? == file.canonicalize().ok()?
                || is_same(&original, file).ok()?);
        is_it.then(|| below.to_owned())
    }

    /// True if the store reads this file of another program in place.
    pub(super) fn is_read(&self, path: &Path) -> bool {
        self.doctor.is_read(path)
    }

    /// The path, length and mtime of a file below the root. Called before the file is read.
    pub(crate) fn seen(&self, path: PathBuf) -> Option<Original> {
        let found = fs::symlink_metadata(self.root.join(&path)).ok()?;
        Some(Original {
            path,
            len: found.len(),
            modified: found.modified().ok()?.into(),
        })
    }

    /// Records that the contents of files were imported.
    pub(crate) fn mark(&self, files: &[Original]) -> Stored<()> {
        let files: Vec<_> = files
            .iter()
            .map(|file| (file.path.clone(), file.len, file.modified))
            .collect();
        self.doctor.mark_imported(&files)
    }
}

/// Removes from `files` those that the store reads in place, and copies of such files. Returns the number of removed
/// files.
pub(super) fn leave_what_is_read(files: &mut Files, folder: &Path, originals: Option<&Originals>) -> usize {
    let Some(root) = originals else { return 0 };
    let before = files.found.len();
    files.found.retain(|file| {
        let is_read = root.of_copy(folder, &file.path).is_some_and(|original| {
            let repo = original.iter().nth(1).and_then(|repo| repo.to_str());
            root.is_read(&original) && repo == file.repo.as_deref()
        });
        !is_read
    });
    before - files.found.len()
}

/// The files in the store's own root whose contents were imported, directly or from a copy.
pub(super) struct Done<'d> {
    folder: &'d Path,
    originals: Option<&'d Originals>,
    files: Vec<(ImportFile, Original)>,
}

impl<'d> Done<'d> {
    pub(super) fn new(folder: &'d Path, originals: Option<&'d Originals>) -> Self {
        Self {
            folder,
            originals,
            files: Vec::new(),
        }
    }

    /// The path, length and mtime of a file's original in the root, taken before the file is read. `None` if the file
    /// has no original there.
    pub(super) fn before(&self, file: &Path) -> Option<Original> {
        let root = self.originals?;
        root.seen(root.of_copy(self.folder, file)?)
    }

    pub(super) fn after(&mut self, file: &ImportFile, original: Option<Original>, is_whole: bool) {
        if is_whole {
            self.files
                .extend(original.map(|original| (file.clone(), original)));
        } else if file.kind == Kind::Events {
            // Events are compared with the store after the last event file of a job, so a difference concerns all
            // event files of the job.
            let is_same =
                |done: &ImportFile| (done.kind, &done.repo, &done.job) == (file.kind, &file.repo, &file.job);
            self.files.retain(|(done, _)| !is_same(done));
        }
    }

    pub(super) fn mark(self, indexes: &[PathBuf]) -> Stored<()> {
        let indexes: Vec<Original> = indexes.iter().filter_map(|index| self.before(index)).collect();
        let Some(root) = self.originals else { return Ok(()) };
        let files: Vec<Original> = self
            .files
            .into_iter()
            .map(|(_, original)| original)
            .chain(indexes)
            .collect();
        root.mark(&files)
    }
}

/// True if two files have the same bytes.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        one.by_ref().take(CHUNK).read_to_end(&mut a)?;
        other.by_ref().take(CHUNK).read_to_end(&mut b)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}
