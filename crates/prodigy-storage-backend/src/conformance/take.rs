//! Promises of takes and leases.

use std::collections::HashSet;
use std::time::Duration;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::queue::push;
use super::tools::{
    Check, MINUTE, acknowledge, entry, item, item_id, job, keys, moment, names, put, release, settle_item,
    settle_token, soon, take, tokens,
};
use crate::clock::Clock;
use crate::queue::{Change, ItemState, Select};

topic! { "queue":
    a_taken_item_stays_stored "a taken item is still stored, with its lease",
    a_taken_item_is_not_taken_twice "an item that a worker has taken is given to no other worker",
    threads_never_share_an_item "of eight threads that take items, no two get the same item, and every item is taken",
    a_lease_does_not_go_by_the_wall_clock "a step of the wall clock neither ends nor prolongs a lease",
    a_lease_of_another_boot_has_ended "after a restart of the machine all leases have ended",
    a_lease_ends "when its lease ends, an item is pending again behind items that were not taken, and is taken under another token",
    a_take_is_limited "a take returns at most its limit of items, in the order of their places",
    items_are_taken_by_place "an item that was taken, released or failed is behind all others",
    a_bounded_run_gets_each_item_once "a run that is bounded by the counter at its start gets the items that existed then, each once",
}

fn a_taken_item_stays_stored(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let taken = take(&*one, &job, 1)?;
    ensure_eq!(names(&taken), ["a"], "items taken");
    ensure_eq!(keys(&*two, &job)?, ["a", "b"], "keys");
    let got = entry(&*two, &job, "a")?;
    ensure_eq!(got.state(harness.clock()), ItemState::Leased, "state");
    let given = taken
        .first()
        .map(|entry| (entry.lease.clone(), entry.place, entry.revision));
    ensure_eq!(
        Some((got.lease.clone(), got.place, got.revision)),
        given,
        "lease, place and revision"
    );
    ensure_eq!(
        got.lease.map(|lease| lease.until),
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
        "items of the first worker"
    );
    ensure_eq!(names(&take(&*two, &job, 2)?), ["c"], "items of the second worker");
    ensure_eq!(take(&*one, &job, 2)?.len(), 0, "items left");
    let by_id = Select::ids([item_id("a")?]);
    ensure_eq!(
        two.queue_take(&job, &by_id, 1, MINUTE, None, soon())?.len(),
        0,
        "items left, by key"
    );
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
                        // If taken items are given out again, the loop would never end; this check ends it.
                        ensure!(
                            mine.len() <= most,
                            "one thread took {} items of {most}: taken items are given out again",
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
        acknowledge(&*two, &job, &tokens(&second))?;
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

fn a_lease_ends(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    let first = take(&*one, &job, 1)?;
    harness.clock().advance(Duration::from_secs(59));
    ensure_eq!(
        names(&take(&*two, &job, 1)?),
        ["b"],
        "items a second before the end"
    );
    harness.clock().advance(Duration::from_secs(1));
    let second = take(&*two, &job, 9)?;
    ensure_eq!(names(&second), ["c", "a"], "items at the end");
    ensure!(
        second
            .iter()
            .all(|entry| entry.lease != first.first().and_then(|first| first.lease.clone())),
        "two takes have one token"
    );
    Ok(())
}

fn a_take_is_limited(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["c", "b", "a"])?;
    ensure_eq!(take(&*backend, &job, 0)?.len(), 0, "items of a take with limit 0");
    ensure_eq!(
        names(&take(&*backend, &job, 2)?),
        ["c", "b"],
        "items of a take with limit 2"
    );
    ensure_eq!(
        names(&take(&*backend, &job, usize::MAX)?),
        ["a"],
        "items of a take of all items"
    );
    Ok(())
}

fn items_are_taken_by_place(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(
        harness,
        &*one,
        &job,
        &["ended", "failed", "released", "operated", "d", "e"],
    )?;
    let taken = tokens(&take(&*one, &job, 3)?);
    let [_, failed, released] = taken.as_slice() else {
        return Err(Failure::new(format!(
            "{} items were taken, not three",
            taken.len()
        )));
    };
    let failure = item("failed", "2", harness.clock().now())?;
    settle_token(&*two, &job, failed, Change::Fail(failure))?;
    settle_token(&*one, &job, released, release(Duration::ZERO))?;
    settle_item(&*two, &job, "operated", release(Duration::ZERO))?;
    put(harness, &*one, &job, &["new"])?;
    harness.clock().advance(MINUTE);
    let found = take(&*two, &job, 9)?;
    let wanted = ["d", "e", "ended", "failed", "released", "operated", "new"];
    ensure_eq!(names(&found), wanted, "items by place");
    ensure!(
        found.is_sorted_by(|a, b| a.place < b.place),
        "the new places do not rise in the order of taking"
    );
    Ok(())
}

fn a_bounded_run_gets_each_item_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(
        harness,
        &*one,
        &job,
        &["failed", "released", "kept", "ended", "done", "parked", "known"],
    )?;
    let run = Select::eligible().until(one.queue_summary(&job, soon())?.mark);
    put(harness, &*two, &job, &["new"])?;
    push(harness, &*two, &job, "known", "2")?;
    let mut seen = Vec::new();
    loop {
        let taken = one.queue_take(&job, &run, 1, MINUTE, None, soon())?;
        let (Some(entry), Some(token)) = (taken.first(), tokens(&taken).first().cloned()) else {
            break;
        };
        let name = entry.id.as_str().to_owned();
        ensure!(!seen.contains(&name), "the run got {name} twice");
        match name.as_str() {
            "failed" => {
                let failure = item("failed", "2", harness.clock().now())?;
                settle_token(&*one, &job, &token, Change::Fail(failure))?;
            }
            "released" => {
                settle_token(&*one, &job, &token, release(Duration::ZERO))?;
            }
            "kept" => {
                push(harness, &*two, &job, "kept", "2")?;
                settle_token(&*one, &job, &token, Change::Remove)?;
            }
            "ended" => harness.clock().advance(MINUTE),
            "parked" => {
                settle_token(&*one, &job, &token, Change::Park { reason: None })?;
                settle_item(&*two, &job, "parked", Change::Unpark)?;
            }
            _ => {
                settle_token(&*one, &job, &token, Change::Remove)?;
            }
        }
        seen.push(name);
    }
    ensure_eq!(
        seen,
        ["failed", "released", "kept", "ended", "done", "parked", "known"],
        "items of the run"
    );
    harness.clock().advance(MINUTE);
    ensure_eq!(
        names(&take(&*two, &job, 9)?),
        ["new", "failed", "released", "kept", "ended", "parked"],
        "items of the next run"
    );
    Ok(())
}
