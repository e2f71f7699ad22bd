//! The calls that the file backend makes to a file system, as a trait.
//!
//! Every path is relative to the root of the store. The real implementation resolves it beneath the root and follows no
//! link, so no link in the root can lead a write out of it. A simulated implementation can stop or fail at every call.

#[cfg(test)]
pub(crate) mod faulty;
mod read;
mod real;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_layout::Timestamp;

pub(crate) use read::FileRead;
pub use real::RealFs;
pub(crate) use real::canonical;

/// Mode of every file that may still be written to.
pub const FILE_MODE: u32 = 0o600;
/// Mode of every folder.
pub const FOLDER_MODE: u32 = 0o700;
/// Mode that marks a segment as sealed, which survives a power loss.
pub const SEALED_MODE: u32 = 0o400;
/// Mode that marks a segment as closed: no process appends to it any more, and a cursor names it for good. It is being
/// sealed, or it is a copy, of which another store may have a longer one.
pub const CLOSED_MODE: u32 = 0o500;
/// Mode that marks a segment that an earlier version wrote without locks. No process appends to such a segment any more.
pub const UNLOCKED_MODE: u32 = 0o700;

/// The first characters of a temporary file's name. No document and no segment has a name that begins with a dot.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// The mode of opening a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing. Fails with `AlreadyExists` if the name is taken.
    CreateNew,
    /// A file for reading and writing, which is created if it is missing.
    Create,
}

/// The kind of an entry in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, which is never followed, or anything else.
    Other,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name. Listings leave out names that are not Unicode: the backend never creates such names.
    pub name: String,
    /// The kind.
    pub kind: FileKind,
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The kind.
    pub kind: FileKind,
    /// The length in bytes.
    pub len: u64,
    /// The permission bits.
    pub mode: u32,
    /// The id of the user that owns the file.
    pub uid: u32,
    /// Device and inode, which identify the file under any name.
    pub identity: (u64, u64),
    /// The number of the file's names (hard links): 0 after the last one was removed.
    pub links: u64,
    /// The mtime: the time of the last write; for a folder, the last time a name in it was added or removed. A user may set
    /// it to any value.
    pub modified: Timestamp,
    /// The ctime: the time of the last change of the file, its mode or its times. A write sets it to the mtime.
    pub changed: Timestamp,
}

impl Metadata {
    /// True if the mode marks a sealed segment.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.mode & 0o300 == 0
    }

    /// True if the mode marks a segment as closed, and not as sealed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mode & 0o300 == 0o100
    }

    /// True if the mode marks a segment that an earlier version wrote without locks.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.mode & 0o300 == 0o300
    }

    /// True if the mode marks a segment as open: a writer may append to it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_writable() && !self.is_unlocked()
    }

    /// True if the mode lets the owner write to the file.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.mode & 0o200 != 0
    }
}

/// The error for a path that leads to a folder, a FIFO, a socket or a device instead of a regular file.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
#[non_exhaustive]
pub struct NotRegular;

impl From<NotRegular> for io::Error {
    fn from(error: NotRegular) -> Self {
        Self::other(error)
    }
}

/// The space of the file system that holds the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user can still write.
    pub free: u64,
    /// The size of the file system, in bytes.
    pub capacity: u64,
    /// Inodes that this user can still use. `None` if the file system has no fixed number of inodes.
    pub free_inodes: Option<u64>,
}

/// The result of resolving the path of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The path leads to the open folder or, if none was opened yet, resolves as it did before.
    Here,
    /// The path leads to another folder, or to a file.
    Elsewhere,
    /// No folder was opened yet, and a link on the path changed.
    Redirected,
    /// The path leads to nothing: the folder was removed or moved away.
    Gone,
}

/// A file system below one root.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens a file. Follows no link.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>>;

    /// Creates the root and the missing folders above it. Does nothing if the root exists.
    fn create_root(&self) -> io::Result<()>;

    /// Creates one folder. Fails with `AlreadyExists` if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive power loss. The empty path is the root.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the name of the root itself, and of the folders above it, survive power loss.
    fn sync_above_root(&self) -> io::Result<()>;

    /// Renames a file, and replaces an existing file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file. Fails with `AlreadyExists` if the new name is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name of a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The entries of a folder in any order, without `.` and `..`. The empty path is the root.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// The names in a folder that are not Unicode, in any order. No other call lists them, since the backend never creates
    /// such names. A simulated file system may have none.
    fn names_of_bytes(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let _ = folder;
        Ok(Vec::new())
    }

    /// Opens a folder to read and lock it. Follows no link. The empty path is the root.
    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>>;

    /// The metadata of the file at a path. Follows no link. The empty path is the root.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// The target of the link at a path. Fails for anything that is not a link.
    fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The creation time of a file or folder, if the file system stores it. It distinguishes a folder from a removed one with the
    /// same inode.
    fn born(&self, path: &Path) -> io::Result<Option<Timestamp>> {
        let _ = path;
        Ok(None)
    }

    /// The space of the file system that holds the root.
    fn space(&self) -> io::Result<Space>;

    /// Resolves the path of the root again. By default the root is never replaced.
    fn place(&self) -> io::Result<Place> {
        Ok(Place::Here)
    }

    /// The metadata of the file at a path, resolved from the path of the root, as another process would, and not from the
    /// open root. Links are followed, except for the last part of the path.
    fn metadata_by_path(&self, path: &Path) -> io::Result<Metadata> {
        self.metadata(path)
    }

    /// Watches a folder from now on. Calls `wake` after a name in it was added or removed, after a write to a file in
    /// it, after the watch ended, and whenever the watch may have missed a change. Changes of temporary files are not
    /// reported. The empty path is the root.
    ///
    /// Returns `None` if the system can't watch folders, and an error if its limits are reached. The caller then polls. It
    /// also polls, less often, beside a watch, since no watch reports what another machine writes.
    fn watch(&self, folder: &Path, wake: Wake) -> io::Result<Option<Box<dyn FsWatch>>> {
        let _ = (folder, wake);
        Ok(None)
    }

    /// The effective user of this process; `None` if files have no owners.
    fn user(&self) -> Option<u32> {
        None
    }

    /// Creates, writes and removes a file in a folder, to find out whether a write there would succeed. The empty path is
    /// the root, or the nearest existing folder above it.
    fn probe_write(&self, folder: &Path) -> io::Result<()> {
        let _ = folder;
        Ok(())
    }
}

/// A function that the watcher's thread calls when a watched folder may have changed. It must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A watch on a folder, which lasts until it is dropped.
pub trait FsWatch: fmt::Debug + Send + Sync {
    /// False after the watch ended by itself: the folder was removed or moved, or the system ended the watch.
    fn is_live(&self) -> bool;
}

/// A value that changes with the names in a folder ([`FsFolder::mark`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderMark(pub(crate) i128);

/// An open folder. Each call acts on this folder, even if its path leads elsewhere by then.
pub trait FsFolder: fmt::Debug + Send + Sync {
    /// The metadata of the folder itself.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Calls `show` with each name in the folder and its kind, in any order, without `.`, `..` and names that are not Unicode.
    /// Every name that exists during the whole call is shown. A folder that was removed has none.
    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()>;

    /// A mark of the folder's names: if two marks are equal, no name was added or removed between the two calls. `None` if
    /// the file system can't prove this now.
    fn mark(&self) -> io::Result<Option<FolderMark>> {
        Ok(None)
    }

    /// The metadata of a name in the folder. Follows no link.
    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata>;

    /// Fails with `PermissionDenied` if this user may not read the entry with this name (nor enter it, for a folder),
    /// or if `write` is true and the user may not write to it. A simulated folder may ignore this.
    fn may(&self, name: &OsStr, kind: FileKind, write: bool) -> io::Result<()> {
        let _ = (name, kind, write);
        Ok(())
    }

    /// Takes the operating system's exclusive lock on the folder; returns false if another holder has a lock on it. The lock
    /// is released when the folder is closed. No file is created.
    fn try_lock(&self) -> io::Result<bool>;

    /// Like [`try_lock`](Self::try_lock), for a shared lock: any number of holders may have one at the same time.
    fn try_lock_shared(&self) -> io::Result<bool>;

    /// Sets the mtime. A simulated folder may ignore this.
    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        let _ = time;
        Ok(())
    }

    /// The process that holds the lock on the folder, if the system lists it and this process can see it.
    fn lock_holder(&self) -> Option<u32>;
}

/// An open file.
pub trait FsFile: fmt::Debug + Send + Sync {
    /// Reads at an offset. Returns the number of bytes read: 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset. Returns the number of bytes written, which may be fewer than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Truncates or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes contents and length survive power loss. After a failure the state is unknown, and the caller must not call
    /// it again.
    fn sync(&self) -> io::Result<()>;

    /// Like [`sync`](Self::sync), and makes the mode survive too.
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the operating system's exclusive lock on the file; returns false if another holder has it. The lock is
    /// released when the file is closed.
    fn try_lock(&self) -> io::Result<bool>;

    /// Releases the lock. The file stays open.
    fn unlock(&self) -> io::Result<()>;

    /// Sets the permission bits; the umask has no effect.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Sets the mtime. A simulated file may ignore this.
    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        let _ = time;
        Ok(())
    }

    /// The metadata of the file.
    fn metadata(&self) -> io::Result<Metadata>;

    /// The file descriptor, if the file has one. A lock on the file lasts from now on until each copy of the descriptor is
    /// closed.
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

impl dyn FsFile + '_ {
    /// Writes all bytes.
    ///
    /// # Errors
    /// The errors of [`write_at`](FsFile::write_at); some of the bytes may then be in the file.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write_at(bytes, offset)?;
            if written == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    "the file system took no byte",
                ));
            }
            bytes = bytes.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }

    /// Reads until the buffer is full or the file ends. Returns the number of bytes read.
    ///
    /// # Errors
    /// The errors of [`read_at`](FsFile::read_at).
    pub fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            let read = self.read_at(rest, offset + filled as u64)?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    /// Reads from an offset to the end of the file, refusing more than `limit` bytes.
    ///
    /// # Errors
    /// The errors of [`read_at`](FsFile::read_at); `FileTooLarge` past the limit.
    pub fn read_to_end(&self, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
        let len = self.metadata()?.len.saturating_sub(offset);
        if len > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{len} bytes, {limit} are allowed"),
            ));
        }
        let mut bytes = vec![0; len as usize];
        let mut filled = self.read_full_at(&mut bytes, offset)?;
        bytes.truncate(filled);
        // The file may have grown since its length was read.
        let mut chunk = [0; 4096];
        while filled as u64 == len && filled as u64 <= limit {
            let read = self.read_at(&mut chunk, offset + bytes.len() as u64)?;
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
            filled = len as usize;
            if bytes.len() as u64 > limit {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("over {limit} bytes"),
                ));
            }
        }
        Ok(bytes)
    }
}
