//! Runs the simulator, which crashes the file backend at every call on a simulated disk.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::section::{Lab, Tally};
use crate::project::printed;

/// The crate of the simulator.
const CRATE: &str = "prodigy-storage-sim";

/// Runs the simulator, and adds its totals to the tally.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let seed = lab.seed.to_string();
    let mut command = lab.project.cargo([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        CRATE,
        "--",
        "--json",
        "--seed",
        &seed,
    ]);
    if lab.quick {
        command.arg("--quick");
    }
    totals(&printed(&mut command)?, &mut tally)?;
    Ok(tally)
}

/// The names of the simulation's counts, and their descriptions.
const WORDS: &[(&str, &str)] = &[
    ("calls", "calls that change a simulated disk"),
    ("points", "crash points"),
    ("derived", "disks derived, among them the same ones"),
    ("checked", "different disks recovered from and checked"),
    ("cursors", "cursors followed over a crash"),
    ("recoveries", "recoveries that were crashed as well"),
    ("recovery_points", "crash points within a recovery"),
    ("recovery_derived", "disks derived there"),
    ("recovery_checked", "different disks checked there"),
    ("drawn", "disks drawn at random"),
];

/// Adds the numbers of the last line, which has the totals of all workloads.
fn totals(text: &str, tally: &mut Tally) -> Result<()> {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).context("the simulation tells no JSON"))
        .collect::<Result<_>>()?;
    let named = |line: &&Value| line.get("workload").and_then(Value::as_str) == Some("all");
    let sum = lines.last().filter(named).and_then(Value::as_object);
    let sum = sum.context("the simulation tells no sums")?;
    for (name, number) in sum {
        let words = WORDS.iter().find(|(known, _)| known == name);
        if let (Some((_, words)), Some(number)) = (words, number.as_u64()) {
            tally.add(*words, number);
        }
    }
    ensure!(!tally.counts().is_empty(), "the simulation counts nothing");
    tally.add("workloads", lines.len() - 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Tally, totals};

    #[test]
    fn sums_are_taken_over_and_their_absence_is_no_success() {
        let mut tally = Tally::default();
        let told =
            "{\"workload\":\"a\",\"points\":12}\n{\"workload\":\"all\",\"points\":12,\"failures\":0}\n";
        totals(told, &mut tally).unwrap();
        let counts: Vec<_> = tally
            .counts()
            .iter()
            .map(|count| (count.what.as_str(), count.number))
            .collect();
        assert_eq!(counts, [("crash points", 12), ("workloads", 1)]);
        assert!(totals("{\"workload\":\"a\",\"points\":12}\n", &mut tally).is_err());
        assert!(totals("{\"workload\":\"all\"}\n", &mut Tally::default()).is_err());
        assert!(totals("", &mut tally).is_err());
    }
}
