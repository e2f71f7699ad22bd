//! Computes from an age the moment before which data is old enough to be removed.

use std::time::Duration;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AUDIT, CleanOptions};
use crate::documents::{DocumentOptions, Documents};
use crate::storage::Storage;

/// The kind and the name of the document that stores the times of unattended cleans.
const RUNS: (&str, &str) = ("clean", "runs");
/// The largest number of times in the document, and the shortest span between two of them.
const MOST_RUNS: usize = 1_000;
const APART: Duration = Duration::from_hours(6);
/// A span of up to this length without a write always counts in full.
const SHORT: Duration = Duration::from_hours(1);

/// Computes from an age the moment before which data is older than that.
///
/// An attended clean trusts the clock. An unattended clean trusts only the times of writes and of earlier
/// unattended cleans: a span between two of them may be a step of the clock, and counts only up to a limit.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    now: Timestamp,
    /// The times of writes and of unattended cleans, the newest first; `None` if the clock is trusted.
    seen: Option<Vec<Timestamp>>,
}

/// The document with the times of unattended cleans.
#[derive(Default, Serialize, Deserialize)]
struct Runs {
    runs: Vec<Timestamp>,
}

impl Ages {
    /// Trusts the clock.
    pub(super) fn by_clock(now: Timestamp) -> Self {
        Self { now, seen: None }
    }

    /// Trusts only the times of writes, and those of earlier unattended cleans.
    pub(super) fn by_writes(storage: &Storage, now: Timestamp, mut writes: Vec<Timestamp>) -> Result<Self> {
        writes.extend(runs(&documents(storage)?).runs);
        writes.retain(|time| *time < now);
        writes.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Self {
            now,
            seen: Some(writes),
        })
    }

    pub(super) fn is_by_writes(&self) -> bool {
        self.seen.is_some()
    }

    /// True if a time is not ahead of the clock.
    pub(super) fn is_past(&self, time: Timestamp) -> bool {
        time <= self.now
    }

    /// The moment before which data is older than `age`; the earliest time if too little time has certainly
    /// passed.
    pub(super) fn before(&self, age: Duration) -> Timestamp {
        let Some(seen) = &self.seen else {
            return before(self.now, age);
        };
        let longest = CleanOptions::RECENT.min(age / 2).max(SHORT);
        let (mut left, mut later) = (age, self.now);
        for earlier in seen {
            let counted = distance(*earlier, later).min(longest);
            if left < counted {
                break;
            }
            left -= counted;
            later = *earlier;
        }
        match left <= longest {
            true => before(later, left),
            false => Timestamp::MIN,
        }
    }

    /// The longest span without a write, by its beginning and its end. `None` if the clock is trusted.
    pub(super) fn longest_silence(&self) -> Option<(Timestamp, Timestamp)> {
        let seen = self.seen.as_ref()?;
        let later = std::iter::once(&self.now).chain(seen);
        let silences = seen.iter().zip(later).map(|(from, to)| (*from, *to));
        silences.max_by_key(|(from, to)| distance(*from, *to))
    }
}

/// The moment that is `age` before another one.
fn before(moment: Timestamp, age: Duration) -> Timestamp {
    let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(moment.as_nanos().saturating_sub(nanos))
}

fn distance(from: Timestamp, to: Timestamp) -> Duration {
    let nanos = to.as_nanos().saturating_sub(from.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// Stores the time of this unattended clean. An error is ignored: without the time, later cleans remove less.
pub(super) fn note_run(storage: &Storage, now: Timestamp) {
    let noted = documents(storage).and_then(|documents| {
        let mut runs = runs(&documents).runs;
        // If the clock was ahead at an earlier clean, its time is in the future.
        runs.retain(|run| *run <= now);
        if runs.last().is_some_and(|last| distance(*last, now) < APART) {
            return Ok(());
        }
        runs.push(now);
        runs.drain(..runs.len().saturating_sub(MOST_RUNS));
        documents
            .put(RUNS.1, &Runs { runs }, DocumentOptions::new())
            .map(drop)
    });
    if let Err(error) = noted {
        tracing::debug!(%error, "the time of this clean was not stored");
    }
}

fn documents(storage: &Storage) -> Result<Documents> {
    storage.repo(AUDIT.0)?.documents(RUNS.0)
}

/// The stored times. Empty if the document can't be read.
fn runs(documents: &Documents) -> Runs {
    let stored = documents.get::<Runs>(RUNS.1).ok().flatten();
    stored.map(|stored| stored.data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn day(day: u32) -> Timestamp {
        Timestamp::from_nanos(i64::from(day) * DAY.as_nanos() as i64)
    }

    fn ages(now: u32, seen: impl IntoIterator<Item = u32>) -> Ages {
        Ages {
            now: day(now),
            seen: Some(seen.into_iter().map(day).collect()),
        }
    }

    #[test]
    fn a_store_that_is_written_to_goes_by_the_clock() {
        let often = ages(400, (0..400).rev());
        for age in [2, 7, 30, 365] {
            assert_eq!(often.before(age * DAY), day(400 - age), "{age}");
            assert_eq!(Ages::by_clock(day(400)).before(age * DAY), day(400 - age));
        }
        assert_eq!(often.before(Duration::ZERO), day(400));
    }

    #[test]
    fn a_step_of_the_clock_counts_as_seven_days_and_as_half_of_the_age_at_most() {
        // Daily writes up to day 100, and then a clock that is 1000 days ahead.
        let stepped = ages(1101, [1100].into_iter().chain((0..=100).rev()));
        assert_eq!(stepped.before(30 * DAY), day(100 - 22), "one day and seven");
        assert_eq!(stepped.before(2 * DAY), day(100));
        assert_eq!(stepped.before(DAY), day(100), "half a day twice");
        assert_eq!(stepped.longest_silence(), Some((day(100), day(1100))));
        // No write shows that time passed before the first one.
        assert_eq!(ages(1100, [1099]).before(30 * DAY), Timestamp::MIN);
        assert_eq!(ages(1100, []).before(SHORT), before(day(1100), SHORT));
    }
}
