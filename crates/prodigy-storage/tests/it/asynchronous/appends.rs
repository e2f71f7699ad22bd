//! Appends of many tasks.

use std::collections::BTreeMap;
use std::task::Poll;

use prodigy_storage::{
    AppendOptions, Batch, Durability, ErrorKind, EventId, Stats, StorageBuilder, Timestamp,
};
use serde_json::json;

use super::support::{Tasks, on_each, poll_once, run};
use crate::support::file_with;

/// Awaits several futures at once: each is polled before the first one ends.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let begun: Vec<_> = futures.iter_mut().map(poll_once).collect();
    let mut outputs = Vec::new();
    for (future, begun) in futures.into_iter().zip(begun) {
        outputs.push(match begun {
            Poll::Ready(output) => output,
            Poll::Pending => future.await,
        });
    }
    outputs
}

async fn stored(tasks: &Tasks) -> BTreeMap<EventId, String> {
    let mut events = tasks.job().events().read::<String>().await.unwrap();
    let mut stored = BTreeMap::new();
    while let Some(event) = events.next().await {
        let event = event.unwrap().event;
        assert_eq!(stored.insert(event.id, event.event), None);
    }
    stored
}

#[test]
fn tasks_share_syncs_whatever_their_number() {
    run(async {
        let tasks = Tasks::new(file_with(|builder| builder));
        let events = tasks.job().events();
        events.append("the first one makes the log").await.unwrap();
        let before = tasks.storage.stats();
        let ids = all((0..500).map(|n| events.append(&format!("{n}"))).collect()).await;
        let after = tasks.storage.stats();
        assert!(ids.iter().all(Result::is_ok));
        let syncs = after.get("file.syncs") - before.get("file.syncs");
        assert!((1..50).contains(&syncs), "{syncs} syncs for 500 appends");
        // Each append is counted, and not the calls of the backend that they share.
        let appends = |stats: &Stats| stats.operation("append events").unwrap().latency.count();
        assert_eq!(appends(&after) - appends(&before), 500);
    });
}

#[test]
fn each_task_gets_the_ids_of_its_own_events() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        let batches = (0..200).map(|n| (0..n % 4).map(|k| format!("{n}.{k}")).collect::<Vec<_>>());
        let batches: Vec<_> = batches.filter(|batch| !batch.is_empty()).collect();
        let ids = all(batches.iter().map(|batch| events.append_batch(batch)).collect()).await;
        let stored = stored(&tasks).await;
        let mut seen = 0;
        for (batch, ids) in batches.iter().zip(ids) {
            let found: Vec<_> = ids.unwrap().iter().map(|id| stored[id].clone()).collect();
            assert_eq!(found, *batch);
            seen += found.len();
        }
        assert_eq!(stored.len(), seen);
    });
}

#[test]
fn appends_of_one_durability_keep_the_order_in_which_they_began() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        all((0..300).map(|n| events.append(&format!("{n}"))).collect()).await;
        let found: Vec<_> = stored(&tasks).await.into_values().collect();
        assert_eq!(found, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn an_event_under_an_id_of_the_callers_is_stored_once_however_many_tasks_append_it() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        let now = Timestamp::now();
        let ids: Vec<_> = (0..10)
            .map(|n| EventId::for_key(now, format!("key {n}")))
            .collect();
        let appends = (0..100).map(|n| {
            let id = ids[n % 10];
            events.append_with(&format!("{}", n % 10), AppendOptions::new().id(id))
        });
        let given = all(appends.collect()).await;
        for (n, id) in given.into_iter().enumerate() {
            assert_eq!(id.unwrap(), ids[n % 10]);
        }
        let stored = stored(&tasks).await;
        assert_eq!(stored.len(), 10);
        assert!((0..10).all(|n| stored[&ids[n]] == n.to_string()));
    });
}

#[test]
fn an_event_that_is_refused_costs_no_other_task_its_append() {
    run(async {
        let set = |builder: StorageBuilder| builder.set("backend_config.max_record_size", "1000");
        let tasks = Tasks::new(file_with(set));
        let events = tasks.job().events();
        let large = "x".repeat(2_000);
        let texts: Vec<&str> = (0..60)
            .map(|n| if n % 20 == 7 { &large } else { "small" })
            .collect();
        let results = all(texts.iter().map(|text| events.append(*text)).collect()).await;
        for (text, result) in texts.iter().zip(results) {
            match text.len() {
                2_000 => assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge),
                _ => drop(result.unwrap()),
            }
        }
        assert_eq!(stored(&tasks).await.len(), 57);
    });
}

#[test]
fn fields_and_durabilities_are_those_of_each_append() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        let request = |n: usize| match n % 3 {
            0 => AppendOptions::new().durability(Durability::Relaxed),
            1 => AppendOptions::new().correlation_id("run-7"),
            _ => AppendOptions::new(),
        };
        let results = all((0..60).map(|n| events.append_with(&n, request(n))).collect()).await;
        assert!(results.iter().all(Result::is_ok));
        events
            .append_batch_with([60, 61], AppendOptions::new().metadata(&json!({"a": 1})))
            .await
            .unwrap();
        let mut found = events.read::<usize>().await.unwrap();
        let mut count = 0;
        while let Some(event) = found.next().await {
            let event = event.unwrap().event;
            let is_of_the_batch = event.event >= 60;
            assert_eq!(
                event.correlation_id.is_some(),
                !is_of_the_batch && event.event % 3 == 1
            );
            assert_eq!(event.metadata.is_some(), is_of_the_batch);
            count += 1;
        }
        assert_eq!(count, 62);
    });
}

#[test]
fn a_prepared_batch_gets_its_ids_and_its_own_report() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        let mut batch = Batch::new();
        batch.push("a").unwrap();
        batch.push("b").unwrap();
        // The future is dropped before it starts, so the batch is unchanged.
        drop(events.append_prepared(&mut batch, None));
        assert_eq!((batch.len(), batch.ids()), (2, &[][..]));
        let appended = events.append_prepared(&mut batch, None).await.unwrap();
        assert_eq!((appended.stored, batch.ids().len()), (2, 2));
        batch.push("c").unwrap();
        let known: Vec<_> = stored(&tasks).await.into_keys().collect();
        batch.set_ids([known[0], known[1], EventId::for_key(Timestamp::now(), "c")]);
        let appended = events.append_prepared(&mut batch, None).await.unwrap();
        assert_eq!((appended.stored, appended.duplicates), (1, 2));
        assert_eq!(
            events
                .append_prepared(&mut Batch::new(), None)
                .await
                .unwrap()
                .stored,
            0
        );
    });
}

#[test]
fn a_flush_waits_for_every_append_that_was_begun_before_it() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        // The events of two appends together are larger than one call accepts.
        let large = "x".repeat(700_000);
        let mut appends: Vec<_> = (0..20).map(|_| events.append(&large)).collect();
        for append in &mut appends {
            let _ = poll_once(append);
        }
        tasks.storage.flush().await.unwrap();
        assert_eq!(tasks.beside.job().events().read::<String>().unwrap().count(), 20);
    });
}

#[test]
fn an_append_that_is_dropped_while_it_waits_is_not_stored() {
    run(async {
        let tasks = Tasks::narrow();
        let events = tasks.job().events();
        let mut kept = Vec::new();
        for n in 0..1_000 {
            let mut append = events.append(&format!("{n}"));
            let begun = poll_once(&mut append);
            match n % 2 {
                0 if begun.is_pending() => kept.push(append),
                _ => drop(append),
            }
        }
        for append in kept {
            append.await.unwrap();
        }
        tasks.storage.flush().await.unwrap();
        let stored = stored(&tasks).await;
        let even = stored
            .values()
            .filter(|text| text.parse::<u32>().unwrap() % 2 == 0);
        assert_eq!(even.count(), 500);
        // Appends that had begun may be stored. Those that still waited in the queue never began.
        assert!(stored.len() < 1_000, "{}", stored.len());
    });
}
