//! The acknowledged events of a log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Mismatch;

/// The acknowledged events of a log, by id.
#[derive(Clone, Debug)]
pub struct Log<I, P> {
    durable: BTreeMap<I, P>,
    /// Acknowledged events that a power loss may remove until their process flushes.
    relaxed: Vec<(u32, I, P)>,
}

impl<I, P> Default for Log<I, P> {
    fn default() -> Self {
        Self {
            durable: BTreeMap::new(),
            relaxed: Vec::new(),
        }
    }
}

impl<I: Copy + Ord + fmt::Display, P: PartialEq> Log<I, P> {
    /// Records an acknowledged event that survives a crash.
    ///
    /// # Errors
    /// Another payload was acknowledged under this id.
    pub fn store(&mut self, id: I, payload: P) -> Result<(), Mismatch> {
        if self.durable.get(&id).is_some_and(|known| *known != payload) {
            return Err(Mismatch::new(format!("{id} was acknowledged for two events")));
        }
        self.durable.insert(id, payload);
        Ok(())
    }

    /// Records an acknowledged event that survives a power loss only if its process flushes.
    pub fn store_relaxed(&mut self, process: u32, id: I, payload: P) {
        self.relaxed.push((process, id, payload));
    }

    /// Records a flush by a process, which makes its relaxed events durable.
    ///
    /// # Errors
    /// The errors of [`store`](Self::store).
    pub fn flush(&mut self, process: u32) -> Result<(), Mismatch> {
        for (by, id, payload) in std::mem::take(&mut self.relaxed) {
            if by == process {
                self.store(id, payload)?;
            } else {
                self.relaxed.push((by, id, payload));
            }
        }
        Ok(())
    }

    /// Records a power loss. A flush after it does not make relaxed events from before it durable. Returns true if
    /// there were relaxed events.
    pub fn lose(&mut self) -> bool {
        let had = !self.relaxed.is_empty();
        self.relaxed.clear();
        had
    }

    /// The events that survive a crash, by id.
    pub fn durable(&self) -> impl ExactSizeIterator<Item = (I, &P)> {
        self.durable.iter().map(|(id, payload)| (*id, payload))
    }

    /// The payload of the durable event with this id.
    pub fn get(&self, id: I) -> Option<&P> {
        self.durable.get(&id)
    }

    /// Compares the model with the events that a read of the whole log returned: their ids have to ascend, and no
    /// durable event may be missing. `compare` gets each event, and the payload that was acknowledged under its
    /// id. Returns the number of events without such a payload.
    ///
    /// # Errors
    /// The first difference, or an error of `compare`.
    pub fn check<F, E: From<Mismatch>>(
        &self,
        found: impl IntoIterator<Item = (I, F)>,
        mut compare: impl FnMut(I, Option<&P>, F) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut seen = BTreeSet::new();
        let mut others = 0;
        for (id, event) in found {
            match seen.last() {
                Some(last) if *last == id => return Err(Mismatch::new(format!("{id} is read twice")).into()),
                Some(last) if *last > id => {
                    return Err(Mismatch::new(format!("{id} is read behind {last}")).into());
                }
                _ => {}
            }
            seen.insert(id);
            let known = self.durable.get(&id);
            others += usize::from(known.is_none());
            compare(id, known, event)?;
        }
        self.check_seen(|id| seen.contains(&id))?;
        Ok(others)
    }

    /// Checks that a reader got each durable event. `seen` is true for an id that it got.
    ///
    /// # Errors
    /// The reader missed a durable event.
    pub fn check_seen(&self, seen: impl Fn(I) -> bool) -> Result<(), Mismatch> {
        let mut missing = self.durable.keys().filter(|id| !seen(**id)).peekable();
        let Some(first) = missing.peek().copied() else {
            return Ok(());
        };
        Err(Mismatch::new(format!(
            "{} of {} acknowledged events are missing, {first} first",
            missing.count(),
            self.durable.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mismatch;
    use super::Log;

    fn check(log: &Log<u8, &str>, found: &[(u8, &str)]) -> Result<usize, Mismatch> {
        log.check(found.iter().copied(), |id, known, event| match known {
            Some(known) if *known != event => Err(Mismatch::new(format!("{id} is {event}"))),
            _ => Ok(()),
        })
    }

    fn log() -> Log<u8, &'static str> {
        let mut log = Log::default();
        log.store(1, "a").unwrap();
        log.store(3, "c").unwrap();
        log
    }

    #[test]
    fn each_durable_event_is_read_once_in_the_order_of_ids() {
        let log = log();
        assert_eq!(check(&log, &[(1, "a"), (2, "b"), (3, "c")]), Ok(1));
        let error = |found| check(&log, found).unwrap_err().to_string();
        assert_eq!(
            error(&[(1, "a")]),
            "1 of 2 acknowledged events are missing, 3 first"
        );
        assert_eq!(error(&[(1, "a"), (1, "a"), (3, "c")]), "1 is read twice");
        assert_eq!(error(&[(3, "c"), (1, "a")]), "1 is read behind 3");
        assert_eq!(error(&[(1, "x"), (3, "c")]), "1 is x");
    }

    #[test]
    fn an_id_belongs_to_one_event() {
        let mut log = log();
        log.store(1, "a").unwrap();
        assert!(log.store(1, "b").is_err());
    }

    #[test]
    fn a_relaxed_event_is_durable_after_a_flush_of_its_process() {
        let mut log = log();
        log.store_relaxed(1, 4, "d");
        log.store_relaxed(2, 5, "e");
        check(&log, &[(1, "a"), (3, "c")]).unwrap();
        log.flush(1).unwrap();
        assert!(check(&log, &[(1, "a"), (3, "c")]).is_err());
        assert!(log.lose() && !log.lose());
        log.flush(2).unwrap();
        check(&log, &[(1, "a"), (3, "c"), (4, "d")]).unwrap();
    }
}
