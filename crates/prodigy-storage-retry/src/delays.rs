//! The delays of a retry policy, as an iterator without side effects.

use std::iter::FusedIterator;
use std::time::Duration;

use crate::settings::RetrySettings;

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// The delays of a retry policy: the one before the first retry, the one before the second, and so on.
///
/// Without jitter, each delay is `backoff_multiplier` times the one before, and at most `max_delay`, so delays
/// never decrease. With jitter, each delay is drawn at random between half of this value and the whole value,
/// independently of the others. All arithmetic saturates, whatever the settings: a multiplier that is below 1 or
/// not a number counts as 1, and a delay that is too long for a `Duration` becomes `max_delay`.
///
/// The iterator neither waits nor reads a clock. [`RetrySettings::delays`] makes it.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_retry::RetrySettings;
///
/// let settings = RetrySettings::default().jitter(false);
/// let delays: Vec<u64> = settings.delays().map(|delay| delay.as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4]);
/// ```
#[derive(Debug, Clone)]
pub struct Delays<J> {
    remaining: u32,
    next: Duration,
    max: Duration,
    multiplier: f64,
    jitter: Option<J>,
}

impl RetrySettings {
    /// The delays of this policy. Their jitter comes from the random generator of this thread.
    pub fn delays(&self) -> Delays<fn() -> u32> {
        self.delays_with(draw)
    }

    /// The delays of this policy. Their jitter comes from `jitter`, each call of which has to return a number that
    /// is uniform over all of `u32`; zero selects the shortest delay. It is not called if the setting `jitter` is
    /// off.
    pub fn delays_with<J: FnMut() -> u32>(&self, jitter: J) -> Delays<J> {
        Delays {
            remaining: self.max_retries,
            next: self.initial_delay.min(self.max_delay),
            max: self.max_delay,
            // The comparison is false for NaN, so NaN counts as 1.
            multiplier: if self.backoff_multiplier > 1.0 {
                self.backoff_multiplier
            } else {
                1.0
            },
            jitter: self.jitter.then_some(jitter),
        }
    }
}

/// The jitter source that is used by default.
pub(crate) fn draw() -> u32 {
    fastrand::u32(..)
}

impl<J: FnMut() -> u32> Iterator for Delays<J> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.remaining = self.remaining.checked_sub(1)?;
        let full = self.next;
        self.next = grown(full, self.multiplier).min(self.max);
        Some(match &mut self.jitter {
            Some(jitter) => drawn(full, jitter()),
            None => full,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let exact = usize::try_from(self.remaining).ok();
        (exact.unwrap_or(usize::MAX), exact)
    }
}

impl<J: FnMut() -> u32> FusedIterator for Delays<J> {}

/// `delay * multiplier`, but never less than `delay`: above 2^53 ns the multiplication may round down.
fn grown(delay: Duration, multiplier: f64) -> Duration {
    if delay.is_zero() {
        return delay;
    }
    Duration::try_from_secs_f64(delay.as_secs_f64() * multiplier)
        .unwrap_or(Duration::MAX)
        .max(delay)
}

/// Maps `draw` to the range from half of `full` to `full`. With floats, this would overflow near `Duration::MAX`.
fn drawn(full: Duration, draw: u32) -> Duration {
    let nanos = full.as_nanos();
    let half = nanos.div_ceil(2);
    // The product is below 2^94 * 2^32, so it fits in `u128`.
    let offset = (nanos - half) * u128::from(draw) / u128::from(u32::MAX);
    let chosen = half + offset;
    let whole = u64::try_from(chosen / NANOS_PER_SEC).unwrap_or(u64::MAX);
    let rest = u32::try_from(chosen % NANOS_PER_SEC).unwrap_or(0);
    Duration::new(whole, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            4 => (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
            4 => (0..10_000_000_000u64).prop_map(Duration::from_nanos),
            1 => Just(Duration::ZERO),
            1 => Just(Duration::MAX),
        ]
    }

    fn any_multiplier() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => 1.0..10.0f64,
            2 => any::<f64>(),
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 0.0, -1.0, 1.0]),
        ]
    }

    prop_compose! {
        fn any_settings()(
            max_retries in 0..200u32,
            initial_delay in any_duration(),
            max_delay in any_duration(),
            backoff_multiplier in any_multiplier(),
            jitter in any::<bool>(),
        ) -> RetrySettings {
            RetrySettings { max_retries, initial_delay, max_delay, backoff_multiplier, jitter }
        }
    }

    proptest! {
        #[test]
        fn as_many_as_retries_and_none_above_the_cap(
            settings in any_settings(),
            draws in prop::collection::vec(any::<u32>(), 1..50),
        ) {
            let mut draws = draws.into_iter().cycle();
            let mut delays = settings.delays_with(|| draws.next().unwrap());
            let promised = usize::try_from(settings.max_retries).unwrap();
            prop_assert_eq!(delays.size_hint(), (promised, Some(promised)));
            let all: Vec<_> = delays.by_ref().collect();
            prop_assert_eq!(all.len(), promised);
            prop_assert!(all.iter().all(|delay| *delay <= settings.max_delay));
            prop_assert_eq!(delays.next(), None);
        }

        #[test]
        fn without_jitter_delays_grow_by_the_multiplier_up_to_the_cap(settings in any_settings()) {
            let settings = RetrySettings { jitter: false, ..settings };
            let all: Vec<_> = settings.delays_with(|| panic!("no jitter asked for")).collect();
            if let Some(first) = all.first() {
                prop_assert_eq!(*first, settings.initial_delay.min(settings.max_delay));
            }
            let growth = if settings.backoff_multiplier > 1.0 { settings.backoff_multiplier } else { 1.0 };
            for pair in all.windows(2) {
                prop_assert!(pair[0] <= pair[1]);
                let expected = pair[0].as_secs_f64() * growth;
                let capped = expected.min(settings.max_delay.as_secs_f64());
                // The difference may be as large as the rounding to nanoseconds, and that of the last bits of a
                // float.
                let slack = 2e-9 + capped * 1e-12;
                let off = (pair[1].as_secs_f64() - capped).abs();
                prop_assert!(pair[0].is_zero() || off <= slack, "{:?} grew to {:?}", pair[0], pair[1]);
            }
        }

        #[test]
        fn jitter_draws_from_half_to_all(
            settings in any_settings(),
            draws in prop::collection::vec(any::<u32>(), 200),
        ) {
            let settings = RetrySettings { jitter: true, ..settings };
            let full: Vec<_> =
                RetrySettings { jitter: false, ..settings.clone() }.delays().collect();
            let mut draws = draws.into_iter();
            let drawn: Vec<_> = settings.delays_with(|| draws.next().unwrap()).collect();
            prop_assert_eq!(full.len(), drawn.len());
            for (full, drawn) in full.iter().zip(&drawn) {
                prop_assert!(drawn <= full);
                prop_assert!(drawn.as_nanos() * 2 >= full.as_nanos());
            }
            let shortest: Vec<_> = settings.delays_with(|| 0).map(|delay| delay.as_nanos()).collect();
            let halves: Vec<_> = full.iter().map(|delay| delay.as_nanos().div_ceil(2)).collect();
            prop_assert_eq!(shortest, halves);
            let longest: Vec<_> = settings.delays_with(|| u32::MAX).collect();
            prop_assert_eq!(longest, full);
        }
    }

    #[test]
    fn the_defaults_double_from_a_second() {
        let settings = RetrySettings {
            max_retries: 7,
            jitter: false,
            ..RetrySettings::default()
        };
        let secs: Vec<_> = settings.delays().map(|delay| delay.as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn the_most_retries_are_counted_not_collected() {
        let settings = RetrySettings {
            max_retries: u32::MAX,
            ..RetrySettings::default()
        };
        let mut delays = settings.delays();
        delays.next();
        assert_eq!(delays.size_hint().0, usize::try_from(u32::MAX - 1).unwrap());
    }

    #[test]
    fn the_shared_generator_spreads_its_draws() {
        let settings = RetrySettings {
            max_retries: 100,
            initial_delay: Duration::from_secs(8),
            max_delay: Duration::from_secs(8),
            ..RetrySettings::default()
        };
        let distinct: std::collections::BTreeSet<_> = settings.delays().collect();
        assert!(distinct.len() > 90, "{} distinct delays of 100", distinct.len());
    }
}
