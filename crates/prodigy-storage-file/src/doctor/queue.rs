//! Dead-letter queues.

use std::path::Path;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::JobAddress;

use super::finding::{Finding, FindingKind};
use super::foreign::Group;
use super::keep::{Damaged, keep};
use super::walk::Examination;

impl Examination<'_> {
    /// The queue of a job.
    pub(super) fn queue(&mut self, job: &JobAddress, path: &Path) {
        let survey = match self.parts.queues.queue_survey_at(path) {
            Ok(Some(survey)) => survey,
            Ok(None) => return,
            Err(error) => return self.unreadable(path, &error),
        };
        self.summary.items += survey.items;
        if !survey.ours {
            let group = match survey.is_read() {
                true => Group::Items,
                false => Group::Queues,
            };
            return self.foreign(group, path);
        }
        if survey.others > 0 {
            self.group(Group::Elements, path);
        }
        self.mode(path);
        let damaged: Vec<Finding> = survey
            .spots
            .iter()
            .map(|spot| {
                self.damage(FindingKind::DamagedItems, path, spot.why)
                    .at(spot.start, spot.end - spot.start)
                    .lost(match spot.harmless {
                        true => "nothing: the item is readable even so",
                        false => "the item at this place, if there was one",
                    })
                    .advice(
                        "repair keeps the bytes in the quarantine; push the item again if its data is known",
                    )
            })
            .collect();
        if !damaged.is_empty() {
            if self.repairs() {
                let repaired = self.repair_queue(job, path);
                for finding in damaged {
                    self.tell_repaired(finding, &repaired);
                }
            } else {
                damaged.into_iter().for_each(|finding| self.tell(finding));
            }
        }
        for item in &survey.too_large {
            let finding = self
                .warning(FindingKind::OverLimit, path, item.why())
                .at(item.offset, item.len)
                .advice(format!("{}; readers report it as too large", item.hint()));
            self.tell(finding);
        }
        if survey.unverified > 0 {
            let why = format!("{} items have no checksum", survey.unverified);
            let finding = self.note(FindingKind::Unverified, path, why).advice(
                "nothing: another program wrote them; the next change of the queue gives the file its form",
            );
            self.tell(finding);
        }
        let torn = survey.torn.unwrap_or(survey.len);
        if survey.torn.is_some() || !survey.closed {
            let finding = self
                .note(
                    FindingKind::TornEnd,
                    path,
                    "a write was cut short, or is under way",
                )
                .at(torn, survey.len - torn)
                .lost("nothing that was acknowledged")
                .advice("nothing: the next writer mends it");
            self.tell(finding);
        }
    }

    fn repair_queue(&self, job: &JobAddress, path: &Path) -> Result<Option<String>> {
        let mut kept = None;
        self.parts
            .queues
            .queue_rebuild(job, self.deadline(), |file, spots| {
                let ranges: Vec<Damaged> = spots
                    .iter()
                    .map(|spot| Damaged {
                        start: spot.start,
                        end: spot.end,
                        why: spot.why.to_owned(),
                    })
                    .collect();
                kept = Some(keep(self.root, path, file, &ranges)?);
                Ok(())
            })?;
        Ok(kept)
    }
}
