//! The facts that the payload of an event states.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prodigy_storage::Record;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Fields of a payload that may name the kind of the event; the first one that exists is used.
const KIND: [&str; 4] = ["event_type", "type", "kind", "event"];
const WORKTREE: &str = "worktree";
/// Fields that may state the outcome of an event's work.
const OUTCOME: [&str; 4] = ["status", "outcome", "result", "level"];
/// Fields with a text for people; the first one that exists is shown before the other fields.
const MESSAGE: [&str; 3] = ["message", "msg", "text"];
/// Fields that repeat what the line of an event shows anyway.
const REPEATED: [&str; 2] = ["job_id", "timestamp"];
/// A text for people is not made longer than this number of bytes.
const LONGEST: usize = 4096;
/// Fields that exist, and are not null, only after a failure.
const ERROR: [&str; 2] = ["error", "errors"];

/// The payload of an event as JSON. Empty for a line of another program that has no payload.
pub(crate) fn payload<'a>(record: &Record<'a>) -> &'a str {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let parsed = record.parse::<Envelope<'_>>();
    parsed.map(|envelope| envelope.event.get()).unwrap_or_default()
}

/// The facts that most programs state in their events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Option<String>,
    pub(crate) worktree: Option<String>,
    /// True if the kind or the outcome contains the word `fail` or `error`, or if a field of [`ERROR`] is set.
    pub(crate) failed: bool,
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

impl Facts {
    pub(crate) fn of(payload: &str) -> Self {
        let fields: Fields<'_> = serde_json::from_str(payload).unwrap_or_default();
        let kind = KIND.iter().find_map(|name| text(&fields, name));
        // `{"AgentStarted":{..}}`: the name of the only member is the kind, and its value has the fields.
        let only = fields
            .iter()
            .next()
            .filter(|_| fields.len() == 1 && kind.is_none());
        let inner: Fields<'_> = only
            .and_then(|(_, inner)| serde_json::from_str(inner.get()).ok())
            .unwrap_or_default();
        let tag = only
            .filter(|_| !inner.is_empty())
            .map(|(name, _)| name.to_string());
        let kind = kind.or(tag);
        Self {
            worktree: text(&fields, WORKTREE).or_else(|| text(&inner, WORKTREE)),
            failed: kind.as_deref().is_some_and(names_failure)
                || states_failure(&fields)
                || states_failure(&inner),
            kind,
        }
    }
}

/// The fields of an object, in their order.
#[derive(Default)]
struct InOrder<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for InOrder<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Each).map(Self)
    }
}

/// The text of an event in one line: its message, and the fields that are neither its kind nor its worktree. A payload that is no object
/// is its own message.
pub(super) fn message(payload: &str) -> String {
    let InOrder(mut fields) = serde_json::from_str(payload).unwrap_or_default();
    if fields.is_empty() {
        return plain(payload);
    }
    let is_text = |name: &str| {
        let value = fields.iter().find(|(field, _)| field == name);
        value.is_some_and(|(_, value)| value.get().starts_with('"'))
    };
    let kind = KIND.into_iter().find(|name| is_text(name));
    if let [(_, only)] = &fields[..]
        && kind.is_none()
        && let Ok(InOrder(inner)) = serde_json::from_str(only.get())
        && !inner.is_empty()
    {
        fields = inner;
    }
    fields.retain(|(name, value)| {
        let is_shown = Some(name.as_str()) == kind || name == WORKTREE || REPEATED.contains(&name.as_str());
        !is_shown && value.get() != "null"
    });
    let message = MESSAGE.iter().find_map(|wanted| {
        let is_it = |(name, value): &(String, &RawValue)| name == wanted && value.get().starts_with('"');
        fields.iter().position(is_it)
    });
    let mut said = message.map_or_else(String::new, |place| plain(fields.remove(place).1.get()));
    for (name, value) in fields {
        if said.len() > LONGEST {
            break;
        }
        if !said.is_empty() {
            said.push(' ');
        }
        let text = plain(value.get());
        let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
        let shown = if is_word { &text } else { value.get() };
        said.push_str(&format!("{name}={shown}"));
    }
    said
}

/// A text without its quotes; other values as JSON.
fn plain(value: &str) -> String {
    serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())
}

fn text(fields: &Fields<'_>, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn states_failure(fields: &Fields<'_>) -> bool {
    let is_stated = |error: &&RawValue| !matches!(error.get(), "null" | "[]");
    ERROR.iter().any(|name| fields.get(*name).is_some_and(is_stated))
        || OUTCOME
            .iter()
            .any(|name| text(fields, name).is_some_and(|outcome| names_failure(&outcome)))
}

fn names_failure(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    word.contains("fail") || word.contains("error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_the_worktree_and_a_failure_are_found_in_the_usual_forms() {
        let cases = [
            (
                r#"{"type":"agent_started","worktree":"w1"}"#,
                Some("agent_started"),
                Some("w1"),
                false,
            ),
            (
                r#"{"AgentFailed":{"worktree":"w2"}}"#,
                Some("AgentFailed"),
                Some("w2"),
                true,
            ),
            (r#"{"agent":1,"status":"FAILED"}"#, None, None, true),
            (
                r#"{"kind":"step","error":null,"errors":[]}"#,
                Some("step"),
                None,
                false,
            ),
            (r#"{"kind":"step","error":{"code":3}}"#, Some("step"), None, true),
            (r#"{"Step":{"result":"error"}}"#, Some("Step"), None, true),
            (r#""failed""#, None, None, false),
            ("", None, None, false),
        ];
        for (payload, kind, worktree, failed) in cases {
            let wanted = Facts {
                kind: kind.map(str::to_owned),
                worktree: worktree.map(str::to_owned),
                failed,
            };
            assert_eq!(Facts::of(payload), wanted, "{payload}");
        }
    }
}
