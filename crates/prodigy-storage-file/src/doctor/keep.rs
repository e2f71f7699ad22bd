//! The quarantine: copies of damaged bytes, and a report beside each.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
use prodigy_storage_layout::QUARANTINE;
use serde::Serialize;

use crate::fs::{FsFile, OpenMode, SEALED_MODE};
use crate::root::{Quarantine, Replace, Root, TempFile};

const REPAIR: &str = "repair";

/// The number of bytes that are copied at once.
const CHUNK: usize = 256 << 10;

/// A range of damaged bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damaged {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) why: String,
}

/// The report that is stored beside a copy.
#[derive(Serialize)]
struct Report<'a> {
    format: u32,
    /// The time of the copy.
    when: String,
    /// The path of the damaged file, relative to the root.
    file: &'a str,
    /// The permission bits and the length of the damaged file.
    mode: String,
    bytes: u64,
    /// The file name of the copy, in the folder of this report.
    copy: &'a str,
    ranges: Vec<Copied<'a>>,
}

/// A range of copied bytes, and its offset in the copy.
#[derive(Serialize)]
struct Copied<'a> {
    offset: u64,
    len: u64,
    at: u64,
    why: &'a str,
}

/// Copies ranges of an open file to the quarantine, with a report beside the copy. Both are durable on return. Returns
/// the absolute path of the copy.
pub(super) fn keep(root: &Root, path: &Path, file: &dyn FsFile, ranges: &[Damaged]) -> Result<String> {
    let found = file
        .metadata()
        .map_err(|error| root.read_fault(REPAIR, path, error))?;
    let offset = ranges.first().map_or(0, |range| range.start);
    let kept = Quarantine::of(root).path_for(path, offset);
    let name = kept.file_name().unwrap_or_default().to_string_lossy();
    let mut temp = TempFile::create(root, REPAIR, Path::new(QUARANTINE))?;
    copy_ranges(root, path, file, &mut temp, ranges)?;
    temp.publish(&kept, Replace::Never)?;
    let mut at = 0;
    let ranges = ranges
        .iter()
        .map(|range| {
            let copied = Copied {
                offset: range.start,
                len: range.end - range.start,
                at,
                why: &range.why,
            };
            at += copied.len;
            copied
        })
        .collect();
    let report = Report {
        format: 1,
        when: root.now().to_rfc3339(),
        file: &path.to_string_lossy(),
        mode: format!("{:04o}", found.mode),
        bytes: found.len,
        copy: &name,
        ranges,
    };
    let mut text = serde_json::to_vec_pretty(&report).map_err(|error| {
        StorageError::new(
            ErrorKind::Io,
            REPAIR,
            path.display(),
            "its report does not serialise",
        )
        .with_source(error)
    })?;
    text.push(b'\n');
    let report = Path::new(QUARANTINE).join(format!("{name}.report.json"));
    // The sync of the folder makes the names of the report and of the copy durable.
    TempFile::write_whole(
        root,
        REPAIR,
        &report,
        &[&text],
        Replace::Never,
        Durability::Strict,
    )?;
    tracing::warn!(from = %path.display(), to = %kept.display(), "damage was copied to quarantine");
    Ok(root.absolute(&kept).display().to_string())
}

/// Copies a whole file to the quarantine, like [`keep`].
pub(super) fn keep_file(root: &Root, path: &Path, why: &str) -> Result<String> {
    let fault = |error| root.read_fault(REPAIR, path, error);
    let file = root.fs.open(path, OpenMode::Read).map_err(fault)?;
    let len = file.metadata().map_err(fault)?.len;
    keep(root, path, &*file, &[whole(len, why)])
}

/// A range that covers a whole file.
pub(super) fn whole(len: u64, why: impl Into<String>) -> Damaged {
    Damaged {
        start: 0,
        end: len,
        why: why.into(),
    }
}

fn copy_ranges(
    root: &Root,
    path: &Path,
    file: &dyn FsFile,
    temp: &mut TempFile<'_>,
    ranges: &[Damaged],
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let most = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
            let read = file
                .read_full_at(buffer.get_mut(..most).unwrap_or_default(), at)
                .map_err(|error| root.read_fault(REPAIR, path, error))?;
            if read == 0 {
                break;
            }
            temp.append(buffer.get(..read).unwrap_or_default())
                .map_err(|error| temp.fault(error))?;
            at += read as u64;
        }
    }
    temp.file()
        .set_mode(SEALED_MODE)
        .map_err(|error| temp.fault(error))
}

/// The absolute path of a file, for messages. A byte that is no part of a character is written as `\xff`.
pub(super) fn place(root: &Root, path: &Path) -> String {
    let absolute: PathBuf = root.absolute(path);
    let mut text = String::new();
    for part in absolute.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(part.valid());
        text.extend(part.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
