//! The facts that decide whether an item is taken.

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{Fields, Kind, count, flag, text, time};
use crate::error::{ErrorKind, Result, StorageError};
use crate::queue::{ItemId, Select};

/// The fields that a [`Select`] reads, and that a list shows beside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `error_signature`.
    pub signature: Option<String>,
    /// `reprocess_eligible`; true where it is absent.
    pub eligible: bool,
    /// `manual_review_required`; false where it is absent.
    pub review: bool,
    /// `last_attempt`; absent only in items of other programs.
    pub last_attempt: Option<Timestamp>,
    /// `failure_count`; 1 where it is absent.
    pub failure_count: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            signature: None,
            eligible: true,
            review: false,
            last_attempt: None,
            failure_count: 1,
        }
    }
}

/// Reads the facts of an item, in one pass and without building its data.
///
/// # Errors
/// [`ErrorKind::Damaged`], naming the field, if the body is no object or a field has the wrong type. That can only
/// be an item that another program wrote.
pub fn facts(body: &RawValue) -> Result<Facts> {
    told(Fields::of(body))
}

/// As [`facts`], of the item's bytes as they are stored: what a queue adds to them is no fact.
///
/// # Errors
/// As [`facts`]; also if the bytes are no JSON.
pub fn facts_of_line(line: &[u8]) -> Result<Facts> {
    told(Fields::of_line(line))
}

fn told(fields: Option<Fields<'_>>) -> Result<Facts> {
    let damaged = |why: String| StorageError::new(ErrorKind::Damaged, "read item", "", why);
    let fields = fields.ok_or_else(|| damaged("it is not an object".into()))?;
    let field = |name: &str, kind: Kind| match fields.get(name) {
        Some(value) => match kind.refuses(value) {
            Some(why) => Err(damaged(format!("`{name}`: {why}"))),
            None => Ok(Some(value)),
        },
        None => Ok(None),
    };
    Ok(Facts {
        signature: field("error_signature", Kind::Text)?.and_then(text),
        eligible: field("reprocess_eligible", Kind::Flag)?
            .and_then(flag)
            .unwrap_or(true),
        review: field("manual_review_required", Kind::Flag)?
            .and_then(flag)
            .unwrap_or(false),
        last_attempt: field("last_attempt", Kind::Time)?.and_then(time),
        failure_count: field("failure_count", Kind::Count)?.and_then(count).unwrap_or(1),
    })
}

/// Whether an item is among those asked for. Whether a lease holds it is another question.
///
/// An item without `last_attempt` counts as old: no bound leaves it out.
#[must_use]
pub fn selects(select: &Select, id: &ItemId, facts: &Facts) -> bool {
    select.ids.as_ref().is_none_or(|ids| ids.contains(id)) && suits(select, facts)
}

/// Whether an item is among those asked for, if its key is: as [`selects`] for who looks keys up in another way.
#[must_use]
pub fn suits(select: &Select, facts: &Facts) -> bool {
    (select.ids.is_some() || facts.eligible || select.ineligible_too)
        && select
            .signature
            .as_ref()
            .is_none_or(|wanted| facts.signature.as_ref() == Some(wanted))
        && select
            .not_after
            .is_none_or(|bound| facts.last_attempt.is_none_or(|last| last <= bound))
}
