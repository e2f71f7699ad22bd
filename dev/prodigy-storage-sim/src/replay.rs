//! The durable disk, the calls that are not durable yet, and the possible effects of a crash on them.

use std::fmt;
use std::sync::Arc;

use crate::disk::{Disk, Inode, Node};
use crate::journal::{Call, Entry};

/// A moment in a run: the durable disk, the disk that processes see, and the calls by which they differ.
///
/// - A sync of a file makes its written data and its length durable, and with `all` its mode, but never its name.
/// - A sync of a folder makes its entries and removals durable.
/// - A name may be durable without the data of its file, and the data without any name.
/// - A crash keeps any part of the pending calls, in any order, but a rename is never partial.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    durable: Disk,
    live: Disk,
    pending: Vec<Arc<Entry>>,
}

/// The outcome of a pending call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The effect of the call is on the disk.
    There,
    /// The call had no effect. If a later write extends the file, the missing bytes before it are zeros.
    Gone,
    /// The length of a write is on the disk, with zeros as its bytes.
    Zeros,
    /// Only this number of bytes of a write is on the disk.
    Cut(usize),
    /// Only some sectors of an overwrite are on the disk (one bit per sector); bytes that extend the file are there.
    Sectors(u64),
}

/// The size of a sector, which a disk writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;

impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There => f.write_str("there"),
            Self::Gone => f.write_str("gone"),
            Self::Zeros => f.write_str("zeros"),
            Self::Cut(bytes) => write!(f, "{bytes} bytes"),
            Self::Sectors(bits) => write!(f, "the sectors {bits:b}"),
        }
    }
}

impl Moment {
    /// Begins with the contents of `disk`, all of them durable.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self {
            live: disk.clone(),
            durable: disk,
            pending: Vec::new(),
        }
    }

    /// The disk as all processes see it.
    #[must_use]
    pub fn live(&self) -> &Disk {
        &self.live
    }

    /// The pending calls, in order.
    #[must_use]
    pub fn pending(&self) -> &[Arc<Entry>] {
        &self.pending
    }

    /// Advances by one call: a sync makes the pending calls that it covers durable, and every other call becomes
    /// pending.
    pub fn step(&mut self, entry: &Arc<Entry>) {
        // A file or folder exists on the durable disk, too, but without a name until its folder is synced.
        match &entry.call {
            Call::CreateRoot { inode } | Call::CreateDir { inode, .. } => {
                self.take_in(*inode, Node::folder());
            }
            Call::Create { inode, mode, .. } => self.take_in(*inode, Node::file(*mode)),
            _ => {}
        }
        if !entry.call.is_sync() {
            apply(&mut self.live, entry, CallOutcome::There);
            self.pending.push(Arc::clone(entry));
            return;
        }
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let synced = is_synced(&pending.call, &entry.call);
            if synced {
                apply(durable, pending, CallOutcome::There);
            }
            !synced
        });
    }

    /// The disk after a power loss with this outcome for each pending call.
    #[must_use]
    pub fn after(&self, outcomes: &[CallOutcome]) -> Disk {
        let mut disk = self.durable.clone();
        for (entry, outcome) in self.pending.iter().zip(outcomes) {
            apply(&mut disk, entry, *outcome);
        }
        disk.drop_unreachable();
        disk
    }

    /// The moment after the death of all processes, if only `bytes` bytes of the last pending call, a write, were
    /// written.
    #[must_use]
    pub fn cut_last(&self, bytes: usize) -> Self {
        let mut cut = self.clone();
        let Some(last) = cut.pending.pop() else {
            return cut;
        };
        if let Call::Write {
            inode,
            offset,
            bytes: all,
        } = &last.call
        {
            let shorter = Entry {
                call: Call::Write {
                    inode: *inode,
                    offset: *offset,
                    bytes: all.get(..bytes).unwrap_or(all).into(),
                },
                ..(*last).clone()
            };
            cut.pending.push(Arc::new(shorter));
        }
        cut.live = cut.durable.clone();
        for entry in &cut.pending {
            apply(&mut cut.live, entry, CallOutcome::There);
        }
        cut
    }

    fn take_in(&mut self, inode: Inode, node: Node) {
        self.live.put_node(inode, node.clone());
        self.durable.put_node(inode, node);
    }
}

fn is_synced(call: &Call, sync: &Call) -> bool {
    match (call, sync) {
        (Call::Write { inode, .. } | Call::SetLen { inode, .. }, Call::Sync { inode: synced, .. })
        | (
            Call::SetMode { inode, .. },
            Call::Sync {
                inode: synced,
                all: true,
            },
        ) => inode == synced,
        (
            Call::Create { at, .. }
            | Call::CreateDir { at, .. }
            | Call::Unlink { at, .. }
            | Call::Rename { to: at, .. },
            Call::SyncDir { inode },
        ) => at.folder == *inode,
        (Call::CreateRoot { .. }, Call::SyncAboveRoot) => true,
        _ => false,
    }
}

/// The sectors of a write: their numbers, their offsets in the file, and their bytes.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    let first = bytes.len().min((SECTOR - offset % SECTOR) as usize);
    let (head, rest) = bytes.split_at_checked(first).unwrap_or_default();
    let pieces = std::iter::once(head).chain(rest.chunks(SECTOR as usize));
    let mut at = offset;
    (0..).zip(pieces).map(move |(number, piece)| {
        let from = at;
        at += piece.len() as u64;
        (number, from, piece)
    })
}

fn apply(disk: &mut Disk, entry: &Entry, outcome: CallOutcome) {
    if outcome == CallOutcome::Gone {
        return;
    }
    match &entry.call {
        Call::CreateRoot { inode } => disk.set_root(Some(*inode)),
        Call::Create { inode, at, .. } | Call::CreateDir { inode, at } => {
            disk.link(at.folder, &at.name, *inode);
        }
        Call::Write { inode, offset, bytes } => match outcome {
            CallOutcome::Zeros => {
                let end = offset + bytes.len() as u64;
                if disk.len_of(*inode) < end {
                    disk.set_len(*inode, end, entry.time);
                }
            }
            CallOutcome::Cut(most) => {
                let bytes = bytes.get(..most).unwrap_or(bytes);
                if !bytes.is_empty() {
                    disk.write_at(*inode, bytes, *offset, entry.time);
                }
            }
            CallOutcome::Sectors(bits) => {
                let len = disk.len_of(*inode);
                for (number, at, piece) in sectors(*offset, bytes) {
                    let is_over = at + piece.len() as u64 <= len;
                    if !is_over || bits >> (number % u64::from(u64::BITS)) & 1 == 1 {
                        disk.write_at(*inode, piece, at, entry.time);
                    }
                }
            }
            _ => disk.write_at(*inode, bytes, *offset, entry.time),
        },
        Call::SetLen { inode, len } => disk.set_len(*inode, *len, entry.time),
        Call::SetMode { inode, mode } => disk.change_mode(*inode, *mode),
        Call::Rename { inode, from, to } => {
            disk.unlink(from.folder, &from.name, *inode);
            disk.link(to.folder, &to.name, *inode);
        }
        Call::Unlink { inode, at } => disk.unlink(at.folder, &at.name, *inode),
        Call::Sync { .. } | Call::SyncDir { .. } | Call::SyncAboveRoot => {}
    }
}
