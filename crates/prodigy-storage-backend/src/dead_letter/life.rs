//! The contents of an item after a change.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Fields, RESERVED};
use super::merge::merge;
use super::normalise::{first, normalise, unwritable};
use crate::error::{ErrorKind, Result, StorageError};
use crate::queue::{Change, ItemId};

/// The contents of an item after a change; `None` if they stay as they are. What a backend stores for each [`Change`].
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a failure or an edit that is no item (see [`normalise`]) or names another id;
/// [`ErrorKind::Damaged`] if `stored` is no object.
///
/// ```
/// use prodigy_storage_backend::dead_letter::changed;
/// use prodigy_storage_backend::{Change, ItemId};
/// use prodigy_storage_layout::Timestamp;
/// use serde_json::value::RawValue;
///
/// let (id, now) = (ItemId::new("a")?, Timestamp::now());
/// let stored: Box<RawValue> = serde_json::from_str(r#"{"item_id":"a","item_data":1}"#)?;
/// let park = Change::Park { reason: Some("needs a licence".into()) };
/// let parked = changed(&id, &stored, &park, now)?.expect("other contents");
/// assert_eq!(
///     parked.get(),
///     r#"{"item_id":"a","item_data":1,"reprocess_eligible":false,"manual_review_required":true,"parked_reason":"needs a licence"}"#,
/// );
/// assert!(changed(&id, &parked, &Change::Remove, now)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn changed(
    id: &ItemId,
    stored: &RawValue,
    change: &Change,
    now: Timestamp,
) -> Result<Option<Box<RawValue>>> {
    match change {
        Change::Remove | Change::Extend(_) | Change::Release { .. } => Ok(None),
        Change::Fail(failed) => {
            same_id(id, &failed.id, "fail item")?;
            fail(stored, &failed.body, now)
        }
        Change::Park { reason } => park(id, stored, reason.as_deref()).map(Some),
        Change::Unpark => unpark(id, stored).map(Some),
        Change::Edit(contents) => edit(id, contents, now).map(Some),
    }
}

/// The item with another failure, as [`merge`]; `item_data` stays as it is stored.
///
/// # Errors
/// As [`merge`].
pub fn fail(stored: &RawValue, failed: &RawValue, now: Timestamp) -> Result<Option<Box<RawValue>>> {
    let data = Fields::of(stored).and_then(|fields| fields.get_any("item_data"));
    let (Some(data), Some(fields)) = (data, Fields::of(failed)) else {
        return merge(stored, failed, now);
    };
    let failed = fields
        .amended(&[("item_data", Some(data.get()))])
        .map_err(|error| unwritable(&"", error))?;
    merge(stored, &failed, now)
}

/// The item for a person to look at: `reprocess_eligible` becomes false, `manual_review_required` true,
/// `parked_reason` the given text, or absent. All other fields stay byte for byte.
///
/// # Errors
/// [`ErrorKind::Damaged`] if `stored` is no object.
pub fn park(id: &ItemId, stored: &RawValue, reason: Option<&str>) -> Result<Box<RawValue>> {
    let reason = reason.map(|reason| Value::from(reason).to_string());
    marked(id, stored, true, reason.as_deref(), "park item")
}

/// The opposite of [`park`]: `reprocess_eligible` becomes true, `manual_review_required` false, and `parked_reason`
/// goes.
///
/// # Errors
/// As [`park`].
pub fn unpark(id: &ItemId, stored: &RawValue) -> Result<Box<RawValue>> {
    marked(id, stored, false, None, "unpark item")
}

fn marked(
    id: &ItemId,
    stored: &RawValue,
    parked: bool,
    reason: Option<&str>,
    operation: &'static str,
) -> Result<Box<RawValue>> {
    let fields = Fields::of(stored).ok_or_else(|| {
        StorageError::new(
            ErrorKind::Damaged,
            operation,
            id,
            "the stored item is not an object",
        )
    })?;
    let flag = |yes: bool| Some(if yes { "true" } else { "false" });
    let mut set = vec![
        ("reprocess_eligible", flag(!parked)),
        ("manual_review_required", flag(parked)),
        ("parked_reason", reason),
    ];
    set.extend(RESERVED.map(|name| (name, None)));
    fields.amended(&set).map_err(|error| unwritable(id, error))
}

/// The contents that replace those of an item: checked and completed as a push, under the same id.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for contents that are no item (see [`normalise`]) or name another id.
pub fn edit(id: &ItemId, contents: &RawValue, now: Timestamp) -> Result<Box<RawValue>> {
    let item = normalise(contents, now)?;
    same_id(id, &item.id, "edit item")?;
    first(&item.body).map(Cow::into_owned)
}

pub(crate) fn same_id(stored: &ItemId, given: &ItemId, operation: &'static str) -> Result<()> {
    if stored == given {
        return Ok(());
    }
    let why = format!("the given item has the id `{given}`: an item keeps its id");
    Err(StorageError::invalid(operation, stored, why)
        .with_hint("push an item under the other id, and remove this one"))
}
