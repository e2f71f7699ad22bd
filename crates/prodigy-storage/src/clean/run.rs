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
        is_checked: options.dry_run || !options.unattended,
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
    clean.quarantine()?;
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
    /// True once the clock is known to be plausible, or need not be.
    is_checked: bool,
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
                Ok(due) => {
                    for due in due {
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

    /// The files of the quarantine, where the backend has one.
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
        let before = due::before(self.now, age);
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
        self.check_clock()?;
        self.record(Some(&removal));
        let outcome = match doctor.clear_quarantine(before, false) {
            Ok(_) => RemovalOutcome::Removed,
            Err(error) => kept(&error),
        };
        self.end(removal, outcome);
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

    /// Before the first removal of an unattended clean: fails if nothing in the store was written recently.
    ///
    /// Ages are differences to the clock. If it is far ahead, all data looks old, the newest write included. That write
    /// is found without reading all jobs, unless it is in the last one.
    fn check_clock(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_checked, true) {
            return Ok(());
        }
        let recent = due::before(self.now, CleanOptions::RECENT);
        let mut newest = None;
        for repo in self.storage.repositories() {
            for job in self.storage.repo(repo?)?.survey() {
                let written = job?.ok().and_then(|job| job.status.last_activity);
                if written.is_some_and(|written| written >= recent) {
                    return Ok(());
                }
                newest = newest.max(written);
            }
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
        .with_hint("compare the clock with `date`; if it is right, look at the plan of `clean`, and remove with `clean --yes`"))
    }

    fn make(&mut self, due: Due) -> Result<()> {
        if self.options.dry_run {
            self.report.removals.push(due.removal);
            return Ok(());
        }
        self.check_clock()?;
        self.record(Some(&due.removal));
        match due.make() {
            Ok(outcome) => self.end(due.removal, outcome),
            Err(error) if error.kind() == ErrorKind::DiskFull => self.postponed.push((due, error)),
            Err(error) => self.end(due.removal, kept(&error)),
        }
        Ok(())
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
