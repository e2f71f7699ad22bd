//! The memory in use, and the health of the store.

use std::collections::BTreeMap;

use prodigy_storage_backend::{AreaUsage, Check, Health, Severity, Usage};
use prodigy_storage_layout::{DLQ, Document, EVENTS, LOCKS, ORPHANED, RepoName, STATE};

use crate::snapshot::may_write;
use crate::store::Store;

impl Store {
    /// The number of bytes of lines, bodies and keys, by area and repository. The memory of the structures around them
    /// is not included; it only reduces the free bytes.
    pub(crate) fn usage(&self) -> Usage {
        let mut areas: BTreeMap<(&'static str, Option<RepoName>), (u64, u64)> = BTreeMap::new();
        let mut add = |area: &'static str, repo: Option<RepoName>, files: u64, bytes: u64| {
            if files > 0 {
                let sum = areas.entry((area, repo)).or_default();
                sum.0 += files;
                sum.1 += bytes;
            }
        };
        for (address, job) in self.all_jobs() {
            let data = job.data.lock();
            let log = data.log.summary();
            add(EVENTS, Some(address.repo.clone()), log.segments, log.bytes);
            for (document, kept) in data.documents.iter() {
                let area = match document {
                    Document::Orphans(_) => ORPHANED,
                    _ => STATE,
                };
                add(area, Some(address.repo.clone()), 1, kept.body.len() as u64);
            }
            add(
                DLQ,
                Some(address.repo.clone()),
                u64::from(!data.queue.is_empty()),
                data.queue.bytes(),
            );
        }
        for (document, kept) in self.registry.lock().iter() {
            add(STATE, Some(document.repo().clone()), 1, kept.body.len() as u64);
        }
        for lock in self.locks.list() {
            add(LOCKS, None, 1, lock.name.as_str().len() as u64);
        }
        Usage {
            areas: areas
                .into_iter()
                .map(|((area, repo), (files, bytes))| AreaUsage {
                    area: area.to_owned(),
                    repo,
                    files,
                    bytes,
                })
                .collect(),
            free: Some(self.budget.free()),
            capacity: Some(self.budget.max()),
            ..Usage::default()
        }
    }

    pub(crate) fn health(&self) -> Health {
        let (used, max) = (self.budget.used(), self.budget.max());
        let found = format!("{used} of {max} bytes");
        let raise = format!(
            "export PRODIGY__STORAGE__BACKEND_CONFIG__MAX_MEMORY={}",
            max.saturating_mul(2)
        );
        let memory = if used >= max {
            Check::new("memory", Severity::Failure, found)
                .with_hint("raise `max_memory`, or remove checkpoints or items")
                .with_command(raise)
        } else if used > max / 10 * 9 {
            Check::new("memory", Severity::Warning, found)
                .with_hint("raise `max_memory` before writes are refused")
                .with_command(raise)
        } else {
            Check::new("memory", Severity::Ok, found)
        };
        let persistence = match &self.options.persistence {
            None => Check::new(
                "persistence",
                Severity::Ok,
                "none: the data is lost when the process ends",
            ),
            Some(path) => {
                let unsaved = *self.saved.lock() != Some(self.changes());
                let state = if unsaved {
                    "not saved since the last write"
                } else {
                    "saved"
                };
                match may_write(path) {
                    Ok(()) => Check::new(
                        "persistence",
                        Severity::Ok,
                        format!("{}: {state}", path.display()),
                    ),
                    Err(error) => Check::new(
                        "persistence",
                        Severity::Failure,
                        format!("{}: no snapshot can be written there: {error}", path.display()),
                    )
                    .with_hint(
                        "check owner and permissions of its folder, or set another `persistence_path`",
                    ),
                }
            }
        };
        let mut checks = vec![memory, persistence];
        if let Some(max) = self.options.max_queue_size {
            let jobs = self.all_jobs().into_iter();
            let sizes = jobs.map(|(address, job)| (address, job.data.lock().queue.bytes()));
            checks.push(Check::queues(sizes.filter(|(_, bytes)| *bytes > 0), max));
        }
        Health { checks }
    }
}
