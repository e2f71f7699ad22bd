//! Promises of the queue.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage_layout::JobAddress;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, field, item, item_id, job, jobs, keys, moment, soon};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::log::Durability;
use crate::queue::{LeaseToken, PutReport, QueueEntry, Select};

topic! { "queue":
    items_are_kept_in_order "items are read in the order in which they were first put",
    an_absent_queue_is_empty "a queue that does not exist is empty, and reading makes nothing",
    a_known_key_is_merged "an item of a known key is merged: one item, both failures, the newest data, its place kept",
    a_key_twice_in_a_batch_is_merged "two items of one key in one batch are one item",
    a_taken_item_stays_stored "a taken item is still there, with its lease",
    a_taken_item_is_not_taken_twice "what one taker has, no other gets",
    threads_never_share_an_item "of eight threads that take, no two get one item, and none is left out",
    a_lease_does_not_go_by_the_wall_clock "a step of the wall clock neither ends a lease nor makes it last longer",
    a_lease_of_another_boot_has_ended "when the machine is started again, all leases have ended",
    a_lease_ends "when its lease ends an item is pending again, in its old place, under another token",
    an_acknowledged_item_is_gone "an acknowledged item is gone for good, and its token is then unknown",
    a_late_acknowledgement_counts "a token whose lease ended counts while no one else took the item",
    a_lost_lease_acknowledges_nothing "once another took the item the first token is unknown, and the item stays",
    an_item_given_back_is_pending "an item given back is pending at once, in its old place",
    a_merge_keeps_the_lease "a merge into a taken item keeps its lease",
    a_removed_item_is_gone "removal takes items whether taken or not, and says which were unknown",
    a_take_is_limited "a take gives no more than its limit, the oldest first",
    ids_select "a selection by key gives those, eligible or not",
    ineligible_items_are_left_out "an ineligible item is taken only if it is asked for",
    a_bound_leaves_newer_out "a bound on the last attempt leaves newer items out",
    a_signature_selects "a selection by signature gives those of that signature",
    queues_are_kept_apart "queues of two jobs do not mix",
}

const MINUTE: Duration = Duration::from_secs(60);

fn put(
    harness: &dyn Harness,
    backend: &dyn Backend,
    job: &JobAddress,
    names: &[&str],
) -> Result<PutReport, Failure> {
    let now = harness.clock().now();
    let items = names
        .iter()
        .map(|name| item(name, "1", now))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(backend.queue_put(job, &items, Durability::Strict, soon())?)
}

fn take(backend: &dyn Backend, job: &JobAddress, limit: usize) -> Result<Vec<QueueEntry>, Failure> {
    Ok(backend.queue_take(job, &Select::all(), limit, MINUTE, soon())?)
}

fn names(entries: &[QueueEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn tokens(entries: &[QueueEntry]) -> Vec<LeaseToken> {
    entries
        .iter()
        .filter_map(|entry| Some(entry.lease.as_ref()?.token.clone()))
        .collect()
}

fn items_are_kept_in_order(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let report = put(harness, &*one, &job, &["c", "a"])?;
    ensure_eq!((report.added, report.merged), (2, 0), "what the put did");
    put(harness, &*two, &job, &["b"])?;
    ensure_eq!(keys(&*one, &job)?, ["c", "a", "b"], "keys");
    let got = two.queue_get(&job, &item_id("a")?, soon())?;
    let got = got.ok_or_else(|| Failure::new("an item that was put is none"))?;
    ensure_eq!(
        field(got.body.get().as_bytes(), "item_data")?,
        serde_json::json!(1),
        "data"
    );
    ensure!(
        got.verified && got.lease.is_none(),
        "an item of ours is unverified or taken: {got:?}"
    );
    Ok(())
}

fn an_absent_queue_is_empty(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "keys");
    ensure!(
        backend.queue_get(&job, &item_id("a")?, soon())?.is_none(),
        "an item that was never put"
    );
    ensure_eq!(take(&*backend, &job, 5)?.len(), 0, "items taken");
    let settled = backend.queue_ack(&job, &[LeaseToken::random()], soon())?;
    ensure_eq!(
        (settled.settled.len(), settled.unknown.len()),
        (0, 1),
        "tokens settled and unknown"
    );
    ensure_eq!(jobs(&*backend, &job.repo)?.len(), 0, "jobs after that");
    Ok(())
}

fn a_known_key_is_merged(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    harness.clock().advance(MINUTE);
    let again = item("a", "2", harness.clock().now())?;
    let report = two.queue_put(&job, &[again], Durability::Strict, soon())?;
    ensure_eq!((report.added, report.merged), (0, 1), "what the second put did");
    ensure_eq!(keys(&*one, &job)?, ["a", "b"], "keys");
    let got = one.queue_get(&job, &item_id("a")?, soon())?;
    let got = got.ok_or_else(|| Failure::new("a merged item is none"))?;
    let body = got.body.get().as_bytes();
    ensure_eq!(field(body, "item_data")?, serde_json::json!(2), "data");
    ensure_eq!(field(body, "failure_count")?, serde_json::json!(2), "count");
    let history = field(body, "failure_history")?;
    ensure_eq!(history.as_array().map(Vec::len), Some(2), "failures");
    Ok(())
}

fn a_key_twice_in_a_batch_is_merged(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let report = put(harness, &*backend, &job, &["a", "b", "a"])?;
    ensure_eq!((report.added, report.merged), (2, 1), "what the put did");
    ensure_eq!(keys(&*backend, &job)?, ["a", "b"], "keys");
    let got = backend.queue_get(&job, &item_id("a")?, soon())?;
    let got = got.ok_or_else(|| Failure::new("a merged item is none"))?;
    ensure_eq!(
        field(got.body.get().as_bytes(), "failure_count")?,
        serde_json::json!(2),
        "count"
    );
    Ok(())
}

fn a_taken_item_stays_stored(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let taken = take(&*one, &job, 1)?;
    ensure_eq!(names(&taken), ["a"], "items taken");
    ensure_eq!(keys(&*two, &job)?, ["a", "b"], "keys");
    let got = two.queue_get(&job, &item_id("a")?, soon())?;
    let lease = got.and_then(|got| got.lease);
    ensure_eq!(
        lease,
        taken.first().and_then(|entry| entry.lease.clone()),
        "lease"
    );
    ensure_eq!(
        lease.map(|lease| lease.until),
        Some(moment(60_000)),
        "end of the lease"
    );
    Ok(())
}

fn a_taken_item_is_not_taken_twice(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    ensure_eq!(
        names(&take(&*one, &job, 2)?),
        ["a", "b"],
        "items of the first taker"
    );
    ensure_eq!(names(&take(&*two, &job, 2)?), ["c"], "items of the second taker");
    ensure_eq!(take(&*one, &job, 2)?.len(), 0, "items left");
    Ok(())
}

fn threads_never_share_an_item(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let all: Vec<String> = (0..40).map(|n| format!("item-{n}")).collect();
    put(
        harness,
        &*backend,
        &job,
        &all.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    let taken: Vec<Result<Vec<String>, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (backend, job, most) = (harness.open(), &job, all.len());
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    loop {
                        let taken = take(&*backend, job, 3)?;
                        if taken.is_empty() {
                            return Ok(mine);
                        }
                        mine.extend(names(&taken).into_iter().map(str::to_owned));
                        // Nothing else ends the loop where items are given again and again.
                        ensure!(
                            mine.len() <= most,
                            "one thread took {} items of {most}: taken ones are given again",
                            mine.len()
                        );
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
            })
            .collect()
    });
    let mut found = taken.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let distinct: HashSet<&String> = found.iter().collect();
    ensure_eq!(distinct.len(), found.len(), "distinct items of those taken");
    found.sort_by_key(|name| {
        name.trim_start_matches("item-")
            .parse::<u32>()
            .unwrap_or_default()
    });
    ensure_eq!(found, all, "items taken");
    Ok(())
}

fn a_lease_ends(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let first = take(&*one, &job, 1)?;
    harness.clock().advance(Duration::from_secs(59));
    ensure_eq!(
        names(&take(&*two, &job, 1)?),
        ["b"],
        "items a second before the end"
    );
    harness.clock().advance(Duration::from_secs(1));
    let second = take(&*two, &job, 1)?;
    ensure_eq!(names(&second), ["a"], "items at the end");
    ensure!(tokens(&first) != tokens(&second), "two takes have one token");
    Ok(())
}

fn a_lease_does_not_go_by_the_wall_clock(harness: &dyn Harness) -> Check {
    const YEAR: i64 = 365 * 86_400_000;
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    for years in [1, -1, 74] {
        put(harness, &*one, &job, &["a"])?;
        let first = take(&*one, &job, 1)?;
        ensure_eq!(names(&first), ["a"], "items");
        harness.clock().set(moment(years * YEAR));
        harness.clock().advance(Duration::from_secs(59));
        ensure_eq!(take(&*two, &job, 1)?.len(), 0, "items a second before the end");
        harness.clock().advance(Duration::from_secs(1));
        let second = take(&*two, &job, 1)?;
        ensure_eq!(names(&second), ["a"], "items at the end");
        two.queue_ack(&job, &tokens(&second), soon())?;
        harness.clock().set(moment(0));
    }
    Ok(())
}

fn a_lease_of_another_boot_has_ended(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let first = take(&*one, &job, 1)?;
    harness.clock().reboot();
    let second = take(&*two, &job, 1)?;
    ensure_eq!(names(&second), ["a"], "items after the boot");
    ensure!(tokens(&first) != tokens(&second), "two takes have one token");
    Ok(())
}

fn an_acknowledged_item_is_gone(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    let taken = tokens(&take(&*one, &job, 2)?);
    let settled = two.queue_ack(&job, &taken, soon())?;
    ensure_eq!(
        (settled.settled, settled.unknown.len()),
        (taken.clone(), 0),
        "tokens settled and unknown"
    );
    ensure_eq!(keys(&*one, &job)?, ["c"], "keys");
    let again = one.queue_ack(&job, &taken, soon())?;
    ensure_eq!(
        (again.settled.len(), again.unknown.len()),
        (0, 2),
        "tokens settled and unknown, again"
    );
    harness.clock().advance(2 * MINUTE);
    ensure_eq!(
        names(&take(&*two, &job, 5)?),
        ["c"],
        "items pending after the lease's end"
    );
    Ok(())
}

fn a_late_acknowledgement_counts(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a"])?;
    let taken = tokens(&take(&*backend, &job, 1)?);
    harness.clock().advance(2 * MINUTE);
    let settled = backend.queue_ack(&job, &taken, soon())?;
    ensure_eq!(settled.settled, taken, "tokens settled");
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "keys");
    Ok(())
}

fn a_lost_lease_acknowledges_nothing(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let first = tokens(&take(&*one, &job, 1)?);
    harness.clock().advance(2 * MINUTE);
    let second = tokens(&take(&*two, &job, 1)?);
    let lost = one.queue_ack(&job, &first, soon())?;
    ensure_eq!(
        (lost.settled.len(), lost.unknown),
        (0, first.clone()),
        "of the lost lease"
    );
    let lost = one.queue_nack(&job, &first, soon())?;
    ensure_eq!(lost.settled.len(), 0, "items given back under the lost lease");
    ensure_eq!(take(&*one, &job, 1)?.len(), 0, "items pending");
    ensure_eq!(
        two.queue_ack(&job, &second, soon())?.settled,
        second,
        "of the second lease"
    );
    Ok(())
}

fn an_item_given_back_is_pending(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let taken = tokens(&take(&*one, &job, 1)?);
    let settled = one.queue_nack(&job, &taken, soon())?;
    ensure_eq!(
        (settled.settled, settled.unknown.len()),
        (taken.clone(), 0),
        "tokens settled and unknown"
    );
    ensure_eq!(
        one.queue_nack(&job, &taken, soon())?.unknown,
        taken,
        "tokens unknown, again"
    );
    ensure_eq!(names(&take(&*two, &job, 5)?), ["a", "b"], "items pending");
    Ok(())
}

fn a_merge_keeps_the_lease(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let taken = tokens(&take(&*one, &job, 1)?);
    put(harness, &*two, &job, &["a"])?;
    ensure_eq!(take(&*two, &job, 1)?.len(), 0, "items pending after a merge");
    ensure_eq!(
        one.queue_ack(&job, &taken, soon())?.settled,
        taken,
        "tokens settled"
    );
    Ok(())
}

fn a_removed_item_is_gone(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    let taken = tokens(&take(&*one, &job, 1)?);
    let ids = [item_id("a")?, item_id("c")?, item_id("x")?];
    let settled = two.queue_remove(&job, &ids, soon())?;
    ensure_eq!(settled.settled, [item_id("a")?, item_id("c")?], "keys settled");
    ensure_eq!(settled.unknown, [item_id("x")?], "keys unknown");
    ensure_eq!(keys(&*one, &job)?, ["b"], "keys");
    ensure_eq!(
        one.queue_ack(&job, &taken, soon())?.unknown,
        taken,
        "tokens of what was removed"
    );
    put(harness, &*one, &job, &["a"])?;
    ensure_eq!(keys(&*two, &job)?, ["b", "a"], "keys, the removed one put again");
    Ok(())
}

fn a_take_is_limited(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["c", "b", "a"])?;
    ensure_eq!(take(&*backend, &job, 0)?.len(), 0, "items of a take of none");
    ensure_eq!(
        names(&take(&*backend, &job, 2)?),
        ["c", "b"],
        "items of a take of two"
    );
    ensure_eq!(
        names(&take(&*backend, &job, usize::MAX)?),
        ["a"],
        "items of a take of all"
    );
    Ok(())
}

fn ids_select(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b", "c"])?;
    put_ineligible(harness, &*backend, &job, "d")?;
    let select = Select::ids([item_id("d")?, item_id("b")?, item_id("x")?]);
    let taken = backend.queue_take(&job, &select, 5, MINUTE, soon())?;
    ensure_eq!(names(&taken), ["b", "d"], "items taken");
    Ok(())
}

fn put_ineligible(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress, name: &str) -> Check {
    let text = format!(r#"{{"item_id":"{name}","item_data":1,"reprocess_eligible":false}}"#);
    let raw = serde_json::value::RawValue::from_string(text)?;
    let item = crate::dead_letter::normalise(&raw, harness.clock().now())?;
    backend.queue_put(job, &[item], Durability::Strict, soon())?;
    Ok(())
}

fn ineligible_items_are_left_out(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put_ineligible(harness, &*backend, &job, "a")?;
    put(harness, &*backend, &job, &["b"])?;
    ensure_eq!(names(&take(&*backend, &job, 5)?), ["b"], "items taken");
    let taken = backend.queue_take(&job, &Select::all().ineligible_too(), 5, MINUTE, soon())?;
    ensure_eq!(names(&taken), ["a"], "items taken, ineligible ones too");
    Ok(())
}

fn a_bound_leaves_newer_out(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b"])?;
    let bound = harness.clock().now();
    harness.clock().advance(MINUTE);
    put(harness, &*backend, &job, &["b", "c"])?;
    let taken = backend.queue_take(&job, &Select::all().not_after(bound), 5, MINUTE, soon())?;
    ensure_eq!(names(&taken), ["a"], "items taken");
    Ok(())
}

fn a_signature_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a"])?;
    let text = r#"{"item_id":"b","item_data":1,"error_signature":"of its own"}"#;
    let raw = serde_json::value::RawValue::from_string(text.to_owned())?;
    let other = crate::dead_letter::normalise(&raw, harness.clock().now())?;
    backend.queue_put(&job, &[other], Durability::Strict, soon())?;
    let got = backend.queue_get(&job, &item_id("a")?, soon())?;
    let got = got.ok_or_else(|| Failure::new("an item that was put is none"))?;
    let signature = field(got.body.get().as_bytes(), "error_signature")?;
    let signature = signature
        .as_str()
        .ok_or_else(|| Failure::new("an item has no signature"))?;
    let select = Select::all().signature(signature);
    let taken = backend.queue_take(&job, &select, 5, MINUTE, soon())?;
    ensure_eq!(names(&taken), ["a"], "items of signature {signature}");
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
        backend.queue_ack(&b, &taken, soon())?.settled.len(),
        0,
        "tokens of the first settled in the second"
    );
    ensure_eq!(names(&take(&*backend, &b, 5)?), ["x", "y"], "items of the second");
    Ok(())
}
