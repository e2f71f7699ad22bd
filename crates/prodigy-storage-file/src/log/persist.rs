//! Makes all events before a cursor survive power loss.

use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Cursor, Deadline, Result};
use prodigy_storage_layout::{JobAddress, SegmentForm, SegmentName, events_folder};

use super::cursor::Position;
use super::resume::gap;
use crate::fs::OpenMode;
use crate::store::Store;

const PERSIST: &str = "persist events";

impl Store {
    /// Syncs each segment that the cursor names as read in part. A finished one was synced before it was sealed.
    ///
    /// A segment of this process is synced through its writer, so that a failure gives the segment up. A segment of
    /// another process is opened and synced: the kernel writes what any process put into the file.
    pub(crate) fn persist(
        self: &Arc<Self>,
        job: &JobAddress,
        cursor: &Cursor,
        deadline: Deadline,
    ) -> Result<()> {
        self.prepare_write(PERSIST, job)?;
        let position = Position::decode(cursor)?;
        let folder = events_folder(job);
        let writer = self.logs.existing(job);
        let mut others = false;
        for (name, reached) in &position.segments {
            if reached.done || reached.offset == 0 {
                continue;
            }
            deadline.check(
                PERSIST,
                &self.absolute(&folder).display(),
                "the syncs of other segments",
            )?;
            let own = match &writer {
                Some(writer) => writer.persist(self, name, deadline)?,
                None => false,
            };
            if !own {
                let plain = self.sync_plain(&folder.join(name.file_name(SegmentForm::Plain)))?;
                if !plain && !self.is_compressed(&folder, name) {
                    return Err(gap(self, &folder, name));
                }
                others = true;
            }
        }
        if others {
            self.sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Syncs a plain segment; false if it is not there. A compressed segment was synced before it got its name.
    pub(super) fn sync_plain(&self, path: &Path) -> Result<bool> {
        match self.fs.open(path, OpenMode::Read) {
            Ok(file) => {
                self.counters.sync(path);
                file.sync_all()
                    .map_err(|error| self.write_fault("sync segment", path, error))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.read_fault("sync segment", path, error)),
        }
    }

    fn is_compressed(&self, folder: &Path, name: &SegmentName) -> bool {
        [SegmentForm::Zstd, SegmentForm::Gzip]
            .iter()
            .any(|form| self.fs.metadata(&folder.join(name.file_name(*form))).is_ok())
    }
}
