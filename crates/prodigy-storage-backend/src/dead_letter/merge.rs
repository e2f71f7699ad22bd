//! Two items of one key become one.

use std::collections::HashMap;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{Fields, Writer, count, elements, flag, time};
use super::normalise::{attempt_of, normalise, numbered, signature_of, unwritable};
use crate::error::{ErrorKind, Result, StorageError};

/// Adds a push to the stored item of its key. `None` if the item stays as it is: the push was made before.
///
/// A failure counts once. It is in the history already if a stored one has the same time and the same
/// `attempt_number`; a pushed failure without a number is compared by its other fields. A push whose failures are all in
/// the history, and a push without failures whose `last_attempt` is the stored one, was made before: a repetition after
/// an unclear outcome.
///
/// The history grows by the new failures. Those without `attempt_number` get the next ones. The count is raised by as
/// many, and at least by 1. `first_attempt` stays, `last_attempt` is the later one, the signature belongs to the last
/// failure. For all other fields (data, artifacts, unknown fields) the pushed value wins, and what only the stored item has
/// stays. A push may park an item, never unpark it: the item is eligible if both are, and needs a review if one does.
/// `parked_reason` is the pushed one, else the stored one; an item that is eligible has none.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if `pushed` is no item (see [`normalise`]), [`ErrorKind::Damaged`] if
/// `stored` is no object.
///
/// ```
/// use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, facts, first, merge};
/// use prodigy_storage_backend::ItemId;
/// use prodigy_storage_layout::Timestamp;
///
/// let now = Timestamp::now();
/// let push = |message: &str| {
///     DeadLetter::new(ItemId::new("a")?, 1).failure(Failure::new("Timeout", message)).to_item(now)
/// };
/// let (one, two) = (push("no answer")?, push("no answer again")?);
/// let stored = first(&one.body)?;
/// assert!(merge(&stored, &one.body, now)?.is_none());
/// let merged = merge(&stored, &two.body, now)?.expect("another failure");
/// assert_eq!(facts(&merged)?.failure_count, 2);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
pub fn merge(stored: &RawValue, pushed: &RawValue, now: Timestamp) -> Result<Option<Box<RawValue>>> {
    let item = normalise(pushed, now)?;
    let id = &item.id;
    let damaged = |why| StorageError::new(ErrorKind::Damaged, "merge item", id, why);
    let old = Fields::of(stored).ok_or_else(|| damaged("the stored item is not an object"))?;
    let new = Fields::of(&item.body).ok_or_else(|| damaged("the pushed item is not an object"))?;
    let old_history = old.get("failure_history").and_then(elements).unwrap_or_default();
    let new_history = new.get("failure_history").and_then(elements).unwrap_or_default();
    let time_of = |fields: &Fields<'_>| fields.get("last_attempt").and_then(time);
    if new_history.is_empty() && time_of(&old).is_some() && time_of(&old) == time_of(&new) {
        return Ok(None);
    }
    let mut history = History::of(&old_history);
    let pushes_failures = !new_history.is_empty();
    let fresh: Vec<&RawValue> = new_history
        .into_iter()
        .filter(|failure| history.adds(failure))
        .collect();
    if pushes_failures && fresh.is_empty() {
        return Ok(None);
    }
    let before = old
        .get("failure_count")
        .and_then(count)
        .unwrap_or_else(|| old_history.len().max(1) as u64);
    let raised = before.saturating_add(fresh.len().max(1) as u64);
    let fresh = numbered(fresh, before.max(history.last_number)).map_err(|error| unwritable(id, error))?;

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
    out.field("failure_count", &raised.to_string());
    out.list(
        "failure_history",
        old_history.iter().copied().chain(fresh.iter().map(AsRef::as_ref)),
    );
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
    put(&mut out, "worktree_artifacts", newest("worktree_artifacts"));
    let either = |name: &str, value: bool| {
        [&old, &new]
            .iter()
            .any(|item| item.get(name).and_then(flag) == Some(value))
    };
    let parked = either("reprocess_eligible", false);
    let flag_of = |yes: bool| if yes { "true" } else { "false" };
    out.field("reprocess_eligible", flag_of(!parked));
    out.field(
        "manual_review_required",
        flag_of(either("manual_review_required", true)),
    );
    if parked {
        put(&mut out, "parked_reason", newest("parked_reason"));
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
    out.finish().map(Some).map_err(|error| unwritable(id, error))
}

/// The failures that an item has.
struct History<'a> {
    by_time: HashMap<Timestamp, Vec<(Option<u64>, &'a RawValue)>>,
    last_number: u64,
}

impl<'a> History<'a> {
    fn of(failures: &[&'a RawValue]) -> Self {
        let mut history = Self {
            by_time: HashMap::new(),
            last_number: 0,
        };
        for failure in failures {
            history.add(failure);
        }
        history
    }

    fn add(&mut self, failure: &'a RawValue) {
        let number = attempt_of(failure);
        self.last_number = self.last_number.max(number.unwrap_or(0));
        if let Some(time) = time_of(failure) {
            self.by_time.entry(time).or_default().push((number, failure));
        }
    }

    /// Adds a failure, unless it is there already.
    fn adds(&mut self, failure: &'a RawValue) -> bool {
        let number = attempt_of(failure);
        let at_that_time = time_of(failure).and_then(|time| self.by_time.get(&time));
        let is_there = at_that_time.is_some_and(|those| {
            those.iter().any(|(other, stored)| match number {
                Some(number) => *other == Some(number),
                None => unnumbered(stored) == unnumbered(failure),
            })
        });
        if !is_there {
            self.add(failure);
        }
        !is_there
    }
}

fn time_of(failure: &RawValue) -> Option<Timestamp> {
    Fields::of(failure)?.get("timestamp").and_then(time)
}

/// The fields of a failure beside its number and its time.
fn unnumbered(failure: &RawValue) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut fields: serde_json::Map<_, _> = serde_json::from_str(failure.get()).ok()?;
    fields.remove("attempt_number");
    fields.remove("timestamp");
    Some(fields)
}
