//! The root of a store: what it may be, and the format that it is written in.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Check, Durability, ErrorKind, Result, Severity, StorageError};
use prodigy_storage_layout::Entry;
use serde::{Deserialize, Serialize};

use crate::fs::{FileKind, OpenMode};
use crate::store::{Replace, Store};

/// The format that this version writes.
pub(crate) const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u64,
    #[serde(default)]
    written_by: String,
}

/// Refuses a root that is not safe, or that a newer version wrote. Reads only; an absent root passes.
pub(crate) fn check(store: &Store) -> Result<()> {
    let root = Path::new("");
    let refuse = |why: String, hint: &'static str| {
        Err(StorageError::new(
            ErrorKind::Refused,
            "open storage",
            store.options.root.display(),
            why,
        )
        .with_hint(hint))
    };
    if let Some(name) = network_file_system(&nearest(&store.options.root))
        && !store.options.allow_network_fs
    {
        return refuse(
            format!("it is on a network file system ({name}), where locks and syncs can't be relied on"),
            "use a local disk, or accept the risk with `backend_config.allow_network_fs: true`",
        );
    }
    match store.fs.metadata(root) {
        Ok(found) if found.kind != FileKind::Folder => {
            return refuse("it is no folder".into(), "set another `base_dir`");
        }
        Ok(found) if found.mode & 0o002 != 0 && !store.options.allow_shared_root => {
            return refuse(
                format!(
                    "any user may write to it (mode {:04o}, owner {})",
                    found.mode, found.uid
                ),
                "run `chmod o-w` on it, or accept the risk with `backend_config.allow_shared_root: true`",
            );
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return refuse(
                "it, or a part of its path, is no folder".into(),
                "set another `base_dir`",
            );
        }
        Err(error) => return Err(store.read_fault("open storage", root, error)),
    }
    check_format(store)
}

fn check_format(store: &Store) -> Result<()> {
    let path = Entry::Format.path();
    let file = match store.fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(store.read_fault("read format", &path, error)),
    };
    let bytes = file
        .read_to_end(0, 64 << 10)
        .map_err(|error| store.read_fault("read format", &path, error))?;
    let at = store.absolute(&path);
    let format: FormatFile = serde_json::from_slice(&bytes).map_err(|error| {
        StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "it is no format file",
        )
        .with_hint(format!(
            "it should hold {{\"format\":{FORMAT}}}; restore it if the data is of this version"
        ))
        .with_source(error)
    })?;
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
        .with_hint("use the version that wrote it, or a newer one"));
    }
    if format.format == 0 {
        return Err(StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "there is no format 0",
        ));
    }
    Ok(())
}

/// Writes `format.json` if it is missing.
pub(crate) fn write_format(store: &Store) -> Result<()> {
    let path = Entry::Format.path();
    if store.fs.metadata(&path).is_ok() {
        return Ok(());
    }
    let written_by = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut text = serde_json::to_vec(&FormatFile {
        format: FORMAT,
        written_by,
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
    match store.write_atomic(
        "write format",
        &path,
        &[&text],
        Replace::Never,
        Durability::Strict,
    ) {
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        other => other,
    }
}

/// The nearest folder above that exists.
fn nearest(root: &Path) -> PathBuf {
    root.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The name of the network file system that holds a path, if it is on one that is known.
#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    let kind = rustix::fs::statfs(path).ok()?.f_type as u32;
    // Magic numbers of linux/magic.h and of the file systems' own headers.
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(path: &Path) -> Option<&'static str> {
    let name = rustix::fs::statfs(path).ok()?.f_fstypename;
    let name: Vec<u8> = name
        .iter()
        .map(|&byte| byte as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    match name.as_slice() {
        b"nfs" => Some("NFS"),
        b"smbfs" => Some("SMB"),
        b"afpfs" => Some("AFP"),
        b"webdav" => Some("WebDAV"),
        _ => None,
    }
}

/// What can be said of the root without writing to it.
pub(crate) fn health(store: &Store) -> Vec<Check> {
    let root = Path::new("");
    let at = store.options.root.display().to_string();
    let mut checks = Vec::new();
    match store.fs.metadata(root) {
        Ok(found) => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} is there, mode {:04o}", found.mode),
            ));
            let me = rustix::process::geteuid().as_raw();
            if found.uid != me {
                checks.push(
                    Check::new(
                        "owner",
                        Severity::Warning,
                        format!("{at} is of user {}, this is user {me}", found.uid),
                    )
                    .with_hint("data of another user: fine if it is meant so"),
                );
            }
            if found.mode & 0o022 != 0 {
                checks.push(
                    Check::new(
                        "mode",
                        Severity::Warning,
                        format!("others may write to {at}: mode {:04o}", found.mode),
                    )
                    .with_hint("run `chmod go-w` on it"),
                );
            }
            let writable = rustix::fs::access(
                &store.options.root,
                rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            );
            if writable.is_err() {
                // Who only reads can live with it.
                let severity = if store.options.read_only {
                    Severity::Warning
                } else {
                    Severity::Failure
                };
                checks.push(
                    Check::new(
                        "writable",
                        severity,
                        format!("storage directory not writable: {at}"),
                    )
                    .with_hint("check owner and permissions of the folder"),
                );
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} is not there yet; the first write makes it"),
            ));
        }
        Err(error) => checks.push(Check::new("root", Severity::Failure, format!("{at}: {error}"))),
    }
    match check(store) {
        Ok(()) => checks.push(Check::new("format", Severity::Ok, format!("format {FORMAT}"))),
        Err(error) => {
            let check = Check::new("format", Severity::Failure, error.to_string());
            checks.push(match error.hint() {
                Some(hint) => check.with_hint(hint.to_owned()),
                None => check,
            });
        }
    }
    if let Ok(space) = store.fs.space() {
        let found = format!("{} of {} bytes are free", space.free, space.capacity);
        let tight = space.free < (64 << 20) || space.free < space.capacity / 100;
        checks.push(if tight {
            Check::new("space", Severity::Warning, found).with_hint("free space before writes fail")
        } else {
            Check::new("space", Severity::Ok, found)
        });
    }
    checks
}
