//! Examines dead-letter queues.

use std::path::Path;

use prodigy_storage_backend::{Deadline, Result};
use prodigy_storage_layout::{Entry, JobAddress};

use super::finding::{Finding, FindingKind, FindingOutcome, FindingSeverity};
use super::foreign::Group;
use super::keep::{Damaged, keep};
use super::walk::Examination;
use crate::queue::{LOST_WRITE, NO_ARRAY, OVERWRITTEN, Survey};
use crate::root::Quarantine;

impl Examination<'_> {
    /// Examines the queue of a job.
    pub(super) fn queue(&mut self, job: &JobAddress, path: &Path) {
        let survey = match self.parts.queues.queue_survey_at(job, self.deadline()) {
            Ok(Some(survey)) => survey,
            Ok(None) => return,
            Err(error) => return self.unreadable(path, &error),
        };
        self.summary.items += survey.items;
        if survey.is_overwritten {
            let finding = self
                .damage(FindingKind::DamagedItems, path, OVERWRITTEN)
                .at(0, survey.len)
                .lost("all items that the file had")
                .advice(
                    "repair moves it to quarantine, and the next push begins a queue; restore the items from a backup",
                );
            if !self.repairs() {
                return self.report(finding);
            }
            let repaired = self.repair_queue(job);
            return self.report_repaired(finding, &repaired);
        }
        if !survey.ours {
            self.emptied(job, path, &survey);
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
                let is_lost_write = spot.why == LOST_WRITE;
                let severity = match is_lost_write {
                    true => FindingSeverity::Warning,
                    false => FindingSeverity::Damage,
                };
                self.finding(severity, FindingKind::DamagedItems, path, spot.why)
                    .at(spot.start, spot.end - spot.start)
                    .lost(match spot.harmless {
                        true if is_lost_write => "nothing that was acknowledged, unless it was relaxed",
                        true => "nothing: the item is readable even so",
                        false => "the item at this place, if there was one",
                    })
                    .advice(
                        "repair keeps the bytes in the quarantine; push the item again if its data is known",
                    )
            })
            .collect();
        let journal_path = Entry::QueueJournal(job.clone()).path();
        let damaged: Vec<Finding> = damaged
            .into_iter()
            .chain(self.missing_items(path, &survey))
            .chain(self.journal_damage(&journal_path, &survey))
            .collect();
        let mut is_rebuilt = false;
        if !damaged.is_empty() {
            if self.repairs() {
                // The repair keeps a torn end, too, of which nobody else knows where.
                let torn = |kept: Option<String>| {
                    kept.or_else(|| {
                        let copy = Quarantine::of(self.root).newest_of(path, survey.torn?)?;
                        Some(self.root.absolute(&copy).display().to_string())
                    })
                };
                let repaired = self.repair_queue(job).map(torn);
                is_rebuilt = repaired.is_ok();
                for finding in damaged {
                    self.report_repaired(finding, &repaired);
                }
            } else {
                damaged.into_iter().for_each(|finding| self.report(finding));
            }
        }
        for item in &survey.too_large {
            let finding = self
                .warning(FindingKind::OverLimit, path, item.why())
                .at(item.offset, item.len)
                .advice(format!("{}; readers report it as too large", item.hint()));
            self.report(finding);
        }
        if survey.unverified > 0 {
            let why = format!("{} items have no checksum", survey.unverified);
            let finding = self.note(FindingKind::Unverified, path, why).advice(
                "nothing: another program wrote them; the next change of the queue converts the file to the store's format",
            );
            self.report(finding);
        }
        if let Some(journal) = &survey.journal
            && let Some(torn) = journal.torn
        {
            self.torn_queue(&journal_path, torn, journal.len);
        }
        let torn = survey.torn.unwrap_or(survey.len);
        if !is_rebuilt && !survey.has_no_array && (survey.torn.is_some() || !survey.closed) {
            self.torn_queue(path, torn, survey.len);
        }
    }

    /// The findings about missing items, of which nothing is left in the file.
    fn missing_items(&self, path: &Path, survey: &Survey) -> Vec<Finding> {
        const ADVICE: &str = "restore `items.json` from a backup, or push the items again; repair begins a new journal, which counts \
                              the items that are left";
        let mut findings = Vec::new();
        if survey.has_no_array {
            let finding = self.damage(FindingKind::DamagedItems, path, NO_ARRAY);
            findings.push(finding.lost("all items that the file had").advice(ADVICE));
        }
        if survey.missing > 0 {
            let why = format!(
                "at least {} missing: the queue counts changes up to {}, and the file holds {}",
                counted(survey.missing, "item is", "items are"),
                survey.last,
                counted(survey.items, "item", "items"),
            );
            let finding = self.damage(FindingKind::DamagedItems, path, why);
            let lost = "these items, unless they were pushed with relaxed durability and the power failed";
            findings.push(finding.lost(lost).advice(ADVICE));
        }
        findings
    }

    /// Reports a queue that has no item and a lock file but no journal. This store never leaves such files, but
    /// another program may have written the file.
    fn emptied(&mut self, job: &JobAddress, path: &Path, survey: &Survey) {
        if survey.items > 0
            || self
                .root
                .fs
                .metadata(&Entry::QueueLock(job.clone()).path())
                .is_err()
        {
            return;
        }
        let why = "the queue has no item and no journal, and a process of this store has worked on it: items may be missing";
        let finding = self
            .warning(FindingKind::DamagedItems, path, why)
            .lost("perhaps all items: a queue whose items were acknowledged has a journal")
            .advice("compare it with a backup; nothing if another program wrote the file");
        self.report(finding);
    }

    fn torn_queue(&mut self, path: &Path, torn: u64, len: u64) {
        let why = "a write was cut short, or is under way";
        let finding = self
            .note(FindingKind::TornEnd, path, why)
            .at(torn, len - torn)
            .lost("nothing that was acknowledged, unless something else cut the file")
            .advice("nothing: the next writer repairs it");
        self.report(finding);
    }

    /// The findings about a queue's journal.
    fn journal_damage(&self, path: &Path, survey: &Survey) -> Vec<Finding> {
        const ADVICE: &str = "repair keeps the bytes in the quarantine and writes the items as they are known; look for items \
                              that are pending although their work was done";
        let mut findings = Vec::new();
        if survey.has_lost_journal {
            let finding = self
                .damage(
                    FindingKind::DamagedItems,
                    path,
                    "the journal of the queue is missing",
                )
                .lost("all that happened to stored items since the last compaction: leases, and removals");
            findings.push(
                finding.advice("look for it in a backup before anything is taken; repair begins a new one"),
            );
        }
        let Some(journal) = &survey.journal else {
            return findings;
        };
        for spot in &journal.spots {
            let lost = match spot.harmless {
                true => "nothing that was acknowledged, unless it was relaxed",
                false => "a change of an item: it may be pending again although it was taken or removed",
            };
            let severity = if spot.harmless {
                FindingSeverity::Warning
            } else {
                FindingSeverity::Damage
            };
            let finding = self
                .finding(severity, FindingKind::DamagedItems, path, spot.why)
                .at(spot.start, spot.end - spot.start)
                .lost(lost);
            findings.push(finding.advice(ADVICE));
        }
        if !journal.has_header && journal.spots.is_empty() {
            let finding = self.damage(FindingKind::DamagedItems, path, "its first line is missing");
            findings.push(finding.lost("perhaps the first changes").advice(ADVICE));
        }
        // A damaged line also leaves a gap in the numbers, but its damage is already reported.
        if journal.spots.is_empty() && survey.spots.is_empty() {
            for (first, last) in &journal.gaps {
                let why = match first == last {
                    true => format!("the change {first} is missing"),
                    false => format!("the changes {first} to {last} are missing"),
                };
                let finding = self.warning(FindingKind::DamagedItems, path, why).lost(
                    "nothing, if the power failed while it was written or it was relaxed; else a new item, or a change of one",
                );
                findings.push(finding.advice(ADVICE));
            }
        }
        if journal.doubles > 0 {
            let why = format!("{} numbers of changes are there twice", journal.doubles);
            let finding = self.damage(FindingKind::DamagedItems, path, why);
            findings.push(finding.lost("nothing known").advice(ADVICE));
        }
        findings
    }

    /// Reports a journal without the file of its items. A journal beside its items is examined together with them.
    pub(super) fn queue_journal(&mut self, job: &JobAddress, path: &Path) {
        if !self.parts.queues.queue_is_bare(job) {
            return self.mode(path);
        }
        let counted = self.parts.queues.queue_summary(job, Deadline::never());
        let had_items = counted.is_ok_and(|queue| queue.damaged > 0);
        let severity = match had_items {
            true => FindingSeverity::Damage,
            false => FindingSeverity::Warning,
        };
        let why = "the journal of a queue whose file of items is gone";
        let mut finding = self
            .finding(severity, FindingKind::Stray, path, why)
            .lost("the items, unless they were removed on purpose")
            .advice(
                "look for `items.json` in a backup; else move the journal away: the next push begins a new queue",
            );
        if self.repairs() && had_items {
            finding.outcome = FindingOutcome::Left {
                why: "the items that the journal counts are not known".into(),
            };
        }
        self.report(finding);
    }

    fn repair_queue(&self, job: &JobAddress) -> Result<Option<String>> {
        let mut kept = None;
        self.parts
            .queues
            .queue_rebuild(job, self.deadline(), |path, file, spots| {
                let ranges: Vec<Damaged> = spots
                    .iter()
                    .map(|spot| Damaged {
                        start: spot.start,
                        end: spot.end,
                        why: spot.why.to_owned(),
                    })
                    .collect();
                let copy = keep(self.root, path, file, &ranges)?;
                kept.get_or_insert(copy);
                Ok(())
            })?;
        Ok(kept)
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
