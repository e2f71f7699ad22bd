//! The entries that can be searched on the page of a report: the newest ones, and the newest failures.

use std::collections::BTreeMap;

use prodigy_storage::Timestamp;
use serde::Serialize;

use crate::top::Top;

/// The largest number of entries of each sort.
const EVENTS: usize = 4000;
const FAILURES: usize = 1000;
const LETTERS: usize = 1000;
/// The longest text of an entry, in bytes.
const TEXT: usize = 1000;
/// The longest name, in bytes.
pub(super) const NAME: usize = 200;
/// The largest size of all entries on the page, in bytes.
const BYTES: usize = 3 << 20;

/// A searchable event or dead letter.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Entry {
    /// The time in milliseconds since 1970; `None` if unknown.
    pub(super) time: Option<i64>,
    pub(super) id: String,
    pub(super) job: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worktree: Option<String>,
    /// The signature of a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
    /// The sort of the entry, for the filter of the page.
    pub(super) sort: Sort,
    pub(super) text: String,
    /// True if the text was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sort {
    #[default]
    Event,
    Failure,
    DeadLetter,
}

impl Entry {
    /// An entry at a time, with its text cut to the limit.
    pub(super) fn new(time: Timestamp, id: String, sort: Sort, text: &str) -> Self {
        let shown = shortened(text, TEXT);
        Self {
            time: (time > Timestamp::MIN).then(|| time.as_millis()),
            id,
            sort,
            text: shown.to_owned(),
            cut: shown.len() < text.len(),
            ..Self::default()
        }
    }
}

/// The beginning of a text, of at most this number of bytes.
pub(super) fn shortened(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

type Key = (Timestamp, u64);

/// The entries that are kept so far.
pub(super) struct Kept {
    offered: u64,
    events: Top<Key, (Key, Entry)>,
    failures: Top<Key, (Key, Entry)>,
    letters: Top<Key, (Key, Entry)>,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self {
            offered: 0,
            events: Top::new(EVENTS),
            failures: Top::new(FAILURES),
            letters: Top::new(LETTERS),
        }
    }

    pub(super) fn offer(&mut self, time: Timestamp, entry: Entry) {
        self.offered += 1;
        let key = (time, self.offered);
        match entry.sort {
            Sort::Event => self.events.offer(key, (key, entry)),
            Sort::Failure => {
                self.events.offer(key, (key, entry.clone()));
                self.failures.offer(key, (key, entry));
            }
            Sort::DeadLetter => self.letters.offer(key, (key, entry)),
        }
    }

    /// The entries as JSON, newest first. If they are too large for a page, failures and dead letters are kept.
    pub(super) fn into_shown(self) -> serde_json::Result<Entries> {
        let mut entries = BTreeMap::new();
        let (mut bytes, offered) = (0, self.offered);
        let important = self.letters.into_sorted().chain(self.failures.into_sorted());
        for (key, entry) in important.chain(self.events.into_sorted()) {
            let json = serde_json::value::to_raw_value(&entry)?;
            let length = super::page::length(json.get());
            if bytes + length <= BYTES && entries.insert(key, json).is_none() {
                bytes += length;
            }
        }
        Ok(Entries {
            offered,
            shown: entries.into_values().rev().collect(),
        })
    }
}

#[derive(Serialize)]
pub(super) struct Entries {
    /// The number of all events and dead letters, kept or not.
    offered: u64,
    shown: Vec<Box<serde_json::value::RawValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kept: Kept) -> Vec<serde_json::Value> {
        let shown = kept.into_shown().unwrap().shown;
        shown
            .iter()
            .map(|entry| serde_json::from_str(entry.get()).unwrap())
            .collect()
    }

    #[test]
    fn the_newest_and_the_newest_failures_are_kept_once_and_the_newest_comes_first() {
        let mut kept = Kept::new();
        for number in 0..20_000_i64 {
            let time = Timestamp::from_millis(1 + number);
            let sort = if number % 10 == 0 {
                Sort::Failure
            } else {
                Sort::Event
            };
            kept.offer(time, Entry::new(time, number.to_string(), sort, "{}"));
        }
        let shown = shown(kept);
        // The newest 4,000 have 400 failures; the other 600 are older.
        assert_eq!(shown.len(), EVENTS + 600);
        let ids: Vec<i64> = shown
            .iter()
            .map(|entry| entry["id"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(ids.is_sorted_by(|newer, older| newer > older));
        assert_eq!((ids[0], ids[EVENTS + 599]), (19_999, 10_000));
    }

    #[test]
    fn texts_that_become_large_in_a_page_leave_room_for_failures_and_dead_letters() {
        let mut kept = Kept::new();
        let text = "<".repeat(2000);
        for number in 0..5000 {
            let time = Timestamp::from_millis(1 + number);
            let sort = match number {
                0 => Sort::DeadLetter,
                1 => Sort::Failure,
                _ => Sort::Event,
            };
            kept.offer(time, Entry::new(time, String::new(), sort, &text));
        }
        let shown = shown(kept);
        assert!((300..600).contains(&shown.len()), "{}", shown.len());
        assert_eq!(shown[shown.len() - 1]["sort"], "dead_letter");
        assert_eq!(shown[shown.len() - 2]["sort"], "failure");
        assert_eq!(
            (shown[0]["text"].as_str().unwrap().len(), &shown[0]["cut"]),
            (TEXT, &true.into())
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("aä", 2), "a");
        assert_eq!(shortened("aä", 3), "aä");
    }
}
