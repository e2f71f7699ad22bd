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
use super::position::{ALL, Position, Reach, Witness, lost, short};
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
    /// The position behind all events of this server. It has windows only on a standby that lacks events of them.
    past: Position,
    /// The events that were removed. A scan of the whole log starts after them.
    removed: Reach,
    /// The number of removals from the log, which shows whether another one was made.
    removals: i64,
}

/// Reads the present end of a log, for a scan from its first event.
pub(crate) async fn whole(session: &mut Session, job: &JobAddress) -> Result<Opened> {
    let end = read_end(session, job, None).await?;
    let position = Position::end(end.past.job, end.removed.clone());
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
    let text = "select j.id, w.ordinal, w.closed, coalesce(e.number, w.removed), w.removed, w.newest, j.removals, \
                  e.id, n.ordinal, n.id, g.writer, g.number, g.id \
                from @.job j \
                left join lateral (select ordinal, id from @.writer where job = j.id order by ordinal desc limit 1) n on true \
                left join lateral (select writer, number, id from @.event where job = j.id order by id desc limit 1) g on true \
                left join @.writer w on w.job = j.id \
                  and not exists (select from unnest($3::bigint[], $4::bigint[]) as c (low, high) where w.ordinal between c.low and c.high) \
                left join lateral (select number, id from @.event where job = w.job and writer = w.ordinal \
                  order by number desc limit 1) e on true \
                where j.repo = $1 and j.name = $2 and not j.deleted order by w.ordinal";
    let mut statements = vec![of_job(text, job).arg(first_closed).arg(last_closed)];
    let witnesses = position.map(Position::witnesses).unwrap_or_default();
    if let Some(position) = position {
        // After the statement that reads the end, so that a failover between the two is noticed.
        statements.extend(kept(job, position, &witnesses));
        // Before all others: a standby that becomes the primary among them may lack the newest rows.
        statements.insert(0, Sql::new("select pg_is_in_recovery()"));
    }
    let mut answers = session.read(statements).await?;
    let is_standby = position.is_some() && first(&answers.remove(0), 0)? == Some(true);
    let (mut found, mut all, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut end, mut newest_writer, mut newest_event) = (End::default(), None, None);
    if let Some(row) = rows(&answers, 0).first() {
        newest_writer = witness(column(row, 8)?, Some(0), column(row, 9)?);
        end.removed = Reach::of_log(newest_writer);
        newest_event = witness(column(row, 10)?, column(row, 11)?, column(row, 12)?);
    }
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
        // The id of the last event is kept while more may follow.
        let event: Option<Uuid> = column(row, 7)?;
        all.push((writer, all_of_it, event.filter(|_| all_of_it < ALL)));
        let removed: i64 = column(row, 4)?;
        if removed > 0 {
            let all_is_removed = removed == last;
            end.removed
                .push(writer, if all_is_removed { all_of_it } else { removed }, None);
            gone.push((writer, removed, EventId::from(column::<Uuid>(row, 5)?)));
        }
    }
    let mut lacking = Vec::new();
    if let Some(position) = position {
        position.check(job, end.job)?;
        for (writer, removed, newest) in gone {
            position.check_removed(job, writer, removed, newest)?;
        }
        let answers = answers.get(1..).unwrap_or_default();
        lacking = check_kept(job, &witnesses, answers, is_standby)?;
    }
    // A standby that lacks the newest writer of the position has only older ones.
    let lacking_writer = lacking.iter().find(|witness| witness.number == 0);
    let mut reach = Reach::of_log(lacking_writer.copied().or(newest_writer));
    for (writer, number, event) in all {
        reach.push(writer, number, event.map(short));
    }
    let behind = position.filter(|_| is_standby);
    // The end also includes the writers that were not looked up, since all of their events are covered.
    if let Some(position) = position {
        reach = match is_standby {
            true => reach.merged(&position.from),
            false => reach.merged(&position.from.only_closed()),
        };
    }
    let events = lacking.into_iter().filter(|witness| witness.number > 0);
    for event in events.chain(newest_event) {
        reach.with_newest_event(event);
    }
    end.past.job = end.job.unwrap_or_default();
    end.past.windows = behind.map_or_else(Vec::new, |position| position.windows_above(&reach));
    end.past.from = reach;
    end.writers = found;
    Ok(end)
}

/// A witness from the columns of a row; `None` if they are null.
fn witness(writer: Option<i64>, number: Option<i64>, id: Option<Uuid>) -> Option<Witness> {
    Some(Witness {
        writer: writer?,
        number: number?,
        short: short(id?),
    })
}

/// The statements that look up the rows by which a loss of covered events is noticed: the witnesses of a position,
/// and the last returned event of each of its windows.
fn kept(job: &JobAddress, position: &Position, witnesses: &[Witness]) -> Vec<Sql> {
    let (writers, numbers): (Vec<i64>, Vec<i64>) =
        witnesses.iter().map(|row| (row.writer, row.number)).unzip();
    let rows = "select case when c.number = 0 then w.id else \
                    (select e.id from @.event e where e.job = j.id and e.writer = c.writer and e.number = c.number) end, \
                  c.number > 0 and c.number <= w.removed, c.writer, c.number \
                from @.job j cross join unnest($3::bigint[], $4::bigint[]) as c (writer, number) \
                left join lateral (select id, removed from @.writer where job = j.id and ordinal = c.writer) w on true \
                where j.repo = $1 and j.name = $2 and not j.deleted";
    let given: Vec<Uuid> = position
        .windows
        .iter()
        .map(|window| window.given.into())
        .collect();
    let returned = "select c.id from @.job j cross join unnest($3::uuid[]) as c (id) \
                    where j.repo = $1 and j.name = $2 and not j.deleted and c.id > coalesce(j.newest, $4) \
                    and not exists (select from @.event e where e.job = j.id and e.id = c.id)";
    // A position at the start covers nothing, so nothing of it can be lost.
    if position.is_start() {
        return Vec::new();
    }
    vec![
        of_job(rows, job).arg(writers).arg(numbers),
        of_job(returned, job).arg(given).arg(Uuid::nil()),
    ]
}

/// Fails if the server has lost one of these rows, by the answers to the statements of [`kept`]. Returns those that a
/// standby does not have yet.
fn check_kept(
    job: &JobAddress,
    witnesses: &[Witness],
    answers: &[Vec<Row>],
    is_standby: bool,
) -> Result<Vec<Witness>> {
    let (mut missing, mut lacking) = (None, Vec::new());
    for row in rows(answers, 0) {
        let (writer, number): (i64, i64) = (column(row, 2)?, column(row, 3)?);
        let is_it = |witness: &&Witness| (witness.writer, witness.number) == (writer, number);
        let wanted = witnesses.iter().find(is_it);
        let what = match number {
            0 => format!("writer {writer}"),
            _ => format!("event {number} of writer {writer}"),
        };
        match column::<Option<Uuid>>(row, 0)? {
            Some(id) if Some(short(id)) == wanted.map(|witness| witness.short) => {}
            Some(_) => return Err(lost(job, &format!("{what} is another one now"))),
            None if column::<Option<bool>>(row, 1)? == Some(true) => {}
            None => {
                lacking.extend(wanted);
                missing = missing.or(Some(what));
            }
        }
    }
    if let Some(id) = first::<Uuid>(rows(answers, 1), 0)? {
        missing = missing.or(Some(format!("event {}", EventId::from(id))));
    }
    match missing {
        // A standby gets the newest rows later.
        Some(what) if !is_standby => Err(lost(job, &format!("{what} is gone"))),
        _ => Ok(lacking),
    }
}

impl End {
    /// The position behind all events that the log has, and all events that the position of the scan covers.
    pub(crate) fn past(&self) -> &Position {
        &self.past
    }

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
        part.is_whole = part.by_id && position.windows.is_empty() && position.from.covers_as(&end.removed);
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
    /// True if the job was still there after its last page.
    checked: bool,
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
            checked: false,
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
            Some(given) => self.start.behind(given, &self.end.past),
            None => self.start.clone(),
        }
    }

    fn fetch_page(&mut self) -> Result<()> {
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
            if column::<i64>(&row, 2)? <= self.end.past.end_of_windows().of(column(&row, 1)?) {
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
    fn fetch(&mut self) -> Result<()> {
        if !self.fetched.is_empty() || self.checked {
            return Ok(());
        }
        if self.fetched_all && self.current.is_some() {
            // Some time has passed since the last page was read, so the job may have been deleted.
            self.check_there()?;
        }
        while self.fetched.is_empty() && !self.fetched_all {
            self.fetch_page()?;
        }
        self.checked = self.fetched.is_empty();
        Ok(())
    }

    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        self.fetch()?;
        let Some(row) = self.fetched.pop_front() else {
            self.current = None;
            self.start = self.end.past.clone();
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
            Some((given, _)) => self.start.behind(*given, &self.end.past).into_cursor(self.store),
            None => self.start.clone().into_cursor(self.store),
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
