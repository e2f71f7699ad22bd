//! Runs a clean: each removal is recorded, made, and reported.

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{RepoName, Timestamp};

use super::due::{self, Due};
use super::{AUDIT, CleanOptions, CleanReport, Removal, RemovalKind, RemovalOutcome};
use crate::events::Events;
use crate::storage::Storage;

pub(super) fn run(storage: &Storage, options: CleanOptions) -> Result<CleanReport> {
    let rules = options.rules.clone();
    let mut clean = Clean {
        storage,
        rules: rules.unwrap_or_else(|| storage.config().retention.clone()),
        now: storage.now(),
        audit: storage.audit_log()?,
        options,
        report: CleanReport::default(),
        unrecorded: Vec::new(),
        postponed: Vec::new(),
    };
    if clean.rules == RetentionSettings::default() {
        return Ok(clean.report);
    }
    if !clean.options.dry_run {
        storage.check_writable("clean")?;
    }
    clean.quarantine();
    match clean.options.repo.clone() {
        Some(repo) => clean.repo(&repo)?,
        None => {
            for repo in storage.repositories() {
                clean.repo(&repo?)?;
            }
        }
    }
    // Other removals freed space meanwhile.
    for (due, full) in std::mem::take(&mut clean.postponed) {
        let outcome = due.make_after(full).unwrap_or_else(|error| kept(&error));
        clean.end(due.removal, outcome);
    }
    clean.record(None);
    clean.report.unrecorded = clean.unrecorded.len() as u64;
    Ok(clean.report)
}

struct Clean<'s> {
    storage: &'s Storage,
    options: CleanOptions,
    rules: RetentionSettings,
    now: Timestamp,
    audit: Events,
    report: CleanReport,
    /// Removals that the audit log does not have yet.
    unrecorded: Vec<Removal>,
    /// Removals that themselves need space on the disk.
    postponed: Vec<(Due, StorageError)>,
}

impl Clean<'_> {
    fn repo(&mut self, repo: &RepoName) -> Result<()> {
        if repo.as_str() == AUDIT.0 {
            return Ok(());
        }
        let repo = self.storage.repo(repo)?;
        for id in repo.jobs() {
            let id = id?;
            if self.options.job.as_ref().is_some_and(|job| *job != id) {
                continue;
            }
            let job = repo.job(&id)?;
            match due::of_job(&job, &self.rules, self.now) {
                Ok(due) => due.into_iter().for_each(|due| self.make(due)),
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

    /// The files of the quarantine, where the backend has one.
    #[cfg(feature = "file")]
    fn quarantine(&mut self) {
        let Some(age) = self.rules.quarantine else { return };
        let Ok(doctor) = self.storage.doctor() else { return };
        if self.options.repo.is_some() || self.options.job.is_some() {
            return;
        }
        let before = due::before(self.now, age);
        let mut removal = self.of(RemovalKind::Quarantine, "retention.quarantine.max_age", before);
        match doctor.clear_quarantine(before, true) {
            Ok((0, _)) => return,
            Ok((count, bytes)) => (removal.count, removal.bytes) = (count, bytes),
            Err(error) => removal.outcome = kept(&error),
        }
        if self.options.dry_run || removal.outcome != RemovalOutcome::Due {
            return self.report.removals.push(removal);
        }
        self.record(Some(&removal));
        let outcome = match doctor.clear_quarantine(before, false) {
            Ok(_) => RemovalOutcome::Removed,
            Err(error) => kept(&error),
        };
        self.end(removal, outcome);
    }

    #[cfg(not(feature = "file"))]
    fn quarantine(&mut self) {}

    fn make(&mut self, due: Due) {
        if self.options.dry_run {
            return self.report.removals.push(due.removal);
        }
        self.record(Some(&due.removal));
        match due.make() {
            Ok(outcome) => self.end(due.removal, outcome),
            Err(error) if error.kind() == ErrorKind::DiskFull => self.postponed.push((due, error)),
            Err(error) => self.end(due.removal, kept(&error)),
        }
    }

    fn end(&mut self, mut removal: Removal, outcome: RemovalOutcome) {
        removal.outcome = outcome;
        if removal.outcome != RemovalOutcome::Removed {
            self.record(Some(&removal));
        }
        self.report.removals.push(removal);
    }

    /// Appends to the audit log. On a full disk the rest is appended later.
    fn record(&mut self, removal: Option<&Removal>) {
        self.unrecorded.extend(removal.cloned());
        if self.unrecorded.is_empty() || self.options.dry_run {
            return;
        }
        match self.audit.append_batch(&self.unrecorded) {
            Ok(_) => {
                self.unrecorded.clear();
                self.report.unrecorded_why = None;
            }
            // The append is tried again after the next removal.
            Err(error) => self.report.unrecorded_why = Some(format!("{error:#}")),
        }
    }
}

fn kept(error: &StorageError) -> RemovalOutcome {
    RemovalOutcome::Kept {
        why: format!("{error:#}"),
    }
}
