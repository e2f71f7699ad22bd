//! From what a caller pushes to an item.

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{FAILURE, Fields, KNOWN, Kind, Writer, elements, shown, text};
use super::signature::signature;
use crate::body::{AS_TEXT, out_of_range};
use crate::error::{Result, StorageError};
use crate::queue::{ItemId, QueueItem};
use crate::record::{MAX_NESTING, lone_surrogate, nesting_exceeds};

const OPERATION: &str = "push item";

/// Checks an item and fills what is missing: the times with `now`, `failure_count` with the length of the history but
/// at least 1, `failure_history` with an empty list, `error_signature` from the last failure (absent without one),
/// `reprocess_eligible` with true, `manual_review_required` with false.
///
/// `null` counts as missing, but in `item_data`. Unknown fields are kept, and every value that was given is kept byte
/// for byte, except line breaks between tokens, which become spaces.
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
    out.list("failure_history", history.iter().copied());
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
    for (name, value) in fields.unknown() {
        out.field(name, value.get());
    }
    match out.finish() {
        Ok(body) => Ok(QueueItem { id, body }),
        Err(error) => Err(unwritable(&id, error)),
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
