//! Positions in a log.

use std::fmt::Write as _;

use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use crate::log::EventLog;

const PREFIX: &str = "v1.memory.";
const READ: &str = "read cursor";

/// Lines in the order of arrival, of which those up to an id were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Where it ends; it begins where the one before does.
    pub(crate) end: usize,
    /// The last id given of it.
    pub(crate) given: EventId,
}

/// A position in the order of arrival: everything before `from` was given, and of each window what its id says.
///
/// A scan goes by id, a late line arrives behind greater ids: so a cursor taken in the middle of a scan needs the
/// window of that scan, and one taken in the middle of a scan from such a cursor may need both. Bounds descend from
/// window to window, else two are one; at the end of a scan only `from` is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) from: usize,
    pub(crate) windows: Vec<Window>,
}

impl Position {
    /// Where the lines end that it knows of.
    pub(crate) fn end(&self) -> usize {
        self.windows.last().map_or(self.from, |window| window.end)
    }

    /// Whether the line at `at` was given.
    pub(crate) fn has_given(&self, at: usize, id: EventId) -> bool {
        at < self.from
            || self
                .windows
                .iter()
                .find(|window| at < window.end)
                .is_some_and(|window| id <= window.given)
    }

    /// The position behind `given` in a scan from here that ends at `end`.
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

    /// The position behind everything that a log holds.
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

    /// Reads a cursor of this log.
    pub(crate) fn decode(cursor: &Cursor, log: Option<&EventLog>, job: &JobAddress) -> Result<Self> {
        let Some(rest) = cursor.as_str().strip_prefix(PREFIX) else {
            return Err(foreign(cursor, job));
        };
        let (incarnation, anchored, position) = parse(rest).ok_or_else(|| foreign(cursor, job))?;
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

/// The id of the last line before `end`: verified on use.
fn anchor(log: &EventLog, end: usize) -> EventId {
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
    .with_hint("a cursor is read by the backend that made it, and of the job that it was made on")
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
        // Late lines below 5 came in: the first window keeps its bound, the second has its own.
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
