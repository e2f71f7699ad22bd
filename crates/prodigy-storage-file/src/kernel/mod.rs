//! The kernel's list of held locks.
//!
//! On Linux `/proc/locks` lists the held locks by process, device and inode. Trying a lock instead would hold it for a
//! moment, and another process that tries it then would fail.
//!
//! The kernel returns the table in pieces of one page, and counts its lines from the first again for each piece. If a lock
//! is released between two pieces, the table leaves out another lock that is still held. So only a table read in one piece
//! is a snapshot. If a lock is missing in a longer table, the table is read again.

#![expect(clippy::disallowed_methods, reason = "the tables of the kernel")]

mod process;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use process::is_alive;
pub(crate) use process::{ProcessState, host, instance, is_stopped, state_of};
use prodigy_storage_backend::Holder;

/// The largest number of times that a table is read if it does not fit in one piece. A single reading misses a given
/// lock with a probability of a few per cent at most.
const READINGS: usize = 8;
/// The number of bytes to request per read; the kernel returns fewer at once.
const BUFFER: usize = 256 << 10;

/// One reading of the table.
#[derive(Debug, Default)]
struct Reading {
    text: String,
    /// True if the table was read in one piece.
    whole: bool,
}

/// The list of held locks. It is read on creation, and again if a lock is missing that a torn reading may have left
/// out.
pub(crate) struct KernelLocks {
    source: Box<dyn FnMut() -> Option<Reading>>,
    seen: Vec<KernelLock>,
    /// The number of readings that may still be made.
    left: usize,
    available: bool,
    /// True if the descriptors of all processes were searched, or need not be searched.
    searched: bool,
    /// Locks that were found in the descriptors of all processes; `None` until they are searched. They show a holder
    /// that inherited the lock from a process that has ended.
    heirs: Option<Vec<KernelLock>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KernelLock {
    /// The id of the process that took the lock; 0 if the process runs in another container.
    taker: u32,
    /// The id of the process that holds the lock now: the taker, or a process that inherited its descriptor.
    holder: u32,
    device: (u32, u32),
    inode: u64,
}

impl KernelLocks {
    pub(crate) fn new() -> Self {
        Self::from_source(Box::new(read_table))
    }

    fn from_source(mut source: Box<dyn FnMut() -> Option<Reading>>) -> Self {
        let first = source();
        let mut locks = Self {
            source,
            seen: Vec::new(),
            left: READINGS,
            available: first.is_some(),
            searched: first.is_none() || sees_all(),
            heirs: None,
        };
        locks.take_in(first);
        locks
    }

    /// A table whose first `torn` readings leave out the lock on this inode, as the kernel may do.
    #[cfg(test)]
    pub(crate) fn torn(inode: u64, torn: usize) -> Self {
        let mut read = 0;
        Self::from_source(Box::new(move || {
            let mut reading = read_table()?;
            reading.whole = false;
            if read < torn {
                let left_out = format!(":{inode} ");
                reading.text = reading
                    .text
                    .lines()
                    .filter(|line| !line.contains(&left_out))
                    .map(|line| format!("{line}\n"))
                    .collect();
            }
            read += 1;
            Some(reading)
        }))
    }

    /// False if the system does not have a list of locks.
    pub(crate) fn is_available(&self) -> bool {
        self.available
    }

    /// The process that holds the lock on a file; 0 if its id is not visible here.
    ///
    /// The table names the process that took the lock. If that process has ended, a process that inherited its descriptor
    /// holds the lock. `signer` is the process that signed the file last: it identifies the lock on a file system whose
    /// device number in the table differs from the one that programs see.
    pub(crate) fn holder(&mut self, identity: (u64, u64), signer: Option<&Holder>) -> Option<u32> {
        let signer_id = signer.map(|signer| signer.pid);
        let listed = self.find(identity, signer_id)?;
        let has_ended = match signer.filter(|signer| signer.pid == listed) {
            // The process that has this id now may be another one than the process that took the lock.
            Some(signer) => state_of(signer) == ProcessState::Ended,
            None => listed > 0 && !is_alive(listed),
        };
        if !has_ended {
            return Some(listed);
        }
        let heirs = self.heirs.get_or_insert_with(locks_of_descriptors);
        Some(holder_among(heirs, identity, signer_id).unwrap_or(0))
    }

    /// The files and folders below a folder that other processes have locked, each with a process that holds its lock: the one that
    /// took it, and each stopped one that inherited it. Leaves out processes whose descriptors this user may not see.
    pub(crate) fn below(&self, folder: &Path) -> BTreeSet<(u32, PathBuf)> {
        let takers = self.seen.iter().map(|lock| lock.taker);
        let stopped = processes().filter(|pid| is_stopped(*pid));
        let holders: BTreeSet<u32> = takers.chain(stopped).collect();
        let mut found = BTreeSet::new();
        for pid in holders {
            if pid == 0 || pid == std::process::id() {
                continue;
            }
            let process = Path::new("/proc").join(pid.to_string());
            let descriptors = std::fs::read_dir(process.join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            for descriptor in descriptors {
                let path = std::fs::read_link(descriptor.path()).unwrap_or_default();
                let number = process.join("fdinfo").join(descriptor.file_name());
                if path.starts_with(folder)
                    && path != folder
                    && std::fs::read_to_string(number).is_ok_and(|text| text.contains("\nlock:"))
                {
                    // A process may have several descriptors of one open file.
                    found.insert((pid, path));
                }
            }
        }
        found
    }

    fn find(&mut self, identity: (u64, u64), signer: Option<u32>) -> Option<u32> {
        loop {
            if let Some(found) = self.in_seen(identity, signer) {
                return Some(found);
            }
            if self.left > 0 {
                let next = (self.source)();
                self.take_in(next);
            } else if !self.searched {
                self.searched = true;
                self.seen.extend(locks_of_descriptors());
            } else {
                return None;
            }
        }
    }

    fn in_seen(&self, identity: (u64, u64), signer: Option<u32>) -> Option<u32> {
        holder_among(&self.seen, identity, signer)
    }

    fn take_in(&mut self, reading: Option<Reading>) {
        let Some(reading) = reading else {
            self.left = 0;
            return;
        };
        self.left = if reading.whole {
            0
        } else {
            self.left.saturating_sub(1)
        };
        self.seen.extend(reading.text.lines().filter_map(parse_line));
    }
}

/// The holder of the lock on a file, according to these locks.
fn holder_among(locks: &[KernelLock], (device, inode): (u64, u64), signer: Option<u32>) -> Option<u32> {
    let device = (rustix::fs::major(device as _), rustix::fs::minor(device as _));
    let of_file =
        |lock: &&KernelLock| lock.inode == inode && (lock.device == device || signer == Some(lock.taker));
    // If several readings found different holders, the last one counts.
    locks.iter().rev().find(of_file).map(|lock| lock.holder)
}

impl std::fmt::Debug for KernelLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelLocks")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn read_table() -> Option<Reading> {
    read_pieces(std::fs::File::open("/proc/locks").ok()?).ok()
}

#[cfg(not(target_os = "linux"))]
fn read_table() -> Option<Reading> {
    None
}

fn read_pieces(mut table: impl Read) -> io::Result<Reading> {
    let mut bytes = Vec::new();
    let mut pieces = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        match table.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                pieces += 1;
                bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reading {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        whole: pieces < 2,
    })
}

#[cfg(target_os = "linux")]
fn sees_all() -> bool {
    process::sees_all()
}

#[cfg(not(target_os = "linux"))]
fn sees_all() -> bool {
    true
}

/// The ids of all processes that are visible here.
fn processes() -> impl Iterator<Item = u32> {
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    found.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

/// The locks on the open descriptors of all processes that this user may examine. They are needed in a container, where
/// the kernel's table leaves out a lock whose taker has ended, even if another process inherited it.
fn locks_of_descriptors() -> Vec<KernelLock> {
    let mut found = Vec::new();
    for holder in processes() {
        let descriptors = std::fs::read_dir(format!("/proc/{holder}/fdinfo"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
            let locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
            let of_process = locks.filter_map(parse_line);
            found.extend(of_process.map(|lock| KernelLock { holder, ..lock }));
        }
    }
    found
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`. In the line of a process that waits for a lock,
/// `->` follows the number; such a line is skipped.
fn parse_line(line: &str) -> Option<KernelLock> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let mut fields = fields.skip(2);
    let taker = fields.next()?.parse().unwrap_or_default();
    let mut place = fields.next()?.split(':');
    let mut hex = || u32::from_str_radix(place.next()?, 16).ok();
    let device = (hex()?, hex()?);
    let inode = place.next()?.parse().ok()?;
    Some(KernelLock {
        taker,
        holder: taker,
        device,
        inode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(readings: Vec<(&'static str, bool)>) -> KernelLocks {
        let mut readings = readings.into_iter();
        KernelLocks::from_source(Box::new(move || {
            let (text, whole) = readings.next().expect("read too often");
            let text = text.to_owned();
            Some(Reading { text, whole })
        }))
    }

    const ONE: &str = "1: FLOCK  ADVISORY  WRITE 6 fe:00:11 0 EOF\n";

    fn device() -> u64 {
        rustix::fs::makedev(0xfe, 0) as _
    }

    #[test]
    fn the_kernels_table_is_read() {
        let mut locks = table(vec![(
            "1: POSIX  ADVISORY  READ  5 fe:00:10 0 EOF\n\
             2: FLOCK  ADVISORY  WRITE 6 fe:00:11 0 EOF\n\
             2: -> FLOCK  ADVISORY  WRITE 7 fe:00:12 0 EOF\n\
             3: FLOCK  ADVISORY  WRITE 8 00:2b:13 0 EOF\nnonsense\n",
            true,
        )]);
        assert_eq!(locks.find((device(), 11), None), Some(6));
        assert_eq!(locks.find((device(), 12), Some(7)), None);
        assert_eq!(locks.find((device(), 10), Some(5)), None);
        // The device number differs from the one that programs see, but the inode and the process match.
        assert_eq!(locks.find((device(), 13), Some(8)), Some(8));
        assert_eq!(locks.find((device(), 13), Some(9)), None);
    }

    #[test]
    fn a_table_in_pieces_that_left_a_lock_out_is_read_again() {
        let mut locks = table(vec![("", false), ("", false), (ONE, false)]);
        assert_eq!(locks.find((device(), 11), None), Some(6));
        // If the holder is found, the table is not read again. For a free lock, the readings end with the first whole
        // one.
        assert_eq!(locks.find((device(), 11), None), Some(6));
        let mut locks = table(vec![("", false), (ONE, true)]);
        assert_eq!(locks.find((device(), 12), None), None);
        assert_eq!(locks.find((device(), 12), None), None);
        let mut never = table(vec![("", false); READINGS]);
        assert_eq!(never.find((device(), 11), None), None);
        assert_eq!(never.find((device(), 11), None), None);
    }

    #[test]
    fn only_one_piece_is_a_snapshot() {
        struct Pieces(Vec<&'static [u8]>);
        impl Read for Pieces {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.pop() {
                    Some(piece) => {
                        buffer[..piece.len()].copy_from_slice(piece);
                        Ok(piece.len())
                    }
                    None => Ok(0),
                }
            }
        }
        assert!(read_pieces(Pieces(vec![])).unwrap().whole);
        assert!(read_pieces(Pieces(vec![b"a\n"])).unwrap().whole);
        let both = read_pieces(Pieces(vec![b"b\n", b"a\n"])).unwrap();
        assert_eq!((both.text.as_str(), both.whole), ("a\nb\n", false));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_locks_of_descriptors_are_found() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        file.lock().unwrap();
        let inode = file.metadata().unwrap().ino();
        let held = |lock: &KernelLock| lock.inode == inode && lock.holder == std::process::id();
        assert!(locks_of_descriptors().iter().any(held));
    }
}
