//! The text of a cursor: it is refused, or it is a position in the log.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use prodigy_storage_backend::record::RecordEncoder;
use prodigy_storage_backend::{Cursor, ErrorKind, EventId, ScanOptions};
use prodigy_storage_layout::{Entry, SegmentForm, SegmentName, Timestamp};

use crate::place::{Place, Step, job, scan, steps};

/// The time of the first event in the log.
const BEGAN: i64 = 1_795_559_667_852_327_461;

/// A log of three segments of four events each; one is sealed and one compressed.
static FILES: LazyLock<Vec<(PathBuf, Vec<u8>, u32)>> = LazyLock::new(|| {
    let mut encoder = RecordEncoder::new();
    let segment = |index: i64| {
        let time = Timestamp::from_nanos(BEGAN + index * 1_000_000_000);
        let mut bytes = Vec::new();
        for event in 0..4 {
            let id = EventId::floor(Timestamp::from_nanos(time.as_nanos() + 1_000_000 * (event + 1)));
            encoder.encode(
                &mut bytes,
                id,
                id.time(),
                format!(",\"event\":{event}").as_bytes(),
            );
            bytes.push(b'\n');
        }
        (SegmentName::new(time, time), bytes)
    };
    let forms = [
        (SegmentForm::Zstd, 0o400),
        (SegmentForm::Plain, 0o400),
        (SegmentForm::Plain, 0o600),
    ];
    let made = (0..).map(segment).zip(forms);
    made.map(|((name, bytes), (form, mode))| {
        let bytes = if form == SegmentForm::Zstd {
            zstd::encode_all(bytes.as_slice(), 3).unwrap()
        } else {
            bytes
        };
        (Entry::Segment(job(), name, form).path(), bytes, mode)
    })
    .collect()
});

/// Input: the first byte chooses between the text itself, and the fields of a cursor of the file backend.
pub fn cursor(bytes: &[u8]) {
    let Some((&choices, rest)) = bytes.split_first() else {
        return;
    };
    let text = if choices & 1 == 1 {
        format!("v1.file.{}", data_encoding::BASE64URL_NOPAD.encode(rest))
    } else {
        String::from_utf8_lossy(rest).into_owned()
    };
    let Ok(cursor) = Cursor::new(text.as_str()) else {
        return;
    };
    assert_eq!(cursor.to_string(), text);
    let place = Place::new(
        FILES
            .iter()
            .map(|(path, bytes, mode)| (path.clone(), bytes.as_slice(), *mode)),
    );
    let reader = place.reader();
    let known: BTreeSet<_> = steps(&reader).iter().filter_map(Step::id).collect();
    assert_eq!(known.len(), 12);
    match scan(&reader, &ScanOptions::after(cursor)) {
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::CursorGap),
                "{error}"
            );
        }
        Ok(given) => {
            let ids: Vec<_> = given.iter().filter_map(|(step, _)| step.id()).collect();
            assert!(ids.iter().all(|id| known.contains(id)));
            assert!(
                ids.is_sorted_by(|one, other| one < other),
                "in order, each once: {ids:?}"
            );
            if let Some((_, last)) = given.last() {
                let rest = scan(&reader, &ScanOptions::after(last.clone())).unwrap();
                assert!(
                    rest.iter().all(|(step, _)| step.id().is_none()),
                    "at the end nothing comes: {rest:?}"
                );
            }
        }
    }
}
