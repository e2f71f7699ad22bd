use std::time::Duration;

use prodigy_storage_backend::{PutReport, QueueStep, Select};
use prodigy_storage_layout::Entry;

use super::support::{Faulty, NEVER, Place, id, item};

#[test]
fn two_handles_see_each_other_s_pushes() {
    let place = Place::new();
    let (one, two) = (place.store(), place.store());
    place.put(&one, &["a"]).unwrap();
    place.put(&two, &["b"]).unwrap();
    // The first handle reads the items that the second one added.
    assert_eq!(place.put(&one, &["b", "c"]).unwrap(), PutReport::new(1, 1, 0));
    // The second handle reads the item and the journal that the first one added.
    assert_eq!(place.put(&two, &["c", "d"]).unwrap(), PutReport::new(1, 1, 0));
    place.remove(&two, &[id("a")]).unwrap();
    assert_eq!(place.put(&one, &["a"]).unwrap(), PutReport::new(1, 0, 0));
    assert_eq!(place.ids(&one), ["b", "c", "d", "a"]);
    assert_eq!(
        place.array().len(),
        5,
        "the line of a removed item is still in the array"
    );
    place.compact(&two);
    assert_eq!(place.array().len(), 4);
}

#[test]
fn catching_up_reads_only_what_was_added() {
    let place = Place::new();
    let (one, faults) = Faulty::store(&place);
    let many: Vec<String> = (0..2_000).map(|n| format!("n{n:05}")).collect();
    place
        .put(&one, &many.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let two = place.store();
    let [len, blanks] = [place.bytes().len() as u64, 64 << 10];
    // The first push adds blanks to the file, and the second one overwrites some of them.
    for (name, most) in [("x", 3 * blanks), ("y", 10_000)] {
        place.put(&two, &[name]).unwrap();
        faults.work();
        place.put(&one, &[&format!("after {name}")]).unwrap();
        let read = faults.work()[0];
        assert!(read < most && most < len, "{name}: {read} of {len}");
        assert_eq!(place.put(&one, &[name]).unwrap().merged, 1);
    }
}

#[test]
fn a_torn_push_of_another_process_is_mended_by_a_handle_that_knows_the_queue() {
    let place = Place::new();
    let (one, two) = (place.store(), place.store());
    place.put(&one, &["a"]).unwrap();
    let short = place.bytes();
    place.put(&two, &["b"]).unwrap();
    let long = place.bytes();
    for cut in short.len() - 3..long.len() {
        let mut state = long[..cut].to_vec();
        state.extend_from_slice(short.get(cut..).unwrap_or_default());
        place.write(&short);
        place.remove(&one, &[id("z")]).unwrap();
        place.write(&state);
        let name = format!("n{cut}");
        place.put(&one, &[&name]).unwrap();
        let ids = place.ids(&one);
        assert_eq!(
            (ids[0].as_str(), ids.last().unwrap()),
            ("a", &name),
            "cut at {cut}"
        );
        assert_eq!(place.array().len(), ids.len(), "cut at {cut}");
    }
}

#[test]
fn threads_and_processes_lose_nothing_and_take_nothing_twice() {
    let place = Place::new();
    let stores = [place.store(), place.store()];
    let taken = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (number, store) in stores.iter().enumerate() {
            for thread in 0..2 {
                let (place, taken) = (&place, &taken);
                scope.spawn(move || {
                    for n in 0..12 {
                        let own = format!("{number}-{thread}-{n}");
                        place.put(store, &[&own, "shared"]).unwrap();
                        let found = store
                            .queue_take(
                                &place.job,
                                &Select::eligible(),
                                2,
                                Duration::from_secs(600),
                                None,
                                NEVER,
                            )
                            .unwrap();
                        let tokens: Vec<_> = found
                            .iter()
                            .map(|entry| entry.lease.clone().unwrap().token)
                            .collect();
                        let settled = place.ack(store, &tokens).unwrap();
                        assert!(settled.unknown.is_empty());
                        let ids = found.iter().map(|entry| entry.id.to_string());
                        // No item except `shared` is pushed while it is leased.
                        assert!(settled.kept.len() <= 1);
                        taken.lock().extend(ids.filter(|id| id != "shared"));
                    }
                });
            }
        }
        // Concurrent readers see only whole items.
        let place = &place;
        scope.spawn(move || {
            let store = place.store();
            for _ in 0..200 {
                for step in store.queue_scan(&place.job, &Select::any(), NEVER).unwrap() {
                    match step.unwrap() {
                        QueueStep::Entry(entry) => assert!(entry.verified),
                        QueueStep::Damage(damage) => panic!("{damage}"),
                        QueueStep::TooLarge(item) => panic!("{item}"),
                    }
                }
            }
        });
    });
    let mut all = taken.into_inner();
    all.extend(place.ids(&stores[0]).into_iter().filter(|id| id != "shared"));
    all.sort();
    let mut expected: Vec<String> = (0..2)
        .flat_map(|a| (0..2).flat_map(move |b| (0..12).map(move |n| format!("{a}-{b}-{n}"))))
        .collect();
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn a_reader_keeps_the_file_that_it_began_with() {
    let place = Place::new();
    let store = place.store();
    let many: Vec<String> = (0..3_000).map(|n| format!("n{n:05}")).collect();
    place
        .put(&store, &many.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let mut scan = store.queue_scan(&place.job, &Select::any(), NEVER).unwrap();
    scan.next().unwrap().unwrap();
    place.remove(&store, &[id("n02999")]).unwrap();
    store
        .queue_put(&place.job, &[item("later")], Default::default(), None, NEVER)
        .unwrap();
    assert_eq!(scan.count(), 2_999);
    assert_eq!(place.entries(&store).len(), 3_000);
}

#[test]
fn a_line_about_a_holder_leaves_nothing_of_a_longer_one() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let path = place
        .folder
        .path()
        .join(Entry::QueueLock(place.job.clone()).path());
    let own = std::fs::read_to_string(&path).unwrap();
    for before in [own.len() + 200, own.len(), 3, 0] {
        std::fs::write(&path, "x".repeat(before)).unwrap();
        place.put(&store, &[format!("b{before}").as_str()]).unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        let holder: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(holder["pid"], std::process::id());
        assert_eq!(lines.lines().count(), 1, "{before}");
    }
}
