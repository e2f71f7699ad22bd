//! A store whose memory limit is reached, used through all layers.

use prodigy_storage::{DeadLetter, ErrorKind, ItemId, PruneOptions, SaveOptions};

use crate::support::memory_with;

const LIMIT: u64 = 256 << 10;

#[test]
fn a_full_memory_refuses_clearly_and_keeps_what_it_has() {
    let fixture = memory_with(|b| {
        b.set("backend_config.max_memory", LIMIT.to_string())
            .set("enable_cache", "true")
    });
    let job = fixture.job();
    let (events, checkpoints, dlq) = (job.events(), job.checkpoints(), job.dlq());
    let large = "x".repeat(20_000);
    for n in [1, 2] {
        checkpoints
            .save_map(&(n, &large), SaveOptions::default())
            .unwrap();
    }
    let letter = |id: &str| DeadLetter::new(ItemId::new(id).unwrap(), large.clone());
    dlq.push(&letter("item-1")).unwrap();

    let mut acknowledged = Vec::new();
    let refused = loop {
        match events.append(&large) {
            Ok(id) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 20, "the limit is not kept");
    };
    assert!(acknowledged.len() > 5);
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    let message = refused.to_string();
    assert!(
        message.starts_with("disk space full: append event shop/job-1: the memory backend holds "),
        "{message}"
    );
    assert!(
        message.contains(&format!("of at most {LIMIT} bytes")),
        "{message}"
    );
    assert!(refused.hint().unwrap().contains("max_memory"), "{refused:?}");
    // A full store does not get free space by itself, so the error is not transient.
    assert!(!refused.is_transient());
    assert_eq!(refused.attempts(), 1);

    // All other writes that do not fit are refused too, and store nothing.
    let saved = checkpoints.save_map(&(3, &large), SaveOptions::default());
    let pushed = dlq.push(&letter("item-2"));
    for refused in [saved.unwrap_err(), pushed.unwrap_err()] {
        assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
    }
    assert_eq!(fixture.storage.stats().get("retry.retries"), 0);
    assert!(fixture.storage.usage().unwrap().bytes() <= LIMIT);

    // All acknowledged events are still there.
    let read: Vec<_> = events.read::<String>().unwrap().map(Result::unwrap).collect();
    assert!(read.iter().map(|event| event.id).eq(acknowledged.iter().copied()));
    assert!(read.iter().all(|event| event.event == large));
    assert_eq!(
        checkpoints.latest_map::<(u32, String)>().unwrap().unwrap().data,
        (2, large.clone())
    );
    assert_eq!(checkpoints.list().all().unwrap().len(), 2);
    let items: Vec<_> = dlq
        .list(&prodigy_storage::Select::any())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].id.as_str(), "item-1");

    // Memory that is freed can be used again.
    checkpoints.prune(1, PruneOptions::default()).unwrap();
    events.append(&"y".repeat(15_000)).unwrap();
    assert_eq!(events.read::<String>().unwrap().count(), acknowledged.len() + 1);
}
