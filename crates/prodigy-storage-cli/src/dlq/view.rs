//! The facts about an item that people see.

use std::borrow::Cow;
use std::time::Duration;

use clap::ValueEnum;
use prodigy_storage::{
    Clock, DlqItem, DlqSummary, ErrorKind, ItemState, Lease, StorageError, SystemClock, Uptime,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::errors::Result;
use crate::table::{Column, Table};
use crate::time::{age, left, passed};

/// The longest text of a failure in a table, in characters.
const LONGEST: usize = 500;

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// It can be taken.
    Pending,
    /// A worker has taken it.
    Leased,
    /// It was released with a delay that has not ended.
    Delayed,
    /// A person has to look at it.
    Parked,
    /// Its contents do not have the fields of an item.
    Unreadable,
}

impl State {
    /// The state of a readable item.
    pub(super) fn of(facts: &DlqSummary) -> Self {
        match facts.state {
            ItemState::Leased => Self::Leased,
            _ if !facts.eligible => Self::Parked,
            ItemState::Delayed => Self::Delayed,
            ItemState::Pending => Self::Pending,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Delayed => "delayed",
            Self::Parked => "parked",
            Self::Unreadable => "unreadable",
        }
    }
}

/// An item as a row of a table.
#[derive(Clone, Debug)]
pub(crate) struct View {
    id: String,
    pub(crate) state: State,
    held: ItemState,
    /// The remaining time of a lease or a delay.
    rest: Option<Duration>,
    attempts: Option<u64>,
    age: Option<Duration>,
    error: String,
}

impl View {
    pub(crate) fn of(item: DlqItem) -> Self {
        let clock = SystemClock;
        let id = item.id.to_string();
        let (error, reason) = words_of(&item.body);
        let held = item.state;
        let facts = match item.summary() {
            Ok(facts) => facts,
            Err(error) => {
                return Self {
                    id,
                    state: State::Unreadable,
                    held,
                    rest: None,
                    attempts: None,
                    age: None,
                    error: error.why().to_owned(),
                };
            }
        };
        let state = State::of(&facts);
        let rest = match state {
            State::Leased => facts.lease.and_then(|lease| lease_left(&lease, &clock)),
            State::Delayed => facts.delay.and_then(|delay| until(delay.end, &clock)),
            _ => None,
        };
        Self {
            id,
            state,
            held,
            rest,
            attempts: Some(facts.failure_count),
            age: facts.last_attempt.map(passed),
            error: shown(
                reason.filter(|_| state == State::Parked),
                error.or(facts.signature),
            ),
        }
    }

    /// Reports the item if its fields can't be read.
    pub(crate) fn print_unreadable(&self, app: &mut App<'_>) {
        if self.state == State::Unreadable {
            app.skipped(&format!("{}: {}", self.id, self.error));
        }
    }

    /// True if the item is neither leased nor delayed.
    pub(crate) fn is_free(&self) -> bool {
        self.held == ItemState::Pending
    }

    /// The item's state, and the remaining time of its lease or delay: `leased 4m 12s`.
    pub(crate) fn state(&self) -> String {
        let name = self.state.name();
        match self.rest {
            Some(rest) => format!("{name} {}", left(rest)),
            None => name.to_owned(),
        }
    }
}

/// A table of items.
pub(crate) struct ItemTable(Table);

impl ItemTable {
    pub(crate) fn new() -> Self {
        Self(Table::new([
            Column::name("ITEM"),
            Column::word("STATE"),
            Column::number("ATTEMPTS").optional(1),
            Column::number("AGE"),
            Column::text("LAST ERROR"),
        ]))
    }

    pub(crate) fn row(&mut self, app: &mut App<'_>, view: &View) -> Result<()> {
        let none = || "-".to_owned();
        self.0.row(
            app,
            [
                view.id.clone(),
                view.state(),
                view.attempts.map_or_else(none, |count| count.to_string()),
                view.age.map_or_else(none, age),
                view.error.clone(),
            ],
        )
    }

    pub(crate) fn print(self, app: &mut App<'_>) -> Result<()> {
        self.0.print(app)
    }
}

/// Calls `each` for every item of a scan. Damage and items above the size limit are reported and skipped.
///
/// Returns whether the scan had any item.
pub(crate) fn each<'c>(
    app: &mut App<'c>,
    scan: impl Iterator<Item = Result<DlqItem, StorageError>>,
    mut each: impl FnMut(&mut App<'c>, DlqItem) -> Result<()>,
) -> Result<bool> {
    let mut any = false;
    for item in scan {
        any = true;
        match item {
            Ok(item) => each(app, item)?,
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::TooLarge) => {
                left_out(app, &error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(any)
}

/// Reports an item that can't be read.
pub(crate) fn left_out(app: &mut App<'_>, error: &StorageError) {
    match error.kind() {
        ErrorKind::Damaged => app.damaged_by(error),
        _ => app.skipped_by(error),
    }
}

fn lease_left(lease: &Lease, clock: &dyn Clock) -> Option<Duration> {
    match lease.end {
        Some(end) => until(end, clock),
        None => {
            let nanos = lease.until.as_nanos().saturating_sub(clock.now().as_nanos());
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        }
    }
}

fn until(end: Uptime, clock: &dyn Clock) -> Option<Duration> {
    end.since.checked_sub(clock.uptime().since)
}

/// The reason why an item is parked, followed by its last error.
fn shown(reason: Option<String>, error: Option<String>) -> String {
    match (reason, error) {
        (Some(reason), Some(error)) => format!("{reason} ({error})"),
        (one, other) => one.or(other).unwrap_or_else(|| "-".to_owned()),
    }
}

/// The type of the last failure with the first line of its message, and the reason for parking.
pub(crate) fn words_of(body: &RawValue) -> (Option<String>, Option<String>) {
    #[derive(Default, Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        failure_history: Option<Vec<&'a RawValue>>,
        #[serde(borrow)]
        parked_reason: Option<&'a RawValue>,
    }
    let item: Item<'_> = serde_json::from_str(body.get()).unwrap_or_default();
    let reason = item
        .parked_reason
        .and_then(|reason| serde_json::from_str::<String>(reason.get()).ok())
        .map(|reason| reason.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|reason| !reason.is_empty())
        .map(|reason| reason.chars().take(LONGEST).collect());
    let last = item.failure_history.unwrap_or_default().pop();
    (last.and_then(error_of), reason)
}

/// The type of a failure and the first line of its message.
fn error_of(failure: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Failure<'a> {
        #[serde(borrow)]
        error_type: Option<&'a RawValue>,
        #[serde(borrow)]
        error_message: Option<&'a RawValue>,
    }
    let failure: Failure<'_> = serde_json::from_str(failure.get()).ok()?;
    let words = |value: Option<&RawValue>| {
        let json = value.map_or("null", RawValue::get);
        match serde_json::from_str::<Option<String>>(json) {
            Ok(text) => text.unwrap_or_default(),
            // A failure of another program: a JSON object with one member.
            Err(_) => json.to_owned(),
        }
    };
    let (kind, message) = (words(failure.error_type), words(failure.error_message));
    let first = message.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default().trim();
    let shown = match (kind.trim(), first) {
        ("", "") => return None,
        (kind, "") => Cow::Borrowed(kind),
        ("", first) => Cow::Borrowed(first),
        (kind, first) => Cow::Owned(format!("{kind}: {first}")),
    };
    Some(shown.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_its_type_and_the_first_line_of_its_message() {
        let of = |history: &str| {
            let body = format!(r#"{{"item_id":"i","item_data":1,"failure_history":{history}}}"#);
            words_of(&RawValue::from_string(body).unwrap()).0
        };
        let cases = [
            ("[]", None),
            ("null", None),
            (
                r#"[{"error_type":"A"},{"error_type":"B","error_message":"\n one\ntwo"}]"#,
                Some("B: one"),
            ),
            (r#"[{"error_message":"m"}]"#, Some("m")),
            (
                r#"[{"error_type":{"Exit":{"code":3}},"error_message":null}]"#,
                Some(r#"{"Exit":{"code":3}}"#),
            ),
            ("[7]", None),
            ("[{}]", None),
        ];
        for (history, wanted) in cases {
            assert_eq!(of(history).as_deref(), wanted, "{history}");
        }
        let parked = r#"{"item_id":"i","parked_reason":"no\n key ","failure_history":[{"error_type":"A"}]}"#;
        let parked = RawValue::from_string(parked.to_owned()).unwrap();
        let (error, reason) = words_of(&parked);
        assert_eq!(shown(reason, error.clone()), "no key (A)");
        assert_eq!(
            (shown(None, error), shown(None, None)),
            ("A".to_owned(), "-".to_owned())
        );
    }
}
