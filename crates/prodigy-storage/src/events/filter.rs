//! Conditions on events.
//!
//! Only the fields that a filter names are parsed, so a number elsewhere in the record that no type can hold, such
//! as `1e999`, does no harm. Numbers are compared by their digits, without rounding.

mod value;

use std::fmt;
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Record, Result, StorageError};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde_json::value::RawValue;

use crate::error::other_shape;
use value::{is_same, look_up, only_member, text_of};

/// The deepest nesting of a value that a filter compares.
const DEEPEST: usize = 64;
/// The field that names the agent of an event.
const AGENT: &str = "agent_id";

/// A condition on an event, for [`ReadOptions::filter`](crate::ReadOptions::filter) and
/// [`FollowOptions::filter`](crate::FollowOptions::filter).
///
/// A field is given as a path: names, or indices of an array, joined by dots. A name that contains a dot can't be
/// given. The field is searched in the payload first and then, if the payload does not have it, in the record
/// around the payload. A wanted text matches an equal string. Any other wanted value is compared as JSON, whatever
/// the order of fields and the form of numbers.
///
/// ```
/// # use prodigy_storage::{EventFilter, ReadOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&serde_json::json!({"agent_id": "agent-3", "result": {"status": "failed", "tries": 2}}))?;
/// let failed = ReadOptions::new()
///     .filter(EventFilter::equals("result.status", "failed"))
///     .filter(EventFilter::equals("result.tries", "2.0"))
///     .filter(EventFilter::agent("agent-3"));
/// assert_eq!(job.events().read_with::<serde_json::Value>(failed)?.count(), 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventFilter(Condition);

#[derive(Clone, Debug)]
enum Condition {
    Equals(String, Wanted),
    Differs(String, Wanted),
    Matches(String, Test),
    PayloadMatches(Test),
    Exists(String),
    CorrelationId(Wanted),
    Agent(Wanted),
    OriginalTime(Option<Timestamp>, Option<Timestamp>),
}

/// A test of a text that the caller supplies.
#[derive(Clone)]
struct Test(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Test")
    }
}

/// The value that a field must have.
#[derive(Clone, Debug)]
struct Wanted {
    text: String,
    literal: Option<Arc<RawValue>>,
}

impl Wanted {
    fn new(text: String) -> Self {
        let is_deep = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > DEEPEST;
        let literal = (!is_deep)
            .then(|| RawValue::from_string(text.clone()).ok())
            .flatten();
        Self {
            text,
            literal: literal.map(Arc::from),
        }
    }

    /// A value that matches equal strings only, even if the text is also JSON of another type.
    fn text(text: String) -> Self {
        Self { text, literal: None }
    }

    fn is(&self, found: &RawValue) -> bool {
        match text_of(found) {
            Some(text) => *text == *self.text,
            None => self
                .literal
                .as_ref()
                .is_some_and(|literal| is_same(literal, found)),
        }
    }

    /// False if a line without escapes can't contain this value.
    fn may_be_in(&self, line: &str) -> bool {
        self.literal.is_some() || line.contains(&self.text)
    }
}

impl EventFilter {
    /// Selects events whose field has this value.
    #[must_use]
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self(Condition::Equals(field.into(), Wanted::new(value.into())))
    }

    /// Selects events whose field has another value, and events without the field.
    #[must_use]
    pub fn not_equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self(Condition::Differs(field.into(), Wanted::new(value.into())))
    }

    /// Selects events whose field passes a test, such as a regular expression. The test gets the text of a string,
    /// and the JSON of any other value.
    #[must_use]
    pub fn matches(field: impl Into<String>, test: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Condition::Matches(field.into(), Test(Arc::new(test))))
    }

    /// Selects events whose payload passes a test, such as a regular expression. The test gets the payload as it
    /// is stored, as JSON.
    ///
    /// ```
    /// # use prodigy_storage::{EventFilter, ReadOptions, Storage};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append_batch(["started", "agent 12 failed"])?;
    /// let failed = ReadOptions::new().filter(EventFilter::payload_matches(|json| json.contains("failed")));
    /// assert_eq!(job.events().read_with::<String>(failed)?.count(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn payload_matches(test: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Condition::PayloadMatches(Test(Arc::new(test))))
    }

    /// Selects events whose original time is not before `since`, and is before `until`. The original time of an
    /// imported event is in its metadata; that of any other event is the time at which it was stored.
    /// [`ReadOptions::since`](crate::ReadOptions::since) compares the time at which an event was stored in this
    /// log, and need not read the other events.
    ///
    /// ```
    /// # use prodigy_storage::{EventFilter, ReadOptions, Storage, Timestamp};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"started")?;
    /// let since = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
    /// let this_year = ReadOptions::new().filter(EventFilter::original_time(since, None));
    /// assert_eq!(job.events().read_with::<String>(this_year)?.count(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn original_time(since: impl Into<Option<Timestamp>>, until: impl Into<Option<Timestamp>>) -> Self {
        Self(Condition::OriginalTime(since.into(), until.into()))
    }

    /// Selects events that have the field, whatever its value; `null` counts as a value.
    #[must_use]
    pub fn exists(field: impl Into<String>) -> Self {
        Self(Condition::Exists(field.into()))
    }

    /// Selects events with this correlation id.
    #[must_use]
    pub fn correlation_id(id: impl Into<String>) -> Self {
        Self(Condition::CorrelationId(Wanted::text(id.into())))
    }

    /// Selects events of this agent: those whose payload has this `agent_id`. If the payload has no such field,
    /// that of the payload's only field is compared (serde writes an enum so), or else that of the metadata.
    #[must_use]
    pub fn agent(id: impl Into<String>) -> Self {
        Self(Condition::Agent(Wanted::new(id.into())))
    }

    fn holds(&self, envelope: &RawValue) -> bool {
        match &self.0 {
            Condition::Equals(field, wanted) => {
                field_of(envelope, field).is_some_and(|found| wanted.is(found))
            }
            Condition::Differs(field, wanted) => {
                field_of(envelope, field).is_none_or(|found| !wanted.is(found))
            }
            Condition::Matches(field, test) => {
                field_of(envelope, field).is_some_and(|found| match text_of(found) {
                    Some(text) => (test.0)(&text),
                    None => (test.0)(found.get()),
                })
            }
            Condition::PayloadMatches(test) => {
                look_up(envelope, "event").is_some_and(|payload| (test.0)(payload.get()))
            }
            Condition::Exists(field) => field_of(envelope, field).is_some(),
            Condition::CorrelationId(wanted) => {
                look_up(envelope, "correlation_id").is_some_and(|found| wanted.is(found))
            }
            Condition::Agent(wanted) => agent_of(envelope).is_some_and(|found| wanted.is(found)),
            Condition::OriginalTime(since, until) => original_time(envelope).is_some_and(|time| {
                since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
            }),
        }
    }

    /// False if the text of a line without escapes shows that the filter does not match it. True for any line with
    /// an escape, which may contain any value.
    fn may_hold(&self, line: &str) -> bool {
        let names = |field: &str| {
            let is_there = |name: &str| name.parse::<usize>().is_ok() || line.contains(name);
            field.split('.').all(is_there)
        };
        match &self.0 {
            Condition::Equals(field, wanted) => names(field) && wanted.may_be_in(line),
            Condition::Exists(field) | Condition::Matches(field, _) => names(field),
            Condition::Differs(..) | Condition::PayloadMatches(_) | Condition::OriginalTime(..) => true,
            Condition::CorrelationId(wanted) => wanted.may_be_in(line),
            Condition::Agent(wanted) => names(AGENT) && wanted.may_be_in(line),
        }
    }
}

/// Parses `FIELD=VALUE` like [`equals`](EventFilter::equals), and `FIELD!=VALUE` like
/// [`not_equals`](EventFilter::not_equals). The field ends at the first `=`.
impl std::str::FromStr for EventFilter {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        let found = text.split_once('=').and_then(|(field, value)| {
            let (field, filter): (&str, fn(&str, &str) -> Self) = match field.strip_suffix('!') {
                Some(field) => (field, |field, value| Self::not_equals(field, value)),
                None => (field, |field, value| Self::equals(field, value)),
            };
            (!field.is_empty()).then(|| filter(field, value))
        });
        found.ok_or_else(|| {
            let why = "a filter is FIELD=VALUE or FIELD!=VALUE, such as `status=done` or `agent.id!=3`";
            StorageError::new(ErrorKind::InvalidInput, "read filter", text, why)
        })
    }
}

fn field_of<'v>(envelope: &'v RawValue, field: &str) -> Option<&'v RawValue> {
    look_up(envelope, "event")
        .and_then(|payload| look_up(payload, field))
        .or_else(|| look_up(envelope, field))
}

/// The time of an event in the log from which it was imported; if it was not imported, its own time.
fn original_time(envelope: &RawValue) -> Option<Timestamp> {
    let time = |field| Timestamp::parse(&text_of(look_up(envelope, field)?)?);
    time("metadata.imported.timestamp").or_else(|| time("timestamp"))
}

fn agent_of(envelope: &RawValue) -> Option<&RawValue> {
    let payload = look_up(envelope, "event");
    payload
        .and_then(|payload| look_up(payload, AGENT).or_else(|| look_up(only_member(payload)?, AGENT)))
        .or_else(|| look_up(look_up(envelope, "metadata")?, AGENT))
}

/// The filters of a read. An event is returned if all of them select it.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    job: JobAddress,
    filters: Vec<EventFilter>,
}

impl Filters {
    pub(super) fn new(job: &JobAddress, filters: Vec<EventFilter>) -> Self {
        Self {
            job: job.clone(),
            filters,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// True if all filters select the record. Fails for a line of another program that is not JSON.
    pub(super) fn hold(&self, record: &Record<'_>) -> Result<bool> {
        let may_hold = || self.filters.iter().all(|filter| filter.may_hold(record.line));
        if self.is_empty() || (!record.line.contains('\\') && !may_hold()) {
            return Ok(self.is_empty());
        }
        let envelope: &RawValue = record.parse().map_err(|error| {
            let target = format_args!("{} {}", self.job, record.id).to_string();
            other_shape("read event", target, error)
        })?;
        Ok(self.filters.iter().all(|filter| filter.holds(envelope)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id":"e-1","correlation_id":"run-7","event":{"id":"payload","n":1,"ok":true,"none":null,
            "agent":{"id":"3"},"list":[10,"x"],"huge":1e999,"big":9007199254740993,"neg":-0.0,"o":{"a":[1.50],"b":"\u0041"}}}"#;

    fn holds(filter: &str) -> bool {
        hold(LINE, &filter.parse().unwrap())
    }

    /// True if the filter selects the line.
    fn hold(line: &str, filter: &EventFilter) -> bool {
        let job = prodigy_storage_layout::JobAddress::new("shop".parse().unwrap(), "job".parse().unwrap());
        let record = Record {
            id: prodigy_storage_backend::EventId::MIN,
            line,
            verified: false,
        };
        Filters::new(&job, vec![filter.clone()]).hold(&record).unwrap()
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
        assert!("novalue".parse::<EventFilter>().is_err() && "=x".parse::<EventFilter>().is_err());
    }

    #[test]
    fn a_value_may_have_to_differ_and_a_field_that_is_not_there_differs() {
        assert!(holds("n!=2") && !holds("n!=1") && !holds("n!=1.0") && holds("agent.id!=4"));
        assert!(holds("missing!=1") && !holds("o.b!=A") && holds("id!=e-1") && !holds("id!=payload"));
        assert!("!=x".parse::<EventFilter>().is_err());
    }

    #[test]
    fn a_value_may_have_to_pass_a_test() {
        let passes = |field: &str, wanted: &'static str| {
            hold(LINE, &EventFilter::matches(field, move |found| found == wanted))
        };
        assert!(passes("agent.id", "3") && passes("o.b", "A") && passes("n", "1"));
        assert!(passes("list", "[10,\"x\"]") && passes("correlation_id", "run-7"));
        assert!(!passes("missing", "") && !passes("agent.id", "\"3\""));
    }

    #[test]
    fn a_payload_may_have_to_pass_a_test_and_the_envelope_does_not_count() {
        let has = |text: &'static str| {
            hold(
                LINE,
                &EventFilter::payload_matches(move |json| json.contains(text)),
            )
        };
        assert!(has("\"agent\"") && has("1e999") && !has("run-7") && !has("e-1"));
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

    #[test]
    fn a_field_exists_whatever_its_value() {
        for (field, there) in [
            ("none", true),
            ("o.a.0", true),
            ("correlation_id", true),
            ("list.2", false),
            ("agent.name", false),
            ("n.id", false),
        ] {
            assert_eq!(hold(LINE, &EventFilter::exists(field)), there, "{field}");
        }
    }

    #[test]
    fn a_correlation_id_is_that_of_the_envelope_and_a_text() {
        let in_the_payload = r#"{"id":"e","event":{"correlation_id":"run-7"}}"#;
        let number = r#"{"id":"e","correlation_id":7,"event":0}"#;
        let filter = EventFilter::correlation_id("run-7");
        assert!(hold(LINE, &filter) && !hold(in_the_payload, &filter));
        assert!(!hold(number, &EventFilter::correlation_id("7")));
        assert!(!hold(LINE, &EventFilter::correlation_id("run-8")));
    }

    #[test]
    fn an_agent_is_named_by_the_payload_an_enum_or_the_metadata() {
        let filter = EventFilter::agent("a-3");
        for (line, is_of_agent) in [
            (r#"{"event":{"agent_id":"a-3"}}"#, true),
            (r#"{"event":{"AgentStarted":{"agent_id":"a-3","item":1}}}"#, true),
            (r#"{"event":"x","metadata":{"agent_id":"a-3"}}"#, true),
            (
                r#"{"event":{"agent_id":"a-4"},"metadata":{"agent_id":"a-3"}}"#,
                false,
            ),
            (r#"{"event":{"first":{"agent_id":"a-3"},"second":{}}}"#, false),
            (
                r#"{"event":{"E":{"agent_id":"a-4"},"E":{"agent_id":"a-3"}}}"#,
                true,
            ),
            (r#"{"event":{"agent_id":"a-33"}}"#, false),
            (r#"{"event":["agent_id","a-3"]}"#, false),
        ] {
            assert_eq!(hold(line, &filter), is_of_agent, "{line}");
        }
        assert!(hold(r#"{"event":{"agent_id":3}}"#, &EventFilter::agent("3")));
    }

    #[test]
    fn escapes_change_nothing_and_of_equal_names_the_last_counts() {
        let escaped = r#"{"event":{"st\u0061tus":"d\u006fne"}}"#;
        assert!(hold(escaped, &"status=done".parse().unwrap()));
        assert!(!hold(escaped, &"status=open".parse().unwrap()));
        let twice = r#"{"event":{"status":"open","status":"done"}}"#;
        assert!(
            hold(twice, &"status=done".parse().unwrap()) && !hold(twice, &"status=open".parse().unwrap())
        );
    }

    #[test]
    fn a_line_that_is_no_json_is_an_error_if_its_text_does_not_rule_it_out() {
        let job = prodigy_storage_layout::JobAddress::new("shop".parse().unwrap(), "job".parse().unwrap());
        let record = Record {
            id: prodigy_storage_backend::EventId::MIN,
            line: "{\"event\":{\"status\":done}",
            verified: false,
        };
        let of = |filter: &str| Filters::new(&job, vec![filter.parse().unwrap()]).hold(&record);
        assert_eq!(of("status=done").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(!of("stage=done").unwrap());
    }
}
