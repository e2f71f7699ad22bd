//! The bar of a row: the limit that its measured value has to meet.

use serde::{Deserialize, Serialize};

/// The limit that the value of a row has to meet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// The largest allowed multiple of the reference's time.
    AtMost(f64),
    /// The smallest allowed multiple of the reference's throughput.
    AtLeast(f64),
    /// The value of our side alone has to be below this, in the row's unit.
    Below(f64),
    /// The value of our side may exceed that of the other side by this, in the row's unit.
    MoreBy(f64),
    /// No bar: the row is a report.
    None,
}

/// The verdict on a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The value meets its bar.
    Met,
    /// The value misses its bar within the margin for noise.
    Near,
    /// The value misses its bar by more than the margin.
    Missed,
    /// The row has no bar.
    Free,
}

impl Bar {
    /// The value of a round that is compared with the bar: our time, a ratio of two times, or a difference.
    pub(crate) fn figure(self, ours: f64, theirs: Option<f64>) -> Option<f64> {
        match self {
            Self::Below(_) => Some(ours),
            Self::AtMost(_) | Self::None => Some(ours / theirs?),
            Self::AtLeast(_) => Some(theirs? / ours),
            Self::MoreBy(_) => Some(ours - theirs?),
        }
    }

    /// True if the compared value is a ratio of two times.
    pub(crate) fn is_ratio(self) -> bool {
        matches!(self, Self::AtMost(_) | Self::AtLeast(_) | Self::None)
    }

    /// Judges a value. `margin` is the share of the bar that noise may explain, 0.1 for a tenth. Counted values have no
    /// noise, so they get no margin.
    pub(crate) fn judge(self, figure: f64, margin: f64) -> Verdict {
        let (met, near) = match self {
            Self::None => return Verdict::Free,
            Self::AtMost(bar) | Self::MoreBy(bar) => (figure <= bar, figure <= bar * (1.0 + margin)),
            Self::AtLeast(bar) => (figure >= bar, figure >= bar / (1.0 + margin)),
            Self::Below(bar) => (figure < bar, figure < bar),
        };
        match (met, near) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::Near,
            // A value that is not a number compares as false.
            (false, false) => Verdict::Missed,
        }
    }

    /// The bar in words: `<= 1.2x`.
    pub(crate) fn words(self, unit: &str) -> String {
        match self {
            Self::AtMost(bar) => format!("<= {bar}x"),
            Self::AtLeast(bar) => format!(">= {bar}x"),
            Self::Below(bar) => format!("< {bar} {unit}"),
            Self::MoreBy(bar) => format!("<= {bar} {unit} more"),
            Self::None => "none".to_owned(),
        }
    }
}

impl Verdict {
    /// The verdict as a word in a table.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Near => "near",
            Self::Missed => "missed",
            Self::Free => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Verdict};

    #[test]
    fn a_ratio_over_its_bar_fails_past_the_margin_only() {
        let bar = Bar::AtMost(1.2);
        assert_eq!(bar.judge(1.2, 0.1), Verdict::Met);
        assert_eq!(bar.judge(1.21, 0.1), Verdict::Near);
        assert_eq!(bar.judge(1.3199, 0.1), Verdict::Near);
        assert_eq!(bar.judge(1.33, 0.1), Verdict::Missed);
        assert_eq!(bar.judge(1.21, 0.0), Verdict::Missed);
    }

    #[test]
    fn throughput_below_its_bar_fails_past_the_margin_only() {
        let bar = Bar::AtLeast(1.6);
        assert_eq!(bar.judge(1.6, 0.1), Verdict::Met);
        assert_eq!(bar.judge(1.5, 0.1), Verdict::Near);
        assert_eq!(bar.judge(1.4, 0.1), Verdict::Missed);
    }

    #[test]
    fn what_is_counted_has_no_margin() {
        assert_eq!(Bar::Below(32.0).judge(31.9, 0.25), Verdict::Met);
        assert_eq!(Bar::Below(32.0).judge(32.0, 0.25), Verdict::Missed);
    }

    #[test]
    fn a_figure_that_is_no_number_is_a_miss() {
        assert_eq!(Bar::AtMost(1.2).judge(f64::NAN, 0.1), Verdict::Missed);
        assert_eq!(Bar::AtLeast(1.6).judge(f64::NAN, 0.1), Verdict::Missed);
    }

    #[test]
    fn each_bar_has_its_figure() {
        assert_eq!(Bar::AtMost(1.0).figure(3.0, Some(2.0)), Some(1.5));
        assert_eq!(Bar::AtLeast(1.0).figure(2.0, Some(3.0)), Some(1.5));
        assert_eq!(Bar::MoreBy(1.0).figure(3.0, Some(2.0)), Some(1.0));
        assert_eq!(Bar::Below(1.0).figure(3.0, None), Some(3.0));
        assert_eq!(Bar::AtMost(1.0).figure(3.0, None), None);
    }
}
