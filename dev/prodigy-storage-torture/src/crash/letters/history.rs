//! The calls on a queue, and what follows from them for each item.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::crash::power::process::Ended;
use crate::crash::section::Tally;

/// A time since the boot, in nanoseconds.
type Nanos = u64;

/// From before a call to behind it; a call that did not return has no end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: Nanos,
    end: Nanos,
}

/// A call of a worker.
#[derive(Debug)]
pub(super) struct Call {
    span: Span,
    what: What,
    /// `None` where it did not return, or its outcome is unknown.
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Unclear,
    Pushed,
    Taken(Vec<TakenItem>),
    Settled(Settled),
    Compacted,
}

#[derive(Debug, Deserialize)]
struct TakenItem {
    item: String,
    token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Settled {
    Done,
    Kept,
    Unknown,
    Changed,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin { at: Nanos, call: What },
    End { at: Nanos, result: Answer },
}

/// The calls that a worker reported.
pub(super) fn calls(ended: &Ended) -> Result<Vec<Call>> {
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

/// An item as it is stored at the end.
#[derive(Debug)]
pub(super) struct Stored {
    id: String,
    of: String,
    failures: u64,
    eligible: bool,
}

impl Stored {
    /// Reads a line of `dlq list --json`.
    pub(super) fn read(line: &[u8]) -> Result<Self> {
        let item: Value = serde_json::from_slice(line)?;
        let text = |at: &str| {
            let found = item.pointer(at).and_then(Value::as_str);
            found
                .map(str::to_owned)
                .with_context(|| format!("no {at} in {item}"))
        };
        Ok(Self {
            id: text("/item_id")?,
            of: text("/item_data/of")?,
            failures: item
                .get("failure_count")
                .and_then(Value::as_u64)
                .context("no failure_count")?,
            eligible: item.get("reprocess_eligible") != Some(&Value::Bool(false)),
        })
    }
}

#[derive(Debug)]
struct Take<'a> {
    token: &'a str,
    span: Span,
    lease: Nanos,
}

#[derive(Debug)]
struct Settling<'a> {
    token: Option<&'a str>,
    span: Span,
    how: How,
    length: Nanos,
    /// `None` where nobody knows.
    result: Option<Settled>,
}

impl Settling<'_> {
    fn is_done(&self) -> bool {
        self.result == Some(Settled::Done)
    }

    /// Whether it may have had an effect.
    fn may_count(&self) -> bool {
        !matches!(self.result, Some(Settled::Unknown | Settled::Changed))
    }
}

/// All that happened to one item.
#[derive(Debug, Default)]
struct Item<'a> {
    /// Failures that were pushed for sure, and that may have been.
    pushed: u64,
    tried: u64,
    takes: Vec<Take<'a>>,
    settlings: Vec<Settling<'a>>,
}

/// All that happened.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    items: BTreeMap<&'a str, Item<'a>>,
}

impl<'a> History<'a> {
    pub(super) fn of(calls: &'a [Call]) -> Result<Self> {
        let mut history = Self::default();
        for call in calls {
            match (&call.what, &call.result) {
                (What::Push { items }, result) => {
                    for item in items {
                        let item = history.items.entry(item).or_default();
                        item.tried += 1;
                        item.pushed += u64::from(result.is_some());
                    }
                }
                (What::Take { lease }, Some(Answer::Taken(taken))) => {
                    for TakenItem { item, token } in taken {
                        history.items.entry(item).or_default().takes.push(Take {
                            token,
                            span: call.span,
                            lease: *lease,
                        });
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
                    let result = match result {
                        Some(Answer::Settled(settled)) => Some(*settled),
                        None => None,
                        other => bail!("the answer to a settlement is {other:?}"),
                    };
                    let item = history.items.entry(item).or_default();
                    item.tried += u64::from(*how == How::Fail);
                    item.pushed += u64::from(*how == How::Fail && result == Some(Settled::Done));
                    item.settlings.push(Settling {
                        token: token.as_deref(),
                        span: call.span,
                        how: *how,
                        length: *length,
                        result,
                    });
                }
                (What::Take { .. }, None) | (What::Compact, _) => {}
                other => bail!("a call and an answer that do not belong together: {other:?}"),
            }
        }
        Ok(history)
    }

    /// Checks each item on its own, and against what is stored.
    pub(super) fn check(&self, stored: &[Stored], tally: &mut Tally) -> Result<()> {
        let mut there: BTreeMap<&str, &Stored> = BTreeMap::new();
        for item in stored {
            ensure!(item.of == item.id, "item {} has the data of {}", item.id, item.of);
            let before = there.insert(&item.id, item);
            ensure!(before.is_none(), "item {} is there twice", item.id);
            let known = self.items.contains_key(item.id.as_str());
            ensure!(known, "item {} was never pushed", item.id);
        }
        let (mut takes, mut gone) = (0, 0);
        for (id, item) in &self.items {
            item.check(there.get(id).copied())
                .with_context(|| format!("item {id}: {item:#?}"))?;
            takes += item.takes.len();
            gone += usize::from(item.removals().any(Settling::is_done));
        }
        ensure!(takes > 0 && gone > 0, "nothing was taken, or nothing removed");
        tally.add("items of a queue", self.items.len());
        tally.add("takes of them, none while another had the item", takes);
        tally.add("items that were finished, none of which came back", gone);
        Ok(())
    }
}

impl<'a> Item<'a> {
    fn removals(&self) -> impl Iterator<Item = &Settling<'a>> {
        self.settlings.iter().filter(|one| one.how == How::Remove)
    }

    /// Until when a take was surely its worker's: its lease, and no call that may have ended it sooner.
    fn surely_until(&self, take: &Take<'_>) -> Nanos {
        let mut until = take.span.start.saturating_add(take.lease);
        let mut of_it: Vec<&Settling<'_>> = self
            .settlings
            .iter()
            .filter(|one| one.token.is_none_or(|token| token == take.token) && one.may_count())
            .filter(|one| one.span.end > take.span.start)
            .collect();
        of_it.sort_by_key(|one| one.span.start);
        for one in of_it {
            if one.how == How::Extend {
                let longer = one.span.start.saturating_add(one.length);
                // One whose outcome is unknown may have shortened it.
                until = if one.is_done() { longer } else { until.min(longer) };
            } else {
                return until.min(one.span.start);
            }
        }
        until
    }

    fn check(&self, stored: Option<&Stored>) -> Result<()> {
        for (number, one) in self.takes.iter().enumerate() {
            for other in self.takes.iter().skip(number + 1) {
                let at_once =
                    self.surely_until(one) > other.span.end && self.surely_until(other) > one.span.end;
                ensure!(!at_once, "two had it at once: {one:?} and {other:?}");
            }
        }
        for settling in self.settlings.iter().filter(|one| one.is_done()) {
            self.check_settled(settling)?;
        }
        let done = self.removals().filter(|one| one.is_done()).count();
        ensure!(done <= 1, "it was finished {done} times");
        self.check_stored(stored)
    }

    /// Checks the takes after a call that was carried out.
    fn check_settled(&self, done: &Settling<'_>) -> Result<()> {
        let mine = self.takes.iter().find(|take| Some(take.token) == done.token);
        for take in &self.takes {
            let later = take.span.start > done.span.end;
            ensure!(
                done.how != How::Remove || !later,
                "it was taken after it was finished: {take:?}, {done:?}"
            );
            if done.how == How::Release && later {
                let waits = done.span.start.saturating_add(done.length);
                let forced = self.settlings.iter().any(|other| {
                    other.token.is_none()
                        && other.span.end > done.span.start
                        && other.span.start < take.span.end
                });
                ensure!(
                    forced || take.span.end >= waits,
                    "it was taken before its delay had passed: {take:?}, {done:?}"
                );
            }
            if done.how == How::Park && later {
                let unparked = self.settlings.iter().any(|other| {
                    matches!(other.how, How::Unpark | How::Edit | How::Fail)
                        && other.span.end > done.span.start
                });
                ensure!(unparked, "it was taken while it was parked: {take:?}, {done:?}");
            }
            if let Some(mine) = mine {
                let between = mine.span.end < take.span.start && take.span.end < done.span.start;
                ensure!(
                    !between,
                    "a lease that another take followed settled it: {take:?}, {done:?}"
                );
            }
        }
        Ok(())
    }

    /// Compares the item with its stored form at the end.
    fn check_stored(&self, stored: Option<&Stored>) -> Result<()> {
        let gone = self.removals().any(Settling::is_done);
        let may_be_gone = self
            .removals()
            .any(|one| one.may_count() && one.result != Some(Settled::Kept));
        match stored {
            Some(_) if gone => bail!("it was finished, and is there"),
            None if self.pushed > 0 && !may_be_gone => bail!("it is lost"),
            None => Ok(()),
            Some(stored) => {
                let edited = self
                    .settlings
                    .iter()
                    .any(|one| one.how == How::Edit && one.may_count());
                // An edit sets the number of failures, too.
                ensure!(
                    edited || (self.pushed..=self.tried).contains(&stored.failures),
                    "it has failed {} times",
                    stored.failures
                );
                let last = |how: &[How]| {
                    let of = self.settlings.iter().filter(|one| how.contains(&one.how));
                    of.filter(|one| one.may_count())
                        .map(|one| one.span.end)
                        .max()
                        .unwrap_or_default()
                };
                let parked = self
                    .settlings
                    .iter()
                    .filter(|one| one.how == How::Park && one.is_done())
                    .any(|one| one.span.start > last(&[How::Unpark, How::Edit, How::Fail]));
                let pushed_again = self.tried > 1;
                ensure!(
                    !parked || pushed_again || !stored.eligible,
                    "it was parked, and is eligible"
                );
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Call, History, How, Settled, Span, Stored, TakenItem, What};
    use crate::crash::section::Tally;

    fn call(start: u64, end: u64, what: What, result: Option<Answer>) -> Call {
        Call {
            span: Span { start, end },
            what,
            result,
        }
    }

    fn push(at: u64) -> Call {
        let items = vec!["i".to_owned()];
        call(at, at + 1, What::Push { items }, Some(Answer::Pushed))
    }

    fn take(at: u64, token: &str, lease: u64) -> Call {
        let taken = vec![TakenItem {
            item: "i".to_owned(),
            token: token.to_owned(),
        }];
        call(at, at + 1, What::Take { lease }, Some(Answer::Taken(taken)))
    }

    fn settle(at: u64, token: Option<&str>, how: How, length: u64, result: Option<Settled>) -> Call {
        let what = What::Settle {
            item: "i".to_owned(),
            token: token.map(str::to_owned),
            how,
            length,
        };
        let end = if result.is_some() { at + 1 } else { u64::MAX };
        call(at, end, what, result.map(Answer::Settled))
    }

    fn judged(calls: &[Call], there: bool) -> Result<(), String> {
        let stored = Stored {
            id: "i".to_owned(),
            of: "i".to_owned(),
            failures: 1,
            eligible: true,
        };
        let history = History::of(calls).unwrap();
        let item = &history.items["i"];
        item.check(there.then_some(&stored))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn two_at_once_are_seen_and_an_ended_lease_makes_room() {
        let twice = [push(0), take(10, "a", 1_000), take(20, "b", 1_000)];
        assert!(judged(&twice, true).unwrap_err().contains("at once"));
        judged(&[push(0), take(10, "a", 5), take(20, "b", 1_000)], true).unwrap();
        let released = settle(15, Some("a"), How::Release, 0, Some(Settled::Done));
        judged(&[push(0), take(10, "a", 1_000), released, take(20, "b", 9)], true).unwrap();
    }

    #[test]
    fn an_extension_lasts_and_an_unclear_one_may_not() {
        let extended = |result| settle(14, Some("a"), How::Extend, 1_000, result);
        let calls = [
            push(0),
            take(10, "a", 5),
            extended(Some(Settled::Done)),
            take(20, "b", 1_000),
        ];
        assert!(judged(&calls, true).unwrap_err().contains("at once"));
        judged(
            &[push(0), take(10, "a", 5), extended(None), take(20, "b", 1_000)],
            true,
        )
        .unwrap();
    }

    #[test]
    fn what_is_finished_stays_so_and_what_was_pushed_is_there() {
        let removed = || settle(15, Some("a"), How::Remove, 0, Some(Settled::Done));
        judged(&[push(0), take(10, "a", 50), removed()], false).unwrap();
        assert!(
            judged(&[push(0), take(10, "a", 50), removed()], true)
                .unwrap_err()
                .contains("is there")
        );
        let again = [push(0), take(10, "a", 50), removed(), take(20, "b", 9)];
        assert!(
            judged(&again, false)
                .unwrap_err()
                .contains("after it was finished")
        );
        assert!(judged(&[push(0)], false).unwrap_err().contains("lost"));
        judged(&[push(0), settle(3, None, How::Remove, 0, None)], false).unwrap();
        let kept = settle(15, Some("a"), How::Remove, 0, Some(Settled::Kept));
        assert!(
            judged(&[push(0), take(10, "a", 50), kept], false)
                .unwrap_err()
                .contains("lost")
        );
    }

    #[test]
    fn a_delay_a_park_and_a_lost_lease_hold() {
        let delayed = settle(15, Some("a"), How::Release, 100, Some(Settled::Done));
        let early = [push(0), take(10, "a", 50), delayed, take(20, "b", 9)];
        assert!(judged(&early, true).unwrap_err().contains("delay"));
        let parked = settle(15, None, How::Park, 0, Some(Settled::Done));
        assert!(
            judged(&[push(0), parked, take(20, "b", 9)], true)
                .unwrap_err()
                .contains("parked")
        );
        let late = settle(40, Some("a"), How::Release, 0, Some(Settled::Done));
        let lost = [push(0), take(10, "a", 5), take(20, "b", 5), late];
        assert!(judged(&lost, true).unwrap_err().contains("another take followed"));
    }

    #[test]
    fn the_whole_is_counted() {
        let removed = settle(15, Some("a"), How::Remove, 0, Some(Settled::Done));
        let calls = [push(0), take(10, "a", 50), removed];
        let mut tally = Tally::default();
        History::of(&calls).unwrap().check(&[], &mut tally).unwrap();
        assert_eq!(tally.counts().len(), 3);
    }
}
