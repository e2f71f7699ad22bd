//! Finds a part of a JSON value without parsing the rest, and compares values exactly.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The value at a path of names, or indices of an array, joined by dots. If two fields have the same name, the last
/// one is used.
pub(super) fn look_up<'v>(value: &'v RawValue, path: &str) -> Option<&'v RawValue> {
    path.split('.').try_fold(value, |value, name| {
        let mut json = serde_json::Deserializer::from_str(value.get());
        let found = match value.get().bytes().next()? {
            b'{' => Member(Name(name)).deserialize(&mut json),
            b'[' => Element(name.parse().ok()?).deserialize(&mut json),
            _ => return None,
        };
        found.ok()?
    })
}

/// The value of an object's only field, such as the data of an enum variant that serde wrote. `None` for any other
/// value. If the field occurs several times, its last value is used.
pub(super) fn only_member(value: &RawValue) -> Option<&RawValue> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    let mut values = fields.into_values();
    values.next().filter(|_| values.next().is_none())
}

#[derive(Clone, Copy)]
struct Name<'n>(&'n str);

/// Finds a field of an object without parsing the other fields.
struct Member<'n>(Name<'n>);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_wanted) = fields.next_key_seed(self.0)? {
            if is_wanted {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == name)
    }
}

/// Finds an element of an array without parsing the others.
struct Element(usize);

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

type Fields<'v> = HashMap<Cow<'v, str>, &'v RawValue>;

/// The text of a JSON string; `None` for any other value.
pub(super) fn text_of(value: &RawValue) -> Option<String> {
    if !value.get().trim_start().starts_with('"') {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

/// True if both are the same JSON value. The order of fields, white space, escapes and the form of numbers do not
/// matter.
pub(super) fn is_same(wanted: &RawValue, found: &RawValue) -> bool {
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

/// The exact value of a JSON number: its digits without zeros at the start and the end, and the power of ten of
/// the last digit.
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
        // If an exponent is too large for 64 bits, only its sign is compared.
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
