//! A section of `crash`: its input, and its report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::input::Input;
use crate::project::Project;

/// One way to make the store fail, and the checks that look for lost data afterwards.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its purpose.
    pub(crate) about: &'static str,
    /// Runs the section. It is an error if anything is lost, duplicated, torn or wrong.
    pub(crate) run: fn(&Lab<'_>) -> Result<Tally>,
}

/// The input of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lab<'a> {
    /// The project.
    pub(crate) project: &'a Project,
    /// The tool.
    pub(crate) binary: &'a Path,
    /// This program.
    pub(crate) this: &'a Path,
    /// A program that keeps one handle for many requests: `torture-served`.
    pub(crate) served: &'a Path,
    /// The lines to append.
    pub(crate) input: &'a Input,
    /// The short form, as `ci` runs it.
    pub(crate) quick: bool,
    /// Makes the section's random choices, and no other's.
    pub(crate) seed: u64,
    /// How many kills at random moments.
    pub(crate) kills: u32,
    /// How long to work, where this was asked for.
    pub(crate) time: Option<Duration>,
    /// A folder for this section alone; it is kept where the section fails.
    pub(crate) scratch: &'a Path,
}

impl Lab<'_> {
    /// Random choices that depend on the seed and this word only.
    pub(crate) fn random(&self, word: &str) -> fastrand::Rng {
        fastrand::Rng::with_seed(mixed(self.seed, word))
    }

    /// How long to work: as asked for, else the shorter or the longer of two times.
    pub(crate) fn time(&self, quick: Duration, full: Duration) -> Duration {
        self.time.unwrap_or(if self.quick { quick } else { full })
    }

    /// A new folder in the section's.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The report of a section.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    counts: Vec<Count>,
    skipped: Vec<String>,
}

/// A number of something.
#[derive(Debug, Serialize)]
pub(crate) struct Count {
    /// What, in words.
    pub(crate) what: String,
    /// How many.
    pub(crate) number: u64,
}

impl Tally {
    /// Adds to what was counted under these words.
    pub(crate) fn add(&mut self, what: impl Into<String>, number: impl TryInto<u64>) {
        let number = number.try_into().unwrap_or(u64::MAX);
        let what = what.into();
        match self.counts.iter_mut().find(|count| count.what == what) {
            Some(count) => count.number = count.number.saturating_add(number),
            None => self.counts.push(Count { what, number }),
        }
    }

    /// Something could not be done here. It is said at once, and again at the end.
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        let why = why.into();
        eprintln!("NOTICE: SKIPPED: {why}");
        self.skipped.push(why);
    }

    /// The counts, in the order of their first use.
    pub(crate) fn counts(&self) -> &[Count] {
        &self.counts
    }

    /// The skipped parts, with reasons.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

/// A seed for everything that has a name of its own, from one for all.
pub(crate) fn mixed(seed: u64, word: &str) -> u64 {
    word.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{Tally, mixed};

    #[test]
    fn what_has_the_same_words_is_one_count() {
        let mut tally = Tally::default();
        tally.add("kills", 3_u32);
        tally.add("faults", 1_u64);
        tally.add("kills", 4_usize);
        let counts: Vec<_> = tally
            .counts()
            .iter()
            .map(|count| (count.what.as_str(), count.number))
            .collect();
        assert_eq!(counts, [("kills", 7), ("faults", 1)]);
    }

    #[test]
    fn a_name_has_a_seed_of_its_own() {
        assert_ne!(mixed(1, "kills"), mixed(1, "faults"));
        assert_ne!(mixed(1, "kills"), mixed(2, "kills"));
        assert_eq!(mixed(1, "kills"), mixed(1, "kills"));
    }
}
