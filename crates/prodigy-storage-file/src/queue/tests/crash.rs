use prodigy_storage_backend::QueueStep;

use super::support::{NEVER, Place, id, value};

/// Pushes `ids` into a queue with the items `first`. Returns the file before and after the push, and the journal.
fn push(first: &[&str], ids: &[&str]) -> (Vec<u8>, Vec<u8>, Option<Vec<u8>>) {
    let place = Place::new();
    let store = place.store();
    place.put(&store, first).unwrap();
    if first == ["gone"] {
        place.remove(&store, &[id("gone")]).unwrap();
        place.compact(&store);
    }
    let before = place.bytes();
    place.put(&store, ids).unwrap();
    (before, place.bytes(), std::fs::read(place.journal_path()).ok())
}

fn check_cuts(first: &[&str], kept: &[&str], pushed: &[&str]) {
    let (before, after, journal) = push(first, pushed);
    let at = before.len() - 3;
    assert_eq!(before[..at], after[..at], "a push does not change stored bytes");
    for cut in at..=after.len() {
        // The state of the file if the push was interrupted at this position.
        let mut state = after[..cut].to_vec();
        state.extend_from_slice(before.get(cut..).unwrap_or_default());
        let place = Place::holding(&state);
        if let Some(journal) = &journal {
            std::fs::write(place.journal_path(), journal).unwrap();
        }
        let store = place.store();
        let seen = place.ids(&store);
        assert_eq!(seen[..kept.len()], *kept, "cut at {cut}");
        assert!(seen.len() <= kept.len() + pushed.len());
        assert_eq!(place.bytes(), state, "readers change nothing");

        place.put(&store, &["next"]).unwrap();
        let then = place.ids(&store);
        assert_eq!(
            then[..seen.len()],
            seen[..],
            "cut at {cut}: the items read before are still first"
        );
        assert_eq!(then[seen.len()..], ["next"], "cut at {cut}");
        assert_eq!(place.array().len(), then.len(), "cut at {cut}");
        assert_eq!(
            store
                .queue_get(&place.job, &id("next"), NEVER)
                .unwrap()
                .unwrap()
                .id
                .as_str(),
            "next"
        );
        // The bytes that were cut off are in the quarantine.
        for bytes in place.quarantined() {
            assert!(
                state.trim_ascii_end().ends_with(&bytes) && bytes.starts_with(b"{"),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn a_push_that_stops_anywhere_costs_nothing_that_was_stored() {
    check_cuts(&["a", "b"], &["a", "b"], &["c", "d"]);
}

#[test]
fn a_push_into_an_emptied_queue_may_stop_anywhere() {
    check_cuts(&["gone"], &[], &["c"]);
}

#[test]
fn a_file_cut_anywhere_keeps_its_whole_items() {
    let (_, whole, _) = push(&["a", "b"], &["c"]);
    let ends: Vec<usize> = memchr::memmem::find_iter(&whole, b"\"}")
        .map(|at| at + 2)
        .collect();
    for cut in 0..whole.len() {
        let place = Place::holding(&whole[..cut]);
        let store = place.store();
        let steps = place.steps(&store);
        let seen = steps
            .iter()
            .filter(|step| matches!(step, QueueStep::Entry(_)))
            .count();
        // The first push writes the file as a whole. So a file that ends within its first item was damaged, and this is
        // reported.
        assert_eq!(steps.len() - seen, usize::from(seen == 0), "cut at {cut}");
        // The items whose line is whole in the truncated file. The line's end is searched from the back, since nested
        // objects end in the same bytes.
        let least = ["a", "b", "c"].iter().filter(|name| {
            let start = memchr::memmem::find(&whole, format!("{{\"item_id\":\"{name}").as_bytes()).unwrap();
            let line = memchr::memchr(b'\n', &whole[start..]).unwrap() + start;
            let end = ends.iter().rev().find(|&&end| end <= line).unwrap();
            cut >= *end
        });
        assert_eq!(seen, least.count(), "cut at {cut}");
        place.put(&store, &["next"]).unwrap();
        assert_eq!(place.ids(&store).last().unwrap(), "next");
        assert_eq!(place.array().len(), seen + 1, "cut at {cut}");
    }
}

#[test]
fn a_settling_writer_mends_too() {
    let (_, whole, _) = push(&["a"], &["b"]);
    let torn = [
        &whole[..whole.len() - 3],
        b",\n{\"item_id\":\"c\",\"item".as_slice(),
    ]
    .concat();
    let place = Place::holding(torn);
    let store = place.store();
    let settled = place.remove(&store, &[id("c")]).unwrap();
    assert_eq!(settled.unknown, [id("c")]);
    assert_eq!(place.array().len(), 2);
    assert_eq!(place.quarantined(), [b"{\"item_id\":\"c\",\"item".to_vec()]);
    assert_eq!(place.bytes(), whole);
}

#[test]
fn what_a_dead_rewriter_left_is_swept() {
    let place = Place::new();
    place.put(&place.store(), &["a"]).unwrap();
    let left = place.path().with_file_name(".tmp-0123");
    std::fs::write(&left, "[\n{\"item_id\":\"z\"").unwrap();
    let store = place.store();
    place.put(&store, &["b"]).unwrap();
    assert!(!left.exists());
    assert_eq!(place.ids(&store), ["a", "b"]);
    assert_eq!(value(&place.entries(&store)[1])["item_data"]["for"], "b");
}
