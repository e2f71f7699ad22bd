//! The journal of a simulated file system: every changing call, in order.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_layout::Timestamp;

use crate::disk::Inode;

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The folder.
    pub folder: Inode,
    /// The name in this folder.
    pub name: String,
}

/// The effect of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The root was created, with missing folders above it.
    CreateRoot {
        /// The root's inode.
        inode: Inode,
    },
    /// An empty file was created.
    Create {
        /// The file's inode.
        inode: Inode,
        /// The file's name.
        at: Name,
        /// The file's mode.
        mode: u32,
    },
    /// A folder was created.
    CreateDir {
        /// The folder's inode.
        inode: Inode,
        /// The folder's name.
        at: Name,
    },
    /// Bytes were written.
    Write {
        /// The file's inode.
        inode: Inode,
        /// The offset of the bytes.
        offset: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A file was truncated or extended.
    SetLen {
        /// The file's inode.
        inode: Inode,
        /// The file's new length.
        len: u64,
    },
    /// The mode was set.
    SetMode {
        /// The inode of the file or folder.
        inode: Inode,
        /// The new mode of the file or folder.
        mode: u32,
    },
    /// A file was renamed.
    Rename {
        /// The file's inode.
        inode: Inode,
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
    },
    /// A name was removed.
    Unlink {
        /// The inode of the removed name.
        inode: Inode,
        /// The removed name.
        at: Name,
    },
    /// A file was synced.
    Sync {
        /// The file's inode.
        inode: Inode,
        /// True if the file's mode was synced as well.
        all: bool,
    },
    /// A folder was synced.
    SyncDir {
        /// The folder's inode.
        inode: Inode,
    },
    /// The name of the root was synced, with the names of the folders above it.
    SyncAboveRoot,
}

impl Call {
    /// True if the call only makes other calls durable.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::Sync { .. } | Self::SyncDir { .. } | Self::SyncAboveRoot
        )
    }
}

/// A call with its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The process number, from 1.
    pub process: u32,
    /// The path that the call was made on, for messages.
    pub path: PathBuf,
    /// The time of the call.
    pub time: Timestamp,
    /// The effect of the call.
    pub call: Call,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "process {}: ", self.process)?;
        match &self.call {
            Call::CreateRoot { .. } => f.write_str("create the root"),
            Call::Create { .. } => write!(f, "create {path}"),
            Call::CreateDir { .. } => write!(f, "create folder {path}"),
            Call::Write { offset, bytes, .. } => {
                write!(f, "write {} bytes at {offset} to {path}", bytes.len())
            }
            Call::SetLen { len, .. } => write!(f, "set the length of {path} to {len}"),
            Call::SetMode { mode, .. } => write!(f, "set the mode of {path} to {mode:04o}"),
            Call::Rename { from, .. } => write!(f, "rename {} to {path}", from.name),
            Call::Unlink { .. } => write!(f, "unlink {path}"),
            Call::Sync { all: false, .. } => write!(f, "sync the data of {path}"),
            Call::Sync { all: true, .. } => write!(f, "sync {path}"),
            Call::SyncDir { .. } => write!(f, "sync folder /{path}"),
            Call::SyncAboveRoot => f.write_str("sync the folders above the root"),
        }
    }
}
