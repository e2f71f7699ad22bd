//! Scans whose steps fail with transient errors.

use std::sync::Arc;

use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

use super::through::{Through, everything};
use crate::{Cursor, FollowOptions, ReadOptions, Select, Storage};

const EVENTS: u32 = 300;

/// A store whose calls, steps of scans included, fail at random.
fn storage() -> Storage {
    let memory = Arc::new(MemoryBackend::new(MemoryOptions::default()).unwrap());
    let faulty = Through::faulty(memory, 0x5eed, true).also_in_scans();
    let builder = Storage::builder().config(everything());
    builder.backend(Arc::new(faulty)).open().unwrap()
}

#[test]
fn a_scan_goes_on_behind_its_last_event_after_a_transient_failure() {
    let storage = storage();
    let job = storage.repo("shop").unwrap().job("a").unwrap();
    for number in 0..EVENTS {
        job.events().append(&number).unwrap();
    }
    let read = |from: Option<Cursor>| -> Vec<u32> {
        let events = job.events().read_with(ReadOptions::new().from(from)).unwrap();
        events.map(|event| event.unwrap().event).collect()
    };
    assert_eq!(read(None), Vec::from_iter(0..EVENTS));

    let followed: Vec<u32> = {
        let options = FollowOptions::new().wait(std::time::Duration::ZERO);
        let follow = job.events().follow_with(options).unwrap();
        follow.map(|event| event.unwrap().event).collect()
    };
    assert_eq!(followed, Vec::from_iter(0..EVENTS));

    let retries = storage.stats().get("retry.retries");
    assert!(retries > u64::from(EVENTS) / 2, "{retries}");
}

#[test]
fn a_listing_of_dead_letters_goes_on_after_a_transient_failure() {
    let storage = storage();
    let dlq = storage.repo("shop").unwrap().job("a").unwrap().dlq();
    for number in 0..EVENTS {
        let item = format!("{{\"item_id\":\"item-{number:03}\",\"item_data\":1}}");
        dlq.push_raw(&serde_json::value::RawValue::from_string(item).unwrap())
            .unwrap();
    }
    let ids: Vec<String> = dlq
        .scan(&Select::any())
        .unwrap()
        .map(|item| item.unwrap().id.to_string())
        .collect();
    let all: Vec<String> = (0..EVENTS).map(|number| format!("item-{number:03}")).collect();
    assert_eq!(ids, all);
}
