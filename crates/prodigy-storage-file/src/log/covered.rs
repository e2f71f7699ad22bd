//! The segments that a cursor covers by its mark, found by their names without parsing them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};

use super::cursor::Position;
use super::replay_filter::MOST_COVERED;
use crate::fs::FileKind;

/// The letters before the first stamp of a name.
const PREFIX: &str = "events-";

/// Picks the covered names out of a listing, and keeps the newest ones.
#[derive(Debug)]
pub(super) struct Covered<'p> {
    /// The mark, as the text of a stamp: canonical stamps sort as text.
    mark: String,
    /// The stamp of the segment that the log began with, as the position says.
    begun: Option<String>,
    /// The oldest name, and its stamp: the log began with it.
    oldest: Option<(String, String)>,
    /// Stems of the segments that the position names.
    named: HashSet<&'p str>,
    /// Days, as the first eight digits of a stamp, that exist.
    days: HashSet<[u8; 8]>,
    /// The newest names, the oldest of them on top: the stamp that says when the segment was made, and the name.
    newest: BinaryHeap<Reverse<(String, String)>>,
    /// Hashes of the stems in plain and in compressed form.
    plain: Vec<u64>,
    packed: Vec<u64>,
    hasher: foldhash::fast::FixedState,
}

impl<'p> Covered<'p> {
    pub(super) fn new(mark: Timestamp, position: &'p Position) -> Self {
        Self {
            mark: mark.to_string(),
            begun: position.begun.map(|begun| begun.to_string()),
            oldest: None,
            named: position.segments.keys().map(SegmentName::stem).collect(),
            days: HashSet::new(),
            newest: BinaryHeap::new(),
            plain: Vec::new(),
            packed: Vec::new(),
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// True for the name of a segment that the mark covers and the position does not name. Any doubt is a no: the name is
    /// parsed then.
    pub(super) fn takes(&mut self, name: &str, kind: FileKind) -> bool {
        let Some((stem, form)) = split(name) else {
            return false;
        };
        let Some(made) = self.made(stem) else {
            return false;
        };
        let is_begun = self.begun.as_deref() == Some(made);
        if kind != FileKind::File || made > &*self.mark || is_begun || self.named.contains(stem) {
            return false;
        }
        if self
            .oldest
            .as_ref()
            .is_none_or(|(oldest, _)| made < oldest.as_str())
        {
            self.oldest = Some((made.to_owned(), name.to_owned()));
        }
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, stem);
        match form {
            SegmentForm::Plain => self.plain.push(hash),
            _ => self.packed.push(hash),
        }
        let is_newer = |Reverse((oldest, _)): &Reverse<(String, String)>| made > oldest.as_str();
        if self.newest.len() < MOST_COVERED || self.newest.peek().is_some_and(is_newer) {
            self.newest.push(Reverse((made.to_owned(), name.to_owned())));
            if self.newest.len() > MOST_COVERED {
                self.newest.pop();
            }
        }
        true
    }

    /// The stamp that says when a segment of ours was made; `None` for a name that may be none of ours.
    fn made<'n>(&mut self, stem: &'n str) -> Option<&'n str> {
        let stamps = stem.strip_prefix(PREFIX)?;
        let (lower, made) = match stamps.split_once('-') {
            Some((lower, made)) if lower != made => (lower, made),
            Some(_) => return None,
            None => (stamps, stamps),
        };
        (self.is_time(lower) && self.is_time(made)).then_some(made)
    }

    /// True if a text is a canonical stamp of a time that exists.
    fn is_time(&mut self, text: &str) -> bool {
        let Some(([day @ .., _], [a, b, c, d, e, f, ..])) = text
            .as_bytes()
            .split_first_chunk::<9>()
            .filter(|_| Stamp::is_canonical_form(text))
        else {
            return false;
        };
        // A leap second has another text.
        if [*a, *b] > *b"23" || [*c, *d] > *b"59" || [*e, *f] > *b"59" {
            return false;
        }
        self.days.contains(day) || {
            let exists = Stamp::parse(text).is_some_and(|stamp| stamp.is_canonical());
            exists && self.days.insert(*day)
        }
    }

    /// True if a segment is there in two forms, which may be twins.
    pub(super) fn has_two_forms(&mut self) -> bool {
        if self.plain.is_empty() || self.packed.is_empty() {
            // Zstandard and gzip of one stem are no twins.
            return false;
        }
        self.plain.sort_unstable();
        self.packed
            .iter()
            .any(|hash| self.plain.binary_search(hash).is_ok())
    }

    /// The newest names and the oldest one.
    pub(super) fn kept(self) -> impl Iterator<Item = String> {
        let oldest = self.oldest.map(|(_, name)| name);
        self.newest
            .into_iter()
            .map(|Reverse((_, name))| name)
            .chain(oldest)
    }
}

fn split(name: &str) -> Option<(&str, SegmentForm)> {
    SegmentForm::ALL
        .into_iter()
        .find_map(|form| Some((name.strip_suffix(form.ending())?, form)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::cursor::{Reached, State};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(1_800_000_000_000_000_000 + seconds * 1_000_000_000)
    }

    fn position() -> Position {
        let reached = Reached {
            offset: 0,
            last: None,
            done: false,
        };
        Position {
            mark: Some(at(100)),
            segments: [(SegmentName::new(at(50), at(50)), reached)].into(),
            begun: Some(at(98)),
            newest: None,
        }
    }

    /// Names of every kind around the mark.
    fn names() -> Vec<String> {
        let mut names: Vec<String> = [
            "events-20270115T080160.000000000Z.jsonl",
            "events-20270230T080000.000000000Z.jsonl",
            "events-20270115_080000.jsonl",
            "events-20270115T080000Z.jsonl",
            "events-20270115T080000.000000000Z.jsonl.bak",
            "events-20270115T080000.000000000Z-20270115T080000.000000000Z.jsonl",
            ".tmp-0123",
            "events-.jsonl",
            "x",
        ]
        .map(str::to_owned)
        .into();
        for (lower, made) in [
            (50, 50),
            (98, 98),
            (99, 99),
            (100, 100),
            (101, 101),
            (2, 101),
            (2, 99),
        ] {
            let name = SegmentName::new(at(lower), at(made));
            names.extend(SegmentForm::ALL.map(|form| name.file_name(form)));
        }
        names
    }

    #[test]
    fn no_name_is_taken_that_the_position_does_not_cover() {
        let position = position();
        let mut covered = Covered::new(at(100), &position);
        let mut taken = 0;
        for name in names() {
            let parsed = SegmentName::parse(&name).filter(|(segment, _)| segment.is_canonical());
            let is_covered = parsed.is_some_and(|(segment, _)| {
                position.of(&segment) == State::Read
                    && !position.segments.contains_key(&segment)
                    && position.begun != Some(segment.made())
            });
            assert_eq!(covered.takes(&name, FileKind::File), is_covered, "{name}");
            taken += usize::from(is_covered);
            assert!(!covered.takes(&name, FileKind::Other), "{name}");
        }
        assert_eq!(taken, 9);
        assert!(covered.has_two_forms());
    }

    #[test]
    fn the_newest_names_and_the_oldest_one_are_kept() {
        let position = position();
        let mut covered = Covered::new(at(100_000), &position);
        for number in 0..1000 {
            let made = at(1000 + number * 7 % 1000);
            let name = SegmentName::new(made, made).file_name(SegmentForm::Plain);
            assert!(covered.takes(&name, FileKind::File));
        }
        assert!(!covered.has_two_forms());
        let mut kept: Vec<String> = covered.kept().collect();
        kept.sort();
        let wanted = std::iter::once(1000)
            .chain(2000 - MOST_COVERED as i64..2000)
            .map(|made| SegmentName::new(at(made), at(made)).file_name(SegmentForm::Plain));
        assert_eq!(kept, wanted.collect::<Vec<_>>());
    }
}
