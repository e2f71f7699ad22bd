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
