//! The spread of a work's values over the rounds: median, minimum, maximum.

use serde::{Deserialize, Serialize};

/// The minimum, median and maximum of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// The spread of the values; `None` without values. The median of an even number of values is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            low: *sorted.first()?,
            median: f64::midpoint(lower, upper),
            high: *sorted.last()?,
        })
    }
}

/// The ratios of two works, round by round. Noise that affects both works of a round cancels out.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Spread, ratios};

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one() {
        let spread = Spread::of([9.0, 1.0, 4.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 4.0, 9.0));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(Spread::of([1.0, 100.0, 2.0, 4.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_one_round_each() {
        // The second round was ten times slower for both works, which the ratio does not show.
        assert_eq!(ratios(&[3.0, 30.0], &[2.0, 20.0]), [1.5, 1.5]);
    }
}
