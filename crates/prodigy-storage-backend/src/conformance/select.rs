//! Promises of selections: a take and a read with the same selection find the same items.

use std::time::Duration;

use prodigy_storage_layout::JobAddress;

use super::failure::{Failure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, MINUTE, item_id, job, moment, names, selected, settle, settle_item, soon};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::log::Durability;
use crate::queue::{Change, Claim, Eligible, Select};

topic! { "queue":
    keys_select "a selection by key has the items with these keys, eligible or not",
    eligibility_selects "a selection has eligible items, or parked ones, or both",
    a_time_selects "bounds on the last attempt exclude newer and older items",
    a_signature_selects "a selection by signature has the items with that signature",
    an_error_type_selects "a selection by error type compares the last failure",
    attempts_select "a selection by attempts compares the number of failures",
    a_place_selects "a bound on the place excludes later items",
    conditions_hold_together "an item has to meet every condition of a selection",
}

/// Pushes an item with these additional fields; its last attempt is now.
fn put(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress, name: &str, fields: &str) -> Check {
    let now = serde_json::to_string(&harness.clock().now())?;
    let text = format!(r#"{{"item_id":"{name}","item_data":1,"last_attempt":{now}{fields}}}"#);
    let raw = serde_json::value::RawValue::from_string(text)?;
    let item = crate::dead_letter::normalise(&raw)?;
    backend.queue_put(job, &[item], Durability::Strict, None, soon())?;
    Ok(())
}

/// Checks that a read and a take with this selection return the wanted items.
fn gives(backend: &dyn Backend, job: &JobAddress, select: &Select, wanted: &[&str]) -> Check {
    ensure_eq!(
        selected(backend, job, select)?,
        wanted,
        "items read by {select:?}"
    );
    let taken = backend.queue_take(job, select, 9, MINUTE, None, soon())?;
    ensure_eq!(names(&taken), wanted, "items taken by {select:?}");
    for entry in taken {
        let token = entry.lease.map(|lease| lease.token);
        let token = token.ok_or_else(|| Failure::new("an item was taken without a lease"))?;
        let delay = Duration::ZERO;
        settle(backend, job, Claim::Lease(token), Change::Release { delay })?;
    }
    Ok(())
}

fn keys_select(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for name in ["a", "b", "c"] {
        put(harness, &*backend, &job, name, "")?;
    }
    put(harness, &*backend, &job, "d", r#","reprocess_eligible":false"#)?;
    // The ids are given in another order and one of them twice; the items come in the order of the queue, each
    // once.
    let ids = ["d", "b", "x", "b"]
        .into_iter()
        .map(item_id)
        .collect::<Result<Vec<_>, _>>()?;
    gives(&*backend, &job, &Select::ids(ids), &["b", "d"])?;
    gives(&*backend, &job, &Select::ids([]), &[])
}

fn eligibility_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for (name, fields) in [
        ("a", r#","reprocess_eligible":false"#),
        ("b", r#","manual_review_required":true"#),
        ("c", ""),
        ("d", ""),
    ] {
        put(harness, &*backend, &job, name, fields)?;
    }
    settle_item(&*backend, &job, "d", Change::Park { reason: None })?;
    gives(&*backend, &job, &Select::eligible(), &["b", "c"])?;
    gives(&*backend, &job, &Select::any().with(Eligible::No), &["a", "d"])?;
    settle_item(&*backend, &job, "d", Change::Unpark)?;
    gives(&*backend, &job, &Select::any().with(Eligible::No), &["a"])?;
    ensure_eq!(
        selected(&*backend, &job, &Select::any())?,
        ["a", "b", "c", "d"],
        "items read without a condition"
    );
    Ok(())
}

fn a_time_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for name in ["a", "b", "c"] {
        put(harness, &*backend, &job, name, "")?;
        harness.clock().advance(MINUTE);
    }
    // Item b fails again, after the last attempt of c.
    put(harness, &*backend, &job, "b", "")?;
    let bound = moment(120_000);
    gives(&*backend, &job, &Select::eligible().not_after(bound), &["a", "c"])?;
    gives(
        &*backend,
        &job,
        &Select::eligible().not_before(bound),
        &["b", "c"],
    )?;
    let age = Select::eligible().older_than(2 * MINUTE, harness.clock().now());
    gives(&*backend, &job, &age, &["a"])
}

fn a_signature_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let failed = |message: &str| {
        format!(r#","failure_history":[{{"error_type":"Exit","error_message":"{message}"}}]"#)
    };
    put(harness, &*backend, &job, "a", &failed("code 1"))?;
    put(
        harness,
        &*backend,
        &job,
        "b",
        r#","error_signature":"of its own""#,
    )?;
    put(harness, &*backend, &job, "c", &failed("code 20"))?;
    put(harness, &*backend, &job, "d", "")?;
    let select = |signature: &str| Select::eligible().signature(signature);
    gives(&*backend, &job, &select("Exit: code <n>"), &["a", "c"])?;
    gives(&*backend, &job, &select("of its own"), &["b"])?;
    gives(&*backend, &job, &select("another"), &[])
}

fn an_error_type_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let failed = |kind: &str| format!(r#","failure_history":[{{"error_type":"{kind}"}}]"#);
    put(harness, &*backend, &job, "a", &failed("Timeout"))?;
    put(harness, &*backend, &job, "b", &failed("Exit"))?;
    put(harness, &*backend, &job, "c", &failed("Timeout"))?;
    harness.clock().advance(MINUTE);
    put(harness, &*backend, &job, "c", &failed("Exit"))?;
    gives(&*backend, &job, &Select::eligible().error_type("Timeout"), &["a"])?;
    gives(
        &*backend,
        &job,
        &Select::eligible().error_type("Exit"),
        &["b", "c"],
    )
}

fn attempts_select(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, "a", "")?;
    put(harness, &*backend, &job, "b", r#","failure_count":3"#)?;
    put(harness, &*backend, &job, "c", "")?;
    harness.clock().advance(MINUTE);
    put(harness, &*backend, &job, "c", "")?;
    gives(
        &*backend,
        &job,
        &Select::eligible().attempts(2..=u64::MAX),
        &["b", "c"],
    )?;
    gives(&*backend, &job, &Select::eligible().attempts(0..=2), &["a", "c"])?;
    gives(&*backend, &job, &Select::eligible().attempts(3..=3), &["b"])
}

fn a_place_selects(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for name in ["a", "b", "c"] {
        put(harness, &*backend, &job, name, "")?;
    }
    let bound = backend.queue_summary(&job, soon())?.mark;
    let select = Select::eligible().until(bound);
    put(harness, &*backend, &job, "d", "")?;
    let delay = Duration::ZERO;
    settle_item(&*backend, &job, "b", Change::Release { delay })?;
    gives(&*backend, &job, &select, &["a", "c"])?;
    // The take gave the items new places, after the bound.
    gives(&*backend, &job, &select, &[])
}

fn conditions_hold_together(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let failed = r#","failure_history":[{"error_type":"Exit"}]"#;
    put(harness, &*backend, &job, "a", failed)?;
    put(
        harness,
        &*backend,
        &job,
        "b",
        &format!(r#"{failed},"failure_count":2"#),
    )?;
    put(
        harness,
        &*backend,
        &job,
        "c",
        &format!(r#"{failed},"failure_count":2,"reprocess_eligible":false"#),
    )?;
    put(harness, &*backend, &job, "d", r#","failure_count":2"#)?;
    let ids = ["a", "b", "c"]
        .into_iter()
        .map(item_id)
        .collect::<Result<Vec<_>, _>>()?;
    let select = Select::ids(ids)
        .with(Eligible::Yes)
        .error_type("Exit")
        .attempts(2..=9);
    gives(&*backend, &job, &select, &["b"])
}
