use std::collections::HashMap;

use prodigy_storage_backend::{ErrorKind, QueueStep};
use serde_json::Value;

use super::support::{NEVER, Place, id, value};

fn sample() -> (Vec<u8>, HashMap<String, Value>) {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b", "c"]).unwrap();
    let taken = store
        .queue_take(
            &place.job,
            &prodigy_storage_backend::Select::eligible(),
            1,
            std::time::Duration::from_secs(9),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), 1);
    let values = place
        .entries(&store)
        .into_iter()
        .map(|entry| (entry.id.to_string(), value(&entry)));
    (place.bytes(), values.collect())
}

/// The id of the item whose line contains this byte; `None` for a byte between the lines.
fn owner(bytes: &[u8], at: usize) -> Option<String> {
    let start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |end| end + 1);
    let line = bytes[start..].split(|&byte| byte == b'\n').next().unwrap();
    let line = line.strip_suffix(b",").unwrap_or(line);
    (line.len() > 2 && at < start + line.len()).then(|| {
        let value: Value = serde_json::from_slice(line).unwrap();
        value["item_id"].as_str().unwrap().to_owned()
    })
}

#[test]
fn no_flipped_bit_gives_a_wrong_value_or_costs_a_neighbour() {
    let (whole, values) = sample();
    let place = Place::holding(&whole);
    let store = place.store();
    for at in 0..whole.len() {
        let hit = owner(&whole, at);
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            place.write(&bytes);
            let mut seen = Vec::new();
            let mut damage = 0;
            for step in place.steps(&store) {
                match step {
                    QueueStep::Entry(entry) => {
                        assert_eq!(value(&entry), values[entry.id.as_str()], "byte {at} bit {bit}");
                        seen.push(entry.id.to_string());
                    }
                    QueueStep::Damage(found) => {
                        damage += 1;
                        assert!(
                            found.offset <= at as u64 && at as u64 <= found.offset + found.len,
                            "byte {at} bit {bit}: {found}"
                        );
                    }
                    QueueStep::TooLarge(item) => panic!("{item}"),
                }
            }
            for name in ["a", "b", "c"]
                .into_iter()
                .filter(|name| hit.as_deref() != Some(name))
            {
                assert_eq!(
                    seen.iter().filter(|seen| *seen == name).count(),
                    1,
                    "byte {at} bit {bit} cost {name}"
                );
            }
            if seen.len() < 3 {
                assert_eq!(damage, 1, "byte {at} bit {bit}: told once");
            }
        }
    }
}

#[test]
fn the_next_push_goes_on_and_a_rewrite_moves_the_damage() {
    let (whole, values) = sample();
    // Tries every fifth byte only, since each one costs several syncs.
    for at in (0..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        let place = Place::holding(&bytes);
        let store = place.store();
        let readable: Vec<String> = place
            .steps(&store)
            .into_iter()
            .filter_map(|step| match step {
                QueueStep::Entry(entry) => Some(entry.id.to_string()),
                QueueStep::Damage(_) | QueueStep::TooLarge(_) => None,
            })
            .collect();
        place.put(&store, &["next"]).unwrap();
        let after: Vec<String> = place
            .steps(&place.store())
            .into_iter()
            .filter_map(|step| match step {
                QueueStep::Entry(entry) => Some(entry.id.to_string()),
                QueueStep::Damage(_) | QueueStep::TooLarge(_) => None,
            })
            .collect();
        assert_eq!(after[..after.len() - 1], readable[..], "byte {at}");
        // Compacts the queue.
        place.remove(&store, &[id("next")]).unwrap();
        place.compact(&store);
        let entries = place.entries(&store);
        assert_eq!(entries.len(), readable.len(), "byte {at}");
        assert!(
            entries
                .iter()
                .all(|entry| value(entry) == values[entry.id.as_str()])
        );
        assert_eq!(place.array().len(), readable.len(), "byte {at}");
        let lost = 3 - readable.len();
        assert!(place.quarantined().len() >= lost, "byte {at}: kept in quarantine");
    }
}

#[test]
fn joined_lines_and_lost_bytes_cost_only_themselves() {
    let (whole, _) = sample();
    let text = String::from_utf8(whole.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cases = [
        // Lines that lost their line end, with and without the comma.
        (
            format!("[\n{}{}\n{}\n]\n", lines[1], lines[2], lines[3]),
            vec!["a", "b", "c"],
        ),
        (
            format!(
                "[\n{}{}\n{}\n]\n",
                lines[1].trim_end_matches(','),
                lines[2],
                lines[3]
            ),
            vec!["a", "b", "c"],
        ),
        // A line that lost its second half and is joined to the next line.
        (
            format!("[\n{}{}\n{}\n]\n", &lines[1][..60], lines[2], lines[3]),
            vec!["b", "c"],
        ),
        (
            format!("[\n{}\n{}{}\n]\n", lines[1], &lines[2][30..], lines[3]),
            vec!["a", "c"],
        ),
        // A block of zeros in place of a line.
        (
            format!("[\n{}\n{}\n{}\n]\n", lines[1], "\0".repeat(4096), lines[3]),
            vec!["a", "c"],
        ),
        // A file without its brackets.
        (
            format!("{}\n{}\n{}\n", lines[1], lines[2], lines[3]),
            vec!["a", "b", "c"],
        ),
    ];
    for (text, expected) in cases {
        let place = Place::holding(&text);
        let store = place.store();
        let read = |store| -> Vec<String> {
            place
                .steps(store)
                .into_iter()
                .filter_map(|step| match step {
                    QueueStep::Entry(entry) => Some(entry.id.to_string()),
                    QueueStep::Damage(_) | QueueStep::TooLarge(_) => None,
                })
                .collect()
        };
        assert_eq!(read(&store), expected, "{text}");
        place.put(&store, &["next"]).unwrap();
        assert_eq!(read(&store).len(), expected.len() + 1, "{text}");
    }
}

#[test]
fn a_missing_item_may_be_the_damaged_one() {
    let (mut whole, _) = sample();
    let at = memchr::memmem::find(&whole, b"{\"item_id\":\"b\"").unwrap();
    whole[at + 20] ^= 1;
    let place = Place::holding(&whole);
    let store = place.store();
    assert!(store.queue_get(&place.job, &id("c"), NEVER).unwrap().is_some());
    let error = store.queue_get(&place.job, &id("b"), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains(&format!("offset {at} ")), "{error}");
    // The item can be pushed again, and is stored after the damaged bytes.
    assert_eq!(place.put(&store, &["b"]).unwrap().added, 1);
    assert!(store.queue_get(&place.job, &id("b"), NEVER).unwrap().is_some());
}
