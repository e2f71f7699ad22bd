//! The mark of sealed segments, which saves a new writer the examination of the older segments of a log.
//!
//! It is an empty file in the folder of the log, `.sealed-{made}-{newest id}-{check}`. Its name states that all
//! segments of ours that were created up to `made` are sealed, and that none of their ids is above the newest id. Both
//! remain true: nothing is appended to a sealed segment, and a new segment gets a later creation time than all others.
//! So a new writer does not have to examine thousands of segments. The mark is a hint: it is not synced, and a log
//! without a mark is complete.
//!
//! A person may copy the mark to another folder, or remove the segments but not the mark. So `check` is a hash of the
//! identity of the folder and of the names of the covered segments. A mark with another hash is ignored, and the next
//! new writer removes it before it appends.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, EventId, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::clock::StepClock;
use super::segment_ref::SegmentRef;
use super::{listing, search};
use crate::fs::OpenMode;
use crate::root::{FolderId, Root};

const PREFIX: &str = ".sealed-";
/// The number of segments that is worth a new mark. A new writer examines about this many segments at most.
pub(super) const WORTH: usize = 256;

/// The largest number of segments that a mark covers in addition to the mark before it.
const PART: usize = 1024;

/// The contents of a mark's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SealedMark {
    pub(super) made: Timestamp,
    pub(crate) newest: EventId,
    /// The hash that shows that the mark belongs to the folder. A mark of an earlier version has none, and is never
    /// trusted.
    check: Option<u64>,
}

impl SealedMark {
    /// Parses the name of a mark; `None` for any other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (made, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let made = Stamp::parse(made).filter(Stamp::is_canonical)?.time();
        let (newest, check) = match rest.parse() {
            Ok(newest) => (newest, None),
            Err(_) => {
                let (newest, check) = rest.rsplit_once('-')?;
                (newest.parse().ok()?, Some(u64::from_str_radix(check, 16).ok()?))
            }
        };
        let mark = Self { made, newest, check };
        (mark.name() == name).then_some(mark)
    }

    fn name(self) -> String {
        let check = self
            .check
            .map(|check| format!("-{check:016x}"))
            .unwrap_or_default();
        format!("{PREFIX}{}-{}{check}", self.made, self.newest)
    }

    /// False for a mark of an earlier version, whose name has no hash.
    pub(crate) fn has_check(self) -> bool {
        self.check.is_some()
    }

    pub(crate) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    /// True if the mark states that this segment is sealed.
    pub(crate) fn covers(self, name: &SegmentName) -> bool {
        name.is_canonical() && name.twin_form().is_none() && name.made() <= self.made
    }
}

/// The segments of ours in a folder that were not removed, as far as a mark depends on them.
pub(super) struct SealedNames<S> {
    /// The lower bound and the creation time of each.
    pub(super) segments: S,
    /// True if a segment may be there more than once.
    pub(super) may_repeat: bool,
}

/// The newest of the marks that belong to this folder and its segments.
pub(super) fn trusted(
    root: &Root,
    folder: &Path,
    marks: &[SealedMark],
    names: &SealedNames<impl Iterator<Item = (Timestamp, Timestamp)> + Clone>,
) -> Option<SealedMark> {
    if marks.is_empty() {
        return None;
    }
    let mut marks = marks.to_vec();
    marks.sort_unstable();
    let id = root.folder_id(folder).ok()?;
    marks
        .into_iter()
        .rfind(|mark| mark.check == Some(check(id, mark.made, names)))
}

/// A hash of the identity of a folder, and of the names of the segments that a mark up to `made` covers there.
fn check(
    ((_, inode), born): FolderId,
    up_to: Timestamp,
    names: &SealedNames<impl Iterator<Item = (Timestamp, Timestamp)> + Clone>,
) -> u64 {
    let covered = names.segments.clone().filter(|(_, made)| *made <= up_to);
    let hash_of = |(lower, made): (Timestamp, Timestamp)| {
        let name = [lower, made].map(|time| time.as_nanos().to_le_bytes());
        xxh3_64(name.as_flattened())
    };
    let hashes = covered.map(hash_of);
    let segments = if names.may_repeat {
        hashes
            .collect::<HashSet<_>>()
            .into_iter()
            .fold(0, u64::wrapping_add)
    } else {
        hashes.fold(0, u64::wrapping_add)
    };
    let born = born.map_or(0, Timestamp::as_nanos).cast_unsigned();
    xxh3_64([inode, born, segments].map(u64::to_le_bytes).as_flattened())
}

/// Removes marks. A mark that is already gone is no error.
pub(super) fn remove(root: &Root, folder: &Path, marks: impl Iterator<Item = SealedMark>) -> Result<()> {
    for mark in marks {
        root.unlink("remove mark of sealed segments", &mark.path(folder))?;
    }
    Ok(())
}

/// Writes a mark that covers all sealed segments before the first unsealed one, if these are enough new ones, and
/// removes the older marks. A mark is written after every [`PART`] segments, so that the work of a process that ends
/// early is not lost.
pub(super) fn renew(root: &Arc<Root>, folder: &Path) -> Result<()> {
    while renew_by_a_part(root, folder)? {}
    Ok(())
}

/// Makes the mode of a closed segment durable, since it may be about to be sealed: a power loss could otherwise take the
/// mode and keep a mark that covers the segment.
fn sync(root: &Root, path: &Path) -> Result<()> {
    root.counters.sync(path);
    match root
        .fs
        .open(path, OpenMode::Read)
        .and_then(|file| file.sync_all())
    {
        // It has been sealed and compressed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|error| root.read_fault("mark sealed segments", path, error)),
    }
}

/// Writes at most one mark. Returns true if there may be more segments to cover.
fn renew_by_a_part(root: &Arc<Root>, folder: &Path) -> Result<bool> {
    let clock = &mut StepClock::default();
    let listing = listing::list(root, folder, Deadline::never())?;
    let before = listing.trusted_mark(root, folder);
    let id = root
        .folder_id(folder)
        .map_err(|error| root.read_fault("mark sealed segments", folder, error))?;
    let opened = root
        .fs
        .folder(folder)
        .map_err(|error| root.read_fault("mark sealed segments", folder, error))?;
    let mut names: Vec<_> = listing
        .segments
        .keys()
        .filter(|name| name.is_canonical() && before.is_none_or(|mark| name.made() > mark.made))
        .collect();
    names.sort_by_key(|name| name.made());
    let (mut made, mut added) = (None, 0);
    let mut newest = before.map_or(EventId::MIN, |mark| mark.newest);
    for name in names.into_iter().take(PART) {
        match opened.metadata_of(OsStr::new(&name.file_name(SegmentForm::Plain))) {
            Ok(found) if found.is_writable() => break,
            Ok(found) if found.is_closed() => sync(root, &folder.join(name.file_name(SegmentForm::Plain)))?,
            Ok(_) => {}
            // The plain form is gone, so the segment is compressed, and therefore sealed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(root.read_fault("mark sealed segments", folder, error)),
        }
        newest = newest
            .max(EventId::floor(name.lower()))
            .max(search::last_id_of(SegmentRef::new(root, folder, name), clock)?.unwrap_or(EventId::MIN));
        made = Some(name.made());
        added += 1;
    }
    let Some(made) = made.filter(|_| added >= WORTH) else {
        return Ok(false);
    };
    let mark = SealedMark {
        made,
        newest,
        check: Some(check(id, made, &listing.sealed_names())),
    };
    let path = mark.path(folder);
    match root.fs.open(&path, OpenMode::CreateNew) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // The log was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(root.write_fault("mark sealed segments", &path, error)),
    }
    remove(root, folder, listing.marks.into_iter().filter(|old| *old != mark))?;
    Ok(added == PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_any_other_name_is_none() {
        let made = Timestamp::from_nanos(1_800_000_000_123_456_789);
        let mark = SealedMark {
            made,
            newest: EventId::floor(made),
            check: Some(7),
        };
        let old = SealedMark { check: None, ..mark };
        for mark in [mark, old] {
            assert_eq!(SealedMark::parse(&mark.name()), Some(mark));
        }
        for name in [
            mark.name() + "x",
            mark.name().replace(".sealed", "sealed"),
            mark.name().to_uppercase(),
            format!("{PREFIX}20270115_080000-{}", EventId::floor(made)),
            format!("{PREFIX}{made}"),
            PREFIX.to_owned(),
        ] {
            assert_eq!(SealedMark::parse(&name), None, "{name}");
        }
    }
}
