//! A compressed segment: reading it gives the same as the plain segment, and reading any content ends.

use std::io::Write;

use prodigy_storage_layout::{Entry, SegmentForm, SegmentName};

use crate::oracle;
use crate::place::{Place, Step, job, steps};
use crate::shape::{parts, resealed};

const NAME: &str = "events-20261124T223427.852327461Z.jsonl";

/// Input: a byte of choices, then the file itself, or data that is compressed in parts.
pub fn compressed(bytes: &[u8]) {
    let Some((&choices, rest)) = bytes.split_first() else {
        return;
    };
    let form = if choices & 1 == 1 {
        SegmentForm::Gzip
    } else {
        SegmentForm::Zstd
    };
    if choices & 2 == 0 {
        let given = read(form, rest);
        sealed_or_not(&given);
        return;
    }
    let lines = resealed(&parts(rest).concat());
    let mut packed: Vec<u8> = Vec::new();
    let mut left = lines.as_slice();
    for part in parts(rest) {
        let (frame, more) = left.split_at(part.len());
        left = more;
        packed.extend(compress(form, frame));
        if choices & 4 == 4 && form == SegmentForm::Zstd {
            // A skippable frame, which readers ignore.
            packed.extend_from_slice(b"\x5f\x2a\x4d\x18\x03\0\0\0abc");
        }
    }
    if choices & 8 == 0 {
        let (plain, packed) = (read(SegmentForm::Plain, &lines), read(form, &packed));
        assert_eq!(
            without_place(plain),
            without_place(packed),
            "both forms say the same"
        );
        return;
    }
    // The last byte of the input replaces a byte of the file.
    let at = usize::from(choices >> 4) * packed.len() / 16;
    if let (Some(byte), Some(&value)) = (packed.get_mut(at), rest.last()) {
        *byte = value;
    }
    let given = read(form, &packed);
    sealed_or_not(&given);
    for step in given.iter().filter(|step| step.is_verified()) {
        let Step::Record { line, .. } = step else { continue };
        let within = lines.windows(line.len()).any(|window| window == line.as_bytes());
        assert!(within, "what is verified was written: {line:?}");
    }
}

fn read(form: SegmentForm, bytes: &[u8]) -> Vec<Step> {
    let (name, _) = SegmentName::parse(NAME).unwrap();
    let path = Entry::Segment(job(), name, form).path();
    let place = Place::new([(path, bytes, 0o400)]);
    let hash = place.hash();
    let given = steps(&place.reader());
    assert_eq!(hash, place.hash(), "reading changes nothing");
    given
}

fn sealed_or_not(given: &[Step]) {
    for step in given {
        if let Step::Record { line, verified, .. } = step {
            assert_eq!(oracle::is_sealed(line.as_bytes()), *verified);
        }
    }
}

fn without_place(steps: Vec<Step>) -> Vec<Step> {
    let bare = |step| match step {
        Step::Damage(mut damage) => {
            damage.place.clear();
            Step::Damage(damage)
        }
        record @ Step::Record { .. } => record,
    };
    steps.into_iter().map(bare).collect()
}

fn compress(form: SegmentForm, bytes: &[u8]) -> Vec<u8> {
    if form == SegmentForm::Zstd {
        return zstd::encode_all(bytes, 1).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
