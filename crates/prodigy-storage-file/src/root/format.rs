//! `format.json`, which states the number of a store's format and the store's name.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;
use serde::{Deserialize, Serialize};

use super::fault::quoted;
use super::{Replace, Root, TempFile, store_name};
use crate::fs::{FsFile, OpenMode};

/// The format that this version writes. It also reads format 1: the first write to such a store changes the number to
/// 2.
pub(crate) const FORMAT: u64 = 2;
/// The name and version of this program, which it writes to files.
pub(crate) const WRITTEN_BY: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u64,
    #[serde(default)]
    written_by: String,
    /// The name of the store. A copy of the store has the same name. A new store gets a random one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The id of the archive that is being restored into this root. Until the restore is complete, the root can't be
    /// opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restoring: Option<String>,
}

/// The contents of `format.json`.
pub(crate) struct Format {
    pub(super) file: Box<dyn FsFile>,
    number: u64,
    pub(super) store: Option<String>,
}

/// The name of the store. `None` if `format.json` is absent, unreadable, or has no name.
pub(crate) fn name_of_store(root: &Root) -> Option<String> {
    read_format(root).ok()??.store
}

/// Reads `format.json`. Fails if a newer version wrote it or if it is damaged. Returns `None` if it is absent.
pub(crate) fn read_format(root: &Root) -> Result<Option<Format>> {
    let path = Entry::Format.path();
    let file = match root.fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(root.read_fault("read format", &path, error)),
    };
    let bytes = file
        .read_to_end(0, 64 << 10)
        .map_err(|error| root.read_fault("read format", &path, error))?;
    let at = root.absolute(&path);
    let format: FormatFile = serde_json::from_slice(&bytes).map_err(|error| {
        StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "it is not a format file",
        )
        .with_hint(format!(
            "it should hold {{\"format\":{FORMAT}}}; `prodigy-storage doctor` names the command that helps"
        ))
        .with_source(error)
    })?;
    if format.restoring.is_some() {
        let why = "a restore into this root was begun and has not ended";
        return Err(StorageError::new(
            ErrorKind::Refused,
            "open storage",
            root.options.root.display(),
            why,
        )
        .with_hint("restore the same archive again (`prodigy-storage restore FILE`), or empty the folder"));
    }
    if format.format > FORMAT {
        return Err(StorageError::new(
            ErrorKind::NewerFormat,
            "open storage",
            at.display(),
            format!(
                "the store has format {}, this version knows up to {FORMAT}",
                format.format
            ),
        )
        .with_hint(format!(
            "use the version that wrote it, or a newer one; if no newer one ever ran here, the number is damaged: restore the file \
             from a backup, or move it away (`mv {0} {0}.damaged`), and the next write makes another one",
            quoted(&at)
        )));
    }
    if format.format == 0 {
        return Err(StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "there is no format 0",
        )
        .with_hint("`prodigy-storage doctor` names the command that helps"));
    }
    if format
        .store
        .as_deref()
        .is_some_and(|name| !store_name::is_whole(name))
    {
        return Err(StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "the name of the store does not fit its checksum",
        )
        .with_hint("`prodigy-storage doctor --repair` repairs it"));
    }
    Ok(Some(Format {
        file,
        number: format.format,
        store: format.store,
    }))
}

/// Writes `format.json` if it is missing or states an older format. The file is replaced atomically, and is durable
/// before anything else is written.
pub(crate) fn write_format(root: &Root) -> Result<()> {
    let path = Entry::Format.path();
    loop {
        let (replace, name) = match read_format(root)? {
            Some(format) if format.number == FORMAT => {
                root.note_name(format.store);
                return Ok(());
            }
            Some(format) => {
                let older = format.number;
                tracing::info!(root = %root.options.root.display(), older, now = FORMAT, "the store is taken over");
                (Replace::Over, format.store)
            }
            None => (Replace::Never, None),
        };
        let text = format_text(&path, name)?;
        match TempFile::write_whole(root, "write format", &path, &[&text], replace, Durability::Strict) {
            // Another process, perhaps of an older version, has just created the file, so it is read again.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => other?,
        }
    }
}

/// The text of `format.json` in this version's format. Without a name, the store gets a new one.
pub(crate) fn format_text(path: &Path, name: Option<String>) -> Result<Vec<u8>> {
    let name = name.unwrap_or_else(store_name::draw);
    let mut text = serde_json::to_vec(&FormatFile {
        format: FORMAT,
        written_by: WRITTEN_BY.to_owned(),
        store: Some(name),
        restoring: None,
    })
    .map_err(|error| {
        StorageError::new(
            ErrorKind::Io,
            "write format",
            path.display(),
            "it does not serialise",
        )
        .with_source(error)
    })?;
    text.push(b'\n');
    Ok(text)
}

/// The text for `format.json`, or for a job's tombstone, while the archive with this id is being restored.
#[cfg(feature = "backup")]
pub(crate) fn restoring_text(archive: &str) -> Result<Vec<u8>> {
    let format = FormatFile {
        format: FORMAT,
        written_by: WRITTEN_BY.to_owned(),
        store: None,
        restoring: Some(archive.to_owned()),
    };
    serde_json::to_vec(&format).map_err(|error| {
        StorageError::new(ErrorKind::Io, "restore", archive, "its mark does not serialise").with_source(error)
    })
}

/// The id of the archive whose restore into the root has begun and is not complete; `None` without such a restore.
#[cfg(feature = "backup")]
pub(crate) fn unfinished_restore(root: &Root) -> Result<Option<String>> {
    let path = Entry::Format.path();
    let read = root
        .fs
        .open(&path, OpenMode::Read)
        .and_then(|file| file.read_to_end(0, 64 << 10));
    match read {
        Ok(bytes) => Ok(serde_json::from_slice::<FormatFile>(&bytes)
            .ok()
            .and_then(|format| format.restoring)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(root.read_fault("read format", &path, error)),
    }
}
