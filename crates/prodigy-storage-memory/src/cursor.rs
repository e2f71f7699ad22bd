//! Positions in a log.

use std::fmt::Write as _;

use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use crate::log::{EventLog, Removed};

const PREFIX: &str = "v1.memory.";
const READ: &str = "read cursor";

/// A range of lines in the order of arrival, and the id up to which its lines were returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The end of the range; it begins at the end of the window before.
    pub(crate) end: usize,
    /// The id up to which lines of the range were returned.
    pub(crate) given: EventId,
}

/// A position in the order of arrival: all lines before `from` were returned, and of each window the lines up to its
/// id.
///
/// A scan returns lines in the order of ids, and a late line arrives after lines with greater ids. So a cursor in the
/// middle of a scan needs the window of that scan, and if that scan itself began at such a cursor, it may need both
/// windows. The ids descend from window to window; otherwise two windows are merged. At the end of a scan only `from`
/// is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) from: usize,
    pub(crate) windows: Vec<Window>,
}

impl Position {
    /// The end of the lines that the position covers.
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

    /// The position after the id `given` in a scan that starts here and ends at `end`.
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

    /// True if removed lines may not have been returned. A scan returns the greatest id last.
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

    /// Parses a cursor of this log.
    pub(crate) fn decode(cursor: &Cursor, log: Option<&EventLog>, job: &JobAddress) -> Result<Self> {
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

/// The error for a position that lacks removed lines.
pub(crate) fn gap(removed: Removed, job: &JobAddress) -> StorageError {
    let why = format!(
        "events that were not read yet are removed: the first {} of this log are gone",
        removed.lines
    );
    StorageError::new(ErrorKind::CursorGap, READ, job, why)
        .with_hint("begin without a cursor: the scan then starts with the oldest event that is left")
}

/// The id of the last line before `end`. It is verified when the cursor is used.
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
        // Late lines below 5 were added: the first window keeps its bound, the second has its own.
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
