//! Tests that acknowledged events are durable.

use std::sync::atomic::Ordering;

use prodigy_storage_backend::{AppendOptions, Deadline, Durability};

use super::support::{NEVER, Place, at, batch, id, ids, line, name, payloads};

/// Checks that the segment and its folders were synced after the last write; returns the missing syncs.
fn synced_after_write(calls: &[String], segment: &str) -> Vec<String> {
    let write = format!("write events/shop/j/{segment}");
    let last = calls.iter().rposition(|call| *call == write);
    calls[last.map_or(0, |at| at + 1)..]
        .iter()
        .filter(|call| call.starts_with("sync"))
        .cloned()
        .collect()
}

const FOLDERS: [&str; 4] = [
    "sync-dir events/shop/j",
    "sync-dir events/shop",
    "sync-dir events",
    "sync-dir ",
];

fn assert_all_synced(calls: &[String], segment: &str) {
    let syncs = synced_after_write(calls, segment);
    for wanted in FOLDERS {
        assert!(
            syncs.iter().any(|call| call == wanted),
            "no `{wanted}` in {syncs:?}"
        );
    }
    let file = syncs.iter().position(|call| call.ends_with(segment)).unwrap();
    let folder = syncs.iter().position(|call| call == FOLDERS[0]).unwrap();
    assert!(file < folder, "a name is no use without what it names: {syncs:?}");
    // The folders above the root were synced, perhaps when the format file was written.
    assert!(calls.iter().any(|call| call == "sync-above "), "{calls:?}");
}

#[test]
fn the_first_acknowledgement_comes_after_file_folder_and_every_parent() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["a"]).unwrap();
    assert_all_synced(&reel.take(), &place.files()[0]);
    place.append(&store, &["b"]).unwrap();
    let syncs: Vec<_> = synced_after_write(&reel.take(), &place.files()[0]);
    assert_eq!(
        syncs,
        [format!("sync events/shop/j/{}", place.files()[0])],
        "and the next one costs one sync"
    );
}

#[test]
fn folders_that_someone_else_made_are_synced_as_well() {
    let place = Place::new();
    std::fs::create_dir_all(place.log()).unwrap();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["a"]).unwrap();
    assert_all_synced(&reel.take(), &place.files()[0]);
}

#[test]
fn a_dead_creators_segment_is_synced_with_its_names_before_it_is_built_upon() {
    let place = Place::new();
    let dead = place.store();
    place.relaxed(&dead, &["a"]).unwrap();
    drop(dead);
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.files().len(), 1, "it was adopted");
    assert_all_synced(&reel.take(), &place.files()[0]);
}

#[test]
fn a_relaxed_append_syncs_nothing_and_a_flush_makes_up_for_it() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["first"]).unwrap();
    reel.take();
    place.relaxed(&store, &["a"]).unwrap();
    let calls = reel.take();
    assert!(calls.iter().all(|call| !call.starts_with("sync")), "{calls:?}");
    store.flush(NEVER).unwrap();
    assert!(reel.take().iter().any(|call| call.starts_with("sync events")));
}

#[test]
fn eight_threads_share_syncs() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["first"]).unwrap();
    // Makes each sync take as long as on a real disk.
    reel.on(|what, _| {
        if what == "sync" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    });
    let before = store.root.counters.syncs.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, place) = (&store, &place);
            scope.spawn(move || {
                for n in 0..40 {
                    place.append(store, &[&format!("{thread} {n}")]).unwrap();
                }
            });
        }
    });
    let syncs = store.root.counters.syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 320, "{syncs} syncs for 320 appends");
    let items = place.items(&store);
    assert_eq!(items.len(), 321);
    let all = ids(&items);
    assert!(all.is_sorted(), "ids ascend over all threads");
    for thread in 0..8 {
        let own: Vec<_> = payloads(&items)
            .into_iter()
            .filter_map(|payload| payload.strip_prefix(&format!("{thread} ")).map(str::to_owned))
            .collect();
        let wanted: Vec<_> = (0..40).map(|n| n.to_string()).collect();
        assert_eq!(own, wanted);
    }
}

#[test]
fn ids_and_names_ascend_when_the_clock_steps_back() {
    let place = Place::new();
    let store = place.quick(place.options());
    place.append(&store, &["a"]).unwrap();
    place.seal(&store);
    place.clock.turn(-3_600_000);
    place.append(&store, &["b"]).unwrap();
    drop(store);
    place.clock.turn(-3_600_000);
    let next = place.quick(place.options().max_file_size(1));
    for payload in ["c", "d", "e"] {
        place.append(&next, &[payload]).unwrap();
    }
    let items = place.items(&next);
    assert_eq!(payloads(&items), ["a", "b", "c", "d", "e"]);
    assert!(ids(&items).is_sorted_by(|a, b| a < b));
    // The last event of the second segment is ahead of the third writer's clock, so that writer creates new segments.
    assert_eq!(place.files().len(), 5);
    drop(next);
    // Another process appends to a log that has a segment created ahead of all clocks.
    place.plant(&name(60_000, 60_000), line(id(90_000), "ahead"));
    let last = place.quick(place.options());
    place.append(&last, &["f"]).unwrap();
    let newest = *ids(&place.items(&last)).last().unwrap();
    assert!(newest > id(90_000) && newest.time() < at(90_001));
}

#[test]
fn a_deadline_that_passes_before_the_turn_leaves_nothing() {
    let place = Place::new();
    let store = place.quick(place.options());
    place.append(&store, &["a"]).unwrap();
    let writer = store.existing(&place.job).unwrap();
    let held = writer.enter(NEVER).unwrap();
    let mut late = batch(&["b"]);
    let deadline = Deadline::after(std::time::Duration::from_millis(5));
    let options = AppendOptions::new(Durability::Strict);
    let error = store
        .append(&place.job, &mut late, &options, deadline)
        .unwrap_err();
    assert_eq!(error.kind(), prodigy_storage_backend::ErrorKind::Timeout);
    assert!(late.ids().is_empty(), "nothing was stored, so it gets new ids");
    drop(held);
    assert_eq!(place.payloads(&store), ["a"]);
}
