//! The failures in an item's history, each parsed once.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::fields::{FAILURE, Fields, Part, count, elements, shown, text, time};
use super::signature::signature;

/// A failure in the history of an item.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) json: &'a RawValue,
    /// The fields of the failure; `None` if it is not an object.
    fields: Option<Fields<'a>>,
}

/// The failures in the history of an item, oldest first.
pub(super) fn failures<'a>(item: &Fields<'a>) -> Vec<Failure<'a>> {
    let history = item.get("failure_history").and_then(elements).unwrap_or_default();
    let failures = history.into_iter().map(|json| Failure {
        json,
        fields: Fields::of(json),
    });
    failures.collect()
}

impl<'a> Failure<'a> {
    /// The value of a field of the failure. `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.as_ref()?.get(name)
    }

    /// The number of the attempt that failed.
    pub(super) fn number(&self) -> Option<u64> {
        self.get("attempt_number").and_then(count)
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.get("timestamp").and_then(time)
    }

    /// The signature of the failure; `None` if it has neither a type nor a message.
    pub(super) fn signature(&self) -> Option<String> {
        let words = |name: &str| {
            self.get(name)
                .map(|value| text(value).unwrap_or_else(|| value.get().replace(['\n', '\r'], " ")))
                .unwrap_or_default()
        };
        let signature = signature(&words("error_type"), &words("error_message"));
        (!signature.is_empty()).then_some(signature)
    }

    /// The reason why this JSON is not a failure; `None` if it is one. `at` is its index in the history.
    pub(super) fn refuses(&self, at: usize) -> Option<String> {
        let Some(fields) = &self.fields else {
            return Some(format!(
                "`failure_history[{at}]`: expected an object, found {}",
                shown(self.json.get())
            ));
        };
        FAILURE.iter().find_map(|(name, kind)| {
            let why = kind.refuses(fields.get(name)?)?;
            Some(format!("`failure_history[{at}].{name}`: {why}"))
        })
    }
}

/// The failures as JSON, with their missing fields filled in. A failure without a time gets `time`, if that is
/// given. If `before` is given, a failure without a number gets the next number after `before` and after the
/// failures in front of it.
pub(super) fn completed<'f>(
    failures: impl IntoIterator<Item = &'f Failure<'f>>,
    time: Option<&Part<'_>>,
    mut before: Option<u64>,
) -> Result<Vec<Cow<'f, RawValue>>, serde_json::Error> {
    let complete = |failure: &'f Failure<'f>| {
        let Some(fields) = &failure.fields else {
            return Ok(Cow::Borrowed(failure.json));
        };
        let mut set = Vec::new();
        if let Some(time) = time
            && fields.get("timestamp").is_none()
        {
            set.push(("timestamp", Some(time.clone())));
        }
        if let Some(before) = &mut before {
            *before = match failure.number() {
                Some(given) => given.max(*before),
                None => before.saturating_add(1),
            };
            if fields.get("attempt_number").is_none() {
                set.push(("attempt_number", Some(Part::Count(*before))));
            }
        }
        match set.is_empty() {
            true => Ok(Cow::Borrowed(failure.json)),
            false => fields.amended(set).map(Cow::Owned),
        }
    };
    failures.into_iter().map(complete).collect()
}
