//! Examines logs: the contents of their segments.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::record::LineFault;
use prodigy_storage_backend::{Deadline, EventId, Result, TooLarge};
use prodigy_storage_layout::{EVENTS, JobAddress, QUARANTINE, RepoName, SegmentForm, SegmentName, Timestamp};

use super::finding::{Finding, FindingKind, FindingOutcome};
use super::foreign::Group;
use super::keep::Damaged;
use super::walk::Examination;
use crate::fs::{Metadata, OpenMode};
use crate::log::Logs;
use crate::log::archive;
use crate::log::clock::StepClock;
use crate::log::listing::{self, Forms, Leftover, Listing};
use crate::log::search;
use crate::log::segment::{Head, SegmentReader};
use crate::log::segment_ref::SegmentRef;
use crate::log::tail;

/// The number of bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// The longest time between the creation of a segment and the first write to it that is no sign of a later change.
const CREATION: Duration = Duration::from_secs(1);

/// The least time for the end of a removal that was cut short.
const MOMENT: Duration = Duration::from_secs(5);

/// The fault of a damaged line that is longer than the size limit.
const TOO_LONG: &str = LineFault::TooLong.as_str();
/// The reason why a damaged line above the size limit is not removed: it may be several records whose line ends were
/// damaged. A reader with a larger limit can still find them.
const KEEPS_TOO_LONG: &str = "a damaged line is longer than this `max_record_size`: repair with a larger one";

/// The counts and the problems of one segment.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) events: u64,
    pub(super) damaged: Vec<Damaged>,
    /// Damaged lines above this reader's size limit.
    pub(super) too_long: Vec<Damaged>,
    /// Records above this reader's size limit.
    too_large: Vec<TooLarge>,
    /// Runs of adjacent lines without a checksum: start offset, end offset, and number of lines.
    unverified: Vec<(u64, u64, u64)>,
    /// The offset and length of the first event behind one with a later id, and the number of such events.
    unordered: Option<(u64, u64, u64)>,
    /// The number of events with an id below the time in the name of the segment.
    misnamed: u64,
}

/// A segment, and the path of the form (plain or compressed) that is examined.
pub(super) struct Segment<'a> {
    pub(super) at: SegmentRef<'a>,
    pub(super) form: SegmentForm,
    pub(super) path: PathBuf,
}

impl Examination<'_> {
    /// Examines the log of a job.
    pub(super) fn log(&mut self, job: &JobAddress, folder: &Path) {
        match listing::list(self.root, folder, Deadline::never()) {
            Ok(listing) => {
                self.ahead_of_clock(folder, listing.segments.iter());
                self.sealed_marks(folder, &listing);
                self.removed_marks(folder, &listing);
                self.leftovers(job, folder, &listing);
                for (name, forms) in listing.segments {
                    // If both forms of a segment exist, they are examined together, under the name of the plain one.
                    if name.twin_form().is_none() {
                        self.segment(folder, &name, forms);
                    }
                }
            }
            Err(error) => self.unreadable(folder, &error),
        }
    }

    /// Reports the segments that a mark of removed segments hides.
    fn leftovers(&mut self, job: &JobAddress, folder: &Path, listing: &Listing) {
        let leftovers = listing.leftovers.as_slice();
        let moved = (self.repairs() && !leftovers.is_empty()).then(|| {
            // Removes no other segment: each has an event after that time.
            let (logs, none) = (Logs::new(Arc::clone(self.root)), Timestamp::MIN);
            let deadline = self.deadline().remaining().unwrap_or_default().max(MOMENT);
            logs.remove_before(job, none, Deadline::after(deadline))
                .map(|_| Some(self.root.absolute(Path::new(QUARANTINE)).display().to_string()))
        });
        let report = |examination: &mut Self, finding| match &moved {
            Some(moved) => examination.report_repaired(finding, moved),
            None => examination.report(finding),
        };
        if let Some(mark) = listing.undoable() {
            let why = format!(
                "it hides {} segments, and none of them was removed yet: the mark was copied from a cleaned copy of this store, \
                 or a removal of old events died as it began",
                leftovers.len()
            );
            let finding = self
                .warning(FindingKind::HiddenEvents, &mark.path(folder), why)
                .advice(
                    "if a copy brought the mark, move the mark away: the events are then read again. If the events are to go, \
                     let a repair move their segments to the quarantine; the next `clean --events` of this job removes those as \
                     old as it says",
                );
            return report(self, finding);
        }
        for Leftover { name, forms } in leftovers {
            let path = folder.join(name.file_name(forms.any()));
            let why = "a segment that was removed, and whose removal was cut short";
            let finding = self.note(FindingKind::Temporary, &path, why).advice(
                "nothing: readers skip it; the next removal of events as old as its own removes the file, and repair moves it to the \
                 quarantine",
            );
            report(self, finding);
        }
    }

    /// Reports a log whose newest id is ahead of the clock. It is a note if the file of the event is not ahead, since the clock is right
    /// again.
    fn ahead_of_clock<'a>(
        &mut self,
        folder: &Path,
        segments: impl Iterator<Item = (&'a SegmentName, &'a Forms)>,
    ) {
        let (root, mut clock) = (self.root, StepClock::default());
        // The examination of the segment itself reports if it can't be read.
        let newest = segments
            .filter(|(name, _)| name.is_canonical())
            .filter_map(|(name, forms)| {
                search::last_id_of(SegmentRef::new(root, folder, name), &mut clock)
                    .ok()?
                    .map(|id| (id, name, forms))
            })
            .max_by_key(|(id, ..)| *id);
        let now = root.now();
        let Some((newest, name, forms)) = newest.filter(|(newest, ..)| newest.is_ahead_of(now)) else {
            return;
        };
        let path = folder.join(name.file_name(name.twin_form().unwrap_or(forms.any())));
        let until = newest.time().to_rfc3339();
        let why = format!("the newest id of the log is dated {until}, more than an hour ahead of the clock");
        let written = root
            .fs
            .metadata(&path)
            .map(|found| EventId::floor(found.modified));
        let finding = match written {
            Ok(written) if !written.is_ahead_of(now) => self
                .note(
                    FindingKind::AheadOfClock,
                    &path,
                    format!("{why}, and its file is not: the clock was wrong when the event was written"),
                )
                .advice(format!(
                    "nothing: until {until}, new events get ids just above the newest one; their times are true"
                )),
            _ => self.warning(FindingKind::AheadOfClock, &path, why).advice(
                "check the clock of this machine, and of the one that wrote the event: later ids lie above it; the times of \
                 later events are true",
            ),
        };
        self.report(finding);
    }

    fn segment(&mut self, folder: &Path, name: &SegmentName, forms: Forms) {
        let form = if forms.plain {
            SegmentForm::Plain
        } else if forms.zstd {
            SegmentForm::Zstd
        } else {
            SegmentForm::Gzip
        };
        let at = SegmentRef::new(self.root, folder, name);
        let path = at.path(form);
        let segment = Segment { at, form, path };
        // The segment may have been compressed or removed since it was listed.
        let Ok(found) = self.root.fs.metadata(&segment.path) else {
            return;
        };
        let is_ours = name.is_canonical();
        if is_ours {
            self.segment_mode(&segment.path, form, &found);
        }
        let contents = match contents(at) {
            Ok(Some(contents)) => contents,
            Ok(None) => return,
            Err(error) => return self.unreadable(&segment.path, &error),
        };
        // The entries of the audit log are no events of a job.
        if !folder.starts_with(Path::new(EVENTS).join(RepoName::AUDIT)) {
            self.summary.events += contents.events;
        }
        if !is_ours {
            self.foreign(Group::EventFiles, &segment.path);
            if !contents.damaged.is_empty() {
                self.group(Group::EventLines, &segment.path);
            }
            return;
        }
        self.unverified(&segment, &contents);
        self.unordered(&segment, &contents);
        self.too_large(&segment, &contents);
        self.too_long(&segment, &contents);
        if form == SegmentForm::Plain {
            if !found.is_sealed() {
                self.torn(&segment, &found);
            }
            if found.len == 0 {
                self.empty(&segment, &found);
            }
            self.plain(&segment, &contents);
            for (there, other) in [(forms.zstd, SegmentForm::Zstd), (forms.gzip, SegmentForm::Gzip)] {
                if there {
                    self.two_forms(&segment, other, &contents);
                }
            }
        } else {
            self.archived(&segment, &contents);
        }
    }

    fn unverified(&mut self, segment: &Segment<'_>, contents: &Contents) {
        for (start, end, lines) in &contents.unverified {
            let why = format!("{lines} lines without a checksum");
            let finding = self.warning(FindingKind::Unverified, &segment.path, why).advice(
                "look at them: another program wrote into a segment of ours, or the checksum itself is damaged",
            );
            self.report(finding.at(*start, end - start));
        }
    }

    /// Reports that the ids of a segment do not ascend, as they do in each segment that this program writes.
    fn unordered(&mut self, segment: &Segment<'_>, contents: &Contents) {
        let (start, len, count) = contents.unordered.unwrap_or_default();
        let (why, advice) = match (contents.misnamed, count, segment.form) {
            (0, 0, _) => return,
            (0, _, SegmentForm::Plain) => (
                format!(
                    "{count} events stand behind one with a later id: something changed the order of the lines"
                ),
                "end the writers of the job, and keep a copy of the file; its lines in the order of their text are as they were stored",
            ),
            (0, ..) => (
                format!("{count} events stand behind one with a later id: something changed the file"),
                "compare the file with a backup",
            ),
            (misnamed, ..) => (
                format!(
                    "{misnamed} events have ids below the time in the name of the segment: the file was renamed, or is a copy"
                ),
                "give the file the name that it had; if another segment has the same events, move this one away",
            ),
        };
        let finding = self
            .damage(FindingKind::OutOfOrder, &segment.path, why)
            .at(start, len)
            .lost("nothing: all of these events are here")
            .advice(advice);
        let outcome = match self.repairs() {
            true => FindingOutcome::Left {
                why: "no event is damaged, so none is moved".into(),
            },
            false => FindingOutcome::Found,
        };
        self.report(finding.outcome(outcome));
    }

    /// Reports records above this reader's size limit. They are never moved.
    fn too_large(&mut self, segment: &Segment<'_>, contents: &Contents) {
        for record in &contents.too_large {
            let finding = self
                .warning(FindingKind::OverLimit, &segment.path, record.why())
                .at(record.offset, record.len)
                .advice(format!("{}; readers report it as too large", record.hint()));
            self.report(finding);
        }
    }

    /// Reports damaged lines above this reader's size limit. They are never moved.
    fn too_long(&mut self, segment: &Segment<'_>, contents: &Contents) {
        for mut finding in self.damaged_events(segment, &contents.too_long) {
            finding.advice = "repair with a larger `backend_config.max_record_size`".into();
            if self.repairs() {
                finding.outcome = FindingOutcome::Left {
                    why: KEEPS_TOO_LONG.into(),
                };
            }
            self.report(finding);
        }
    }

    /// Reports a torn tail of an unsealed segment.
    fn torn(&mut self, segment: &Segment<'_>, found: &Metadata) {
        let start = self
            .root
            .fs
            .open(&segment.path, OpenMode::Read)
            .and_then(|file| tail::last_line(&*file, found.len));
        let start = match start {
            Ok(start) => start.unwrap_or(0),
            Err(error) => {
                let error = self.root.read_fault("examine segment", &segment.path, error);
                return self.unreadable(&segment.path, &error);
            }
        };
        if start < found.len {
            let finding = self
                .note(
                    FindingKind::TornEnd,
                    &segment.path,
                    "a write was cut short, or is under way",
                )
                .at(start, found.len - start)
                .lost("nothing that was acknowledged, unless something else cut the file")
                .advice("nothing: the next writer repairs it");
            self.report(finding);
        }
    }

    /// Reports an empty segment that had events. No writer seals an empty one, and a writer that creates a segment writes to it
    /// at once.
    fn empty(&mut self, segment: &Segment<'_>, found: &Metadata) {
        let born = self.root.fs.born(&segment.path).ok().flatten();
        let is_changed = |born: Timestamp| {
            found.modified.as_nanos().saturating_sub(born.as_nanos()) > CREATION.as_nanos() as i64
        };
        let why = if !found.is_writable() {
            "it is sealed, and has no event"
        } else if born.is_some_and(is_changed) {
            "it has no event, and was changed after it was created"
        } else {
            return;
        };
        let finding = self
            .warning(FindingKind::MissingEvents, &segment.path, why)
            .lost("its events, if a program emptied it or a loss of power took them; none if the first write to it failed")
            .advice("compare it with a backup; nothing in the store has these events");
        self.report(finding);
    }

    fn plain(&mut self, segment: &Segment<'_>, contents: &Contents) {
        if contents.damaged.is_empty() {
            return;
        }
        let findings = self.damaged_events(segment, &contents.damaged);
        self.report_damage(findings, |examination| examination.repair_plain(segment));
    }

    fn damaged_events(&self, segment: &Segment<'_>, damaged: &[Damaged]) -> Vec<Finding> {
        damaged
            .iter()
            .map(|damage| {
                self.damage(FindingKind::DamagedEvents, &segment.path, damage.why.clone())
                    .at(damage.start, damage.end - damage.start)
                    .lost("the events at this place, if there were any; those before and after it are whole")
                    .advice("compare it with a backup; repair keeps the bytes in the quarantine")
            })
            .collect()
    }

    /// Examines a segment that exists in compressed form only.
    fn archived(&mut self, segment: &Segment<'_>, contents: &Contents) {
        let header =
            segment.form == SegmentForm::Zstd && archive::header_is_damaged(segment.at).unwrap_or(false);
        if contents.damaged.is_empty() && !header {
            return;
        }
        let mut findings: Vec<Finding> = self.damaged_events(segment, &contents.damaged);
        for finding in &mut findings {
            finding.kind = FindingKind::DamagedArchive;
            finding.advice =
                "compare the file with a backup; repair keeps it in the quarantine, and writes what \
                              decompresses as a plain segment"
                    .into();
        }
        if header {
            findings.push(
                self.damage(
                    FindingKind::DamagedArchive,
                    &segment.path,
                    "the header before the compressed data is damaged",
                )
                .advice("repair keeps the file in the quarantine, and writes a plain segment"),
            );
        }
        self.report_damage(findings, |examination| {
            if !contents.too_long.is_empty() {
                return Ok(Err(KEEPS_TOO_LONG.to_owned()));
            }
            examination.repair_archive(segment)
        });
    }

    /// Examines the compressed form of a segment whose plain form also exists.
    fn two_forms(&mut self, plain: &Segment<'_>, form: SegmentForm, held: &Contents) {
        let path = plain.at.path(form);
        let same = match archive::says_the_same(plain.at, form) {
            Ok(same) => same,
            Err(error) => return self.unreadable(&path, &error),
        };
        if same {
            let finding = self
                .note(
                    FindingKind::TwoForms,
                    &path,
                    "the plain segment is beside it, with the same events",
                )
                .advice("nothing: readers count one; a later writer ends the compression");
            return self.report_damage(vec![finding], |examination| {
                examination.repair_same_forms(plain, form, &path)
            });
        }
        let finding = self
            .damage(
                FindingKind::TwoForms,
                &path,
                "it does not hold what the plain segment of the same name beside it holds",
            )
            .lost("nothing")
            .advice(
                "repair writes the events of both into the plain segment, and keeps both files as they were in the \
                 quarantine",
            );
        let twin = plain.at.name.twin(form);
        let twin = SegmentRef {
            name: &twin,
            ..plain.at
        };
        let read = contents(twin).and_then(|packed| Ok((packed, ids(twin)?, ids(plain.at)?)));
        let (mut packed, packed_ids, plain_ids) = match read {
            Ok(read) => read,
            Err(error) => return self.unreadable(&path, &error),
        };
        self.summary.events += packed_ids.difference(&plain_ids).count() as u64;
        if let Some(packed) = &mut packed {
            // The examination of the plain form has already reported the records that both forms hold.
            let held = |record: &TooLarge| held.too_large.iter().any(|other| other.id == record.id);
            packed.too_large.retain(|record| !held(record));
            let segment = Segment {
                at: twin,
                form,
                path: path.clone(),
            };
            self.too_large(&segment, packed);
        }
        let damaged = packed.iter().flat_map(|packed| &packed.damaged);
        let unreadable = damaged.map(|damage| {
            self.damage(FindingKind::DamagedArchive, &path, damage.why.clone())
                .at(damage.start, damage.end - damage.start)
                .lost("the events at this place, if there were any and the plain segment does not hold them")
                .advice("compare the file with a backup; repair keeps it in the quarantine")
        });
        let findings = std::iter::once(finding).chain(unreadable).collect();
        self.report_damage(findings, |examination| {
            if !held.too_long.is_empty() || packed.is_some_and(|packed| !packed.too_long.is_empty()) {
                return Ok(Err(KEEPS_TOO_LONG.to_owned()));
            }
            examination.repair_two_forms(plain, form, &path)
        });
    }

    /// Reports the damage in a file, and repairs it if requested.
    fn report_damage(
        &mut self,
        findings: Vec<Finding>,
        repair: impl FnOnce(&Self) -> Result<std::result::Result<Option<String>, String>>,
    ) {
        if !self.repairs() {
            findings.into_iter().for_each(|finding| self.report(finding));
            return;
        }
        let outcome = match repair(self) {
            Ok(Ok(kept)) => FindingOutcome::Repaired { kept },
            Ok(Err(why)) => FindingOutcome::Left { why },
            Err(error) => super::walk::left(&error),
        };
        for mut finding in findings {
            finding.outcome = outcome.clone();
            self.report(finding);
        }
    }
}

/// The ids of all events of a segment.
fn ids(segment: SegmentRef<'_>) -> Result<HashSet<EventId>> {
    let (mut ids, mut clock) = (HashSet::new(), StepClock::default());
    let Some(mut reader) = SegmentReader::open(segment, 0, None, CHUNK)? else {
        return Ok(ids);
    };
    while reader.next(&mut clock)? {
        match reader.head {
            Head::Record { id, .. } => _ = ids.insert(id),
            _ => ids.extend(reader.head.verified_id()),
        }
    }
    Ok(ids)
}

/// Reads a segment in the form that readers would use; `None` if the segment is gone.
pub(super) fn contents(segment: SegmentRef<'_>) -> Result<Option<Contents>> {
    let Some(mut reader) = SegmentReader::open(segment, 0, None, CHUNK)? else {
        return Ok(None);
    };
    let (mut contents, mut clock) = (Contents::default(), StepClock::default());
    let mut highest = EventId::MIN;
    while reader.next(&mut clock)? {
        let start = reader.head_start();
        if let Head::Record {
            id,
            range,
            verified: true,
        } = &reader.head
            && id.is_v7()
        {
            if *id < highest {
                let (_, _, count) = contents.unordered.get_or_insert((start, range.len() as u64, 0));
                *count += 1;
            }
            highest = highest.max(*id);
            contents.misnamed += u64::from(*id < EventId::floor(segment.name.lower()));
        }
        match &reader.head {
            // A repeated line: readers count two adjacent lines with the same id as one event.
            Head::Record {
                id, verified: false, ..
            } if reader.last == Some(*id) => {}
            Head::Record { verified: true, .. } => contents.events += 1,
            Head::Record { range, .. } => {
                contents.events += 1;
                let end = start + range.len() as u64;
                match contents.unverified.last_mut() {
                    // The line continues the last run: only a line end is between the two.
                    Some((_, last, lines)) if *last + 1 == start => (*last, *lines) = (end, *lines + 1),
                    _ => contents.unverified.push((start, end, 1)),
                }
            }
            Head::Damage { offset, len, why } => {
                let found = Damaged {
                    start: *offset,
                    end: offset + len,
                    why: (*why).to_owned(),
                };
                if *why == TOO_LONG {
                    contents.too_long.push(found);
                } else {
                    contents.damaged.push(found);
                }
            }
            Head::TooLarge { verified, .. } => {
                contents.events += u64::from(*verified);
                contents.too_large.extend(reader.too_large());
            }
            Head::Before | Head::End => {}
        }
    }
    Ok(Some(contents))
}
