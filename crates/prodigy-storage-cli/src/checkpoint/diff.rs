//! The command `checkpoint diff`.

use std::collections::BTreeMap;

use prodigy_storage::Checkpoints;
use serde_json::json;
use serde_json::value::RawValue;

use super::named;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};

/// Values that are nested deeper are compared as text.
const DEEPEST: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The file name of the older checkpoint, as `checkpoint list` prints it.
    #[arg(value_name = "A")]
    one: String,
    /// The file name of the newer checkpoint.
    #[arg(value_name = "B")]
    other: String,
}

pub(super) fn run(app: &mut App<'_>, arguments: &DiffArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let checkpoints = opened.job.checkpoints();
    let one = state(&opened, &checkpoints, &arguments.one)?;
    let other = state(&opened, &checkpoints, &arguments.other)?;
    let mut found = Vec::new();
    differences("", Some(&one), Some(&other), 0, &mut found);
    for Difference { path, one, other } in found {
        if app.json() {
            app.json_line(&json!({"path": path, "a": one, "b": other}))?;
            continue;
        }
        let path = if path.is_empty() { "." } else { &path };
        if let Some(one) = one {
            app.line(format!("- {path}: {}", one.get()))?;
        }
        if let Some(other) = other {
            app.line(format!("+ {path}: {}", other.get()))?;
        }
    }
    Ok(Exit::Done)
}

fn state(opened: &Opened, checkpoints: &Checkpoints, name: &str) -> Result<Box<RawValue>> {
    let entry = named(opened, checkpoints, name)?;
    match checkpoints.get::<Box<RawValue>>(&entry.id)? {
        Some(found) => Ok(found.data),
        // The checkpoint was removed after it was found.
        None => Err(super::missing(opened, name)),
    }
}

/// A value that differs, or that only one of the checkpoints has.
struct Difference<'v> {
    path: String,
    one: Option<&'v RawValue>,
    other: Option<&'v RawValue>,
}

/// Collects the differences by path. Numbers are compared as text.
fn differences<'v>(
    path: &str,
    one: Option<&'v RawValue>,
    other: Option<&'v RawValue>,
    depth: usize,
    found: &mut Vec<Difference<'v>>,
) {
    if let (Some(one), Some(other)) = (one, other) {
        if one.get() == other.get() {
            return;
        }
        let parts = (depth < DEEPEST)
            .then(|| parts_of(one).zip(parts_of(other)))
            .flatten();
        if let Some((ones, others)) = parts {
            let names = ones
                .keys()
                .chain(others.keys().filter(|name| !ones.contains_key(*name)));
            for name in names {
                let path = match path {
                    "" => name.to_string(),
                    _ => format!("{path}.{name}"),
                };
                let values = (ones.get(name).copied(), others.get(name).copied());
                differences(&path, values.0, values.1, depth + 1, found);
            }
            return;
        }
        if scalar(one).is_some_and(|one| scalar(other) == Some(one)) {
            return;
        }
    }
    let path = path.to_owned();
    found.push(Difference { path, one, other });
}

/// The text of a string, with its escapes decoded.
fn scalar(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The name of a member, or the index of an element.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Place(usize),
    Field(String),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Field(name) => f.write_str(name),
        }
    }
}

/// The fields of an object, or the elements of an array.
fn parts_of(value: &RawValue) -> Option<BTreeMap<Name, &RawValue>> {
    match value.get().bytes().next()? {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
            Some(
                fields
                    .into_iter()
                    .map(|(name, value)| (Name::Field(name), value))
                    .collect(),
            )
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            let places = elements.into_iter().enumerate();
            Some(places.map(|(place, value)| (Name::Place(place), value)).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(one: &str, other: &str) -> Vec<String> {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let (one, other) = (raw(one), raw(other));
        let mut found = Vec::new();
        differences("", Some(&one), Some(&other), 0, &mut found);
        let shown = |value: Option<&RawValue>| value.map_or("-", RawValue::get).to_owned();
        found
            .iter()
            .map(|difference| {
                let (one, other) = (shown(difference.one), shown(difference.other));
                format!("{} {one} {other}", difference.path)
            })
            .collect()
    }

    #[test]
    fn only_what_differs_is_found_by_its_path() {
        assert_eq!(found("{\"a\":1,\"b\":[1,2]}", "{\"b\":[1,2],\"a\":1}"), [""; 0]);
        assert_eq!(
            found("{\"a\":{\"n\":1},\"gone\":0}", "{\"a\":{\"n\":2,\"new\":[]}}"),
            ["a.n 1 2", "a.new - []", "gone 0 -"]
        );
        assert_eq!(found("[1,2]", "[1,3,4]"), ["1 2 3", "2 - 4"]);
        assert_eq!(found("{\"a\":1}", "[1]"), ["a 1 -", "0 - 1"]);
        assert_eq!(found("\"\\u0041\"", "\"A\""), [""; 0]);
        // Numbers are compared without rounding.
        assert_eq!(
            found("9007199254740993", "9007199254740992"),
            [" 9007199254740993 9007199254740992"]
        );
    }

    #[test]
    fn values_that_are_nested_very_deep_are_compared_as_texts() {
        let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(120), "]".repeat(120));
        let found = found(&nested("1"), &nested("2"));
        assert_eq!(found.len(), 1);
    }
}
