//! Promises of settlements: changes of stored items.

use std::time::Duration;

use prodigy_storage_layout::JobAddress;
use serde_json::json;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, MINUTE, acknowledge, entry, field, item, item_id, job, keys, moment, names, put, refused, release,
    settle_item, settle_token, soon, take, take_one, tokens,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::log::Durability;
use crate::queue::{Change, Claim, ItemState, PutReport, Select, Settled, Settlement};

topic! { "queue":
    an_acknowledged_item_is_gone "an acknowledged item is removed for good, and its token is then unknown",
    a_late_acknowledgement_counts "a token is valid after its lease ended, until another worker takes the item",
    a_lost_lease_settles_nothing "once another worker took the item, the first token is unknown for every change, and the item is unchanged",
    changed_contents_stay "an item that was changed while it was taken is kept and pending after its acknowledgement, which reports that",
    an_extension_lasts_from_now "an extended lease keeps its token and the item's place, and lasts from now on",
    a_late_extension_counts "an ended lease can be extended until another worker takes the item",
    an_extension_needs_its_token "an extension without a token is refused, and changes nothing",
    a_released_item_is_pending_at_the_end "a released item is pending at once, behind all others, and its token is unknown",
    a_delay_holds_an_item "an item that is released with a delay is pending only after the delay",
    a_delay_does_not_go_by_the_wall_clock "a step of the wall clock neither ends nor prolongs a delay",
    a_delay_of_another_boot_has_ended "after a restart of the machine no item is delayed",
    a_later_release_replaces_the_delay "a release replaces the delay of an earlier one",
    an_operator_ends_a_lease "a lease can be ended by the item's key, without its token",
    a_removed_item_is_gone "a removal by key removes items whether taken or not, and reports unknown keys",
    settlements_see_each_other "settlements of one call are made in their order",
    a_removed_key_is_new_again "an item that was removed and is pushed again is a new item at the end",
}

pub(super) fn failed(harness: &dyn Harness, name: &str, data: &str) -> Result<Change, Failure> {
    Ok(Change::Fail(item(name, data, harness.clock().now())?))
}

pub(super) fn edited(harness: &dyn Harness, name: &str, data: &str) -> Result<Change, Failure> {
    Ok(Change::Edit(item(name, data, harness.clock().now())?.body))
}

/// Reads a field of a stored item.
pub(super) fn stored(
    backend: &dyn Backend,
    job: &JobAddress,
    name: &str,
    of: &str,
) -> Result<serde_json::Value, Failure> {
    field(entry(backend, job, name)?.body.get().as_bytes(), of)
}

fn an_acknowledged_item_is_gone(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    let taken = tokens(&take(&*one, &job, 2)?);
    let settled = acknowledge(&*two, &job, &taken)?;
    ensure_eq!(
        settled,
        [Settled::Done, Settled::Done],
        "the outcomes for the tokens"
    );
    ensure_eq!(keys(&*one, &job)?, ["c"], "keys");
    let again = acknowledge(&*one, &job, &taken)?;
    ensure_eq!(
        again,
        [Settled::Unknown, Settled::Unknown],
        "the outcomes for the tokens the second time"
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
    let token = take_one(&*backend, &job)?;
    harness.clock().advance(2 * MINUTE);
    ensure_eq!(
        acknowledge(&*backend, &job, &[token])?,
        [Settled::Done],
        "the outcome for the token"
    );
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "keys");
    Ok(())
}

fn a_lost_lease_settles_nothing(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let first = take_one(&*one, &job)?;
    harness.clock().advance(2 * MINUTE);
    let second = take_one(&*two, &job)?;
    let before = entry(&*two, &job, "a")?;
    for change in [
        Change::Remove,
        Change::Extend(5 * MINUTE),
        release(Duration::ZERO),
        failed(harness, "a", "2")?,
        Change::Park { reason: None },
        Change::Unpark,
        edited(harness, "a", "2")?,
    ] {
        let what = format!("{change:?} under the lost lease");
        ensure_eq!(
            settle_token(&*one, &job, &first, change)?,
            Settled::Unknown,
            "{what}"
        );
    }
    let after = entry(&*one, &job, "a")?;
    ensure_eq!(
        (after.body.get(), after.lease, after.place, after.revision),
        (before.body.get(), before.lease, before.place, before.revision),
        "the item after the change"
    );
    ensure_eq!(
        settle_token(&*two, &job, &second, Change::Remove)?,
        Settled::Done,
        "the outcome for the second token"
    );
    Ok(())
}

fn changed_contents_stay(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let again = |data: &str| {
        let item = item("a", data, harness.clock().now())?;
        Ok::<_, Failure>(two.queue_put(&job, &[item], Durability::Strict, None, soon())?)
    };
    // A push before the take: the worker has seen its failure.
    again("2")?;
    let token = take_one(&*one, &job)?;
    again("3")?;
    settle_token(&*one, &job, &token, Change::Extend(MINUTE))?;
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Kept,
        "the acknowledgement of an item that was changed since it was taken"
    );
    let kept = entry(&*two, &job, "a")?;
    ensure!(kept.lease.is_none(), "the item is still leased: {:?}", kept.lease);
    ensure_eq!(stored(&*two, &job, "a", "failure_count")?, json!(3), "failures");
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Unknown,
        "the token after the acknowledgement"
    );
    let taken = take(&*two, &job, 5)?;
    ensure_eq!(names(&taken), ["b", "a"], "items pending");
    let settled = acknowledge(&*two, &job, &tokens(&taken))?;
    ensure_eq!(
        settled,
        [Settled::Done, Settled::Done],
        "the next acknowledgement"
    );
    // A removal by key does not check whether the contents changed.
    put(harness, &*one, &job, &["a"])?;
    take_one(&*one, &job)?;
    again("2")?;
    ensure_eq!(
        settle_item(&*one, &job, "a", Change::Remove)?,
        Settled::Done,
        "removal by key of a changed item"
    );
    Ok(())
}

fn an_extension_lasts_from_now(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let token = take_one(&*one, &job)?;
    let before = entry(&*two, &job, "a")?;
    harness.clock().advance(Duration::from_secs(59));
    ensure_eq!(
        settle_token(&*two, &job, &token, Change::Extend(MINUTE))?,
        Settled::Done,
        "the extension"
    );
    let after = entry(&*one, &job, "a")?;
    ensure_eq!(
        (after.place, after.revision),
        (before.place, before.revision),
        "place and revision"
    );
    ensure_eq!(after.lease.map(|lease| lease.token), Some(token.clone()), "token");
    harness.clock().advance(Duration::from_secs(59));
    ensure_eq!(
        take(&*two, &job, 1)?.len(),
        0,
        "items a second before the new end"
    );
    // An extension may also make the lease shorter.
    settle_token(&*one, &job, &token, Change::Extend(Duration::from_secs(2)))?;
    harness.clock().advance(Duration::from_secs(2));
    ensure_eq!(names(&take(&*two, &job, 1)?), ["a"], "items at the new end");
    Ok(())
}

fn a_late_extension_counts(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let token = take_one(&*one, &job)?;
    harness.clock().advance(2 * MINUTE);
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Extend(MINUTE))?,
        Settled::Done,
        "the extension"
    );
    ensure_eq!(take(&*two, &job, 1)?.len(), 0, "items pending");
    harness.clock().reboot();
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Extend(MINUTE))?,
        Settled::Done,
        "the extension after a boot"
    );
    ensure_eq!(take(&*two, &job, 1)?.len(), 0, "items pending after the boot");
    Ok(())
}

fn an_extension_needs_its_token(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b"])?;
    let taken = take(&*backend, &job, 1)?;
    let revision = entry(&*backend, &job, "a")?.revision;
    for claim in [
        Claim::Item(item_id("a")?),
        Claim::Revision(item_id("a")?, revision),
        Claim::Item(item_id("x")?),
    ] {
        let calls = [
            Settlement::new(Claim::Item(item_id("b")?), Change::Remove),
            Settlement::new(claim, Change::Extend(MINUTE)),
        ];
        refused(
            backend.queue_settle(&job, &calls, None, soon()),
            ErrorKind::InvalidInput,
            "an extension without a token",
        )?;
    }
    ensure_eq!(keys(&*backend, &job)?, ["a", "b"], "keys");
    ensure_eq!(
        entry(&*backend, &job, "a")?.lease,
        taken.first().and_then(|entry| entry.lease.clone()),
        "lease"
    );
    Ok(())
}

fn a_released_item_is_pending_at_the_end(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let token = take_one(&*one, &job)?;
    put(harness, &*two, &job, &["c"])?;
    ensure_eq!(
        settle_token(&*one, &job, &token, release(Duration::ZERO))?,
        Settled::Done,
        "the release"
    );
    ensure_eq!(
        settle_token(&*one, &job, &token, release(Duration::ZERO))?,
        Settled::Unknown,
        "the release again"
    );
    ensure_eq!(names(&take(&*two, &job, 5)?), ["b", "c", "a"], "items pending");
    Ok(())
}

fn a_delay_holds_an_item(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let token = take_one(&*one, &job)?;
    settle_token(&*one, &job, &token, release(MINUTE))?;
    ensure_eq!(
        entry(&*two, &job, "a")?.state(harness.clock()),
        ItemState::Delayed,
        "state"
    );
    harness.clock().advance(Duration::from_secs(59));
    ensure_eq!(
        names(&take(&*two, &job, 5)?),
        ["b"],
        "items a second before the end"
    );
    let by_key = Select::ids([item_id("a")?]);
    ensure_eq!(
        two.queue_take(&job, &by_key, 1, MINUTE, None, soon())?.len(),
        0,
        "items a second before the end, by key"
    );
    harness.clock().advance(Duration::from_secs(1));
    let taken = take(&*two, &job, 5)?;
    ensure_eq!(names(&taken), ["a"], "items at the end");
    ensure!(
        taken.iter().all(|entry| entry.delay.is_none()),
        "a taken item has a delay"
    );
    Ok(())
}

fn a_delay_does_not_go_by_the_wall_clock(harness: &dyn Harness) -> Check {
    const YEAR: i64 = 365 * 86_400_000;
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    for years in [1, -1, 74] {
        put(harness, &*one, &job, &["a"])?;
        settle_item(&*one, &job, "a", release(MINUTE))?;
        harness.clock().set(moment(years * YEAR));
        harness.clock().advance(Duration::from_secs(59));
        ensure_eq!(take(&*two, &job, 1)?.len(), 0, "items a second before the end");
        harness.clock().advance(Duration::from_secs(1));
        let token = take_one(&*two, &job)?;
        acknowledge(&*two, &job, &[token])?;
        harness.clock().set(moment(0));
    }
    Ok(())
}

fn a_delay_of_another_boot_has_ended(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    settle_item(&*one, &job, "a", release(MINUTE))?;
    harness.clock().reboot();
    ensure_eq!(names(&take(&*two, &job, 1)?), ["a"], "items after the boot");
    Ok(())
}

fn a_later_release_replaces_the_delay(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b"])?;
    settle_item(&*backend, &job, "a", release(5 * MINUTE))?;
    settle_item(&*backend, &job, "b", release(MINUTE))?;
    settle_item(&*backend, &job, "a", release(Duration::ZERO))?;
    settle_item(&*backend, &job, "b", release(2 * MINUTE))?;
    harness.clock().advance(MINUTE);
    ensure_eq!(names(&take(&*backend, &job, 5)?), ["a"], "items after a minute");
    harness.clock().advance(MINUTE);
    ensure_eq!(names(&take(&*backend, &job, 1)?), ["b"], "items after two");
    Ok(())
}

fn an_operator_ends_a_lease(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a"])?;
    let token = take_one(&*one, &job)?;
    ensure_eq!(
        settle_item(&*two, &job, "a", release(Duration::ZERO))?,
        Settled::Done,
        "the release by key"
    );
    ensure!(
        entry(&*one, &job, "a")?.lease.is_none(),
        "the item is still leased"
    );
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Unknown,
        "the token after the release"
    );
    ensure_eq!(names(&take(&*two, &job, 1)?), ["a"], "items pending");
    Ok(())
}

fn a_removed_item_is_gone(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b", "c"])?;
    let token = take_one(&*one, &job)?;
    let each = ["a", "c", "x"].into_iter().map(|name| {
        let claim = Claim::Item(item_id(name)?);
        Ok(Settlement::new(claim, Change::Remove))
    });
    let each = each.collect::<Result<Vec<_>, Failure>>()?;
    ensure_eq!(
        two.queue_settle(&job, &each, None, soon())?,
        [Settled::Done, Settled::Done, Settled::Unknown],
        "the outcomes for the keys"
    );
    ensure_eq!(keys(&*one, &job)?, ["b"], "keys");
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Unknown,
        "the token of a removed item"
    );
    Ok(())
}

fn settlements_see_each_other(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    put(harness, &*backend, &job, &["a", "b", "c"])?;
    let token = take_one(&*backend, &job)?;
    let revision = entry(&*backend, &job, "b")?.revision;
    let (a, b, c) = (item_id("a")?, item_id("b")?, item_id("c")?);
    let calls = [
        (
            Claim::Lease(token.clone()),
            release(Duration::ZERO),
            Settled::Done,
        ),
        (Claim::Lease(token), Change::Remove, Settled::Unknown),
        (
            Claim::Item(a.clone()),
            Change::Park { reason: None },
            Settled::Done,
        ),
        (Claim::Item(a), Change::Unpark, Settled::Done),
        (
            Claim::Revision(b.clone(), revision),
            edited(harness, "b", "2")?,
            Settled::Done,
        ),
        (Claim::Revision(b, revision), Change::Remove, Settled::Changed),
        (Claim::Item(c.clone()), Change::Remove, Settled::Done),
        (Claim::Item(c), Change::Remove, Settled::Unknown),
    ];
    let wanted: Vec<Settled> = calls.iter().map(|call| call.2).collect();
    let each: Vec<Settlement> = calls
        .into_iter()
        .map(|(claim, change, _)| Settlement::new(claim, change))
        .collect();
    ensure_eq!(
        backend.queue_settle(&job, &each, None, soon())?,
        wanted,
        "the outcome of each settlement"
    );
    ensure_eq!(names(&take(&*backend, &job, 5)?), ["b", "a"], "items pending");
    ensure_eq!(
        backend.queue_settle(&job, &[], None, soon())?.len(),
        0,
        "results of an empty list of settlements"
    );
    Ok(())
}

fn a_removed_key_is_new_again(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    put(harness, &*one, &job, &["a", "b"])?;
    let old = entry(&*one, &job, "a")?;
    let token = take_one(&*one, &job)?;
    settle_item(&*one, &job, "a", Change::Remove)?;
    ensure_eq!(
        put(harness, &*two, &job, &["a"])?,
        PutReport::new(1, 0, 0),
        "the report of the push"
    );
    ensure_eq!(keys(&*two, &job)?, ["b", "a"], "keys");
    ensure_eq!(stored(&*one, &job, "a", "failure_count")?, json!(1), "failures");
    let new = entry(&*two, &job, "a")?;
    ensure!(
        new.revision > old.revision && new.place > old.place && new.lease.is_none(),
        "the new item continues the numbers of the old one: {new:?} after {old:?}"
    );
    ensure_eq!(
        settle_token(&*one, &job, &token, Change::Remove)?,
        Settled::Unknown,
        "the token of the old item"
    );
    ensure_eq!(names(&take(&*one, &job, 5)?), ["b", "a"], "items pending");
    Ok(())
}
