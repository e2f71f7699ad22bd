//! Opens paths beneath a folder without following links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::fs::FOLDER_MODE;

#[cfg(target_os = "linux")]
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, mode, resolve) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The kernel has no `openat2`, or a sandbox forbids it.
            Err(Errno::NOSYS | Errno::PERM) => {
                return open_stepwise(root, path, flags, mode);
            }
            other => return Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    open_stepwise(root, path, flags, mode)
}

pub(in crate::fs) fn open_stepwise(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let mut parts = path.components().peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => std::ffi::OsStr::new("."),
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        let here = folder.as_ref().map_or(root, AsFd::as_fd);
        if parts.peek().is_none() {
            if flags.contains(OFlags::DIRECTORY) {
                return open_folder(here, Path::new(name));
            }
            let flags = flags | OFlags::NOFOLLOW;
            return Ok(retry_on_intr(|| rustix::fs::openat(here, name, flags, mode))?);
        }
        folder = Some(open_folder(here, Path::new(name))?);
    }
    Err(io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a folder. Fails with `ELOOP` if the name is a link.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty())) {
        // On Linux, opening a link as a folder gives this error, too.
        Err(Errno::NOTDIR) => {
            let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
            Err(if link { Errno::LOOP } else { Errno::NOTDIR }.into())
        }
        other => Ok(other?),
    }
}

/// Creates a folder and sets its mode whatever the umask.
pub(super) fn make_folder(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(FOLDER_MODE as _);
    rustix::fs::mkdirat(parent, name, mode)?;
    match open_folder(parent, name) {
        Ok(made) => Ok(rustix::fs::fchmod(&made, mode)?),
        // The umask removed this user's own right to read the new folder.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => chmod_unread(parent, name, mode),
        Err(error) => Err(error),
    }
}

/// Sets the mode of a folder that this user can't open for reading. Never follows a link.
#[cfg(target_os = "linux")]
pub(in crate::fs) fn chmod_unread(parent: BorrowedFd<'_>, name: &Path, mode: Mode) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty()))?;
    Ok(rustix::fs::chmod(
        format!("/proc/self/fd/{}", made.as_raw_fd()),
        mode,
    )?)
}

#[cfg(not(target_os = "linux"))]
pub(in crate::fs) fn chmod_unread(parent: BorrowedFd<'_>, name: &Path, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::chmodat(
        parent,
        name,
        mode,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
