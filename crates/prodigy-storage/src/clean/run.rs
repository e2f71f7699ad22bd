//! Runs a clean: records, makes and reports each removal.

use std::collections::HashMap;
use std::time::Duration;

use prodigy_storage_backend::{Check, ErrorKind, EventId, Result, StorageError, UnfinishedDeletion};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{JobAddress, RepoName, Timestamp};

use super::ages::{self, Ages};
use super::due::{self, Due, Dues, Foreign, Made};
use super::{AUDIT, CleanOptions, CleanReport, Removal, RemovalHistory, RemovalKind, RemovalOutcome};
use crate::events::{Event, Events};
use crate::job::Job;
use crate::storage::Storage;

pub(super) fn run(storage: &Storage, options: CleanOptions) -> Result<CleanReport> {
    let rules = options.rules.clone();
    let mut clean = Clean {
        storage,
        rules: rules.unwrap_or_else(|| storage.config().retention.clone()),
        now: storage.now(),
        ages: Ages::by_clock(storage.now()),
        audit: storage.audit_log()?,
        earlier: None,
        options,
        report: CleanReport::default(),
        unrecorded: Vec::new(),
        postponed: Vec::new(),
    };
    if !clean.options.dry_run {
        storage.check_writable("clean")?;
    }
    // These need no rule, and free space for what follows.
    clean.unfinished_deletions()?;
    if clean.rules != RetentionSettings::default() {
        clean.by_rules()?;
    }
    // The removals that a full disk refused are made again: others have freed space since.
    for (due, begun, full) in std::mem::take(&mut clean.postponed) {
        let made = due.make_after(full);
        clean.end_due(due, begun, made);
    }
    clean.record([]);
    if clean.unrecorded.is_empty() {
        clean.report.unrecorded_why = None;
    }
    clean.report.unrecorded = clean.unrecorded.len() as u64;
    Ok(clean.report)
}

struct Clean<'s> {
    storage: &'s Storage,
    options: CleanOptions,
    rules: RetentionSettings,
    now: Timestamp,
    /// Trusts the clock at first. Once an unattended clean finds something due by the clock, trusts only the times
    /// of writes.
    ages: Ages,
    audit: Events,
    /// Deletions of jobs that others began, and that are not known to have ended. `None` before the audit log was read.
    earlier: Option<Vec<Event<Removal>>>,
    report: CleanReport,
    /// Entries about the ends of removals that are not in the audit log yet, because an append to it failed.
    unrecorded: Vec<Removal>,
    /// Removals that the full disk refused, each with the entry about its beginning and the error.
    postponed: Vec<(Due, Option<EventId>, StorageError)>,
}

impl Clean<'_> {
    /// Removes what is old by the rules.
    fn by_rules(&mut self) -> Result<()> {
        if !self.trusts_clock() {
            ages::note_run(self.storage, self.now);
        }
        self.quarantine()?;
        match self.options.repo.clone() {
            Some(repo) => self.repo(&repo),
            None => {
                for repo in self.storage.repositories() {
                    self.repo(&repo?)?;
                }
                Ok(())
            }
        }
    }

    /// Removes the rest of jobs whose deletion was cut short.
    fn unfinished_deletions(&mut self) -> Result<()> {
        for left in self.storage.unfinished_deletions() {
            let UnfinishedDeletion { job, bytes, .. } = left?;
            let (repo, id) = (&self.options.repo, &self.options.job);
            if repo.as_ref().is_some_and(|repo| *repo != job.repo)
                || id.as_ref().is_some_and(|id| *id != job.job)
            {
                continue;
            }
            let removal = self.of(RemovalKind::UnfinishedDeletion, "clean", self.now);
            let removal = removal.job(job.clone()).size(1, bytes);
            if self.options.dry_run {
                self.report.removals.push(removal);
                continue;
            }
            let begun = self.begin(&removal)?;
            match self.storage.finish_deletion(&job) {
                Ok(true) => self.end_deletion(removal, begun, Timestamp::MAX),
                made => {
                    let left = (removal.count, removal.bytes);
                    let outcome = made.map_or_else(|error| kept(&error), |_| RemovalOutcome::Gone);
                    self.end(removal, begun, outcome, left);
                }
            }
        }
        Ok(())
    }

    fn repo(&mut self, repo: &RepoName) -> Result<()> {
        if repo.as_str() == AUDIT.0 {
            return Ok(());
        }
        let repo = self.storage.repo(repo)?;
        for id in repo.jobs() {
            let id = match id {
                Ok(id) => id,
                Err(error) if error.kind() == ErrorKind::Io && !error.is_transient() => {
                    let mut removal = self.of(RemovalKind::Job, "retention", self.now);
                    removal.repo = Some(repo.name().clone());
                    removal.outcome = kept(&error);
                    self.report.removals.push(removal);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.options.job.as_ref().is_some_and(|job| *job != id) {
                continue;
            }
            let job = repo.job(&id)?;
            match self.due(&job)? {
                Ok(dues) => {
                    self.report.foreign += u64::from(dues.is_foreign);
                    for due in dues.due {
                        self.make(due)?;
                    }
                }
                Err(error) => {
                    let mut removal = self.of(RemovalKind::Job, "retention", self.now);
                    removal.job = Some(job.address().clone());
                    removal.outcome = kept(&error);
                    self.report.removals.push(removal);
                }
            }
        }
        Ok(())
    }

    fn of(&self, kind: RemovalKind, rule: &str, before: Timestamp) -> Removal {
        Removal::new(kind, rule, before)
    }

    /// Removes old files of the quarantine, if the backend has one.
    #[cfg(feature = "file")]
    fn quarantine(&mut self) -> Result<()> {
        let Some(age) = self.rules.quarantine else {
            return Ok(());
        };
        let Ok(doctor) = self.storage.doctor() else {
            return Ok(());
        };
        if self.options.repo.is_some() || self.options.job.is_some() {
            return Ok(());
        }
        let by_clock = Ages::by_clock(self.now).before(age);
        if !matches!(doctor.clear_quarantine(by_clock, true), Ok((0, _))) {
            self.look_at_writes()?;
        }
        let before = self.ages.before(age);
        let mut removal = self.of(RemovalKind::Quarantine, "retention.quarantine.max_age", before);
        match doctor.clear_quarantine(before, true) {
            Ok((0, _)) => return Ok(()),
            Ok((count, bytes)) => (removal.count, removal.bytes) = (count, bytes),
            Err(error) => removal.outcome = kept(&error),
        }
        if self.options.dry_run || removal.outcome != RemovalOutcome::Due {
            self.report.removals.push(removal);
            return Ok(());
        }
        let begun = self.begin(&removal)?;
        let (outcome, left) = match doctor.clear_quarantine(before, false) {
            Ok(_) => (RemovalOutcome::Removed, (0, 0)),
            Err(error) => {
                let left = doctor.clear_quarantine(before, true);
                (kept(&error), left.unwrap_or((removal.count, removal.bytes)))
            }
        };
        self.end(removal, begun, outcome, left);
        Ok(())
    }

    #[cfg(not(feature = "file"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the same signature with and without files"
    )]
    fn quarantine(&mut self) -> Result<()> {
        Ok(())
    }

    /// True if ages are computed from the clock alone: a person has seen the plan, or nothing is removed.
    fn trusts_clock(&self) -> bool {
        self.options.dry_run || !self.options.unattended
    }

    /// The removals that are due for a job. An outer error ends the whole clean; an inner one concerns the job
    /// only.
    fn due(&mut self, job: &Job) -> Result<Result<Dues>> {
        let by_clock = match due::of_job(self.storage, job, &self.rules, &Ages::by_clock(self.now)) {
            Ok(dues) if !dues.due.is_empty() && !self.trusts_clock() => dues.due,
            other => return Ok(other),
        };
        self.look_at_writes()?;
        let dues = due::of_job(self.storage, job, &self.rules, &self.ages);
        if let Ok(dues) = &dues {
            self.report.held_back += by_clock.len().saturating_sub(dues.due.len()) as u64;
        }
        Ok(dues)
    }

    /// Before the first removal of an unattended clean, switches from the clock to the times of writes. Fails if
    /// no write is recent, since the clock may then be far ahead.
    fn look_at_writes(&mut self) -> Result<()> {
        if self.trusts_clock() || self.ages.is_by_writes() {
            return Ok(());
        }
        let (writes, unread) = self.writes()?;
        self.check_clock(writes.iter().copied().max(), unread)?;
        self.ages = Ages::by_writes(self.storage, self.now, writes)?;
        self.report.silence = self.ages.longest_silence();
        Ok(())
    }

    /// The time of the last write of each job that can be read, and the error of the first job that can't be.
    fn writes(&self) -> Result<(Vec<Timestamp>, Option<StorageError>)> {
        let (mut writes, mut unread) = (Vec::new(), None);
        for repo in self.storage.repositories() {
            for job in self.storage.repo(repo?)?.survey() {
                match job? {
                    Ok(job) => writes.extend(job.status.last_activity),
                    Err(error) => unread = unread.or(Some(error)),
                }
            }
        }
        Ok((writes, unread))
    }

    fn check_clock(&self, newest: Option<Timestamp>, unread: Option<StorageError>) -> Result<()> {
        let recent = Ages::by_clock(self.now).before(CleanOptions::RECENT);
        if newest.is_some_and(|written| written >= recent) {
            return Ok(());
        }
        // The recent write may be in the job that can't be read.
        if let Some(error) = unread {
            let why =
                "nothing was removed: the last write of a job can't be read, and no other write is recent";
            return Err(StorageError::new(error.kind(), "clean", "the store", why).with_source(error));
        }
        let newest = newest.map_or_else(String::new, |written| {
            format!(", the newest one at {}", written.to_rfc3339())
        });
        Err(StorageError::new(
            ErrorKind::Refused,
            "clean",
            "the store",
            format!(
                "nothing was removed: by the clock it is {}, and nothing in the store was written during the last {} days{newest}. A \
                 clock that is far ahead makes all data look old",
                self.now.to_rfc3339(),
                CleanOptions::RECENT.as_secs() / (24 * 60 * 60),
            ),
        )
        .with_hint("compare the clock with `date`; if it is right, look at the plan (`prodigy-storage clean`), and remove with `prodigy-storage clean --yes`"))
    }

    fn make(&mut self, due: Due) -> Result<()> {
        if self.options.dry_run {
            self.report.removals.push(due.removal);
            return Ok(());
        }
        let begun = self.begin(&due.removal)?;
        match due.make() {
            Err(error) if error.kind() == ErrorKind::DiskFull => self.postponed.push((due, begun, error)),
            made => self.end_due(due, begun, made),
        }
        Ok(())
    }

    fn end_due(&mut self, due: Due, begun: Option<EventId>, made: Result<Made>) {
        let mut why = match made {
            Ok(Made::Removed(1)) if let Some(last) = due.last_write() => {
                return self.end_deletion(due.removal, begun, last);
            }
            Ok(Made::Removed(count)) => return self.end_removed(due.removal, begun, count),
            Ok(Made::Changed) => "it was changed meanwhile".to_owned(),
            Err(error) => why(&error),
        };
        let is_cut_short = due.has_begun().unwrap_or(false);
        if is_cut_short {
            let command = Check::end_of_deletion(due.job.address());
            why.push_str(&format!(
                "; its deletion has begun, so that readers no longer see the job: the next clean ends it, or `{command}`"
            ));
        }
        // If that can't be read, nothing shows that anything is gone.
        let left = due.left().unwrap_or((due.removal.count, due.removal.bytes));
        let outcome = RemovalOutcome::Kept { why };
        match is_cut_short {
            // The entry of the clean that ends it says so.
            true => drop(self.report(due.removal, outcome, left)),
            false => self.end(due.removal, begun, outcome, left),
        }
    }

    /// Reports a removal of which this clean removed `count` things, and another process the others.
    fn end_removed(&mut self, removal: Removal, begun: Option<EventId>, count: u64) {
        if count >= removal.count {
            return self.end(removal, begun, RemovalOutcome::Removed, (0, 0));
        }
        let bytes = removal.bytes / removal.count.max(1) * count;
        let rest = (removal.count - count, removal.bytes - bytes);
        self.end(removal, begun, RemovalOutcome::Gone, rest);
    }

    /// Reports the deletion of a job that was not written to after `last`. It ends the deletions of this job that others began
    /// after that, too: the bytes that they have removed of it are counted here.
    fn end_deletion(&mut self, removal: Removal, begun: Option<EventId>, last: Timestamp) {
        let earlier = self.earlier.iter().flatten();
        let earlier = earlier.filter(|entry| entry.event.job == removal.job);
        let is_unfinished = removal.kind == RemovalKind::UnfinishedDeletion;
        let (mut bytes, mut ends) = (removal.bytes, Vec::new());
        for entry in earlier.filter(|entry| is_unfinished || last < entry.timestamp) {
            if is_unfinished {
                bytes = bytes.max(entry.event.bytes);
            }
            ends.push(removed_by(entry, 0, 0));
        }
        let made = removal.clone().size(removal.count, bytes).begun(begun);
        ends.push(made.outcome(RemovalOutcome::Removed));
        self.record(ends);
        self.report
            .removals
            .push(removal.outcome(RemovalOutcome::Removed));
    }

    /// Reports a removal that left a number of things and their bytes, and writes its end to the audit log.
    fn end(&mut self, removal: Removal, begun: Option<EventId>, outcome: RemovalOutcome, left: (u64, u64)) {
        let (made, rest) = self.report(removal, outcome, left);
        let mut entries = Vec::new();
        // Of a removal without an entry about its beginning, only what was removed needs one.
        if begun.is_some() || made.count > 0 {
            entries.push(made.begun(begun));
        }
        if begun.is_some() && matches!(rest.outcome, RemovalOutcome::Kept { .. }) {
            entries.push(rest.begun(begun));
        }
        self.record(entries);
    }

    /// Reports a removal that left a number of things and their bytes: what is gone of it was removed by this clean, and the rest has
    /// the outcome. Returns the two parts.
    fn report(&mut self, removal: Removal, outcome: RemovalOutcome, left: (u64, u64)) -> (Removal, Removal) {
        let gone = (
            removal.count.saturating_sub(left.0),
            removal.bytes.saturating_sub(left.1),
        );
        let rest = removal.clone().size(left.0, left.1).outcome(outcome);
        let made = removal.size(gone.0, gone.1).outcome(RemovalOutcome::Removed);
        if gone != (0, 0) {
            self.report.removals.push(made.clone());
        }
        if rest.outcome != RemovalOutcome::Removed {
            self.report.removals.push(rest.clone());
        }
        (made, rest)
    }

    /// Writes to the audit log that a removal begins, and returns the id of the entry; `None` if the log can't be written to.
    fn begin(&mut self, removal: &Removal) -> Result<Option<EventId>> {
        if self.earlier.is_none() {
            let earlier = self.unended()?;
            self.earlier = Some(earlier);
        }
        let begun = removal.clone().outcome(RemovalOutcome::Begun);
        Ok(self.audit.append(&begun).ok())
    }

    /// The deletions of jobs that others began, and that are not known to have ended. For the other removals by rules that died, adds
    /// to the audit log what they removed: what they were to remove, without what is left of that. A deletion has ended, too, if nothing
    /// is left of its job.
    fn unended(&mut self) -> Result<Vec<Event<Removal>>> {
        let (mut deletions, mut ends) = (Vec::new(), Vec::new());
        let mut gone = HashMap::<JobAddress, Vec<Event<Removal>>>::new();
        // A damaged entry is reported where the log is printed.
        for entry in RemovalHistory::new(&self.audit)?.flatten() {
            let begun = &entry.event;
            let is_deletion = matches!(begun.kind, RemovalKind::Job | RemovalKind::UnfinishedDeletion);
            let deleted = begun.job.clone().filter(|_| is_deletion);
            match (&begun.outcome, deleted) {
                // It was this removal that removed the job.
                (RemovalOutcome::Removed, Some(job)) => {
                    let earlier = gone.remove(&job).into_iter().flatten();
                    ends.extend(earlier.map(|entry| removed_by(&entry, 0, 0)));
                }
                (RemovalOutcome::Begun, Some(job)) => match self.is_gone(&job).unwrap_or(false) {
                    true => gone.entry(job).or_default().push(entry),
                    false => deletions.push(entry),
                },
                // If the rest of it can't be read, it stays as it is.
                (RemovalOutcome::Begun, None) => {
                    ends.extend(self.left_of(begun).unwrap_or_default().map(|(count, bytes)| {
                        let count = begun.count.saturating_sub(count);
                        removed_by(&entry, count, begun.bytes.saturating_sub(bytes))
                    }));
                }
                _ => {}
            }
        }
        // The last of the processes that died has ended the deletion that the first one began.
        for mut begun in gone.into_values() {
            let bytes = begun
                .iter()
                .map(|entry| entry.event.bytes)
                .max()
                .unwrap_or_default();
            let last = begun.pop().map(|last| removed_by(&last, last.event.count, bytes));
            ends.extend(begun.iter().map(|entry| removed_by(entry, 0, 0)).chain(last));
        }
        self.record(ends);
        Ok(deletions)
    }

    /// True if nothing that the store wrote is left of a job, nor of its deletion.
    fn is_gone(&self, job: &JobAddress) -> Result<bool> {
        for left in self.storage.unfinished_deletions() {
            if left?.job == *job {
                return Ok(false);
            }
        }
        let status = self.storage.repo(&job.repo)?.job(&job.job)?.status()?;
        Ok(status.last_activity.is_none() || Foreign::of(self.storage, job)?.is_all)
    }

    /// The number and the bytes of what is left of an earlier removal. `None` if no rule says what it was to remove.
    fn left_of(&self, begun: &Removal) -> Result<Option<(u64, u64)>> {
        const AGE: Duration = Duration::from_nanos(1);
        let none = RetentionSettings::default();
        let rules = match begun.rule.as_str() {
            "retention.events.max_age" => none.events(AGE),
            "retention.checkpoints.max_age" => none
                .checkpoints(AGE)
                .checkpoints_keep(self.rules.checkpoints_keep),
            "retention.checkpoints.keep" => none.checkpoints_keep(self.rules.checkpoints_keep.unwrap_or(1)),
            "retention.dead_letters.max_age" => none.dead_letters(AGE),
            "retention.orphans.max_age" => none.orphans(AGE),
            #[cfg(feature = "file")]
            "retention.quarantine.max_age" => {
                return self
                    .storage
                    .doctor()?
                    .clear_quarantine(begun.before, true)
                    .map(Some);
            }
            _ => return Ok(None),
        };
        let Some(job) = &begun.job else { return Ok(None) };
        let job = self.storage.repo(&job.repo)?.job(&job.job)?;
        let then = Timestamp::from_nanos(begun.before.as_nanos().saturating_add(1));
        let left = due::of_job(self.storage, &job, &rules, &Ages::by_clock(then))?;
        let left = left.due.iter().find(|due| due.removal.kind == begun.kind);
        Ok(Some(
            left.map_or((0, 0), |due| (due.removal.count, due.removal.bytes)),
        ))
    }

    /// Appends entries to the audit log, after those that could not be appended before. On failure they are kept for later.
    fn record(&mut self, entries: impl IntoIterator<Item = Removal>) {
        self.unrecorded.extend(entries);
        if self.unrecorded.is_empty() {
            return;
        }
        match self.audit.append_batch(&self.unrecorded) {
            Ok(_) => {
                self.unrecorded.clear();
                self.report.unrecorded_why = None;
            }
            // The append is made again with the next removal.
            Err(error) => self.report.unrecorded_why = Some(format!("{error:#}")),
        }
    }
}

/// The entry about the end of a removal that another process began.
fn removed_by(begun: &Event<Removal>, count: u64, bytes: u64) -> Removal {
    let removal = begun.event.clone().size(count, bytes).begun(begun.id);
    removal.outcome(RemovalOutcome::Removed)
}

fn kept(error: &StorageError) -> RemovalOutcome {
    RemovalOutcome::Kept { why: why(error) }
}

fn why(error: &StorageError) -> String {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{error:#}{hint}")
}
