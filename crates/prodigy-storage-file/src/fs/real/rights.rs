//! The access rights of this user, and the owner of new files.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, retry_on_intr};

use super::super::{FILE_MODE, TEMP_PREFIX};

/// The bytes that a probe writes.
const BLOCK: [u8; 4096] = [0; 4096];

/// An owner and a group.
pub(super) type Owner = (Uid, Gid);

/// The owner and group of a file or folder, if the owner is another user than `me`.
pub(super) fn heir(found: &rustix::fs::Stat, me: Uid) -> Option<Owner> {
    (found.st_uid != me.as_raw()).then(|| (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid)))
}

/// Checks the rights of the effective user. Where the platform can't check those, it checks the rights of the real
/// user.
pub(super) fn may(parent: BorrowedFd<'_>, name: &Path, access: Access) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if access.contains(Access::WRITE_OK) {
        is_more_than_appended_to(parent, name)?;
    }
    match rustix::fs::accessat(parent, name, access, AtFlags::EACCESS) {
        Err(Errno::NOSYS | Errno::INVAL) => Ok(rustix::fs::accessat(parent, name, access, AtFlags::empty())?),
        answer => Ok(answer?),
    }
}

/// Fails for a file or folder with the attribute that only lets bytes or names be added (`chattr +a`): the system reports it only when
/// something is replaced or removed.
#[cfg(target_os = "linux")]
fn is_more_than_appended_to(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match statx(parent, name, flags, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes.contains(StatxAttributes::APPEND) => Err(Errno::PERM.into()),
        // The check of the rights reports any other error.
        _ => Ok(()),
    }
}

/// Writes a block to a temporary file and removes the file. If the file system supports it, the file never has a name.
#[cfg(target_os = "linux")]
pub(super) fn write_and_leave_nothing(folder: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(folder, ".", flags, Mode::from_raw_mode(FILE_MODE as _))) {
        Ok(file) => File::from(file).write_all_at(&BLOCK, 0),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
            write_named(folder)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn write_and_leave_nothing(folder: &OwnedFd) -> io::Result<()> {
    write_named(folder)
}

/// The error for a file system that accepts no new files, such as `/proc`, which itself reports "not found" for a new
/// name.
pub(super) fn takes_nothing() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the file system takes no new files",
    )
}

/// Writes a block to a temporary file with a name, and removes the file.
fn write_named(folder: &OwnedFd) -> io::Result<()> {
    let name = format!("{TEMP_PREFIX}{}", uuid::Uuid::new_v4().simple());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(FILE_MODE as _);
    let file = match retry_on_intr(|| rustix::fs::openat(folder, &*name, flags, mode)) {
        Err(Errno::NOENT) => return Err(takes_nothing()),
        other => other?,
    };
    let written = File::from(file).write_all_at(&BLOCK, 0);
    let removed = rustix::fs::unlinkat(folder, &*name, AtFlags::empty());
    written.and(removed.map_err(io::Error::from))
}
