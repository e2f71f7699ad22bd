//! An open file of a simulated process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_file::fs::{FsFile, Metadata, OpenMode};

use super::process::{Shared, Turn};
use super::state::Owner;
use crate::disk::{Body, Inode};
use crate::journal::Call;

/// An open file description, which owns locks.
#[derive(Debug)]
pub(super) struct SimFile {
    process: Arc<Shared>,
    inode: Inode,
    owner: Owner,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(process: Arc<Shared>, inode: Inode, owner: Owner, path: &Path, mode: OpenMode) -> Self {
        Self {
            process,
            inode,
            owner,
            path: path.to_owned(),
            writable: mode != OpenMode::Read,
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(rustix::io::Errno::BADF.into())
        }
    }

    fn act(&self, call: Call) -> io::Result<()> {
        let caller = self.process.caller(&self.path);
        self.process.act(|state| {
            match &call {
                Call::SetLen { inode, len } => state.disk.set_len(*inode, *len, caller.time),
                Call::SetMode { inode, mode } => state.disk.change_mode(*inode, *mode),
                _ => {}
            }
            state.record(caller, call);
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.process.close(|state| state.close(self.inode, self.owner));
    }
}

impl FsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.look(|state| {
            let Some(Body::File(bytes)) = state.disk.node(self.inode).map(|node| &node.body) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let rest = usize::try_from(offset).ok().and_then(|from| bytes.get(from..));
            let rest = rest.unwrap_or_default();
            let read = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..read), rest.get(..read)) {
                to.copy_from_slice(from);
            }
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        let caller = self.process.caller(&self.path);
        self.process.write(&self.path, |state, turn| {
            let bytes = match turn {
                Turn::Whole => bytes,
                Turn::Last(written) => written.of(bytes),
            };
            if bytes.is_empty() {
                return Ok(0);
            }
            state.disk.write_at(self.inode, bytes, offset, caller.time);
            state.record(
                caller,
                Call::Write {
                    inode: self.inode,
                    offset,
                    bytes: bytes.into(),
                },
            );
            Ok(bytes.len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.act(Call::SetLen {
            inode: self.inode,
            len,
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.act(Call::Sync {
            inode: self.inode,
            all: false,
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.act(Call::Sync {
            inode: self.inode,
            all: true,
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.process.meet_others(&self.path);
        self.process
            .act(|state| Ok(state.try_lock(self.inode, self.owner)))
    }

    fn unlock(&self) -> io::Result<()> {
        self.process.close(|state| state.close(self.inode, self.owner));
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.act(Call::SetMode {
            inode: self.inode,
            mode,
        })
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.process.look(|state| {
            let found = state.disk.about(self.inode);
            found.ok_or(io::ErrorKind::NotFound.into())
        })
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
