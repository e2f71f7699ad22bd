//! Creates files: a new file is complete and durable, or it does not exist.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::errors::{Failure, Result};
use crate::exit::Exit;

/// The size of the write buffer, in bytes.
const BUFFER: usize = 256 << 10;

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
    let temporary = NamedTempFile::with_prefix_in(".new-", folder).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, temporary);
    let result = write(&mut out)?;
    let temporary = out.into_inner().map_err(|error| failed(error.into_error()))?;
    temporary.as_file().sync_all().map_err(failed)?;
    match temporary.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(there(path)),
        other => other.map_err(|error| failed(error.error))?,
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    Ok(result)
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
