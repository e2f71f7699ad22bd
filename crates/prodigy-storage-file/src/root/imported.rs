//! Records of files of other programs whose contents were imported. Readers do not report that they skip these files.
//!
//! The record for a folder is `imported/{folder}/files.json`. It states the length and the mtime that each file had
//! when it was read. A file that was written to since then is not covered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Durability, ForeignKind, Result};
use prodigy_storage_layout::{Entry, IMPORTED, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Replace, Root, TempFile};
use crate::fs::{FileKind, OpenMode};

const MARK: &str = "mark as imported";
/// The largest length of a record, in bytes. A longer one is ignored.
const LONGEST: u64 = 64 << 20;

/// The length and mtime of a file when its contents were imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AsImported {
    pub(crate) len: u64,
    pub(crate) modified: Timestamp,
}

/// The record of one folder's imported files, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Imported {
    files: BTreeMap<String, AsImported>,
}

impl Imported {
    /// The record for a folder. If it can't be read, it covers no file, so all of them are reported again.
    pub(crate) fn in_folder(root: &Root, folder: &Path) -> Self {
        let read = root.fs.open(&note_of(folder), OpenMode::Read);
        let bytes = read.and_then(|file| match file.metadata()?.len {
            0..=LONGEST => file.read_to_end(0, LONGEST),
            _ => Ok(Vec::new()),
        });
        let note = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        note.unwrap_or_default()
    }

    /// True if a file has not changed since it was imported.
    pub(crate) fn covers(&self, root: &Root, folder: &Path, name: &str) -> bool {
        self.files.get(name).is_some_and(|noted| {
            let found = root.fs.metadata(&folder.join(name));
            found.is_ok_and(|found| {
                found.kind == FileKind::File && (found.len, found.modified) == (noted.len, noted.modified)
            })
        })
    }

    /// Records these files as imported. Files that readers of the store read in place are left out. If two processes
    /// record files of one folder at the same time, one of the records may be lost, and those files are then reported
    /// again.
    pub(crate) fn mark(root: &Root, files: &[(PathBuf, AsImported)]) -> Result<()> {
        let mut folders: BTreeMap<&Path, Vec<(&str, AsImported)>> = BTreeMap::new();
        for (path, file) in files {
            let name = path.file_name().and_then(|name| name.to_str());
            if let (None, Some(folder), Some(name)) = (Entry::parse(path), path.parent(), name) {
                folders.entry(folder).or_default().push((name, *file));
            }
        }
        for (folder, files) in folders {
            let mut note = Self::in_folder(root, folder);
            let mut is_new = false;
            for (name, file) in files {
                is_new |= note.files.insert(name.to_owned(), file) != Some(file);
            }
            if !is_new {
                continue;
            }
            root.prepare_write(MARK, &root.absolute(folder).display())?;
            let path = note_of(folder);
            let bytes = serde_json::to_vec(&note)
                .map_err(|error| root.write_fault(MARK, &path, std::io::Error::other(error)))?;
            TempFile::sweep_all(root, path.parent().unwrap_or(Path::new("")));
            TempFile::write_whole(root, MARK, &path, &[&bytes], Replace::Over, Durability::Strict)?;
        }
        Ok(())
    }
}

fn note_of(folder: &Path) -> PathBuf {
    Path::new(IMPORTED).join(folder).join("files.json")
}

impl Root {
    /// Reports files of another program that a reader skipped, except those whose contents were imported.
    pub(crate) fn skip_files(&self, kind: ForeignKind, folder: &Path, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let imported = Imported::in_folder(self, folder);
        let skipped = names.iter().filter(|name| !imported.covers(self, folder, name));
        self.foreign.skip(kind, folder, skipped.count() as u64);
    }
}
