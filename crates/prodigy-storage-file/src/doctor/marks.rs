//! Examines the marks of sealed segments, which new writers trust, and those of removed segments, which everyone trusts.

use std::path::Path;

use prodigy_storage_backend::EventId;
use prodigy_storage_layout::SegmentForm;

use super::finding::{Finding, FindingKind, FindingOutcome};
use super::walk::Examination;
use crate::log::clock::StepClock;
use crate::log::listing::Listing;
use crate::log::sealed_mark::SealedMark;
use crate::log::search;
use crate::log::segment_ref::SegmentRef;

const REPAIR: &str = "repair mark of segments";

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
            } else if let Some((kind, why)) = self.refutes(folder, listing, *mark) {
                let finding = self.warning(kind, &path, why);
                match kind {
                    FindingKind::MissingEvents => {
                        finding.lost("the newest events of a segment, at least").advice(
                            "compare the log with a backup; repair removes the mark, which alone shows it",
                        )
                    }
                    _ => finding
                        .advice("repair removes the mark: without it, new writers examine each segment"),
                }
            } else {
                continue;
            };
            self.remove_mark(&path, finding);
        }
    }

    /// Reports the marks of removed segments that belong to another log.
    pub(super) fn removed_marks(&mut self, folder: &Path, listing: &Listing) {
        for mark in listing.untrue_removed_marks() {
            let path = mark.path(folder);
            let why = "a mark of removed segments without the segment that the removal left: the mark is of another log, \
                       or that segment was removed by hand";
            let finding = self
                .warning(FindingKind::UntrueMark, &path, why)
                .advice("nothing, if it was copied: readers and writers ignore it, and repair removes it");
            self.remove_mark(&path, finding);
        }
        let older: Vec<_> = listing.older_than_removed().collect();
        if let Some(oldest) = older.first() {
            let why = format!(
                "{} segments are here that were made before the end of a removal of old events, and that it did not remove, \
                 such as {}: they were put back, or they or the mark were copied from another log",
                older.len(),
                oldest.stem()
            );
            let mut finding = self.warning(FindingKind::UntrueMark, folder, why).advice(
                "compare the log with a backup: readers return the events of these segments, and a cursor from before the \
                 removal is a gap; `clean --events` removes them as any old ones",
            );
            if self.repairs() {
                finding.outcome = FindingOutcome::Left {
                    why: "it is not certain which of the two belongs here".into(),
                };
            }
            self.report(finding);
        }
    }

    fn remove_mark(&mut self, path: &Path, finding: Finding) {
        if self.repairs() {
            let removed = (self.root.prepare_write(REPAIR, &path.display()))
                .and_then(|()| self.root.unlink(REPAIR, path));
            self.report_repaired(finding, &removed.map(|_| None));
        } else {
            self.report(finding);
        }
    }

    /// The reason why a mark is untrue, or shows that events are missing.
    fn refutes(&self, folder: &Path, listing: &Listing, mark: SealedMark) -> Option<(FindingKind, String)> {
        let (mut newest, clock) = (EventId::MIN, &mut StepClock::default());
        for (name, forms) in listing.segments.iter().filter(|(name, _)| mark.covers(name)) {
            let segment = SegmentRef::new(self.root, folder, name);
            let found = self.root.fs.metadata(&segment.path(SegmentForm::Plain)).ok();
            if found.is_some_and(|found| forms.only_plain() && found.is_writable()) {
                let why = format!(
                    "a mark says that the segment {} is sealed, and its mode says that it is not",
                    name.stem()
                );
                return Some((FindingKind::UntrueMark, why));
            }
            // A segment that can't be read is reported when it is examined itself.
            let last = search::last_id_of(segment, clock).ok()?;
            if last.is_some_and(|last| last > mark.newest) {
                let why = format!(
                    "the segment {} has later ids than {}, although a mark names that one as the newest",
                    name.stem(),
                    mark.newest
                );
                return Some((FindingKind::UntrueMark, why));
            }
            newest = newest
                .max(EventId::floor(name.lower()))
                .max(last.unwrap_or(EventId::MIN));
        }
        (newest < mark.newest).then(|| {
            let why = format!(
                "a mark says that the log had the event {}, which is gone",
                mark.newest
            );
            (FindingKind::MissingEvents, why)
        })
    }
}
