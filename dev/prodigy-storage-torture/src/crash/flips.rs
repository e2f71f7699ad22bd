//! Flips every byte of a small store: runs a test of the file backend in the release build.

use anyhow::{Context, Result, ensure};

use super::section::{Lab, Tally};
use crate::project::printed;

/// The test that flips one bit of each byte, and the test that flips every bit of each byte.
const TESTS: [&str; 2] = [
    "flips::of_every_byte_a_flip_is_harmless_or_told",
    "flips::of_every_bit_a_flip_is_harmless_or_told",
];
/// The prefix of the line with the totals.
const SUM: &str = "flips: ";

/// Runs a test, and adds the counts that it prints to the tally.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let [bytes, bits] = TESTS;
    let mut command = lab.project.cargo([
        "test",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "prodigy-storage-file",
        "--test",
        "it",
        "--",
        "--ignored",
        "--nocapture",
        "--exact",
        if lab.quick { bytes } else { bits },
    ]);
    count(&printed(&mut command)?, &mut tally)?;
    Ok(tally)
}

/// Parses `flips: N in N files: N harmless, N reported, N wrong`.
fn count(text: &str, tally: &mut Tally) -> Result<()> {
    let sum = text
        .lines()
        .find_map(|line| line.split_once(SUM))
        .with_context(|| format!("no line of the test begins with `{SUM}`:\n{text}"))?
        .1;
    let numbers: Vec<u64> = sum
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let [flips, files, harmless, reported, wrong] = numbers[..] else {
        anyhow::bail!("`{sum}` does not hold five numbers");
    };
    ensure!(
        flips > 0 && harmless + reported == flips && wrong == 0,
        "the numbers of `{sum}` don't fit together"
    );
    tally.add("bits flipped, one at a time", flips);
    tally.add("files they were flipped in", files);
    tally.add("flips that were harmless", harmless);
    tally.add("flips that were reported with their file", reported);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Tally, count};

    #[test]
    fn the_sum_is_taken_over_and_its_absence_is_no_success() {
        let mut tally = Tally::default();
        let text = "running 1 test\nflips: 12 in 3 files: 4 harmless, 8 reported, 0 wrong\n.\n";
        count(text, &mut tally).unwrap();
        let numbers: Vec<u64> = tally.counts().iter().map(|count| count.number).collect();
        assert_eq!(numbers, [12, 3, 4, 8]);
        for wrong in [
            "running 0 tests",
            "flips: none",
            "flips: 0 in 3 files: 0 harmless, 0 reported, 0 wrong",
            "flips: 12 in 3 files: 4 harmless, 7 reported, 1 wrong",
        ] {
            assert!(count(wrong, &mut tally).is_err(), "{wrong}");
        }
    }
}
