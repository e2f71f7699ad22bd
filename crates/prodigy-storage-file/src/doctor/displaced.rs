//! Reports data of the store under a name that nothing reads, such as a folder that was renamed by hand.

use std::path::Path;

use super::finding::{Finding, FindingKind, FindingOutcome};
use super::walk::Examination;
use crate::fs::FileKind;
use crate::root::{Displaced, displaced};

impl Examination<'_> {
    /// Reports data of the store under a name that nothing reads. False if the path has no such data.
    pub(super) fn displaced(&mut self, path: &Path, kind: FileKind) -> bool {
        let found = displaced(self.root, path, kind);
        for part in &found {
            let finding = self.displaced_finding(part);
            self.report(finding);
        }
        !found.is_empty()
    }

    fn displaced_finding(&self, part: &Displaced) -> Finding {
        let right = part.right.as_ref().map(|right| self.root.absolute(right));
        let kind = FindingKind::Displaced;
        let mut finding = match &right {
            Some(right) if !part.is_taken => self
                .damage(
                    kind,
                    &part.path,
                    format!("data of this store that belongs at {}; nothing reads it here", right.display()),
                )
                .lost("nothing, once it is moved back")
                .advice("move it back: the command does so if the place is still free"),
            Some(right) => self
                .warning(
                    kind,
                    &part.path,
                    format!(
                        "data of this store that belongs at {}, where there is other data now; nothing reads it here",
                        right.display()
                    ),
                )
                .advice(
                    "compare the two: if this is the older one or a copy, keep it outside of the root; else move the other one outside, and \
                     this one to its place",
                ),
            None => self
                .warning(
                    kind,
                    &part.path,
                    "data of this store, and its place is unknown; nothing reads it here",
                )
                .advice("if it was renamed or moved here, move it back; if it is a copy, keep it outside of the root"),
        };
        if !part.is_taken {
            finding.right = right;
        }
        if self.repairs() {
            finding.outcome = FindingOutcome::Left {
                why: "a person has to say that it was renamed".into(),
            };
        }
        finding
    }
}
