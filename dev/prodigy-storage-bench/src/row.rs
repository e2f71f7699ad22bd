//! A row of the table: works that are measured in turn, and the bar of ours.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::bar::Bar;
use crate::lab::Lab;

/// The description of a row, and the constructors of its works.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name on the command line.
    pub(crate) key: &'static str,
    /// The group of its plot.
    pub(crate) group: &'static str,
    /// The work of our side.
    pub(crate) work: &'static str,
    /// The reference of the bar.
    pub(crate) against: &'static str,
    /// Of the values: `µs` is microseconds an operation.
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    /// The largest number of rounds, for works that take long and hardly vary.
    pub(crate) rounds: usize,
    /// Makes the works, and what they need.
    pub(crate) plan: fn(&Lab) -> Result<Plan>,
}

/// Rounds of a row that has no reason for fewer.
pub(crate) const ALL_ROUNDS: usize = usize::MAX;

/// The state of a row on this machine.
#[derive(Debug)]
pub(crate) enum Plan {
    /// These take turns.
    Measure(Vec<Contestant>),
    /// The machine lacks something.
    Skipped(String),
}

/// The role of a work in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// This project, as it is set by default.
    Ours,
    /// The reference of the bar: the limit of the machine, or ours in another size.
    Against,
    /// This project with another setting, as a report.
    Variant,
    /// The limit of the machine, reached in another way.
    Limit,
    /// Another project.
    Peer,
}

/// The parameters of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The seed of the contents: another one each round, the same one for all works in a round.
    pub(crate) seed: u64,
}

/// The result of a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the row's unit; lower is better.
    pub(crate) value: f64,
    /// Other counts.
    pub(crate) beside: Vec<(&'static str, f64)>,
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self {
            value,
            beside: Vec::new(),
        }
    }
}

impl Sample {
    /// With something that was counted.
    pub(crate) fn with(mut self, name: &'static str, count: f64) -> Self {
        self.beside.push((name, count));
        self
    }
}

/// A work of a row. It prepares, reads back and checks its data outside of the measured time.
pub(crate) struct Contestant {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) work: Box<dyn FnMut(Turn) -> Result<Sample>>,
}

impl Contestant {
    pub(crate) fn new<S: Into<Sample>>(
        role: Role,
        name: impl Into<String>,
        mut work: impl FnMut(Turn) -> Result<S> + 'static,
    ) -> Self {
        Self {
            role,
            name: name.into(),
            work: Box::new(move |turn| work(turn).map(Into::into)),
        }
    }

    /// This project.
    pub(crate) fn ours<S: Into<Sample>>(work: impl FnMut(Turn) -> Result<S> + 'static) -> Self {
        Self::new(Role::Ours, "prodigy-storage", work)
    }
}

impl fmt::Debug for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contestant")
            .field("role", &self.role)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
