//! Histograms of durations.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// The number of buckets: four for each doubling, from 1 µs to more than an hour.
const BUCKETS: usize = 128;

/// Counts durations in buckets. The width of a bucket is at most a quarter of its shortest duration.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::Histogram;
///
/// let mut latency = Histogram::default();
/// for millis in 1..=100 {
///     latency.record(Duration::from_millis(millis));
/// }
/// assert_eq!(latency.count(), 100);
/// let median = latency.quantile(0.5).expect("it is not empty");
/// assert!(median >= Duration::from_millis(50) && median < Duration::from_millis(64));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

/// The index of the bucket that counts this duration.
fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let quarter = (micros >> (doubling - 2)) & 3;
    ((doubling - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The upper end of a bucket: its durations are below it, except those of the last bucket.
fn end_of(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    let micros = match next.checked_sub(4) {
        None | Some(0) => next,
        Some(_) => (4 + next % 4) << (next / 4 - 1),
    };
    Duration::from_micros(micros)
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        if let Some(count) = self.0.get_mut(bucket(duration)) {
            *count += 1;
        }
    }

    /// The number of durations that were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// A duration that at least this share of all durations, from 0 to 1, does not exceed. `None` if nothing was
    /// counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, found) in self.0.iter().enumerate() {
            passed += found;
            if passed >= wanted {
                return Some(end_of(bucket));
            }
        }
        None
    }

    /// The non-empty buckets, shortest first: the upper end and the count of each.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (end_of(bucket), *count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

/// Serialises as the list of its buckets: the upper end in microseconds, and the count.
impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = |end: Duration| u64::try_from(end.as_micros()).unwrap_or(u64::MAX);
        serializer.collect_seq(self.buckets().map(|(end, count)| (micros(end), count)))
    }
}

/// A histogram that several threads fill.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::SharedHistogram;
///
/// let latency = SharedHistogram::default();
/// latency.record(Duration::from_millis(3));
/// assert_eq!(latency.load().count(), 1);
/// ```
#[derive(Debug)]
pub struct SharedHistogram([AtomicU64; BUCKETS]);

impl Default for SharedHistogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl SharedHistogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        if let Some(count) = self.0.get(bucket(duration)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A copy of the present counts.
    #[must_use]
    pub fn load(&self) -> Histogram {
        let mut loaded = Histogram::default();
        for (to, from) in loaded.0.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::Relaxed);
        }
        loaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_that_ends_behind_it() {
        for micros in (0..5_000).chain((0..40).map(|shift| 1 << shift)) {
            let duration = Duration::from_micros(micros);
            let found = bucket(duration);
            assert!(found == BUCKETS - 1 || end_of(found) > duration, "{duration:?}");
            let before = found.checked_sub(1).map(end_of);
            assert!(before.is_none_or(|end| end <= duration), "{duration:?}");
            // The width is at most a quarter of the shortest duration of the bucket.
            let width = before.map(|begin| end_of(found).saturating_sub(begin));
            assert!(
                width.is_none_or(|width| micros < 4 || width * 4 <= duration + width),
                "{duration:?}"
            );
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_ends_of_buckets() {
        let shared = SharedHistogram::default();
        assert_eq!(shared.load().quantile(0.5), None);
        for micros in [1, 2, 3, 1_000] {
            shared.record(Duration::from_micros(micros));
        }
        let loaded = shared.load();
        let micros = |share| loaded.quantile(share).unwrap().as_micros();
        assert_eq!(
            (micros(0.0), micros(0.25), micros(0.5), micros(0.75)),
            (2, 2, 3, 4)
        );
        assert_eq!(micros(1.0), 1_024);
        assert_eq!(loaded.count(), 4);
        let json = serde_json::to_string(&loaded).unwrap();
        assert_eq!(json, "[[2,1],[3,1],[4,1],[1024,1]]");
    }
}
