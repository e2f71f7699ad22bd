//! The state that all processes of a simulated file system share.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use prodigy_storage_file::fs::{FILE_MODE, FileKind, OpenMode};
use prodigy_storage_layout::Timestamp;

use crate::clock::START;
use crate::disk::{Body, Disk, Inode, Node};
use crate::journal::{Call, Entry, Name};

const READ: u32 = 0o400;
const WRITE: u32 = 0o200;

/// The advance of the mtime clock at each call, in nanoseconds.
const CALL: i64 = 1_000_000;
/// The resolution of the mtime clock: several calls in a row get the same mtime, as from a kernel's coarse clock.
const STEP: i64 = 10_000_000;

/// The disk as processes see it, its locks, and the journal of calls.
#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) journal: Vec<Entry>,
    /// The holder of the lock on each file or folder.
    locks: HashMap<Inode, Owner>,
    handles: u64,
    /// The number of calls so far, which the mtime clock counts.
    calls: i64,
}

/// An open file description of a process, which owns the locks that were taken through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: u32,
    pub(super) handle: u64,
}

/// A call's process, path and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) process: u32,
    pub(super) path: &'a Path,
    pub(super) time: Timestamp,
}

impl State {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            journal: Vec::new(),
            locks: HashMap::new(),
            handles: 0,
            calls: 0,
        }
    }

    /// Counts a call.
    pub(super) fn tick(&mut self) {
        self.calls += 1;
    }

    /// The time of the mtime clock.
    pub(super) fn stamp(&self) -> Timestamp {
        let nanos = self.calls * CALL;
        Timestamp::from_nanos(START + nanos - nanos % STEP)
    }

    pub(super) fn record(&mut self, caller: Caller<'_>, call: Call) {
        self.journal.push(Entry {
            process: caller.process,
            path: caller.path.to_owned(),
            time: caller.time,
            call,
        });
    }

    pub(super) fn open(&mut self, caller: Caller<'_>, mode: OpenMode) -> io::Result<(Inode, Owner)> {
        let inode = match (self.disk.find(caller.path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(inode), _) => self.check_open(inode, mode).map(|()| inode)?,
            (Err(error), OpenMode::CreateNew | OpenMode::Create)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                self.create(caller)?
            }
            (Err(error), _) => return Err(error),
        };
        Ok((inode, self.handle(caller.process)))
    }

    /// Opens a file description for a process.
    pub(super) fn handle(&mut self, process: u32) -> Owner {
        self.handles += 1;
        Owner {
            process,
            handle: self.handles,
        }
    }

    fn check_open(&self, inode: Inode, mode: OpenMode) -> io::Result<()> {
        let node = self.disk.node(inode).ok_or(io::ErrorKind::NotFound)?;
        match node.kind() {
            FileKind::File => {}
            FileKind::Folder if mode != OpenMode::Read => return Err(io::ErrorKind::IsADirectory.into()),
            FileKind::Folder => return Err(io::Error::other("it is not a regular file")),
            FileKind::Other => return Err(rustix::io::Errno::LOOP.into()),
        }
        let needed = match mode {
            OpenMode::Read => READ,
            _ => READ | WRITE,
        };
        if node.mode & needed == needed {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn create(&mut self, caller: Caller<'_>) -> io::Result<Inode> {
        let at = self.place(caller.path)?;
        let mut node = Node::file(FILE_MODE);
        node.modified = caller.time;
        let inode = self.disk.add(node);
        self.link(&at, inode);
        self.record(
            caller,
            Call::Create {
                inode,
                at,
                mode: FILE_MODE,
            },
        );
        Ok(inode)
    }

    fn link(&mut self, at: &Name, inode: Inode) {
        self.disk.link(at.folder, &at.name, inode);
        self.disk.stamp(at.folder, self.stamp());
    }

    fn unlink_from(&mut self, at: &Name, inode: Inode) {
        self.disk.unlink(at.folder, &at.name, inode);
        self.disk.stamp(at.folder, self.stamp());
    }

    /// The folder and the name that a path leads to. Fails if the folder's mode forbids changes of its names.
    fn place(&self, path: &Path) -> io::Result<Name> {
        let (folder, name) = self.disk.parent(path)?;
        let mode = self.disk.node(folder).map_or(0, |node| node.mode);
        if mode & (WRITE | 0o100) != WRITE | 0o100 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Name {
            folder,
            name: name.to_owned(),
        })
    }

    pub(super) fn create_root(&mut self, caller: Caller<'_>) {
        if self.disk.root().is_none() {
            let inode = self.disk.make_root();
            self.record(caller, Call::CreateRoot { inode });
        }
    }

    pub(super) fn create_dir(&mut self, caller: Caller<'_>) -> io::Result<()> {
        match self.disk.find(caller.path) {
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let at = self.place(caller.path)?;
        let inode = self.disk.add(Node::folder());
        self.disk.stamp(inode, self.stamp());
        self.link(&at, inode);
        self.record(caller, Call::CreateDir { inode, at });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, caller: Caller<'_>) -> io::Result<()> {
        let inode = self.readable_folder(caller.path)?;
        self.record(caller, Call::SyncDir { inode });
        Ok(())
    }

    pub(super) fn readable_folder(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.disk.find(path)?;
        let node = self.disk.node(inode).ok_or(io::ErrorKind::NotFound)?;
        match &node.body {
            Body::Folder(_) if node.mode & READ != 0 => Ok(inode),
            Body::Folder(_) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn sync_above_root(&mut self, caller: Caller<'_>) -> io::Result<()> {
        self.disk.root().ok_or(io::ErrorKind::NotFound)?;
        self.record(caller, Call::SyncAboveRoot);
        Ok(())
    }

    /// Renames `from` to `caller.path`.
    pub(super) fn rename(&mut self, caller: Caller<'_>, from: &Path, replace: bool) -> io::Result<()> {
        let inode = self.disk.find(from)?;
        let (from, to) = (self.place(from)?, self.place(caller.path)?);
        if let Ok(there) = self.disk.find(caller.path) {
            if !replace {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if there == inode {
                return Ok(());
            }
            if self.disk.folder(there).is_some() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
        }
        self.unlink_from(&from, inode);
        self.link(&to, inode);
        self.record(caller, Call::Rename { inode, from, to });
        Ok(())
    }

    pub(super) fn unlink(&mut self, caller: Caller<'_>) -> io::Result<()> {
        let inode = self.disk.find(caller.path)?;
        if self.disk.folder(inode).is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let at = self.place(caller.path)?;
        self.unlink_from(&at, inode);
        self.record(caller, Call::Unlink { inode, at });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, caller: Caller<'_>) -> io::Result<()> {
        let inode = self.disk.find(caller.path)?;
        match self.disk.folder(inode) {
            None => return Err(io::ErrorKind::NotADirectory.into()),
            Some(names) if !names.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Some(_) => {}
        }
        let at = self.place(caller.path)?;
        self.unlink_from(&at, inode);
        self.record(caller, Call::Unlink { inode, at });
        Ok(())
    }

    pub(super) fn try_lock(&mut self, inode: Inode, owner: Owner) -> bool {
        *self.locks.entry(inode).or_insert(owner) == owner
    }

    /// The process that holds the lock on a file or folder.
    pub(super) fn lock_holder(&self, inode: Inode) -> Option<u32> {
        self.locks.get(&inode).map(|owner| owner.process)
    }

    pub(super) fn close(&mut self, inode: Inode, owner: Owner) {
        if self.locks.get(&inode) == Some(&owner) {
            self.locks.remove(&inode);
        }
    }

    /// Releases every lock of a process.
    pub(super) fn end(&mut self, process: u32) {
        self.locks.retain(|_, owner| owner.process != process);
    }
}
