//! Tests of cursors whose events are made to survive power loss.

use prodigy_storage_backend::{Cursor, ErrorKind};

use super::support::{NEVER, Place, id, line, lines, name, set_mode};

fn syncs(calls: &[String]) -> Vec<&str> {
    let mut syncs: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("sync "))
        .collect();
    syncs.sort_unstable();
    syncs
}

#[test]
fn each_unfinished_segment_that_the_cursor_names_is_synced_whoever_owns_it() {
    let place = Place::new();
    let (one, two) = (place.quick(place.options()), place.quick(place.options()));
    place.relaxed(&one, &["a"]).unwrap();
    place.relaxed(&two, &["b"]).unwrap();
    assert_eq!(place.files().len(), 2);
    let (reader, reel) = place.taped(place.options());
    let (items, cursor) = place.after(&reader, None);
    assert_eq!(items.len(), 2);
    reel.take();
    reader.persist(&place.job, &cursor, NEVER).unwrap();
    let calls = reel.take();
    let wanted: Vec<String> = place
        .files()
        .iter()
        .map(|file| format!("events/shop/j/{file}"))
        .collect();
    assert_eq!(syncs(&calls), wanted);
    for folder in ["events/shop/j", "events/shop", "events", ""] {
        let call = format!("sync-dir {folder}");
        assert!(calls.contains(&call), "{call:?} is missing in {calls:?}");
    }
    assert!(!calls.iter().any(|call| call.starts_with("write ")), "{calls:?}");
}

#[test]
fn what_was_not_read_or_was_synced_already_costs_no_sync() {
    let place = Place::new();
    let sealed = place.plant(&name(0, 0), lines([(id(0), "a"), (id(1), "b")]));
    set_mode(&sealed, 0o400);
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["strict"]).unwrap();
    let other = place.store();
    let (_, cursor) = place.after(&store, None);
    place.append(&other, &["not before the cursor"]).unwrap();
    reel.take();
    store.persist(&place.job, &cursor, NEVER).unwrap();
    assert_eq!(syncs(&reel.take()), [] as [&str; 0]);
}

#[test]
fn a_segment_whose_sync_fails_is_not_covered() {
    for own in [true, false] {
        let place = Place::new();
        let (store, reel) = place.taped(place.options());
        let owner = place.quick(place.options());
        place.relaxed(if own { &store } else { &owner }, &["a"]).unwrap();
        let (_, cursor) = place.after(&store, None);
        reel.on(|what, _| match what {
            "sync" => Err(std::io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        });
        for _ in 0..2 {
            let error = store.persist(&place.job, &cursor, NEVER).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            if own {
                // The kernel reports a failed write only once. A second sync would succeed, and prove nothing.
                reel.off();
            }
        }
    }
}

#[test]
fn a_segment_that_was_compressed_or_is_gone() {
    let place = Place::new();
    let bytes = line(id(0), "a");
    let path = place.plant(&name(0, 0), &bytes);
    let store = place.store();
    let (_, cursor) = place.after(&store, None);
    let packed = place.plant(&(name(0, 0) + ".zst"), zstd::encode_all(&bytes[..], 3).unwrap());
    std::fs::remove_file(path).unwrap();
    store.persist(&place.job, &cursor, NEVER).unwrap();
    std::fs::remove_file(packed).unwrap();
    let error = store.persist(&place.job, &cursor, NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorGap);
    let error = store
        .persist(&place.job, &Cursor::new("v1.nobody.7").unwrap(), NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
