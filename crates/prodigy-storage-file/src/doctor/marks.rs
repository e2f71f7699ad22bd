//! Examines the marks of sealed segments, which new writers trust.

use std::path::Path;

use prodigy_storage_layout::{SegmentForm, SegmentName};

use super::finding::FindingKind;
use super::walk::Examination;
use crate::log::clock::StepClock;
use crate::log::listing::{Forms, Listing};
use crate::log::sealed_mark::SealedMark;
use crate::log::search;
use crate::log::segment_ref::SegmentRef;

const REPAIR: &str = "repair mark of sealed segments";

impl Examination<'_> {
    /// Reports the marks that writers ignore, and the untrue ones. Marks of earlier versions are not reported: the next
    /// new writer replaces them.
    pub(super) fn sealed_marks(&mut self, folder: &Path, listing: &Listing) {
        for mark in listing.marks.iter().filter(|mark| mark.has_check()) {
            let path = mark.path(folder);
            let finding = if !listing.trusts(self.root, folder, *mark) {
                let why = "a mark of sealed segments that does not belong to the segments here: it was copied or left \
                           behind, or segments were removed since";
                self.note(FindingKind::UntrueMark, &path, why)
                    .advice("nothing: writers ignore it, and the next new one removes it")
            } else if let Some(why) = self.refutes(folder, listing, *mark) {
                self.warning(FindingKind::UntrueMark, &path, why)
                    .advice("repair removes the mark: without it, new writers examine each segment")
            } else {
                continue;
            };
            if self.repairs() {
                let removed = (self.root.prepare_write(REPAIR, &path.display()))
                    .and_then(|()| self.root.unlink(REPAIR, &path));
                self.report_repaired(finding, &removed.map(|_| None));
            } else {
                self.report(finding);
            }
        }
    }

    /// The reason why a mark is untrue, for the first segment that refutes it; `None` if no segment does.
    fn refutes(&self, folder: &Path, listing: &Listing, mark: SealedMark) -> Option<String> {
        let covered = listing.segments.iter().filter(|(name, _)| mark.covers(name));
        covered
            .filter_map(|(name, forms)| self.refuted_by(folder, name, *forms, mark))
            .next()
    }

    fn refuted_by(
        &self,
        folder: &Path,
        name: &SegmentName,
        forms: Forms,
        mark: SealedMark,
    ) -> Option<String> {
        let segment = SegmentRef::new(self.root, folder, name);
        let found = self.root.fs.metadata(&segment.path(SegmentForm::Plain)).ok();
        if found.is_some_and(|found| forms.only_plain() && !found.is_sealed()) {
            return Some(format!(
                "a mark says that the segment {} is sealed, and its mode says that it is not",
                name.stem()
            ));
        }
        // A segment that can't be read is reported when it is examined itself.
        let last = search::last_id_of(segment, &mut StepClock::default()).ok()??;
        (last > mark.newest).then(|| {
            format!(
                "the segment {} ends with the id {last}, and a mark says that no id is above {}",
                name.stem(),
                mark.newest
            )
        })
    }
}
