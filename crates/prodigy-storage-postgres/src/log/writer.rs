//! Appends of one process to one log. If no other thread appends at the moment, a thread stores its batch itself.
//! Otherwise a task stores the waiting batches, many of them in one commit.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::record::{self, RecordEncoder};
use prodigy_storage_backend::{
    Appended, Batch, Deadline, Durability, ErrorKind, EventId, Fence, IdSource, Result, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::APPEND;
use crate::db::{Db, answer, until};
use crate::job::{self, TRIES, check_mark, deleted_meanwhile};
use crate::lease::LEASE_SECONDS;
use crate::pool::{Pool, Shelf};
use crate::session::{Claim, Session};
use crate::sql::{Sql, first, rows};

/// The largest size in bytes of the batches that are added to the first batch of a commit.
const GATHER: usize = 4 << 20;
/// The time limit for batches whose callers set no deadline.
const LONGEST: Duration = Duration::from_secs(3600);

/// A batch that a thread has handed to the task.
struct Request {
    batch: Arc<Batch>,
    /// The time of the append, by the clock of this machine.
    now: Timestamp,
    durability: Durability,
    deadline: Deadline,
    claim: Claim,
    /// The ids of the events, once they are assigned.
    ids: Arc<Mutex<Vec<EventId>>>,
    answer: SyncSender<Result<Appended>>,
}

impl Request {
    fn answer(self, result: Result<Appended>) {
        // The batch is dropped first, so that the caller owns it alone again and needs no copy.
        drop(self.batch);
        // This fails if the caller no longer waits.
        let _ = self.answer.send(result);
    }
}

/// The row of the table `writer` under which this process appends to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) job: i64,
    pub(crate) ordinal: i64,
    /// The identity of the row. If the server loses its last commits, another process gets the ordinal.
    pub(crate) id: Uuid,
}

/// The end of an `update` of `writer w`: the rows of [`of_writers`].
pub(crate) const OF_WRITERS: &str = "from unnest($1::bigint[], $2::bigint[], $3::uuid[]) as r (job, ordinal, id) \
     where w.job = r.job and w.ordinal = r.ordinal and w.id = r.id";

/// A statement that contains [`OF_WRITERS`], with its parameters.
pub(crate) fn of_writers(text: String, writers: &[Row]) -> Sql {
    Sql::new(text)
        .arg(writers.iter().map(|row| row.job).collect::<Vec<_>>())
        .arg(writers.iter().map(|row| row.ordinal).collect::<Vec<_>>())
        .arg(writers.iter().map(|row| row.id).collect::<Vec<_>>())
}

/// The appends of a process to a log: the state that its threads and the task share.
pub(crate) struct Writer {
    /// Stores batches. The task that holds the lock stores one group of batches.
    store: Arc<AsyncMutex<Store>>,
    requests: UnboundedSender<Request>,
    /// The row under which events are stored, if one is registered now.
    row: Arc<Mutex<Option<Row>>>,
}

impl Writer {
    pub(crate) fn start(db: &Db, job: &JobAddress, max_bytes: u64) -> Self {
        let (requests, receiver) = unbounded_channel();
        let row = Arc::new(Mutex::new(None));
        let store = Store {
            pool: Arc::clone(&db.pool),
            job: job.clone(),
            row: Arc::clone(&row),
            full: None,
            max_bytes,
            bytes: 0,
            number: 0,
            ids: IdSource::above(EventId::MIN),
            encoder: RecordEncoder::new(),
        };
        let store = Arc::new(AsyncMutex::new(store));
        db.handle().spawn(store_always(Arc::clone(&store), receiver));
        Self { store, requests, row }
    }

    /// The row under which events are stored now. The caller renews or closes it.
    pub(crate) fn row(&self) -> Option<Row> {
        *self.row.lock()
    }

    /// Stores a batch: on this thread if no other thread appends to the log, otherwise in the task.
    pub(crate) fn append(
        &self,
        db: &Db,
        job: &JobAddress,
        batch: &mut Batch,
        now: Timestamp,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<Appended> {
        let (sender, receiver) = sync_channel(1);
        let (claim, ids) = (Claim::default(), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::new(std::mem::take(batch));
        let request = Request {
            batch: Arc::clone(&shared),
            now,
            durability,
            deadline,
            claim: claim.clone(),
            ids: Arc::clone(&ids),
            answer: sender,
        };
        // The lock is fair, so while the task waits for it, no thread gets it here.
        if let Ok(mut store) = self.store.try_lock()
            && let Some(seat) = db.pool.seat()
        {
            let shelf = seat.shelf.clone();
            db.pool.run(seat, store.store(vec![request], Some(&shelf)));
        } else {
            // If the task has ended, the request is dropped, and the wait for its answer ends at once.
            let _ = self.requests.send(request);
        }
        let result = answer(&receiver, &claim, deadline, APPEND, job);
        *batch = Arc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone());
        let ids = std::mem::take(&mut *ids.lock());
        match result {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                batch.set_ids(ids.iter().copied());
                Err(error.with_ids(&ids))
            }
            Err(error) => Err(error),
            Ok(appended) => {
                batch.set_ids(ids);
                Ok(appended)
            }
        }
    }
}

/// Stores the batches of all threads that do not store their own, until the handle is dropped.
async fn store_always(store: Arc<AsyncMutex<Store>>, mut requests: UnboundedReceiver<Request>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(request) => request,
            None => match requests.recv().await {
                Some(request) => request,
                None => return,
            },
        };
        let mut store = store.lock().await;
        let mut group = vec![first];
        let mut bytes = 0;
        while bytes < GATHER
            && let Ok(request) = requests.try_recv()
        {
            if !group.first().is_some_and(|first| joins(first, &request)) {
                next = Some(request);
                break;
            }
            bytes += request.batch.bytes();
            group.push(request);
        }
        store.store(group, None).await;
    }
}

struct Store {
    pool: Arc<Pool>,
    job: JobAddress,
    row: Arc<Mutex<Option<Row>>>,
    /// The row whose events have reached the maximum size. It is closed when the next row is registered.
    full: Option<Row>,
    max_bytes: u64,
    /// The number of bytes that were sent under the present row.
    bytes: u64,
    /// The number of the last event that was sent under the present row.
    number: i64,
    ids: IdSource,
    encoder: RecordEncoder,
}

/// The outcome of storing a group of batches.
enum Outcome {
    Stored(Vec<Appended>),
    /// Nothing was stored: the writer's row is closed or removed.
    Closed,
    /// Nothing was stored: the log has an event with this id, which is not below the assigned ids.
    Above(EventId),
    /// Nothing was stored, since the row is closed or the log has a newer id. The statement for several events
    /// finds out which.
    Refused,
}

impl Store {
    /// Stores a group of batches until the last of their deadlines, and answers all their requests.
    async fn store(&mut self, mut group: Vec<Request>, shelf: Option<&Shelf>) {
        let left = group
            .iter()
            .map(|request| request.deadline.remaining().unwrap_or(LONGEST))
            .max();
        let limit = Deadline::after(left.unwrap_or(LONGEST).min(LONGEST));
        let (claim, job) = (Claim::default(), self.job.clone());
        let stored = self.try_store(&mut group, &claim, shelf);
        let result = until(limit, &claim, APPEND, &job, stored).await;
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown)
        {
            // The commit may still succeed later. The numbers of a writer have to ascend in the order of its
            // commits, so later events are stored under a new row.
            *self.row.lock() = None;
        }
        match result {
            Ok(all) => {
                for (request, appended) in group.into_iter().zip(all) {
                    request.answer(Ok(appended));
                }
            }
            Err(error) => {
                for request in group {
                    request.answer(Err(error.clone()));
                }
            }
        }
    }

    async fn try_store(
        &mut self,
        group: &mut Vec<Request>,
        claim: &Claim,
        shelf: Option<&Shelf>,
    ) -> Result<Vec<Appended>> {
        let target = self.job.to_string();
        let mut session = Session::open(&self.pool, shelf, claim.clone(), APPEND, target).await?;
        // From here on, each caller waits for the outcome. Requests whose callers no longer wait are removed.
        group.retain(|request| request.claim.send());
        let Some(fence) = group.first().map(|request| request.batch.fence().cloned()) else {
            return Ok(Vec::new());
        };
        if self.bytes >= self.max_bytes {
            // The full row is no longer renewed. So its lease ends even if registering the next row fails.
            self.full = self.row.lock().take().or(self.full);
        }
        for number in 0..TRIES {
            let row = *self.row.lock();
            let row = match row {
                Some(row) => row,
                None => self.register(&mut session).await?,
            };
            match self
                .send(&mut session, row, group, fence.as_ref(), number == 0)
                .await?
            {
                Outcome::Stored(appended) => return Ok(appended),
                Outcome::Closed => *self.row.lock() = None,
                Outcome::Above(newest) => self.ids.raise(newest),
                Outcome::Refused => {}
            }
        }
        Err(deleted_meanwhile(&session))
    }

    /// Registers a new row, and closes the rows of processes that died. The row of the job is locked, so that the
    /// ordinals of writers are committed in order.
    async fn register(&mut self, session: &mut Session) -> Result<Row> {
        let locked = job::begin(session, &self.job, None, Durability::Strict, Vec::new).await?;
        let close = "update @.writer set closed = true where job = $1 and not closed \
                     and (expires < clock_timestamp() or ordinal = $2)";
        let full = self
            .full
            .filter(|full| full.job == locked.job)
            .map(|full| full.ordinal);
        let insert = "insert into @.writer (job, ordinal, expires) \
                      select $1, coalesce(max(ordinal), 0) + 1, clock_timestamp() + $2 * interval '1 second' \
                      from @.writer where job = $1 returning ordinal, id";
        let newest = "select greatest((select id from @.event where job = $1 order by id desc limit 1), \
                      (select newest from @.job where id = $1))";
        let statements = vec![
            Sql::new(close).arg(locked.job).arg(full),
            Sql::new(insert).arg(locked.job).arg(LEASE_SECONDS),
            Sql::new(newest).arg(locked.job),
        ];
        let answers = session.more(statements).await?;
        let answers_of_commit = session.finish(Vec::new()).await;
        // If the outcome of this commit is unknown, the new row may exist. No process uses it, and it is closed
        // when its lease ends.
        answers_of_commit.map_err(|error| match error.kind() {
            ErrorKind::OutcomeUnknown => {
                StorageError::new(ErrorKind::Unavailable, APPEND, &self.job, error.why().to_owned())
            }
            _ => error,
        })?;
        let row = Row {
            job: locked.job,
            ordinal: first(rows(&answers, 1), 0)?.unwrap_or_default(),
            id: first(rows(&answers, 1), 1)?.unwrap_or_default(),
        };
        let newest: Option<Uuid> = first(rows(&answers, 2), 0)?;
        self.ids.raise(newest.map_or(EventId::MIN, EventId::from));
        (self.number, self.bytes, self.full) = (0, 0, None);
        *self.row.lock() = Some(row);
        Ok(row)
    }

    async fn send(
        &mut self,
        session: &mut Session,
        row: Row,
        group: &[Request],
        fence: Option<&Fence>,
        is_first: bool,
    ) -> Result<Outcome> {
        let mut columns = Columns::default();
        let mut lowest: Option<EventId> = None;
        let mut may_be_stored = false;
        let mut begins = Vec::with_capacity(group.len());
        for request in group {
            begins.push(self.number);
            let mut ids = request.batch.ids().to_vec();
            if ids.is_empty() {
                ids.extend((0..request.batch.len()).map(|_| self.ids.next(request.now)));
                lowest = lowest.or(ids.first().copied());
            } else {
                may_be_stored = true;
            }
            let time = record::stated_time(request.now);
            for (body, &id) in request.batch.bodies().zip(&ids) {
                let mut line = Vec::with_capacity(record::RECORD_OVERHEAD + body.len());
                self.encoder.encode(&mut line, id, time, body);
                self.number += 1;
                self.bytes += line.len() as u64;
                columns.push(self.number, id, time, line);
            }
            *request.ids.lock() = ids;
        }
        let mut statements = Vec::new();
        let mut mark = None;
        if let Some(fence) = fence {
            mark = Some((&self.job, fence, job::token(APPEND, fence)?));
            // The row of the fencing mark is locked until the commit, so a greater token can't be written between
            // the check and the write.
            statements.push(job::raise(APPEND, &self.job, fence)?);
        }
        let is_single = is_first && fence.is_none() && columns.numbers.len() == 1 && !may_be_stored;
        statements.push(if is_single {
            columns.arguments(SINGLE, row, lowest)
        } else {
            columns.insert(row, lowest, may_be_stored, mark)
        });
        let durability = group
            .first()
            .map_or(Durability::Strict, |request| request.durability);
        let answers = session.write(durability, statements).await?;
        if let Some(fence) = fence {
            check_mark(session, fence, first(rows(&answers, 0), 0)?)?;
        }
        let answer = answers.last().map(Vec::as_slice).unwrap_or_default();
        if first(answer, 0)? != Some(true) {
            return Ok(if is_single {
                Outcome::Refused
            } else {
                Outcome::Closed
            });
        }
        let (newest, stored): (Option<Uuid>, Option<Vec<i64>>) = (first(answer, 1)?, first(answer, 2)?);
        if let (Some(lowest), Some(newest)) = (lowest, newest.map(EventId::from))
            && newest >= lowest
        {
            return Ok(Outcome::Above(newest));
        }
        if let Some(newest) = columns.newest {
            self.ids.raise(newest);
        }
        Ok(Outcome::Stored(
            group
                .iter()
                .zip(begins)
                .map(|(request, begin)| {
                    let end = begin + request.batch.len() as i64;
                    let count = stored.as_ref().map_or(request.batch.len(), |stored| {
                        stored
                            .iter()
                            .filter(|number| **number > begin && **number <= end)
                            .count()
                    });
                    Appended {
                        stored: count,
                        duplicates: request.batch.len() - count,
                    }
                })
                .collect(),
        ))
    }
}

/// Stores a single event under an assigned id. It has the conditions and the columns of the answer of
/// [`Columns::insert`], but there is no row if a condition is not met. This costs the server less.
///
/// The statement compares with the newest id only. If it asked for any id above the parameter, the server would
/// expect to find one soon, and read the whole table.
const SINGLE: &str = "insert into @.event (job, writer, number, id, time, line) \
     select $1, $2, ($3::bigint[])[1], ($4::uuid[])[1], ($5::bigint[])[1], ($6::bytea[])[1] \
     where exists (select from @.writer where job = $1 and ordinal = $2 and id = $8 and not closed for share) \
     and not exists (select from (select id from @.event where job = $1 order by id desc limit 1) n where n.id >= $7) \
     returning true, null::uuid, null::bigint[]";

/// True if two requests may share a commit. A request with a fencing token may not, since a token applies to the
/// whole commit.
fn joins(first: &Request, other: &Request) -> bool {
    first.durability == other.durability && first.batch.fence().is_none() && other.batch.fence().is_none()
}

/// The events of a group of batches, as the columns of their rows.
#[derive(Default)]
struct Columns {
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    times: Vec<i64>,
    lines: Vec<Vec<u8>>,
    newest: Option<EventId>,
}

impl Columns {
    fn push(&mut self, number: i64, id: EventId, time: Timestamp, line: Vec<u8>) {
        self.numbers.push(number);
        self.ids.push(id.into());
        self.times.push(time.as_nanos());
        self.lines.push(line);
        self.newest = self.newest.max(Some(id));
    }

    /// A statement whose parameters are the writer's row, the events, and `lowest`, the lowest assigned id.
    fn arguments(
        &mut self,
        text: impl Into<std::borrow::Cow<'static, str>>,
        row: Row,
        lowest: Option<EventId>,
    ) -> Sql {
        Sql::new(text)
            .frequent()
            .arg(row.job)
            .arg(row.ordinal)
            .arg(std::mem::take(&mut self.numbers))
            .arg(std::mem::take(&mut self.ids))
            .arg(std::mem::take(&mut self.times))
            .arg(std::mem::take(&mut self.lines))
            .arg(lowest.map(Uuid::from))
            .arg(row.id)
    }

    /// Stores the events if the writer's row is open and all assigned ids are above the ids of the log. The
    /// writer's row is locked, so that it stays open until the commit. With `may_be_stored`, events whose given
    /// ids are stored already are left out. That costs a search and a record of the write-ahead log for each
    /// event, so it is used only for batches with given ids.
    fn insert(
        &mut self,
        row: Row,
        lowest: Option<EventId>,
        may_be_stored: bool,
        mark: Option<(&JobAddress, &Fence, i64)>,
    ) -> Sql {
        let condition = match mark {
            Some(_) => {
                " and not exists (select from @.fence where repo = $9 and name = $10 and lock = $11 and token > $12)"
            }
            None => "",
        };
        let (conflict, stored) = if may_be_stored {
            (
                " on conflict (job, id) do nothing returning number",
                ", case when (select count(*) from s) < cardinality($3) then array(select number from s) end",
            )
        } else {
            ("", ", null::bigint[]")
        };
        let text = format!(
            "with w as (select 1 from @.writer where job = $1 and ordinal = $2 and id = $8 and not closed for share), \
             n as (select id from @.event where job = $1 order by id desc limit 1), \
             s as (insert into @.event (job, writer, number, id, time, line) \
               select $1, $2, u.number, u.id, u.time, u.line \
               from unnest($3::bigint[], $4::uuid[], $5::bigint[], $6::bytea[]) as u (number, id, time, line) \
               where exists (select from w){condition} \
               and ($7::uuid is null or not exists (select from n where id >= $7)){conflict}) \
             select exists (select from w), (select id from n){stored}"
        );
        let sql = self.arguments(text, row, lowest);
        match mark {
            Some((job, fence, token)) => sql
                .arg(job.repo.as_str().to_owned())
                .arg(job.job.as_str().to_owned())
                .arg(job::lock_name(fence))
                .arg(token),
            None => sql,
        }
    }
}
