//! Checks that the path of a segment still leads to the file that its writer wrote.

use std::ops::RangeInclusive;
use std::path::Path;

use prodigy_storage_backend::{Result, StorageError};

use super::active::SegmentFile;
use super::writer::{APPEND, HELD};
use crate::root::Root;

/// How thoroughly the path of a segment is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathLook {
    /// With one system call. It does not notice if the root's folder was moved and its path is now a link to it.
    Quick,
    /// The way that readers open it, without following links.
    Whole,
}

/// The error for a segment whose path leads to another file, or whose length is not one of `lens`; `None` otherwise. If
/// the root itself was replaced, the root counts as lost from now on.
pub(super) fn moved(
    root: &Root,
    file: &SegmentFile,
    path: &Path,
    lens: RangeInclusive<u64>,
    look: PathLook,
) -> Result<Option<StorageError>> {
    let found = file.identity().and_then(|ours| {
        let found = root.len_by_path(path, ours)?;
        let is_here = look == PathLook::Quick || root.leads_to(path, ours)?;
        Ok(found.filter(|_| is_here))
    });
    match found {
        Ok(Some(found)) if lens.contains(&found) => Ok(None),
        Ok(found) => {
            root.still_here(APPEND, || Some(HELD))?;
            let why = match found {
                Some(found) if found > *lens.end() => {
                    "the segment is longer than what this process wrote to it: another program wrote to it, or copied a backup into it"
                }
                Some(_) => {
                    "the segment is shorter than what this process wrote to it: another program cut it, or copied a backup into it"
                }
                None => {
                    "the segment, or a folder above it, was removed, moved or replaced while this process wrote to it"
                }
            };
            Ok(Some(root.moved(APPEND, path, why)))
        }
        Err(error) => Err(root.read_fault(APPEND, path, error)),
    }
}
