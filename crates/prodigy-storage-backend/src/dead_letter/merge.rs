//! Two items of one key become one.

use std::collections::HashMap;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{Fields, Writer, count, elements, time};
use super::normalise::{normalise, signature_of, unwritable};
use crate::error::{ErrorKind, Result, StorageError};

/// Adds a push to the stored item of its key.
///
/// The history grows by the pushed failures; where the pushed history is the stored one and more, by what is new.
/// The count is raised by as many, and at least by 1. `first_attempt` stays, `last_attempt` is the later one, the
/// signature belongs to the last failure. For all other fields (data, artifacts, flags, unknown fields) the pushed value
/// wins, and what only the stored item has stays.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if `pushed` is no item (see [`normalise`]), [`ErrorKind::Damaged`] if
/// `stored` is no object.
pub fn merge(stored: &RawValue, pushed: &RawValue, now: Timestamp) -> Result<Box<RawValue>> {
    let item = normalise(pushed, now)?;
    let id = &item.id;
    let damaged = |why| StorageError::new(ErrorKind::Damaged, "merge item", id, why);
    let old = Fields::of(stored).ok_or_else(|| damaged("the stored item is not an object"))?;
    let new = Fields::of(&item.body).ok_or_else(|| damaged("the pushed item is not an object"))?;
    let old_history = old.get("failure_history").and_then(elements).unwrap_or_default();
    let new_history = new.get("failure_history").and_then(elements).unwrap_or_default();
    let fresh = new_history
        .get(shared(&old_history, &new_history)..)
        .unwrap_or_default();

    let mut out = Writer::new(stored.get().len() + pushed.get().len());
    let newest = |name: &str| new.get(name).or_else(|| old.get(name));
    let put = |out: &mut Writer, name: &str, value: Option<&RawValue>| {
        if let Some(value) = value {
            out.field(name, value.get());
        }
    };
    put(&mut out, "item_id", new.get("item_id"));
    put(&mut out, "item_data", new.get_any("item_data"));
    let first = old.get("first_attempt").filter(|first| time(first).is_some());
    put(
        &mut out,
        "first_attempt",
        first.or_else(|| new.get("first_attempt")),
    );
    let last = [old.get("last_attempt"), new.get("last_attempt")];
    // Of equal times the pushed text.
    put(
        &mut out,
        "last_attempt",
        last.into_iter().flatten().max_by_key(|last| time(last)),
    );
    let before = old
        .get("failure_count")
        .and_then(count)
        .unwrap_or_else(|| old_history.len().max(1) as u64);
    let raised = before.saturating_add(fresh.len().max(1) as u64);
    out.field("failure_count", &raised.to_string());
    out.list("failure_history", old_history.iter().chain(fresh).copied());
    // `normalise` took it from the last pushed failure, if the caller gave none.
    match new.get("error_signature") {
        Some(signature) => out.field("error_signature", signature.get()),
        None => match old_history.last().and_then(|failure| signature_of(failure)) {
            Some(signature) => {
                out.field("error_signature", &serde_json::Value::from(signature).to_string());
            }
            None => put(&mut out, "error_signature", old.get("error_signature")),
        },
    }
    for name in [
        "worktree_artifacts",
        "reprocess_eligible",
        "manual_review_required",
    ] {
        put(&mut out, name, newest(name));
    }
    let mut added: HashMap<&str, &RawValue> = new.unknown().collect();
    for (name, value) in old.unknown() {
        out.field(name, added.remove(name).unwrap_or(value).get());
    }
    for (name, value) in new.unknown() {
        if added.contains_key(name) {
            out.field(name, value.get());
        }
    }
    out.finish().map_err(|error| unwritable(id, error))
}

/// How many failures at the beginning of `pushed` are stored already: all of `stored` where `pushed` carries it on,
/// else none. The same single failure pushed twice is two failures.
fn shared(stored: &[&RawValue], pushed: &[&RawValue]) -> usize {
    if stored.is_empty() || pushed.len() <= stored.len() {
        return 0;
    }
    let same = |(a, b): (&&RawValue, &&RawValue)| {
        let value = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get()).ok();
        a.get() == b.get() || value(a).is_some_and(|a| Some(a) == value(b))
    };
    if stored.iter().zip(pushed).all(same) {
        stored.len()
    } else {
        0
    }
}
