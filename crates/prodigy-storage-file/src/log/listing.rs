//! Which segments a log has.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use crate::fs::{FileKind, NotRegular};
use crate::store::Store;

/// In which forms a segment was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) plain: bool,
    pub(crate) zstd: bool,
    pub(crate) gzip: bool,
}

impl Forms {
    /// Whether the plain form is the only one.
    pub(crate) fn only_plain(self) -> bool {
        self.plain && !self.zstd && !self.gzip
    }
}

/// A listing of a log's folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// By lower bound.
    pub(crate) segments: BTreeMap<SegmentName, Forms>,
    /// Names of temporary files.
    pub(crate) temps: Vec<String>,
}

impl Listing {
    /// When the newest of ours was made, whatever its lower bound; `but` is left out.
    pub(crate) fn newest_made_but(&self, but: Option<&SegmentName>) -> Option<Timestamp> {
        let ours = self
            .segments
            .keys()
            .filter(|name| name.is_canonical() && Some(*name) != but);
        ours.map(SegmentName::made).max()
    }
}

/// One pass over the folder; an absent one has no segments. A name that comes or goes meanwhile may be missed.
pub(crate) fn list_once(store: &Store, folder: &Path) -> Result<Listing> {
    let entries = match store.fs.list(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
        Err(error) => return Err(store.read_fault("list log", folder, error)),
    };
    let mut listing = Listing::default();
    for entry in entries {
        if entry.kind != FileKind::File {
            if SegmentName::parse(&entry.name).is_some() {
                // Events that are not there must not pass for none.
                return Err(store.read_fault("list log", &folder.join(&entry.name), NotRegular.into()));
            }
            continue;
        }
        if let Some((name, form)) = SegmentName::parse(&entry.name) {
            let forms = listing.segments.entry(name).or_default();
            match form {
                SegmentForm::Plain => forms.plain = true,
                SegmentForm::Zstd => forms.zstd = true,
                SegmentForm::Gzip => forms.gzip = true,
                _ => {}
            }
        } else if entry.name.starts_with(crate::store::TEMP_PREFIX) {
            listing.temps.push(entry.name);
        }
    }
    Ok(listing)
}

/// When the newest segment of ours but `but` was made, if not before `made`.
///
/// It parses next to nothing, since it is made for each new segment, in logs of thousands. Two passes: a segment that is
/// compressed under way may show neither of its names to one, and does so once in its life.
pub(crate) fn newest_made_since(
    store: &Store,
    folder: &Path,
    but: &SegmentName,
    made: Timestamp,
) -> Result<Option<Timestamp>> {
    let bound = made.to_string();
    let mut newest = None;
    for _ in 0..2 {
        let entries = store
            .fs
            .list(folder)
            .map_err(|error| store.read_fault("list log", folder, error))?;
        let found = entries
            .iter()
            .filter(|entry| {
                // Of either form of a name, the last part tells when it was made, and sorts as text.
                let stem = entry.name.split(".jsonl").next().unwrap_or_default();
                let last = stem.len().checked_sub(bound.len()).and_then(|at| stem.get(at..));
                last.is_some_and(|text| *text >= *bound)
            })
            .filter_map(|entry| SegmentName::parse(&entry.name))
            .filter(|(name, _)| name.is_canonical() && name != but && name.made() >= made)
            .map(|(name, _)| name.made())
            .max();
        newest = newest.max(found);
    }
    Ok(newest)
}

/// Lists until two passes agree on the segments.
///
/// A folder that changes while it is read may show neither of the two names of a segment that is renamed under way.
/// A segment changes its name once in its life, so two passes that agree have missed none.
pub(crate) fn list(store: &Store, folder: &Path, deadline: Deadline) -> Result<Listing> {
    let mut before = list_once(store, folder)?;
    if before.segments.is_empty() && before.temps.is_empty() && store.fs.metadata(folder).is_err() {
        return Ok(before);
    }
    loop {
        let after = list_once(store, folder)?;
        if before.segments.keys().eq(after.segments.keys()) {
            return Ok(after);
        }
        deadline.check(
            "list log",
            &store.absolute(folder).display(),
            "a listing that stands still",
        )?;
        before = after;
    }
}
