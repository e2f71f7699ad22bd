//! Reads the events of a log merged by id, page by page. No transaction stays open between two pages.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::record::read_line;
use prodigy_storage_backend::{
    Cursor, Damage, Deadline, ErrorKind, EventId, Result, Scan, ScanItem, ScanOptions, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::READ;
use super::position::{ALL, Position, Reach};
use crate::db::Db;
use crate::job::of_job;
use crate::session::Session;
use crate::sql::{Sql, column, first, rows};

/// The intended size of a page. Its number of events is estimated from earlier pages.
const PAGE_BYTES: usize = 4 << 20;
const FIRST_PAGE: i64 = 256;
const LARGEST_PAGE: i64 = 8192;
/// If a part of a log has more events than this, it is read along the index of ids; otherwise along the numbers of
/// each writer.
const FEW: i64 = 8192;

/// The end of a log at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// The id of the job's row, if it exists.
    pub(crate) job: Option<i64>,
    /// The writers whose events the position does not all cover, each with the number of its last event.
    writers: Vec<(i64, i64)>,
    pub(crate) reach: Reach,
    /// The events that were removed. A scan of the whole log starts after them.
    removed: Reach,
    /// The number of removals from the log, which shows whether another one was made.
    removals: i64,
}

/// Reads the present end of a log, for a scan from its first event.
pub(crate) async fn whole(session: &mut Session, job: &JobAddress) -> Result<Opened> {
    let end = read_end(session, job, None).await?;
    let position = Position::end(end.job.unwrap_or_default(), end.removed.clone());
    Ok(Opened { position, end })
}

/// Reads the present end of a log. Writers all of whose events `position` covers are not looked up.
pub(crate) async fn end(session: &mut Session, job: &JobAddress, position: &Position) -> Result<End> {
    read_end(session, job, Some(position)).await
}

async fn read_end(session: &mut Session, job: &JobAddress, position: Option<&Position>) -> Result<End> {
    let (first_closed, last_closed): (Vec<i64>, Vec<i64>) = position
        .iter()
        .flat_map(|position| position.from.closed())
        .unzip();
    let text = "select j.id, w.ordinal, w.closed, \
                  coalesce((select e.number from @.event e where e.job = w.job and e.writer = w.ordinal \
                    order by e.number desc limit 1), w.removed), w.removed, w.newest, j.removals \
                from @.job j left join @.writer w on w.job = j.id \
                  and not exists (select from unnest($3::bigint[], $4::bigint[]) as c (low, high) where w.ordinal between c.low and c.high) \
                where j.repo = $1 and j.name = $2 and not j.deleted order by w.ordinal";
    let answers = session
        .read(vec![of_job(text, job).arg(first_closed).arg(last_closed)])
        .await?;
    let (mut found, mut all, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    let mut end = End::default();
    for row in rows(&answers, 0) {
        end.job = Some(column(row, 0)?);
        end.removals = column(row, 6)?;
        let (Some(writer), closed): (Option<i64>, Option<bool>) = (column(row, 1)?, column(row, 2)?) else {
            continue;
        };
        let last: i64 = column(row, 3)?;
        found.push((writer, last));
        // A closed writer stores no more events, so all of its events are covered.
        let all_of_it = if closed == Some(true) { ALL } else { last };
        all.push((writer, all_of_it));
        let removed: i64 = column(row, 4)?;
        if removed > 0 {
            let all_is_removed = removed == last;
            end.removed
                .push(writer, if all_is_removed { all_of_it } else { removed });
            gone.push((writer, removed, EventId::from(column::<Uuid>(row, 5)?)));
        }
    }
    if let Some(position) = position {
        position.check(job, end.job)?;
        for (writer, removed, newest) in gone {
            position.check_removed(job, writer, removed, newest)?;
        }
    }
    // The end also includes the writers that were not looked up, since all of their events are covered.
    for (low, high) in position.iter().flat_map(|position| position.from.closed()) {
        all.extend((low..=high).map(|writer| (writer, ALL)));
    }
    all.sort_unstable();
    for (writer, number) in all {
        end.reach.push(writer, number);
    }
    end.writers = found;
    Ok(end)
}

impl End {
    /// True if the log has an event that the position does not cover.
    pub(crate) async fn is_behind(&self, session: &mut Session, position: &Position) -> Result<bool> {
        let parts = parts(position, self);
        if position.windows.is_empty() {
            // The last number of a writer always belongs to an event, so a non-empty part has an event.
            return Ok(!parts.is_empty());
        }
        let Some(sql) = self.job.and_then(|job| page(job, &parts, None, (None, None), 1)) else {
            return Ok(false);
        };
        let answers = session.read(vec![sql]).await?;
        Ok(!rows(&answers, 0).is_empty())
    }
}

/// Events that a scan has yet to read: for each writer, those after number `low` and up to number `high`. Of
/// these, the events with an id up to `given` were returned already.
#[derive(Clone, Debug)]
struct Part {
    writers: Vec<i64>,
    low: Vec<i64>,
    high: Vec<i64>,
    given: EventId,
    /// True if the part is read along the index of ids.
    by_id: bool,
    /// True if this part has every event of the log up to the end of the scan.
    is_whole: bool,
}

/// The parts of a log that a scan has to read from a position to an end.
fn parts(position: &Position, end: &End) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut low = &position.from;
    let bounds = position
        .windows
        .iter()
        .map(|window| (Some(&window.end), window.given));
    for (bound, given) in bounds.chain([(None, EventId::MIN)]) {
        let mut part = Part {
            writers: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
            given,
            by_id: false,
            is_whole: false,
        };
        let mut events = 0_i64;
        for &(writer, last) in &end.writers {
            let from = low.of(writer);
            let to = bound.map_or(last, |bound| bound.of(writer).min(last));
            if to > from {
                part.writers.push(writer);
                part.low.push(from);
                part.high.push(to);
                events = events.saturating_add(to.saturating_sub(from));
            }
        }
        part.by_id = events > FEW;
        part.is_whole = part.by_id && position.windows.is_empty() && position.from == end.removed;
        if !part.writers.is_empty() {
            parts.push(part);
        }
        low = bound.unwrap_or(low);
    }
    parts
}

/// The statement that reads the next page of the parts; `None` if there are no parts.
fn page(
    job: i64,
    parts: &[Part],
    after: Option<EventId>,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    limit: i64,
) -> Option<Sql> {
    let mut sql = Sql::new("");
    let mut selects = Vec::new();
    for part in parts {
        let given = sql.push(Uuid::from(part.given.max(after.unwrap_or(EventId::MIN))));
        let mut condition = format!("e.id > {given}");
        if let Some(since) = since {
            let _ = write!(condition, " and e.time >= {}", since.as_nanos());
        }
        if let Some(until) = until {
            let _ = write!(condition, " and e.time < {}", until.as_nanos());
        }
        let columns = "select e.id, e.writer, e.number, e.line from";
        let mut within = || {
            let writers = sql.push(part.writers.clone());
            let (low, high) = (sql.push(part.low.clone()), sql.push(part.high.clone()));
            format!("unnest({writers}::bigint[], {low}::bigint[], {high}::bigint[]) as r (writer, low, high)")
        };
        let in_reach = "e.writer = r.writer and e.number > r.low and e.number <= r.high";
        let select = if part.is_whole {
            format!("{columns} @.event e where e.job = {job} and {condition}")
        } else if part.by_id {
            // Checks for each row, in the order of the index, whether it belongs to the part.
            let within = within();
            format!(
                "{columns} @.event e where e.job = {job} and {condition} and exists (select from {within} where {in_reach})"
            )
        } else {
            let within = within();
            format!("{columns} {within} join @.event e on e.job = {job} and {in_reach} where {condition}")
        };
        selects.push(format!("({select} order by e.id limit {limit})"));
    }
    if selects.is_empty() {
        return None;
    }
    sql.text = format!(
        "select * from ({}) as page order by id limit {limit}",
        selects.join(" union all ")
    )
    .into();
    Some(sql)
}

/// A running scan.
pub(crate) struct PostgresScan {
    db: Arc<Db>,
    store: u32,
    job: JobAddress,
    start: Position,
    end: End,
    parts: Vec<Part>,
    between: (Option<Timestamp>, Option<Timestamp>),
    step_timeout: Option<Duration>,
    page: i64,
    fetched: VecDeque<Row>,
    /// The id of the last row of the previous page.
    after: Option<EventId>,
    current: Option<(EventId, Row)>,
    fetched_all: bool,
}

/// A position, and the end of the log at the moment when the scan was opened.
pub(crate) struct Opened {
    pub(crate) position: Position,
    pub(crate) end: End,
}

impl PostgresScan {
    pub(crate) fn new(
        db: Arc<Db>,
        store: u32,
        job: &JobAddress,
        opened: Opened,
        options: &ScanOptions,
    ) -> Self {
        let Opened { mut position, end } = opened;
        position.job = end.job.unwrap_or_default();
        Self {
            db,
            store,
            job: job.clone(),
            parts: parts(&position, &end),
            start: position,
            end,
            between: (options.since, options.until),
            step_timeout: options.step_timeout,
            page: FIRST_PAGE,
            fetched: VecDeque::new(),
            after: None,
            current: None,
            fetched_all: false,
        }
    }

    fn step(&self) -> Deadline {
        self.step_timeout.map_or(Deadline::never(), Deadline::after)
    }

    fn check_there(&self) -> Result<()> {
        let Some(id) = self.end.job else { return Ok(()) };
        let job = self.job.clone();
        self.db
            .call(READ, &self.job, self.step(), move |mut session| async move {
                let answers = session.read(vec![is_there(id)]).await?;
                check_there(rows(&answers, 0), &job).map(drop)
            })
    }

    /// The position after the pages that were read.
    fn position(&self) -> Position {
        match self.after {
            Some(given) => self.start.behind(given, &self.end.reach),
            None => self.start.clone(),
        }
    }

    fn fetch(&mut self) -> Result<()> {
        let deadline = self.step();
        let Some(id) = self.end.job else {
            self.fetched_all = true;
            return Ok(());
        };
        let page = page(id, &self.parts, self.after, self.between, self.page);
        let (job, position, removals) = (self.job.clone(), self.position(), self.end.removals);
        let (fetched, removals) = self
            .db
            .call(READ, &self.job, deadline, move |mut session| async move {
                let mut statements: Vec<Sql> = page.into_iter().collect();
                // This statement runs after that of the page, so a deletion or removal during the read is noticed.
                statements.push(is_there(id));
                let mut answers = session.read(statements).await?;
                let found = check_there(&answers.pop().unwrap_or_default(), &job)?;
                if found != removals {
                    end(&mut session, &job, &position).await?;
                }
                Ok((answers.pop().unwrap_or_default(), found))
            })?;
        self.end.removals = removals;
        self.fetched_all = (fetched.len() as i64) < self.page;
        let mut bytes = 0;
        for row in &fetched {
            bytes += column::<&[u8]>(row, 3)?.len();
        }
        if let Some(last) = fetched.last() {
            let id: Uuid = column(last, 0)?;
            self.after = Some(id.into());
            let fitting = PAGE_BYTES / (bytes / fetched.len().max(1)).max(1);
            self.page = i64::try_from(fitting)
                .unwrap_or(LARGEST_PAGE)
                .clamp(1, LARGEST_PAGE);
        }
        for row in fetched {
            // An event that was stored after the scan began is left to a later scan.
            if column::<i64>(&row, 2)? <= self.end.reach.of(column(&row, 1)?) {
                self.fetched.push_back(row);
            }
        }
        Ok(())
    }
}

/// Selects the number of removals from a job's log. No row if the job was deleted.
fn is_there(job: i64) -> Sql {
    Sql::new("select removals from @.job where id = $1 and not deleted").arg(job)
}

fn check_there(found: &[Row], job: &JobAddress) -> Result<i64> {
    let why = "the log was deleted while it was read";
    first(found, 0)?.ok_or_else(|| StorageError::new(ErrorKind::Deleted, READ, job, why))
}

impl Scan for PostgresScan {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        if self.fetched.is_empty() && self.fetched_all && self.current.is_some() {
            // Some time has passed since the last page was read, so the job may have been deleted.
            self.check_there()?;
        }
        while self.fetched.is_empty() && !self.fetched_all {
            self.fetch()?;
        }
        let Some(row) = self.fetched.pop_front() else {
            self.current = None;
            self.start = Position::end(self.start.job, self.end.reach.clone());
            return Ok(None);
        };
        let id: Uuid = column(&row, 0)?;
        let (_, row) = self.current.insert((id.into(), row));
        let line: &[u8] = column(row, 3)?;
        match read_line(line) {
            Ok(record) => Ok(Some(ScanItem::Record(record))),
            Err(fault) => {
                let (writer, number): (i64, i64) = (column(row, 1)?, column(row, 2)?);
                Ok(Some(ScanItem::Damage(Damage {
                    place: format!("event {id} of {}, writer {writer}, number {number}", self.job),
                    offset: 0,
                    len: line.len() as u64,
                    why: fault.as_str().into(),
                })))
            }
        }
    }

    fn cursor(&self) -> Cursor {
        match &self.current {
            Some((given, _)) => self.start.behind(*given, &self.end.reach).encode(self.store),
            None => self.start.encode(self.store),
        }
    }
}

impl fmt::Debug for PostgresScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresScan")
            .field("job", &self.job)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
