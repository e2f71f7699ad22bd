//! Positions in a log, as the text of a [`Cursor`].

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};
use serde::{Deserialize, Serialize};

use super::listing::Listing;
use super::removed_mark::RemovedMark;

/// The first bytes of a cursor of the file backend; the rest is JSON in base64url.
const PREFIX: &str = "v1.file.";
const READ: &str = "read cursor";

/// The part of a segment that was read, up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The offset after the last record that was read, in the uncompressed data.
    pub(crate) offset: u64,
    /// The id of the last record that was read; `None` if none was.
    pub(crate) last: Option<EventId>,
    /// True if the segment was sealed and read to its end.
    pub(crate) done: bool,
}

impl Reached {
    /// True if this segment, which was removed since, had been read to its end. The ids in a segment ascend, and the
    /// mark states the newest removed id, and the last ids of some removed segments.
    pub(crate) fn is_end_of(self, name: &SegmentName, removed: RemovedMark) -> bool {
        self.done || self.last >= Some(removed.newest) || removed.identifies(name.made(), self.last)
    }
}

/// A decoded cursor. Each segment of ours that was created up to `mark` is read to its end, and each later one is
/// unread, except the ones in `segments`, for which the read part is stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) mark: Option<Timestamp>,
    /// True if a segment was created at `mark`, as always in a cursor of this version.
    pub(crate) mark_is_segment: bool,
    pub(crate) segments: BTreeMap<SegmentName, Reached>,
    /// The newest id that was read.
    pub(crate) newest: Option<EventId>,
    /// The creation time of the log's first segment, if an event was read. It differs if the log was deleted and begun
    /// again.
    pub(crate) begun: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    mark: Option<i64>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    mark_of_segment: Option<i64>,
    #[serde(rename = "s", default, borrow)]
    segments: Vec<(std::borrow::Cow<'a, str>, u64, Option<EventId>, bool)>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    newest: Option<EventId>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    begun: Option<i64>,
}

impl Position {
    /// The cursor, whose text is made when it is first asked for: a stream has a cursor for each event.
    pub(crate) fn into_cursor(self) -> Cursor {
        Cursor::from_backend(move || self.encode())
    }

    fn encode(&self) -> String {
        let mark = self.mark.map(Timestamp::as_nanos);
        let text = Text {
            mark: mark.filter(|_| !self.mark_is_segment),
            mark_of_segment: mark.filter(|_| self.mark_is_segment),
            segments: self
                .segments
                .iter()
                .map(|(name, reached)| {
                    // A twin (a compressed file beside a plain one with other events) is identified by its whole file
                    // name.
                    let text = match name.twin_form() {
                        Some(form) => name.file_name(form).into(),
                        None => name.stem().into(),
                    };
                    (text, reached.offset, reached.last, reached.done)
                })
                .collect(),
            newest: self.newest,
            begun: self.begun.map(Timestamp::as_nanos),
        };
        // Encoding can't fail: numbers, ids and segment names are always valid JSON.
        let json = serde_json::to_vec(&text).unwrap_or_default();
        let mut encoded = String::with_capacity(PREFIX.len() + json.len() * 4 / 3 + 4);
        encoded.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&json, &mut encoded);
        encoded
    }

    /// Decodes the text of a cursor.
    pub(crate) fn decode(cursor: &Cursor) -> Result<Self> {
        let text = cursor.as_str();
        cursor.refuse_gap(READ, text)?;
        let refuse = |why: &'static str| {
            let shown: String = text.chars().take(40).collect();
            StorageError::new(ErrorKind::InvalidInput, READ, shown, why)
                .with_hint("a cursor is read by the backend that made it, whole and unchanged")
        };
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(refuse(if text.starts_with('v') {
                "it is of another backend or of a newer version"
            } else {
                "it is not a cursor"
            }));
        };
        let json = BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|_| refuse("it is cut or changed"))?;
        let text: Text<'_> = serde_json::from_slice(&json).map_err(|_| refuse("it is cut or changed"))?;
        let mut segments = BTreeMap::new();
        for (stem, offset, last, done) in text.segments {
            let twin = || {
                let (name, form) = SegmentName::parse(&stem)?;
                (form != SegmentForm::Plain).then(|| name.twin(form))
            };
            let name = SegmentName::from_stem(&stem)
                .or_else(twin)
                .ok_or_else(|| refuse("it names a file that is not a segment"))?;
            segments.insert(name, Reached { offset, last, done });
        }
        Ok(Self {
            mark: text.mark_of_segment.or(text.mark).map(Timestamp::from_nanos),
            mark_is_segment: text.mark_of_segment.is_some(),
            segments,
            newest: text.newest,
            begun: text.begun.map(Timestamp::from_nanos),
        })
    }

    /// The read part of an existing segment, according to this position.
    pub(crate) fn of(&self, name: &SegmentName) -> State {
        // A cursor from before a twin was found states a position for its base only. The twin continues after the last id
        // that was read there, also if it was made before the mark.
        let of_base = || name.twin_form().and_then(|_| self.segments.get(&name.base()));
        match self.segments.get(name).or_else(of_base) {
            Some(reached) if reached.done => State::Read,
            Some(reached) => State::Partly(*reached),
            None if name.is_canonical() && self.mark.is_some_and(|mark| name.made() <= mark) => State::Read,
            None => State::Unread,
        }
    }

    /// True if the segment that was created at the high-water mark is gone, and was not removed with the oldest ones.
    ///
    /// A new segment is created after all that exist. So once the newest ones are gone, a new one may be below the mark,
    /// which would hide it.
    pub(crate) fn lost_its_mark(&self, listing: &Listing) -> bool {
        let mark = self.mark.filter(|_| self.mark_is_segment);
        let is_removed = |mark| listing.removed().is_some_and(|removed| mark <= removed.up_to);
        mark.is_some_and(|mark| !listing.has_made(mark) && !is_removed(mark))
    }

    /// True if the removed segments may have held unread events.
    pub(crate) fn misses(&self, removed: RemovedMark) -> bool {
        let is_unread = |(name, reached): (&SegmentName, &Reached)| {
            removed.covers(name) && !reached.is_end_of(name, removed)
        };
        self.mark.is_none_or(|mark| mark < removed.up_to) || self.segments.iter().any(is_unread)
    }

    /// Removes twins that no longer exist: a repair moved their events to the base segment, or the two were equal. The
    /// base then continues after the newest id that was read.
    pub(crate) fn fold_twins(&mut self, is_there: impl Fn(&SegmentName) -> bool) {
        let gone: Vec<SegmentName> = self
            .segments
            .keys()
            .filter(|name| name.twin_form().is_some() && !is_there(name) && is_there(&name.base()))
            .cloned()
            .collect();
        for twin in gone {
            let base = twin.base();
            let is_read = self.segments.remove(&twin).is_some_and(|reached| reached.done);
            if !(is_read && self.of(&base) == State::Read) {
                let reached = Reached {
                    offset: self.segments.get(&base).map_or(0, |reached| reached.offset),
                    last: self.newest,
                    done: false,
                };
                self.segments.insert(base, reached);
            }
        }
    }
}

/// The part of a segment that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unread,
    Partly(Reached),
    Read,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        let early = SegmentName::new(Timestamp::from_nanos(5), Timestamp::from_nanos(5));
        let late = SegmentName::new(Timestamp::from_nanos(2), Timestamp::from_nanos(9));
        let id = EventId::floor(Timestamp::from_nanos(7));
        Position {
            mark: Some(Timestamp::from_nanos(6)),
            mark_is_segment: false,
            segments: [
                (
                    early,
                    Reached {
                        offset: 100,
                        last: Some(id),
                        done: false,
                    },
                ),
                (
                    late,
                    Reached {
                        offset: 7,
                        last: None,
                        done: true,
                    },
                ),
            ]
            .into(),
            newest: Some(id),
            begun: Some(Timestamp::from_nanos(1)),
        }
    }

    #[test]
    fn a_cursor_reads_back() {
        for mark_is_segment in [false, true] {
            let position = Position {
                mark_is_segment,
                ..position()
            };
            assert_eq!(
                Position::decode(&position.clone().into_cursor()).unwrap(),
                position
            );
        }
    }

    #[test]
    fn what_is_no_cursor_of_ours_is_refused() {
        for text in [
            "v1.file.!!",
            "v1.file.",
            "v1.memory.5",
            "v2.file.AAAA",
            "x",
            "v1.file.e30x",
        ] {
            let error = Position::decode(&Cursor::new(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn the_mark_covers_what_was_made_before_whatever_its_ids() {
        let position = position();
        let name = |lower, made| SegmentName::new(Timestamp::from_nanos(lower), Timestamp::from_nanos(made));
        assert_eq!(position.of(&name(4, 4)), State::Read);
        assert_eq!(
            position.of(&name(1, 8)),
            State::Unread,
            "late ids in a segment made after the mark"
        );
        assert_eq!(position.of(&name(2, 9)), State::Read);
        assert!(matches!(
            position.of(&name(5, 5)),
            State::Partly(Reached { offset: 100, .. })
        ));
    }
}
