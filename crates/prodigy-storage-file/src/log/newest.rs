//! Finds the newest events of a log from the ends of its segments.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, EventId, Result};
use prodigy_storage_layout::SegmentForm;

use super::clock::StepClock;
use super::segment::{Head, SegmentReader};
use super::segment_ref::SegmentRef;
use super::{listing, search, source, tail};
use crate::root::Root;

/// The number of bytes at the end of a plain segment that are read at first.
const WINDOW: u64 = 64 << 10;
/// The number of bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// The id by which a scan orders a record, and the record's own id. They may differ in a file of another program.
type Place = (EventId, EventId);

/// The point in the order of a scan at which the newest `count` records begin. If the log has fewer records, the
/// smallest id.
///
/// Reads the last record of each segment, and the ends of the segments that have one of the newest records. Keeps at
/// most `count` ids in memory.
pub(super) fn floor(root: &Arc<Root>, folder: &Path, count: usize, deadline: Deadline) -> Result<EventId> {
    if count == 0 {
        return Ok(EventId::MAX);
    }
    let clock = &mut StepClock::until(deadline);
    let mut segments = Vec::new();
    for name in listing::list(root, folder, deadline)?.segments.into_keys() {
        // A file of another program may have ids in any order.
        let last = match name.is_canonical() {
            true => search::last_id_of(SegmentRef::new(root, folder, &name), clock)?,
            false => Some(EventId::MAX),
        };
        segments.extend(last.map(|last| (last, name)));
    }
    segments.sort_unstable_by(|one, other| other.cmp(one));
    let mut newest: BTreeSet<Place> = BTreeSet::new();
    for (last, name) in segments {
        if newest.len() == count && newest.first().is_some_and(|(least, _)| last < *least) {
            break;
        }
        for place in last_places(SegmentRef::new(root, folder, &name), count, clock)? {
            newest.insert(place);
            if newest.len() > count {
                newest.pop_first();
            }
        }
    }
    let least = newest.first().filter(|_| newest.len() == count);
    Ok(least.map_or(EventId::MIN, |(least, _)| *least))
}

/// The points in the order of the last records of a segment, at most `count`. A plain segment is read from its end, in
/// windows that grow until they contain enough records.
fn last_places(segment: SegmentRef<'_>, count: usize, clock: &mut StepClock) -> Result<VecDeque<Place>> {
    let plain = match segment.name.is_canonical() {
        true => source::open_form(segment, SegmentForm::Plain)?,
        false => None,
    };
    let mut window = WINDOW;
    loop {
        let start = match &plain {
            Some((file, found)) if found.len > window => {
                let path = segment.path(SegmentForm::Plain);
                tail::line_start(&**file, found.len - window, u64::MAX)
                    .map_err(|error| segment.root.read_fault("search segment", &path, error))?
                    .unwrap_or(0)
            }
            _ => 0,
        };
        let mut places = VecDeque::new();
        let Some(mut reader) = SegmentReader::open(segment, start, None, CHUNK)? else {
            return Ok(places);
        };
        while reader.next(clock)? {
            if let Head::Record { id, .. } | Head::TooLarge { id: Some(id), .. } = reader.head {
                places.push_back((reader.order, id));
                if places.len() > count {
                    places.pop_front();
                }
            }
        }
        if places.len() == count || start == 0 {
            return Ok(places);
        }
        window = window.saturating_mul(4);
    }
}
