//! The result of a run, as it is printed and stored.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::bar::{Bar, Verdict};
use crate::machine::Machine;
use crate::rounds::Samples;
use crate::row::{Contestant, Role, Row};
use crate::spread::{Spread, ratios};

/// The settings and the results of one run, or of several in which each row is of the last run that measured it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// True if `--quick` reduced the sizes.
    pub(crate) quick: bool,
    /// The number by which sizes were divided.
    pub(crate) divisor: usize,
    /// The share of a bar that noise may explain.
    pub(crate) margin: f64,
    pub(crate) rows: Vec<Measured>,
}

/// The run that a row was measured in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The day in UTC, as `2026-11-30`.
    pub(crate) day: String,
    /// The number of measured rounds, except of rows that limit it.
    pub(crate) rounds: usize,
    /// The load before the run, see [`crate::machine::load`].
    pub(crate) load: f64,
    pub(crate) seed: u64,
}

impl Run {
    /// The description in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} rounds after a warm-up, seed {}, load before it began {:.2}",
            self.day, self.rounds, self.seed, self.load
        )
    }
}

/// The measured values of a row.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) key: String,
    pub(crate) group: String,
    pub(crate) work: String,
    pub(crate) against: String,
    pub(crate) unit: String,
    pub(crate) bar: Bar,
    pub(crate) outcome: Outcome,
    pub(crate) run: Run,
}

/// The outcome of a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The values of each work.
    Works(Vec<Values>),
    /// The row needs something that this machine lacks.
    Skipped(String),
    /// The row failed: a call failed, or the data that was read back differs from the stored data.
    Failed(String),
}

/// The values of one work, one per round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Values {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
    /// Other counts by name, one per round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beside: BTreeMap<String, Vec<f64>>,
}

impl Measured {
    pub(crate) fn new(row: &Row, outcome: Outcome, run: &Run) -> Self {
        Self {
            key: row.key.to_owned(),
            group: row.group.to_owned(),
            work: row.work.to_owned(),
            against: row.against.to_owned(),
            unit: row.unit.to_owned(),
            bar: row.bar,
            outcome,
            run: run.clone(),
        }
    }

    /// The works of the row; empty if the row was skipped or failed.
    pub(crate) fn works(&self) -> &[Values] {
        match &self.outcome {
            Outcome::Works(works) => works,
            Outcome::Skipped(_) | Outcome::Failed(_) => &[],
        }
    }

    /// The first work with this role.
    pub(crate) fn of(&self, role: Role) -> Option<&Values> {
        self.works().iter().find(|work| work.role == role)
    }

    /// The values that the bar applies to, one per round.
    pub(crate) fn figures(&self) -> Option<Vec<f64>> {
        let ours = &self.of(Role::Ours)?.values;
        let theirs = self.of(Role::Against).map(|work| &work.values);
        let figures = ours.iter().enumerate().map(|(round, ours)| {
            let theirs = theirs.and_then(|theirs| theirs.get(round));
            self.bar.figure(*ours, theirs.copied())
        });
        figures.collect()
    }

    /// The median and the range of the values that the bar applies to.
    pub(crate) fn figure(&self) -> Option<Spread> {
        Spread::of(self.figures()?)
    }

    /// The verdict on the row.
    pub(crate) fn verdict(&self, margin: f64) -> Verdict {
        self.figure()
            .map_or(Verdict::Free, |figure| self.bar.judge(figure.median, margin))
    }

    /// The ratio of a work's values to those of the row's reference, computed round by round.
    pub(crate) fn ratio_of(&self, work: &Values) -> Option<Spread> {
        Spread::of(ratios(&work.values, &self.of(Role::Against)?.values))
    }
}

impl Values {
    pub(crate) fn new(contestant: &Contestant, samples: &Samples) -> Self {
        let mut beside: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, count) in samples.0.iter().flat_map(|sample| &sample.beside) {
            beside.entry((*name).to_owned()).or_default().push(*count);
        }
        Self {
            role: contestant.role,
            name: contestant.name.clone(),
            values: samples.0.iter().map(|sample| kept(sample.value)).collect(),
            beside,
        }
    }

    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(self.values.iter().copied())
    }
}

impl Report {
    /// Adds the rows of earlier runs that this run did not measure, and sorts them in the order of these keys. Rows with
    /// another key no longer exist and are left out.
    ///
    /// # Errors
    /// Fails if the earlier runs were on another machine or in other sizes: such figures don't belong in one table.
    pub(crate) fn add_earlier(&mut self, earlier: Self, keys: &[&str]) -> Result<()> {
        ensure!(
            earlier.machine == self.machine && earlier.divisor == self.divisor,
            "the earlier figures are of another machine or other sizes; measure all rows"
        );
        let place = |row: &Measured| keys.iter().position(|key| *key == row.key);
        let kept = earlier.rows.into_iter().filter(|row| place(row).is_some());
        for row in kept {
            if !self.rows.iter().any(|own| own.key == row.key) {
                self.rows.push(row);
            }
        }
        self.rows.sort_by_key(place);
        Ok(())
    }

    /// The runs of the rows with the names of their rows, in the order of the rows.
    pub(crate) fn runs(&self) -> Vec<(&Run, Vec<&str>)> {
        let mut runs: Vec<(&Run, Vec<&str>)> = Vec::new();
        for row in &self.rows {
            match runs.iter_mut().find(|(run, _)| *run == &row.run) {
                Some((_, keys)) => keys.push(&row.key),
                None => runs.push((&row.run, vec![&row.key])),
            }
        }
        runs
    }

    /// The failed rows, with the reason.
    pub(crate) fn failed(&self) -> Vec<String> {
        let failed = self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Failed(why) => Some(format!("{}: {why}", row.key)),
            _ => None,
        });
        failed.collect()
    }

    /// The rows that miss their bar by more than the margin: name, value, bar.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self
            .rows
            .iter()
            .filter(|row| row.verdict(self.margin) == Verdict::Missed);
        missed
            .map(|row| {
                let figure = row.figure().map_or(f64::NAN, |figure| figure.median);
                format!(
                    "{}: {} is over its bar, {} (margin {:.0} %)",
                    row.key,
                    crate::show::table::number(figure),
                    row.bar.words(&row.unit),
                    self.margin * 100.0
                )
            })
            .collect()
    }
}

/// Rounds to five significant digits: further digits are noise, and make a file larger.
fn kept(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// Sample reports for tests.
#[cfg(test)]
pub(crate) mod sample {
    use super::{Bar, Machine, Measured, Outcome, Report, Role, Run, Values};

    pub(crate) fn values(role: Role, name: &str, values: &[f64]) -> Values {
        Values {
            role,
            name: name.to_owned(),
            values: values.to_vec(),
            beside: std::collections::BTreeMap::new(),
        }
    }

    pub(crate) fn row(key: &str, bar: Bar, outcome: Outcome) -> Measured {
        Measured {
            key: key.to_owned(),
            group: "append".to_owned(),
            work: format!("work of {key}"),
            against: "the limit".to_owned(),
            unit: "µs".to_owned(),
            bar,
            outcome,
            run: run(),
        }
    }

    pub(crate) fn run() -> Run {
        Run {
            day: "2026-11-30".to_owned(),
            rounds: 3,
            load: 0.25,
            seed: 7,
        }
    }

    pub(crate) fn report() -> Report {
        let mut ours = values(Role::Ours, "prodigy-storage", &[1.0, 2.0, 3.0]);
        ours.beside.insert("syncs".to_owned(), vec![400.0, 410.0, 390.0]);
        let works = vec![
            ours,
            values(Role::Against, "line + write", &[1.0, 1.0, 2.0]),
            values(Role::Peer, "A & B", &[4.0, 5.0, 12.0]),
        ];
        Report {
            machine: Machine::sample(),
            quick: true,
            divisor: 10,
            margin: 0.1,
            rows: vec![
                row("fast", Bar::AtMost(1.6), Outcome::Works(works)),
                row("lacks", Bar::Below(32.0), Outcome::Skipped("no tool".to_owned())),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{report, row, values};
    use super::{Bar, Measured, Outcome, Report, Role, Verdict, kept};

    #[test]
    fn the_figure_is_the_median_of_the_rounds_ratios() {
        let report = report();
        let figure = report.rows[0].figure().unwrap();
        // This is not the ratio of the medians, which is 2.
        assert_eq!((figure.low, figure.median, figure.high), (1.0, 1.5, 2.0));
        assert_eq!(report.rows[0].verdict(0.1), Verdict::Met);
    }

    #[test]
    fn a_row_without_figures_fails_no_check() {
        let report = report();
        assert_eq!(report.missed(), Vec::<String>::new());
        assert_eq!(report.rows[1].verdict(0.1), Verdict::Free);
    }

    #[test]
    fn a_miss_names_row_figure_and_bar() {
        let mut report = report();
        let works = vec![
            values(Role::Ours, "ours", &[3.0]),
            values(Role::Against, "limit", &[2.0]),
        ];
        report.rows = vec![row("slow", Bar::AtMost(1.2), Outcome::Works(works))];
        assert_eq!(
            report.missed(),
            ["slow: 1.50 is over its bar, <= 1.2x (margin 10 %)"]
        );
    }

    #[test]
    fn a_row_that_went_wrong_is_named() {
        let mut report = report();
        assert_eq!(report.failed(), Vec::<String>::new());
        report.rows.push(row(
            "odd",
            Bar::None,
            Outcome::Failed("8 of 9 are there".to_owned()),
        ));
        assert_eq!(report.failed(), ["odd: 8 of 9 are there"]);
    }

    #[test]
    fn rows_that_were_not_measured_again_stay_and_name_their_run() {
        let mut old = report();
        for row in &mut old.rows {
            row.run.seed = 1;
        }
        old.rows
            .push(row("gone", Bar::None, Outcome::Skipped("old".to_owned())));
        let mut new = report();
        new.rows.remove(0);
        new.add_earlier(old, &["fast", "lacks"]).unwrap();
        let keys: Vec<&str> = new.rows.iter().map(|row: &Measured| row.key.as_str()).collect();
        assert_eq!(keys, ["fast", "lacks"]);
        let runs: Vec<(u64, Vec<&str>)> = new
            .runs()
            .into_iter()
            .map(|(run, keys)| (run.seed, keys))
            .collect();
        assert_eq!(runs, [(1, vec!["fast"]), (7, vec!["lacks"])]);
    }

    #[test]
    fn figures_of_another_machine_are_not_mixed_in() {
        let mut old = report();
        old.machine.cpu = "another".to_owned();
        assert!(report().add_earlier(old, &["fast"]).is_err());
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let text = serde_json::to_string(&report()).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn what_is_kept_has_five_digits() {
        assert_eq!(kept(1_234_567.0), 1_234_600.0);
        assert_eq!(kept(0.000_123_456), 0.000_123_46);
    }
}
