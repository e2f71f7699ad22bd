//! Counts by name over time, in memory that depends neither on the number of events nor on the time that they span.

use std::collections::BTreeMap;

use prodigy_storage::Timestamp;
use serde::Serialize;

/// The possible lengths of a span in milliseconds. Each is a multiple of the one before, so spans can be merged and
/// need never be split.
const LENGTHS: [i64; 15] = [
    200,
    1_000,
    5_000,
    15_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    4 * 3_600_000,
    DAY,
    7 * DAY,
    28 * DAY,
    12 * 28 * DAY,
    120 * 28 * DAY,
    i64::MAX,
];
const DAY: i64 = 86_400_000;
/// The largest number of spans between the first and the last one.
pub(super) const SPANS: i64 = 240;
/// The largest number of names with counts of their own; other names are counted together.
const NAMES: usize = 1000;
/// The largest number of names on a page.
const SHOWN: usize = 40;

/// Counts by name in spans of equal length, which grows with the covered time. A span begins at a multiple of its
/// length since 1970, so the order of the counted events does not matter.
#[derive(Default)]
pub(super) struct Timeline {
    /// The index of the current length.
    length: usize,
    /// The numbers of the first and the last span.
    range: Option<(i64, i64)>,
    all: Row,
    nameless: Row,
    others: Row,
    names: BTreeMap<String, Row>,
}

/// The counts under a name.
#[derive(Clone, Default)]
struct Row {
    count: u64,
    /// The number of marked events, such as failures.
    marked: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    spans: BTreeMap<i64, (u64, u64)>,
}

impl Row {
    fn add(&mut self, time: Option<(Timestamp, i64)>, marked: bool) {
        let marked = u64::from(marked);
        self.count += 1;
        self.marked += marked;
        if let Some((time, span)) = time {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = self.last.max(Some(time));
            let counts = self.spans.entry(span).or_default();
            *counts = (counts.0 + 1, counts.1 + marked);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.marked += other.marked;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
        for (span, counts) in &other.spans {
            let into = self.spans.entry(*span).or_default();
            *into = (into.0 + counts.0, into.1 + counts.1);
        }
    }

    /// Merges each group of this number of adjacent spans.
    fn coarsen(&mut self, number: i64) {
        let spans = std::mem::take(&mut self.spans);
        for (span, counts) in spans {
            let into = self.spans.entry(span / number).or_default();
            *into = (into.0 + counts.0, into.1 + counts.1);
        }
    }
}

impl Timeline {
    /// Counts an event. A time of [`Timestamp::MIN`] is unknown: the event counts in the total, and in no span.
    pub(super) fn add(&mut self, name: Option<&str>, time: Timestamp, marked: bool) {
        let time = (time > Timestamp::MIN).then(|| (time, self.span_of(time)));
        self.all.add(time, marked);
        let Some(name) = name else {
            return self.nameless.add(time, marked);
        };
        if let Some(row) = self.names.get_mut(name) {
            row.add(time, marked);
        } else if self.names.len() < NAMES {
            self.names.entry(name.to_owned()).or_default().add(time, marked);
        } else {
            self.others.add(time, marked);
        }
    }

    /// The span of a time. Makes spans longer if the time needs it.
    fn span_of(&mut self, time: Timestamp) -> i64 {
        loop {
            let length = LENGTHS.get(self.length).copied().unwrap_or(i64::MAX);
            let span = time.as_millis() / length;
            let (first, last) = self.range.unwrap_or((span, span));
            let (first, last) = (first.min(span), last.max(span));
            if last - first < SPANS {
                self.range = Some((first, last));
                return span;
            }
            self.length += 1;
            let number = LENGTHS.get(self.length).map_or(i64::MAX, |next| next / length);
            self.range = self.range.map(|(first, last)| (first / number, last / number));
            let rows = [&mut self.all, &mut self.nameless, &mut self.others];
            for row in rows.into_iter().chain(self.names.values_mut()) {
                row.coarsen(number);
            }
        }
    }

    /// The result: the names with the greatest counts, then the rest together.
    pub(super) fn into_shown(self) -> Shown {
        let mut named: Vec<_> = self.names.into_iter().collect();
        named.sort_by_key(|(name, row)| (std::cmp::Reverse(row.count), name.clone()));
        let mut others = self.others;
        let further = named.split_off(named.len().min(SHOWN));
        for (_, row) in &further {
            others.merge(row);
        }
        let (first, last) = self.range.unwrap_or((0, -1));
        let shown = |name: Option<String>, row: &Row| ShownRow::new(name, row, first);
        Shown {
            start: first.saturating_mul(LENGTHS.get(self.length).copied().unwrap_or(0)),
            length: LENGTHS.get(self.length).copied().unwrap_or(0),
            spans: last - first + 1,
            all: shown(None, &self.all),
            nameless: (self.nameless.count > 0).then(|| shown(None, &self.nameless)),
            others: (others.count > 0).then(|| shown(None, &others)),
            rows: named
                .into_iter()
                .map(|(name, row)| shown(Some(name), &row))
                .collect(),
        }
    }
}

/// A timeline in the form that the page embeds.
#[derive(Serialize)]
pub(super) struct Shown {
    /// The beginning of the first span, in milliseconds since 1970.
    start: i64,
    /// The length of a span, in milliseconds.
    length: i64,
    spans: i64,
    all: ShownRow,
    nameless: Option<ShownRow>,
    others: Option<ShownRow>,
    rows: Vec<ShownRow>,
}

#[derive(Serialize)]
struct ShownRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    count: u64,
    marked: u64,
    first: Option<i64>,
    last: Option<i64>,
    /// The spans that are not empty: the number of the span, its count, and the count of marked events.
    at: Vec<(i64, u64, u64)>,
}

impl ShownRow {
    fn new(name: Option<String>, row: &Row, first: i64) -> Self {
        let at = row.spans.iter();
        Self {
            name: name.map(|name| super::kept::shortened(&name, super::kept::NAME).to_owned()),
            count: row.count,
            marked: row.marked,
            first: row.first.map(Timestamp::as_millis),
            last: row.last.map(Timestamp::as_millis),
            at: at
                .map(|(span, counts)| (span - first, counts.0, counts.1))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn each_length_is_a_multiple_of_the_one_before_and_the_last_span_reaches_every_time() {
        for pair in LENGTHS[..14].windows(2) {
            assert_eq!(pair[1] % pair[0], 0, "{pair:?}");
        }
        assert!(Timestamp::MAX.as_millis() / LENGTHS[13] < SPANS);
    }

    #[test]
    fn names_beyond_those_that_are_shown_are_counted_together() {
        let mut timeline = Timeline::default();
        for name in 0..NAMES + 5 {
            timeline.add(Some(&format!("{name:05}")), at(1_000), false);
        }
        timeline.add(Some("00007"), at(2_000), true);
        timeline.add(None, Timestamp::MIN, false);
        let shown = timeline.into_shown();
        assert_eq!((shown.rows.len(), shown.all.count), (SHOWN, NAMES as u64 + 7));
        assert_eq!(
            (shown.rows[0].name.as_deref(), shown.rows[0].marked),
            (Some("00007"), 1)
        );
        assert_eq!(shown.others.unwrap().count, (NAMES + 5 - SHOWN) as u64);
        let nameless = shown.nameless.unwrap();
        assert_eq!((nameless.count, nameless.first, nameless.at), (1, None, vec![]));
    }

    proptest! {
        /// Each count is in the span of its time, in any order and at any distance of the times.
        #[test]
        fn every_count_is_in_the_span_of_its_time(times in prop::collection::vec(
            prop_oneof![1_i64..100_000, 1_i64..100_000_000, 1_i64..9_223_372_036_854], 1..60,
        )) {
            let mut timeline = Timeline::default();
            for (number, time) in times.iter().enumerate() {
                timeline.add(Some(if number % 2 == 0 { "even" } else { "odd" }), at(*time), number % 3 == 0);
            }
            let shown = timeline.into_shown();
            prop_assert!(shown.spans <= SPANS);
            let mut wanted = BTreeMap::<i64, (u64, u64)>::new();
            for (number, time) in times.iter().enumerate() {
                let counts = wanted.entry((time - shown.start) / shown.length).or_default();
                *counts = (counts.0 + 1, counts.1 + u64::from(number % 3 == 0));
            }
            let wanted: Vec<_> = wanted.into_iter().map(|(span, (all, marked))| (span, all, marked)).collect();
            prop_assert_eq!(&shown.all.at, &wanted);
            let of_names: u64 = shown.rows.iter().flat_map(|row| &row.at).map(|at| at.1).sum();
            prop_assert_eq!(of_names, times.len() as u64);
        }
    }
}
