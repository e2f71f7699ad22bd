//! The flags that filter events.

use prodigy_storage::{EventFilter, StorageError};
use regex::Regex;

/// Parses a regular expression for the payload.
///
/// # Errors
/// The reason alone: clap adds the flag and its value.
pub(super) fn pattern(text: &str) -> Result<EventFilter, String> {
    let pattern = compile(text)?;
    Ok(EventFilter::payload_matches(move |json| pattern.is_match(json)))
}

/// Parses `FIELD=VALUE`, `FIELD!=VALUE` or `FIELD~PATTERN`. The first `=` or `~` ends the field.
fn filter(text: &str) -> Result<EventFilter, String> {
    let wrong = "a filter is FIELD=VALUE, FIELD!=VALUE or FIELD~PATTERN, such as `status=done`, `agent.id!=3` or `error~time.?out`";
    let at = text.find(['=', '~']).unwrap_or(0);
    // `a!~x` and `a>=x` have no meaning, and no field has such a name.
    let field = text.get(..at).unwrap_or_default();
    let is_equality = text.get(at..).is_some_and(|rest| rest.starts_with('='));
    let name = if is_equality {
        field.strip_suffix('!').unwrap_or(field)
    } else {
        field
    };
    if name.ends_with(['!', '<', '>']) {
        return Err(wrong.to_owned());
    }
    match text.split_at_checked(at) {
        Some((field, rest)) if !field.is_empty() && rest.starts_with('~') => {
            let pattern = compile(rest.get(1..).unwrap_or_default())?;
            Ok(EventFilter::matches(field, move |found| pattern.is_match(found)))
        }
        _ => text.parse().map_err(|_: StorageError| wrong.to_owned()),
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        // A message of several lines shows the pattern first, and the reason in the last line.
        let text = error.to_string();
        let reason = text
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        format!("not a regular expression: {reason}")
    })
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only events with this value in a field: a dotted path into the payload or, if the payload lacks it, into the
    /// envelope. Text is compared as it is, other values as JSON. `FIELD!=VALUE` selects events with another value or
    /// without the field; `FIELD~PATTERN` uses a regular expression. Several filters have to match all.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = filter)]
    filter: Vec<EventFilter>,
    /// Only events of this worktree, which is the field `worktree` of the payload.
    #[arg(long, value_name = "NAME")]
    worktree: Option<String>,
    /// Only events that have this field, with any value. Several fields have to exist all.
    #[arg(long, value_name = "FIELD")]
    has: Vec<String>,
    /// Only events with this correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only events of this agent: `agent_id` in the payload, or otherwise in the metadata.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

impl FilterArgs {
    /// The worktree that `--worktree` names.
    pub(super) fn worktree(&self) -> Option<&str> {
        self.worktree.as_deref()
    }

    /// The agent that `--agent` names.
    pub(super) fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The id that `--correlation-id` names.
    pub(super) fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// All filters of the flags.
    pub(super) fn all(&self) -> impl Iterator<Item = EventFilter> {
        let has = self.has.iter().map(EventFilter::exists);
        let correlation_id = self.correlation_id.iter().map(EventFilter::correlation_id);
        let agent = self.agent.iter().map(EventFilter::agent);
        let worktree = self
            .worktree
            .iter()
            .map(|name| EventFilter::equals("worktree", name));
        self.filter
            .iter()
            .cloned()
            .chain(worktree)
            .chain(has)
            .chain(correlation_id)
            .chain(agent)
    }
}
