//! Tests of the newest checkpoint of a series, on a real file system: each call sees the changes of other programs.

use std::fs;

use proptest::prelude::*;

use prodigy_storage_layout::checkpoints_folder;

use super::*;

fn folder(place: &Place) -> PathBuf {
    place.root().join(checkpoints_folder(&job()))
}

fn map(millis: i64) -> Document {
    Document::Map(job(), Stamp::from(Timestamp::from_millis(millis)))
}

fn newest(store: &Documents) -> Option<Document> {
    let found = store.newest(&job(), Phase::Map, None, never()).unwrap();
    found.map(|entry| entry.document)
}

/// Writes a document as another program does: to a temporary file, which it then renames.
fn drop_in(place: &Place, document: &Document) {
    let made = place.root().join("made-elsewhere");
    fs::write(&made, "{}").unwrap();
    fs::rename(made, place.path(document)).unwrap();
}

#[test]
fn every_change_of_another_program_is_seen_by_the_next_call() {
    let place = Place::new();
    fs::create_dir_all(folder(&place)).unwrap();
    let store = place.reader();
    assert_eq!(newest(&store), None);
    for n in 1..300 {
        drop_in(&place, &map(n));
        assert_eq!(newest(&store), Some(map(n)));
        match n % 3 {
            0 => {
                fs::remove_file(place.path(&map(n))).unwrap();
                assert_eq!(newest(&store), Some(map(n - 1)));
            }
            1 => {
                // Renames the checkpoint to a newer name, replaces the file there, and renames it back.
                let moved = map(1_000 + n);
                fs::rename(place.path(&map(n)), place.path(&moved)).unwrap();
                assert_eq!(newest(&store), Some(moved.clone()));
                drop_in(&place, &moved);
                assert_eq!(newest(&store), Some(moved.clone()));
                fs::rename(place.path(&moved), place.path(&map(n))).unwrap();
                assert_eq!(newest(&store), Some(map(n)));
            }
            _ => {}
        }
    }
}

#[test]
fn a_changed_file_is_returned_as_it_is_now() {
    let place = Place::new();
    fs::create_dir_all(folder(&place)).unwrap();
    let store = place.reader();
    drop_in(&place, &map(1));
    let look = || store.newest(&job(), Phase::Map, None, never()).unwrap().unwrap();
    assert_eq!(look().bytes, 2);
    fs::write(place.path(&map(1)), "{\"n\":1}").unwrap();
    let found = look();
    assert_eq!(found.bytes, 7);
    let listed = store
        .list(
            &DocumentScope::Checkpoints(job(), Phase::Map),
            &Default::default(),
            never(),
        )
        .unwrap()
        .entries;
    assert_eq!(listed, [found]);
}

#[test]
fn a_writer_sees_its_own_additions_and_deletions() {
    let place = Place::new();
    let store = place.writer();
    let mut made = Vec::new();
    for n in 0..40 {
        made.push(
            add(&store, Phase::Map, "{}", &PutOptions::default())
                .unwrap()
                .document,
        );
        assert_eq!(newest(&store).as_ref(), made.last());
        if n % 4 == 3 {
            let last = made.pop().unwrap();
            assert!(
                store
                    .delete(&last, Expected::Any, Durability::Relaxed, None, never())
                    .unwrap()
            );
            assert_eq!(newest(&store).as_ref(), made.last());
        }
    }
    let mut before = None;
    for wanted in made.iter().rev() {
        let found = store.newest(&job(), Phase::Map, before, never()).unwrap();
        assert_eq!(found.map(|entry| entry.document).as_ref(), Some(wanted));
        before = Some(wanted);
    }
    let found = store.newest(&job(), Phase::Map, before, never()).unwrap();
    assert_eq!(found, None);
}

#[test]
fn a_long_row_of_damaged_ones_is_passed_over_and_put_aside() {
    let place = Place::new();
    let store = place.writer();
    let first = add(&store, Phase::Map, r#"{"fencing":5}"#, &fenced(5)).unwrap();
    for _ in 0..9 {
        let next = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
        fs::write(place.path(&next.document), "damaged").unwrap();
    }
    assert_eq!(kind(add(&store, Phase::Map, "{}", &fenced(4))), ErrorKind::Fenced);
    let expected = PutOptions::default().expect(Expected::Revision(first.revision));
    let next = add(&store, Phase::Map, "{}", &expected).unwrap();
    assert_eq!(place.quarantined().len(), 9);
    assert_eq!(newest(&store), Some(next.document));
}

#[test]
fn what_takes_the_place_of_the_folder_is_told() {
    let place = Place::new();
    let store = place.reader();
    assert_eq!(newest(&store), None);
    let folder = folder(&place);
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    assert_eq!(newest(&store), None);
    symlink("/", &folder).unwrap();
    let refused = store.newest(&job(), Phase::Map, None, never());
    assert_eq!(
        kind(refused),
        kind(store.list(&DocumentScope::Job(job()), &Default::default(), never()))
    );
}

/// Texts for names of checkpoints: stamps close together, of this store and of other programs, and texts that are not
/// stamps.
fn texts() -> impl Strategy<Value = String> {
    let time = (0..40i64).prop_map(|n| Timestamp::from_nanos(1_763_192_166_000_000_000 + n * 250_000_000));
    prop_oneof![
        6 => time.clone().prop_map(|time| time.to_string()),
        1 => time.clone().prop_map(|time| time.to_rfc3339()),
        1 => time.prop_map(|time| time.as_nanos().to_string()),
        1 => Just("20251115_073606".to_owned()),
        1 => "2025111[5-9]T0736[0-9]{2}\\.[0-9]{9}Z",
        1 => "20251[0-9]{3}T[0-9]{6}\\.[0-9]{9}Z",
        1 => "[0-9TZ.]{1,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_is_the_last_of_a_sorted_list(
        texts in prop::collection::hash_set(texts(), 0..40),
        bound in proptest::option::of(texts()),
    ) {
        let place = Place::new();
        fs::create_dir_all(folder(&place)).unwrap();
        for text in &texts {
            fs::write(folder(&place).join(format!("map-checkpoint-{text}.json")), "{}").unwrap();
        }
        let bound = bound.and_then(|text| Stamp::parse(&text));
        let wanted = texts
            .iter()
            .filter_map(|text| Stamp::parse(text))
            .filter(|stamp| bound.as_ref().is_none_or(|bound| stamp < bound))
            .max();
        let before = bound.map(|stamp| Document::Map(job(), stamp));
        let found = place.reader().newest(&job(), Phase::Map, before.as_ref(), never()).unwrap();
        let found = found.and_then(|entry| entry.document.stamp().cloned());
        prop_assert_eq!(found, wanted);
    }
}
