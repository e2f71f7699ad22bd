//! Promises of the queue: pushes, takes and leases.

use std::time::Duration;

use prodigy_storage_layout::JobAddress;
use serde_json::json;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, MINUTE, acknowledge, entry, field, item, item_id, job, jobs, keys, moment, names, put, refused,
    release, settle_item, settle_token, soon, take, take_one, tokens,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::log::Durability;
use crate::queue::{Change, LeaseToken, PutReport, QueueItem, QueueSummary, Select, Settled};

topic! { "queue":
    items_are_kept_in_order "items are read in the order of their first push",
    an_absent_queue_is_empty "a queue that does not exist is empty, and reading or settling creates nothing",
    a_known_key_is_merged "a push with a known key is merged: one item with both failures and the newest data",
    a_repeated_push_changes_nothing "a repeated push changes nothing, not even the counter",
    a_failure_counts_once "a failure that is already in the history counts once, even if it is pushed with new failures",
    a_failure_without_a_time_counts_once "a failure without time and number counts once, however often it is pushed, and so does an item without failures",
    a_failure_is_completed "a failure gets its time and its number",
    a_key_twice_in_a_batch_is_merged "two items with one key in a batch are merged into one item",
    a_merge_keeps_place_lease_and_delay "a merge keeps the place of an item, its lease, and its delay",
    numbers_rise "each change takes a higher number, and the summary names the last one",
    the_revision_belongs_to_the_contents "the revision changes only with the contents",
    the_summary_counts_each_item_once "the summary counts pending, leased, delayed and parked items",
    a_compaction_changes_nothing "a compaction keeps items, leases, delays, places, revisions and the counter",
    queues_are_kept_apart "queues of two jobs do not mix",
    a_full_queue_refuses_a_push (CappedQueue) "a push that would exceed the maximum size of the queue is refused whole, and settling items makes room",
    a_full_queue_is_settled (CappedQueue) "a full queue accepts every settlement, even one that makes an item larger",
}

/// Pushes an item with another failure.
pub(super) fn push(
    harness: &dyn Harness,
    backend: &dyn Backend,
    job: &JobAddress,
    name: &str,
    data: &str,
) -> Check {
    let item = item(name, data, harness.clock().now())?;
    let report = backend.queue_put(job, &[item], Durability::Strict, None, soon())?;
    ensure_eq!(
        report,
        PutReport::new(0, 1, 0),
        "the report of the push of another failure"
    );
    Ok(())
}

fn items_are_kept_in_order(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let report = put(harness, &*one, &job, &["c", "a"])?;
    ensure_eq!(report, PutReport::new(2, 0, 0), "the report of the push");
    put(harness, &*two, &job, &["b"])?;
    ensure_eq!(keys(&*one, &job)?, ["c", "a", "b"], "keys");
    // The release moves the item to the end of the order of takes, but not of the queue.
    settle_item(&*one, &job, "c", release(Duration::ZERO))?;
    ensure_eq!(keys(&*one, &job)?, ["c", "a", "b"], "keys after a release");
    let got = entry(&*two, &job, "a")?;
    ensure_eq!(field(got.body.get().as_bytes(), "item_data")?, json!(1), "data");
    ensure!(
        got.verified && got.lease.is_none() && got.delay.is_none(),
        "the item is unverified, taken or delayed: {got:?}"
    );
    Ok(())
}

fn an_absent_queue_is_empty(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "keys");
    ensure!(
        backend.queue_get(&job, &item_id("a")?, soon())?.is_none(),
        "an item that was never pushed"
    );
    ensure_eq!(take(&*backend, &job, 5)?.len(), 0, "items taken");
    ensure_eq!(
        acknowledge(&*backend, &job, &[LeaseToken::random()])?,
        [Settled::Unknown],
        "the outcome for a token"
    );
    ensure_eq!(
        settle_item(&*backend, &job, "a", Change::Remove)?,
        Settled::Unknown,
        "the outcome for a key"
    );
    ensure_eq!(
        backend.queue_summary(&job, soon())?,
        QueueSummary::default(),
        "summary"
    );
    let compaction = backend.queue_compact(&job, soon())?;
    ensure_eq!(
        (compaction.before, compaction.after),
        (0, 0),
        "bytes of a compaction"
    );
    ensure_eq!(jobs(&*backend, &job.repo)?.len(), 0, "jobs after that");
    Ok(())
}

fn a_known_key_is_merged(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    harness.clock().advance(MINUTE);
    push(harness, &*two, &job, "a", "2")?;
    ensure_eq!(keys(&*one, &job)?, ["a", "b"], "keys");
    let got = entry(&*one, &job, "a")?;
    let body = got.body.get().as_bytes();
    ensure_eq!(field(body, "item_data")?, json!(2), "data");
    ensure_eq!(field(body, "failure_count")?, json!(2), "count");
    let history = field(body, "failure_history")?;
    ensure_eq!(history.as_array().map(Vec::len), Some(2), "failures");
    Ok(())
}

fn a_repeated_push_changes_nothing(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let first = [item("a", "1", harness.clock().now())?];
    one.queue_put(&job, &first, Durability::Strict, None, soon())?;
    harness.clock().advance(MINUTE);
    push(harness, &*one, &job, "a", "2")?;
    settle_item(&*one, &job, "a", Change::Park { reason: None })?;
    let before = entry(&*one, &job, "a")?;
    let mark = one.queue_summary(&job, soon())?.mark;
    let report = two.queue_put(&job, &first, Durability::Strict, None, soon())?;
    ensure_eq!(report, PutReport::new(0, 0, 1), "the report of the repeated push");
    let after = entry(&*one, &job, "a")?;
    ensure_eq!(after.body.get(), before.body.get(), "contents");
    ensure_eq!(after.revision, before.revision, "revision");
    ensure_eq!(two.queue_summary(&job, soon())?.mark, mark, "the counter");
    Ok(())
}

fn a_failure_counts_once(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let text = |failures: &str| {
        let text = format!(r#"{{"item_id":"a","item_data":1,"failure_history":[{failures}]}}"#);
        let raw = serde_json::value::RawValue::from_string(text)?;
        Ok::<_, Failure>(crate::dead_letter::normalise(&raw)?)
    };
    let one = r#"{"error_type":"A","attempt_number":1,"timestamp":"2026-01-01T00:00:00Z"}"#;
    let two = r#"{"error_type":"B","attempt_number":2,"timestamp":"2026-01-01T00:00:01Z"}"#;
    backend.queue_put(&job, &[text(one)?], Durability::Strict, None, soon())?;
    let both = text(&format!("{one},{two}"))?;
    backend.queue_put(&job, &[both], Durability::Strict, None, soon())?;
    let got = entry(&*backend, &job, "a")?;
    let body = got.body.get().as_bytes();
    ensure_eq!(field(body, "failure_count")?, json!(2), "count");
    let history = field(body, "failure_history")?;
    ensure_eq!(history.as_array().map(Vec::len), Some(2), "failures");
    Ok(())
}

/// An item with this JSON of its failures, and without any time.
fn untimed(failures: &str) -> Result<QueueItem, Failure> {
    let text = format!(r#"{{"item_id":"a","item_data":1,"failure_history":[{failures}]}}"#);
    let raw = serde_json::value::RawValue::from_string(text)?;
    Ok(crate::dead_letter::normalise(&raw)?)
}

fn a_failure_without_a_time_counts_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    for failures in ["", r#"{"error_type":"A"}"#] {
        settle_item(&*one, &job, "a", Change::Remove)?;
        one.queue_put(&job, &[untimed(failures)?], Durability::Strict, None, soon())?;
        let before = entry(&*two, &job, "a")?;
        harness.clock().advance(MINUTE);
        let report = two.queue_put(&job, &[untimed(failures)?], Durability::Strict, None, soon())?;
        ensure_eq!(report, PutReport::new(0, 0, 1), "the second push of [{failures}]");
        let after = entry(&*one, &job, "a")?;
        ensure_eq!(after.body.get(), before.body.get(), "contents");
        // A failure that a worker reports counts as new, even if the history has an equal one.
        let token = take_one(&*two, &job)?;
        settle_token(&*two, &job, &token, Change::Fail(untimed(failures)?))?;
        let count = field(entry(&*one, &job, "a")?.body.get().as_bytes(), "failure_count")?;
        ensure_eq!(count, json!(2), "failures after one of a worker");
    }
    Ok(())
}

fn a_failure_is_completed(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let failed = |number: u32| untimed(&format!(r#"{{"error_message":"{number}"}}"#));
    backend.queue_put(&job, &[failed(1)?], Durability::Strict, None, soon())?;
    harness.clock().advance(MINUTE);
    backend.queue_put(&job, &[failed(2)?], Durability::Strict, None, soon())?;
    let token = take_one(&*backend, &job)?;
    harness.clock().advance(MINUTE);
    let failed = failed(3)?;
    settle_token(&*backend, &job, &token, Change::Fail(failed))?;
    let got = entry(&*backend, &job, "a")?;
    let history = field(got.body.get().as_bytes(), "failure_history")?;
    let failures = history.as_array().into_iter().flatten();
    let found: Vec<_> = failures
        .map(|failure| {
            (
                failure.get("attempt_number").cloned(),
                failure.get("timestamp").cloned(),
            )
        })
        .collect();
    let wanted: Vec<_> = (1..=3)
        .map(|number| {
            let time = json!(moment((number - 1) * 60_000));
            (Some(json!(number)), Some(time))
        })
        .collect();
    ensure_eq!(found, wanted, "numbers and times of the failures");
    Ok(())
}

fn a_key_twice_in_a_batch_is_merged(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let now = harness.clock().now();
    let items = [
        item("a", "1", now)?,
        item("b", "2", now)?,
        item("a", "3", now)?,
        item("a", "1", now)?,
    ];
    let report = backend.queue_put(&job, &items, Durability::Strict, None, soon())?;
    ensure_eq!(report, PutReport::new(2, 1, 1), "the report of the push");
    ensure_eq!(keys(&*backend, &job)?, ["a", "b"], "keys");
    let got = entry(&*backend, &job, "a")?;
    ensure_eq!(
        field(got.body.get().as_bytes(), "failure_count")?,
        json!(2),
        "count"
    );
    Ok(())
}

fn a_merge_keeps_place_lease_and_delay(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["taken", "delayed", "first", "last"])?;
    let token = take_one(&*one, &job)?;
    settle_item(&*one, &job, "delayed", release(2 * MINUTE))?;
    for name in ["taken", "delayed", "first"] {
        let before = entry(&*two, &job, name)?;
        push(harness, &*two, &job, name, "2")?;
        let after = entry(&*one, &job, name)?;
        ensure_eq!(after.place, before.place, "place of the {name} item");
        ensure_eq!(after.lease, before.lease, "lease of the {name} item");
        ensure_eq!(after.delay, before.delay, "delay of the {name} item");
    }
    ensure_eq!(names(&take(&*two, &job, 9)?), ["first", "last"], "items pending");
    ensure_eq!(
        settle_token(&*one, &job, &token, release(Duration::ZERO))?,
        Settled::Done,
        "the outcome for the token"
    );
    Ok(())
}

fn numbers_rise(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let mark = |last: &mut crate::queue::QueueMark, what: &str| {
        let mark = two.queue_summary(&job, soon())?.mark;
        ensure!(mark > *last, "{what}: the counter is at {mark:?} after {last:?}");
        *last = mark;
        Ok::<_, Failure>(())
    };
    let mut last = two.queue_summary(&job, soon())?.mark;
    put(harness, &*one, &job, &["a", "b"])?;
    mark(&mut last, "a put")?;
    let (a, b) = (entry(&*one, &job, "a")?, entry(&*one, &job, "b")?);
    ensure!(
        a.place < b.place && b.place <= last,
        "places {:?} and {:?}",
        a.place,
        b.place
    );
    ensure!(
        a.revision <= last && a.revision < b.revision,
        "revisions of new items"
    );
    push(harness, &*one, &job, "a", "2")?;
    mark(&mut last, "a merge")?;
    ensure_eq!(
        entry(&*one, &job, "a")?.revision,
        last,
        "revision of a merged item"
    );
    let token = take_one(&*one, &job)?;
    mark(&mut last, "a take")?;
    ensure_eq!(entry(&*one, &job, "a")?.place, last, "place of a taken item");
    settle_token(&*one, &job, &token, Change::Extend(MINUTE))?;
    mark(&mut last, "an extension")?;
    settle_token(&*one, &job, &token, release(MINUTE))?;
    mark(&mut last, "a release")?;
    ensure_eq!(entry(&*one, &job, "a")?.place, last, "place of a released item");
    for (change, what) in [
        (Change::Park { reason: None }, "parking"),
        (Change::Unpark, "unparking"),
        (
            Change::Edit(item("a", "9", harness.clock().now())?.body),
            "an edit",
        ),
    ] {
        settle_item(&*one, &job, "a", change)?;
        mark(&mut last, what)?;
        ensure_eq!(entry(&*one, &job, "a")?.revision, last, "revision after {what}");
    }
    let failed = item("b", "3", harness.clock().now())?;
    settle_item(&*one, &job, "b", Change::Fail(failed))?;
    mark(&mut last, "a failure")?;
    let b = entry(&*one, &job, "b")?;
    ensure_eq!(
        (b.place, b.revision),
        (last, last),
        "place and revision of a failed item"
    );
    settle_item(&*one, &job, "a", Change::Remove)?;
    mark(&mut last, "a removal")
}

fn the_revision_belongs_to_the_contents(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let revision = entry(&*two, &job, "a")?.revision;
    let token = take_one(&*one, &job)?;
    settle_token(&*one, &job, &token, Change::Extend(MINUTE))?;
    settle_token(&*one, &job, &token, release(Duration::from_secs(1)))?;
    push(harness, &*one, &job, "b", "2")?;
    let after = entry(&*two, &job, "a")?.revision;
    ensure_eq!(
        after,
        revision,
        "revision after a take, an extension and a release"
    );
    push(harness, &*one, &job, "a", "2")?;
    ensure!(
        entry(&*two, &job, "a")?.revision > revision,
        "a merge keeps the revision"
    );
    Ok(())
}

fn the_summary_counts_each_item_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let all = [
        "taken", "ended", "delayed", "parked", "both", "waiting", "pending",
    ];
    put(harness, &*one, &job, &all)?;
    let take_id = |name: &str, lease: Duration| {
        one.queue_take(&job, &Select::ids([item_id(name)?]), 1, lease, None, soon())?;
        Ok::<_, Failure>(())
    };
    take_id("taken", 5 * MINUTE)?;
    take_id("ended", MINUTE)?;
    settle_item(&*one, &job, "delayed", release(5 * MINUTE))?;
    settle_item(&*one, &job, "waiting", release(MINUTE))?;
    settle_item(&*one, &job, "parked", Change::Park { reason: None })?;
    settle_item(&*one, &job, "both", release(5 * MINUTE))?;
    settle_item(&*one, &job, "both", Change::Park { reason: None })?;
    harness.clock().advance(2 * MINUTE);
    let summary = two.queue_summary(&job, soon())?;
    ensure_eq!(
        (
            summary.items,
            summary.pending,
            summary.leased,
            summary.delayed,
            summary.parked
        ),
        (7, 3, 1, 1, 2),
        "items: all, pending, leased, delayed, parked"
    );
    ensure!(summary.bytes > 0, "a queue of seven items takes no bytes");
    take_id("parked", MINUTE)?;
    let summary = two.queue_summary(&job, soon())?;
    ensure_eq!(
        (summary.leased, summary.parked),
        (2, 1),
        "the summary with a taken parked item"
    );
    Ok(())
}

fn a_compaction_changes_nothing(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(
        harness,
        &*one,
        &job,
        &["taken", "delayed", "parked", "gone", "edited", "pending"],
    )?;
    let token = take_one(&*one, &job)?;
    settle_item(&*one, &job, "delayed", release(2 * MINUTE))?;
    settle_item(
        &*one,
        &job,
        "parked",
        Change::Park {
            reason: Some("why".into()),
        },
    )?;
    settle_item(&*one, &job, "gone", Change::Remove)?;
    push(harness, &*one, &job, "edited", "2")?;
    let all = ["taken", "delayed", "parked", "edited", "pending"];
    let entries = |backend: &dyn Backend| {
        let each = all.into_iter().map(|name| {
            let entry = entry(backend, &job, name)?;
            Ok((
                entry.body.get().to_owned(),
                entry.lease,
                entry.delay,
                entry.place,
                entry.revision,
            ))
        });
        each.collect::<Result<Vec<_>, Failure>>()
    };
    let before = entries(&*two)?;
    let mark = two.queue_summary(&job, soon())?.mark;
    let compaction = two.queue_compact(&job, soon())?;
    ensure!(
        compaction.after <= compaction.before,
        "a compaction adds bytes: {compaction:?}"
    );
    ensure_eq!(entries(&*one)?, before, "items after a compaction");
    ensure_eq!(keys(&*one, &job)?, all, "keys after a compaction");
    let summary = one.queue_summary(&job, soon())?;
    ensure!(summary.mark >= mark, "the counter decreased");
    ensure_eq!(summary.bytes, compaction.after, "bytes after a compaction");
    ensure_eq!(acknowledge(&*one, &job, &[token])?, [Settled::Done], "the token");
    ensure_eq!(
        names(&take(&*two, &job, 9)?),
        ["edited", "pending"],
        "items pending"
    );
    Ok(())
}

fn queues_are_kept_apart(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let (a, b) = (job("a")?, job("b")?);
    put(harness, &*backend, &a, &["x"])?;
    put(harness, &*backend, &b, &["x", "y"])?;
    let taken = tokens(&take(&*backend, &a, 5)?);
    ensure_eq!(taken.len(), 1, "items taken of the first");
    ensure_eq!(
        acknowledge(&*backend, &b, &taken)?,
        [Settled::Unknown],
        "the outcome for the first queue's token in the second queue"
    );
    ensure_eq!(names(&take(&*backend, &b, 5)?), ["x", "y"], "items of the second");
    Ok(())
}

/// Pushes items of 1 KiB until the queue is full. Returns the number of items in the queue.
fn fill(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Result<usize, Failure> {
    let large = format!("\"{}\"", "x".repeat(1000));
    for n in 0..100 {
        let item = item(&format!("item-{n}"), &large, harness.clock().now())?;
        let put = backend.queue_put(job, &[item], Durability::Strict, None, soon());
        if put.is_err() {
            let error = refused(put, ErrorKind::QueueFull, "a push to a full queue")?;
            let hint = error.hint().unwrap_or_default();
            ensure!(
                error.why().contains("max_queue_size") && hint.contains("compact") && !error.is_transient(),
                "the error does not name the remedy: {error}, {hint}"
            );
            return Ok(n);
        }
    }
    Err(Failure::new("a queue with a maximum of 32 KiB accepted 100 KiB"))
}

fn a_full_queue_refuses_a_push(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let stored = fill(harness, &*one, &job)?;
    ensure!(
        stored >= 8,
        "a queue of 32 KiB is full after {stored} items of 1 KiB"
    );
    let bytes = two.queue_summary(&job, soon())?.bytes;
    ensure!(
        bytes <= 32 << 10,
        "a queue with a maximum of 32 KiB has {bytes} bytes"
    );
    let before = keys(&*two, &job)?;
    ensure_eq!(before.len(), stored, "items stored");
    // The batch is refused whole: the small item is not stored either.
    let large = format!("\"{}\"", "x".repeat(8000));
    let now = harness.clock().now();
    let items = [item("small", "1", now)?, item("large", &large, now)?];
    refused(
        one.queue_put(&job, &items, Durability::Strict, None, soon()),
        ErrorKind::QueueFull,
        "a batch to a full queue",
    )?;
    ensure_eq!(keys(&*two, &job)?, before, "items after the refused batch");
    let taken = tokens(&take(&*one, &job, stored)?);
    let settled = acknowledge(&*one, &job, &taken)?;
    ensure!(
        settled.iter().all(|settled| settled.is_done()),
        "settlements in a full queue failed: {settled:?}"
    );
    two.queue_compact(&job, soon())?;
    two.queue_put(&job, &items, Durability::Strict, None, soon())?;
    ensure_eq!(keys(&*one, &job)?, ["small", "large"], "items after settling");
    Ok(())
}

fn a_full_queue_is_settled(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    fill(harness, &*one, &job)?;
    let token = take_one(&*one, &job)?;
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Extend(MINUTE))?,
        Settled::Done,
        "an extension"
    );
    let large = format!("\"{}\"", "y".repeat(4000));
    let failed = item("item-0", &large, harness.clock().now())?;
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Fail(failed))?,
        Settled::Done,
        "a failure"
    );
    let reason = Some("z".repeat(4000));
    ensure_eq!(
        settle_item(&*two, &job, "item-1", Change::Park { reason })?,
        Settled::Done,
        "parking"
    );
    ensure_eq!(
        settle_item(&*two, &job, "item-2", Change::Remove)?,
        Settled::Done,
        "a removal"
    );
    let parked = entry(&*one, &job, "item-1")?;
    let reason = field(parked.body.get().as_bytes(), "parked_reason")?;
    ensure_eq!(reason.as_str().map(str::len), Some(4000), "length of the reason");
    Ok(())
}
