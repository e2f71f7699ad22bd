//! Rewrites segments without their damage.
//!
//! A cursor holds offsets, so every remaining byte keeps its offset: blanks replace damaged bytes, with a line end at
//! each end of the blanks, and readers skip blank lines.

use std::path::Path;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::{SegmentForm, Timestamp};

use super::keep::{Damaged, keep, keep_file, whole};
use super::log::{Segment, contents};
use super::walk::Examination;
use crate::fs::{CLOSED_MODE, FsFile, Metadata, OpenMode, SEALED_MODE};
use crate::log::archive;
use crate::log::clock::StepClock;
use crate::log::segment::{Head, SegmentReader};
use crate::log::segment_ref::SegmentRef;
use crate::root::{LockNow, Replace, Root, TempFile};

const REPAIR: &str = "repair segment";
const CHUNK: usize = 256 << 10;

/// The result of a repair: the path of the copy in the quarantine, if one was made, or the reason why the repair was
/// not made.
type Repaired = Result<std::result::Result<Option<String>, String>>;

impl Examination<'_> {
    /// Removes damaged bytes from a plain segment.
    pub(super) fn repair_plain(&self, segment: &Segment<'_>) -> Repaired {
        let (root, path) = (self.root, &segment.path);
        let held = match hold(root, path)? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        };
        // The contents are read again under the lock, since a writer may have changed them.
        let Some(contents) = contents(segment.at)? else {
            return Ok(Ok(None));
        };
        if contents.damaged.is_empty() {
            return Ok(Ok(None));
        }
        root.prepare_write(REPAIR, &path.display())?;
        let kept = keep(root, path, &*held.file, &contents.damaged)?;
        let mut temp = TempFile::create(root, REPAIR, segment.at.folder)?;
        blanked(root, path, &held, &mut temp, &contents.damaged)?;
        temp.publish(path, Replace::Over)?;
        root.sync_folder(segment.at.folder)?;
        Ok(Ok(Some(kept)))
    }

    /// Writes the readable records of a compressed segment to a sealed plain segment, and removes the compressed file.
    pub(super) fn repair_archive(&self, segment: &Segment<'_>) -> Repaired {
        let (root, path) = (self.root, &segment.path);
        let held = match hold(root, path)? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        };
        root.prepare_write(REPAIR, &path.display())?;
        let kept = keep(
            root,
            path,
            &*held.file,
            &[whole(held.found.len, "it does not decompress as a whole")],
        )?;
        let plain = segment.at.path(SegmentForm::Plain);
        // The lock on the compressed file is held until it is removed. So no process finds both forms and compares
        // them.
        let mut temp = TempFile::create(root, REPAIR, segment.at.folder)?;
        rescued(segment, &mut temp)?;
        temp.publish(&plain, Replace::Never)?;
        root.sync_folder(segment.at.folder)?;
        remove(root, segment.at.folder, path)?;
        Ok(Ok(Some(kept)))
    }

    /// Removes one of two forms that hold the same: the plain one, which ends the compression, unless this program does not write the
    /// other form. The plain one may count as open, where it was put back by hand. It is not continued, since cursors may cover it.
    pub(super) fn repair_same_forms(
        &self,
        plain: &Segment<'_>,
        form: SegmentForm,
        packed: &Path,
    ) -> Repaired {
        let (root, path) = (self.root, &plain.path);
        let held = match hold(root, path)? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        };
        root.prepare_write(REPAIR, &packed.display())?;
        // They are compared again under the lock.
        if !archive::says_the_same(plain.at, form)? {
            return Ok(Err("a writer changed it at this moment".into()));
        }
        let needless = match form {
            SegmentForm::Zstd => path,
            _ => {
                let sealed = held.file.set_mode(SEALED_MODE);
                sealed.map_err(|error| root.write_fault(REPAIR, path, error))?;
                packed
            }
        };
        root.sync_folder(plain.at.folder)?;
        remove(root, plain.at.folder, needless)?;
        Ok(Ok(None))
    }

    /// Merges the events of both forms of a segment by id into the plain form, and removes the compressed form.
    ///
    /// The merged segment replaces the plain one before the compressed one is removed. So an interrupted repair loses
    /// nothing, and the next one completes it.
    pub(super) fn repair_two_forms(&self, plain: &Segment<'_>, form: SegmentForm, packed: &Path) -> Repaired {
        let (root, path) = (self.root, &plain.path);
        let held = match hold(root, path)? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        };
        root.prepare_write(REPAIR, &packed.display())?;
        let why = "the plain and the compressed segment of this name hold different events";
        keep(root, path, &*held.file, &[whole(held.found.len, why)])?;
        let kept = keep_file(root, packed, why)?;
        let mut temp = TempFile::create(root, REPAIR, plain.at.folder)?;
        if !merged(plain, form, &mut temp)? {
            return Ok(Err(
                "in the order of ids the times of the two would not ascend: readers still return the events of both".into(),
            ));
        }
        temp.file()
            .set_mode(held.found.mode & 0o700)
            .map_err(|error| temp.fault(error))?;
        temp.publish(path, Replace::Over)?;
        root.sync_folder(plain.at.folder)?;
        remove(root, plain.at.folder, packed)?;
        Ok(Ok(Some(kept)))
    }
}

/// Writes the records of both forms of a segment in the order of their ids, each once. Returns false if their times do
/// not ascend in this order.
fn merged(plain: &Segment<'_>, form: SegmentForm, temp: &mut TempFile<'_>) -> Result<bool> {
    let mut clock = StepClock::default();
    let mut readers = Vec::new();
    for name in [plain.at.name.clone(), plain.at.name.twin(form)] {
        let opened = SegmentReader::open(
            SegmentRef {
                name: &name,
                ..plain.at
            },
            0,
            None,
            CHUNK,
        )?;
        if let Some(mut reader) = opened {
            next_record(&mut reader, &mut clock)?;
            readers.push(reader);
        }
    }
    let mut copy = Copy::new(temp);
    let (mut last_id, mut last_time) = (None, Timestamp::MIN);
    loop {
        let waiting = readers
            .iter_mut()
            .filter(|reader| !matches!(reader.head, Head::End));
        let Some(first) = waiting.min_by_key(|reader| reader.order) else {
            break;
        };
        let id = match first.head {
            Head::Record { id, .. } | Head::TooLarge { id: Some(id), .. } => Some(id),
            _ => None,
        };
        if id.is_none() || last_id != id {
            if let Some((time, verified)) = first.time() {
                if verified && time < last_time {
                    return Ok(false);
                }
                last_time = last_time.max(time);
            }
            last_id = id;
            copy.head(first, &mut clock)?;
            copy.push(b"\n")?;
        }
        next_record(first, &mut clock)?;
    }
    copy.flush()?;
    Ok(true)
}

/// Copies records to a temporary file through a buffer.
struct Copy<'a, 'r> {
    temp: &'a mut TempFile<'r>,
    buffer: Vec<u8>,
}

impl<'a, 'r> Copy<'a, 'r> {
    fn new(temp: &'a mut TempFile<'r>) -> Self {
        Self {
            temp,
            buffer: Vec::with_capacity(2 * CHUNK),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            return self.flush();
        }
        Ok(())
    }

    /// Copies the record at the reader's position. A record that is too large for memory is copied in pieces.
    fn head(&mut self, reader: &mut SegmentReader, clock: &mut StepClock) -> Result<()> {
        if let Some(record) = reader.record() {
            return self.push(record.line.as_bytes());
        }
        reader.copy_head(clock, |piece| self.push(piece))
    }

    fn flush(&mut self) -> Result<()> {
        self.temp
            .append(&self.buffer)
            .map_err(|error| self.temp.fault(error))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Advances to the next record or the end. Skips damaged bytes, which are already in the quarantine.
fn next_record(reader: &mut SegmentReader, clock: &mut StepClock) -> Result<()> {
    while reader.next(clock)? && matches!(reader.head, Head::Damage { .. }) {}
    Ok(())
}

/// An open file whose lock is held, and its metadata.
struct Held {
    file: Box<dyn FsFile>,
    found: Metadata,
}

/// Takes the lock of a segment; if another process has it, returns this as the reason for making no repair.
fn hold(root: &Root, path: &Path) -> Result<std::result::Result<Held, String>> {
    let locked = root
        .lock_now(path, OpenMode::Read)
        .map_err(|error| root.read_fault(REPAIR, path, error))?;
    Ok(match locked {
        LockNow::Taken(file, found) => Ok(Held { file, found }),
        LockNow::Held => Err("a living writer holds it: end that process, or have it finish its job".into()),
        LockNow::Absent | LockNow::Replaced => Err("it was replaced at this moment".into()),
    })
}

fn remove(root: &Root, folder: &Path, path: &Path) -> Result<()> {
    root.fs
        .unlink(path)
        .map_err(|error| root.write_fault(REPAIR, path, error))?;
    root.sync_folder(folder)
}

/// Copies a segment, with blanks in place of damaged bytes.
fn blanked(
    root: &Root,
    path: &Path,
    held: &Held,
    temp: &mut TempFile<'_>,
    damaged: &[Damaged],
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let read = held
            .file
            .read_full_at(&mut buffer, at)
            .map_err(|error| root.read_fault(REPAIR, path, error))?;
        if read == 0 {
            break;
        }
        let chunk = buffer.get_mut(..read).unwrap_or_default();
        for damage in damaged {
            blank(chunk, at, damage);
        }
        temp.append(chunk).map_err(|error| temp.fault(error))?;
        at += read as u64;
    }
    // A cursor keeps its place in a segment that was open: it may be a copy, which the repaired file does not show.
    let mode = match held.found.is_open() {
        true => CLOSED_MODE,
        false => held.found.mode & 0o700,
    };
    temp.file().set_mode(mode).map_err(|error| temp.fault(error))
}

/// Replaces the damaged bytes in a chunk with blanks. The chunk begins at the file offset `at`.
fn blank(chunk: &mut [u8], at: u64, damage: &Damaged) {
    let end = at + chunk.len() as u64;
    if damage.end <= at || damage.start >= end {
        return;
    }
    let from = damage.start.max(at);
    let until = damage.end.min(end);
    for (offset, byte) in (from..until).zip(
        chunk
            .get_mut((from - at) as usize..(until - at) as usize)
            .unwrap_or_default(),
    ) {
        let edge = offset == damage.start || offset + 1 == damage.end;
        *byte = if edge { b'\n' } else { b' ' };
    }
}

/// Writes the readable records of a compressed segment, each at its original offset.
fn rescued(segment: &Segment<'_>, temp: &mut TempFile<'_>) -> Result<()> {
    let mut copy = Copy::new(temp);
    if let Some(mut reader) = SegmentReader::open(segment.at, 0, None, CHUNK)? {
        let mut clock = StepClock::default();
        // The offset of the end of the last record, before its line end.
        let mut end = 0u64;
        while reader.next(&mut clock)? {
            let len = match &reader.head {
                Head::Record { range, .. } => Some(range.len() as u64),
                Head::TooLarge { len, .. } => Some(*len),
                _ => None,
            };
            if let Some(len) = len {
                let start = reader.head_start();
                fill(&mut copy.buffer, end, start);
                copy.head(&mut reader, &mut clock)?;
                end = start.max(end) + len;
            }
        }
        if end > 0 {
            copy.push(b"\n")?;
        }
    }
    copy.flush()?;
    temp.file()
        .set_mode(SEALED_MODE)
        .map_err(|error| temp.fault(error))
}

/// Fills the space between two records with blanks, with a line end at each side.
fn fill(buffer: &mut Vec<u8>, end: u64, start: u64) {
    let gap = usize::try_from(start.saturating_sub(end)).unwrap_or(0);
    match gap {
        // No byte is between the two records, so a line end is inserted.
        0 if end > 0 => buffer.push(b'\n'),
        0 => {}
        1 => buffer.push(b'\n'),
        _ => {
            buffer.push(b'\n');
            buffer.resize(buffer.len() + gap - 2, b' ');
            buffer.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_keep_every_offset_and_end_the_lines_around_them() {
        let whole = b"one\x0btwo\nXXXXXXXX\nthree".to_vec();
        for size in [1, 2, 3, 5, 64] {
            let mut bytes = whole.clone();
            for (start, end) in [(3, 4), (8, 16)] {
                let damage = Damaged {
                    start,
                    end,
                    why: String::new(),
                };
                for (index, chunk) in bytes.chunks_mut(size).enumerate() {
                    blank(chunk, (index * size) as u64, &damage);
                }
            }
            assert_eq!(bytes, b"one\ntwo\n\n      \n\nthree", "in chunks of {size}");
        }
    }

    #[test]
    fn records_stand_where_they_stood() {
        let mut buffer = Vec::new();
        fill(&mut buffer, 0, 0);
        buffer.extend_from_slice(b"one");
        fill(&mut buffer, 3, 4);
        buffer.extend_from_slice(b"two");
        fill(&mut buffer, 7, 12);
        assert_eq!(buffer, b"one\ntwo\n   \n");
    }
}
