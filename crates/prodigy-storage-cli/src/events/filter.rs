//! The flags that filter events.

use prodigy_storage::{EventFilter, StorageError};

/// A regular expression that the payload has to match.
pub(super) fn pattern(text: &str) -> Result<EventFilter, String> {
    EventFilter::payload_matches(text).map_err(|error| error.why().to_owned())
}

/// The reason alone: the parser of the command line names the flag and its value.
fn filter(text: &str) -> Result<EventFilter, String> {
    text.parse().map_err(|error: StorageError| error.why().to_owned())
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only events with this value in a field: a dotted path into the payload or, where it has none, the envelope. A text
    /// compares as it is, anything else as JSON. `FIELD!=VALUE` is any other value, or no such field; `FIELD~PATTERN` is a
    /// regular expression. Several have to hold at once.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = filter)]
    filter: Vec<EventFilter>,
    /// Only events with this field, whatever its value. Several have to be there at once.
    #[arg(long, value_name = "FIELD")]
    has: Vec<String>,
    /// Only events with this correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only events of this agent: `agent_id` in the payload, or else in the metadata.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

impl FilterArgs {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = EventFilter> {
        let has = self.has.iter().map(EventFilter::exists);
        let correlation_id = self.correlation_id.iter().map(EventFilter::correlation_id);
        let agent = self.agent.iter().map(EventFilter::agent);
        self.filter
            .iter()
            .cloned()
            .chain(has)
            .chain(correlation_id)
            .chain(agent)
    }
}
