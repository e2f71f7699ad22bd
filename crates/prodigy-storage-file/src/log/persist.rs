//! Makes all events before a cursor survive power loss.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Cursor, Deadline, Result};
use prodigy_storage_layout::{JobAddress, SegmentForm, events_folder};

use super::Logs;
use super::cursor::Position;
use super::resume::{gap, removed};
use super::segment_ref::SegmentRef;
use crate::fs::OpenMode;
use crate::root::Root;

const PERSIST: &str = "persist events";

impl Logs {
    /// Syncs each segment that the cursor states as partly read. A segment that was read to its end was synced when
    /// sealed.
    ///
    /// A segment of this process is synced through its writer, which stops using the segment if the sync fails. A
    /// segment of another process is opened and synced: a sync stores the bytes of all processes.
    pub(crate) fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        self.root.prepare_write(PERSIST, job)?;
        let position = Position::decode(cursor)?;
        let folder = events_folder(job);
        let writer = self.existing(job);
        let mut others = false;
        for (name, reached) in &position.segments {
            if reached.done || reached.offset == 0 {
                continue;
            }
            deadline.check(
                PERSIST,
                &self.root.absolute(&folder).display(),
                "the syncs of other segments",
            )?;
            let segment = SegmentRef::new(&self.root, &folder, name);
            let own = match &writer {
                Some(writer) => writer.persist(name, deadline)?,
                None => false,
            };
            if !own {
                let plain = sync_plain(&self.root, &segment.path(SegmentForm::Plain))?;
                let was_read = || removed(segment).is_some_and(|mark| reached.is_end_of(segment.name, mark));
                if !plain && !is_compressed(segment) && !was_read() {
                    return Err(gap(segment));
                }
                others = true;
            }
        }
        if others {
            self.root.sync_folder(&folder)?;
        }
        Ok(())
    }
}

/// Syncs a plain segment; returns false if it does not exist. A compressed segment was synced before it got its name.
pub(super) fn sync_plain(root: &Root, path: &Path) -> Result<bool> {
    match root.fs.open(path, OpenMode::Read) {
        Ok(file) => {
            root.counters.sync(path);
            file.sync_all()
                .map_err(|error| root.write_fault("sync segment", path, error))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(root.read_fault("sync segment", path, error)),
    }
}

fn is_compressed(segment: SegmentRef<'_>) -> bool {
    [SegmentForm::Zstd, SegmentForm::Gzip]
        .iter()
        .any(|form| segment.root.fs.metadata(&segment.path(*form)).is_ok())
}
