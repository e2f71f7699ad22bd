//! `--filter FIELD=VALUE`.
//!
//! Only what a filter names is parsed, so that a value elsewhere in the record that no number type holds, such as `1e999`,
//! stops nothing. Numbers are compared by their digits: nothing is rounded.

use std::borrow::Cow;
use std::collections::HashMap;

use prodigy_storage::Record;
use serde_json::value::RawValue;

/// The deepest nesting of a wanted value.
const DEEPEST: usize = 64;

/// A field and the value that it has to have.
///
/// The field is a path of names, or places in an array, joined by dots. It is looked up in the payload first, then, if the
/// payload has no such field, in the envelope around it.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    field: String,
    text: String,
    literal: Option<Box<RawValue>>,
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((field, value)) if !field.is_empty() => Ok(Self {
                field: field.to_owned(),
                text: value.to_owned(),
                literal: RawValue::from_string(value.to_owned())
                    .ok()
                    .filter(|_| value.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= DEEPEST),
            }),
            _ => Err("a filter is FIELD=VALUE, such as `status=done` or `agent.id=3`".to_owned()),
        }
    }
}

impl Filter {
    /// True if all of them hold.
    pub(crate) fn all(filters: &[Self], record: &Record<'_>) -> Result<bool, serde_json::Error> {
        if filters.is_empty() {
            return Ok(true);
        }
        let envelope: &RawValue = record.parse()?;
        Ok(filters.iter().all(|filter| filter.holds(envelope)))
    }

    fn holds(&self, envelope: &RawValue) -> bool {
        let found = look_up(envelope, "event")
            .and_then(|payload| look_up(payload, &self.field))
            .or_else(|| look_up(envelope, &self.field));
        let Some(found) = found else { return false };
        match text_of(found) {
            Some(text) => *text == *self.text,
            None => self
                .literal
                .as_ref()
                .is_some_and(|literal| is_same(literal, found)),
        }
    }
}

type Fields<'v> = HashMap<Cow<'v, str>, &'v RawValue>;

fn look_up<'v>(value: &'v RawValue, path: &str) -> Option<&'v RawValue> {
    path.split('.').try_fold(value, |value, name| {
        if value.get().starts_with('{') {
            serde_json::from_str::<HashMap<String, &RawValue>>(value.get())
                .ok()?
                .remove(name)
        } else if value.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            items.get(name.parse::<usize>().ok()?).copied()
        } else {
            None
        }
    })
}

/// The text of a JSON string.
fn text_of(value: &RawValue) -> Option<String> {
    if !value.get().trim_start().starts_with('"') {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

/// True if both are the same JSON value: whatever the order of fields, blanks, escapes, and the form of numbers.
fn is_same(wanted: &RawValue, found: &RawValue) -> bool {
    let (one, other) = (wanted.get().trim(), found.get().trim());
    match one.bytes().next() {
        Some(b'{') => match (
            serde_json::from_str::<Fields<'_>>(one),
            serde_json::from_str::<Fields<'_>>(other),
        ) {
            (Ok(one), Ok(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .all(|(name, value)| other.get(name).is_some_and(|found| is_same(value, found)))
            }
            _ => false,
        },
        Some(b'[') => match (
            serde_json::from_str::<Vec<&RawValue>>(one),
            serde_json::from_str::<Vec<&RawValue>>(other),
        ) {
            (Ok(one), Ok(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
            }
            _ => false,
        },
        Some(b'"') => text_of(wanted).is_some_and(|text| Some(text) == text_of(found)),
        Some(b'-' | b'0'..=b'9') => Decimal::of(one).is_some_and(|number| Some(number) == Decimal::of(other)),
        _ => one == other,
    }
}

/// A number in JSON, exactly: its digits without zeros at either end, and the power of ten of the last one.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // An exponent that no text of a record could write out is compared by its sign alone.
        let exponent = exponent.trim_start_matches('+');
        let exponent: i128 = exponent.parse::<i64>().map_or_else(
            |_| {
                if exponent.starts_with('-') {
                    i128::MIN / 2
                } else {
                    i128::MAX / 2
                }
            },
            i128::from,
        );
        let kept = digits.trim_end_matches('0');
        let zeros = (digits.len() - kept.len()) as i128 - fraction.len() as i128;
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        Some(Self {
            negative,
            digits: kept.to_owned(),
            exponent: exponent + zeros,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(filter: &str) -> bool {
        let envelope = r#"{"id":"e-1","correlation_id":"run-7","event":{"id":"payload","n":1,"ok":true,"none":null,
            "agent":{"id":"3"},"list":[10,"x"],"huge":1e999,"big":9007199254740993,"neg":-0.0,"o":{"a":[1.50],"b":"\u0041"}}}"#;
        let envelope: &RawValue = serde_json::from_str(envelope).unwrap();
        filter.parse::<Filter>().unwrap().holds(envelope)
    }

    #[test]
    fn payload_first_then_envelope() {
        assert!(holds("id=payload") && !holds("id=e-1"));
        assert!(holds("correlation_id=run-7"));
        assert!(holds("event.n=1"));
    }

    #[test]
    fn text_compares_as_text_and_the_rest_as_json() {
        assert!(
            holds("agent.id=3") && holds("n=1") && holds("n=1.0") && holds("ok=true") && holds("none=null")
        );
        assert!(holds("list.0=10") && holds("list.1=x") && holds("list=[10,\"x\"]"));
        assert!(!holds("n=\"1\"") && !holds("ok=yes") && !holds("missing=null") && !holds("list.9=1"));
        assert!("novalue".parse::<Filter>().is_err() && "=x".parse::<Filter>().is_err());
    }

    #[test]
    fn numbers_are_compared_exactly() {
        assert!(
            holds("big=9007199254740993") && !holds("big=9007199254740992") && !holds("big=9007199254740994")
        );
        assert!(holds("huge=1e999") && holds("huge=10E+998") && !holds("huge=1e998") && !holds("n=1e999"));
        assert!(holds("n=100e-2") && holds("n=1.000") && holds("neg=0") && !holds("n=-1"));
        assert!(holds("list.0=1e1") && holds("o={\"b\":\"A\",\"a\":[1.5]}") && !holds("o={\"a\":[1.5]}"));
        assert!(!holds("huge=1e99999999999999999999") && !holds("n=x"));
    }

    #[test]
    fn a_wanted_value_that_is_nested_too_deep_matches_nothing() {
        assert!(!holds(&format!(
            "list={}",
            "[".repeat(100_000) + &"]".repeat(100_000)
        )));
    }
}
