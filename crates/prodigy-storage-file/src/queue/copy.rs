//! Copies the current state of a queue, without leases, for a backup. Takes no lock.

use std::io::{self, Read, Write};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use super::line::{self, Numbers};
use super::record::encode_header;
use super::standing::Standing;
use super::view::{Paths, Seen, View};
use super::{CLOSING, Queues, SEPARATOR};

const COPY: &str = "copy queue";

/// The journal for a copy of a queue, and the number of damaged places that the copy leaves out.
#[derive(Debug, Default)]
pub(crate) struct QueueCopy {
    /// The contents for `items.journal`. New changes of the copy are numbered after those of its items.
    pub(crate) journal: Vec<u8>,
    /// The number of damaged places, which are left out.
    pub(crate) damaged: u64,
}

impl Queues {
    /// Writes a file of items with the current state of each item, as a compaction would. `None` if the queue does not
    /// exist or its file belongs to another program; nothing is written then.
    pub(crate) fn copy(
        &self,
        job: &JobAddress,
        out: &mut dyn Write,
        deadline: Deadline,
    ) -> Result<Option<QueueCopy>> {
        let paths = Paths::of(job);
        let Some(mut view) = View::open(&self.root, COPY, &paths, deadline)? else {
            return Ok(None);
        };
        let fault = |error| self.root.read_fault(COPY, &paths.items, error);
        if !view.is_ours().map_err(fault)? {
            return Ok(None);
        }
        let mut copy = QueueCopy::default();
        let copied = copy_items(&mut view, out, &mut copy.damaged);
        let items = copied.map_err(|error| {
            StorageError::new(ErrorKind::Io, COPY, job, "its items can't be copied").with_source(error)
        })?;
        encode_header(&mut copy.journal, view.mark().0, items);
        Ok(Some(copy))
    }
}

/// Copies the items. Returns their number.
fn copy_items(view: &mut View, out: &mut dyn Write, damaged: &mut u64) -> io::Result<u64> {
    let (mut line, mut before, mut items) = (Vec::new(), &b"\n"[..], 0);
    out.write_all(b"[")?;
    while let Some(seen) = view.next()? {
        line.clear();
        match seen {
            Seen::Damage(_) => {
                *damaged += 1;
                continue;
            }
            Seen::TooLarge { bytes, .. } => {
                out.write_all(before)?;
                if let Some(file) = view.bytes_from(bytes.start) {
                    io::copy(&mut file.take(bytes.end - bytes.start), out)?;
                }
            }
            Seen::Item {
                start,
                range,
                checksum,
            } => {
                let Ok((entry, birth, is_changed)) = view.current(start, range, checksum)? else {
                    *damaged += 1;
                    continue;
                };
                let numbers = Numbers {
                    birth,
                    change: if is_changed { view.mark().0 } else { 0 },
                    revision: entry.revision.0,
                };
                let standing = Standing {
                    place: entry.place.0,
                    lease: None,
                    delay: entry.delay,
                };
                line.extend_from_slice(before);
                line::encode(&mut line, &entry.body, numbers, &standing);
                out.write_all(&line)?;
            }
        }
        before = SEPARATOR;
        items += 1;
    }
    out.write_all(CLOSING)?;
    Ok(items)
}
