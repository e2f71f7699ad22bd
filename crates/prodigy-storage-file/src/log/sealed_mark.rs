//! The mark of sealed segments: a summary of the older segments of a log for a new writer.
//!
//! It is an empty file in the folder of the log, `.sealed-{made}-{newest id}`. It says that each segment of ours that
//! was created up to `made` is sealed, and that none of their ids is above the newest id. Both stay true: nothing is
//! appended to a sealed segment, and a new segment is created after all others. So a new writer does not have to
//! examine thousands of segments. The mark is a hint: it is not synced, and a log without a mark is complete.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, EventId, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};

use super::clock::StepClock;
use super::segment_ref::SegmentRef;
use super::{listing, search};
use crate::fs::OpenMode;
use crate::root::Root;

const PREFIX: &str = ".sealed-";
/// The number of segments that a new writer may examine, and the least number that a mark adds to the one before it.
pub(super) const WORTH: usize = 256;

/// The number of segments that a mark adds at most to the one before it.
const PART: usize = 1024;

/// A mark, as its name states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SealedMark {
    pub(super) made: Timestamp,
    pub(super) newest: EventId,
}

impl SealedMark {
    /// Reads the name of a mark; `None` for any other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (made, newest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let made = Stamp::parse(made).filter(Stamp::is_canonical)?.time();
        let newest: EventId = newest.parse().ok()?;
        let mark = Self { made, newest };
        (mark.name() == name).then_some(mark)
    }

    fn name(self) -> String {
        format!("{PREFIX}{}-{}", self.made, self.newest)
    }

    /// True if a segment is known to be sealed.
    pub(super) fn covers(self, name: &SegmentName) -> bool {
        name.is_canonical() && name.twin_form().is_none() && name.made() <= self.made
    }
}

/// Writes a mark that covers all sealed segments before the first one that is not sealed, if it covers enough new
/// ones, and removes the older marks. A mark is written after every [`PART`] segments, so that the work of a process
/// that ends early is not lost.
pub(super) fn renew(root: &Arc<Root>, folder: &Path) -> Result<()> {
    while renew_by_a_part(root, folder)? {}
    Ok(())
}

/// True if there may be more segments to cover.
fn renew_by_a_part(root: &Arc<Root>, folder: &Path) -> Result<bool> {
    let clock = &mut StepClock::default();
    let listing = listing::list(root, folder, Deadline::never())?;
    let before = listing.marks.iter().max().copied();
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
            Ok(found) if !found.is_sealed() || found.is_unlocked() => break,
            Ok(_) => {}
            // It is compressed, and so it is sealed.
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
    let path = folder.join(SealedMark { made, newest }.name());
    match root.fs.open(&path, OpenMode::CreateNew) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // The log was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(root.write_fault("mark sealed segments", &path, error)),
    }
    for mark in listing.marks {
        match root.fs.unlink(&folder.join(mark.name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(root.write_fault("mark sealed segments", folder, error));
            }
            _ => {}
        }
    }
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
        };
        assert_eq!(SealedMark::parse(&mark.name()), Some(mark));
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
