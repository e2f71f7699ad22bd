//! Takes items, and remembers where in the queue the next take begins.
//!
//! A take gives an item another place. The index keeps the old place until the server's vacuum removes it, which a
//! long transaction elsewhere can prevent. Each take would then have to skip the old places of all earlier takes.
//! So a handle remembers the smallest place that has an item, the *front* of the queue, and begins there. An item
//! can get a place below the front only by a change after the front was found; its revision shows that.
//!
//! With a known front, a take is first tried as a single statement, which is a transaction by itself. It sees the
//! items as they were before it had the lock of the job. So it takes only those that did not change since, and a
//! second take, which sees what was committed before it had the lock, looks for the rest. The statement does not wait
//! for the lock: if its caller gave up meanwhile, it would lease items to nobody.

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

/// The front of a queue: no eligible item had a place below `place`, except through a change with a number above
/// `seen`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    place: i64,
    seen: i64,
    found: Instant,
}

/// The items that a take looks for, and the length of their leases.
pub(super) struct Wanted<'a> {
    pub(super) job: &'a JobAddress,
    pub(super) select: &'a Select,
    pub(super) limit: usize,
    pub(super) lease: Duration,
}

/// The fronts of the queues that a handle has taken items from.
#[derive(Debug, Default)]
pub(crate) struct Fronts(Mutex<HashMap<JobAddress, Front>>);

impl Fronts {
    /// The front at which a take begins, if it is known.
    fn of(&self, job: &JobAddress, select: &Select) -> Option<Front> {
        if select.eligible != Eligible::Yes {
            return None;
        }
        let front = self.0.lock().get(job).copied();
        front.filter(|front| front.found.elapsed() < REMEMBERED)
    }

    /// Remembers the front of a queue from the rows that a take returned. `seen` is the last number whose changes
    /// the take saw for certain; by default, the last one before the take.
    fn learn(&self, job: &JobAddress, taken: &[Row], seen: Option<i64>) -> Result<()> {
        let Some(last) = taken.last() else { return Ok(()) };
        // The places of the taken items are the last numbers of the queue. The column after the items' columns is
        // the front.
        let Some(place): Option<i64> = column(last, 9)? else {
            return Ok(());
        };
        let seen = match seen {
            Some(seen) => seen,
            None => column(last, 2)?,
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
/// Locks the row of a job, and selects its id, if it was not moved and nobody else has locked it.
const LOCK_AND_SELECT: &str =
    "select id from @.job where repo = $1 and name = $2 and not deleted and not moved for update skip locked";
/// The id of the job, inside the statement of a take.
const ID: &str = "(select id from j)";
/// The server's time, inside the statement of a take.
const NOW: &str = "(select now from n)";

/// The statement that takes items in the order of their places. `locked` selects the id of the job.
fn statement(wanted: &Wanted<'_>, locked: &str, (place, seen): (i64, i64)) -> Sql {
    let Wanted {
        job,
        select,
        limit,
        lease,
    } = *wanted;
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
    // The job and the time are looked up once, and not again for each row. The conditions on the updated rows hold unless
    // another transaction changed an item after this statement began.
    let is_pending = IS_PENDING.replace("{now}", NOW);
    sql.text = format!(
        "with j as materialized ({locked}), n as materialized (select {{now}} as now), \
         f as materialized (select case when {is_below} then 0 else {place} end as place), \
         c as (select birth, place as before, revision, nextval('@.mark') as place from \
           (select birth, place, revision from (select birth, place, revision from @.item \
               where job = {ID} and {is_pending}{condition} and place >= (select place from f) order by place limit {bound}) p \
             order by place limit {limit}) o), \
         t as (update @.item i set place = c.place, token = replace(gen_random_uuid()::text, '-', ''), \
           leased_until = {NOW} + least({length}, 9223372036854775807 - {NOW}), delayed_until = null, modified = {NOW} \
           from c where i.job = {ID} and i.birth = c.birth and i.place = c.before and i.revision = c.revision \
             and {is_pending} returning i.*) \
         select {COLUMNS}, {NOW}, ({front}) as front from t order by place"
    )
    .into();
    sql
}

/// Takes items, and remembers the front of the queue.
pub(super) async fn take(
    session: &mut Session,
    fronts: &Fronts,
    fence: Option<&Fence>,
    wanted: &Wanted<'_>,
) -> Result<Vec<Row>> {
    let front = fronts.of(wanted.job, wanted.select);
    let mut taken = Vec::new();
    if let (Some(front), None) = (front, fence) {
        let statement = statement(wanted, LOCK_AND_SELECT, (front.place, front.seen));
        let mut answers = session.write(Durability::Strict, vec![statement]).await?;
        taken = answers.pop().unwrap_or_default();
        fronts.learn(wanted.job, &taken, Some(front.seen))?;
        if taken.len() == wanted.limit {
            return Ok(taken);
        }
    }
    let rest = Wanted {
        limit: wanted.limit - taken.len(),
        ..*wanted
    };
    let front = fronts.of(wanted.job, wanted.select);
    let front = front.map_or((0, 0), |front| (front.place, front.seen));
    match take_after_lock(session, fence, &rest, front).await {
        Ok(more) => {
            fronts.learn(wanted.job, &more, None)?;
            taken.extend(more);
        }
        // The first statement took its items, also if the second one fails.
        Err(error) if taken.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(taken)
}

/// Locks the job, and then takes items, in one transaction and one round trip.
async fn take_after_lock(
    session: &mut Session,
    fence: Option<&Fence>,
    wanted: &Wanted<'_>,
    front: (i64, i64),
) -> Result<Vec<Row>> {
    let job = wanted.job;
    let statements = [of_job(LOCK, job).frequent(), statement(wanted, LOCKED_JOB, front)];
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
