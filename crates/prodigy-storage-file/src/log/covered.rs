//! Finds the segments that the high-water mark of a cursor covers, as their names show, without parsing every name.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};

use super::cursor::Position;
use super::replay_filter::MOST_COVERED;
use crate::fs::FileKind;

/// The largest number of names that are kept: as many segments as the replay filter searches, in all forms.
const MOST_KEPT: usize = MOST_COVERED * SegmentForm::ALL.len();
/// The beginning of a segment's name, before the first stamp.
const PREFIX: &str = "events-";

/// Recognises the names of covered segments in a listing, and keeps the newest of them.
#[derive(Debug)]
pub(super) struct Covered<'p> {
    /// The high-water mark as the text of a stamp. The texts of canonical stamps sort by time.
    mark: String,
    /// The creation time of the log's first segment, as the cursor states it.
    begun: Option<String>,
    /// The creation time and the name of the oldest covered segment, which may be the first of the log.
    oldest: Option<(String, String)>,
    /// Names, without their endings, of the segments that the cursor states a position for.
    named: HashSet<&'p str>,
    stamps: Stamps,
    /// The newest covered names, each after its creation time. The oldest of them is at the top of the heap.
    newest: BinaryHeap<Reverse<(String, String)>>,
}

impl<'p> Covered<'p> {
    pub(super) fn new(mark: Timestamp, position: &'p Position) -> Self {
        Self {
            mark: mark.to_string(),
            begun: position.begun.map(|begun| begun.to_string()),
            oldest: None,
            named: position.segments.keys().map(SegmentName::stem).collect(),
            stamps: Stamps::default(),
            newest: BinaryHeap::new(),
        }
    }

    /// True if the high-water mark covers the segment with this name and the cursor states no position for it. Returns
    /// false if this is uncertain, and the caller then parses the name.
    pub(super) fn takes(&mut self, name: &str, kind: FileKind) -> bool {
        match self.stamps.of(name) {
            Some(its) => self.takes_ours(name, its, kind),
            None => false,
        }
    }

    /// [`takes`](Self::takes), for a name of our form with what [`Stamps::of`] returns for it.
    pub(super) fn takes_ours(&mut self, name: &str, (stem, made): (&str, &str), kind: FileKind) -> bool {
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
        let is_newer = |Reverse((oldest, _)): &Reverse<(String, String)>| made > oldest.as_str();
        if self.newest.len() < MOST_KEPT || self.newest.peek().is_some_and(is_newer) {
            self.newest.push(Reverse((made.to_owned(), name.to_owned())));
            if self.newest.len() > MOST_KEPT {
                self.newest.pop();
            }
        }
        true
    }

    /// The newest names, and the oldest one.
    pub(super) fn kept(self) -> impl Iterator<Item = String> {
        let oldest = self.oldest.map(|(_, name)| name);
        self.newest
            .into_iter()
            .map(|Reverse((_, name))| name)
            .chain(oldest)
    }
}

/// Reads the creation times in names without parsing each stamp.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Dates that are known to be valid, as the first nine bytes of a stamp.
    days: HashSet<[u8; 8]>,
}

impl Stamps {
    /// The name of a segment of ours without its ending, and the creation time in it. `None` if the name may have another
    /// form.
    pub(super) fn of<'n>(&mut self, name: &'n str) -> Option<(&'n str, &'n str)> {
        let stem = SegmentForm::ALL
            .into_iter()
            .find_map(|form| name.strip_suffix(form.ending()))?;
        let stamps = stem.strip_prefix(PREFIX)?;
        let (lower, made) = match stamps.split_once('-') {
            Some((lower, made)) if lower != made => (lower, made),
            Some(_) => return None,
            None => (stamps, stamps),
        };
        (self.is_time(lower) && self.is_time(made)).then_some((stem, made))
    }

    /// True if the text is a canonical stamp of a valid time.
    fn is_time(&mut self, text: &str) -> bool {
        let Some(([day @ .., _], [a, b, c, d, e, f, ..])) = text
            .as_bytes()
            .split_first_chunk::<9>()
            .filter(|_| Stamp::is_canonical_form(text))
        else {
            return false;
        };
        // A time such as a leap second is not canonical.
        if [*a, *b] > *b"23" || [*c, *d] > *b"59" || [*e, *f] > *b"59" {
            return false;
        }
        self.days.contains(day) || {
            let exists = Stamp::parse(text).is_some_and(|stamp| stamp.is_canonical());
            exists && self.days.insert(*day)
        }
    }
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

    /// Names of every kind, with times just before and after the high-water mark.
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
    }

    #[test]
    fn all_forms_of_the_newest_segments_and_the_oldest_one_are_kept() {
        let position = position();
        for forms in 1..=SegmentForm::ALL.len() {
            let forms = SegmentForm::ALL.get(..forms).unwrap_or_default();
            let names = |made: i64| {
                let name = SegmentName::new(at(made), at(made));
                forms.iter().map(move |form| name.file_name(*form))
            };
            let mut covered = Covered::new(at(100_000), &position);
            for number in 0..1000 {
                for name in names(1000 + number * 7 % 1000) {
                    assert!(covered.takes(&name, FileKind::File));
                }
            }
            let kept: HashSet<String> = covered.kept().collect();
            assert!(kept.len() <= MOST_KEPT + 1);
            for made in 2000 - MOST_COVERED as i64..2000 {
                assert!(names(made).all(|name| kept.contains(&name)), "{made}");
            }
            assert!(names(1000).any(|name| kept.contains(&name)));
        }
    }
}
