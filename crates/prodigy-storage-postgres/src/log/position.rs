//! Cursors: for each writer of a log, the last event that was read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::JobAddress;

const PREFIX: &str = "v1.postgres.";
const READ: &str = "read cursor";
/// A number greater than that of any event: all events of a closed writer are covered.
pub(crate) const ALL: i64 = i64::MAX;

/// The events that a cursor covers: for each writer, all up to a number. Adjacent writers with the same number are
/// stored as one run, so that closed writers, all of whose events are covered, take little room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach(BTreeMap<i64, (i64, i64)>);

impl Reach {
    pub(crate) fn of(&self, writer: i64) -> i64 {
        let run = self.0.range(..=writer).next_back();
        run.filter(|(_, (last, _))| writer <= *last)
            .map_or(0, |(_, (_, number))| *number)
    }

    /// Adds a writer whose ordinal is above all others, with the number of its last covered event.
    pub(crate) fn push(&mut self, writer: i64, number: i64) {
        if number == 0 {
            return;
        }
        if let Some(mut run) = self.0.last_entry() {
            let (last, of_run) = run.get_mut();
            if *last + 1 == writer && *of_run == number {
                *last = writer;
                return;
            }
        }
        self.0.insert(writer, (writer, number));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs of writers all of whose events are covered, each as its first and last writer.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0
            .iter()
            .filter(|(_, (_, number))| *number == ALL)
            .map(|(first, (last, _))| (*first, *last))
    }

    fn encode(&self, out: &mut String) {
        for (at, (first, (last, number))) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{first}");
            if last > first {
                let _ = write!(out, "-{last}");
            }
            if *number < ALL {
                let _ = write!(out, ":{number}");
            }
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let mut reach = Self::default();
        let mut before = 0;
        for run in text.split(',').filter(|run| !run.is_empty()) {
            let (writers, number) = match run.split_once(':') {
                Some((writers, number)) => (writers, number.parse().ok()?),
                None => (run, ALL),
            };
            let (first, last) = writers.split_once('-').unwrap_or((writers, writers));
            let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
            if first <= before || last < first || number < 1 {
                return None;
            }
            before = last;
            reach.0.insert(first, (last, number));
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

    /// The position of a scan that began at this position and ends at `end`, once all events with an id up to
    /// `given` were returned.
    pub(crate) fn behind(&self, given: EventId, end: &Reach) -> Self {
        let mut windows: Vec<Window> = Vec::with_capacity(self.windows.len() + 1);
        let last = Window {
            end: end.clone(),
            given,
        };
        for window in self.windows.iter().cloned().chain([last]) {
            let given = window.given.max(given);
            match windows.last_mut() {
                // The ids of the windows descend. Two windows with the same id become one.
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

    pub(crate) fn encode(&self, store: u32) -> Cursor {
        let mut text = format!("{}{:x}.", cursor_prefix(store), self.job);
        self.from.encode(&mut text);
        for window in &self.windows {
            let _ = write!(text, ".{:x}=", window.given.as_u128());
            window.end.encode(&mut text);
        }
        Cursor::from_backend(text)
    }

    pub(crate) fn decode(cursor: &Cursor, store: u32, job: &JobAddress) -> Result<Self> {
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
        for window in self.windows.iter().filter(|window| window.given >= newest) {
            low = low.max(window.end.of(writer));
        }
        if low >= removed {
            return Ok(());
        }
        Err(gap(job, "events after it were removed"))
    }
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
            reach.push(*writer, *number);
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
        let position = Position::end(77, reach.clone()).behind(EventId::from_u128(5), &reach);
        let cursor = position.encode(9);
        assert!(cursor.as_str().len() < 4096, "{}", cursor.as_str().len());
        assert_eq!(Position::decode(&cursor, 9, &job()).unwrap(), position);
    }

    #[test]
    fn a_cursor_of_another_store_or_a_deleted_log_is_a_gap() {
        let cursor = Position::end(7, reach(&[(1, 3)])).encode(1);
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
        Position::decode(&Position::default().encode(1), 2, &job())
            .unwrap()
            .check(&job(), Some(8))
            .unwrap();
    }

    #[test]
    fn equal_bounds_are_one_window() {
        let id = EventId::from_u128;
        let first = Position::default().behind(id(5), &reach(&[(1, 10)]));
        let second = first.behind(id(3), &reach(&[(1, 12)]));
        assert_eq!(second.windows.len(), 2);
        let third = second.behind(id(7), &reach(&[(1, 12)]));
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
        let scan = |given, last| end(3).behind(id(given), &reach(&[(1, ALL), (2, last)]));
        assert!(is_covered(&scan(50, 10)) && !is_covered(&scan(49, 10)) && !is_covered(&scan(50, 9)));
        let second = scan(60, 6).behind(id(55), &reach(&[(2, 12)]));
        assert!(is_covered(&second));
        assert!(!is_covered(&scan(60, 6).behind(id(49), &reach(&[(2, 12)]))));
    }

    #[test]
    fn text_that_is_no_reach_is_refused() {
        for text in ["x", "2,1", "3-2", "1:0", "1:-4", "1-"] {
            assert_eq!(Reach::decode(text), None, "{text}");
        }
    }
}
