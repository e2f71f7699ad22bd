//! Tests which segment a new writer continues, and what it repairs first.

use std::sync::Arc;

use super::support::{NEVER, Place, id, ids, line, mode, name, payloads, set_mode};
use crate::log::cursor::Position;

#[test]
fn two_writers_write_two_segments() {
    let place = Place::new();
    let (one, two) = (place.store(), place.store());
    for n in 0..3 {
        place.append(&one, &[&format!("one {n}")]).unwrap();
        place.append(&two, &[&format!("two {n}")]).unwrap();
    }
    assert_eq!(place.files().len(), 2);
    assert_eq!(place.items(&one).len(), 6);
}

#[test]
fn the_newest_segment_that_no_one_holds_is_gone_on_in() {
    let place = Place::new();
    place.plant(&name(0, 0), line(id(0), "a"));
    place.plant(&name(1, 1), line(id(1), "b"));
    let store = place.store();
    place.append(&store, &["c"]).unwrap();
    assert_eq!(place.files().len(), 2);
    let newest = std::fs::read(place.log().join(name(1, 1))).unwrap();
    assert_eq!(newest.iter().filter(|byte| **byte == b'\n').count(), 2);
    // The first store holds the newest segment, so this store continues the older one.
    let other = place.store();
    place.append(&other, &["d"]).unwrap();
    assert_eq!(place.files().len(), 2);
    let third = place.store();
    place.append(&third, &["e"]).unwrap();
    assert_eq!(place.files().len(), 3);
    assert_eq!(place.payloads(&third), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_sealed_segment_is_never_gone_on_in() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    set_mode(&path, 0o400);
    let before = std::fs::read(&path).unwrap();
    let store = place.store();
    place.append(&store, &["b"]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(place.files().len(), 2);
}

#[test]
fn a_segment_that_is_closed_and_not_sealed_stays_in_a_cursor_and_is_not_continued() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "first"));
    set_mode(&path, 0o500);
    let (_, cursor) = place.after(&place.store(), None);
    let named = Position::decode(&cursor).unwrap().segments;
    assert!(named.len() == 1 && !named.values().any(|reached| reached.done));
    // A power loss takes the mode, and the next writer continues the segment.
    set_mode(&path, 0o600);
    let store = place.store();
    place.append(&store, &["second"]).unwrap();
    let (items, _) = place.after(&place.store(), Some(cursor));
    assert_eq!(payloads(&items), ["second"]);
    drop(store);
    // The sealing process dies.
    set_mode(&path, 0o500);
    place.append(&place.store(), &["third"]).unwrap();
    assert_eq!(mode(&path), 0o500);
    assert_eq!(place.files().len(), 2);
    assert_eq!(place.payloads(&place.store()), ["first", "second", "third"]);
    let (_, cursor) = place.after(&place.store(), None);
    let named = Position::decode(&cursor).unwrap().segments;
    assert_eq!(named.len(), 2, "the closed segment, and the open one");
    assert_eq!(place.findings("events-", false), []);
}

#[test]
fn one_that_is_sealed_between_the_look_and_the_lock_is_left_alone() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let (store, reel) = place.taped(place.options());
    let sealed = path.clone();
    reel.on(move |what, at| {
        if what == "lock" && at.ends_with(sealed.file_name().unwrap()) {
            set_mode(&sealed, 0o400);
        }
        Ok(())
    });
    place.append(&store, &["b"]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), line(id(0), "a"));
    assert_eq!(place.files().len(), 2);
}

#[test]
fn one_that_is_unlinked_between_open_and_lock_is_not_written_to() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let (store, reel) = place.taped(place.options());
    let gone = path.clone();
    place.clock.turn(1);
    reel.on(move |what, at| {
        if what == "lock" && at.ends_with(gone.file_name().unwrap()) {
            let _ = std::fs::remove_file(&gone);
        }
        Ok(())
    });
    place.append(&store, &["b"]).unwrap();
    reel.off();
    assert_eq!(place.payloads(&store), ["b"]);
    assert_ne!(place.files(), [name(0, 0)]);
}

#[test]
fn one_that_is_another_file_by_the_time_of_the_lock_is_not_written_to() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let (store, reel) = place.taped(place.options());
    let swapped = path.clone();
    reel.on(move |what, at| {
        if what == "lock" && at.ends_with(swapped.file_name().unwrap()) {
            std::fs::remove_file(&swapped).unwrap();
            std::fs::write(&swapped, line(id(0), "another")).unwrap();
        }
        Ok(())
    });
    place.append(&store, &["b"]).unwrap();
    reel.off();
    assert_eq!(payloads(&place.items(&store)), ["another", "b"]);
}

#[test]
fn one_that_may_not_be_opened_is_passed_over() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let (store, reel) = place.taped(place.options());
    reel.on(move |what, at| {
        if what == "open" && at.ends_with(path.file_name().unwrap()) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    });
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.files().len(), 2);
}

#[test]
fn an_empty_segment_older_than_another_is_not_filled() {
    let place = Place::new();
    // The process that created the empty segment died before it noticed a newer one. A reader may already have read the
    // newer one.
    let newer = place.plant(&name(5, 5), line(id(5), "a"));
    set_mode(&newer, 0o400);
    let reader = place.store();
    let (_, end) = place.after(&reader, None);
    place.plant(&name(3, 3), b"");
    let writer = place.store();
    place.append(&writer, &["b"]).unwrap();
    assert_eq!(payloads(&place.after(&reader, Some(end)).0), ["b"]);
}

#[test]
fn a_last_record_without_its_line_end_is_kept() {
    let place = Place::new();
    let whole = line(id(0), "a");
    let path = place.plant(&name(0, 0), &whole[..whole.len() - 1]);
    let store = place.store();
    assert_eq!(place.payloads(&store), ["a"], "a reader counts it too");
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.payloads(&store), ["a", "b"]);
    assert!(std::fs::read(&path).unwrap().starts_with(&whole));
    assert_eq!(place.quarantined().len(), 0);
}

#[test]
fn a_torn_tail_is_quarantined_and_cut_wherever_it_is_torn() {
    let first = line(id(0), "a");
    let second = line(id(1), "torn");
    for cut in 1..second.len() - 1 {
        let place = Place::new();
        let mut bytes = first.clone();
        bytes.extend_from_slice(&second[..cut]);
        let path = place.plant(&name(0, 0), &bytes);
        let store = place.quick(place.options());
        assert_eq!(place.payloads(&store), ["a"], "cut at {cut}");
        place.append(&store, &["b"]).unwrap();
        let items = place.items(&store);
        assert_eq!(payloads(&items), ["a", "b"], "cut at {cut}");
        assert_eq!(items.len(), 2, "no damage stays behind");
        assert_eq!(place.quarantined(), [second[..cut].to_vec()]);
        assert!(std::fs::read(path).unwrap().starts_with(&first));
    }
}

#[test]
fn a_bad_line_before_a_line_end_is_no_tail() {
    let place = Place::new();
    let mut bytes = line(id(0), "a");
    bytes.extend_from_slice(b"{\"id\":\"torn\n");
    let path = place.plant(&name(0, 0), &bytes);
    let store = place.store();
    place.append(&store, &["b"]).unwrap();
    assert!(std::fs::read(path).unwrap().starts_with(&bytes));
    assert_eq!(place.quarantined().len(), 0);
    assert_eq!(place.items(&store).len(), 3);
}

#[test]
fn a_segment_past_its_size_is_sealed_and_the_next_begun() {
    let place = Place::new();
    let store = place.store();
    let small = place.with(place.options().max_file_size(300));
    for n in 0..10 {
        place.append(&small, &[&format!("{n}")]).unwrap();
    }
    let files = place.files();
    assert!(files.len() > 2, "{files:?}");
    let (active, sealed) = files.split_last().unwrap();
    for file in sealed {
        assert_eq!(mode(&place.log().join(file)), 0o400, "{file}");
    }
    assert!(mode(&place.log().join(active)) == 0o600 || mode(&place.log().join(active)) == 0o400);
    assert_eq!(place.items(&store).len(), 10);
}

#[test]
fn a_segment_removed_under_its_writer_is_no_place_to_acknowledge_from() {
    let place = Place::new();
    let store = place.store();
    place.append(&store, &["a"]).unwrap();
    std::fs::remove_file(place.only()).unwrap();
    let mut lost = super::support::batch(&["b"]);
    let error = store
        .append(
            &place.job,
            &mut lost,
            &prodigy_storage_backend::AppendOptions::default(),
            NEVER,
        )
        .unwrap_err();
    assert_eq!(error.kind(), prodigy_storage_backend::ErrorKind::Replaced);
    assert!(lost.ids().is_empty(), "nothing was stored");
    store
        .append(
            &place.job,
            &mut lost,
            &prodigy_storage_backend::AppendOptions::default(),
            NEVER,
        )
        .unwrap();
    assert_eq!(place.payloads(&store), ["b"]);
}

#[test]
fn a_folder_that_goes_between_the_write_and_its_acknowledgement_is_noticed() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["a"]).unwrap();
    let (log, away) = (place.log(), place.root().join("away"));
    reel.on(move |call, path| {
        if call == "sync" && path.extension().is_some_and(|extension| extension == "jsonl") {
            // The writer syncs its segment again when it stops using it.
            let _ = std::fs::rename(&log, &away);
        }
        Ok(())
    });
    let mut lost = super::support::batch(&["b"]);
    let options = prodigy_storage_backend::AppendOptions::default();
    let error = store.append(&place.job, &mut lost, &options, NEVER).unwrap_err();
    assert_eq!(error.kind(), prodigy_storage_backend::ErrorKind::OutcomeUnknown);
    assert_eq!(error.ids(), lost.ids());
    reel.off();
    store.append(&place.job, &mut lost, &options, NEVER).unwrap();
    assert_eq!(place.payloads(&store), ["b"]);
}

#[test]
#[cfg(feature = "compression")]
fn a_thread_that_syncs_a_segment_late_does_not_take_its_compression_for_a_removal() {
    let place = Place::new();
    let store = place.with(place.options().compression(true));
    place.append(&store, &["a"]).unwrap();
    let writer = store.existing(&place.job).unwrap();
    let late = {
        let state = writer.enter(NEVER).unwrap();
        let main = state.open.first().unwrap();
        (std::sync::Arc::clone(&main.file), main.path.clone())
    };
    place.seal(&store);
    store.flush(NEVER).unwrap();
    assert!(
        place.files().iter().all(|file| file.ends_with(".zst")),
        "{:?}",
        place.files()
    );
    assert!(writer.sync_files(vec![late]).is_ok());
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.payloads(&store), ["a", "b"]);
}

#[test]
fn threads_of_one_process_share_a_writer() {
    let place = Place::new();
    let store = place.quick(place.options());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (place, store) = (&place, Arc::clone(&store));
            scope.spawn(move || {
                for _ in 0..50 {
                    place.relaxed(&store, &["x"]).unwrap();
                }
            });
        }
    });
    assert_eq!(place.files().len(), 1);
    let all = ids(&place.items(&store));
    assert!(all.len() == 200 && all.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_writer_that_died_before_its_first_event_has_not_written_to_the_log() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let empty = place.plant(&name(1, 1), b"");
    let second = std::time::Duration::from_secs(1);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + 1_700_000_000 * second;
    for (path, at) in [(&path, long_ago), (&empty, long_ago + 60 * second)] {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(at).unwrap();
    }
    let store = place.store();
    let last = store.last_write(&place.job, NEVER).unwrap().unwrap();
    assert_eq!(last.as_nanos(), 1_700_000_000_000_000_000);
    assert_eq!(store.survey(&place.job, NEVER).unwrap().last_write, Some(last));
    // Without an event, the creation of the segment is all that is known.
    std::fs::remove_file(path).unwrap();
    let last = store.last_write(&place.job, NEVER).unwrap().unwrap();
    assert_eq!(last.as_nanos(), 1_700_000_060_000_000_000);
    assert_eq!(store.survey(&place.job, NEVER).unwrap().last_write, Some(last));
}
