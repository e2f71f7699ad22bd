//! Tests of the compressed form of superseded checkpoints.

use prodigy_storage_backend::PageOptions;

use super::*;

fn compressing(place: &Place) -> Documents {
    place.store(|options| options.compression(true))
}

fn names(place: &Place) -> Vec<String> {
    let folder = place.path(&Document::Setup(job()));
    let folder = std::fs::read_dir(folder.parent().unwrap()).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn large(number: usize) -> String {
    format!("{{\"n\":{number},\"data\":\"{}\"}}", "abc".repeat(1000))
}

/// Adds three checkpoints of the map phase and one of another phase.
fn fill(place: &Place, store: &Documents) -> Vec<Document> {
    let plan = "plan".parse().unwrap();
    let phases = [Phase::Map, plan, Phase::Map, Phase::Map];
    let added = phases.into_iter().enumerate().map(|(number, phase)| {
        place.hand.0.fetch_add(1_000_000_000, Ordering::Relaxed);
        add(store, phase, &large(number), &PutOptions::default())
            .unwrap()
            .document
    });
    added.collect()
}

#[test]
fn a_superseded_checkpoint_is_compressed_and_read_as_before() {
    let place = Place::new();
    let store = compressing(&place);
    let added = fill(&place, &store);
    let names = names(&place);
    let packed = names.iter().filter(|name| name.ends_with(".json.zst")).count();
    assert_eq!((names.len(), packed), (4, 2), "{names:?}");
    for (number, document) in added.iter().enumerate() {
        for reader in [&store, &place.reader(), &place.writer()] {
            assert_eq!(body(reader, document), Some(large(number)));
            let got = reader.get(document, never()).unwrap().unwrap();
            assert!(got.is_verified());
            assert_eq!(reader.revision(document, never()).unwrap(), Some(got.revision()));
        }
    }
    let packed = place.root().join(added[0].packed_path());
    let small = std::fs::metadata(&packed).unwrap();
    assert_eq!(small.permissions().mode() & 0o777, FILE_MODE);
    let scope = DocumentScope::Checkpoints(job(), Phase::Map);
    let listed = store
        .list(&scope, &PageOptions::default(), never())
        .unwrap()
        .entries;
    let documents: Vec<_> = listed.iter().map(|entry| entry.document.clone()).collect();
    assert_eq!(documents, [added[0].clone(), added[2].clone(), added[3].clone()]);
    assert_eq!(listed[0].bytes, small.len());
    assert!(small.len() < listed[2].bytes / 4);
    let before = store
        .newest(&job(), Phase::Map, Some(&added[2]), never())
        .unwrap();
    assert_eq!(before.unwrap().document, added[0]);
    let plain = zstd::decode_all(std::fs::File::open(packed).unwrap()).unwrap();
    assert!(plain.ends_with(b"}\n") && plain.starts_with(b"{\"format\":1,"));
}

#[test]
fn without_the_setting_nothing_is_compressed() {
    let place = Place::new();
    fill(&place, &place.writer());
    assert!(names(&place).iter().all(|name| name.ends_with(".json")));
}

#[test]
fn a_compressed_checkpoint_is_deleted_and_replaced() {
    let place = Place::new();
    let store = compressing(&place);
    let added = fill(&place, &store);
    let revision = store.revision(&added[0], never()).unwrap().unwrap();
    let delete =
        |document: &Document, expected| store.delete(document, expected, Durability::Strict, None, never());
    assert_eq!(kind(delete(&added[0], Expected::Absent)), ErrorKind::Conflict);
    assert!(delete(&added[0], Expected::Revision(revision)).unwrap());
    assert!(!delete(&added[0], Expected::Any).unwrap());
    assert_eq!(body(&store, &added[0]), None);
    let stands = store.revision(&added[2], never()).unwrap().unwrap();
    assert_eq!(
        kind(put(&store, &added[2], "{}", Expected::Absent)),
        ErrorKind::Conflict
    );
    put(&store, &added[2], "{\"n\":9}", Expected::Revision(stands)).unwrap();
    assert_eq!(body(&store, &added[2]).as_deref(), Some("{\"n\":9}"));
    assert!(!names(&place).iter().any(|name| name.ends_with(".zst")));
    // After the newest checkpoint is deleted, the compressed one before it is the newest.
    let other = compressing(&place);
    add(&other, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert!(delete(&added[3], Expected::Any).unwrap());
}

#[test]
fn both_forms_that_a_dead_writer_left_are_one_checkpoint() {
    let place = Place::new();
    let store = compressing(&place);
    let added = fill(&place, &store);
    let plain = zstd::decode_all(std::fs::File::open(place.root().join(added[0].packed_path())).unwrap());
    std::fs::write(place.path(&added[0]), plain.unwrap()).unwrap();
    let scope = DocumentScope::Checkpoints(job(), Phase::Map);
    let listed = store
        .list(&scope, &PageOptions::default(), never())
        .unwrap()
        .entries;
    assert_eq!(listed.len(), 3);
    assert_eq!(body(&store, &added[0]), Some(large(0)));
    store
        .delete(&added[0], Expected::Any, Durability::Strict, None, never())
        .unwrap();
    assert_eq!(body(&store, &added[0]), None, "both are gone");
}

#[test]
fn every_changed_byte_of_a_compressed_checkpoint_is_damage() {
    let place = Place::new();
    let store = compressing(&place);
    let added = fill(&place, &store);
    let packed = place.root().join(added[0].packed_path());
    let whole = std::fs::read(&packed).unwrap();
    for at in 0..whole.len() {
        for bit in [1, 16, 128] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            std::fs::write(&packed, bytes).unwrap();
            match store.get(&added[0], never()) {
                // The changed bit is one that decoders ignore, in the header of the frame.
                Ok(found) => assert_eq!(found.unwrap().body(), large(0).as_bytes(), "byte {at}"),
                Err(error) => {
                    let expected = matches!(error.kind(), ErrorKind::Damaged | ErrorKind::TooLarge);
                    assert!(expected, "byte {at}: {error:#}");
                }
            }
        }
    }
    for len in 0..whole.len() {
        std::fs::write(&packed, &whole[..len]).unwrap();
        assert_eq!(
            kind(store.get(&added[0], never())),
            ErrorKind::Damaged,
            "{len} bytes"
        );
    }
}

#[test]
fn a_compressed_checkpoint_over_the_limit_is_too_large_and_read_in_bounded_memory() {
    let place = Place::new();
    let store = compressing(&place);
    let added = fill(&place, &store);
    // A hostile file: 256 MiB of blanks, compressed to a few kilobytes.
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 1 << 28), 3).unwrap();
    std::fs::write(place.root().join(added[0].packed_path()), bomb).unwrap();
    let limited = place.store(|options| options.max_document_size(2 << 20));
    assert_eq!(kind(limited.get(&added[0], never())), ErrorKind::TooLarge);
}
