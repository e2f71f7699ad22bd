//! Computes the contents of an item after a change.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::failure::{completed, failures};
use super::fields::{Fields, Part, RESERVED};
use super::merge::merge;
use super::normalise::{first, normalise_for, unwritable};
use crate::error::{ErrorKind, Result, StorageError};
use crate::queue::{Change, ItemId};

/// The contents of an item after a change; `None` if the change leaves them as they are. A backend stores this
/// result when it makes the [`Change`].
///
/// For [`Change::Unpark`], `None` means that the item is not parked; a backend then leaves the item and its lease
/// unchanged.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a failure or an edit that is not an item (see [`normalise`](super::normalise)) or
/// has another id; [`ErrorKind::Damaged`] if `stored` is not an object.
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
        Change::Unpark => unpark(id, stored),
        Change::Edit(contents) => edit(id, contents, now).map(Some),
    }
}

/// The item after another failure, which is added as in [`merge`], but the stored `item_data` is kept. The failure
/// always counts as new: without a `timestamp` it gets `now`, so that it differs from an equal earlier failure.
///
/// # Errors
/// The errors of [`merge`].
pub fn fail(stored: &RawValue, failed: &RawValue, now: Timestamp) -> Result<Option<Box<RawValue>>> {
    let data = Fields::of(stored).and_then(|fields| fields.get_any("item_data"));
    let (Some(data), Some(fields)) = (data, Fields::of(failed)) else {
        return merge(stored, failed, now);
    };
    let failures = failures(&fields);
    let amended = || {
        let mut set = vec![("item_data", Some(Part::Raw(data)))];
        if failures.is_empty() && fields.get("last_attempt").is_none() {
            set.push(("last_attempt", Some(Part::Time(now))));
            return fields.amended(set);
        }
        let failures = completed(&failures, Some(&Part::Time(now)), None)?;
        let list = Part::List(failures.iter().map(AsRef::as_ref).collect());
        set.push(("failure_history", Some(list)));
        fields.amended(set)
    };
    let failed = amended().map_err(|error| unwritable(&"", error))?;
    merge(stored, &failed, now)
}

/// The item after it was parked: `reprocess_eligible` is false, `manual_review_required` is true, and
/// `parked_reason` is the given text. Without a text, an item that is already parked keeps its reason. All other
/// fields are kept byte for byte.
///
/// # Errors
/// [`ErrorKind::Damaged`] if `stored` is not an object.
pub fn park(id: &ItemId, stored: &RawValue, reason: Option<&str>) -> Result<Box<RawValue>> {
    const OPERATION: &str = "park item";
    let fields = object(id, stored, OPERATION)?;
    let kept = fields.get("parked_reason").filter(|_| is_parked(&fields));
    let reason = reason.map(Part::Text).or(kept.map(Part::Raw));
    marked(id, &fields, true, reason)
}

/// The item after it was made eligible again, which reverses [`park`]: `reprocess_eligible` is true,
/// `manual_review_required` is false, and `parked_reason` is removed. `None` if the item is not parked.
///
/// # Errors
/// The errors of [`park`].
pub fn unpark(id: &ItemId, stored: &RawValue) -> Result<Option<Box<RawValue>>> {
    let fields = object(id, stored, "unpark item")?;
    if !is_parked(&fields) {
        return Ok(None);
    }
    marked(id, &fields, false, None).map(Some)
}

/// An item is parked if `reprocess_eligible` is anything but true.
fn is_parked(fields: &Fields<'_>) -> bool {
    fields
        .get("reprocess_eligible")
        .is_some_and(|value| value.get() != "true")
}

fn object<'a>(id: &ItemId, stored: &'a RawValue, operation: &'static str) -> Result<Fields<'a>> {
    Fields::of(stored).ok_or_else(|| {
        let why = "the stored item is not an object";
        StorageError::new(ErrorKind::Damaged, operation, id, why)
    })
}

fn marked(id: &ItemId, fields: &Fields<'_>, parked: bool, reason: Option<Part<'_>>) -> Result<Box<RawValue>> {
    let mut set = vec![
        ("reprocess_eligible", Some(Part::Flag(!parked))),
        ("manual_review_required", Some(Part::Flag(parked))),
        ("parked_reason", reason),
    ];
    set.extend(RESERVED.map(|name| (name, None)));
    fields.amended(set).map_err(|error| unwritable(id, error))
}

/// The new contents of an item after an edit: checked and completed like a push, with the same id.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for contents that are not an item (see [`normalise`](super::normalise)) or have another
/// id.
pub fn edit(id: &ItemId, contents: &RawValue, now: Timestamp) -> Result<Box<RawValue>> {
    const OPERATION: &str = "edit item";
    let item = normalise_for(OPERATION, contents)?;
    same_id(id, &item.id, OPERATION)?;
    first(&item.body, now).map(Cow::into_owned)
}

pub(crate) fn same_id(stored: &ItemId, given: &ItemId, operation: &'static str) -> Result<()> {
    if stored == given {
        return Ok(());
    }
    let why = format!("the given item has the id `{given}`: an item keeps its id");
    Err(StorageError::invalid(operation, stored, why)
        .with_hint("push an item under the other id, and remove this one"))
}
