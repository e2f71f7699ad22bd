//! The few calls that the file backend makes to a file system, behind a trait.
//!
//! Every path is relative to the root of the store. The real implementation resolves it beneath the root and
//! follows no link, so nothing in the root can lead a write out of it. A simulated one can stop the world
//! at every call.

#[cfg(test)]
pub(crate) mod faulty;
mod read;
mod real;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_layout::Timestamp;

pub(crate) use read::FileRead;
pub use real::RealFs;
pub(crate) use real::canonical;

/// Mode of every file that is written to.
pub const FILE_MODE: u32 = 0o600;
/// Mode of every folder.
pub const FOLDER_MODE: u32 = 0o700;
/// Mode that marks a segment as sealed.
pub const SEALED_MODE: u32 = 0o400;
/// Mode that marks a segment of an earlier version's writer without locks: nobody appends to it any more.
pub const UNLOCKED_MODE: u32 = 0o700;

/// Begins the name of a temporary file: hidden, and no name of a document or a segment.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing: `AlreadyExists` if there is one.
    CreateNew,
    /// Opens a file for reading and writing; makes it if it is missing.
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

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name. A name that is not Unicode is not ours and left out of listings.
    pub name: String,
    /// The kind.
    pub kind: FileKind,
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The kind.
    pub kind: FileKind,
    /// Bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Device and inode: which file it is, whatever its name.
    pub identity: (u64, u64),
    /// The number of its names (hard links): 0 after the last one was removed.
    pub links: u64,
    /// When it was last written to; of a folder, when a name in it last came or went. Anyone may set it.
    pub modified: Timestamp,
}

impl Metadata {
    /// Whether the mode marks a sealed segment.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.mode & 0o200 == 0
    }

    /// Whether the mode marks a segment of an earlier version's writer without locks.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// The reason why a name can't be opened: there is a folder, a FIFO, a socket or a device instead of a file.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
#[non_exhaustive]
pub struct NotRegular;

impl From<NotRegular> for io::Error {
    fn from(error: NotRegular) -> Self {
        Self::other(error)
    }
}

/// Space of the file system that holds the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still use.
    pub free: u64,
    /// Bytes in all.
    pub capacity: u64,
    /// Inodes that this user may still use, where the file system has a fixed number of them.
    pub free_inodes: Option<u64>,
}

/// Where the path of the root leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the open folder, or no folder was opened yet.
    Here,
    /// To something else: another folder or a file.
    Elsewhere,
    /// No folder was opened yet, and a link on the path leads to another place than it did.
    Redirected,
    /// Nowhere: the folder was removed or moved away.
    Gone,
}

/// A file system below one root.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens a file; never through a link.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>>;

    /// Makes the root and what is missing above it. Harmless if it is there.
    fn create_root(&self) -> io::Result<()>;

    /// Makes one folder: `AlreadyExists` if there is one.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive power loss. The empty path is the root.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the name of the root itself, and of the folders above it, survive power loss.
    fn sync_above_root(&self) -> io::Result<()>;

    /// Renames a file over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file: `AlreadyExists` if the new name is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order, `.` and `..` left out. The empty path is the root.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Opens a folder for looking at what is in it; never through a link. The empty path is the root.
    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>>;

    /// The metadata of a name, links not followed. The empty path is the root.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// When a folder was made, where the file system keeps that: the number of a folder that was removed is used again.
    fn born(&self, path: &Path) -> io::Result<Option<Timestamp>> {
        let _ = path;
        Ok(None)
    }

    /// Space left.
    fn space(&self) -> io::Result<Space>;

    /// Where the path of the root leads by now. A simulated root is never replaced.
    fn place(&self) -> io::Result<Place> {
        Ok(Place::Here)
    }

    /// The metadata of what a path leads to if one begins with the path of the root, as other processes do, and not with
    /// the open root. Links are followed, except one at the end of the path.
    fn metadata_by_path(&self, path: &Path) -> io::Result<Metadata> {
        self.metadata(path)
    }

    /// Watches a folder from now on: calls `wake` after a name in it came or went, after a file in it was written to, and
    /// after the watch ended or may have missed something. A temporary file wakes nobody. The empty path is the root.
    ///
    /// `None` if the system watches no folders; an error if its limits are reached. The caller then looks from time to
    /// time. It does so, more rarely, with a watch too: no watch sees what another machine writes.
    fn watch(&self, folder: &Path, wake: Wake) -> io::Result<Option<Box<dyn FsWatch>>> {
        let _ = (folder, wake);
        Ok(None)
    }

    /// The user as whom this process writes; `None` where files have no owners.
    fn user(&self) -> Option<u32> {
        None
    }

    /// Fails if this user can't read a file or folder, or write to it if `write`, or enter it if it is a folder.
    fn may(&self, path: &Path, kind: FileKind, write: bool) -> io::Result<()> {
        let _ = (path, kind, write);
        Ok(())
    }

    /// Tries what a write in a folder needs, and leaves nothing behind. The empty path is the root, or the nearest folder
    /// above it that exists.
    fn probe_write(&self, folder: &Path) -> io::Result<()> {
        let _ = folder;
        Ok(())
    }
}

/// Called when something may have changed in a watched folder, from a thread of its own. It must not wait for anything.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A watch on a folder, which lasts until it is dropped.
pub trait FsWatch: fmt::Debug + Send + Sync {
    /// False after the watch ended by itself: the folder was removed or moved, or the system gave the watch up.
    fn is_live(&self) -> bool;
}

/// A mark of the names in a folder ([`FsFolder::mark`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderMark(pub(crate) i128);

/// An open folder. Each call acts on this folder, also if its path leads elsewhere by then.
pub trait FsFolder: fmt::Debug + Send + Sync {
    /// The metadata of the folder itself.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Shows every name in it and its kind, in no order, `.` and `..` left out, and those that are not Unicode. A name that
    /// is there from before the call to its end is shown.
    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()>;

    /// A mark of its names: if two marks are equal, no name came or went between the two calls. `None` if the file system
    /// can't prove that now.
    fn mark(&self) -> io::Result<Option<FolderMark>> {
        Ok(None)
    }

    /// The metadata of a name in it, links not followed.
    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata>;

    /// Takes the exclusive lock of the operating system on the folder, if no one else has it. Released when the folder is
    /// closed. It makes nothing, so it leaves nothing behind.
    fn try_lock(&self) -> io::Result<bool>;

    /// As [`try_lock`](Self::try_lock), and any number may hold this lock at once.
    fn try_lock_shared(&self) -> io::Result<bool>;

    /// Sets the mtime. A simulated folder need not keep it.
    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        let _ = time;
        Ok(())
    }

    /// The process that holds the lock on the folder, where the system lists it and this process may see it.
    fn lock_holder(&self) -> Option<u32>;
}

/// An open file.
pub trait FsFile: fmt::Debug + Send + Sync {
    /// Reads at an offset; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset; may write less than asked.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes contents and length survive power loss. After a failure the state is unknown: never call it again.
    fn sync(&self) -> io::Result<()>;

    /// As [`sync`](Self::sync), the mode included.
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the exclusive lock of the operating system, if no one else has it. Released when the file is closed.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives the lock back; the file stays open.
    fn unlock(&self) -> io::Result<()>;

    /// Sets the permission bits, whatever the umask.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Sets the mtime. A simulated file need not keep it.
    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        let _ = time;
        Ok(())
    }

    /// The metadata of the file.
    fn metadata(&self) -> io::Result<Metadata>;

    /// The descriptor, if the file has one.
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

impl dyn FsFile + '_ {
    /// Writes all of it.
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

    /// Fills the buffer as far as the file goes; gives the number of bytes.
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
        // It may have grown since.
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
