//! Creates files: a new file is complete and durable, or it does not exist.
//!
//! The file gets its name when it is complete. Until then it has none, so nothing is left of it if the tool is ended, whatever ends
//! it. A file system that has no files without a name gets a temporary file `.new-XXXXXX` beside the target.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::errors::{Failure, Result};
use crate::exit::Exit;

/// The size of the write buffer, in bytes.
const BUFFER: usize = 256 << 10;

/// The folder with the open files of this process.
#[cfg(target_os = "linux")]
const DESCRIPTORS: &str = "/proc/self/fd";

/// True if the output goes to standard output. Each argument that names a file to write has this rule, and one that names a file to
/// read takes standard input in the same way.
pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Writes a new file. An existing file is never replaced.
pub(crate) fn write<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("write {}: {error}", path.display()));
    must_be_free(path)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut out = BufWriter::with_capacity(BUFFER, Begun::new_in(folder).map_err(failed)?);
    let result = write(&mut out)?;
    let begun = out.into_inner().map_err(|error| failed(error.into_error()))?;
    match begun.publish(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(there(path)),
        published => published.map_err(failed)?,
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    Ok(result)
}

/// A file that is not complete yet.
enum Begun {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(NamedTempFile),
}

impl Begun {
    fn new_in(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            // The name is made through this folder.
            if Path::new(DESCRIPTORS).exists()
                && let Ok(file) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)
            {
                return Ok(Self::Unnamed(file.into()));
            }
        }
        NamedTempFile::with_prefix_in(".new-", folder).map(Self::Named)
    }

    /// Makes the file durable and gives it its name. Fails with `AlreadyExists` if the name is taken.
    fn publish(self, path: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => {
                use rustix::fs::{AtFlags, CWD, linkat};
                use std::os::fd::AsRawFd;
                file.sync_all()?;
                let unnamed = format!("{DESCRIPTORS}/{}", file.as_raw_fd());
                Ok(linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Named(file) => {
                file.as_file().sync_all()?;
                file.persist_noclobber(path)?;
                Ok(())
            }
        }
    }
}

impl Write for Begun {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file.write(bytes),
            Self::Named(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails if the path exists. A command that works for some time before it writes checks this first.
pub(crate) fn must_be_free(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(there(path)),
        Err(_) => Ok(()),
    }
}

fn there(path: &Path) -> Failure {
    let what = format!("write {}: it is there already", path.display());
    Failure::new(Exit::Failed, what).hint("name another file: an existing one is never replaced")
}
