//! The quarantine, which keeps copies of damaged bytes that a repair is about to remove.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Durability, Result};
use prodigy_storage_layout::{QUARANTINE, Stamp, Timestamp};

use super::{Replace, Root, TempFile};
use crate::fs::FileKind;

const CLEAR: &str = "clear quarantine";

/// The quarantine folder of a root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quarantine<'r>(&'r Root);

/// The end of a name in the quarantine, which follows its time: the offset, and the end of the original path.
fn end_of_name(path: &Path, offset: u64) -> String {
    let flat = path.to_string_lossy().replace(['/', '\\'], "_");
    // A name has at most 255 bytes. The end of a path identifies the file best.
    let tail: String = {
        let mut chars: Vec<char> = flat.chars().rev().take(100).collect();
        chars.reverse();
        while chars.iter().map(|c| c.len_utf8()).sum::<usize>() > 150 {
            chars.remove(0);
        }
        chars.into_iter().collect()
    };
    format!("-{offset}-{tail}")
}

impl<'r> Quarantine<'r> {
    pub(crate) fn of(root: &'r Root) -> Self {
        Self(root)
    }

    /// A new path in the quarantine. The name contains the time, the offset, and the end of the original path.
    pub(crate) fn path_for(self, path: &Path, offset: u64) -> PathBuf {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Path::new(QUARANTINE).join(format!(
            "{}-{}{}",
            self.0.now(),
            random.get(..8).unwrap_or_default(),
            end_of_name(path, offset)
        ))
    }

    /// The newest copy of bytes of this file from this offset on.
    pub(crate) fn newest_of(self, path: &Path, offset: u64) -> Option<PathBuf> {
        let folder = Path::new(QUARANTINE);
        let end = end_of_name(path, offset);
        let names = self.0.names_in("find in quarantine", folder).ok()?.into_iter();
        let newest = names
            .map(|entry| entry.name)
            .filter(|name| name.ends_with(&end))
            .max()?;
        Some(folder.join(newest))
    }

    /// Copies bytes to a new file in the quarantine. The copy is durable on return.
    pub(crate) fn keep(self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let kept = self.path_for(path, offset);
        TempFile::write_whole(
            self.0,
            "quarantine",
            &kept,
            &[bytes],
            Replace::Never,
            Durability::Strict,
        )?;
        tracing::warn!(from = %path.display(), offset, bytes = bytes.len(), to = %kept.display(), "moved to quarantine");
        Ok(())
    }

    /// Moves a file into the quarantine. The caller syncs its folder.
    pub(crate) fn take(self, operation: &'static str, path: &Path) -> Result<()> {
        let (root, kept) = (self.0, self.path_for(path, 0));
        root.make_folder(Path::new(QUARANTINE))?;
        root.fs
            .rename_new(path, &kept)
            .map_err(|error| root.write_fault(operation, path, error))?;
        tracing::warn!(from = %path.display(), to = %kept.display(), "moved to quarantine");
        root.sync_folder(Path::new(QUARANTINE))
    }

    /// Removes what was put into the quarantine before a moment: files, links, and folders with everything in them.
    /// Returns the number and the size of the files. With `dry_run`, nothing is removed.
    pub(crate) fn clear(self, before: Timestamp, dry_run: bool) -> Result<(u64, u64)> {
        let folder = Path::new(QUARANTINE);
        let (mut files, mut bytes) = (0, 0);
        for entry in self.0.names_in(CLEAR, folder)? {
            let path = folder.join(&entry.name);
            let Ok(found) = self.0.fs.metadata(&path) else {
                continue;
            };
            if put_there(&entry.name).unwrap_or(found.modified) >= before {
                continue;
            }
            let (of_it, size) = self.remove(&path, entry.kind, dry_run)?;
            files += of_it;
            bytes += size;
        }
        if files > 0 && !dry_run {
            self.0.sync_folder(folder)?;
        }
        Ok((files, bytes))
    }

    /// Removes a file, a link, or a folder with everything in it. Returns the number and the size of the files; an empty
    /// folder counts as one.
    fn remove(self, path: &Path, kind: FileKind, dry_run: bool) -> Result<(u64, u64)> {
        let fault = |error| self.0.write_fault(CLEAR, path, error);
        if kind != FileKind::Folder {
            let bytes = self.0.fs.metadata(path).map_or(0, |found| found.len);
            if !dry_run {
                self.0.fs.unlink(path).map_err(fault)?;
            }
            return Ok((1, bytes));
        }
        let (mut files, mut bytes) = (0, 0);
        for entry in self.0.names_in(CLEAR, path)? {
            let (of_it, size) = self.remove(&path.join(&entry.name), entry.kind, dry_run)?;
            files += of_it;
            bytes += size;
        }
        if !dry_run {
            self.0.fs.remove_dir(path).map_err(fault)?;
        }
        Ok((files.max(1), bytes))
    }
}

/// The time at which a file was put into the quarantine, from its name. The mtime of the file may be older.
fn put_there(name: &str) -> Option<Timestamp> {
    let (stamp, _) = name.split_once('-')?;
    Some(Stamp::parse(stamp).filter(Stamp::is_canonical)?.time())
}
