//! The logs.

mod position;
mod removal;
mod scan;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prodigy_storage_backend::record::RECORD_OVERHEAD;
use prodigy_storage_backend::{
    AppendOptions, Appended, Batch, Cursor, Deadline, ErrorKind, EventId, Fence, LogReports, LogScope,
    LogStore, LogSummary, LogWatch, LookReason, Reporting, Result, Scan, ScanItem, ScanOptions, StorageError,
    WaitOptions, time_to_store,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

pub(crate) use writer::{OF_WRITERS, Row as WriterRow, Writer, of_writers};

use crate::backend::PostgresBackend;
use crate::catalog::{flush, of_this};
use crate::document::end_mark;
use crate::job::{JOB, of_job};
use crate::notifier::Notifier;
use crate::sql::{Sql, column, first, rows};
use position::Position;
pub(crate) use position::cursor_prefix;
use scan::{Opened, PostgresScan, end, whole};

/// The longest pause between two polls of a caller that waits for events.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause between two polls while notifications arrive.
const RARE_LOOK: Duration = Duration::from_secs(1);

pub(crate) const APPEND: &str = "append event";
pub(crate) const READ: &str = "read events";

impl PostgresBackend {
    fn position(&self, job: &JobAddress, cursor: &Cursor) -> Result<Position> {
        Position::decode(cursor, self.store(), job)
    }

    fn open_scan(
        &self,
        job: &JobAddress,
        options: &ScanOptions,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        let from = options.from.as_ref();
        let (position, of) = (
            from.map(|cursor| self.position(job, cursor)).transpose()?,
            job.clone(),
        );
        let opened = self
            .db()
            .call(READ, job, deadline, move |mut session| async move {
                let Some(position) = position else {
                    return whole(&mut session, &of).await;
                };
                let end = end(&mut session, &of, &position).await?;
                Ok(Opened { position, end })
            })?;
        Ok(Box::new(PostgresScan::new(
            self.shared_db(),
            self.store(),
            job,
            opened,
            options,
        )))
    }

    fn check_batch(&self, job: &JobAddress, batch: &Batch) -> Result<()> {
        let max = self.options().max_record_size;
        for body in batch.bodies() {
            let bytes = (RECORD_OVERHEAD + body.len() + 1) as u64;
            if bytes > max {
                let why = format!("an event of {bytes} bytes is larger than `max_record_size` ({max})");
                return Err(StorageError::new(ErrorKind::TooLarge, APPEND, job, why).with_hint(
                    "store the large part elsewhere and a reference to it in the event, or raise `max_record_size`",
                ));
            }
        }
        Ok(())
    }
}

/// Selects the size of a log: the number of its writers, the number of closed ones, and the bytes of their events.
pub(crate) const SIZE: &str = "select count(*), count(*) filter (where w.closed), coalesce(sum(e.bytes), 0)::bigint from \
     (select writer, sum(octet_length(line) + 1) as bytes from @.event where job = {job} group by writer) e \
     join @.writer w on w.job = {job} and w.ordinal = e.writer";

/// Reads the size of a log from three columns of a row, beginning with column `at`.
pub(crate) fn summary(row: &Row, at: usize) -> Result<LogSummary> {
    let number = |at| column::<i64>(row, at).map(i64::unsigned_abs);
    Ok(LogSummary {
        segments: number(at)?,
        sealed: number(at + 1)?,
        compressed: 0,
        bytes: number(at + 2)?,
    })
}

impl LogStore for PostgresBackend {
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        deadline.check(APPEND, job, "its turn")?;
        self.check_batch(job, batch)?;
        let now = time_to_store(&*self.options().clock, APPEND, job)?;
        let mut newest = EventId::MIN;
        if batch.ids().iter().any(|id| id.is_ahead_of(now))
            && let Some(ScanItem::Record(last)) = self.tail(job, 1, None, deadline)?.next()?
        {
            newest = last.id;
        }
        batch.check_ids(job, now, newest)?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let appended = self
            .writer(job)
            .append(self.db(), job, batch, now, options.durability, deadline)?;
        self.announce(job);
        self.counters().appended(&appended);
        Ok(appended)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.open_scan(job, options, deadline)
    }

    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        let of = job.clone();
        let opened = self
            .db()
            .call("read last events", job, deadline, move |mut session| async move {
                let Opened { position, end } = whole(&mut session, &of).await?;
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let text =
                    format!("select id from @.event where job = {JOB} order by id desc offset $3 limit 1");
                let answers = session.read(vec![of_job(text, &of).arg(count)]).await?;
                let before: Option<Uuid> = first(rows(&answers, 0), 0)?;
                let position = match before {
                    Some(given) => position.behind(EventId::from(given), end.past()),
                    None => position,
                };
                Ok(Opened { position, end })
            })?;
        let options = ScanOptions::all().step_timeout(step_timeout);
        Ok(Box::new(PostgresScan::new(
            self.shared_db(),
            self.store(),
            job,
            opened,
            &options,
        )))
    }

    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor> {
        let (store, of) = (self.store(), job.clone());
        self.db().call(
            "find end of events",
            job,
            deadline,
            move |mut session| async move {
                let Opened { end, .. } = whole(&mut session, &of).await?;
                Ok(end.past().clone().into_cursor(store))
            },
        )
    }

    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool> {
        let position = self.position(job, cursor)?;
        let notifier = self.notifier();
        // Begins to listen before the first poll, so that an append after the poll is noticed.
        notifier.await_proof(deadline);
        // Polls even while notifications arrive, since one may be lost with its connection.
        let options = options.clone().poll(options.poll.min(LONGEST_PAUSE));
        let mut looked: Option<Instant> = None;
        self.waiters().wait(job, &options, deadline, |reason| {
            let is_fresh = looked.is_some_and(|looked| looked.elapsed() < RARE_LOOK);
            if reason == LookReason::Elapsed && notifier.is_heard() && is_fresh {
                return Ok(false);
            }
            looked = Some(Instant::now());
            let (of, position, options) = (job.clone(), position.clone(), options.clone());
            let patience = Deadline::after(self.options().connect_timeout * 2);
            self.db()
                .call("wait for events", job, patience, move |mut session| async move {
                    if options.until_finished && options.ends_at(end_mark(&mut session, &of).await?) {
                        return Ok(true);
                    }
                    let end = end(&mut session, &of, &position).await?;
                    end.is_behind(&mut session, &position).await
                })
        })
    }

    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>> {
        let notifier = Arc::clone(self.notifier());
        notifier.await_proof(Deadline::never());
        Ok(Box::new(Watch {
            _reporting: self.waiters().report(scope.clone(), reports.clone()),
            notifier,
        }))
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        let sql = of_this(SIZE, job);
        self.db()
            .call("summarise events", job, deadline, move |mut session| async move {
                let answers = session.read(vec![sql]).await?;
                let row = rows(&answers, 0).first();
                row.map_or(Ok(LogSummary::default()), |row| summary(row, 0))
            })
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        let Some(row) = self.drop_writer(job) else {
            return Ok(());
        };
        let close = Sql::new("update @.writer set closed = true where job = $1 and ordinal = $2 and id = $3")
            .arg(row.job)
            .arg(row.ordinal)
            .arg(row.id);
        self.db()
            .call("seal events", job, deadline, move |mut session| async move {
                session
                    .write(prodigy_storage_backend::Durability::Strict, vec![close])
                    .await
                    .map(drop)
            })
    }

    fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        let of = job.clone();
        self.db()
            .call("find old events", job, deadline, move |mut session| async move {
                removal::plan(&mut session, &of, before).await
            })
    }

    fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        let (of, fence) = (job.clone(), fence.cloned());
        self.db()
            .call("remove events", job, deadline, move |mut session| async move {
                removal::remove(&mut session, &of, before, fence.as_ref()).await
            })
    }

    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        let (position, of) = (self.position(job, cursor)?, job.clone());
        self.db()
            .call("persist events", job, deadline, move |mut session| async move {
                end(&mut session, &of, &position).await?;
                flush(&mut session).await
            })
    }
}

/// Reports appends of this process, and those of other processes while notifications arrive.
#[derive(Debug)]
struct Watch {
    _reporting: Reporting,
    notifier: Arc<Notifier>,
}

impl LogWatch for Watch {
    fn include(&mut self, _job: &JobAddress) -> Result<bool> {
        Ok(self.notifier.is_heard())
    }

    fn reports_new_jobs(&mut self) -> Result<bool> {
        Ok(self.notifier.is_heard())
    }
}
