use std::time::Duration;

use prodigy_storage::{
    Claim, DeadLetter, Dlq, DlqItem, Eligible, ErrorKind, Failure, ItemId, ItemState, LeaseToken, Select,
    Settled, Storage, Taken,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{TestClock, file_with, memory_with, on_each, on_each_with_clock};

pub const LEASE: Duration = Duration::from_secs(60);

pub fn id(n: usize) -> ItemId {
    ItemId::new(format!("item-{n}")).unwrap()
}

pub fn letter(n: usize, error: &str) -> DeadLetter<Value> {
    DeadLetter::new(id(n), json!({"n": n})).failure(Failure::new(error, format!("{error} of {n}")))
}

/// The number that an item has as its data.
pub fn number(item: &DlqItem) -> usize {
    let data = item.data::<Value>().unwrap();
    usize::try_from(data["n"].as_u64().unwrap()).unwrap()
}

/// Takes eligible items, and returns their ids.
pub fn take_ids(dlq: &Dlq, limit: usize) -> Vec<ItemId> {
    let taken = dlq.take(&Select::eligible(), limit, LEASE).unwrap();
    taken.iter().for_each(Taken::keep);
    taken.iter().map(|taken| taken.id().clone()).collect()
}

fn count(dlq: &Dlq, n: usize) -> u64 {
    dlq.get(&id(n)).unwrap().unwrap().summary().unwrap().failure_count
}

#[test]
fn what_is_pushed_is_listed_got_and_counted() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        assert_eq!(dlq.push(&letter(1, "timeout")).unwrap().added, 1);
        dlq.push_batch([
            letter(2, "timeout").eligible(false),
            letter(3, "panic").review(true),
        ])
        .unwrap();
        let raw =
            RawValue::from_string(r#"{"item_id":"item-4","item_data":[1],"mine":true}"#.into()).unwrap();
        dlq.push_raw(&raw).unwrap();
        assert_eq!(dlq.push(&letter(1, "timeout")).unwrap().merged, 1);

        let got = dlq.get(&id(1)).unwrap().unwrap();
        let whole = got.letter::<Value>().unwrap();
        assert_eq!((whole.failure_count, whole.failure_history.len()), (Some(2), 2));
        assert_eq!(whole.failure_history[1].attempt_number, Some(2));
        assert_eq!(
            (got.data::<Value>().unwrap(), got.state),
            (json!({"n": 1}), ItemState::Pending)
        );
        assert!(dlq.get(&id(9)).unwrap().is_none());
        assert_eq!(
            dlq.get(&id(4)).unwrap().unwrap().letter::<Value>().unwrap().extra["mine"],
            true
        );

        let list: Vec<_> = dlq
            .list(&Select::any())
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            list.iter().map(|item| &item.id).collect::<Vec<_>>(),
            [&id(1), &id(2), &id(3), &id(4)]
        );
        assert!(!list[1].eligible && list[2].review && list[3].signature.is_none());
        assert_eq!(list[2].error_type.as_deref(), Some("panic"));
        let parked = Select::any().with(Eligible::No);
        assert_eq!(dlq.list(&parked).unwrap().count(), 1);
        assert_eq!(
            dlq.scan(&Select::eligible().error_type("panic")).unwrap().count(),
            1
        );
        assert_eq!(dlq.scan(&Select::any()).unwrap().count(), 4);
    });
}

#[test]
fn the_same_letter_twice_counts_once() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        let failed = letter(1, "timeout");
        assert_eq!(dlq.push(&failed).unwrap().added, 1);
        let report = dlq.push_batch([&failed, &letter(2, "timeout")]).unwrap();
        assert_eq!((report.added, report.merged, report.known), (1, 0, 1));
        assert_eq!(count(&dlq, 1), 1);
    });
}

#[test]
fn items_are_grouped_by_signature() {
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        let start = prodigy_storage::Clock::now(&**clock);
        for n in 0..9 {
            clock.advance_secs(1);
            let mut letter = letter(n, if n % 4 == 0 { "panic" } else { "timeout" }).eligible(n > 2);
            // Without a time of the caller, the store sets the time of the failure.
            letter.failure_history[0].timestamp = None;
            dlq.push(&letter).unwrap();
        }
        let groups = dlq.by_signature(&Select::any()).unwrap().groups;
        let at = |secs: i64| prodigy_storage::Timestamp::from_nanos(start.as_nanos() + secs * 1_000_000_000);
        assert_eq!(groups.len(), 2);
        let most = &groups[0];
        assert_eq!(
            (most.signature.as_deref(), most.items, most.eligible),
            (Some("timeout: timeout of <n>"), 6, 4)
        );
        assert_eq!((most.first, most.last), (Some(at(2)), Some(at(8))));
        assert_eq!(most.samples, [1, 2, 3, 5, 6].map(id));
        assert_eq!((groups[1].items, groups[1].review), (3, 0));
        assert_eq!(
            dlq.by_signature(&Select::eligible()).unwrap().groups[1].samples,
            [4, 8].map(id)
        );
    });
}

#[test]
fn an_item_that_is_none_is_refused_and_nothing_is_stored() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        let refused = dlq.push_batch([json!({"item_id": "a", "item_data": 1}), json!({"item_id": ""})]);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(dlq.list(&Select::any()).unwrap().count(), 0);
    });
}

#[test]
fn taken_items_are_acknowledged_or_come_back() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..4).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::eligible(), 3, LEASE).unwrap();
        assert_eq!(
            taken.iter().map(|item| item.id().clone()).collect::<Vec<_>>(),
            [id(0), id(1), id(2)]
        );
        assert_eq!(taken[1].data::<Value>().unwrap()["n"], 1);
        let summary = dlq.summary().unwrap();
        assert_eq!((summary.items, summary.pending, summary.leased), (4, 1, 3));
        let settled = dlq
            .ack(&[taken[0].token().clone(), LeaseToken::random()])
            .unwrap();
        assert_eq!(settled, [Settled::Done, Settled::Unknown]);
        dlq.release([taken[1].token()], Duration::ZERO).unwrap();
        assert_eq!(take_ids(&dlq, 9), [id(3), id(1)]);
        assert_eq!(
            dlq.remove(&[id(2), id(7)]).unwrap(),
            [Settled::Done, Settled::Unknown]
        );
        assert_eq!(dlq.list(&Select::any()).unwrap().count(), 2);
        assert!(dlq.ack(&[]).unwrap().is_empty());
    });
}

#[test]
fn a_taken_item_settles_itself() {
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..6).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::eligible(), 6, LEASE).unwrap();
        assert_eq!(taken[0].ack().unwrap(), Settled::Done);
        assert_eq!(taken[0].ack().unwrap(), Settled::Unknown);
        assert_eq!(taken[1].release(2 * LEASE).unwrap(), Settled::Done);
        assert_eq!(
            taken[2].fail(Failure::new("panic", "again")).unwrap(),
            Settled::Done
        );
        assert_eq!(taken[3].park(Some("by hand")).unwrap(), Settled::Done);
        dlq.push(&letter(4, "panic")).unwrap();
        assert_eq!(taken[4].ack().unwrap(), Settled::Kept);
        clock.advance_secs(59);
        assert_eq!(taken[5].extend(LEASE).unwrap(), Settled::Done);
        clock.advance_secs(59);
        assert_eq!(
            take_ids(&dlq, 9),
            [id(2), id(4)],
            "the others are leased, delayed, parked and gone"
        );
        assert_eq!((count(&dlq, 2), count(&dlq, 4)), (2, 2));
        let parked = dlq.get(&id(3)).unwrap().unwrap().letter::<Value>().unwrap();
        assert_eq!(parked.parked_reason.as_deref(), Some("by hand"));
        clock.advance_secs(2);
        assert_eq!(take_ids(&dlq, 9), [id(5), id(1)]);
    });
}

#[test]
fn dropping_an_item_releases_it_unless_it_was_settled_or_kept() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..6).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::eligible(), 5, LEASE).unwrap();
        taken[0].ack().unwrap();
        taken[1].keep();
        taken[2].extend(LEASE).unwrap();
        taken[3].park(None).unwrap();
        let settlements = || {
            let stats = fixture.storage.stats();
            stats.operation("settle items").unwrap().latency.count()
        };
        let before = settlements();
        drop(taken);
        assert_eq!(settlements() - before, 2, "of the items 2 and 4");
        let summary = dlq.summary().unwrap();
        assert_eq!((summary.items, summary.leased, summary.parked), (5, 1, 1));
        assert_eq!(count(&dlq, 2), 1, "a release is no failure");
        assert_eq!(take_ids(&dlq, 9), [id(5), id(2), id(4)]);
    });
}

#[test]
fn items_that_were_settled_by_their_tokens_cost_nothing_when_they_are_dropped() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::eligible(), 3, LEASE).unwrap();
        let tokens: Vec<_> = taken.iter().map(|taken| taken.token().clone()).collect();
        dlq.clone().ack(&tokens).unwrap();
        drop(taken);
        let stats = fixture.storage.stats();
        assert_eq!(stats.operation("settle items").unwrap().latency.count(), 1);
    });
}

#[test]
fn a_worker_that_panics_releases_what_it_took() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push(&letter(0, "timeout")).unwrap();
        let worker = || {
            let _taken = dlq.take(&Select::eligible(), 1, LEASE).unwrap();
            assert_eq!(dlq.summary().unwrap().leased, 1);
            panic!("as the test wants it");
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(worker)).unwrap_err();
        assert_eq!(take_ids(&dlq, 1), [id(0)]);
    });
}

#[test]
fn dropping_an_item_leaves_the_lease_of_the_next_worker_alone() {
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        dlq.push(&letter(0, "timeout")).unwrap();
        let slow = dlq.take(&Select::eligible(), 1, LEASE).unwrap();
        clock.advance_secs(61);
        let next = dlq.take(&Select::eligible(), 1, LEASE).unwrap();
        drop(slow);
        assert_eq!(dlq.summary().unwrap().leased, 1);
        assert_eq!(next[0].ack().unwrap(), Settled::Done);
    });
}

#[test]
fn an_operator_acts_on_keys() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::eligible(), 1, LEASE).unwrap();
        assert_eq!(
            dlq.release([id(0), id(9)], Duration::ZERO).unwrap(),
            [Settled::Done, Settled::Unknown]
        );
        assert_eq!(taken[0].ack().unwrap(), Settled::Unknown);
        dlq.park([id(1)], None).unwrap();
        assert_eq!(take_ids(&dlq, 1), [id(2)]);
        assert_eq!(dlq.unpark(&[id(1)]).unwrap(), [Settled::Done]);
        assert_eq!(take_ids(&dlq, 9), [id(1), id(0)]);
        // One call settles items by token and by key.
        dlq.push(&letter(5, "timeout")).unwrap();
        let taken = dlq.take(&Select::eligible(), 1, LEASE).unwrap();
        let both = [Claim::from(taken[0].token()), Claim::from(id(2))];
        assert_eq!(
            dlq.park(both, Some("why")).unwrap(),
            [Settled::Done, Settled::Done]
        );
        assert_eq!(dlq.summary().unwrap().parked, 2);
    });
}

#[test]
fn an_edit_is_refused_after_another_change() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push(&letter(1, "timeout")).unwrap();
        let read = dlq.get(&id(1)).unwrap().unwrap();
        let contents = |n: u32| {
            RawValue::from_string(format!(r#"{{"item_id":"item-1","item_data":{{"n":{n}}}}}"#)).unwrap()
        };
        assert_eq!(dlq.edit(&read, &contents(7)).unwrap(), Settled::Done);
        assert_eq!(dlq.edit(&read, &contents(8)).unwrap(), Settled::Changed);
        let now = dlq.get(&id(1)).unwrap().unwrap();
        assert_eq!(number(&now), 7);
        let other = RawValue::from_string(r#"{"item_id":"x","item_data":1}"#.into()).unwrap();
        assert_eq!(
            dlq.edit(&now, &other).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        dlq.remove(&[id(1)]).unwrap();
        assert_eq!(dlq.edit(&now, &contents(9)).unwrap(), Settled::Unknown);
    });
}

#[test]
fn a_compaction_says_what_it_freed() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..20).map(|n| letter(n, "timeout"))).unwrap();
        dlq.remove(&(0..19).map(id).collect::<Vec<_>>()).unwrap();
        let compaction = dlq.compact().unwrap();
        assert!(
            compaction.after <= compaction.before && compaction.after > 0,
            "{compaction:?}"
        );
        assert_eq!(dlq.summary().unwrap().bytes, compaction.after);
        assert_eq!(take_ids(&dlq, 9), [id(19)]);
    });
}

#[test]
fn a_queue_has_a_cap_if_one_is_set() {
    let set = |b: prodigy_storage::StorageBuilder| b.set("backend_config.max_queue_size", "12KiB");
    for fixture in [memory_with(set), file_with(set)] {
        let dlq = fixture.job().dlq();
        let large = |n: usize| DeadLetter::new(id(n), "x".repeat(5000));
        dlq.push(&large(1)).unwrap();
        dlq.push(&large(2)).unwrap();
        let error = dlq.push(&large(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueFull);
        assert!(error.hint().unwrap().contains("max_queue_size"));
        let health = fixture.storage.health().unwrap();
        let check = health.checks.iter().find(|check| check.name == "queues").unwrap();
        assert_eq!(check.severity, prodigy_storage::Severity::Warning);
        dlq.remove(&[id(1)]).unwrap();
        dlq.compact().unwrap();
        dlq.push(&large(3)).unwrap();
    }
}

#[test]
fn what_a_dead_redriver_took_comes_back_when_its_lease_ends() {
    let clock = TestClock::new();
    let fixture = memory_with(|b| b.clock(std::sync::Arc::clone(&clock) as _));
    let dlq = fixture.job().dlq();
    dlq.push(&letter(1, "timeout")).unwrap();
    assert_eq!(take_ids(&dlq, 1).len(), 1);
    assert_eq!(take_ids(&dlq, 1).len(), 0);
    clock.advance_secs(61);
    assert_eq!(take_ids(&dlq, 1).len(), 1);
}

#[test]
fn after_the_last_handle_is_gone_a_small_file_shows_exactly_the_pending_items() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(folder.path())
        .open()
        .unwrap();
    let dlq = storage.repo("shop").unwrap().job("j").unwrap().dlq();
    for id in ["a", "b"] {
        dlq.push(&DeadLetter::new(ItemId::new(id).unwrap(), 1)).unwrap();
    }
    dlq.remove(&[ItemId::new("a").unwrap()]).unwrap();
    let shown = || -> Vec<Value> {
        serde_json::from_slice(&std::fs::read(folder.path().join("dlq/shop/j/items.json")).unwrap()).unwrap()
    };
    assert_eq!(shown().len(), 2, "a removal is a record of the journal");
    drop((dlq, storage));
    let left = shown();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["item_id"], "b");
}
