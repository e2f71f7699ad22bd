//! Cursors: for each writer of a log, the last event that was read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::JobAddress;
use uuid::Uuid;

const PREFIX: &str = "v1.postgres.";
const READ: &str = "read cursor";
/// A number greater than that of any event: all events of a closed writer are covered.
pub(crate) const ALL: i64 = i64::MAX;

/// The events that a cursor covers: for each writer, all up to a number. Adjacent writers with the same number are
/// stored as one run, so that closed writers, all of whose events are covered, take little room.
///
/// It also names rows by which a later reader recognises that the server has lost none of these events: the last
/// covered event of each open writer, the newest event, and the newest writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The key is the first writer of a run.
    runs: BTreeMap<i64, Run>,
    /// The newest writer of the log, and its newest event if the writer of that is closed.
    newest: Vec<Witness>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    last: i64,
    number: i64,
    /// The short form of the id of the last covered event. A run with it has one writer.
    event: Option<u32>,
}

/// A short form of an id, which a cursor has room for.
pub(crate) fn short(id: Uuid) -> u32 {
    let (high, low) = id.as_u64_pair();
    let both = high ^ low;
    // The folded halves fit by construction.
    u32::try_from((both >> 32) ^ (both & u64::from(u32::MAX))).unwrap_or_default()
}

impl Reach {
    /// A reach without events, of a log with this newest writer.
    pub(crate) fn of_log(newest: Option<Witness>) -> Self {
        Self {
            runs: BTreeMap::new(),
            newest: newest.into_iter().collect(),
        }
    }

    /// Adds the newest event of the log, which the reach covers.
    pub(crate) fn with_newest_event(&mut self, event: Witness) {
        // The last event of an open writer is named by its run.
        if self.of(event.writer) == ALL {
            self.newest.push(event);
        }
    }

    pub(crate) fn of(&self, writer: i64) -> i64 {
        self.run_of(writer).map_or(0, |run| run.number)
    }

    fn run_of(&self, writer: i64) -> Option<Run> {
        let run = self.runs.range(..=writer).next_back();
        run.map(|(_, run)| *run).filter(|run| writer <= run.last)
    }

    /// Adds a writer whose ordinal is above all others, with the number of its last covered event, and the
    /// short form of its id if it can be looked up.
    pub(crate) fn push(&mut self, writer: i64, number: i64, event: Option<u32>) {
        if number == 0 {
            return;
        }
        self.add(
            writer,
            Run {
                last: writer,
                number,
                event,
            },
        );
    }

    /// Adds a run of writers whose ordinals are above all others.
    fn add(&mut self, first: i64, run: Run) {
        if let Some(mut entry) = self.runs.last_entry() {
            let before = entry.get_mut();
            if before.last + 1 == first
                && before.number == run.number
                && (before.event, run.event) == (None, None)
            {
                before.last = run.last;
                return;
            }
        }
        self.runs.insert(first, run);
    }

    /// The events that one of the two covers, with the newest rows of this one.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let both = || [self, other].into_iter();
        let runs = both().flat_map(|reach| &reach.runs);
        // From one bound to the next, each of the two has the same number for all writers.
        let bounds: BTreeSet<i64> = runs
            .flat_map(|(first, run)| [*first, run.last.saturating_add(1)])
            .collect();
        let mut merged = Self {
            runs: BTreeMap::new(),
            newest: self.newest.clone(),
        };
        for (first, next) in bounds.iter().zip(bounds.iter().skip(1)) {
            let found = both().rev().filter_map(|reach| reach.run_of(*first));
            if let Some(run) = found.max_by_key(|run| run.number) {
                merged.add(
                    *first,
                    Run {
                        last: next - 1,
                        ..run
                    },
                );
            }
        }
        merged
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True if both cover the same events.
    pub(crate) fn covers_as(&self, other: &Self) -> bool {
        let numbers = |reach: &Self| -> Vec<(i64, i64, i64)> {
            let runs = reach.runs.iter();
            runs.map(|(first, run)| (*first, run.last, run.number)).collect()
        };
        numbers(self) == numbers(other)
    }

    /// The runs of writers all of whose events are covered, each as its first and last writer.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (i64, i64)> {
        self.runs
            .iter()
            .filter(|(_, run)| run.number == ALL)
            .map(|(first, run)| (*first, run.last))
    }

    /// The writers all of whose events are covered.
    pub(crate) fn only_closed(&self) -> Self {
        let runs = self.runs.iter().filter(|(_, run)| run.number == ALL);
        Self {
            runs: runs.map(|(first, run)| (*first, *run)).collect(),
            newest: Vec::new(),
        }
    }

    fn encode(&self, out: &mut String, with_events: bool) {
        let mut comma = "";
        for (first, run) in &self.runs {
            let _ = write!(out, "{comma}{first}");
            comma = ",";
            if run.last > *first {
                let _ = write!(out, "-{}", run.last);
            }
            if run.number < ALL {
                let _ = write!(out, ":{}", run.number);
            }
            if let Some(event) = run.event.filter(|_| with_events) {
                let _ = write!(out, ":{event:x}");
            }
        }
        for witness in &self.newest {
            if witness.number == 0 {
                let _ = write!(out, "{comma}{}={:x}", witness.writer, witness.short);
            } else if with_events {
                let _ = write!(
                    out,
                    "{comma}{}:{}={:x}",
                    witness.writer, witness.number, witness.short
                );
            }
            comma = ",";
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let mut reach = Self::default();
        let mut before = 0;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            if let Some((row, short)) = part.split_once('=') {
                let (writer, number) = row.split_once(':').unwrap_or((row, "0"));
                reach.newest.push(Witness {
                    writer: writer.parse().ok()?,
                    number: number.parse().ok()?,
                    short: u32::from_str_radix(short, 16).ok()?,
                });
                continue;
            }
            let mut fields = part.split(':');
            let writers = fields.next()?;
            let number = fields.next().map_or(Some(ALL), |number| number.parse().ok())?;
            let event = match fields.next() {
                Some(event) => Some(u32::from_str_radix(event, 16).ok()?),
                None => None,
            };
            let (first, last) = writers.split_once('-').unwrap_or((writers, writers));
            let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
            if first <= before || last < first || last == i64::MAX || number < 1 {
                return None;
            }
            before = last;
            reach.runs.insert(first, Run { last, number, event });
        }
        Some(reach)
    }
}

/// Events of which a scan has returned only a part: those within `end`, and of these the ones with an id up to
/// `given`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) end: Reach,
    pub(crate) given: EventId,
}

/// The position of a scan. All events within `from` were returned; of those within each window but not in the one
/// before, only the events up to the window's id.
///
/// A scan returns events in the order of their ids, and an event may be stored after others with greater ids. So a
/// cursor from the middle of a scan needs a window. If the scan had begun at such a cursor, it may need both
/// windows. At the end of a scan only `from` is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The id of the job's row. A job that is deleted and created again gets another row.
    pub(crate) job: i64,
    pub(crate) from: Reach,
    pub(crate) windows: Vec<Window>,
}

/// A row that was there when a cursor was made: an event, or with the number 0 a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) writer: i64,
    pub(crate) number: i64,
    /// The short form of its id.
    pub(crate) short: u32,
}

/// The first characters of all cursors of a store. Their number is always the same.
pub(crate) fn cursor_prefix(store: u32) -> String {
    format!("{PREFIX}{store:08x}.")
}

impl Position {
    /// The position at which all events within `from` were returned.
    pub(crate) fn end(job: i64, from: Reach) -> Self {
        Self {
            job,
            from,
            windows: Vec::new(),
        }
    }

    pub(crate) fn is_start(&self) -> bool {
        self.from.is_empty() && self.windows.is_empty()
    }

    /// The last event of each writer that the position covers at least in part.
    pub(crate) fn end_of_windows(&self) -> &Reach {
        self.windows.last().map_or(&self.from, |window| &window.end)
    }

    /// The windows with events that `reach` does not cover, each extended by `reach`.
    pub(crate) fn windows_above(&self, reach: &Reach) -> Vec<Window> {
        let windows = self.windows.iter().map(|window| Window {
            end: reach.merged(&window.end),
            given: window.given,
        });
        windows.filter(|window| !window.end.covers_as(reach)).collect()
    }

    /// The position of a scan that began at this position and ends at `past`, once all events with an id up to
    /// `given` were returned.
    pub(crate) fn behind(&self, given: EventId, past: &Self) -> Self {
        let mut windows: Vec<Window> = Vec::with_capacity(self.windows.len() + 1);
        let last = Window {
            end: past.end_of_windows().clone(),
            given,
        };
        for window in self.windows.iter().cloned().chain([last]) {
            // A standby may lack events of a window with an id up to `given`.
            let given = if past.windows.is_empty() {
                window.given.max(given)
            } else {
                window.given
            };
            match windows.last_mut() {
                // The ids of the windows descend, except on a standby that lacks events of them. Two windows with the same id become one.
                Some(before) if before.given == given => before.end = window.end,
                _ => windows.push(Window {
                    end: window.end,
                    given,
                }),
            }
        }
        Self {
            job: self.job,
            from: self.from.clone(),
            windows,
        }
    }

    /// The cursor, whose text is made when it is first asked for: a stream has a cursor for each event.
    pub(crate) fn into_cursor(self, store: u32) -> Cursor {
        Cursor::from_backend(move || self.encode(store))
    }

    fn encode(&self, store: u32) -> String {
        let mut text = format!("{}{:x}.", cursor_prefix(store), self.job);
        self.from.encode(&mut text, true);
        for window in &self.windows {
            let _ = write!(text, ".{:x}=", window.given.as_u128());
            // Events within a window may not be returned yet, so the cursor fits without them.
            window.end.encode(&mut text, false);
        }
        text
    }

    pub(crate) fn decode(cursor: &Cursor, store: u32, job: &JobAddress) -> Result<Self> {
        cursor.refuse_gap(READ, job)?;
        let rest = cursor.as_str().strip_prefix(PREFIX);
        let Some((of_store, position)) = rest.and_then(parse) else {
            let shown: String = cursor.as_str().chars().take(40).collect();
            return Err(StorageError::invalid(
                READ,
                job,
                format!("`{shown}` is not a cursor of the PostgreSQL backend"),
            )
            .with_hint("use a cursor only with the backend and the job that it was made for"));
        };
        if of_store == store || position.is_start() {
            return Ok(position);
        }
        Err(gap(job, "it was made on another database or schema"))
    }

    /// Fails if the position is in a log that was deleted. `found` is the id of the job's row now.
    pub(crate) fn check(&self, job: &JobAddress, found: Option<i64>) -> Result<()> {
        if self.is_start() || found == Some(self.job) {
            return Ok(());
        }
        Err(gap(job, "the log that it was made on was deleted"))
    }

    /// The rows that the server has if it has lost none of the covered events. Writers are registered one after the
    /// other, so the newest one is there only if all others are.
    pub(crate) fn witnesses(&self) -> Vec<Witness> {
        let mut reaches = self
            .windows
            .iter()
            .rev()
            .map(|window| &window.end)
            .chain([&self.from]);
        let newest = reaches.find_map(|reach| reach.newest.iter().find(|witness| witness.number == 0));
        let last = self.from.runs.iter().filter_map(|(writer, run)| {
            Some(Witness {
                writer: *writer,
                number: run.number,
                short: run.event?,
            })
        });
        let of_closed = self
            .from
            .newest
            .iter()
            .filter(|witness| witness.number > 0)
            .copied();
        last.chain(of_closed).chain(newest.copied()).collect()
    }

    /// Fails if the position does not cover all removed events of a writer: those up to number `removed`, of which
    /// `newest` has the greatest id.
    ///
    /// A window is taken to cover a writer's events if it covers the event with the greatest id. So a position in
    /// the middle of a second scan may be refused although it covers all removed events.
    pub(crate) fn check_removed(
        &self,
        job: &JobAddress,
        writer: i64,
        removed: i64,
        newest: EventId,
    ) -> Result<()> {
        let mut low = self.from.of(writer);
        for window in self.windows.iter().take_while(|window| window.given >= newest) {
            low = low.max(window.end.of(writer));
        }
        if low >= removed {
            return Ok(());
        }
        Err(gap(job, "events after it were removed"))
    }
}

/// The error of a cursor that covers events which the server has lost.
pub(crate) fn lost(job: &JobAddress, what: &str) -> StorageError {
    let why = format!("the server has lost events that it covers: {what}");
    StorageError::new(ErrorKind::CursorGap, READ, job, why).with_hint(
        "a failover to a standby that lacked the last commits, or a restore of the database, took them back: \
         correct the work that was made from them, then read from the beginning (docs/how-to/run-postgresql.md)",
    )
}

fn gap(job: &JobAddress, why: &'static str) -> StorageError {
    StorageError::new(ErrorKind::CursorGap, READ, job, why).with_hint("read from the beginning")
}

fn parse(text: &str) -> Option<(u32, Position)> {
    let mut parts = text.split('.');
    let store = u32::from_str_radix(parts.next()?, 16).ok()?;
    let job = i64::from_str_radix(parts.next()?, 16).ok()?;
    let mut position = Position::end(job, Reach::decode(parts.next()?)?);
    for part in parts {
        let (given, end) = part.split_once('=')?;
        position.windows.push(Window {
            end: Reach::decode(end)?,
            given: EventId::from_u128(u128::from_str_radix(given, 16).ok()?),
        });
    }
    Some((store, position))
}

#[cfg(test)]
mod tests {
    use prodigy_storage_layout::{JobId, RepoName};

    use super::*;

    fn reach(writers: &[(i64, i64)]) -> Reach {
        let mut reach = Reach::default();
        for (writer, number) in writers {
            reach.push(*writer, *number, None);
        }
        reach
    }

    fn job() -> JobAddress {
        JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("a").unwrap())
    }

    #[test]
    fn ten_thousand_dead_writers_fit_into_a_small_cursor() {
        let mut writers: Vec<(i64, i64)> = vec![(1, 7)];
        writers.extend((2..=10_001).map(|writer| (writer, ALL)));
        writers.push((10_002, 12));
        let reach = reach(&writers);
        assert_eq!(
            (reach.of(1), reach.of(5_000), reach.of(10_002), reach.of(10_003)),
            (7, ALL, 12, 0)
        );
        let position =
            Position::end(77, reach.clone()).behind(EventId::from_u128(5), &Position::end(77, reach));
        let cursor = position.clone().into_cursor(9);
        assert!(cursor.as_str().len() < 4096, "{}", cursor.as_str().len());
        assert_eq!(Position::decode(&cursor, 9, &job()).unwrap(), position);
    }

    #[test]
    fn a_cursor_of_another_store_or_a_deleted_log_is_a_gap() {
        let cursor = Position::end(7, reach(&[(1, 3)])).into_cursor(1);
        assert_eq!(
            Position::decode(&cursor, 2, &job()).unwrap_err().kind(),
            ErrorKind::CursorGap
        );
        let position = Position::decode(&cursor, 1, &job()).unwrap();
        position.check(&job(), Some(7)).unwrap();
        for found in [None, Some(8)] {
            assert_eq!(
                position.check(&job(), found).unwrap_err().kind(),
                ErrorKind::CursorGap
            );
        }
        Position::decode(&Position::default().into_cursor(1), 2, &job())
            .unwrap()
            .check(&job(), Some(8))
            .unwrap();
    }

    #[test]
    fn a_merged_reach_covers_what_either_covers_however_long_its_runs_are() {
        let (mut one, mut two) = (Reach::default(), Reach::default());
        for (first, last, number) in [(1, 4, ALL), (5, 5, 7), (9, 9, 2)] {
            one.add(
                first,
                Run {
                    last,
                    number,
                    event: None,
                },
            );
        }
        for (first, last, number) in [(3, 3, 8), (5, 5, 9), (8, i64::MAX - 1, ALL)] {
            two.add(
                first,
                Run {
                    last,
                    number,
                    event: Some(3),
                },
            );
        }
        for merged in [one.merged(&two), two.merged(&one)] {
            for writer in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1 << 40] {
                assert_eq!(merged.of(writer), one.of(writer).max(two.of(writer)), "{writer}");
            }
        }
    }

    #[test]
    fn equal_bounds_are_one_window() {
        let id = EventId::from_u128;
        let end = |writers| Position::end(0, reach(writers));
        let first = Position::default().behind(id(5), &end(&[(1, 10)]));
        let second = first.behind(id(3), &end(&[(1, 12)]));
        assert_eq!(second.windows.len(), 2);
        let third = second.behind(id(7), &end(&[(1, 12)]));
        assert_eq!(
            third.windows,
            [Window {
                end: reach(&[(1, 12)]),
                given: id(7)
            }]
        );
    }

    #[test]
    fn a_position_before_removed_events_is_a_gap() {
        let id = EventId::from_u128;
        let is_covered = |position: &Position| position.check_removed(&job(), 2, 10, id(50)).is_ok();
        let end = |number| Position::end(7, reach(&[(1, ALL), (2, number)]));
        assert!(!is_covered(&end(9)) && is_covered(&end(10)) && is_covered(&end(ALL)));
        assert!(!is_covered(&Position::default()));
        // A position in the middle of a scan covers the returned events, up to the end of the log when the scan
        // began.
        let scan = |given, last| end(3).behind(id(given), &end(last));
        assert!(is_covered(&scan(50, 10)) && !is_covered(&scan(49, 10)) && !is_covered(&scan(50, 9)));
        let second = scan(60, 6).behind(id(55), &end(12));
        assert!(is_covered(&second));
        assert!(!is_covered(&scan(60, 6).behind(id(49), &end(12))));
    }

    #[test]
    fn a_cursor_names_the_rows_that_show_a_loss() {
        let id = |number: u128| Uuid::from_u128(number << 40);
        let witness = |writer, number, of| Witness {
            writer,
            number,
            short: short(id(of)),
        };
        let mut from = Reach::of_log(Some(witness(3, 0, 30)));
        for (writer, number, event) in [
            (1, ALL, None),
            (2, 9, Some(short(id(9)))),
            (3, 9, Some(short(id(8)))),
        ] {
            from.push(writer, number, event);
        }
        let decoded = |position: &Position| {
            Position::decode(&position.clone().into_cursor(1), 1, &job())
                .unwrap()
                .witnesses()
        };
        from.with_newest_event(witness(3, 9, 8));
        from.with_newest_event(witness(1, 7, 11));
        let position = Position::end(7, from.clone());
        assert_eq!(
            decoded(&position),
            [
                witness(2, 9, 9),
                witness(3, 9, 8),
                witness(1, 7, 11),
                witness(3, 0, 30)
            ]
        );
        // In the middle of a scan, the newest writer is the one at the end of the scan.
        let mut end = Reach::of_log(Some(witness(4, 0, 40)));
        end.push(3, 20, Some(short(id(7))));
        let middle = position.behind(EventId::from_u128(5), &Position::end(7, end));
        assert_eq!(
            decoded(&middle),
            [
                witness(2, 9, 9),
                witness(3, 9, 8),
                witness(1, 7, 11),
                witness(4, 0, 40)
            ]
        );
        // A cursor of an earlier version names none.
        let old = Cursor::new("v1.postgres.00000001.7.1,2:9").unwrap();
        let old = Position::decode(&old, 1, &job()).unwrap();
        assert_eq!((old.witnesses(), old.from.of(2)), (Vec::new(), 9));
    }

    #[test]
    fn text_that_is_no_reach_is_refused() {
        for text in [
            "x", "2,1", "3-2", "1:0", "1:-4", "1-", "1:2:x", "1=", "=1", "1:x=2",
        ] {
            assert_eq!(Reach::decode(text), None, "{text}");
        }
    }
}
