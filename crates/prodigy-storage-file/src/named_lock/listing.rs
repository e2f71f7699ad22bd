//! Which locks there are, and whether someone holds them. Takes no lock and changes nothing.
//!
//! Trying a lock would take it for a moment and could make another process fail, so the kernel is asked instead: on
//! Linux `/proc/locks` lists the locks that are held, by device and inode. Some file systems show another device there
//! than to a program; then the inode and the holder's process id tell. What it does not list is held if its file says
//! that it was not released, and either its holder is of another host (or container), which can't be seen from here;
//! or there is no such list and the holder's process lives. So a holder of this host that died holds nothing, and one of
//! another host that died is shown until the next one takes the lock.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Deadline, LockInfo, Result};
use prodigy_storage_layout::{Entry, LockName, locks_folder};

use super::slots::{Record, Slots, State};
use crate::fs::{FileKind, FsFile, OpenMode};
use crate::lockfile::host;
use crate::store::Store;

const LOCKS: &str = "list locks";

impl Store {
    /// [`Backend::locks`](prodigy_storage_backend::Backend::locks), by name.
    pub(crate) fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        let mut found = Vec::new();
        let kernel = KernelLocks::read();
        let here = host();
        // The number of parts tells how deep the files lie: no link and no stray folder leads deeper.
        let mut folders: Vec<(PathBuf, usize)> = (1..=LockName::MAX_PARTS)
            .map(|parts| (locks_folder().join(parts.to_string()), parts))
            .collect();
        while let Some((folder, depth)) = folders.pop() {
            for entry in self.names_in(LOCKS, &folder)? {
                let path = folder.join(&entry.name);
                deadline.check(LOCKS, &path.display(), "the file system")?;
                match entry.kind {
                    FileKind::Folder if depth > 1 => folders.push((path, depth - 1)),
                    FileKind::File if depth == 1 => {
                        if let Some(Entry::Lock(name)) = Entry::parse(&path) {
                            found.extend(self.lock_info(name, &path, kernel.as_ref(), &here)?);
                        }
                    }
                    _ => {}
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn lock_info(
        &self,
        name: LockName,
        path: &Path,
        kernel: Option<&KernelLocks>,
        here: &str,
    ) -> Result<Option<LockInfo>> {
        let fault = |error| self.read_fault(LOCKS, path, error);
        let file = match self.fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        let slots = Slots::read(&*file).map_err(fault)?;
        let (fencing, unsure) = (slots.fencing(), slots.doubt().is_some());
        let record = slots.into_record();
        let held = is_held(&*file, record.as_ref(), kernel, here).map_err(fault)?;
        if fencing == 0 && !held && !unsure {
            // Made by one that never got as far as holding it.
            return Ok(None);
        }
        let holder = record.map(|record| record.holder);
        Ok(Some(LockInfo::new(name, held, holder, fencing).unsure(unsure)))
    }
}

fn is_held(
    file: &dyn FsFile,
    record: Option<&Record>,
    kernel: Option<&KernelLocks>,
    here: &str,
) -> io::Result<bool> {
    // A file without a descriptor is none of the kernel's.
    let kernel = kernel.filter(|_| file.descriptor().is_some());
    let pid = record.map(|record| record.holder.pid);
    if let Some(kernel) = kernel
        && kernel.list(file.metadata()?.identity, pid)
    {
        return Ok(true);
    }
    let Some(record) = record.filter(|record| record.state == State::Held) else {
        return Ok(false);
    };
    Ok(record.holder.host != here || (kernel.is_none() && is_alive(record.holder.pid)))
}

fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    // A process of another user lives as well.
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// Locks on whole files that the kernel knows of.
#[derive(Debug)]
struct KernelLocks(Vec<KernelLock>);

#[derive(Debug, PartialEq, Eq)]
struct KernelLock {
    pid: Option<u32>,
    device: (u32, u32),
    inode: u64,
}

impl KernelLocks {
    #[cfg(target_os = "linux")]
    fn read() -> Option<Self> {
        // The kernel's table, not a file of the store.
        std::fs::read_to_string("/proc/locks")
            .ok()
            .map(|text| Self::parse(&text))
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Option<Self> {
        None
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    fn list(&self, (device, inode): (u64, u64), pid: Option<u32>) -> bool {
        let device = (rustix::fs::major(device as _), rustix::fs::minor(device as _));
        self.0
            .iter()
            .any(|lock| lock.inode == inode && (lock.device == device || (pid.is_some() && lock.pid == pid)))
    }
}

/// Reads `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; one that waits has `->` after the number.
fn parse_line(line: &str) -> Option<KernelLock> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let mut fields = fields.skip(2);
    let pid = fields.next()?.parse().ok();
    let mut place = fields.next()?.split(':');
    let mut hex = || u32::from_str_radix(place.next()?, 16).ok();
    let device = (hex()?, hex()?);
    let inode = place.next()?.parse().ok()?;
    Some(KernelLock { pid, device, inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let locks = KernelLocks::parse(
            "1: POSIX  ADVISORY  READ  5 fe:00:10 0 EOF\n\
             2: FLOCK  ADVISORY  WRITE 6 fe:00:11 0 EOF\n\
             2: -> FLOCK  ADVISORY  WRITE 7 fe:00:12 0 EOF\n\
             3: FLOCK  ADVISORY  WRITE 8 00:2b:13 0 EOF\nnonsense\n",
        );
        assert_eq!(locks.0.len(), 2);
        let device = rustix::fs::makedev(0xfe, 0);
        assert!(locks.list((device as _, 11), None));
        assert!(!locks.list((device as _, 12), Some(7)));
        assert!(!locks.list((device as _, 10), Some(5)));
        // Another device than the program sees, but the inode and the process.
        assert!(locks.list((device as _, 13), Some(8)));
        assert!(!locks.list((device as _, 13), Some(9)));
    }

    #[test]
    fn processes_live_or_not() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(0));
        assert!(!is_alive(u32::MAX));
        assert!(!is_alive(i32::MAX as u32));
    }
}
