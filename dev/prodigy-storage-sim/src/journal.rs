//! Every call that changed something, in order.

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
    /// The name in it.
    pub name: String,
}

/// The effect of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The root was made, and what was missing above it.
    CreateRoot {
        /// The root.
        inode: Inode,
    },
    /// A file was made, empty.
    Create {
        /// The file.
        inode: Inode,
        /// Its name.
        at: Name,
        /// Its mode.
        mode: u32,
    },
    /// A folder was made.
    CreateDir {
        /// The folder.
        inode: Inode,
        /// Its name.
        at: Name,
    },
    /// Bytes were written.
    Write {
        /// The file.
        inode: Inode,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// A file was cut or extended.
    SetLen {
        /// The file.
        inode: Inode,
        /// Its new length.
        len: u64,
    },
    /// The mode was set.
    SetMode {
        /// The file.
        inode: Inode,
        /// Its new mode.
        mode: u32,
    },
    /// A file got another name.
    Rename {
        /// The file.
        inode: Inode,
        /// Its name before.
        from: Name,
        /// Its name from now on.
        to: Name,
    },
    /// A name was removed.
    Unlink {
        /// The inode of the old name.
        inode: Inode,
        /// The name.
        at: Name,
    },
    /// A file was synced.
    Sync {
        /// The file.
        inode: Inode,
        /// Whether its mode was, too.
        all: bool,
    },
    /// A folder was synced.
    SyncDir {
        /// The folder.
        inode: Inode,
    },
    /// The name of the root was synced, and those above it.
    SyncAboveRoot,
}

impl Call {
    /// Whether it makes other calls durable, and changes nothing itself.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::Sync { .. } | Self::SyncDir { .. } | Self::SyncAboveRoot
        )
    }
}

/// A call, and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of the process, from 1.
    pub process: u32,
    /// The path it was made on, for people.
    pub path: PathBuf,
    /// When.
    pub time: Timestamp,
    /// Its effect.
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
