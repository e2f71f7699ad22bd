//! Promises of settlements that change the contents of an item.

use std::time::Duration;

use serde_json::json;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::settle::{edited, failed, stored};
use super::tools::{
    Check, entry, item, item_id, job, keys, names, put, refused, release, settle, settle_item, settle_token,
    soon, take, take_one,
};
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::log::Durability;
use crate::queue::{Change, Claim, LeaseToken, QueueMark, Settled, Settlement};

topic! { "queue":
    a_failed_item_is_merged_and_released "a failure under a token is merged, ends the lease, and moves the item to the end, in one step",
    a_failure_may_park "a failure of an item that is not eligible parks it with the reason, in the same step",
    a_push_never_unparks "a push leaves a parked item parked",
    a_failure_counts_with_its_token_only "a failure under a token that is unknown is not merged",
    a_parked_item_is_not_taken "a parked item keeps its failures, gets the reason, ends its lease, and is not taken",
    only_a_parked_item_is_unparked "unparking an item that is not parked returns `Already`, and changes neither the item nor its lease",
    an_unparked_item_is_taken "an unparked item is eligible again, and keeps its place",
    an_edit_replaces_the_contents "an edit replaces the contents, ends the lease, and keeps the place",
    a_wrong_change_is_refused "an edit or a failure that is not an item or has another key is refused, and the call changes nothing",
    a_large_edit_is_refused (RecordLimit) "an edit that makes an item larger than the limit is refused, and the call changes nothing",
    a_revision_of_an_item_is_compared "a change under a revision is made only if that is the present one",
}

fn a_failed_item_is_merged_and_released(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let token = take_one(&*one, &job)?;
    harness.clock().advance(Duration::from_secs(1));
    ensure_eq!(
        settle_token(&*one, &job, &token, failed(harness, "a", "2")?)?,
        Settled::Done,
        "the failure"
    );
    ensure_eq!(stored(&*two, &job, "a", "failure_count")?, json!(2), "failures");
    ensure_eq!(stored(&*two, &job, "a", "item_data")?, json!(1), "data");
    ensure!(
        entry(&*two, &job, "a")?.lease.is_none(),
        "the item is still leased"
    );
    ensure_eq!(names(&take(&*two, &job, 5)?), ["b", "a"], "items pending");
    Ok(())
}

fn a_failure_may_park(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let token = take_one(&*one, &job)?;
    let text = r#"{"item_id":"a","item_data":null,"failure_history":[{"error_type":"Last"}],"reprocess_eligible":false,"parked_reason":"too often"}"#;
    let raw = serde_json::value::RawValue::from_string(text.to_owned())?;
    let last = crate::dead_letter::normalise(&raw)?;
    settle_token(&*one, &job, &token, Change::Fail(last))?;
    for (name, wanted) in [
        ("failure_count", json!(2)),
        ("item_data", json!(1)),
        ("reprocess_eligible", json!(false)),
        ("parked_reason", json!("too often")),
    ] {
        ensure_eq!(stored(&*two, &job, "a", name)?, wanted, "{name}");
    }
    ensure_eq!(take(&*two, &job, 5)?.len(), 0, "items pending");
    Ok(())
}

fn a_push_never_unparks(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let reason = Some("a reason".to_owned());
    settle_item(&*one, &job, "a", Change::Park { reason })?;
    let again = item("a", "2", harness.clock().now())?;
    two.queue_put(&job, &[again], Durability::Strict, None, soon())?;
    ensure_eq!(take(&*two, &job, 5)?.len(), 0, "items pending");
    ensure_eq!(stored(&*one, &job, "a", "failure_count")?, json!(2), "failures");
    ensure_eq!(
        stored(&*one, &job, "a", "parked_reason")?,
        json!("a reason"),
        "the reason"
    );
    Ok(())
}

fn a_failure_counts_with_its_token_only(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a"])?;
    let token = take_one(&*backend, &job)?;
    settle_token(&*backend, &job, &token, failed(harness, "a", "2")?)?;
    for token in [token, LeaseToken::random()] {
        ensure_eq!(
            settle_token(&*backend, &job, &token, failed(harness, "a", "3")?)?,
            Settled::Unknown,
            "a failure under an unknown token"
        );
    }
    ensure_eq!(
        stored(&*backend, &job, "a", "failure_count")?,
        json!(2),
        "failures"
    );
    Ok(())
}

fn a_parked_item_is_not_taken(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let token = take_one(&*one, &job)?;
    let place = entry(&*one, &job, "a")?.place;
    let reason = Some("needs a \"licence\"".to_owned());
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Park { reason })?,
        Settled::Done,
        "parking"
    );
    let parked = entry(&*two, &job, "a")?;
    ensure!(parked.lease.is_none(), "the item is still leased");
    ensure_eq!(parked.place, place, "place");
    for (name, wanted) in [
        ("reprocess_eligible", json!(false)),
        ("manual_review_required", json!(true)),
        ("parked_reason", json!("needs a \"licence\"")),
        ("failure_count", json!(1)),
        ("item_data", json!(1)),
    ] {
        ensure_eq!(stored(&*two, &job, "a", name)?, wanted, "{name}");
    }
    ensure_eq!(names(&take(&*two, &job, 5)?), ["b"], "items pending");
    settle_item(&*two, &job, "a", Change::Park { reason: None })?;
    ensure_eq!(
        stored(&*two, &job, "a", "parked_reason")?,
        json!("needs a \"licence\""),
        "the reason after parking without one"
    );
    Ok(())
}

fn only_a_parked_item_is_unparked(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let token = take_one(&*one, &job)?;
    for name in ["a", "b"] {
        let before = entry(&*two, &job, name)?;
        ensure_eq!(
            settle_item(&*two, &job, name, Change::Unpark)?,
            Settled::Already,
            "unparking {name}"
        );
        let after = entry(&*one, &job, name)?;
        ensure_eq!(
            (after.body.get(), after.lease, after.revision, after.place),
            (before.body.get(), before.lease, before.revision, before.place),
            "item {name} after that"
        );
    }
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Done,
        "the acknowledgement under the lease"
    );
    Ok(())
}

fn an_unparked_item_is_taken(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let reason = Some("a reason".to_owned());
    settle_item(&*one, &job, "a", Change::Park { reason })?;
    ensure_eq!(
        settle_item(&*two, &job, "a", Change::Unpark)?,
        Settled::Done,
        "unparking"
    );
    for (name, wanted) in [
        ("reprocess_eligible", json!(true)),
        ("manual_review_required", json!(false)),
        ("parked_reason", json!(null)),
        ("failure_count", json!(1)),
    ] {
        ensure_eq!(stored(&*two, &job, "a", name)?, wanted, "{name}");
    }
    ensure_eq!(names(&take(&*two, &job, 5)?), ["a", "b"], "items pending");
    Ok(())
}

fn an_edit_replaces_the_contents(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let token = take_one(&*one, &job)?;
    let before = entry(&*one, &job, "a")?;
    let text = r#"{"item_id":"a","item_data":{"fixed":true},"mine":[1]}"#;
    let contents = serde_json::value::RawValue::from_string(text.to_owned())?;
    ensure_eq!(
        settle_item(&*two, &job, "a", Change::Edit(contents))?,
        Settled::Done,
        "the edit"
    );
    let after = entry(&*one, &job, "a")?;
    ensure!(after.lease.is_none(), "the item is still leased");
    ensure_eq!(after.place, before.place, "place");
    ensure!(after.revision > before.revision, "the revision stays");
    for (name, wanted) in [
        ("item_data", json!({"fixed": true})),
        ("mine", json!([1])),
        // Fields that the edit leaves out are filled as in a push.
        ("failure_count", json!(1)),
        ("failure_history", json!([])),
        ("reprocess_eligible", json!(true)),
    ] {
        ensure_eq!(stored(&*two, &job, "a", name)?, wanted, "{name}");
    }
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Unknown,
        "the token after the edit"
    );
    Ok(())
}

fn a_wrong_change_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b"])?;
    let token = take_one(&*backend, &job)?;
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned());
    let id = item_id("a")?;
    let broken = crate::queue::QueueItem {
        id: id.clone(),
        body: raw("{}")?,
    };
    let wrong = [
        (Claim::Item(id.clone()), edited(harness, "b", "2")?),
        (Claim::Lease(token.clone()), edited(harness, "b", "2")?),
        (Claim::Lease(token.clone()), failed(harness, "b", "2")?),
        (Claim::Item(id.clone()), Change::Edit(raw("[]")?)),
        (Claim::Item(id.clone()), Change::Edit(raw(r#"{"item_id":"a"}"#)?)),
        (Claim::Item(id), Change::Fail(broken)),
    ];
    for (claim, change) in wrong {
        let what = format!("{claim:?}: {change:?}");
        let calls = [
            Settlement::new(Claim::Item(item_id("b")?), Change::Remove),
            Settlement::new(claim, change),
        ];
        refused(
            backend.queue_settle(&job, &calls, None, soon()),
            ErrorKind::InvalidInput,
            &what,
        )?;
        ensure_eq!(keys(&*backend, &job)?, ["a", "b"], "keys after {what}");
    }
    ensure_eq!(
        settle_token(&*backend, &job, &token, Change::Remove)?,
        Settled::Done,
        "the token after that"
    );
    Ok(())
}

fn a_large_edit_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let limit = harness
        .record_limit()
        .ok_or_else(|| Failure::new("the limit is unknown"))?;
    put(harness, &*backend, &job, &["a", "b"])?;
    let large = format!("\"{}\"", "x".repeat(limit));
    for change in [edited(harness, "a", &large)?, failed(harness, "a", &large)?] {
        let calls = [
            Settlement::new(Claim::Item(item_id("b")?), Change::Remove),
            Settlement::new(Claim::Item(item_id("a")?), change),
        ];
        refused(
            backend.queue_settle(&job, &calls, None, soon()),
            ErrorKind::TooLarge,
            "a change that makes an item too large",
        )?;
    }
    ensure_eq!(keys(&*backend, &job)?, ["a", "b"], "keys");
    Ok(())
}

fn a_revision_of_an_item_is_compared(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let id = item_id("a")?;
    let on = |revision: QueueMark| Claim::Revision(id.clone(), revision);
    let first = entry(&*one, &job, "a")?.revision;
    // A take and a release do not change the contents.
    let token = take_one(&*two, &job)?;
    settle_token(&*two, &job, &token, release(Duration::ZERO))?;
    ensure_eq!(
        settle(&*one, &job, on(first), edited(harness, "a", "2")?)?,
        Settled::Done,
        "an edit of the present revision"
    );
    for change in [
        edited(harness, "a", "3")?,
        failed(harness, "a", "3")?,
        Change::Park { reason: None },
        Change::Unpark,
        release(Duration::ZERO),
        Change::Remove,
    ] {
        let what = format!("{change:?} of an old revision");
        ensure_eq!(
            settle(&*two, &job, on(first), change)?,
            Settled::Changed,
            "{what}"
        );
    }
    ensure_eq!(stored(&*two, &job, "a", "item_data")?, json!(2), "data");
    let second = entry(&*two, &job, "a")?.revision;
    ensure_eq!(
        settle(&*two, &job, on(second), Change::Remove)?,
        Settled::Done,
        "a removal of the present revision"
    );
    ensure_eq!(
        settle(&*two, &job, on(second), Change::Remove)?,
        Settled::Unknown,
        "a removal of an item that was removed"
    );
    Ok(())
}
