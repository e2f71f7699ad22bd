//! Removes the oldest events of a log.
//!
//! A writer corresponds to a segment of the file backend: closed writers are removed, the oldest first. Each
//! transaction removes a bounded number of rows, and stores in the writer's row how far the removal came. So at
//! each moment, even after a removal was cut short, the log lacks only its oldest events. A cursor that does not
//! cover them is recognised by the stored number.

use prodigy_storage_backend::{Durability, Fence, LogSummary, Result};
use prodigy_storage_layout::{JobAddress, Timestamp};
use tokio_postgres::Row;

use super::summary;
use crate::job::{self, JOB, of_job};
use crate::session::Session;
use crate::sql::{Sql, column, first, rows};

/// The number of rows that one transaction removes.
const STEP: i64 = 2_000;

/// Selects the first writer whose events are kept, and the size of the events before it. The parameters name the
/// job and the time. The writer of the newest event is kept.
fn removable(job: &JobAddress, before: Timestamp) -> Sql {
    // The last event of a writer is nearly always its newest. So its other events are read only if the last one is
    // old enough to be removed.
    let text = format!(
        "with last as (select w.job, w.ordinal, w.closed or w.expires < clock_timestamp() as closed, \
             (select e.time from @.event e where e.job = w.job and e.writer = w.ordinal order by e.number desc limit 1) as time \
           from @.writer w where w.job = {JOB}), \
         segment as (select * from last where time is not null), \
         first_kept as (select min(ordinal) as ordinal from segment where not closed or time >= $3 \
           or ordinal = (select e.writer from @.event e where e.job = {JOB} order by e.id desc limit 1)), \
         old as (select ordinal from segment s where ordinal < (select ordinal from first_kept) \
           and exists (select from @.event e where e.job = s.job and e.writer = s.ordinal and e.time >= $3)), \
         kept as (select least((select ordinal from first_kept), (select min(ordinal) from old)) as ordinal) \
         select coalesce((select ordinal from kept), 0), count(distinct e.writer), count(distinct e.writer), coalesce(sum(octet_length(e.line) + 1), 0)::bigint \
           from @.event e where e.job = {JOB} and e.writer < (select ordinal from kept)"
    );
    of_job(text, job).arg(before.as_nanos())
}

/// Reads the answer of [`removable`]: the first writer whose events are kept, and the size of the events before
/// it.
fn removable_in(found: &[Row]) -> Result<(i64, LogSummary)> {
    match found.first() {
        Some(row) => Ok((column(row, 0)?, summary(row, 1)?)),
        None => Ok((0, LogSummary::default())),
    }
}

pub(crate) async fn plan(session: &mut Session, job: &JobAddress, before: Timestamp) -> Result<LogSummary> {
    let answers = session.read(vec![removable(job, before)]).await?;
    Ok(removable_in(rows(&answers, 0))?.1)
}

pub(crate) async fn remove(
    session: &mut Session,
    job: &JobAddress,
    before: Timestamp,
    fence: Option<&Fence>,
) -> Result<LogSummary> {
    // Writers whose lease has ended are closed first, so that no more events are stored under them.
    let close = format!(
        "update @.writer set closed = true where job = {JOB} and not closed and expires < clock_timestamp()"
    );
    let look = vec![of_job(close, job), removable(job, before)];
    let Some(locked) = job::begin_existing(session, job, fence, Durability::Strict, look).await? else {
        return Ok(LogSummary::default());
    };
    let (id, (kept, summary)) = (locked.job, removable_in(rows(&locked.answers, 1))?);
    locked.finish(session, []).await?;
    if summary.segments == 0 {
        return Ok(summary);
    }
    let step = format!(
        "with gone as (delete from @.event where job = $1 and (writer, number) in \
             (select writer, number from @.event where job = $1 and writer < $2 order by writer, number limit {STEP}) \
           returning writer, number, id), \
         by_writer as (select writer, max(number) as number, (array_agg(id order by id desc))[1] as newest from gone group by writer), \
         noted as (update @.writer w set removed = greatest(w.removed, g.number), newest = greatest(w.newest, g.newest) \
           from by_writer g where w.job = $1 and w.ordinal = g.writer), \
         counted as (update @.job set removals = removals + 1, \
             newest = greatest(newest, (select newest from by_writer order by newest desc limit 1)) \
           where id = $1 and exists (select from gone)) \
         select count(*) from gone"
    );
    loop {
        // The job's row is locked first, as in every other change of the job.
        let statements = vec![
            Sql::new("select 1 from @.job where id = $1 for update").arg(id),
            Sql::new(step.clone()).arg(id).arg(kept),
        ];
        let answers = session.write(Durability::Strict, statements).await?;
        if first::<i64>(rows(&answers, 1), 0)?.unwrap_or_default() < STEP {
            return Ok(summary);
        }
    }
}
