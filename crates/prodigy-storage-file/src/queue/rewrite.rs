//! Rewrites the queue's file, with some items changed.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, Result, StorageError};

use super::Queues;
use super::line::{self, ItemChecksum, TRAILER};
use super::scan::{Fragment, Scanner};
use super::state::{Hashes, QueueState};
use super::{CLOSING, SEPARATOR};
use crate::fs::{FsFile, OpenMode};
use crate::root::{Quarantine, Replace, Root, TempFile, count};

/// Bytes written at once.
const CHUNK: usize = 256 << 10;
/// Bytes that go to one file of the quarantine, at most.
const PIECE: u64 = 64 << 20;

/// The change of an item.
#[derive(Debug)]
pub(super) enum Change {
    /// It goes.
    Drop,
    /// This line takes its place.
    Line(Vec<u8>),
}

/// Decides the change of an item, if it does not stay unchanged: by its offset in the file, the state of its
/// checksum, and its
/// bytes.
pub(super) type Decide<'a> = dyn FnMut(u64, ItemChecksum, &[u8]) -> Option<Change> + 'a;

/// All that one rewrite does. What is not changed is copied byte for byte.
pub(super) struct Changes<'a> {
    /// Asked once for each item, in their order.
    pub(super) decide: &'a mut Decide<'a>,
    /// Whether any item may go.
    pub(super) drops: bool,
    /// Lines for the end.
    pub(super) added: Vec<Vec<u8>>,
    /// Whether what is damaged was copied to the quarantine already.
    pub(super) kept: bool,
}

struct Output<'a> {
    file: &'a dyn FsFile,
    offset: u64,
    buffer: Vec<u8>,
    any: bool,
}

impl Output<'_> {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.buffer
            .extend_from_slice(if self.any { SEPARATOR } else { b"\n" });
        self.buffer.extend_from_slice(line);
        self.any = true;
        if self.buffer.len() >= CHUNK {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Copies a line of another file, byte for byte.
    fn copy(&mut self, from: &dyn FsFile, bytes: Range<u64>) -> io::Result<()> {
        self.line(&[])?;
        let mut at = bytes.start;
        while at < bytes.end {
            self.flush()?;
            let most = usize::try_from(bytes.end - at).unwrap_or(CHUNK).min(CHUNK);
            self.buffer.resize(most, 0);
            let read = from.read_full_at(&mut self.buffer, at)?;
            self.buffer.truncate(read);
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += read as u64;
        }
        Ok(())
    }

    /// Lines, a separator before each.
    fn lines(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        // No comma is before the first item.
        let lines = lines.get(usize::from(!self.any)..).unwrap_or_default();
        self.any = true;
        if self.buffer.len() + lines.len() < CHUNK / 4 {
            self.buffer.extend_from_slice(lines);
            return Ok(());
        }
        self.flush()?;
        self.file.write_all_at(lines, self.offset)?;
        self.offset += lines.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The call that a rewrite belongs to: its operation, file, durability and deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) operation: &'static str,
    pub(super) path: &'a Path,
    pub(super) durability: Durability,
    pub(super) deadline: Deadline,
}

impl Queues {
    /// Changes the items that `decide` names, as in [`Changes`]. If it names none, nothing is written. Returns
    /// the state of the file after it. Under the queue's lock.
    pub(super) fn queue_change(
        &self,
        context: Context<'_>,
        state: QueueState,
        drops: bool,
        mut decide: impl FnMut(ItemChecksum, &[u8]) -> Option<Change>,
    ) -> Result<QueueState> {
        let Context {
            operation,
            path,
            deadline,
            ..
        } = context;
        let mut first = None;
        self.queue_survey(operation, path, &state.file, deadline, |fragment, bytes| {
            let decided = match fragment {
                Fragment::Item { start, checksum, .. } => {
                    decide(*checksum, bytes).map(|change| (*start, change))
                }
                Fragment::TooLarge { start, head, .. } => {
                    decide(ItemChecksum::TooLarge, head).map(|change| (*start, change))
                }
                Fragment::Damage { .. } | Fragment::Foreign { .. } => None,
            };
            first = decided;
            Ok(first.is_none())
        })?;
        let Some((at, change)) = first else {
            return Ok(state);
        };
        let mut change = Some(change);
        let changes = Changes {
            decide: &mut |start, checksum, bytes| match start.cmp(&at) {
                Ordering::Less => None,
                Ordering::Equal => change.take(),
                Ordering::Greater => decide(checksum, bytes),
            },
            drops,
            added: Vec::new(),
            kept: false,
        };
        let state = self.queue_rewrite(context, state, changes)?;
        if change.is_some() {
            return Err(StorageError::new(
                ErrorKind::Damaged,
                operation,
                self.root.absolute(path).display(),
                format!("the item at offset {at} could be read once, and not again"),
            )
            .with_hint("the bytes are in the quarantine; look at the disk"));
        }
        Ok(state)
    }

    /// Rewrites the queue: temporary file, sync, rename, sync of the folder. Damaged bytes go to `quarantine/`.
    /// Returns the state of the new file. Under the queue's lock.
    pub(super) fn queue_rewrite(
        &self,
        context: Context<'_>,
        state: QueueState,
        changes: Changes<'_>,
    ) -> Result<QueueState> {
        let Context {
            operation,
            path,
            durability,
            deadline,
        } = context;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut temp = TempFile::create(&self.root, operation, folder)?;
        let mut made = self.fill(context, &temp, state, changes)?;
        deadline.check(operation, &path.display(), "the queue to be rewritten")?;
        // Also for a relaxed change: the file replaces one that may have been stored strictly.
        temp.publish(path, Replace::Over)?;
        count(&self.root.counters.queue_rewrites, 1);
        tracing::debug!(path = %path.display(), bytes = made.len, "queue rewritten");
        if durability == Durability::Strict {
            self.root.sync_folder(folder).map_err(|error| {
                unknown(
                    &self.root,
                    operation,
                    path,
                    "its folder could not be synced",
                    error,
                )
            })?;
            made.linked = true;
        } else {
            self.root.sync_later(folder)?;
        }
        Ok(made)
    }

    fn fill(
        &self,
        context: Context<'_>,
        temp: &TempFile<'_>,
        state: QueueState,
        changes: Changes<'_>,
    ) -> Result<QueueState> {
        let read = |error| self.root.write_fault(context.operation, context.path, error);
        let write = |error| temp.fault(error);
        let Changes {
            decide,
            drops,
            added,
            kept,
        } = changes;
        // Ids that are gone have to go; else all are there already but what is added.
        let mut hashes = state.hashes;
        if drops {
            let room = hashes.len() + added.len();
            hashes = Hashes::with_capacity_and_hasher(room, Default::default());
        }
        let mut remember = |id: Option<Cow<'_, str>>| {
            if let Some(id) = id {
                hashes.insert(self.hash(&id));
            }
        };
        let mut out = Output {
            file: temp.file(),
            offset: 0,
            buffer: vec![b'['],
            any: false,
        };
        let limit = self.root.options.largest_read();
        let mut scanner = Scanner::new(Arc::clone(&state.file), limit).map_err(read)?;
        loop {
            context.deadline.check(
                context.operation,
                &context.path.display(),
                "the queue to be rewritten",
            )?;
            let mut change = None;
            let run = scanner.run(|start, line| {
                change = decide(start, ItemChecksum::Valid, line);
                if drops && change.is_none() {
                    remember(line::id(line));
                }
                change.is_none()
            });
            let run = run.map_err(read)?;
            out.lines(scanner.bytes(run.kept.clone())).map_err(write)?;
            if run.other.is_none() && !run.kept.is_empty() {
                continue;
            }
            let asked = run.other.is_some();
            let fragment = match run.other {
                Some(fragment) => fragment,
                None => match scanner.next().map_err(read)? {
                    Some(fragment) => fragment,
                    None => break,
                },
            };
            match fragment {
                Fragment::Item {
                    start,
                    range,
                    checksum,
                } => {
                    let stored = scanner.bytes(range);
                    if !asked {
                        change = decide(start, checksum, stored);
                    }
                    let mended;
                    let line = match &change {
                        Some(Change::Drop) => continue,
                        Some(Change::Line(line)) => line.as_slice(),
                        None if checksum == ItemChecksum::BadFrame => {
                            mended = with_new_checksum(stored);
                            mended.as_slice()
                        }
                        None => stored,
                    };
                    if drops {
                        remember(line::id(line));
                    }
                    out.line(line).map_err(write)?;
                }
                Fragment::TooLarge { start, end, head, .. } => {
                    match decide(start, ItemChecksum::TooLarge, &head) {
                        Some(Change::Drop) => continue,
                        Some(Change::Line(line)) => out.line(&line).map_err(write)?,
                        None => out.copy(&*state.file, start..end).map_err(read)?,
                    }
                    if drops {
                        remember(line::head_id(&head).map(Cow::Owned));
                    }
                }
                Fragment::Foreign { start, end } => {
                    out.copy(&*state.file, start..end).map_err(read)?;
                }
                Fragment::Damage { .. } if kept => {}
                Fragment::Damage { mut start, end, .. } => {
                    // In pieces: neighbouring damage is one, however much it is.
                    while start < end {
                        let piece = (end - start).min(PIECE);
                        let mut bytes = vec![0; piece as usize];
                        let len = state.file.read_full_at(&mut bytes, start).map_err(read)?;
                        bytes.truncate(len);
                        Quarantine::of(&self.root).keep(context.path, start, &bytes)?;
                        start += piece;
                    }
                }
            }
        }
        for line in added {
            remember(line::id(&line));
            out.line(&line).map_err(write)?;
        }
        let end = out.offset + out.buffer.len() as u64;
        out.buffer.extend_from_slice(CLOSING);
        out.flush().map_err(write)?;
        // A descriptor without the temporary file's lock.
        let file: Arc<dyn FsFile> = self
            .root
            .fs
            .open(temp.path(), OpenMode::Write)
            .map_err(write)?
            .into();
        Ok(QueueState {
            identity: file.metadata().map_err(write)?.identity,
            file,
            end,
            len: end + CLOSING.len() as u64,
            any: out.any,
            plain: true,
            hashes,
            linked: false,
            synced: true,
        })
    }
}

/// A line whose checksum holds, with a new frame around it.
fn with_new_checksum(line: &[u8]) -> Vec<u8> {
    let mut out = line
        .get(..line.len().saturating_sub(TRAILER))
        .unwrap_or_default()
        .to_vec();
    prodigy_storage_backend::record::add_checksum(&mut out, 0);
    out
}

/// The error of a write whose outcome is not known.
pub(super) fn unknown(
    root: &Root,
    operation: &'static str,
    path: &Path,
    why: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StorageError {
    StorageError::new(
        ErrorKind::OutcomeUnknown,
        operation,
        root.absolute(path).display(),
        format!("it was written, but {why}: it may be there, and it may be gone after a loss of power"),
    )
    .with_hint("read the items again, and repeat the call; the file is opened afresh and checked")
    .with_source(error)
}
