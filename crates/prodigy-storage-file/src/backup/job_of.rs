//! The job that a file of a root belongs to.

use std::path::{Component, Path};

use prodigy_storage_layout::{
    DELETIONS, DLQ, Document, EVENTS, Entry, IMPORTED, JobAddress, JobId, LOCKS, MOVED, ORPHANED, QUARANTINE,
    RepoName, STATE,
};

use crate::fs::TEMP_PREFIX;

/// The job that a file belongs to, also for files of other programs. Lock files and tombstones belong to no job.
pub(super) fn job_of(path: &Path) -> Option<JobAddress> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    let (repo, job) = match parts.as_slice() {
        [EVENTS | DLQ, repo, job, _, ..] | [STATE, repo, "mapreduce", "jobs", job, _, ..] => (*repo, *job),
        [ORPHANED, repo, file] => (*repo, file.strip_suffix(".json")?),
        _ => return None,
    };
    Some(JobAddress::new(RepoName::new(repo).ok()?, JobId::new(job).ok()?))
}

/// True for the fencing marks of a job. They are not a part of the job: they outlive its deletion.
pub(super) fn is_fencing(path: &Path) -> bool {
    matches!(Entry::parse(path), Some(Entry::Document(Document::Fencing(_))))
}

/// True if an archive may hold a file with this path.
pub(super) fn may_be_archived(path: &Path) -> bool {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_str().unwrap_or_default()),
            _ => return false,
        }
    }
    let is_name = |name: &&str| !name.is_empty() && !name.starts_with(TEMP_PREFIX);
    if !names.iter().all(is_name) {
        return false;
    }
    match names.as_slice() {
        [LOCKS, ..] => matches!(Entry::parse(path), Some(Entry::Lock(_))),
        [MOVED, ..] => matches!(Entry::parse(path), Some(Entry::Moved(_))),
        [DELETIONS, ..] => matches!(Entry::parse(path), Some(Entry::DeletedLogs(_))),
        [EVENTS | DLQ | STATE | ORPHANED | IMPORTED | QUARANTINE, _, ..] => {
            !matches!(Entry::parse(path), Some(Entry::QueueLock(_)))
        }
        _ => *path == Entry::Format.path(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_its_job() {
        let of = |path: &str| job_of(Path::new(path)).map(|job| job.to_string());
        let job = Some("shop/job-7".to_owned());
        for path in [
            "events/shop/job-7/events-1.jsonl",
            "dlq/shop/job-7/mapreduce/items/a.json",
            "state/shop/mapreduce/jobs/job-7/documents/kind/name.json",
            "orphaned_worktrees/shop/job-7.json",
        ] {
            assert_eq!(of(path), job, "{path}");
        }
        for path in [
            "state/shop/repository.json",
            "locks/2/shop/job-7.lock",
            "format.json",
            "events/shop/x",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn an_archive_holds_files_below_the_folders_of_a_root_alone() {
        for path in [
            "format.json",
            "events/shop/j/x",
            "locks/1/a.lock",
            "deletions/shop.json",
            "quarantine/x",
        ] {
            assert!(may_be_archived(Path::new(path)), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "events/../x",
            "events",
            "events/shop/j/.tmp-1",
            "worktrees/shop/session-1/x",
            "locks/registry.lock",
            "dlq/shop/j/items.lock",
            "deletions/shop/j.json",
            "other",
        ] {
            assert!(!may_be_archived(Path::new(path)), "{path}");
        }
    }
}
