//! Takes items, and remembers where in the queue the next take begins.
//!
//! A take gives an item another place. The index keeps the old place until the server's vacuum removes it, which a
//! long transaction elsewhere can prevent. Each take would then have to skip the old places of all earlier takes.
//! So a handle remembers the smallest place that has an item, the *front* of the queue, and begins there. An item
//! can get a place below the front only by a change after the front was found; its revision shows that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prodigy_storage_backend::{Durability, Eligible, Fence, Result, Select};
use prodigy_storage_layout::{JobAddress, Part};
use tokio_postgres::Row;

use super::IS_PENDING;
use super::item::{COLUMNS, selected};
use crate::job::{self, of_job};
use crate::moved;
use crate::session::Session;
use crate::sql::{Sql, column, first, rows};

/// A front is used for this time only. If a database loses its last commits, it assigns their numbers again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// The largest number of jobs whose fronts are remembered.
const JOBS: usize = 1_000;

/// The front of a queue: when `seen` was the number of the last change, no eligible item had a place below
/// `place`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    place: i64,
    seen: i64,
    found: Instant,
}

/// The fronts of the queues that a handle has taken items from.
#[derive(Debug, Default)]
pub(crate) struct Fronts(Mutex<HashMap<JobAddress, Front>>);

impl Fronts {
    /// The place at which a take begins, and the number of the last change when that place was found.
    pub(super) fn of(&self, job: &JobAddress, select: &Select) -> (i64, i64) {
        if select.eligible != Eligible::Yes {
            return (0, 0);
        }
        let fronts = self.0.lock();
        let front = fronts.get(job);
        front
            .filter(|front| front.found.elapsed() < REMEMBERED)
            .map_or((0, 0), |front| (front.place, front.seen))
    }

    /// Remembers the front of a queue from the rows that a take returned.
    pub(super) fn learn(&self, job: &JobAddress, taken: &[Row]) -> Result<()> {
        let Some(last) = taken.last() else { return Ok(()) };
        // The places of the taken items are the last numbers of the queue. The column after the items' columns is
        // the front.
        let (Some(place), seen): (Option<i64>, i64) = (column(last, 9)?, column(last, 2)?) else {
            return Ok(());
        };
        let mut fronts = self.0.lock();
        let began = match fronts.get(job) {
            Some(front) if front.found.elapsed() < REMEMBERED => front.found,
            _ => Instant::now(),
        };
        if fronts.len() >= JOBS {
            fronts.clear();
        }
        let front = Front {
            place,
            seen,
            found: began,
        };
        fronts.insert(job.clone(), front);
        Ok(())
    }
}

/// Locks the row of a job, and remembers its id until the end of the transaction. Selects whether the job was moved
/// to another store.
const LOCK: &str = "select moved, set_config('prodigy_storage.locked', id::text, true) from \
    (select id, moved from @.job where repo = $1 and name = $2 and not deleted for update) j";
/// Selects the id of the job if [`LOCK`] found and locked its row, and if it was not moved. Each statement sees what
/// was committed before it: a job that was created after [`LOCK`] is there, but other takes may change its items.
const LOCKED_JOB: &str = "select id from @.job where repo = $1 and name = $2 and not deleted and not moved \
    and id::text = current_setting('prodigy_storage.locked', true)";
/// The id of the job, inside the statement of a take.
const ID: &str = "(select id from j)";
/// The server's time, inside the statement of a take.
const NOW: &str = "(select now from n)";

/// The statement that takes items in the order of their places. It takes nothing without [`LOCK`] before it.
pub(super) fn statement(
    job: &JobAddress,
    select: &Select,
    limit: usize,
    lease: Duration,
    (place, seen): (i64, i64),
) -> Sql {
    let mut sql = of_job("", job).frequent();
    let condition = selected(select, &mut sql);
    let length = sql.push(i64::try_from(lease.as_nanos()).unwrap_or(i64::MAX / 4));
    // If the limit were a parameter, the server could not use it for its plan. With a power of two in the text,
    // there are few different texts to prepare.
    let bound = limit.checked_next_power_of_two().unwrap_or(usize::MAX);
    let bound = i64::try_from(bound).unwrap_or(i64::MAX);
    let limit = sql.push(i64::try_from(limit).unwrap_or(i64::MAX));
    let (place, seen) = (sql.push(place), sql.push(seen));
    // A front is known only for eligible items.
    let front = match select.eligible {
        Eligible::Yes => format!(
            "select place from @.item where job = {ID} and eligible and place >= (select place from f) order by place limit 1"
        ),
        _ => "select null::bigint".into(),
    };
    // Finds items that got a place below the front after it was found. The order makes the server use the index of
    // changed items, which has nearly no entries here. Otherwise it would expect to find a row soon, and read the
    // whole table.
    let is_below = format!(
        "(select true from @.item where job = {ID} and eligible and revision > place and revision > {seen} and place < {place} \
         order by revision limit 1)"
    );
    // The job and the time are looked up once, and not again for each row.
    let is_pending = IS_PENDING.replace("{now}", NOW);
    sql.text = format!(
        "with j as materialized ({LOCKED_JOB}), n as materialized (select {{now}} as now), \
         f as materialized (select case when {is_below} then 0 else {place} end as place), \
         c as (select birth, nextval('@.mark') as place from \
           (select birth from (select birth, place from @.item \
               where job = {ID} and {is_pending}{condition} and place >= (select place from f) order by place limit {bound}) p \
             order by place limit {limit}) o), \
         t as (update @.item i set place = c.place, token = replace(gen_random_uuid()::text, '-', ''), \
           leased_until = {NOW} + least({length}, 9223372036854775807 - {NOW}), delayed_until = null, modified = {NOW} \
           from c where i.job = {ID} and i.birth = c.birth returning i.*) \
         select {COLUMNS}, {NOW}, ({front}) as front from t order by place"
    )
    .into();
    sql
}

pub(super) async fn take(
    session: &mut Session,
    job: &JobAddress,
    fence: Option<&Fence>,
    statement: Sql,
) -> Result<Vec<Row>> {
    let statements = [of_job(LOCK, job).frequent(), statement];
    if fence.is_some() {
        let locked = job::begin(session, job, fence, Durability::Strict, Vec::new).await?;
        let mut answers = locked.finish(session, statements).await?;
        return Ok(answers.pop().unwrap_or_default());
    }
    let mut answers = session.write(Durability::Strict, statements.into()).await?;
    if first(rows(&answers, 0), 0)? == Some(true) {
        moved::refuse(session, &Part::Job(job.clone())).await?;
    }
    Ok(answers.pop().unwrap_or_default())
}
