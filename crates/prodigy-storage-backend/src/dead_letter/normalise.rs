//! From what a caller pushes to an item.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{FAILURE, Fields, KNOWN, Kind, Writer, count, elements, shown, text};
use super::signature::signature;
use crate::body::{AS_TEXT, out_of_range};
use crate::error::{Result, StorageError};
use crate::queue::{ItemId, QueueItem};
use crate::record::{MAX_NESTING, lone_surrogate, nesting_exceeds};

const OPERATION: &str = "push item";

/// Checks an item and fills what is missing: the times with `now`, `failure_count` with the length of the history but
/// at least 1, `failure_history` with an empty list, `error_signature` from the last failure (absent without one),
/// `reprocess_eligible` with true, `manual_review_required` with false. A failure without `timestamp` gets the item's
/// `last_attempt`. Its `attempt_number` depends on what is stored: [`first`] and [`merge`](super::merge) fill it.
///
/// `null` counts as missing, but in `item_data`. Unknown fields are kept, and every value that was given is kept byte
/// for byte, except line breaks between tokens, which become spaces.
///
/// ```
/// use prodigy_storage_backend::dead_letter::normalise;
/// use prodigy_storage_layout::Timestamp;
/// use serde_json::value::RawValue;
///
/// let pushed: Box<RawValue> = serde_json::from_str(r#"{"item_id":"src/a.rs","item_data":{"path":"src/a.rs"}}"#)?;
/// let item = normalise(&pushed, Timestamp::now())?;
/// assert_eq!(item.id.as_str(), "src/a.rs");
/// assert!(item.body.get().contains(r#""reprocess_eligible":true"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the field: no object, `item_id` or `item_data`
/// missing, a field of the wrong type, a duplicate name, nesting over 127, half a surrogate pair.
pub fn normalise(raw: &RawValue, now: Timestamp) -> Result<QueueItem> {
    let json = raw.get();
    let Some(fields) = Fields::of(raw) else {
        return Err(StorageError::invalid(
            OPERATION,
            "",
            format!(
                "an item is an object with `item_id` and `item_data`, found {}",
                shown(json)
            ),
        ));
    };
    let id = id_of(&fields)?;
    let refuse = |why: String| Err(StorageError::invalid(OPERATION, &id, why));
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

    let now = serde_json::to_string(&now).map_err(|error| unwritable(&id, error))?;
    let mut out = Writer::new(json.len() + 256);
    let given = |name: &str| fields.get(name).map(RawValue::get);
    out.field("item_id", &serde_json::Value::from(id.as_str()).to_string());
    out.field("item_data", data.get());
    out.field("first_attempt", given("first_attempt").unwrap_or(&now));
    out.field("last_attempt", given("last_attempt").unwrap_or(&now));
    match given("failure_count") {
        Some(count) => out.field("failure_count", count),
        None => out.field("failure_count", &history.len().max(1).to_string()),
    }
    let last_attempt = given("last_attempt").unwrap_or(&now);
    let history = history
        .into_iter()
        .map(|failure| filled(failure, "timestamp", last_attempt))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unwritable(&id, error))?;
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

/// The contents of a new item: a failure without `attempt_number` gets its number, so that the last one has the item's
/// `failure_count`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the body is no object: what [`normalise`] returns is one.
///
/// ```
/// use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, first};
/// use prodigy_storage_backend::ItemId;
/// use prodigy_storage_layout::Timestamp;
///
/// let letter = DeadLetter::new(ItemId::new("a")?, 1).failure(Failure::new("Timeout", "no answer"));
/// let item = letter.to_item(Timestamp::now())?;
/// assert!(first(&item.body)?.get().contains(r#""attempt_number":1"#));
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
pub fn first(body: &RawValue) -> Result<Cow<'_, RawValue>> {
    let Some(fields) = Fields::of(body) else {
        return Err(StorageError::invalid(OPERATION, "", "an item is an object"));
    };
    let history = fields
        .get("failure_history")
        .and_then(elements)
        .unwrap_or_default();
    if history.iter().all(|failure| attempt_of(failure).is_some()) {
        return Ok(Cow::Borrowed(body));
    }
    let failures = fields.get("failure_count").and_then(count).unwrap_or(0);
    let before = failures.saturating_sub(history.len() as u64);
    let numbered = numbered(history, before).and_then(|history| {
        let list = Writer::list_of(history.iter().map(AsRef::as_ref));
        fields.amended(&[("failure_history", Some(&list))])
    });
    match numbered {
        Ok(body) => Ok(Cow::Owned(body)),
        Err(error) => Err(unwritable(&id_of(&fields)?, error)),
    }
}

/// The failures with their numbers: one without gets the number after the one before it, and after `before`.
pub(super) fn numbered(
    failures: Vec<&RawValue>,
    mut before: u64,
) -> Result<Vec<Cow<'_, RawValue>>, serde_json::Error> {
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

/// The object with this field, if it has none of that name.
fn filled<'a>(object: &'a RawValue, name: &str, json: &str) -> Result<Cow<'a, RawValue>, serde_json::Error> {
    match Fields::of(object) {
        Some(fields) if fields.get(name).is_none() => fields.amended(&[(name, Some(json))]).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(object)),
    }
}

fn id_of(fields: &Fields<'_>) -> Result<ItemId> {
    let Some(raw) = fields.get("item_id") else {
        return Err(StorageError::invalid(OPERATION, "", "`item_id` is missing"));
    };
    match text(raw) {
        Some(id) => ItemId::new(id),
        None => {
            let why = Kind::Text
                .refuses(raw)
                .unwrap_or_else(|| "it is no Unicode text".into());
            Err(StorageError::invalid(OPERATION, "", format!("`item_id`: {why}")))
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

/// The signature of a failure; `None` if it says neither type nor message.
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
