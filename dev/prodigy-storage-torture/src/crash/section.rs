//! A section of `crash`: its parameters, and its counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::input::Input;
use crate::project::Project;

/// A section of `crash`: it causes one kind of failure, and checks that no data is lost.
#[derive(Debug)]
pub(crate) struct Section {
    /// The name of the section on the command line.
    pub(crate) name: &'static str,
    /// The purpose of the section, for the help.
    pub(crate) about: &'static str,
    /// Runs the section. Fails if data is lost, duplicated, torn or wrong.
    pub(crate) run: fn(&Lab<'_>) -> Result<Tally>,
}

/// The parameters of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lab<'a> {
    /// The project under test.
    pub(crate) project: &'a Project,
    /// The path of the tool.
    pub(crate) binary: &'a Path,
    /// The path of this program.
    pub(crate) this: &'a Path,
    /// A program that keeps one handle for many requests: `torture-served`.
    pub(crate) served: &'a Path,
    /// The lines to append.
    pub(crate) input: &'a Input,
    /// True for the short form, as `ci` runs it.
    pub(crate) quick: bool,
    /// The seed for the random choices of this section only.
    pub(crate) seed: u64,
    /// The number of kills at random moments.
    pub(crate) kills: u32,
    /// The duration of the section, if it was requested.
    pub(crate) time: Option<Duration>,
    /// The folder of this section, which is kept if the section fails.
    pub(crate) scratch: &'a Path,
}

impl Lab<'_> {
    /// A random generator that depends only on the seed and this word.
    pub(crate) fn random(&self, word: &str) -> fastrand::Rng {
        fastrand::Rng::with_seed(mixed(self.seed, word))
    }

    /// The duration of the section: as requested, otherwise `quick` in the short form and `full` in the full form.
    pub(crate) fn time(&self, quick: Duration, full: Duration) -> Duration {
        self.time.unwrap_or(if self.quick { quick } else { full })
    }

    /// A new folder in the section's folder.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The counts of a section.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    counts: Vec<Count>,
    skipped: Vec<String>,
}

/// A count with its description.
#[derive(Debug, Serialize)]
pub(crate) struct Count {
    /// The description of the counted things.
    pub(crate) what: String,
    /// The number.
    pub(crate) number: u64,
}

impl Tally {
    /// Adds to the count with this description.
    pub(crate) fn add(&mut self, what: impl Into<String>, number: impl TryInto<u64>) {
        let number = number.try_into().unwrap_or(u64::MAX);
        let what = what.into();
        match self.counts.iter_mut().find(|count| count.what == what) {
            Some(count) => count.number = count.number.saturating_add(number),
            None => self.counts.push(Count { what, number }),
        }
    }

    /// Notes a skipped part. It is printed now, and again at the end.
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

/// A seed that is derived from another seed and a word.
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
