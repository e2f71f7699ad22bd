//! An open folder of a simulated process.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use prodigy_storage_file::fs::{FileKind, FsFolder, Metadata};

use super::process::Shared;
use super::state::Owner;
use crate::disk::Inode;

#[derive(Debug)]
pub(super) struct SimFolder {
    process: Arc<Shared>,
    inode: Inode,
    owner: Owner,
}

impl SimFolder {
    pub(super) fn new(process: Arc<Shared>, inode: Inode, owner: Owner) -> Self {
        Self {
            process,
            inode,
            owner,
        }
    }
}

impl Drop for SimFolder {
    fn drop(&mut self) {
        self.process.close(|state| state.close(self.inode, self.owner));
    }
}

impl FsFolder for SimFolder {
    fn metadata(&self) -> io::Result<Metadata> {
        self.process.look(|state| {
            let found = state.disk.about(self.inode);
            found.ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()> {
        // The caller may look at a file while it is shown the names, so they are shown without the lock of the disk.
        let names: Vec<(String, FileKind)> = self.process.look(|state| {
            let entries = state.disk.folder(self.inode).into_iter().flatten();
            let named = entries.filter_map(|(name, inode)| {
                let node = state.disk.node(*inode)?;
                Some((name.to_string(), node.kind()))
            });
            Ok(named.collect())
        })?;
        names.iter().for_each(|(name, kind)| show(name, *kind));
        Ok(())
    }

    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        self.process.look(|state| {
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            let entries = state.disk.folder(self.inode).ok_or(io::ErrorKind::NotFound)?;
            let found = entries.get(name).and_then(|inode| state.disk.about(*inode));
            found.ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.process
            .act(|state| Ok(state.try_lock(self.inode, self.owner)))
    }

    /// Always succeeds: only the root is locked in shared mode, and no simulated process locks it exclusively.
    fn try_lock_shared(&self) -> io::Result<bool> {
        self.process.look(|_| Ok(true))
    }

    fn lock_holder(&self) -> Option<u32> {
        self.process
            .look(|state| Ok(state.lock_holder(self.inode)))
            .ok()
            .flatten()
    }
}
