//! The row of a job, and transactions that lock it. Under the lock, fencing marks are checked and raised.

use prodigy_storage_backend::{Durability, ErrorKind, Fence, FenceMarks, Result, StorageError};
use prodigy_storage_layout::{JobAddress, Part};
use tokio_postgres::Row;

use crate::moved;
use crate::session::Session;
use crate::sql::{Sql, first, rows};

/// Selects the id of a job by its repository and id, `$1` and `$2`.
pub(crate) const JOB: &str = "(select id from @.job where repo = $1 and name = $2 and not deleted)";

/// Selects the id of a job like [`JOB`], but not if the job was moved to another store.
pub(crate) const OPEN_JOB: &str =
    "(select id from @.job where repo = $1 and name = $2 and not deleted and not moved)";

/// The number of times that a write is tried if its job is deleted meanwhile.
pub(crate) const TRIES: usize = 20;

/// A statement whose first two parameters name a job.
pub(crate) fn of_job(text: impl Into<std::borrow::Cow<'static, str>>, job: &JobAddress) -> Sql {
    Sql::new(text)
        .arg(job.repo.as_str().to_owned())
        .arg(job.job.as_str().to_owned())
}

/// Creates the row of a job, unless it exists.
pub(crate) fn make(job: &JobAddress) -> Sql {
    let text = format!(
        "insert into @.job (repo, name, moved) select $1, $2, {} on conflict (repo, name) where not deleted do nothing",
        moved::is_covered("$1", "$2")
    );
    of_job(text, job).frequent()
}

/// Locks the row of a job until the end of the transaction. Selects its id, and whether the job was moved to
/// another store.
pub(crate) fn lock(job: &JobAddress) -> Sql {
    of_job(
        "select id, moved from @.job where repo = $1 and name = $2 and not deleted for update",
        job,
    )
    .frequent()
}

pub(crate) fn deleted_meanwhile(session: &Session) -> StorageError {
    StorageError::new(
        ErrorKind::Deleted,
        session.operation,
        &session.target,
        "the job was deleted again and again while it was written to",
    )
    .transient()
}

/// The name of the token's lock in the table of fencing marks; empty for a token without the name of its lock.
pub(crate) fn lock_name(fence: &Fence) -> String {
    fence
        .lock()
        .map(|lock| lock.as_str().to_owned())
        .unwrap_or_default()
}

/// The number of the token in the type of its column.
pub(crate) fn token(operation: &'static str, fence: &Fence) -> Result<i64> {
    i64::try_from(fence.token())
        .map_err(|_| StorageError::invalid(operation, fence, "no lock of a database issues so large a token"))
}

/// Selects the mark of the token's lock: the greatest token under which the job was written to.
pub(crate) fn mark(job: &JobAddress, fence: &Fence) -> Sql {
    of_job(
        "select token from @.fence where repo = $1 and name = $2 and lock = $3",
        job,
    )
    .arg(lock_name(fence))
}

/// Sets the mark of the token's lock to the token, if the token is greater. Selects the mark. Its row is locked
/// until the end of the transaction.
pub(crate) fn raise(operation: &'static str, job: &JobAddress, fence: &Fence) -> Result<Sql> {
    let text = "insert into @.fence as f (repo, name, lock, token) values ($1, $2, $3, $4) \
                on conflict (repo, name, lock) do update set token = greatest(f.token, excluded.token) returning token";
    Ok(of_job(text, job)
        .arg(lock_name(fence))
        .arg(token(operation, fence)?))
}

/// Fails if the token is smaller than the mark.
pub(crate) fn check_mark(session: &Session, fence: &Fence, mark: Option<i64>) -> Result<()> {
    let mut marks = FenceMarks::default();
    if let Some(mark) = mark.and_then(|mark| u64::try_from(mark).ok()) {
        marks.raise(&Fence::stored(fence.lock().cloned(), mark)?);
    }
    marks.check(session.operation, &session.target, fence)
}

/// An open transaction that holds the lock of a job's row.
pub(crate) struct Locked {
    pub(crate) job: i64,
    is_moved: bool,
    /// The answers to the statements that were sent after the lock.
    pub(crate) answers: Vec<Vec<Row>>,
    /// The statement that raises the mark of the token's lock, if the write has a token.
    pub(crate) raise: Option<Sql>,
}

impl Locked {
    /// Raises the mark, runs the given statements, and commits.
    pub(crate) async fn finish(
        self,
        session: &mut Session,
        statements: impl IntoIterator<Item = Sql>,
    ) -> Result<Vec<Vec<Row>>> {
        session
            .finish(self.raise.into_iter().chain(statements).collect())
            .await
    }
}

/// Begins a transaction, creates the row of the job if it is missing, locks it, and checks the fencing token. Then
/// runs `statements`.
pub(crate) async fn begin(
    session: &mut Session,
    job: &JobAddress,
    fence: Option<&Fence>,
    durability: Durability,
    statements: impl Fn() -> Vec<Sql>,
) -> Result<Locked> {
    for _ in 0..TRIES {
        let locked = try_begin(session, job, true, fence, durability, statements()).await?;
        if let Some(locked) = unless_moved(session, job, locked).await? {
            return Ok(locked);
        }
    }
    Err(deleted_meanwhile(session))
}

/// Like [`begin`], but returns `None` if the job does not exist, instead of creating it.
pub(crate) async fn begin_existing(
    session: &mut Session,
    job: &JobAddress,
    fence: Option<&Fence>,
    durability: Durability,
    statements: Vec<Sql>,
) -> Result<Option<Locked>> {
    let locked = begin_any(session, job, fence, durability, statements).await?;
    unless_moved(session, job, locked).await
}

/// Like [`begin_existing`], but does not fail for a job that was moved to another store.
pub(crate) async fn begin_any(
    session: &mut Session,
    job: &JobAddress,
    fence: Option<&Fence>,
    durability: Durability,
    statements: Vec<Sql>,
) -> Result<Option<Locked>> {
    try_begin(session, job, false, fence, durability, statements).await
}

/// Fails if the locked job is marked as moved to another store. `None` if the mark was removed meanwhile: then the
/// transaction has been rolled back.
async fn unless_moved(
    session: &mut Session,
    job: &JobAddress,
    locked: Option<Locked>,
) -> Result<Option<Locked>> {
    if locked.as_ref().is_some_and(|locked| locked.is_moved) {
        session.roll_back().await?;
        moved::refuse(session, &Part::Job(job.clone())).await?;
        return Ok(None);
    }
    Ok(locked)
}

async fn try_begin(
    session: &mut Session,
    job: &JobAddress,
    is_made: bool,
    fence: Option<&Fence>,
    durability: Durability,
    statements: Vec<Sql>,
) -> Result<Option<Locked>> {
    let mut all = Vec::new();
    if is_made {
        all.push(make(job));
    }
    all.push(lock(job));
    if let Some(fence) = fence {
        all.push(mark(job, fence));
    }
    let before = all.len();
    all.extend(statements);
    let mut answers = session.begin(durability, all).await?;
    let behind = answers.split_off(before);
    let row = rows(&answers, usize::from(is_made));
    let (Some(id), Some(is_moved)) = (first(row, 0)?, first(row, 1)?) else {
        session.roll_back().await?;
        return Ok(None);
    };
    let mut raised = None;
    if let Some(fence) = fence {
        let mark = first(rows(&answers, before - 1), 0)?;
        if let Err(error) = check_mark(session, fence, mark) {
            session.roll_back().await?;
            return Err(error);
        }
        raised = Some(raise(session.operation, job, fence)?);
    }
    Ok(Some(Locked {
        job: id,
        is_moved,
        answers: behind,
        raise: raised,
    }))
}
