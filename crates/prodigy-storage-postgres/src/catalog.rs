//! The listings of the store, and its maintenance.

use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::{
    Activity, Appended, AreaUsage, Capabilities, Catalog, Check, Deadline, Durability, ErrorKind, Fence,
    Health, JobSurvey, LockInfo, Moved, Page, PageOptions, Result, Severity, Stats, StorageError,
    UnfinishedDeletion, Usage,
};
use prodigy_storage_layout::{
    DLQ, EVENTS, JobAddress, JobId, LOCKS, LockName, Part, RepoName, STATE, Timestamp,
};
use tokio_postgres::Row;

use crate::backend::PostgresBackend;
use crate::document::FINISHED;
use crate::job::{self, JOB, Locked, of_job};
use crate::lease::LEASE_SECONDS;
use crate::lock::{self, IS_HELD, select_locks};
use crate::schema;
use crate::session::Session;
use crate::sql::{Sql, column, first, rows};
use crate::survey;

const DELETE: &str = "delete job";
/// When a job is deleted, the number of rows that one transaction removes.
const STEP: i64 = 2_000;

/// A condition: the job `j` has an event, a document or an item. `offset 0` makes the server look up each job by
/// itself, and the order makes it use the index. Otherwise, if one job has nearly all rows, the server would read
/// the whole table, since it expects to find a row soon.
pub(crate) const HOLDS: &str = "(exists (select from @.event e where e.job = j.id order by e.writer offset 0) \
                     or exists (select from @.document d where d.job = j.id order by d.key offset 0) \
                     or exists (select from @.item i where i.job = j.id order by i.birth offset 0))";

#[derive(Debug, Default)]
pub(crate) struct Counters {
    appends: AtomicU64,
    events: AtomicU64,
    duplicates: AtomicU64,
    documents: AtomicU64,
    items: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self, appended: &Appended) {
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(appended.stored as u64, Ordering::Relaxed);
        self.duplicates
            .fetch_add(appended.duplicates as u64, Ordering::Relaxed);
    }

    pub(crate) fn documents(&self) {
        self.documents.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn items(&self, count: usize) {
        self.items.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Makes all earlier commits survive power loss: a strict commit waits until the server's write-ahead log is
/// stored up to its own record. The transaction writes a message, since a transaction without a write does not
/// wait.
pub(crate) async fn flush(session: &mut Session) -> Result<()> {
    let message = Sql::new("select pg_logical_emit_message(true, 'prodigy', '')::text");
    session.write(Durability::Strict, vec![message]).await.map(drop)
}

/// A page of a listing. The query asked for one row more than `limit`, which shows whether another page follows.
fn page<T: Clone>(rows: &[Row], limit: usize, name: impl Fn(&str) -> Result<T>) -> Result<Page<T>> {
    let entries = rows
        .iter()
        .map(|row| name(column(row, 0)?))
        .collect::<Result<_>>()?;
    Ok(Page::up_to(limit, entries, T::clone))
}

pub(crate) fn refused_name(name: &str, error: prodigy_storage_layout::NameError) -> StorageError {
    StorageError::new(
        ErrorKind::Damaged,
        "list names",
        name,
        "a row has a name that is refused",
    )
    .with_source(error)
}

fn repo(name: &str) -> Result<RepoName> {
    RepoName::new(name).map_err(|error| refused_name(name, error))
}

/// Removes the rows of deleted jobs, or of one of them, in small transactions. Returns false if there were none.
async fn sweep(session: &mut Session, only: Option<&JobAddress>) -> Result<bool> {
    let mut any = false;
    loop {
        let found = match only {
            None => Sql::new("select id from @.job where deleted order by id limit 1"),
            Some(job) => {
                Sql::new("select id from @.job where deleted and repo = $1 and name = $2 order by id limit 1")
                    .arg(job.repo.as_str().to_owned())
                    .arg(job.job.as_str().to_owned())
            }
        };
        let Some(id) = first::<i64>(rows(&session.read(vec![found]).await?, 0), 0)? else {
            return Ok(any);
        };
        any = true;
        for (table, key) in [
            ("event", "writer, number"),
            ("document", "key"),
            ("item", "birth"),
            ("writer", "ordinal"),
        ] {
            loop {
                let text = format!(
                    "with gone as (delete from @.{table} where job = $1 and ({key}) in \
                     (select {key} from @.{table} where job = $1 limit {STEP}) returning 1) select count(*) from gone"
                );
                let answers = session
                    .write(Durability::Relaxed, vec![Sql::new(text).arg(id)])
                    .await?;
                if first::<i64>(rows(&answers, 0), 0)?.unwrap_or_default() < STEP {
                    break;
                }
            }
        }
        let row = Sql::new("delete from @.job where id = $1 and deleted").arg(id);
        session.write(Durability::Relaxed, vec![row]).await?;
    }
}

/// Selects the held locks whose names begin with the name of a repository.
pub(crate) fn held_locks(repo: &RepoName) -> Sql {
    let text = format!(
        "{} where {IS_HELD} and (name = $1 or starts_with(name, $1 || '/'))",
        select_locks()
    );
    Sql::new(text).arg(repo.as_str().to_owned())
}

/// The first of these locks that belongs to the job.
pub(crate) fn lock_of(job: &JobAddress, locks: &[Row]) -> Result<Option<LockInfo>> {
    for row in locks {
        if LockName::new(column::<&str>(row, 0)?).is_ok_and(|name| job.owns(&name)) {
            return lock::info(row).map(Some);
        }
    }
    Ok(None)
}

/// Describes a process that works on a job, from the answers to the statements of [`look_for_work`].
fn worker(job: &JobAddress, answers: &[Vec<Row>]) -> Result<Option<String>> {
    if let Some(lock) = lock_of(job, rows(answers, 1))? {
        return Ok(Some(lock.held_by()));
    }
    let is_open = first(rows(answers, 0), 0)? == Some(true);
    Ok(is_open.then(|| "a process that the database does not name has its log open for writing".to_owned()))
}

/// Selects whether a job has a writer whose lease has not ended.
pub(crate) const WRITERS: &str = "select exists (select from @.writer w where w.job = {job} and not w.closed \
     and w.expires > clock_timestamp() offset 0)";

/// Selects the time of the last write to a job. The document that marks the job as finished does not count.
pub(crate) const LAST_WRITE: &str = "select greatest((select max(time) from (select (select e.time from @.event e where e.job = w.job \
       and e.writer = w.ordinal order by e.number desc limit 1) as time from @.writer w where w.job = {job}) t), \
     (select max(modified) from @.document where job = {job} and kind <> {finished}), \
     (select max(modified) from @.item where job = {job}))";

/// A statement about a job, from a fragment for any job. The first two parameters name the job.
pub(crate) fn of_this(fragment: &str, job: &JobAddress) -> Sql {
    of_job(for_job(fragment, JOB), job)
}

/// A fragment, with the expression `id` for the id of the job.
pub(crate) fn for_job(fragment: &str, id: &str) -> String {
    fragment
        .replace("{job}", id)
        .replace("{finished}", &FINISHED.to_string())
}

/// The statements that find out whether a process works on a job. [`come_to_rest`] evaluates their answers.
pub(crate) fn look_for_work(job: &JobAddress) -> Vec<Sql> {
    vec![of_this(WRITERS, job), held_locks(&job.repo)]
}

/// Fails if a process works on the job: `locked` has the answers to the statements of [`look_for_work`]. Otherwise
/// closes the writers of the job, and returns the time of its last write.
pub(crate) async fn come_to_rest(
    session: &mut Session,
    job: &JobAddress,
    locked: &Locked,
) -> Result<Option<Timestamp>> {
    let Some(by) = worker(job, &locked.answers)? else {
        // A writer whose lease has ended may still be in a transaction that stores events. Closing its row waits
        // for the end of that transaction.
        let close =
            Sql::new("update @.writer set closed = true where job = $1 and not closed").arg(locked.job);
        let answers = session.more(vec![close, of_this(LAST_WRITE, job)]).await?;
        let written: Option<i64> = first(rows(&answers, 1), 0)?;
        return Ok(written.map(Timestamp::from_nanos));
    };
    session.roll_back().await?;
    Err(StorageError::new(
        ErrorKind::LockUnavailable,
        session.operation,
        job,
        format!("the job is active: {by}"),
    )
    .with_hint(format!(
        "end the process, or let it finish the job; then try again. What a process that died held is free {LEASE_SECONDS} \
         seconds later at the latest"
    )))
}

/// Deletes a job, unless it was written to after `last`.
async fn delete(
    session: &mut Session,
    job: &JobAddress,
    fence: Option<&Fence>,
    last: Option<Timestamp>,
) -> Result<bool> {
    let holds = format!("select {HOLDS} from @.job j where j.id = {JOB}");
    let mut look = look_for_work(job);
    look.push(of_job(holds, job));
    let Some(locked) = job::begin_any(session, job, fence, Durability::Strict, look).await? else {
        return Ok(false);
    };
    if first(rows(&locked.answers, 2), 0)? != Some(true) {
        session.roll_back().await?;
        return Ok(false);
    }
    let written = come_to_rest(session, job, &locked).await?;
    if last.is_some_and(|last| written.is_some_and(|written| written > last)) {
        session.roll_back().await?;
        return Ok(false);
    }
    let remove = Sql::new("update @.job set deleted = true where id = $1").arg(locked.job);
    locked.finish(session, [remove]).await?;
    Ok(true)
}

/// Selects a page of the jobs whose rows a deletion left, with the size of these rows.
fn unfinished(page: &PageOptions<JobAddress>, limit: usize) -> Sql {
    let bytes = |table: &str, column: &str| {
        format!("coalesce((select sum(octet_length(t.{column})) from @.{table} t where t.job = j.id), 0)")
    };
    let text = format!(
        "select repo, name, sum({} + {} + {})::bigint from @.job j where deleted \
         and ($1::text is null or (repo, name) > ($1, $2)) group by repo, name order by repo, name limit {}",
        bytes("event", "line"),
        bytes("document", "body"),
        bytes("item", "body"),
        limit + 1
    );
    let after = page.after.as_ref();
    let (repo, name) = after
        .map(|job| (job.repo.as_str().to_owned(), job.job.as_str().to_owned()))
        .unzip();
    Sql::new(text).arg(repo).arg(name)
}

fn address(repo_name: &str, name: &str) -> Result<JobAddress> {
    let job = JobId::new(name).map_err(|error| refused_name(name, error))?;
    Ok(JobAddress::new(repo(repo_name)?, job))
}

impl PostgresBackend {
    fn delete(
        &self,
        job: &JobAddress,
        fence: Option<&Fence>,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<bool> {
        let (of, fence) = (job.clone(), fence.cloned());
        let deleted = self
            .db()
            .call(DELETE, job, deadline, move |mut session| async move {
                delete(&mut session, &of, fence.as_ref(), last).await
            })?;
        self.announce(job);
        // The row of the job is marked as deleted. Its other rows, and those of other deleted jobs, are removed
        // now or by a later call.
        let swept = self.db().call(DELETE, job, deadline, |mut session| async move {
            sweep(&mut session, None).await
        });
        if let Err(error) = swept {
            tracing::warn!(%job, error = &error as &dyn std::error::Error, "rows of deleted jobs are left for the next deletion or clean");
        }
        Ok(deleted)
    }
}

impl Catalog for PostgresBackend {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("postgres");
        capabilities.persistent = true;
        capabilities.multi_process = true;
        capabilities
    }

    fn repositories(&self, options: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>> {
        let limit = options.limit.clamp(1, 1 << 30);
        // Looks up each next name in the index, so the cost does not depend on the number of jobs.
        let next = |after: &str| {
            format!("select repo from @.job where not deleted and repo > {after} order by repo limit 1")
        };
        let text = format!(
            "with recursive n as (({}) union all select l.repo from n cross join lateral ({}) l) \
             select repo from (select repo from n where exists \
               (select from @.job j where j.repo = n.repo and not deleted and {HOLDS} offset 0) \
             union select distinct repo from @.document where job = 0 and repo > coalesce($1, '')) r order by repo limit {}",
            next("coalesce($1::text, '')"),
            next("n.repo"),
            limit + 1
        );
        let sql = Sql::new(text).arg(options.after.as_ref().map(|after| after.as_str().to_owned()));
        self.db().call(
            "list repositories",
            &"",
            deadline,
            move |mut session| async move { page(rows(&session.read(vec![sql]).await?, 0), limit, repo) },
        )
    }

    fn jobs(&self, repo: &RepoName, options: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>> {
        let limit = options.limit.clamp(1, 1 << 30);
        let text = format!(
            "select name from @.job j where repo = $1 and not deleted and ($2::text is null or name > $2) and {HOLDS} \
             order by name limit {}",
            limit + 1
        );
        let after = options.after.as_ref().map(|after| after.as_str().to_owned());
        let sql = Sql::new(text).arg(repo.as_str().to_owned()).arg(after);
        self.db()
            .call("list jobs", repo, deadline, move |mut session| async move {
                page(rows(&session.read(vec![sql]).await?, 0), limit, |name| {
                    JobId::new(name).map_err(|error| refused_name(name, error))
                })
            })
    }

    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        let writers = format!(
            "select exists (select from @.job j where repo = $1 and not deleted and ({}) offset 0)",
            for_job(WRITERS, "j.id")
        );
        let statements = vec![Sql::new(writers).arg(repo.as_str().to_owned()), held_locks(repo)];
        self.db().call(
            "find active jobs",
            repo,
            deadline,
            move |mut session| async move {
                let answers = session.read(statements).await?;
                Ok(first(rows(&answers, 0), 0)? == Some(true) || !rows(&answers, 1).is_empty())
            },
        )
    }

    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity> {
        let statements = vec![
            of_this(WRITERS, job),
            held_locks(&job.repo),
            of_this(LAST_WRITE, job),
        ];
        let of = job.clone();
        self.db()
            .call("find activity", job, deadline, move |mut session| async move {
                let answers = session.read(statements).await?;
                let by = worker(&of, &answers)?;
                let last: Option<i64> = first(rows(&answers, 2), 0)?;
                Ok(Activity::new(by.is_some(), last.map(Timestamp::from_nanos)).by(by))
            })
    }

    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        let (limit, of) = (page.limit.clamp(1, survey::PAGE), repo.clone());
        let statements = survey::statements(repo, page.after.as_ref(), limit);
        self.db()
            .call("survey jobs", repo, deadline, move |mut session| async move {
                survey::page(&of, &session.read(statements).await?, limit)
            })
    }

    fn delete_job(&self, job: &JobAddress, fence: Option<&Fence>, deadline: Deadline) -> Result<bool> {
        self.delete(job, fence, None, deadline)
    }

    fn delete_old_job(
        &self,
        job: &JobAddress,
        last: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.delete(job, fence, Some(last), deadline)
    }

    fn unfinished_deletions(
        &self,
        page: &PageOptions<JobAddress>,
        deadline: Deadline,
    ) -> Result<Page<UnfinishedDeletion, JobAddress>> {
        let limit = page.limit.clamp(1, 1 << 30);
        let sql = unfinished(page, limit);
        self.db()
            .call("find deletions", &"", deadline, move |mut session| async move {
                let answers = session.read(vec![sql]).await?;
                let left = |row: &Row| {
                    let job = address(column(row, 0)?, column(row, 1)?)?;
                    Ok(UnfinishedDeletion::new(
                        job,
                        column::<i64>(row, 2)?.unsigned_abs(),
                    ))
                };
                let entries = rows(&answers, 0).iter().map(left).collect::<Result<_>>()?;
                Ok(Page::up_to(limit, entries, |last: &UnfinishedDeletion| {
                    last.job.clone()
                }))
            })
    }

    fn finish_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        let of = job.clone();
        self.db()
            .call("finish deletion", job, deadline, move |mut session| async move {
                sweep(&mut session, Some(&of)).await
            })
    }

    fn mark_moved(&self, moved: &Moved, last: Option<Timestamp>, deadline: Deadline) -> Result<()> {
        self.mark(moved, last, deadline)
    }

    fn unmark_moved(&self, part: &Part, deadline: Deadline) -> Result<u64> {
        self.unmark(part, deadline)
    }

    fn moved(&self, part: &Part, page: &PageOptions<Part>, deadline: Deadline) -> Result<Page<Moved, Part>> {
        self.marks(part, page, deadline)
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.db().call("flush", &"", deadline, |mut session| async move {
            flush(&mut session).await
        })
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        let is_for_reading = self.options().url.contains("target_session_attrs=read-only");
        self.db().call("check health", &"", deadline, move |mut session| async move {
            let settings = Sql::new(
                "select current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'), \
                   current_setting('server_encoding'), current_setting('default_transaction_read_only'), pg_is_in_recovery()",
            );
            let answers = session.read(vec![settings]).await?;
            let setting = |at| first::<String>(rows(&answers, 0), at).map(Option::unwrap_or_default);
            let schema = schema::state(&mut session).await?;
            let mut health = health(&setting(0)?, &setting(1)?, &setting(2)?, schema.found);
            let is_standby = first(rows(&answers, 0), 5)? == Some(true);
            health.checks.extend(takes_no_writes(is_standby, &setting(4)?).filter(|_| !is_for_reading));
            health.checks.extend(encoding(&setting(3)?));
            if schema.found != schema::VERSION {
                return Ok(health);
            }
            let left = Sql::new("select count(*) over (), repo, name from @.job where deleted order by id limit 1");
            if let Some(row) = rows(&session.read(vec![left]).await?, 0).first() {
                let jobs: i64 = column(row, 0)?;
                let first = address(column(row, 1)?, column(row, 2)?)?;
                health
                    .checks
                    .extend(Check::unfinished_deletions(jobs.unsigned_abs(), Some(&first)));
            }
            Ok(health)
        })
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        let of_job = |table: &str, column: &str| {
            Sql::new(format!(
                "select j.repo, count(*), sum(octet_length(t.{column}))::bigint from @.{table} t join @.job j on j.id = t.job \
                 where j.id > 0 group by j.repo order by j.repo"
            ))
        };
        let statements = vec![
            of_job("event", "line"),
            Sql::new(
                "select d.repo, count(*), sum(octet_length(d.body))::bigint from @.document d group by d.repo order by d.repo",
            ),
            of_job("item", "body"),
            Sql::new(
                "select null::text, count(*), sum(octet_length(name))::bigint from @.lock having count(*) > 0",
            ),
        ];
        self.db()
            .call("measure usage", &"", deadline, move |mut session| async move {
                let answers = session.read(statements).await?;
                let mut usage = Usage::default();
                for (area, rows) in [EVENTS, STATE, DLQ, LOCKS].into_iter().zip(&answers) {
                    for row in rows {
                        let name: Option<&str> = column(row, 0)?;
                        let (files, bytes): (i64, Option<i64>) = (column(row, 1)?, column(row, 2)?);
                        usage.areas.push(AreaUsage {
                            area: area.to_owned(),
                            repo: name.map(repo).transpose()?,
                            files: files.unsigned_abs(),
                            bytes: bytes.unwrap_or_default().unsigned_abs(),
                        });
                    }
                }
                Ok(usage)
            })
    }

    fn stats(&self, stats: &mut Stats) {
        let counters = self.counters();
        for (name, counter) in [
            ("log.appends", &counters.appends),
            ("log.events", &counters.events),
            ("log.duplicates", &counters.duplicates),
            ("document.writes", &counters.documents),
            ("queue.items", &counters.items),
        ] {
            stats.add(name, counter.load(Ordering::Relaxed));
        }
    }
}

/// The finding about a server that takes no writes.
fn takes_no_writes(is_standby: bool, read_only: &str) -> Option<Check> {
    let failed = |found, hint| Check::new("writes", Severity::Failure, found).with_hint(hint);
    match (is_standby, read_only) {
        (true, _) => Some(failed(
            "the server is a standby, which takes no writes",
            "name the primary in the connection string, or all servers, of which the one that takes writes is used; for reading from a standby \
             alone, write `target_session_attrs=read-only`",
        )),
        (false, "on") => Some(failed(
            "the server takes no writes from this role: `default_transaction_read_only` is on",
            "run `alter database NAME reset default_transaction_read_only`, or the same for the role or the server",
        )),
        (false, _) => None,
    }
}

/// The finding about a database that can't store every name.
fn encoding(encoding: &str) -> Option<Check> {
    // A database without an encoding stores all bytes as they are.
    if matches!(encoding, "UTF8" | "SQL_ASCII") {
        return None;
    }
    let found = format!("the database has the encoding {encoding}, and refuses names with other characters");
    let hint =
        "create a database with `encoding 'UTF8' template template0`, and move the store there by `copy`";
    Some(Check::new("encoding", Severity::Warning, found).with_hint(hint))
}

fn health(version: &str, fsync: &str, full_page_writes: &str, schema: i64) -> Health {
    let mut checks = vec![Check::new(
        "server",
        Severity::Ok,
        format!("PostgreSQL {version}"),
    )];
    checks.push(if fsync == "on" && full_page_writes == "on" {
        Check::new("durability", Severity::Ok, "the server syncs its log")
    } else {
        let found = format!(
            "fsync = {fsync}, full_page_writes = {full_page_writes}: a power loss may destroy the database"
        );
        Check::new("durability", Severity::Failure, found).with_hint(
            "run `alter system set fsync = on` and `alter system set full_page_writes = on` as the superuser of the server, and reload it",
        )
    });
    checks.push(if schema == schema::VERSION {
        Check::new("schema", Severity::Ok, format!("version {schema}"))
    } else {
        Check::new(
            "schema",
            Severity::Failure,
            format!("version {schema}, and this program needs {}", schema::VERSION),
        )
        .with_command("prodigy-storage schema migrate")
    });
    Health { checks }
}
