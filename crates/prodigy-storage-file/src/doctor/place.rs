//! Examines the root's format, and permission bits.

use std::path::Path;

use prodigy_storage_backend::{Durability, ErrorKind, Result};
use prodigy_storage_layout::{DLQ, EVENTS, Entry, STATE, SegmentForm};

use super::finding::{FindingKind, FindingOutcome, FindingSeverity};
use super::foreign::Group;
use super::keep::{keep, whole};
use super::walk::Examination;
use crate::fs::{CLOSED_MODE, FILE_MODE, FileKind, Metadata, OpenMode, SEALED_MODE, UNLOCKED_MODE};
use crate::root;
use crate::root::{Replace, TempFile};

/// The beginning of each `format.json` that this backend writes.
const OURS: &[u8] = b"{\"format\":2,\"written_by\":\"prodigy-storage-file";
/// The largest number of wrong bytes in the beginning of a damaged `format.json` that still counts as written by this
/// backend.
const MOST_WRONG: usize = 3;

/// The name of the store in a damaged `format.json`, if it is readable.
fn name_in(bytes: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\"store\":\"";
    let at = memchr::memmem::find(bytes, FIELD)? + FIELD.len();
    root::salvage_name(bytes.get(at..)?)
}

impl Examination<'_> {
    /// Examines `format.json`. A newer format ends the examination.
    pub(super) fn format(&mut self) -> Result<()> {
        let path = Entry::Format.path();
        let Err(error) = root::read_format(self.root) else {
            return Ok(());
        };
        match error.kind() {
            ErrorKind::NewerFormat => return Err(error),
            ErrorKind::Damaged => {}
            _ => {
                self.unreadable(&path, &error);
                return Ok(());
            }
        }
        let recognised = self.recognised(&path);
        let kind = match recognised {
            Ok(None) => FindingKind::UnknownFormat,
            _ => FindingKind::DamagedFormat,
        };
        let finding = self
            .damage(kind, &path, error.why().to_owned())
            .lost("no data, but this root can't be opened until the file is repaired");
        let mut finding = match kind {
            FindingKind::UnknownFormat => {
                finding.advice("restore it from a backup, or move it away: the next write makes another one")
            }
            _ => finding.advice("repair writes it again"),
        };
        if !self.repairs() {
            self.report(finding);
            return Ok(());
        }
        match recognised {
            Ok(None) => {
                finding.outcome = FindingOutcome::Left {
                    why: "too much of it is damaged to know that it was ours".into(),
                };
                self.report(finding);
            }
            Ok(Some(bytes)) => {
                let repaired = self.repair_format(&path, &bytes).map(Some);
                self.report_repaired(finding, &repaired);
            }
            Err(error) => self.report_repaired(finding, &Err(error)),
        }
        Ok(())
    }

    /// The bytes of a damaged `format.json`; `None` if the file was not certainly written by this backend.
    fn recognised(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let root = self.root;
        let fault = |error| root.read_fault("repair", path, error);
        let file = root.fs.open(path, OpenMode::Read).map_err(fault)?;
        let bytes = file.read_to_end(0, 64 << 10).map_err(fault)?;
        let wrong = OURS
            .iter()
            .zip(&bytes)
            .filter(|(ours, found)| ours != found)
            .count();
        let is_ours = match bytes.iter().all(|byte| *byte == 0) {
            // An empty file, or one filled with zeros: on some file systems a power loss leaves such a file.
            true => self.has_data(),
            // A truncated file must have the exact beginning.
            false if bytes.len() < OURS.len() => wrong == 0 && self.has_data(),
            false => wrong <= MOST_WRONG,
        };
        Ok(is_ours.then_some(bytes))
    }

    /// Writes `format.json` again. Returns the path of the copy of the damaged file.
    fn repair_format(&self, path: &Path, bytes: &[u8]) -> Result<String> {
        let root = self.root;
        let fault = |error| root.read_fault("repair", path, error);
        let file = root.fs.open(path, OpenMode::Read).map_err(fault)?;
        let kept = keep(
            root,
            path,
            &*file,
            &[whole(bytes.len() as u64, "it is not a format file")],
        )?;
        let text = root::format_text(path, name_in(bytes))?;
        TempFile::write_whole(root, "repair", path, &[&text], Replace::Over, Durability::Strict)?;
        Ok(kept)
    }

    /// True if the root has a folder of events, dead letters or documents.
    fn has_data(&self) -> bool {
        let is_folder = |area: &&str| {
            let found = self.root.fs.metadata(Path::new(area));
            found.is_ok_and(|found| found.kind == FileKind::Folder)
        };
        [EVENTS, DLQ, STATE].iter().any(is_folder)
    }

    /// Checks the permission bits of a folder, or of a file other than a segment.
    pub(super) fn mode(&mut self, path: &Path) {
        let Ok(found) = self.root.fs.metadata(path) else {
            return;
        };
        match found.kind {
            FileKind::Folder if self.is_open_to_others && found.mode & 0o077 != 0 => {
                self.group(Group::FolderMode, path);
            }
            FileKind::File => {
                self.summary.files += 1;
                if found.mode != FILE_MODE {
                    self.wrong_mode(path, &found, FILE_MODE, false);
                }
            }
            _ => {}
        }
    }

    /// Checks the permission bits of a segment, which state whether it is sealed.
    pub(super) fn segment_mode(&mut self, path: &Path, form: SegmentForm, found: &Metadata) {
        self.summary.files += 1;
        let right = match form {
            SegmentForm::Plain if found.is_sealed() => SEALED_MODE,
            SegmentForm::Plain if found.is_closed() => CLOSED_MODE,
            SegmentForm::Plain if found.is_unlocked() => UNLOCKED_MODE,
            SegmentForm::Plain => FILE_MODE,
            _ => SEALED_MODE,
        };
        // Another program may have compressed the file, and only the permission bits for its owner may then differ.
        let fits = found.mode == right || (form == SegmentForm::Gzip && found.mode & 0o077 == 0);
        if !fits {
            self.wrong_mode(path, found, right, true);
        }
    }

    fn wrong_mode(&mut self, path: &Path, found: &Metadata, right: u32, locked: bool) {
        // If other users have no rights on the file, wrong bits for its owner are harmless.
        let severity = if found.mode & 0o077 == 0 {
            FindingSeverity::Note
        } else {
            FindingSeverity::Warning
        };
        let why = format!("mode {:04o} instead of {right:04o}", found.mode);
        let finding = self
            .finding(severity, FindingKind::Mode, path, why)
            .advice("repair sets it; a copy has to keep modes");
        if !self.repairs() {
            return self.report(finding);
        }
        let set = || -> std::io::Result<bool> {
            let file = self.root.fs.open(path, OpenMode::Read)?;
            // The file may be an open segment whose writer is sealing it now.
            if locked && (!self.root.try_lock(&file)? || file.metadata()?.mode != found.mode) {
                return Ok(false);
            }
            file.set_mode(right)?;
            file.sync_all()?;
            Ok(true)
        };
        match set() {
            Ok(true) => self.report_repaired(finding, &Ok(None)),
            Ok(false) => {
                let mut finding = finding;
                finding.outcome = FindingOutcome::Left {
                    why: "a writer has it".into(),
                };
                self.report(finding);
            }
            Err(error) => {
                let error = self.root.write_fault("repair", path, error);
                self.report_repaired(finding, &Err(error));
            }
        }
    }
}
