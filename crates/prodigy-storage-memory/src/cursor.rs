//! Positions in a log, and their text form.

use std::fmt::Write as _;

use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use crate::log::{EventLog, Removed};

const PREFIX: &str = "v1.memory.";
const READ: &str = "read cursor";

/// A range of lines in the order of arrival. Its lines with ids up to `given` were returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The end of the range. The range begins at the end of the previous window.
    pub(crate) end: usize,
    /// The id up to which the lines of the range were returned.
    pub(crate) given: EventId,
}

/// A position in the order of arrival: all lines before `from` were returned, and so were, in each window, the lines up
/// to the id of the window.
///
/// A scan returns lines in the order of ids, and a late line arrives after lines with greater ids. So a cursor in the
/// middle of a scan needs a window for that scan, and another one if the scan itself began at such a cursor. The ids
/// descend from window to window; otherwise two windows are merged. At the end of a scan, only `from` is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) from: usize,
    pub(crate) windows: Vec<Window>,
}

impl Position {
    /// The position after the last line that `from` or a window covers.
    pub(crate) fn end(&self) -> usize {
        self.windows.last().map_or(self.from, |window| window.end)
    }

    /// True if the line at `at` was returned.
    pub(crate) fn has_given(&self, at: usize, id: EventId) -> bool {
        at < self.from
            || self
                .windows
                .iter()
                .find(|window| at < window.end)
                .is_some_and(|window| id <= window.given)
    }

    /// The position after the line with the id `given`, in a scan that starts at this position and ends before `end`.
    pub(crate) fn behind(&self, given: EventId, end: usize) -> Self {
        let mut windows: Vec<Window> = Vec::with_capacity(self.windows.len() + 1);
        let last = (self.end() < end).then_some(Window { end, given });
        for window in self.windows.iter().copied().chain(last) {
            let raised = Window {
                end: window.end,
                given: window.given.max(given),
            };
            match windows.last_mut() {
                Some(before) if before.given == raised.given => before.end = raised.end,
                _ => windows.push(raised),
            }
        }
        Self {
            from: self.from,
            windows,
        }
    }

    /// The position before all lines of a log.
    pub(crate) fn start_of(log: &EventLog) -> Self {
        Self {
            from: log.removed().lines,
            windows: Vec::new(),
        }
    }

    /// True if some removed lines may not have been returned. A scan returns the line with the greatest id last.
    fn misses(&self, removed: Removed) -> bool {
        let last = removed.lines.checked_sub(1);
        last.is_some_and(|last| !self.has_given(last, removed.newest))
    }

    /// The position after all lines of a log.
    pub(crate) fn end_of(log: &EventLog) -> Result<Cursor> {
        let end = Self {
            from: log.len(),
            windows: Vec::new(),
        };
        end.encode(log)
    }

    pub(crate) fn encode(&self, log: &EventLog) -> Result<Cursor> {
        let anchor = anchor(log, self.end());
        let mut text = format!(
            "{PREFIX}{:x}.{}.{:x}",
            log.incarnation,
            self.from,
            anchor.as_u128()
        );
        for window in &self.windows {
            let _ = write!(text, ".{}-{:x}", window.end, window.given.as_u128());
        }
        Cursor::new(text)
    }

    /// Parses a cursor. Fails if the cursor belongs to another log.
    pub(crate) fn decode(cursor: &Cursor, log: Option<&EventLog>, job: &JobAddress) -> Result<Self> {
        cursor.refuse_gap(READ, job)?;
        let Some(rest) = cursor.as_str().strip_prefix(PREFIX) else {
            return Err(foreign(cursor, job));
        };
        let (incarnation, anchored, position) = parse(rest).ok_or_else(|| foreign(cursor, job))?;
        if let Some(log) = log
            && (log.incarnation == incarnation || position.end() == 0)
            && position.misses(log.removed())
        {
            return Err(gap(log.removed(), job));
        }
        if position.end() == 0 {
            return Ok(position);
        }
        let holds = log.is_some_and(|log| {
            log.incarnation == incarnation
                && position.end() <= log.len()
                && anchor(log, position.end()) == anchored
        });
        if holds {
            return Ok(position);
        }
        Err(StorageError::new(
            ErrorKind::CursorGap,
            READ,
            job,
            "the events that it was made on are not in this store: the log was deleted, memory is gone with its \
             process, or an older snapshot was loaded",
        )
        .with_hint("read from the beginning"))
    }
}

/// The error for a position before the end of the removed lines.
pub(crate) fn gap(removed: Removed, job: &JobAddress) -> StorageError {
    let why = format!(
        "events that were not read yet are removed: the first {} of this log are gone",
        removed.lines
    );
    StorageError::new(ErrorKind::CursorGap, READ, job, why)
        .with_hint("begin without a cursor: the scan then starts with the oldest event that is left")
}

/// The id of the last line before `end`. When the cursor is used, the id shows whether the line is still the same.
fn anchor(log: &EventLog, end: usize) -> EventId {
    if end == log.removed().lines {
        return log.removed().last;
    }
    end.checked_sub(1)
        .and_then(|at| log.get(at))
        .map_or(EventId::MIN, |line| line.id)
}

fn parse(text: &str) -> Option<(u64, EventId, Position)> {
    let mut parts = text.split('.');
    let incarnation = u64::from_str_radix(parts.next()?, 16).ok()?;
    let from = parts.next()?.parse().ok()?;
    let anchor = EventId::from_u128(u128::from_str_radix(parts.next()?, 16).ok()?);
    let mut position = Position {
        from,
        windows: Vec::new(),
    };
    for part in parts {
        let (end, given) = part.split_once('-')?;
        let window = Window {
            end: end.parse().ok()?,
            given: EventId::from_u128(u128::from_str_radix(given, 16).ok()?),
        };
        if window.end <= position.end() {
            return None;
        }
        position.windows.push(window);
    }
    Some((incarnation, anchor, position))
}

fn foreign(cursor: &Cursor, job: &JobAddress) -> StorageError {
    let shown: String = cursor.as_str().chars().take(40).collect();
    StorageError::invalid(
        READ,
        job,
        format!("`{shown}` is not a cursor of the memory backend"),
    )
    .with_hint("use a cursor only with the backend and the job that it was made for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bounds_are_one_window() {
        let id = EventId::from_u128;
        let first = Position::default().behind(id(5), 10);
        assert_eq!(
            first.windows,
            [Window {
                end: 10,
                given: id(5)
            }]
        );
        // Late lines with ids below 5 arrived since. The first window keeps its id, and the second one has its own.
        let second = first.behind(id(3), 12);
        assert_eq!(second.windows.len(), 2);
        assert!(second.has_given(9, id(4)) && !second.has_given(11, id(4)) && second.has_given(11, id(3)));
        let third = second.behind(id(7), 12);
        assert_eq!(
            third.windows,
            [Window {
                end: 12,
                given: id(7)
            }]
        );
        assert!(!third.has_given(12, id(1)));
    }
}
