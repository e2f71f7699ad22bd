//! The dead letters of jobs.
//!
//! The number of a change comes from a database sequence, so no row with a counter has to be updated. A change
//! locks the row of the job without writing it. An acknowledgement locks only its items. So a change that reads
//! items before it writes them has to lock these items too, always in the same order.

mod item;
mod remove;
mod staged;
mod take;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Claim, Clock, Compaction, Deadline, Durability, Fence, ItemId, PutReport, QueueEntry, QueueItem,
    QueueMark, QueueScan, QueueStep, QueueStore, QueueSummary, Result, Select, Settled, Settlement,
    time_to_store,
};
use prodigy_storage_layout::JobAddress;
use tokio_postgres::Row;

use crate::backend::PostgresBackend;
use crate::catalog::of_this;
use crate::db::Db;
use crate::job::{self, JOB, of_job};
use crate::session::Session;
use crate::sql::{column, first, rows, server_now};
use item::{COLUMNS, Item, bytes_of, selected};
use staged::{Rules, Staged};
use take::Wanted;

pub(crate) use take::Fronts;

const PUT: &str = "put items";
const SETTLE: &str = "settle items";
const TAKE: &str = "take items";
const READ: &str = "read items";
/// The number of items that a scan reads at a time.
const PAGE: usize = 256;

/// An SQL condition: the lease and the delay of an item, if any, have ended.
const IS_PENDING: &str = "coalesce(leased_until <= {now}, true) and coalesce(delayed_until <= {now}, true)";

/// Reads the answers to the statements after the lock of a job: the items, the server's time, and the bytes of the
/// queue.
fn staged(answers: &[Vec<tokio_postgres::Row>]) -> Result<(Staged, u64)> {
    let items = rows(answers, 0)
        .iter()
        .map(Item::read)
        .collect::<Result<Vec<_>>>()?;
    let now: i64 = first(rows(answers, 1), 0)?.unwrap_or_default();
    let bytes: Option<i64> = first(rows(answers, 2), 0)?;
    Ok((Staged::new(items, now), bytes.unwrap_or_default().unsigned_abs()))
}

async fn put(
    session: &mut Session,
    items: &[QueueItem],
    fence: Option<&Fence>,
    durability: Durability,
    rules: &Rules,
) -> Result<PutReport> {
    let ids: Vec<ItemId> = items.iter().map(|item| item.id.clone()).collect();
    let look = || {
        let found = format!(
            "select {COLUMNS} from @.item where job = {JOB} and id = any($3) order by birth for update"
        );
        let mut look = vec![of_job(found, &rules.job).arg(bytes_of(&ids)), server_now()];
        if rules.max_queue_size.is_some() {
            let bytes = format!("select sum(octet_length(body))::bigint from @.item where job = {JOB}");
            look.push(of_job(bytes, &rules.job));
        }
        look
    };
    let locked = job::begin(session, &rules.job, fence, durability, look).await?;
    let (mut staged, bytes) = staged(&locked.answers)?;
    let report = staged.put(items, rules)?;
    staged.has_room(bytes, rules)?;
    let statements = staged.statements(locked.job)?;
    locked.finish(session, statements).await?;
    Ok(report)
}

async fn settle(
    session: &mut Session,
    settlements: &[Settlement],
    fence: Option<&Fence>,
    rules: &Rules,
) -> Result<Vec<Settled>> {
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for settlement in settlements {
        settlement.check(SETTLE)?;
        match &settlement.claim {
            Claim::Lease(token) => tokens.push(token.as_str().to_owned()),
            Claim::Item(id) | Claim::Revision(id, _) => ids.push(id.clone()),
        }
    }
    let look = || {
        let births = format!("select birth from @.item where job = {JOB}");
        let found = format!(
            "select {COLUMNS} from @.item where job = {JOB} and birth in \
             ({births} and id = any($3) union {births} and token = any($4)) order by birth for update"
        );
        vec![
            of_job(found, &rules.job).arg(bytes_of(&ids)).arg(tokens.clone()),
            server_now(),
        ]
    };
    let strict = Durability::Strict;
    let locked = match fence {
        Some(_) => Some(job::begin(session, &rules.job, fence, strict, look).await?),
        None => job::begin_existing(session, &rules.job, None, strict, look()).await?,
    };
    let Some(locked) = locked else {
        return Ok(vec![Settled::Unknown; settlements.len()]);
    };
    let (mut staged, _) = staged(&locked.answers)?;
    let settled = settlements
        .iter()
        .map(|settlement| staged.settle(settlement, rules))
        .collect::<Result<Vec<_>>>()?;
    let statements = staged.statements(locked.job)?;
    if statements.is_empty() && locked.raise.is_none() {
        session.roll_back().await?;
    } else {
        locked.finish(session, statements).await?;
    }
    Ok(settled)
}

impl PostgresBackend {
    fn rules(&self, operation: &'static str, job: &JobAddress) -> Result<Rules> {
        let options = self.options();
        Ok(Rules {
            job: job.clone(),
            now: time_to_store(&*options.clock, operation, job)?,
            max_record_size: options.max_record_size,
            max_queue_size: options.max_queue_size,
        })
    }
}

/// Selects the counts of a queue.
pub(crate) const COUNTS: &str = "select count(*), count(*) filter (where coalesce(leased_until > {now}, false)), \
       count(*) filter (where not coalesce(leased_until > {now}, false) and not eligible), \
       count(*) filter (where not coalesce(leased_until > {now}, false) and eligible and delayed_until > {now}), \
       coalesce(sum(octet_length(body)), 0)::bigint, \
       coalesce((select last_value from @.mark where is_called and {job} is not null), 0) from @.item where job = {job}";

/// Reads the counts of a queue from six columns of a row, beginning with column `at`.
pub(crate) fn summary(row: &Row, at: usize) -> Result<QueueSummary> {
    let number = |of| column::<i64>(row, at + of).map(i64::unsigned_abs);
    let mut summary = QueueSummary::default();
    (summary.items, summary.leased, summary.parked) = (number(0)?, number(1)?, number(2)?);
    (summary.delayed, summary.bytes, summary.mark) = (number(3)?, number(4)?, QueueMark(number(5)?));
    summary.pending = summary
        .items
        .saturating_sub(summary.leased + summary.parked + summary.delayed);
    Ok(summary)
}

impl QueueStore for PostgresBackend {
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport> {
        deadline.check(PUT, job, "its turn")?;
        if items.is_empty() {
            return Ok(PutReport::default());
        }
        let (rules, items, fence) = (self.rules(PUT, job)?, items.to_vec(), fence.cloned());
        self.counters().items(items.len());
        self.db().call(PUT, job, deadline, move |mut session| async move {
            put(&mut session, &items, fence.as_ref(), durability, &rules).await
        })
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        let text = format!("select {COLUMNS}, {{now}} from @.item where job = {JOB} and id = $3");
        let sql = of_job(text, job).arg(id.as_str().as_bytes().to_vec());
        let clock = Arc::clone(&self.options().clock);
        self.db()
            .call("get item", id, deadline, move |mut session| async move {
                let answers = session.read(vec![sql]).await?;
                rows(&answers, 0)
                    .first()
                    .map(|row| entry(row, &*clock))
                    .transpose()
            })
    }

    fn queue_scan(
        &self,
        job: &JobAddress,
        select: &Select,
        deadline: Deadline,
    ) -> Result<QueueScan<'static>> {
        deadline.check(READ, job, "its turn")?;
        let mut pages = Pages {
            db: self.shared_db(),
            job: job.clone(),
            select: select.clone(),
            clock: Arc::clone(&self.options().clock),
            after: 0,
            entries: VecDeque::new(),
            is_last: false,
        };
        pages.fetch(deadline)?;
        Ok(Box::new(pages))
    }

    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary> {
        let sql = of_this(COUNTS, job);
        self.db()
            .call("summarise items", job, deadline, move |mut session| async move {
                let answers = session.read(vec![sql]).await?;
                let row = rows(&answers, 0).first();
                row.map_or(Ok(QueueSummary::default()), |row| summary(row, 0))
            })
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        time_to_store(&*self.options().clock, TAKE, job)?;
        let fronts = Arc::clone(self.fronts());
        let (of, select, fence) = (job.clone(), select.clone(), fence.cloned());
        let clock = Arc::clone(&self.options().clock);
        self.db()
            .call(TAKE, job, deadline, move |mut session| async move {
                let wanted = Wanted {
                    job: &of,
                    select: &select,
                    limit,
                    lease,
                };
                let taken = take::take(&mut session, &fronts, fence.as_ref(), &wanted).await?;
                taken.iter().map(|row| entry(row, &*clock)).collect()
            })
    }

    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>> {
        let (rules, settlements, fence) = (self.rules(SETTLE, job)?, settlements.to_vec(), fence.cloned());
        self.db()
            .call(SETTLE, job, deadline, move |mut session| async move {
                if let (Some(tokens), None) = (remove::tokens(&settlements), &fence) {
                    return remove::remove(&mut session, &rules.job, tokens).await;
                }
                settle(&mut session, &settlements, fence.as_ref(), &rules).await
            })
    }

    /// Does nothing: the server frees the space of settled items by itself.
    fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction> {
        let bytes = self.queue_summary(job, deadline)?.bytes;
        Ok(Compaction::new(bytes, bytes))
    }
}

/// An item from a row whose last column is the server's time.
fn entry(row: &Row, clock: &dyn Clock) -> Result<QueueEntry> {
    Ok(Item::read(row)?.entry(clock, column(row, 8)?))
}

/// Reads the items of a queue page by page, in the order of their first push.
struct Pages {
    db: Arc<Db>,
    job: JobAddress,
    select: Select,
    clock: Arc<dyn Clock>,
    after: i64,
    entries: VecDeque<QueueEntry>,
    is_last: bool,
}

impl Pages {
    fn fetch(&mut self, deadline: Deadline) -> Result<()> {
        let mut sql = of_job("", &self.job);
        let condition = selected(&self.select, &mut sql);
        let after = sql.push(self.after);
        sql.text = format!(
            "select {COLUMNS}, {{now}} from @.item where job = {JOB} and birth > {after}{condition} order by birth limit {PAGE}"
        )
        .into();
        let clock = Arc::clone(&self.clock);
        let (entries, last, is_last) =
            self.db
                .call(READ, &self.job, deadline, move |mut session| async move {
                    let answers = session.read(vec![sql]).await?;
                    let rows = rows(&answers, 0);
                    let entries = rows
                        .iter()
                        .map(|row| entry(row, &*clock))
                        .collect::<Result<VecDeque<_>>>()?;
                    let last: Option<i64> = rows.last().map(|row| column(row, 0)).transpose()?;
                    Ok((entries, last, rows.len() < PAGE))
                })?;
        self.entries = entries;
        self.after = last.unwrap_or(self.after);
        self.is_last = is_last;
        Ok(())
    }
}

impl Iterator for Pages {
    type Item = Result<QueueStep>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.entries.is_empty()
            && !self.is_last
            && let Err(error) = self.fetch(Deadline::never())
        {
            self.is_last = !error.is_transient();
            return Some(Err(error));
        }
        self.entries.pop_front().map(|entry| Ok(QueueStep::Entry(entry)))
    }
}
