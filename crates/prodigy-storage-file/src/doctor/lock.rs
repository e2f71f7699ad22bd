//! Examines the files of named locks.

use std::path::Path;

use prodigy_storage_backend::{LockOptions, Result};
use prodigy_storage_layout::LockName;

use super::finding::FindingKind;
use super::keep::keep_file;
use super::walk::Examination;

impl Examination<'_> {
    pub(super) fn named_lock(&mut self, name: &LockName, path: &Path) {
        let why = match self.parts.locks.why_suspect(path) {
            Ok(Some(why)) => why,
            Ok(None) => return,
            Err(error) => return self.unreadable(path, &error),
        };
        // This is a warning and not damage: a power loss while a holder writes its line leaves the same bytes.
        let finding = self
            .warning(FindingKind::DamagedLock, path, why)
            .lost("perhaps who held it last; no fencing token is issued twice, but the next one may leave a gap")
            .advice("nothing has to be done: the next holder writes it again. Never remove the file");
        if !self.repairs() {
            return self.report(finding);
        }
        let repaired = self.repair_lock(name, path);
        self.report_repaired(finding, &repaired);
    }

    /// Takes the lock once, which writes both slots of its file again.
    fn repair_lock(&self, name: &LockName, path: &Path) -> Result<Option<String>> {
        let kept = keep_file(self.root, path, "a part of it does not verify")?;
        self.parts
            .locks
            .lock(name, &LockOptions::new("repair"), self.deadline())?
            .release()?;
        Ok(Some(kept))
    }
}
