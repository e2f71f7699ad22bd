//! Checks and completes a pushed item.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::failure::{Failure, completed, failures};
use super::fields::{Fields, KNOWN, Kind, Part, Writer, count, shown, text};
use crate::body::{AS_TEXT, out_of_range};
use crate::error::{Result, StorageError};
use crate::queue::{ItemId, QueueItem};
use crate::record::{MAX_NESTING, lone_surrogate, nesting_exceeds};

const OPERATION: &str = "push item";

/// Checks an item and fills the missing fields: `failure_count` with the length of the history but at least 1,
/// `failure_history` with an empty list, `error_signature` from the last failure (absent without one),
/// `reprocess_eligible` with true, `manual_review_required` with false.
///
/// Missing times are filled from the other times of the push: a failure's `timestamp` from `last_attempt`, and
/// `first_attempt` and `last_attempt` from the earliest and the latest `timestamp`. If the push has no time at
/// all, [`first`] or [`merge`](super::merge) fills the fields, since they depend on the stored item. They also
/// fill the `attempt_number` of a failure.
///
/// `null` counts as missing, except in `item_data`. Unknown fields are kept, and every given value is kept byte for
/// byte, except that line breaks between tokens become spaces.
///
/// ```
/// use prodigy_storage_backend::dead_letter::normalise;
/// use serde_json::value::RawValue;
///
/// let pushed: Box<RawValue> = serde_json::from_str(r#"{"item_id":"src/a.rs","item_data":{"path":"src/a.rs"}}"#)?;
/// let item = normalise(&pushed)?;
/// assert_eq!(item.id.as_str(), "src/a.rs");
/// assert!(item.body.get().contains(r#""reprocess_eligible":true"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), which names the field, if the value is not an object,
/// `item_id` or `item_data` is missing, a field has the wrong type, a name occurs twice, the nesting is over 127, or
/// the text has half a surrogate pair.
pub fn normalise(raw: &RawValue) -> Result<QueueItem> {
    normalise_for(OPERATION, raw)
}

/// Like [`normalise`]. `operation` is the name that an error states.
pub(crate) fn normalise_for(operation: &'static str, raw: &RawValue) -> Result<QueueItem> {
    let json = raw.get();
    let Some(fields) = Fields::of(raw) else {
        return Err(StorageError::invalid(
            operation,
            "",
            format!(
                "an item is an object with `item_id` and `item_data`, found {}",
                shown(json)
            ),
        ));
    };
    let id = id_of(operation, &fields)?;
    let refuse = |why: String| Err(StorageError::invalid(operation, &id, why));
    if nesting_exceeds(json.as_bytes(), MAX_NESTING) {
        return refuse(format!(
            "its arrays and objects are nested over {MAX_NESTING} deep"
        ));
    }
    if let Some(at) = lone_surrogate(json.as_bytes()) {
        return refuse(format!(
            "byte {at} begins half of a surrogate pair: no Unicode text"
        ));
    }
    if let Some(path) = out_of_range(json) {
        return refuse(format!(
            "`{path}`: the number is beyond the range of a 64-bit float"
        ))
        .map_err(|error| error.with_hint(AS_TEXT));
    }
    if let Some(name) = fields.twice() {
        return refuse(format!("`{name}` occurs twice"));
    }
    let Some(data) = fields.get_any("item_data") else {
        return refuse("`item_data` is missing".into());
    };
    for (name, kind) in KNOWN {
        if let Some(why) = fields.get(name).and_then(|value| kind.refuses(value)) {
            return refuse(format!("`{name}`: {why}"));
        }
    }
    let history = failures(&fields);
    if let Some(why) = history
        .iter()
        .enumerate()
        .find_map(|(at, failure)| failure.refuses(at))
    {
        return refuse(why);
    }

    let times = Times::of(&fields, &history);
    let signature = match fields.get("error_signature") {
        Some(_) => None,
        None => history.last().and_then(Failure::signature),
    };
    let written = || {
        let history = completed(&history, fields.get("last_attempt").map(Part::Raw).as_ref(), None)?;
        let flag = |name: &str, default: bool| fields.get(name).map_or(Part::Flag(default), Part::Raw);
        let mut out = Writer::new();
        out.field("item_id", Part::Text(id.as_str()));
        out.field("item_data", data);
        out.optional("first_attempt", times.first);
        out.optional("last_attempt", times.last);
        let count = Part::Count(history.len().max(1) as u64);
        out.field(
            "failure_count",
            fields.get("failure_count").map_or(count, Part::Raw),
        );
        out.field(
            "failure_history",
            Part::List(history.iter().map(AsRef::as_ref).collect()),
        );
        let given = fields.get("error_signature").map(Part::Raw);
        out.optional("error_signature", given.or(signature.as_deref().map(Part::Text)));
        out.optional("worktree_artifacts", fields.get("worktree_artifacts"));
        out.field("reprocess_eligible", flag("reprocess_eligible", true));
        out.field("manual_review_required", flag("manual_review_required", false));
        out.optional("parked_reason", fields.get("parked_reason"));
        for (name, value) in fields.unknown() {
            out.field(name, value);
        }
        out.finish()
    };
    match written() {
        Ok(body) => Ok(QueueItem { id, body }),
        Err(error) => Err(unwritable(&id, error)),
    }
}

/// The times of the attempts, as far as the caller or a failure states them.
struct Times<'a> {
    first: Option<&'a RawValue>,
    last: Option<&'a RawValue>,
}

impl<'a> Times<'a> {
    fn of(fields: &Fields<'a>, history: &[Failure<'a>]) -> Self {
        let of_failures: Vec<_> = history
            .iter()
            .filter_map(|failure| Some((failure.time(), failure.get("timestamp")?)))
            .collect();
        let earliest = of_failures.iter().min_by_key(|(time, _)| *time);
        // A failure without a time may be the latest one. Then the latest time is not known.
        let latest = of_failures.iter().max_by_key(|(time, _)| *time);
        let latest = latest.filter(|_| of_failures.len() == history.len());
        Self {
            first: fields.get("first_attempt").or(earliest.map(|(_, text)| *text)),
            last: fields.get("last_attempt").or(latest.map(|(_, text)| *text)),
        }
    }
}

/// The contents of a new item, with its missing times and numbers: `last_attempt` becomes `now`, and
/// `first_attempt` becomes `last_attempt`. The failures without `attempt_number` are numbered so that the last
/// number is the item's `failure_count`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the body is not an object, which the result of
/// [`normalise`] always is.
///
/// ```
/// use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, first};
/// use prodigy_storage_backend::ItemId;
/// use prodigy_storage_layout::Timestamp;
///
/// let letter = DeadLetter::new(ItemId::new("a")?, 1).failure(Failure::new("Timeout", "no answer"));
/// let item = letter.to_item()?;
/// assert!(first(&item.body, Timestamp::now())?.get().contains(r#""attempt_number":1"#));
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
pub fn first(body: &RawValue, now: Timestamp) -> Result<Cow<'_, RawValue>> {
    let Some(fields) = Fields::of(body) else {
        return Err(StorageError::invalid(OPERATION, "", "an item is an object"));
    };
    let history = failures(&fields);
    let (first_given, last_given) = (fields.get("first_attempt"), fields.get("last_attempt"));
    let is_complete =
        |failure: &Failure<'_>| failure.get("attempt_number").is_some() && failure.get("timestamp").is_some();
    if last_given.is_some() && first_given.is_some() && history.iter().all(is_complete) {
        return Ok(Cow::Borrowed(body));
    }
    let count = fields.get("failure_count").and_then(count).unwrap_or(0);
    let before = count.saturating_sub(history.len() as u64);
    let written = || {
        let history = completed(&history, Some(&Part::Time(now)), Some(before))?;
        let last = last_given.map_or(Part::Time(now), Part::Raw);
        let mut out = Writer::new();
        for (name, value) in fields.iter() {
            match name {
                "first_attempt" | "last_attempt" => {}
                "failure_history" => {
                    out.field(name, Part::List(history.iter().map(AsRef::as_ref).collect()));
                }
                _ => out.field(name, value),
            }
            if name == "item_data" {
                out.field("first_attempt", first_given.map_or(last.clone(), Part::Raw));
                out.field("last_attempt", last.clone());
            }
        }
        out.finish()
    };
    match written() {
        Ok(body) => Ok(Cow::Owned(body)),
        Err(error) => Err(unwritable(&id_of(OPERATION, &fields)?, error)),
    }
}

fn id_of(operation: &'static str, fields: &Fields<'_>) -> Result<ItemId> {
    let Some(raw) = fields.get("item_id") else {
        return Err(StorageError::invalid(operation, "", "`item_id` is missing"));
    };
    match text(raw) {
        Some(id) => ItemId::new(id),
        None => {
            let why = Kind::Text
                .refuses(raw)
                .unwrap_or_else(|| "it is no Unicode text".into());
            Err(StorageError::invalid(operation, "", format!("`item_id`: {why}")))
        }
    }
}

pub(super) fn unwritable(id: &dyn std::fmt::Display, error: serde_json::Error) -> StorageError {
    StorageError::invalid(OPERATION, id, "it can't be written as JSON").with_source(error)
}
