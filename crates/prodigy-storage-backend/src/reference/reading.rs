//! A reader that reads a log in steps, and continues each step from the cursor of the last.

use std::collections::BTreeSet;
use std::fmt;

use super::{Log, Mismatch};

/// The events that such a reader got, from its first cursor on.
#[derive(Clone, Debug)]
pub struct Reading<I> {
    given: BTreeSet<I>,
}

impl<I> Default for Reading<I> {
    fn default() -> Self {
        Self {
            given: BTreeSet::new(),
        }
    }
}

impl<I: Copy + Ord + fmt::Display> Reading<I> {
    /// Records that the reader got an event.
    ///
    /// # Errors
    /// The reader got this event before.
    pub fn give(&mut self, id: I) -> Result<(), Mismatch> {
        if self.given.insert(id) {
            return Ok(());
        }
        Err(Mismatch::new(format!("a reader was given {id} twice")))
    }

    /// True if the reader got this event.
    pub fn has(&self, id: I) -> bool {
        self.given.contains(&id)
    }

    /// The number of events that the reader got.
    pub fn len(&self) -> usize {
        self.given.len()
    }

    /// True if the reader got no event.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Checks that a reader that has reached the end of the log got each durable event.
    ///
    /// # Errors
    /// The reader missed a durable event.
    pub fn check_all<P: PartialEq>(&self, log: &Log<I, P>) -> Result<(), Mismatch> {
        log.check_seen(|id| self.has(id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Log;
    use super::Reading;

    #[test]
    fn a_reader_is_given_each_event_once() {
        let (mut log, mut reading) = (Log::default(), Reading::default());
        log.store(1, "a").unwrap();
        assert!(reading.is_empty() && reading.check_all(&log).is_err());
        reading.give(1).unwrap();
        reading.check_all(&log).unwrap();
        assert!(reading.give(1).is_err() && reading.has(1));
        assert_eq!(reading.len(), 1);
    }
}
