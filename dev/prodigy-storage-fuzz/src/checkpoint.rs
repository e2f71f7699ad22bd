//! The file of a document with arbitrary bytes: reading it, and replacing it.

use prodigy_storage_backend::{Body, DocumentStore, ErrorKind, Expected, PutOptions};
use prodigy_storage_layout::{Document, DocumentScope, Entry, JobAddress, Phase, Timestamp};
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::place::{NEVER, Place, job};

/// Input: a byte of choices, then the file, or a body that is put and then modified.
pub fn checkpoint(bytes: &[u8]) {
    let Some((&choices, rest)) = bytes.split_first() else {
        return;
    };
    match choices & 3 {
        0 => put_and_changed(rest),
        1 => put(rest),
        _ => file(choices, rest),
    }
}

/// A put body is returned byte for byte, and both constructors accept it.
fn put(bytes: &[u8]) {
    let raw = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let mut buffer = Vec::new();
    let written = raw.and_then(|raw| Body::write(&mut buffer, &raw).ok());
    let parsed = Body::parse(bytes).ok();
    // A number that no type can hold is readable in stored documents, and refused in new ones.
    let unloadable = serde_json::from_slice::<Value>(bytes)
        .is_err_and(|error| error.to_string().starts_with("number out of range"));
    if unloadable {
        assert_eq!(written.map(Body::as_bytes), None, "written");
    } else {
        assert_eq!(
            parsed.map(Body::as_bytes),
            written.map(Body::as_bytes),
            "parsed and written"
        );
    }
    let Some(body) = parsed else {
        return;
    };
    assert_eq!(body.as_bytes(), bytes.trim_ascii(), "the body's own bytes");
    assert!(serde_json::from_slice::<IgnoredAny>(body.as_bytes()).is_ok());
    let place = Place::new([]);
    let backend = place.open(place.options());
    let document = Document::Setup(place.job.clone());
    let revision = backend
        .put(&document, body, &PutOptions::default(), NEVER)
        .unwrap();
    let got = place.reader().get(&document, NEVER).unwrap().unwrap();
    assert_eq!(got.body(), body.as_bytes());
    assert!(got.is_verified() && got.revision() == revision);
    let whole = place.read(&Entry::Document(document).path()).unwrap();
    assert!(
        serde_json::from_slice::<IgnoredAny>(&whole).is_ok(),
        "the file is JSON"
    );
}

/// Input: two bytes for a position and a value, then the body. The modification is detected.
fn put_and_changed(bytes: &[u8]) {
    let Some((&[high, low, value], body)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let Ok(body) = Body::parse(body) else {
        return;
    };
    let place = Place::new([]);
    let document = Document::Setup(place.job.clone());
    place
        .open(place.options())
        .put(&document, body, &PutOptions::default(), NEVER)
        .unwrap();
    let path = document.path();
    let mut changed = place.read(&path).unwrap().to_vec();
    let at = usize::from(u16::from_be_bytes([high, low])) % changed.len();
    if changed[at] == value {
        return;
    }
    changed[at] = value;
    let error = Place::new([(path, changed.as_slice(), 0o600)])
        .reader()
        .get(&document, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

fn file(choices: u8, bytes: &[u8]) {
    let job = job();
    let series = choices & 4 == 4;
    let phase = if series { Phase::Map } else { Phase::Setup };
    let stamp = Timestamp::from_nanos(1_790_000_000_000_000_000).into();
    let document = if series {
        Document::Map(job.clone(), stamp)
    } else {
        Document::Setup(job.clone())
    };
    let path = document.path();
    let place = Place::new([(path, bytes, 0o600)]);
    let hash = place.hash();
    let reader = place.reader();
    let got = reader.get(&document, NEVER);
    let revision = reader.revision(&document, NEVER);
    assert_eq!(hash, place.hash(), "reading changes nothing");
    match &got {
        Ok(found) => {
            let found = found.as_ref().unwrap();
            assert_eq!(revision.unwrap(), Some(found.revision()));
            if !found.is_verified() {
                assert!(
                    serde_json::from_slice::<IgnoredAny>(found.body()).is_ok(),
                    "another program's is an object"
                );
                assert!(found.body().starts_with(b"{"));
            }
        }
        Err(error) => {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Damaged | ErrorKind::Foreign | ErrorKind::NewerFormat
                ),
                "{error}"
            );
        }
    }
    let listed = reader
        .list(
            &DocumentScope::Checkpoints(job.clone(), phase),
            &Default::default(),
            NEVER,
        )
        .unwrap()
        .entries;
    assert!(listed.iter().any(|entry| entry.document == document));
    writing(
        &place,
        &job,
        &document,
        got.ok().flatten().map(|found| found.revision()),
    );
}

/// A writer replaces the existing file, or refuses and leaves it unchanged. A file that the writer moves out of the way
/// is kept in quarantine.
fn writing(
    place: &Place,
    job: &JobAddress,
    document: &Document,
    revision: Option<prodigy_storage_backend::Revision>,
) {
    let backend = place.open(place.options());
    let before = place.read(&document.path()).unwrap();
    let expected = revision.map_or(Expected::Any, Expected::Revision);
    let options = PutOptions::default().expect(expected);
    let body = Body::parse(b"{\"phase\":\"map\"}").unwrap();
    let done = match document {
        Document::Map(..) => backend
            .add(job, Phase::Map, body, &options, NEVER)
            .map(|added| added.document),
        _ => backend
            .put(document, body, &options, NEVER)
            .map(|_| document.clone()),
    };
    match done {
        Ok(now) => {
            let got = place.reader().get(&now, NEVER).unwrap().unwrap();
            assert!(got.is_verified() && got.body() == body.as_bytes());
            let kept = now != *document && place.read(&document.path()) == Some(before.clone());
            let moved = place.quarantined().contains(&before);
            assert!(
                kept || moved || revision.is_some() || now == *document,
                "damage is kept somewhere"
            );
        }
        Err(error) => {
            let there = place.read(&document.path());
            assert_eq!(there, Some(before), "{error}");
        }
    }
}
