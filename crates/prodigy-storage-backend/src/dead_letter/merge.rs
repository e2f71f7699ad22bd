//! Merges a pushed item into the stored item with the same key.

use std::collections::{BTreeMap, HashMap};

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::failure::{Failure, completed, failures};
use super::fields::{Fields, Part, Writer, count, flag, time};
use super::normalise::{normalise, unwritable};
use crate::error::{ErrorKind, Result, StorageError};

/// The stored item after a push with the same key; `None` if the push was made before, and so changes nothing.
///
/// A failure counts once. It is already in the history if a stored failure has
/// - the same `timestamp` and the same `attempt_number`, if the caller gave both;
/// - the same `timestamp` or `attempt_number` and the same other fields, if the caller gave only one of the two;
/// - the same other fields, if the caller gave neither.
///
/// So the item is unchanged if a push is repeated after an unknown outcome, a file is imported again, or a command
/// is run twice. A failure that happens again has another time or number, and counts.
///
/// New failures are added to the history. A failure without `attempt_number` gets the next number, one without
/// `timestamp` gets `now`. The failure count is raised by the number of new failures. A push without failures
/// raises it by 1 if its `last_attempt` differs from the stored one; without `last_attempt` the push counts as no
/// attempt, and only its other fields are merged. `first_attempt` is kept, `last_attempt` is the later of the two,
/// and the signature follows from the last failure.
///
/// For all other fields (data, artifacts, unknown fields) the pushed value replaces the stored one, and fields
/// that only the stored item has are kept. A push may park an item but never unpark it: the merged item is
/// eligible if both are, and needs a review if one of them does. `parked_reason` is the pushed reason or else the
/// stored one; an eligible item has none.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if `pushed` is not an item (see [`normalise`]), [`ErrorKind::Damaged`] if `stored` is
/// not an object.
///
/// ```
/// use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, facts, first, merge};
/// use prodigy_storage_backend::ItemId;
/// use prodigy_storage_layout::Timestamp;
///
/// let now = Timestamp::now();
/// let push = |message: &str| {
///     DeadLetter::new(ItemId::new("a")?, 1).failure(Failure::new("Timeout", message)).to_item()
/// };
/// let (one, two) = (push("no answer")?, push("no answer again")?);
/// let stored = first(&one.body, now)?;
/// assert!(merge(&stored, &one.body, now)?.is_none());
/// let merged = merge(&stored, &two.body, now)?.expect("another failure");
/// assert_eq!(facts(&merged)?.failure_count, 2);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
pub fn merge(stored: &RawValue, pushed: &RawValue, now: Timestamp) -> Result<Option<Box<RawValue>>> {
    let item = normalise(pushed)?;
    let id = &item.id;
    let damaged = |why| StorageError::new(ErrorKind::Damaged, "merge item", id, why);
    let old = Fields::of(stored).ok_or_else(|| damaged("the stored item is not an object"))?;
    let new = Fields::of(&item.body).ok_or_else(|| damaged("the pushed item is not an object"))?;
    let (old_history, new_history) = (failures(&old), failures(&new));
    let (old_last, new_last) = (last_of(&old), last_of(&new));
    let pushes_failures = !new_history.is_empty();
    if !pushes_failures && new_last.is_some() && old_last.and_then(time) == new_last.and_then(time) {
        return Ok(None);
    }
    let mut history = History::of(&old_history);
    let fresh: Vec<&Failure<'_>> = new_history
        .iter()
        .filter(|failure| history.adds(failure))
        .collect();
    if pushes_failures && fresh.is_empty() {
        return Ok(None);
    }
    let before = old
        .get("failure_count")
        .and_then(count)
        .unwrap_or_else(|| old_history.len().max(1) as u64);
    let attempts = match fresh.len() {
        0 => u64::from(new_last.is_some()),
        failures => failures as u64,
    };
    let raised = before.saturating_add(attempts);
    let last_number = before.max(history.last_number);
    let fresh =
        completed(fresh, Some(&Part::Time(now)), Some(last_number)).map_err(|error| unwritable(id, error))?;

    let mut out = Writer::new();
    let newest = |name: &str| new.get(name).or_else(|| old.get(name));
    out.optional("item_id", new.get("item_id"));
    out.optional("item_data", new.get_any("item_data"));
    // Of two equal times, the text from the push is used.
    let last = match (fresh.is_empty(), new_last) {
        (false, None) => None,
        _ => [old_last, new_last]
            .into_iter()
            .flatten()
            .max_by_key(|last| time(last)),
    };
    let last = last.map_or(Part::Time(now), Part::Raw);
    let first = old.get("first_attempt").filter(|first| time(first).is_some());
    let first = first.or_else(|| new.get("first_attempt"));
    out.field("first_attempt", first.map_or(last.clone(), Part::Raw));
    out.field("last_attempt", last);
    out.field("failure_count", Part::Count(raised));
    let all = old_history.iter().map(|failure| failure.json);
    let all = all.chain(fresh.iter().map(AsRef::as_ref));
    out.field("failure_history", Part::List(all.collect()));
    // Without a signature from the caller, the one that `normalise` computed from the last pushed failure is used.
    let of_the_last = match new.get("error_signature") {
        Some(_) => None,
        None => old_history.last().and_then(Failure::signature),
    };
    match &of_the_last {
        Some(signature) => out.field("error_signature", Part::Text(signature)),
        None => out.optional("error_signature", newest("error_signature")),
    }
    out.optional("worktree_artifacts", newest("worktree_artifacts"));
    let either = |name: &str, value: bool| {
        [&old, &new]
            .iter()
            .any(|item| item.get(name).and_then(flag) == Some(value))
    };
    let parked = either("reprocess_eligible", false);
    out.field("reprocess_eligible", Part::Flag(!parked));
    let is_reviewed = either("manual_review_required", true);
    out.field("manual_review_required", Part::Flag(is_reviewed));
    if parked {
        out.optional("parked_reason", newest("parked_reason"));
    }
    let mut added: HashMap<&str, &RawValue> = new.unknown().collect();
    for (name, value) in old.unknown() {
        out.field(name, added.remove(name).unwrap_or(value));
    }
    for (name, value) in new.unknown() {
        if added.contains_key(name) {
            out.field(name, value);
        }
    }
    let merged = out.finish().map_err(|error| unwritable(id, error))?;
    Ok((merged.get() != stored.get()).then_some(merged))
}

/// An item's `last_attempt`, if it is a valid time.
fn last_of<'a>(fields: &Fields<'a>) -> Option<&'a RawValue> {
    fields.get("last_attempt").filter(|last| time(last).is_some())
}

/// The failures in an item's history, and indexes to find an equal failure.
struct History<'a> {
    failures: Vec<&'a Failure<'a>>,
    by_time: HashMap<Timestamp, Vec<&'a Failure<'a>>>,
    /// By the text of a failure's other fields: the numbers of the failures with these fields. Built when it is
    /// first needed, for a failure without a time.
    by_fields: Option<HashMap<String, Vec<Option<u64>>>>,
    last_number: u64,
}

impl<'a> History<'a> {
    fn of(failures: &'a [Failure<'a>]) -> Self {
        let mut history = Self {
            failures: Vec::with_capacity(failures.len()),
            by_time: HashMap::new(),
            by_fields: None,
            last_number: 0,
        };
        for failure in failures {
            history.add(failure);
        }
        history
    }

    fn add(&mut self, failure: &'a Failure<'a>) {
        let number = failure.number();
        self.last_number = self.last_number.max(number.unwrap_or(0));
        if let Some(time) = failure.time() {
            self.by_time.entry(time).or_default().push(failure);
        }
        if let Some(all) = &mut self.by_fields {
            all.entry(other_fields(failure.json)).or_default().push(number);
        }
        self.failures.push(failure);
    }

    /// Adds a failure to the history. Returns false if the history already has it.
    fn adds(&mut self, failure: &'a Failure<'a>) -> bool {
        let number = failure.number();
        let is_there = match failure.time() {
            Some(time) => self.by_time.get(&time).is_some_and(|those| {
                those.iter().any(|stored| match number {
                    Some(_) => stored.number() == number,
                    None => other_fields(stored.json) == other_fields(failure.json),
                })
            }),
            None => self
                .with_fields(&other_fields(failure.json))
                .is_some_and(|numbers| number.is_none() || numbers.contains(&number)),
        };
        if !is_there {
            self.add(failure);
        }
        !is_there
    }

    /// The numbers of all failures in the history with these other fields.
    fn with_fields(&mut self, fields: &str) -> Option<&Vec<Option<u64>>> {
        let failures = &self.failures;
        let all = self.by_fields.get_or_insert_with(|| {
            let mut all: HashMap<String, Vec<Option<u64>>> = HashMap::new();
            for failure in failures {
                all.entry(other_fields(failure.json))
                    .or_default()
                    .push(failure.number());
            }
            all
        });
        all.get(fields)
    }
}

/// The fields of a failure except its number and its time, as JSON text in the order of their names. `null` counts
/// as absent.
fn other_fields(failure: &RawValue) -> String {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(failure.get()).unwrap_or_default();
    let is_own = |name: &str| matches!(name, "attempt_number" | "timestamp");
    let others: BTreeMap<String, serde_json::Value> = fields
        .into_iter()
        .filter(|(name, value)| !is_own(name) && !value.is_null())
        .collect();
    serde_json::Value::from_iter(others).to_string()
}
