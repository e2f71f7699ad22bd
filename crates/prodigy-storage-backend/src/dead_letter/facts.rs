//! The fields that decide whether an item is taken.

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{Fields, Kind, count, elements, flag, text, time};
use crate::error::{ErrorKind, Result, StorageError};
use crate::queue::{Eligible, ItemId, Select};

/// The fields of an item that a [`Select`] compares, and that a listing shows beside the key.
///
/// ```
/// use prodigy_storage_backend::dead_letter::{facts, selects};
/// use prodigy_storage_backend::{ItemId, Select};
/// use serde_json::value::RawValue;
///
/// let body: Box<RawValue> = serde_json::from_str(r#"{"item_id":"a","item_data":1,"failure_count":3}"#)?;
/// let facts = facts(&body)?;
/// assert_eq!((facts.failure_count, facts.eligible), (3, true));
/// assert!(selects(&Select::eligible().attempts(2..=5), &ItemId::new("a")?, &facts));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The item's `error_signature`.
    pub signature: Option<String>,
    /// The `error_type` of the item's last failure, if it is a string.
    pub error_type: Option<String>,
    /// The item's `reprocess_eligible`; true if absent.
    pub eligible: bool,
    /// The item's `manual_review_required`; false if absent.
    pub review: bool,
    /// The item's `first_attempt`; absent only in items of other programs.
    pub first_attempt: Option<Timestamp>,
    /// The item's `last_attempt`; absent only in items of other programs.
    pub last_attempt: Option<Timestamp>,
    /// The item's `failure_count`; 1 if absent.
    pub failure_count: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            signature: None,
            error_type: None,
            eligible: true,
            review: false,
            first_attempt: None,
            last_attempt: None,
            failure_count: 1,
        }
    }
}

/// Reads the facts of an item in one pass, without parsing its `item_data`.
///
/// # Errors
/// [`ErrorKind::Foreign`], which names the field, if the body is not an object or a field has the wrong type. This
/// happens only for an item that another program wrote.
pub fn facts(body: &RawValue) -> Result<Facts> {
    read(Fields::of(body))
}

/// Like [`facts`], but from the bytes that a store holds for an item. Fields that the queue added are ignored.
///
/// # Errors
/// Those of [`facts`], and an error if the bytes are not JSON.
pub fn facts_of_line(line: &[u8]) -> Result<Facts> {
    read(Fields::of_line(line))
}

fn read(fields: Option<Fields<'_>>) -> Result<Facts> {
    let foreign = |why: String| StorageError::new(ErrorKind::Foreign, "read item", "", why);
    let fields = fields.ok_or_else(|| foreign("it is not an object".into()))?;
    let field = |name: &str, kind: Kind| match fields.get(name) {
        Some(value) => match kind.refuses(value) {
            Some(why) => Err(foreign(format!("`{name}`: {why}"))),
            None => Ok(Some(value)),
        },
        None => Ok(None),
    };
    Ok(Facts {
        signature: field("error_signature", Kind::Text)?.and_then(text),
        error_type: field("failure_history", Kind::List)?
            .and_then(elements)
            .and_then(|failures| Fields::of(failures.last()?)?.get("error_type").and_then(text)),
        eligible: field("reprocess_eligible", Kind::Flag)?
            .and_then(flag)
            .unwrap_or(true),
        review: field("manual_review_required", Kind::Flag)?
            .and_then(flag)
            .unwrap_or(false),
        first_attempt: field("first_attempt", Kind::Time)?.and_then(time),
        last_attempt: field("last_attempt", Kind::Time)?.and_then(time),
        failure_count: field("failure_count", Kind::Count)?.and_then(count).unwrap_or(1),
    })
}

/// True if an item's key and fields meet the conditions of a selection. Leases, delays and places are not checked.
///
/// An item without `last_attempt` counts as old, so no upper bound excludes it.
#[must_use]
pub fn selects(select: &Select, id: &ItemId, facts: &Facts) -> bool {
    select.ids.as_ref().is_none_or(|ids| ids.contains(id)) && suits(select, facts)
}

/// Like [`selects`], for a caller that has compared the key.
#[must_use]
pub fn suits(select: &Select, facts: &Facts) -> bool {
    let eligible = match select.eligible {
        Eligible::Yes => facts.eligible,
        Eligible::No => !facts.eligible,
        Eligible::Any => true,
    };
    let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    eligible
        && is(&select.signature, &facts.signature)
        && is(&select.error_type, &facts.error_type)
        && select
            .not_after
            .is_none_or(|bound| facts.last_attempt.is_none_or(|last| last <= bound))
        && select
            .not_before
            .is_none_or(|bound| facts.last_attempt.is_some_and(|last| last >= bound))
        && select
            .min_attempts
            .is_none_or(|least| facts.failure_count >= least)
        && select.max_attempts.is_none_or(|most| facts.failure_count <= most)
}
