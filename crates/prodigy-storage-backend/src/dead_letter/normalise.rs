//! Checks and completes a pushed item.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{FAILURE, Fields, KNOWN, Kind, Writer, count, elements, shown, text, time};
use super::signature::signature;
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
/// `first_attempt` and `last_attempt` from the earliest and the latest `timestamp`. If the push has no time for a
/// field, the field is filled by [`first`] or [`merge`](super::merge), since it depends on the stored item. So is the
/// `attempt_number` of a failure.
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

/// Like [`normalise`], with the operation that an error names.
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
    let history = fields
        .get("failure_history")
        .and_then(elements)
        .unwrap_or_default();
    for (at, failure) in history.iter().enumerate() {
        if let Some(why) = refuses_failure(at, failure) {
            return refuse(why);
        }
    }

    let times = Times::of(&fields, &history);
    let mut out = Writer::new(json.len() + 256);
    let given = |name: &str| fields.get(name).map(RawValue::get);
    out.field("item_id", &serde_json::Value::from(id.as_str()).to_string());
    out.field("item_data", data.get());
    for (name, time) in [("first_attempt", times.first), ("last_attempt", times.last)] {
        if let Some(time) = time {
            out.field(name, time.get());
        }
    }
    match given("failure_count") {
        Some(count) => out.field("failure_count", count),
        None => out.field("failure_count", &history.len().max(1).to_string()),
    }
    let history = match given("last_attempt") {
        Some(last) => timed(history, last).map_err(|error| unwritable(&id, error))?,
        None => history.into_iter().map(Cow::Borrowed).collect(),
    };
    out.list("failure_history", history.iter().map(AsRef::as_ref));
    match given("error_signature") {
        Some(signature) => out.field("error_signature", signature),
        None => {
            if let Some(signature) = history.last().and_then(|failure| signature_of(failure)) {
                out.field("error_signature", &serde_json::Value::from(signature).to_string());
            }
        }
    }
    if let Some(artifacts) = given("worktree_artifacts") {
        out.field("worktree_artifacts", artifacts);
    }
    out.field(
        "reprocess_eligible",
        given("reprocess_eligible").unwrap_or("true"),
    );
    out.field(
        "manual_review_required",
        given("manual_review_required").unwrap_or("false"),
    );
    if let Some(reason) = given("parked_reason") {
        out.field("parked_reason", reason);
    }
    for (name, value) in fields.unknown() {
        out.field(name, value.get());
    }
    match out.finish() {
        Ok(body) => Ok(QueueItem { id, body }),
        Err(error) => Err(unwritable(&id, error)),
    }
}

/// The times of the attempts, as far as the caller gave them.
struct Times<'a> {
    first: Option<&'a RawValue>,
    last: Option<&'a RawValue>,
}

impl<'a> Times<'a> {
    fn of(fields: &Fields<'a>, history: &[&'a RawValue]) -> Self {
        let of_failures: Vec<&RawValue> = history
            .iter()
            .filter_map(|failure| Fields::of(failure)?.get("timestamp"))
            .collect();
        let earliest = of_failures.iter().copied().min_by_key(|found| time(found));
        // A failure without a time may be later than all others.
        let latest = of_failures.iter().copied().max_by_key(|found| time(found));
        let latest = latest.filter(|_| of_failures.len() == history.len());
        Self {
            first: fields.get("first_attempt").or(earliest),
            last: fields.get("last_attempt").or(latest),
        }
    }
}

/// The contents of a new item: a missing time becomes `now`, or `last_attempt` for `first_attempt`. A failure without
/// `attempt_number` gets its number, so that the last one has the item's `failure_count`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the body is not an object. The result of
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
    let history = fields
        .get("failure_history")
        .and_then(elements)
        .unwrap_or_default();
    let is_complete = |failure: &&RawValue| {
        Fields::of(failure)
            .is_some_and(|fields| fields.get("attempt_number").is_some() && fields.get("timestamp").is_some())
    };
    let last_given = fields.get("last_attempt");
    if last_given.is_some() && fields.get("first_attempt").is_some() && history.iter().all(is_complete) {
        return Ok(Cow::Borrowed(body));
    }
    let failures = fields.get("failure_count").and_then(count).unwrap_or(0);
    let before = failures.saturating_sub(history.len() as u64);
    let completed = || {
        let now = serde_json::to_string(&now)?;
        let history = timed(history, &now)?;
        let history = numbered(history.iter().map(AsRef::as_ref), before)?;
        let last = last_given.map_or(now.as_str(), RawValue::get);
        let mut out = Writer::new(body.get().len() + 256);
        for (name, value) in fields.iter() {
            match name {
                "first_attempt" | "last_attempt" => {}
                "failure_history" => out.list(name, history.iter().map(AsRef::as_ref)),
                _ => out.field(name, value.get()),
            }
            if name == "item_data" {
                out.field(
                    "first_attempt",
                    fields.get("first_attempt").map_or(last, RawValue::get),
                );
                out.field("last_attempt", last);
            }
        }
        out.finish()
    };
    match completed() {
        Ok(body) => Ok(Cow::Owned(body)),
        Err(error) => Err(unwritable(&id_of(OPERATION, &fields)?, error)),
    }
}

/// The failures with their times: a failure without a time gets `time`.
pub(super) fn timed<'a>(
    failures: Vec<&'a RawValue>,
    time: &str,
) -> Result<Vec<Cow<'a, RawValue>>, serde_json::Error> {
    let timed = failures
        .into_iter()
        .map(|failure| filled(failure, "timestamp", time));
    timed.collect()
}

/// The failures with their numbers: a failure without a number gets the one after its predecessor's, and after
/// `before`.
pub(super) fn numbered<'a>(
    failures: impl IntoIterator<Item = &'a RawValue>,
    mut before: u64,
) -> Result<Vec<Cow<'a, RawValue>>, serde_json::Error> {
    let number = |failure| {
        before = match attempt_of(failure) {
            Some(given) => before.max(given),
            None => before.saturating_add(1),
        };
        filled(failure, "attempt_number", &before.to_string())
    };
    failures.into_iter().map(number).collect()
}

pub(super) fn attempt_of(failure: &RawValue) -> Option<u64> {
    Fields::of(failure)?.get("attempt_number").and_then(count)
}

/// The object with this field added, unless it has one of that name.
fn filled<'a>(object: &'a RawValue, name: &str, json: &str) -> Result<Cow<'a, RawValue>, serde_json::Error> {
    match Fields::of(object) {
        Some(fields) if fields.get(name).is_none() => fields.amended(&[(name, Some(json))]).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(object)),
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

fn refuses_failure(at: usize, failure: &RawValue) -> Option<String> {
    let Some(fields) = Fields::of(failure) else {
        return Some(format!(
            "`failure_history[{at}]`: expected an object, found {}",
            shown(failure.get())
        ));
    };
    FAILURE.iter().find_map(|(name, kind)| {
        let why = kind.refuses(fields.get(name)?)?;
        Some(format!("`failure_history[{at}].{name}`: {why}"))
    })
}

/// The signature of a failure; `None` without type and message.
pub(super) fn signature_of(failure: &RawValue) -> Option<String> {
    let fields = Fields::of(failure)?;
    let words = |name: &str| {
        fields
            .get(name)
            .map(|value| text(value).unwrap_or_else(|| value.get().replace(['\n', '\r'], " ")))
            .unwrap_or_default()
    };
    let signature = signature(&words("error_type"), &words("error_message"));
    (!signature.is_empty()).then_some(signature)
}

pub(super) fn unwritable(id: &dyn std::fmt::Display, error: serde_json::Error) -> StorageError {
    StorageError::invalid(OPERATION, id, "it can't be written as JSON").with_source(error)
}
