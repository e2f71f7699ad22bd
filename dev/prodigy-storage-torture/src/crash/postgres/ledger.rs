//! The reports of agents, and a comparison with the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::reference;
use serde::Deserialize;
use uuid::Uuid;

use crate::crash::power::process::Ended;
use crate::crash::section::Tally;

/// The payload of an event: its sender, and its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Sent {
    by: String,
    n: u64,
}

/// A line that an agent prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Event {
        id: Uuid,
        sent: Sent,
    },
    Counting,
    Refused,
    Counted(u64),
    Passed {
        gate: String,
        token: u64,
        n: u64,
    },
    Letter {
        id: String,
        failures: u64,
        eligible: bool,
        taken: bool,
    },
}

fn line(text: &[u8]) -> Result<Line> {
    serde_json::from_slice(text)
        .with_context(|| format!("an agent printed {}", String::from_utf8_lossy(text)))
}

/// The acknowledged calls of all agents.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    events: Vec<(Uuid, Sent)>,
    /// The numbers that were saved by compare-and-set, each of which increments the previous one.
    counted: Vec<u64>,
    /// The number of saves without an answer: they may or may not be stored.
    unclear: u64,
    /// The numbers that were saved under a lock: by the name of the lock's checkpoint, then by token.
    passed: BTreeMap<String, BTreeMap<u64, Vec<u64>>>,
}

/// The contents of the store.
#[derive(Debug, Default)]
pub(super) struct Stored {
    events: Vec<(Uuid, Sent)>,
    counted: u64,
    pub(super) letters: BTreeMap<String, reference::Stored>,
}

impl Ledger {
    /// Adds the report of a killed agent.
    pub(super) fn note(&mut self, ended: &Ended) -> Result<()> {
        for text in ended.lines() {
            match line(text)? {
                Line::Event { id, sent } => self.events.push((id, sent)),
                Line::Counting => self.unclear += 1,
                Line::Refused => self.unclear -= 1,
                Line::Counted(n) => {
                    self.unclear -= 1;
                    self.counted.push(n);
                }
                Line::Passed { gate, token, n } => {
                    let tokens = self.passed.entry(gate).or_default();
                    tokens.entry(token).or_default().push(n);
                }
                Line::Letter { .. } => anyhow::bail!("an agent listed a dead letter"),
            }
        }
        Ok(())
    }

    /// Checks that every acknowledged event is stored once under its id, that no event is stored twice, and that no
    /// increment is lost.
    pub(super) fn check(&self, stored: &Stored, tally: &mut Tally) -> Result<()> {
        let mut by_id: HashMap<Uuid, &Sent> = HashMap::new();
        let mut payloads = HashSet::new();
        for (id, sent) in &stored.events {
            ensure!(by_id.insert(*id, sent).is_none(), "{id} is given twice");
            ensure!(payloads.insert(sent), "{sent:?} is stored twice");
        }
        ensure!(!self.events.is_empty(), "no event was acknowledged");
        for (id, sent) in &self.events {
            let found = by_id
                .get(id)
                .with_context(|| format!("event {id} is lost: {sent:?}"))?;
            ensure!(*found == sent, "event {id} is {found:?}, and was {sent:?}");
        }
        tally.add("acknowledged events, each there once", self.events.len());
        tally.add(
            "events stored and not acknowledged",
            stored.events.len() - self.events.len(),
        );
        let counted = self.counted.len() as u64;
        let distinct: HashSet<_> = self.counted.iter().collect();
        ensure!(
            distinct.len() == self.counted.len(),
            "two agents counted to one number"
        );
        ensure!(
            (counted..=counted + self.unclear).contains(&stored.counted),
            "the counter is {}, after {counted} acknowledged and {} unclear steps",
            stored.counted,
            self.unclear
        );
        ensure!(counted > 0, "no step of a counter was acknowledged");
        tally.add("steps of a counter by compare-and-set", counted);
        let mut passes = 0_u64;
        for (gate, tokens) in &self.passed {
            let numbers: Vec<u64> = tokens.values().flatten().copied().collect();
            ensure!(
                numbers.is_sorted_by(|one, next| one < next),
                "two agents were in {gate} at once: {tokens:?}"
            );
            passes += numbers.len() as u64;
        }
        ensure!(passes > 0, "no lock was taken");
        tally.add("steps under a lock, none of them lost", passes);
        Ok(())
    }
}

impl Stored {
    /// Parses an agent's listing.
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let mut stored = Self::default();
        for text in lines {
            match line(text)? {
                Line::Event { id, sent } => stored.events.push((id, sent)),
                Line::Counted(n) => stored.counted = n,
                Line::Letter {
                    id,
                    failures,
                    eligible,
                    taken,
                } => {
                    let letter = reference::Stored {
                        failures,
                        eligible,
                        taken,
                    };
                    let before = stored.letters.insert(id.clone(), letter);
                    ensure!(before.is_none(), "item {id} is there twice");
                }
                other => anyhow::bail!("a list has {other:?}"),
            }
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u64) -> (Uuid, Sent) {
        let by = "a".to_owned();
        (Uuid::from_u64_pair(1, n), Sent { by, n })
    }

    fn ledger() -> Ledger {
        Ledger {
            events: vec![sent(1), sent(2)],
            counted: vec![1, 2],
            unclear: 1,
            passed: [("gate".to_owned(), [(1, vec![1]), (2, vec![3])].into())].into(),
        }
    }

    fn found(ledger: &Ledger, events: Vec<(Uuid, Sent)>, counted: u64) -> String {
        let stored = Stored {
            events,
            counted,
            letters: BTreeMap::new(),
        };
        let checked = ledger.check(&stored, &mut Tally::default());
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_lost_or_there_twice_is_found() {
        let (ledger, twice) = (ledger(), (Uuid::from_u64_pair(2, 2), sent(2).1));
        assert_eq!(found(&ledger, vec![sent(1), sent(2), sent(3)], 3), "");
        assert!(found(&ledger, vec![sent(1), sent(3)], 3).contains("is lost"));
        assert!(found(&ledger, vec![sent(1), sent(2), sent(2)], 3).contains("given twice"));
        assert!(found(&ledger, vec![sent(1), sent(2), twice], 3).contains("stored twice"));
        for counted in [1, 4] {
            assert!(found(&ledger, vec![sent(1), sent(2)], counted).contains("the counter is"));
        }
    }

    #[test]
    fn a_lost_step_under_a_lock_is_found() {
        let mut ledger = ledger();
        ledger.passed = [("gate".to_owned(), [(1, vec![2]), (2, vec![2])].into())].into();
        assert!(found(&ledger, vec![sent(1), sent(2)], 2).contains("at once"));
    }
}
