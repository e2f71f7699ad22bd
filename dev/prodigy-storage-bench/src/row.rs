//! A row of the table: works that are measured in turn, and the bar of our side.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::bar::Bar;
use crate::lab::Lab;

/// The description of a row, and the constructors of its works.
#[derive(Debug)]
pub(crate) struct Row {
    /// The name of the row on the command line.
    pub(crate) key: &'static str,
    /// The group of rows that share a plot.
    pub(crate) group: &'static str,
    /// A description of our side's work.
    pub(crate) work: &'static str,
    /// A description of the work that the bar compares with.
    pub(crate) against: &'static str,
    /// The unit of the values: `µs` is microseconds per operation.
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    /// The largest number of rounds, for works that take long and vary little.
    pub(crate) rounds: usize,
    /// Creates the works, and prepares what they need.
    pub(crate) plan: fn(&Lab) -> Result<Plan>,
}

/// The value of [`Row::rounds`] for a row that does not limit the number of rounds.
pub(crate) const ALL_ROUNDS: usize = usize::MAX;

/// The works of a row on this machine.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The works, which take turns.
    Measure(Vec<Contestant>),
    /// The row needs something that this machine lacks.
    Skipped(String),
}

/// The role of a work in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// This project with its default settings.
    Ours,
    /// The reference of the bar: the limit of the machine, or this project in another size.
    Against,
    /// This project with another setting, for information.
    Variant,
    /// The limit of the machine, reached in another way.
    Limit,
    /// Another project.
    Peer,
}

/// The parameters of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The seed of the contents: a new one each round, and the same one for all works in a round.
    pub(crate) seed: u64,
}

/// The result of a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The value in the row's unit; lower is better.
    pub(crate) value: f64,
    /// Other counts of the turn, by name.
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
    /// Adds another count to the sample.
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

    /// A work of this project, with its default settings.
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
