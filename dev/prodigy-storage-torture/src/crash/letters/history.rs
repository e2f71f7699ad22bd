//! Converts the calls that workers report into calls of the reference model.

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::Settled;
use prodigy_storage_backend::reference::{Calls, Change, Span};
use serde::Deserialize;

use crate::crash::power::process::Ended;

/// A time since the boot, in nanoseconds.
type Nanos = u64;

/// A call of a worker.
#[derive(Debug)]
pub(in crate::crash) struct Call {
    span: Span,
    what: What,
    /// The result of the call; `None` if the call did not return, or if its outcome is unknown.
    result: Option<Answer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Push {
        items: Vec<String>,
    },
    Take {
        lease: Nanos,
    },
    Settle {
        item: String,
        token: Option<String>,
        how: How,
        length: Nanos,
    },
    Compact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Remove,
    Extend,
    Release,
    Fail,
    Park,
    Unpark,
    Edit,
}

impl How {
    /// The corresponding change of the reference model; a lease or a delay in it ends at `until`.
    fn change(self, until: Nanos) -> Change<()> {
        match self {
            Self::Remove => Change::Remove,
            Self::Extend => Change::Extend(until),
            Self::Release => Change::Release(Some(until)),
            Self::Fail => Change::Fail(()),
            Self::Park => Change::Park,
            Self::Unpark => Change::Unpark,
            Self::Edit => Change::Edit(()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Unclear,
    Pushed,
    Taken(Vec<TakenItem>),
    Settled(#[serde(with = "Outcome")] Settled),
    Compacted,
}

#[derive(Debug, Deserialize)]
struct TakenItem {
    item: String,
    token: String,
}

/// The serialised form of the backend's `Outcome`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", remote = "Settled")]
enum Outcome {
    Done,
    Kept,
    Unknown,
    Changed,
    Already,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin { at: Nanos, call: What },
    End { at: Nanos, result: Answer },
}

/// The calls that a worker reported.
pub(in crate::crash) fn calls(ended: &Ended) -> Result<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    for line in ended.lines() {
        let shown = || format!("it printed {}", String::from_utf8_lossy(line));
        match serde_json::from_slice(line).with_context(shown)? {
            Line::Begin { at, call } => calls.push(Call {
                span: Span {
                    start: at,
                    end: Nanos::MAX,
                },
                what: call,
                result: None,
            }),
            Line::End { at, result } => {
                let call = calls.last_mut().context("an end without a beginning")?;
                ensure!(call.span.end == Nanos::MAX, "two ends of one call");
                call.span.end = at;
                call.result = match result {
                    Answer::Unclear => None,
                    result => Some(result),
                };
            }
        }
    }
    Ok(calls)
}

/// The calls of all workers, by item and token.
pub(super) fn by_item(calls: &[Call]) -> Result<Calls<String, String>> {
    let mut items = Calls::default();
    for Call { span, what, result } in calls {
        let span = *span;
        match (what, result) {
            (What::Push { items: pushed }, result) => {
                for item in pushed {
                    items.push(item.clone(), span, result.is_some());
                }
            }
            (What::Take { lease }, Some(Answer::Taken(taken))) => {
                for TakenItem { item, token } in taken {
                    let until = span.start.saturating_add(*lease);
                    items.take(item.clone(), token.clone(), span, until)?;
                }
            }
            (
                What::Settle {
                    item,
                    token,
                    how,
                    length,
                },
                result,
            ) => {
                let outcome = match result {
                    Some(Answer::Settled(settled)) => Some(*settled),
                    None => None,
                    other => bail!("the answer to a settlement is {other:?}"),
                };
                let change = how.change(span.start.saturating_add(*length));
                items.settle(item.clone(), token.clone(), change, span, outcome);
            }
            (What::Take { .. }, None) | (What::Compact, _) => {}
            other => bail!("a call and an answer that do not belong together: {other:?}"),
        }
    }
    Ok(items)
}
