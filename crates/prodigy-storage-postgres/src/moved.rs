//! Marks on the parts of a store that were moved to another store.
//!
//! A row of the table `moved` is a mark. The row of each job that the mark covers says so too, because a write
//! reads that row in any case. To mark a job, its row is locked and its writers are closed; to mark a repository
//! or the store, the table of jobs is locked. In both cases the table of items is locked too, since an
//! acknowledgement locks nothing else. So no write is between its check for a mark and its commit when a mark is
//! made.

use prodigy_storage_backend::{
    Deadline, Durability, ErrorKind, Moved, Page, PageOptions, Result, StorageError,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, Part, RepoName, Timestamp};
use tokio_postgres::Row;

use crate::backend::PostgresBackend;
use crate::catalog::{HOLDS, come_to_rest, look_for_work, refused_name};
use crate::job;
use crate::session::Session;
use crate::sql::{Sql, column, first, rows};

/// The repository of the audit log, which is not covered by a mark on the whole store.
const AUDIT: &str = RepoName::AUDIT;
const MARK: &str = "mark as moved";
const UNMARK: &str = "take marks away";
const LIST: &str = "look for marks";

/// An SQL condition: a mark covers the job with this repository and name, or the repository itself if the name is
/// empty. A mark on the whole store does not cover the audit log.
pub(crate) fn is_covered(repo: &str, name: &str) -> String {
    format!(
        "exists (select from @.moved m where (m.repo = {repo} or m.repo = '' and {repo} <> '{AUDIT}') and m.name in ('', {name}))"
    )
}

/// A part as the columns `repo` and `name` of a mark. Empty text means all.
fn names(part: &Part) -> (String, String) {
    let repo = part.repo().map(|repo| repo.as_str().to_owned());
    let job = part.job().map(|job| job.as_str().to_owned());
    (repo.unwrap_or_default(), job.unwrap_or_default())
}

fn of(text: impl Into<std::borrow::Cow<'static, str>>, part: &Part) -> Sql {
    let (repo, name) = names(part);
    Sql::new(text).arg(repo).arg(name)
}

/// The part that a document belongs to.
pub(crate) fn part_of(document: &Document) -> Part {
    match document.job() {
        Some(job) => Part::Job(job.clone()),
        None => Part::Repository(document.repo().clone()),
    }
}

/// Selects the mark that covers a part. If there are several, the one on the largest part.
pub(crate) fn covering(part: &Part) -> Sql {
    let text = format!(
        "select repo, name, target, moved_at from @.moved where (repo = $1 or repo = '' and $1 <> '{AUDIT}') and name in ('', $2) \
         order by repo, name limit 1"
    );
    of(text, part)
}

/// The mark that a row of the table `moved` holds.
fn mark_in(row: &Row) -> Result<Moved> {
    let (repo, name): (&str, &str) = (column(row, 0)?, column(row, 1)?);
    let parsed = || {
        Ok(match (repo, name) {
            ("", _) => Part::Store,
            (repo, "") => Part::Repository(RepoName::new(repo)?),
            (repo, name) => Part::Job(JobAddress::new(RepoName::new(repo)?, JobId::new(name)?)),
        })
    };
    let part = parsed().map_err(|error| refused_name(&format!("{repo}/{name}"), error))?;
    let (to, at): (String, i64) = (column(row, 2)?, column(row, 3)?);
    Ok(Moved::new(part, to, Timestamp::from_nanos(at)))
}

/// The error for a write to a part, if a mark that covers the part was found.
pub(crate) fn refusal(session: &Session, found: &[Row]) -> Result<()> {
    match found.first() {
        Some(row) => Err(mark_in(row)?.refused(session.operation, &session.target)),
        None => Ok(()),
    }
}

/// Fails if a mark covers the part. The error names the new place.
pub(crate) async fn refuse(session: &mut Session, part: &Part) -> Result<()> {
    let answers = session.read(vec![covering(part)]).await?;
    refusal(session, rows(&answers, 0))
}

/// Stores a mark, unless the part has one already.
fn insert(moved: &Moved) -> Sql {
    let text = "insert into @.moved (repo, name, target, moved_at) values ($1, $2, $3, $4) on conflict (repo, name) do nothing";
    of(text, &moved.part)
        .arg(moved.to.clone())
        .arg(moved.at.as_nanos())
}

/// An SQL condition: the job `j` is within the part that the first two parameters name.
const WITHIN: &str = "($1 = '' or j.repo = $1) and ($2 = '' or j.name = $2) and j.id > 0";

/// Waits for all running writes to jobs, and keeps new ones from beginning until the end of the transaction.
fn stop_writes() -> Sql {
    Sql::new("lock table @.job, @.item in exclusive mode")
}

/// Waits for all running acknowledgements, and keeps new ones from beginning until the end of the transaction. An
/// acknowledgement locks its items and not the row of the job.
fn stop_acknowledgements() -> Sql {
    Sql::new("lock table @.item in exclusive mode")
}

async fn mark_job(
    session: &mut Session,
    moved: &Moved,
    job: &JobAddress,
    last: Option<Timestamp>,
) -> Result<()> {
    let mut look = look_for_work(job);
    look.push(stop_acknowledgements());
    let Some(locked) = job::begin_any(session, job, None, Durability::Strict, look).await? else {
        return Err(StorageError::new(
            ErrorKind::NotFound,
            MARK,
            job,
            "nothing is stored of it",
        ));
    };
    let written = come_to_rest(session, job, &locked).await?;
    if written > last {
        session.roll_back().await?;
        let why = "it was written to after it was copied";
        return Err(StorageError::new(ErrorKind::Conflict, MARK, job, why)
            .with_hint("end the process that writes to it, then copy again"));
    }
    let show = Sql::new("update @.job set moved = true where id = $1").arg(locked.job);
    locked.finish(session, [insert(moved), show]).await.map(drop)
}

/// Marks a repository or the store.
async fn mark_all(session: &mut Session, moved: &Moved) -> Result<()> {
    let part = &moved.part;
    let scope = format!("{WITHIN} and not j.moved and j.repo <> '{AUDIT}'");
    let close = format!(
        "update @.writer w set closed = true from @.job j where j.id = w.job and not w.closed and not j.deleted and {scope}"
    );
    let other =
        format!("select j.repo, j.name from @.job j where not j.deleted and {scope} and {HOLDS} limit 1");
    let statements = vec![stop_writes(), of(close, part), of(other, part)];
    let answers = session.begin(Durability::Strict, statements).await?;
    if let Some(row) = rows(&answers, 2).first() {
        let (repo, name): (&str, &str) = (column(row, 0)?, column(row, 1)?);
        let target = format!("{repo}/{name}");
        session.roll_back().await?;
        let why = "it was not copied, or begun after the copy";
        return Err(StorageError::new(ErrorKind::Conflict, MARK, target, why).with_hint("copy again"));
    }
    let show = format!("update @.job j set moved = true where {scope}");
    let statements = vec![insert(moved), of(show, part)];
    session.finish(statements).await.map(drop)
}

async fn unmark(session: &mut Session, part: &Part) -> Result<u64> {
    let remove = "with gone as (delete from @.moved where ($1 = '' or repo = $1) and ($2 = '' or name = $2) returning 1) select count(*) from gone";
    let show = format!(
        "update @.job j set moved = false where j.moved and {WITHIN} and not {}",
        is_covered("j.repo", "j.name")
    );
    let answers = session
        .write(
            Durability::Strict,
            vec![stop_writes(), of(remove, part), of(show, part)],
        )
        .await?;
    let removed: Option<i64> = first(rows(&answers, 1), 0)?;
    Ok(removed.unwrap_or_default().unsigned_abs())
}

/// Selects a page of the marks that concern a part.
fn list(part: &Part, page: &PageOptions<Part>, limit: usize) -> Sql {
    let text = format!(
        "select repo, name, target, moved_at from @.moved where ($1 = '' or repo in ('', $1)) and ($2 = '' or name in ('', $2)) \
         and ($3::text is null or (repo, name) > ($3, $4)) order by repo, name limit {}",
        limit + 1
    );
    let (repo, name) = page.after.as_ref().map(names).unzip();
    of(text, part).arg(repo).arg(name)
}

impl PostgresBackend {
    pub(crate) fn mark(&self, moved: &Moved, last: Option<Timestamp>, deadline: Deadline) -> Result<()> {
        let of = moved.clone();
        self.db()
            .call(MARK, &moved.part, deadline, move |mut session| async move {
                match &of.part {
                    Part::Job(job) => mark_job(&mut session, &of, job, last).await,
                    Part::Repository(_) | Part::Store => mark_all(&mut session, &of).await,
                }
            })
    }

    pub(crate) fn unmark(&self, part: &Part, deadline: Deadline) -> Result<u64> {
        let of = part.clone();
        self.db()
            .call(UNMARK, part, deadline, move |mut session| async move {
                unmark(&mut session, &of).await
            })
    }

    pub(crate) fn marks(
        &self,
        part: &Part,
        page: &PageOptions<Part>,
        deadline: Deadline,
    ) -> Result<Page<Moved, Part>> {
        let limit = page.limit.clamp(1, 1 << 30);
        let list = list(part, page, limit);
        self.db()
            .call(LIST, part, deadline, move |mut session| async move {
                let answers = session.read(vec![list]).await?;
                let entries = rows(&answers, 0).iter().map(mark_in).collect::<Result<_>>()?;
                Ok(Page::up_to(limit, entries, |last: &Moved| last.part.clone()))
            })
    }
}
