//! The moments from which data is old enough to be removed.

use std::time::Duration;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AUDIT, CleanOptions};
use crate::documents::{DocumentOptions, Documents};
use crate::storage::Storage;

/// The name of the document with the times of unattended cleans, and its kind.
const RUNS: (&str, &str) = ("clean", "runs");
/// The most times that it has, and the least distance between two of them.
const MOST_RUNS: usize = 1_000;
const APART: Duration = Duration::from_hours(6);
/// A silence counts as this long in any case.
const SHORT: Duration = Duration::from_hours(1);

/// Turns an age into the moment before which data is older.
///
/// An attended clean trusts the clock. An unattended one counts the time that passed by what the store shows of it: the times of
/// writes and of earlier unattended cleans. A silence between two of them may be a step of the clock, and counts only up to a limit.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    now: Timestamp,
    /// The times at which the clock was read, the newest first; `None` if the clock is trusted.
    seen: Option<Vec<Timestamp>>,
}

/// The times of unattended cleans.
#[derive(Default, Serialize, Deserialize)]
struct Runs {
    runs: Vec<Timestamp>,
}

impl Ages {
    /// By the clock alone.
    pub(super) fn by_clock(now: Timestamp) -> Self {
        Self { now, seen: None }
    }

    /// By the times of writes, and of the earlier unattended cleans.
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

    /// The moment before which data is older than `age`.
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

    /// The longest time without a write, as its beginning and its end.
    pub(super) fn longest_silence(&self) -> Option<(Timestamp, Timestamp)> {
        let seen = self.seen.as_ref()?;
        let later = std::iter::once(&self.now).chain(seen);
        let silences = seen.iter().zip(later).map(|(from, to)| (*from, *to));
        silences.max_by_key(|(from, to)| distance(*from, *to))
    }
}

/// The moment at this distance before another one.
fn before(moment: Timestamp, age: Duration) -> Timestamp {
    let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(moment.as_nanos().saturating_sub(nanos))
}

fn distance(from: Timestamp, to: Timestamp) -> Duration {
    let nanos = to.as_nanos().saturating_sub(from.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// Stores that an unattended clean runs now. Best effort: without it, later cleans remove less.
pub(super) fn note_run(storage: &Storage, now: Timestamp) {
    let noted = documents(storage).and_then(|documents| {
        let mut runs = runs(&documents).runs;
        // A clock that was ahead left times that have not come yet.
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

/// A document that can't be read counts as absent.
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
        // Daily writes up to day 100, then the clock is 1000 days ahead.
        let stepped = ages(1101, [1100].into_iter().chain((0..=100).rev()));
        assert_eq!(stepped.before(30 * DAY), day(100 - 22), "one day and seven");
        assert_eq!(stepped.before(2 * DAY), day(100));
        assert_eq!(stepped.before(DAY), day(100), "half a day twice");
        assert_eq!(stepped.longest_silence(), Some((day(100), day(1100))));
        // Nothing shows that time passed before the first write.
        assert_eq!(ages(1100, [1099]).before(30 * DAY), Timestamp::MIN);
        assert_eq!(ages(1100, []).before(SHORT), before(day(1100), SHORT));
    }
}
