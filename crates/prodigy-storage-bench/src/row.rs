//! One line of the table: two works, measured in turn.

use std::time::Instant;

use serde::Serialize;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rounds that count; one before them does not.
    pub(crate) rounds: usize,
    /// What the number of operations is divided by.
    pub(crate) divisor: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        rounds: 7,
        divisor: 1,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 7,
        divisor: 8,
    };

    /// So many operations, or the quick share of them.
    pub(crate) fn of(&self, operations: usize) -> usize {
        (operations / self.divisor).max(64)
    }
}

/// A timed piece of work: gives how many microseconds one operation took. Sets up and checks outside that time.
pub(crate) type Work = fn(&Scale) -> anyhow::Result<f64>;

/// Two works and the bar that their ratio is held against.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) against: &'static str,
    pub(crate) bar: f64,
    pub(crate) ours: Work,
    pub(crate) theirs: Work,
}

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    work: &'static str,
    against: &'static str,
    bar: f64,
    ours_us: Vec<f64>,
    theirs_us: Vec<f64>,
    ratios: Vec<f64>,
}

impl Row {
    pub(crate) fn measure(&self, scale: &Scale) -> anyhow::Result<Measured> {
        let (mut ours_us, mut theirs_us) = (Vec::new(), Vec::new());
        for round in 0..=scale.rounds {
            // Which goes first alternates: what one leaves behind in the machine is not always the other's burden.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = (self.ours)(scale)?;
                (ours, (self.theirs)(scale)?)
            } else {
                let theirs = (self.theirs)(scale)?;
                ((self.ours)(scale)?, theirs)
            };
            if round > 0 {
                ours_us.push(ours);
                theirs_us.push(theirs);
            }
        }
        let ratios = ours_us
            .iter()
            .zip(&theirs_us)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Ok(Measured {
            work: self.name,
            against: self.against,
            bar: self.bar,
            ours_us,
            theirs_us,
            ratios,
        })
    }
}

impl Measured {
    pub(crate) fn markdown(&self, row: &Row) -> String {
        let (low, ratio, high) = spread(&self.ratios);
        let digits = if self.bar < 0.1 { 5 } else { 2 };
        format!(
            "| {} | {} | {:.2} | {:.2} | {ratio:.digits$} ({low:.digits$} to {high:.digits$}) | {} |",
            row.name,
            row.against,
            spread(&self.ours_us).1,
            spread(&self.theirs_us).1,
            self.bar
        )
    }
}

/// Minimum, median and maximum.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

/// Microseconds an operation.
pub(crate) fn per_operation(began: Instant, operations: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / operations as f64
}

/// What this was measured on.
pub(crate) fn machine() -> anyhow::Result<String> {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism()?;
    let folder = std::env::temp_dir();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or("unknown", |(_, kind)| kind);
    Ok(format!(
        "{} {}, {cores} cores, temporary folder on {kind}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    ))
}
