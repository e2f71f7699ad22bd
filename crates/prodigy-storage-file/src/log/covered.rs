//! Finds the segments that the high-water mark of a cursor covers, as their names show, without parsing every name.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};

use super::cursor::Position;
use super::replay_filter::MOST_COVERED;
use crate::fs::FileKind;

/// The largest number of names that are kept: as many segments as the replay filter searches, in all forms.
const MOST_KEPT: usize = MOST_COVERED * SegmentForm::ALL.len();
/// The beginning of a segment's name, before the first stamp.
const PREFIX: &str = "events-";
const DAY: i64 = 86_400_000_000_000;

/// The name of a file of a segment of ours, in a few bytes: a folder may have thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnFile {
    pub(super) made: Timestamp,
    pub(super) lower: Timestamp,
    pub(super) form: SegmentForm,
}

impl OwnFile {
    pub(super) fn segment(self) -> SegmentName {
        SegmentName::new(self.lower, self.made)
    }
}

/// Recognises the names of covered segments in a listing, and keeps the newest of them.
#[derive(Debug)]
pub(super) struct Covered {
    /// The high-water mark.
    mark: Timestamp,
    /// The creation time of the log's first segment, as the cursor states it.
    begun: Option<Timestamp>,
    /// The oldest covered segment, which may be the first of the log.
    oldest: Option<OwnFile>,
    /// Lower bound and creation time of the segments that the cursor states a position for.
    named: HashSet<(Timestamp, Timestamp)>,
    /// The newest covered files. The oldest of them is at the top of the heap.
    newest: BinaryHeap<Reverse<OwnFile>>,
}

impl Covered {
    pub(super) fn new(mark: Timestamp, position: &Position) -> Self {
        let ours = position.segments.keys().filter(|name| name.is_canonical());
        Self {
            mark,
            begun: position.begun,
            oldest: None,
            named: ours.map(|name| (name.lower(), name.made())).collect(),
            newest: BinaryHeap::new(),
        }
    }

    /// True if the high-water mark covers the segment of this file and the cursor states no position for it.
    pub(super) fn takes(&mut self, file: OwnFile) -> bool {
        let OwnFile { made, lower, .. } = file;
        if made > self.mark || self.begun == Some(made) || self.named.contains(&(lower, made)) {
            return false;
        }
        if self.oldest.is_none_or(|oldest| made < oldest.made) {
            self.oldest = Some(file);
        }
        let is_newer = |Reverse(oldest): &Reverse<OwnFile>| made > oldest.made;
        if self.newest.len() < MOST_KEPT || self.newest.peek().is_some_and(is_newer) {
            self.newest.push(Reverse(file));
            if self.newest.len() > MOST_KEPT {
                self.newest.pop();
            }
        }
        true
    }

    /// The newest files, and the oldest one.
    pub(super) fn kept(self) -> impl Iterator<Item = OwnFile> {
        let newest = self.newest.into_iter().map(|Reverse(file)| file);
        newest.chain(self.oldest)
    }
}

/// Reads the times in names without parsing each date.
#[derive(Debug, Default)]
pub(super) struct NameReader {
    /// The date that was read last, and the time of its midnight.
    last: Option<([u8; 8], i64)>,
    days: HashMap<[u8; 8], i64>,
}

impl NameReader {
    /// The file of a segment of ours with this name. `None` for another name or kind, and where this is uncertain: the
    /// caller then parses the name.
    pub(super) fn read(&mut self, name: &str, kind: FileKind) -> Option<OwnFile> {
        if kind != FileKind::File {
            return None;
        }
        let stamps = name.strip_prefix(PREFIX)?;
        let (stamps, form) = SegmentForm::ALL
            .into_iter()
            .find_map(|form| Some((stamps.strip_suffix(form.ending())?, form)))?;
        let (lower, made) = match stamps.split_once('-') {
            Some((lower, made)) => (self.time(lower)?, self.time(made)?),
            None => {
                let made = self.time(stamps)?;
                return Some(OwnFile {
                    made,
                    lower: made,
                    form,
                });
            }
        };
        // A pair of equal stamps is never written.
        (lower != made).then_some(OwnFile { made, lower, form })
    }

    /// The time of a canonical stamp.
    fn time(&mut self, text: &str) -> Option<Timestamp> {
        let (date, rest) = text
            .as_bytes()
            .split_first_chunk::<8>()
            .filter(|_| Stamp::is_canonical_form(text))?;
        let [_, h1, h2, m1, m2, s1, s2, _, nanos @ .., _] = rest else {
            return None;
        };
        let number = |digits: &[u8]| {
            let digits = digits.iter().map(|digit| i64::from(digit - b'0'));
            digits.fold(0, |number, digit| number * 10 + digit)
        };
        let (hour, minute, second) = (number(&[*h1, *h2]), number(&[*m1, *m2]), number(&[*s1, *s2]));
        // A time such as a leap second is not canonical.
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + number(nanos);
        let midnight = match self.last {
            Some((known, midnight)) if known == *date => midnight,
            _ => self.midnight(*date, text, of_day)?,
        };
        midnight.checked_add(of_day).map(Timestamp::from_nanos)
    }

    /// The midnight before the time of this stamp, which is `of_day` nanoseconds later.
    fn midnight(&mut self, date: [u8; 8], text: &str, of_day: i64) -> Option<i64> {
        let midnight = match self.days.get(&date) {
            Some(known) => *known,
            None => {
                let time = Stamp::parse(text).filter(Stamp::is_canonical)?.time().as_nanos();
                let midnight = time.checked_sub(of_day).filter(|midnight| midnight % DAY == 0)?;
                self.days.insert(date, midnight);
                midnight
            }
        };
        self.last = Some((date, midnight));
        Some(midnight)
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
            mark_is_segment: true,
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
        let mut reader = NameReader::default();
        let mut taken = 0;
        for name in names() {
            let parsed = SegmentName::parse(&name).filter(|(segment, _)| segment.is_canonical());
            let is_covered = parsed.is_some_and(|(segment, _)| {
                position.of(&segment) == State::Read
                    && !position.segments.contains_key(&segment)
                    && position.begun != Some(segment.made())
            });
            let file = reader.read(&name, FileKind::File);
            assert_eq!(file.is_some_and(|file| covered.takes(file)), is_covered, "{name}");
            taken += usize::from(is_covered);
            assert_eq!(reader.read(&name, FileKind::Other), None, "{name}");
        }
        assert_eq!(taken, 9);
    }

    #[test]
    fn a_name_is_read_as_it_is_parsed() {
        let mut reader = NameReader::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut names = names();
        for _ in 0..2000 {
            let mut time = || Timestamp::from_nanos(random.i64(0..));
            let (lower, made) = (time(), time());
            names.push(SegmentName::new(lower, made).file_name(SegmentForm::Zstd));
            let stem = format!("events-{made}");
            // A digit that makes another time, or none.
            let at = random.usize(7..stem.len());
            let digit = random.u8(b'0'..=b'9') as char;
            let changed: String = stem
                .char_indices()
                .map(|(here, old)| if here == at { digit } else { old })
                .collect();
            names.push(format!("{changed}.jsonl"));
        }
        let mut read = 0;
        for name in names {
            let parsed = SegmentName::parse(&name).filter(|(segment, _)| segment.is_canonical());
            if let Some(file) = reader.read(&name, FileKind::File) {
                assert_eq!(Some((file.segment(), file.form)), parsed, "{name}");
                read += 1;
            }
        }
        assert!(read > 2500, "{read}");
    }

    #[test]
    fn all_forms_of_the_newest_segments_and_the_oldest_one_are_kept() {
        let position = position();
        for forms in 1..=SegmentForm::ALL.len() {
            let forms = SegmentForm::ALL.get(..forms).unwrap_or_default();
            let files = |made: i64| {
                let (lower, made) = (at(made), at(made));
                forms.iter().map(move |form| OwnFile {
                    made,
                    lower,
                    form: *form,
                })
            };
            let mut covered = Covered::new(at(100_000), &position);
            for number in 0..1000 {
                for file in files(1000 + number * 7 % 1000) {
                    assert!(covered.takes(file));
                }
            }
            let kept: Vec<OwnFile> = covered.kept().collect();
            assert!(kept.len() <= MOST_KEPT + 1);
            for made in 2000 - MOST_COVERED as i64..2000 {
                assert!(files(made).all(|file| kept.contains(&file)), "{made}");
            }
            assert!(files(1000).any(|file| kept.contains(&file)));
        }
    }
}
