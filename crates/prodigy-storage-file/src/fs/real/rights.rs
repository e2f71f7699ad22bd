//! What this user may do, and to whom the files that it makes belong.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, Gid, Uid};
#[cfg(target_os = "linux")]
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::io::retry_on_intr;

#[cfg(target_os = "linux")]
use super::super::FILE_MODE;

/// An owner and a group.
pub(super) type Owner = (Uid, Gid);

/// The owner of a file or folder, if that is another user.
pub(super) fn heir(found: &rustix::fs::Stat, me: Uid) -> Option<Owner> {
    (found.st_uid != me.as_raw()).then(|| (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid)))
}

/// Asks for the rights of the effective user. A platform that can't answer for it is asked for the real one.
pub(super) fn may(parent: BorrowedFd<'_>, name: &Path, access: Access) -> io::Result<()> {
    match rustix::fs::accessat(parent, name, access, AtFlags::EACCESS) {
        Err(Errno::NOSYS | Errno::INVAL) => Ok(rustix::fs::accessat(parent, name, access, AtFlags::empty())?),
        answer => Ok(answer?),
    }
}

/// Writes a block to a file that has no name and goes when it is closed, where the file system has such files.
#[cfg(target_os = "linux")]
pub(super) fn write_nameless(folder: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(folder, ".", flags, Mode::from_raw_mode(FILE_MODE))) {
        Ok(file) => File::from(file).write_all_at(&[0; 4096], 0),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn write_nameless(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}
