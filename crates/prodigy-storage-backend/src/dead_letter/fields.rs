//! Reads and writes the fields of a JSON object, with their values as JSON text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use prodigy_storage_layout::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The names of the fields that a queue adds to an item.
pub const RESERVED: [&str; 13] = [
    "queue_birth",
    "queue_change",
    "queue_place",
    "queue_revision",
    "queue_state",
    "delay_until",
    "delay_boot",
    "delay_boottime",
    "lease_token",
    "lease_until",
    "lease_boot",
    "lease_boottime",
    "crc",
];

/// The fields of an item that have a defined meaning, in the order in which they are written.
pub(super) const KNOWN: [(&str, Kind); 11] = [
    ("item_id", Kind::Text),
    ("item_data", Kind::Any),
    ("first_attempt", Kind::Time),
    ("last_attempt", Kind::Time),
    ("failure_count", Kind::Count),
    ("failure_history", Kind::List),
    ("error_signature", Kind::Text),
    ("worktree_artifacts", Kind::Object),
    ("reprocess_eligible", Kind::Flag),
    ("manual_review_required", Kind::Flag),
    ("parked_reason", Kind::Text),
];

/// The fields of a failure that have a defined type. `error_type` may have any type: another program stores an
/// enum variant with data.
pub(super) const FAILURE: [(&str, Kind); 10] = [
    ("attempt_number", Kind::Count),
    ("timestamp", Kind::Time),
    ("error_type", Kind::TextOrObject),
    ("error_message", Kind::Text),
    ("error_context", Kind::Any),
    ("stack_trace", Kind::Text),
    ("agent_id", Kind::Text),
    ("step_failed", Kind::Text),
    ("duration_ms", Kind::Count),
    ("json_log_location", Kind::Text),
];

/// Up to this number of fields a search is faster than a map.
const FEW: usize = 24;

/// The JSON type that a field must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Text,
    TextOrObject,
    Time,
    Count,
    Flag,
    List,
    Object,
}

impl Kind {
    /// The reason why `value` does not have this type; `None` if it does.
    pub(super) fn refuses(self, value: &RawValue) -> Option<String> {
        let json = value.get();
        let (fits, expected) = match self {
            Self::Any => return None,
            Self::Text => (is_text(json), "a text"),
            Self::TextOrObject => (is_text(json) || json.starts_with('{'), "a text or an object"),
            Self::Time => (
                time(value).is_some(),
                "a time from 1970 to 2262 such as \"2026-11-24T21:01:58Z\"",
            ),
            Self::Count => (count(value).is_some(), "a whole number, 0 or more"),
            Self::Flag => (flag(value).is_some(), "true or false"),
            Self::List => (json.starts_with('['), "a list"),
            Self::Object => (json.starts_with('{'), "an object"),
        };
        (!fits).then(|| format!("expected {expected}, found {}", shown(json)))
    }
}

/// The name of a value's JSON type. An error shows it instead of the value, which may be confidential.
pub(super) fn shown(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn is_text(json: &str) -> bool {
    json.starts_with('"')
}

/// The content of a JSON string.
pub(super) fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

pub(super) fn time(value: &RawValue) -> Option<Timestamp> {
    Timestamp::parse(&text(value)?)
}

pub(super) fn count(value: &RawValue) -> Option<u64> {
    value.get().parse().ok()
}

pub(super) fn flag(value: &RawValue) -> Option<bool> {
    value.get().parse().ok()
}

/// The elements of a JSON array; `None` for another value.
pub(super) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// The fields of an object in their order. If a name occurs twice, its last field is used.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of a JSON object; `None` if the value is not an object.
    pub(super) fn of(object: &'a RawValue) -> Option<Self> {
        serde_json::from_str(object.get()).ok()
    }

    /// Like [`of`](Self::of), for bytes that may not be JSON.
    pub(super) fn of_line(object: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(object).ok()
    }

    /// The value of a field. `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.get_any(name).filter(|value| value.get() != "null")
    }

    /// The value of a field, which may be `null`.
    pub(super) fn get_any(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|&(_, value)| value)
    }

    /// A name that occurs more than once, if any.
    pub(super) fn twice(&self) -> Option<&str> {
        let last = self.last();
        let mut names = self.0.iter().enumerate();
        names
            .find(|(at, (name, _))| !self.is_last(*at, name, last.as_ref()))
            .map(|(_, (name, _))| name.as_ref())
    }

    /// All fields, each name once: if a name occurs twice, its last field is used.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let last = self.last();
        self.0.iter().enumerate().filter_map(move |(at, (name, value))| {
            self.is_last(at, name, last.as_ref())
                .then_some((name.as_ref(), *value))
        })
    }

    /// The position of the last field of each name; `None` if the object has few enough fields to search them.
    fn last(&self) -> Option<HashMap<&str, usize>> {
        let places = self.0.iter().enumerate();
        (self.0.len() > FEW).then(|| places.map(|(at, (name, _))| (name.as_ref(), at)).collect())
    }

    fn is_last(&self, at: usize, name: &str, last: Option<&HashMap<&str, usize>>) -> bool {
        match last {
            Some(last) => last.get(name) == Some(&at),
            None => !self.0.iter().skip(at + 1).any(|(other, _)| other == name),
        }
    }

    /// The fields of an item that have no defined meaning, each name once.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.iter()
            .filter(|(name, _)| !RESERVED.contains(name) && KNOWN.iter().all(|(known, _)| known != name))
    }

    /// The object after these changes: a field with a value is set, a field with `None` is removed. All other
    /// fields keep their text and order; new fields follow them.
    pub(super) fn amended<'v>(
        &'v self,
        set: Vec<(&'v str, Option<Part<'v>>)>,
    ) -> Result<Box<RawValue>, serde_json::Error> {
        let mut out = Writer::new();
        for (name, value) in self.iter() {
            match set.iter().find(|(other, _)| *other == name) {
                None => out.field(name, value),
                Some((_, Some(part))) => out.field(name, part.clone()),
                Some((_, None)) => {}
            }
        }
        for (name, part) in set {
            if let (Some(part), None) = (part, self.get_any(name)) {
                out.field(name, part);
            }
        }
        out.finish()
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(KNOWN.len());
                while let Some((Key(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

/// Collects the fields of an object, and then writes the object on one line.
#[derive(Debug)]
pub(super) struct Writer<'v>(Vec<(&'v str, Part<'v>)>);

/// The value of a field to be written.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
pub(super) enum Part<'v> {
    Raw(&'v RawValue),
    List(Vec<&'v RawValue>),
    Text(&'v str),
    Time(Timestamp),
    Count(u64),
    Flag(bool),
}

impl<'v> From<&'v RawValue> for Part<'v> {
    fn from(raw: &'v RawValue) -> Self {
        Self::Raw(raw)
    }
}

impl<'v> Writer<'v> {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(KNOWN.len() + 4))
    }

    pub(super) fn field(&mut self, name: &'v str, value: impl Into<Part<'v>>) {
        self.0.push((name, value.into()));
    }

    /// Adds a field if there is a value.
    pub(super) fn optional(&mut self, name: &'v str, value: Option<impl Into<Part<'v>>>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// The object as JSON. Its parts are JSON already, so they are not parsed again. Line breaks in them can only
    /// be between tokens, and become spaces.
    pub(super) fn finish(self) -> Result<Box<RawValue>, serde_json::Error> {
        let object = to_raw_value(&self)?;
        match memchr::memchr2(b'\n', b'\r', object.get().as_bytes()) {
            None => Ok(object),
            Some(_) => RawValue::from_string(object.get().replace(['\n', '\r'], " ")),
        }
    }
}

impl Serialize for Writer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
