//! Surveys: one statement counts the data of many jobs.

use prodigy_storage_backend::{
    Activity, DocumentCount, JobFacts, JobSurvey, Page, Result, Revision, StoredDocument,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::catalog::{HOLDS, LAST_WRITE, WRITERS, for_job, held_locks, lock_of, refused_name};
use crate::document::{FINISHED, OWN};
use crate::sql::{Sql, column, rows};
use crate::{log, queue};

/// The largest number of jobs on a page of a survey. Counting a job reads all of its events.
pub(crate) const PAGE: usize = 200;

/// The statements for a page of a survey: one selects the held locks of the repository, and the other the jobs.
pub(crate) fn statements(repo: &RepoName, after: Option<&JobId>, limit: usize) -> Vec<Sql> {
    let (size, counts) = (for_job(log::SIZE, "j.id"), for_job(queue::COUNTS, "j.id"));
    let (writers, last) = (for_job(WRITERS, "j.id"), for_job(LAST_WRITE, "j.id"));
    let text = format!(
        "select j.name, ({writers}), ({last}), f.body, f.revision, l.*, q.*, d.* \
         from (select id, name from @.job j where repo = $1 and not deleted and ($2::text is null or name > $2) and {HOLDS} \
           order by name limit {}) j \
         left join @.document f on f.job = j.id and f.repo = $1 and f.kind = {FINISHED} \
         cross join lateral ({size}) l cross join lateral ({counts}) q \
         cross join lateral (select count(*) filter (where series is not null), \
             coalesce(sum(octet_length(body)) filter (where series is not null), 0)::bigint, \
             count(*) filter (where kind = {OWN}), coalesce(sum(octet_length(body)) filter (where kind = {OWN}), 0)::bigint \
           from @.document d where d.job = j.id) d \
         order by j.name",
        limit + 1
    );
    let jobs = Sql::new(text)
        .arg(repo.as_str().to_owned())
        .arg(after.map(|after| after.as_str().to_owned()));
    vec![held_locks(repo), jobs]
}

/// Makes the page from the answers to these statements.
pub(crate) fn page(repo: &RepoName, answers: &[Vec<Row>], limit: usize) -> Result<Page<JobSurvey, JobId>> {
    let locks = rows(answers, 0);
    let entries = rows(answers, 1).iter().map(|row| {
        let name: &str = column(row, 0)?;
        let job = JobId::new(name).map_err(|error| refused_name(name, error))?;
        let facts = facts(row, &JobAddress::new(repo.clone(), job.clone()), locks);
        Ok(JobSurvey::new(job, facts))
    });
    let entries = entries.collect::<Result<_>>()?;
    Ok(Page::up_to(limit, entries, |last: &JobSurvey| last.job.clone()))
}

fn facts(row: &Row, job: &JobAddress, locks: &[Row]) -> Result<JobFacts> {
    let is_active = column(row, 1)? || lock_of(job, locks)?.is_some();
    let last: Option<i64> = column(row, 2)?;
    let finished = column::<Option<Vec<u8>>>(row, 3)?.zip(column::<Option<Uuid>>(row, 4)?);
    let count = |at| -> Result<DocumentCount> {
        let mut counted = DocumentCount::default();
        counted.count = column::<i64>(row, at)?.unsigned_abs();
        counted.bytes = column::<i64>(row, at + 1)?.unsigned_abs();
        Ok(counted)
    };
    Ok(JobFacts {
        activity: Activity::new(is_active, last.map(Timestamp::from_nanos)),
        finished: finished.map(|(body, revision)| {
            StoredDocument::new(body, 0, Revision::from_u128(revision.as_u128()), true)
        }),
        damage: None,
        log: log::summary(row, 5)?,
        queue: queue::summary(row, 8)?,
        checkpoints: count(14)?,
        documents: count(16)?,
    })
}
