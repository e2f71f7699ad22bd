//! Counts events by kind, by worktree and over time.

use std::collections::BTreeMap;

use prodigy_storage::{Record, Timestamp, escape};
use serde_json::{Value, json};

use super::facts::{Facts, payload};
use crate::app::App;
use crate::errors::Result;
use crate::time::left;

/// The largest number of names with counts of their own; other names are counted together.
const NAMES: usize = 1000;
/// The largest number of names that are printed.
const SHOWN: usize = 10;
/// The largest number of spans of time with counts of their own.
const SPANS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The number of events by name.
#[derive(Default)]
struct Names {
    counts: BTreeMap<String, u64>,
    others: u64,
}

impl Names {
    fn add(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < NAMES {
            self.counts.insert(name.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    /// The names with their counts, greatest count first.
    fn sorted(&self) -> Vec<(&str, u64)> {
        let mut sorted: Vec<_> = self
            .counts
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        sorted
    }

    fn print(&self, app: &mut App<'_>, heading: &str) -> Result<()> {
        let sorted = self.sorted();
        for (place, (name, count)) in sorted.iter().take(SHOWN).enumerate() {
            let heading = if place == 0 { heading } else { "" };
            app.cut_line(&format!("{heading:<11} {count:>8}  {}", escape(name)))?;
        }
        let shown: u64 = sorted.iter().take(SHOWN).map(|(_, count)| count).sum();
        match self.counts.values().sum::<u64>() + self.others - shown {
            0 => Ok(()),
            rest => app.line(format!("{:<11} {rest:>8}  others", "")),
        }
    }
}

/// Counts events in spans of time of equal length. The length is doubled as the covered time grows.
struct OverTime {
    start: i64,
    seconds: i64,
    counts: Vec<u64>,
}

impl OverTime {
    fn new(first: Timestamp) -> Self {
        Self {
            start: first.as_nanos() / 1_000_000_000,
            seconds: 1,
            counts: vec![0],
        }
    }

    fn add(&mut self, time: Timestamp) {
        let passed = time.as_nanos() / 1_000_000_000 - self.start;
        // An event that is older than the first span, such as one of the next job, needs spans before it.
        let (before, at) = loop {
            let before = (-passed)
                .max(0)
                .unsigned_abs()
                .div_ceil(self.seconds.unsigned_abs());
            let at = usize::try_from(passed / self.seconds).unwrap_or(0);
            let before = usize::try_from(before).unwrap_or(usize::MAX);
            if before.saturating_add(self.counts.len().max(at + 1)) <= SPANS {
                break (before, if before > 0 { 0 } else { at });
            }
            self.counts = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.seconds *= 2;
        };
        self.start -= before as i64 * self.seconds;
        self.counts.splice(0..0, std::iter::repeat_n(0, before));
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
    }

    /// One bar per span; a span without events is a blank.
    fn sparkline(&self) -> String {
        let most = self.counts.iter().copied().max().unwrap_or(0).max(1);
        let bar = |count: &u64| match count {
            0 => ' ',
            count => {
                let step = (count * BARS.len() as u64).div_ceil(most) - 1;
                BARS.get(usize::try_from(step).unwrap_or(0))
                    .copied()
                    .unwrap_or('█')
            }
        };
        self.counts.iter().map(bar).collect()
    }
}

/// The counts of the events that were added.
#[derive(Default)]
pub(super) struct Rates {
    kinds: Names,
    worktrees: Names,
    over_time: Option<OverTime>,
}

impl Rates {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let time = record.time();
        if time > Timestamp::MIN {
            self.over_time
                .get_or_insert_with(|| OverTime::new(time))
                .add(time);
        }
        let facts = Facts::of(payload(record));
        if let Some(kind) = facts.kind {
            self.kinds.add(&kind);
        }
        if let Some(worktree) = facts.worktree {
            self.worktrees.add(&worktree);
        }
    }

    pub(super) fn json(&self) -> Value {
        let over_time = self.over_time.as_ref();
        json!({
            "kinds": self.kinds.counts,
            "worktrees": self.worktrees.counts,
            "span_seconds": over_time.map(|time| time.seconds),
            "per_span": over_time.map(|time| &time.counts),
        })
    }

    pub(super) fn print(&self, app: &mut App<'_>) -> Result<()> {
        if let Some(time) = &self.over_time {
            let all: u64 = time.counts.iter().sum();
            let seconds = time.seconds.unsigned_abs();
            let average = all as f64 / (seconds * time.counts.len() as u64) as f64;
            let most = time.counts.iter().max().copied().unwrap_or_default();
            let span = left(std::time::Duration::from_secs(seconds));
            app.line(format!(
                "rate        {average:.2} a second, at most {most} in {span}"
            ))?;
            app.cut_line(&format!("each {span:<6} {}", time.sparkline()))?;
        }
        self.kinds.print(app, "kinds")?;
        self.worktrees.print(app, "worktrees")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_spans_grow_with_the_time_and_each_event_is_counted_once() {
        let mut time = OverTime::new(at(1000));
        for second in 0..600 {
            time.add(at(1000 + second));
        }
        time.add(at(3));
        assert_eq!((time.seconds, time.counts.iter().sum::<u64>()), (32, 601));
        assert!(time.counts.len() <= SPANS && time.start <= 3);
        assert_eq!((time.counts[0], time.counts[1]), (1, 0));
        time.add(at(1000 + 365 * 86_400));
        assert_eq!(time.counts.iter().sum::<u64>(), 602);
    }

    #[test]
    fn the_order_of_the_events_changes_no_more_than_the_borders_of_the_spans() {
        let times = [at(1000), at(1160), at(1000 + 7200)];
        let count = |order: [usize; 3]| {
            let mut time = OverTime::new(times[order[0]]);
            order.iter().for_each(|event| time.add(times[*event]));
            (
                time.seconds,
                time.counts.iter().filter(|count| **count > 0).count(),
            )
        };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let (seconds, filled) = count(order);
            assert!(
                (128..=256).contains(&seconds) && (2..=3).contains(&filled),
                "{order:?}: {seconds}, {filled}"
            );
        }
    }

    #[test]
    fn a_sparkline_has_a_bar_for_each_span() {
        let time = OverTime {
            start: 0,
            seconds: 1,
            counts: vec![0, 1, 4, 8, 100, 200],
        };
        assert_eq!(time.sparkline(), " ▁▁▁▄█");
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let mut names = Names::default();
        for name in 0..NAMES + 5 {
            names.add(&name.to_string());
        }
        names.add("7");
        assert_eq!((names.counts.len(), names.others), (NAMES, 5));
        assert_eq!(names.sorted()[0], ("7", 2));
    }
}
