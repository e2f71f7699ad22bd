use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::{DeadLetter, ErrorKind, Failure, ItemId, LeaseToken, Outcome, RedriveOptions, Select};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{TestClock, memory_with, on_each};

const LEASE: Duration = Duration::from_secs(60);

fn id(n: usize) -> ItemId {
    ItemId::new(format!("item-{n}")).unwrap()
}

fn letter(n: usize, error: &str) -> DeadLetter<Value> {
    DeadLetter::new(id(n), json!({"n": n})).failure(Failure::new(error, format!("{error} of {n}")))
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
        assert_eq!(got.data::<Value>().unwrap(), json!({"n": 1}));
        assert!(dlq.get(&id(9)).unwrap().is_none());
        assert_eq!(
            dlq.get(&id(4)).unwrap().unwrap().letter::<Value>().unwrap().extra["mine"],
            true
        );

        let list: Vec<_> = dlq.list().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            list.iter().map(|item| &item.id).collect::<Vec<_>>(),
            [&id(1), &id(2), &id(3), &id(4)]
        );
        assert!(!list[1].eligible && list[2].review && list[3].signature.is_none());
        let counts = dlq.by_signature().unwrap();
        assert_eq!((counts[0].items, counts[0].eligible), (2, 1));
        assert_eq!(counts.iter().map(|count| count.items).sum::<u64>(), 4);
        assert_eq!(counts.iter().map(|count| count.review).sum::<u64>(), 1);
        assert_eq!(dlq.scan().unwrap().count(), 4);
    });
}

#[test]
fn an_item_that_is_none_is_refused_and_nothing_is_stored() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        let refused = dlq.push_batch([json!({"item_id": "a", "item_data": 1}), json!({"item_id": ""})]);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(dlq.list().unwrap().count(), 0);
    });
}

#[test]
fn taken_items_are_acknowledged_or_come_back() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..4).map(|n| letter(n, "timeout"))).unwrap();
        let taken = dlq.take(&Select::all(), 3, LEASE).unwrap();
        assert_eq!(
            taken.iter().map(|item| item.id().clone()).collect::<Vec<_>>(),
            [id(0), id(1), id(2)]
        );
        assert_eq!(taken[1].data::<Value>().unwrap()["n"], 1);
        assert_eq!(
            dlq.list()
                .unwrap()
                .filter(|item| item.as_ref().unwrap().lease.is_some())
                .count(),
            3
        );
        let settled = dlq
            .ack(&[taken[0].token().clone(), LeaseToken::random()])
            .unwrap();
        assert_eq!((settled.settled.len(), settled.unknown.len()), (1, 1));
        dlq.nack(&[taken[1].token().clone()]).unwrap();
        let again = dlq.take(&Select::all(), 9, LEASE).unwrap();
        assert_eq!(
            again.iter().map(|item| item.id().clone()).collect::<Vec<_>>(),
            [id(1), id(3)]
        );
        assert_eq!(dlq.remove(&[id(2), id(7)]).unwrap().settled, [id(2)]);
        assert_eq!(dlq.list().unwrap().count(), 2);
        assert!(dlq.ack(&[]).unwrap().settled.is_empty());
    });
}

#[test]
fn a_redrive_works_through_each_item_once() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..10).map(|n| letter(n, "timeout").review(n == 1)))
            .unwrap();
        let mut seen = Vec::new();
        let options = RedriveOptions {
            batch: 3,
            ..RedriveOptions::default()
        };
        let report = dlq
            .redrive(Select::all(), options, |item| {
                let n = item.data::<Value>().unwrap()["n"].as_u64().unwrap();
                seen.push(n);
                match n % 5 {
                    1 => Outcome::failed(Failure::new("panic", "again")),
                    2 => Outcome::GiveBack,
                    _ => Outcome::Done,
                }
            })
            .unwrap();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_eq!(
            (report.done, report.failed, report.given_back, report.lost),
            (6, 2, 2, 0)
        );
        let left: Vec<_> = dlq.list().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            left.iter().map(|item| item.failure_count).collect::<Vec<_>>(),
            [2, 1, 2, 1]
        );
        // The marks of the item survive another failure, and all items are pending again.
        assert!(left[0].review);
        assert_eq!(dlq.take(&Select::all(), 9, LEASE).unwrap().len(), 4);
    });
}

#[test]
fn a_redrive_ends_where_the_clock_stands_still() {
    let clock = TestClock::new();
    let fixture = memory_with(|b| b.clock(Arc::clone(&clock) as _));
    let dlq = fixture.job().dlq();
    dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
    let mut tries = 0;
    let report = dlq
        .redrive(
            Select::all(),
            RedriveOptions {
                batch: 1,
                ..RedriveOptions::default()
            },
            |_| {
                tries += 1;
                Outcome::failed(Failure::new("timeout", "again"))
            },
        )
        .unwrap();
    assert_eq!((tries, report.failed), (3, 3));
}

#[test]
fn a_redrive_takes_no_more_than_its_limit_and_no_later_failure() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..5).map(|n| letter(n, "timeout"))).unwrap();
        let options = RedriveOptions {
            limit: Some(2),
            ..RedriveOptions::default()
        };
        assert_eq!(
            dlq.redrive(Select::all(), options, |_| Outcome::Done)
                .unwrap()
                .done,
            2
        );
        // Items that are pushed during the run are left for the next one.
        let dlq_again = dlq.clone();
        let mut pushed = false;
        let report = dlq
            .redrive(
                Select::all(),
                RedriveOptions {
                    batch: 1,
                    ..RedriveOptions::default()
                },
                |_| {
                    if !std::mem::replace(&mut pushed, true) {
                        dlq_again.push(&letter(99, "late")).unwrap();
                    }
                    Outcome::Done
                },
            )
            .unwrap();
        assert_eq!(report.done, 3);
        assert_eq!(dlq.list().unwrap().count(), 1);
    });
}

#[test]
fn what_a_dead_redriver_took_comes_back_when_its_lease_ends() {
    let clock = TestClock::new();
    let fixture = memory_with(|b| b.clock(Arc::clone(&clock) as _));
    let dlq = fixture.job().dlq();
    dlq.push(&letter(1, "timeout")).unwrap();
    assert_eq!(dlq.take(&Select::all(), 1, LEASE).unwrap().len(), 1);
    assert_eq!(dlq.take(&Select::all(), 1, LEASE).unwrap().len(), 0);
    clock.advance_secs(61);
    assert_eq!(dlq.take(&Select::all(), 1, LEASE).unwrap().len(), 1);
}
