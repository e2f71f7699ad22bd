//! The plan of a copy.

use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_config::BackendKind;
use prodigy_storage_layout::{JobId, Part, RepoName};

use super::job::letters;
use super::{COPY, CopyReport, place, same};
use crate::builder::StorageBuilder;
use crate::job::{Job, JobOverview, JobState};
use crate::storage::Storage;

/// Finds the jobs that a copy would copy, and those that it would certainly refuse. Nothing is written.
pub(super) fn plan(
    source: &Storage,
    target: StorageBuilder,
    whole: &Part,
    only: Option<&JobId>,
    keep_source: bool,
) -> Result<CopyReport> {
    let place = place_of(source, target)?;
    if !keep_source {
        same::refuse_moved(source, whole, &place)?;
    }
    let repos = match whole.repo() {
        Some(repo) => vec![repo.clone()],
        None => source.repositories().all()?,
    };
    let mut report = CopyReport::default();
    for name in repos.iter().filter(|name| name.as_str() != RepoName::AUDIT) {
        let repo = source.repo(name)?;
        for id in repo.jobs() {
            let id = id?;
            if only.is_some_and(|only| id != *only) {
                continue;
            }
            let job = repo.job(&id)?;
            let looked = job.overview().and_then(|job| {
                refused(source, &job, &place, keep_source)?;
                Ok(job)
            });
            match looked {
                Ok(job) => report.planned.push(job),
                Err(error) => report.refused.push((job.address().clone(), error)),
            }
        }
    }
    Ok(report)
}

/// The place of the target. A folder is opened for reading, so that nothing is made there; a database may not have its
/// tables yet, and is not opened.
fn place_of(source: &Storage, target: StorageBuilder) -> Result<String> {
    if let Some(config) = target.configured()?
        && config.backend == BackendKind::Postgres
    {
        return Ok(config.postgres.shown());
    }
    let target = target.read_only(true).open()?;
    same::refuse_inside(source, &target)?;
    same::refuse_folder_of_others(&target)?;
    Ok(place(&target))
}

fn refused(source: &Storage, job: &JobOverview, place: &str, keep_source: bool) -> Result<()> {
    let busy = |why: String| {
        Err(StorageError::new(
            ErrorKind::LockUnavailable,
            COPY,
            &job.address,
            why,
        ))
    };
    if job.status.state == JobState::Active {
        return busy(Job::new(Arc::clone(source.inner()), job.address.clone()).why_active()?);
    }
    if job.letters.leased > 0 {
        // Fails with the name of the dead letter.
        letters(source, &job.address)?;
    }
    match keep_source {
        true => Ok(()),
        false => same::refuse_moved(source, &Part::Job(job.address.clone()), place),
    }
}
