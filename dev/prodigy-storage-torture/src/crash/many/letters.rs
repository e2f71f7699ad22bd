//! The operations on each dead letter, to find two workers that had it at once.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::harness::{ADDRESS, Harness};
use crate::crash::section::Tally;

/// A call, from before its start to behind its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// An item in somebody's hands.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub(super) token: String,
    pub(super) taken: Span,
    /// The end of its lease.
    pub(super) until: Timestamp,
    settled: Option<Settling>,
}

#[derive(Clone, Debug)]
struct Settling {
    span: Span,
    how: How,
}

/// How a take ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Acknowledged: the item is gone.
    Acked,
    /// Given back.
    Given,
    /// The token was refused.
    Refused,
    /// A settlement was tried, with an unknown outcome.
    Unclear,
}

/// An item, from its first push.
#[derive(Clone, Debug, Default)]
pub(super) struct Letter {
    /// How often its failure was acknowledged, and tried.
    pub(super) pushed: u64,
    pub(super) tried: u64,
    takes: Vec<Take>,
}

/// All items of the shared job.
#[derive(Debug, Default)]
pub(super) struct LetterLedger {
    items: BTreeMap<String, Letter>,
    of_token: HashMap<String, String>,
}

impl LetterLedger {
    /// A push that was tried, and maybe acknowledged.
    pub(super) fn pushed(&mut self, id: &str, surely: bool) {
        let item = self.items.entry(id.to_owned()).or_default();
        item.tried += 1;
        item.pushed += u64::from(surely);
    }

    /// An acknowledged take.
    pub(super) fn took(&mut self, id: &str, token: String, taken: Span, until: Timestamp) -> Result<()> {
        let known = self.of_token.insert(token.clone(), id.to_owned());
        ensure!(known.is_none(), "token {token} was handed out twice");
        let item = self.items.entry(id.to_owned()).or_default();
        item.takes.push(Take {
            token,
            taken,
            until,
            settled: None,
        });
        Ok(())
    }

    /// A take that was settled, or not.
    pub(super) fn settled(&mut self, token: &str, span: Span, how: How) -> Result<()> {
        let id = self
            .of_token
            .get(token)
            .with_context(|| format!("nobody took {token}"))?;
        let takes = self.items.get_mut(id).map(|item| item.takes.iter_mut());
        let take = takes.into_iter().flatten().find(|take| take.token == token);
        let take = take.with_context(|| format!("nobody took {token}"))?;
        take.settled = Some(Settling { span, how });
        Ok(())
    }
}

impl Take {
    /// Until when it was surely its taker's: the end of the lease, or when settling it began.
    fn surely_until(&self) -> Timestamp {
        let settled = self
            .settled
            .as_ref()
            .filter(|settled| settled.how != How::Refused);
        settled.map_or(self.until, |settled| settled.span.start.min(self.until))
    }

    fn is_acked(&self) -> bool {
        self.settled
            .as_ref()
            .is_some_and(|settled| settled.how == How::Acked)
    }
}

impl Letter {
    /// Nobody had it while another had, and nobody after it was gone.
    fn check(&self, id: &str) -> Result<()> {
        for (number, one) in self.takes.iter().enumerate() {
            for other in self.takes.iter().skip(number + 1) {
                // The second worker took it while the first one had it.
                if one.surely_until() > other.taken.end && other.surely_until() > one.taken.end {
                    bail!("two had item {id} at once: {one:?} and {other:?}");
                }
                for (one, other) in [(one, other), (other, one)] {
                    let Some(settled) = &one.settled else { continue };
                    let done = matches!(settled.how, How::Acked | How::Given);
                    if one.is_acked() && other.taken.start > settled.span.end {
                        bail!("item {id} was taken after it was gone: {one:?}, then {other:?}");
                    }
                    if done && one.taken.end < other.taken.start && other.taken.end < settled.span.start {
                        bail!("a lost lease of item {id} settled it: {one:?}, then {other:?}");
                    }
                }
            }
        }
        ensure!(
            self.takes.iter().filter(|take| take.is_acked()).count() <= 1,
            "item {id} was acknowledged twice"
        );
        Ok(())
    }

    /// Whether it is surely gone, or may be.
    fn is_gone(&self) -> bool {
        self.takes.iter().any(Take::is_acked)
    }

    fn may_be_gone(&self) -> bool {
        let unclear = |take: &Take| {
            take.settled
                .as_ref()
                .is_some_and(|settled| settled.how == How::Unclear)
        };
        self.is_gone() || self.takes.iter().any(unclear)
    }
}

/// Every item had one owner at a time; who was acknowledged is gone, who was not is there.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let ledger = harness.letters.alone();
    let answer = harness
        .tool()
        .run(["--json", "dlq", "list"].iter().chain(&ADDRESS), b"")?
        .expect_code(0)?;
    let mut there = BTreeMap::new();
    for line in answer.lines() {
        let item: Value = serde_json::from_slice(line)?;
        let id = item
            .get("item_id")
            .and_then(Value::as_str)
            .context("no id")?
            .to_owned();
        let of = item.pointer("/item_data/of").and_then(Value::as_str);
        ensure!(of == Some(&id), "item {id} has the data of {of:?}");
        let count = item.get("failure_count").and_then(Value::as_u64);
        ensure!(
            there.insert(id.clone(), count.unwrap_or_default()).is_none(),
            "item {id} is there twice"
        );
    }
    let (mut takes, mut acked) = (0, 0);
    for (id, item) in &ledger.items {
        item.check(id)?;
        takes += item.takes.len();
        acked += usize::from(item.is_gone());
        match there.get(id) {
            Some(_) if item.is_gone() => bail!("item {id} was acknowledged, and is there: {item:?}"),
            Some(count) if item.takes.is_empty() || !item.may_be_gone() => ensure!(
                (item.pushed..=item.tried).contains(count),
                "item {id} has failed {count} times, pushed was {item:?}"
            ),
            None if item.pushed > 0 && !item.may_be_gone() => bail!("item {id} is lost: {item:?}"),
            _ => {}
        }
    }
    if let Some(id) = there.keys().find(|id| !ledger.items.contains_key(*id)) {
        bail!("item {id} was never pushed");
    }
    ensure!(takes > 0, "nothing was taken");
    tally.add("dead letters", ledger.items.len());
    tally.add("takes, none while another had the item", takes);
    tally.add("of them acknowledged, each gone", acked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{How, LetterLedger, Span};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn span(start: i64, end: i64) -> Span {
        Span {
            start: at(start),
            end: at(end),
        }
    }

    /// Two takes of one item, and how the first was settled.
    fn judged(first: (Span, i64), settled: Option<(Span, How)>, second: (Span, i64)) -> Result<(), String> {
        let mut ledger = LetterLedger::default();
        ledger.took("i", "a".to_owned(), first.0, at(first.1)).unwrap();
        ledger.took("i", "b".to_owned(), second.0, at(second.1)).unwrap();
        if let Some((span, how)) = settled {
            ledger.settled("a", span, how).unwrap();
        }
        ledger.items["i"].check("i").map_err(|error| error.to_string())
    }

    #[test]
    fn two_that_have_an_item_at_once_are_seen_in_either_order() {
        let (early, late) = ((span(1, 2), 100), (span(3, 4), 100));
        assert!(judged(early, None, late).unwrap_err().contains("at once"));
        assert!(judged(late, None, early).unwrap_err().contains("at once"));
        let together = (span(1, 4), 100);
        assert!(
            judged(together, None, (span(2, 3), 100))
                .unwrap_err()
                .contains("at once")
        );
    }

    #[test]
    fn a_lease_that_ends_or_is_given_back_makes_room() {
        let (first, second) = ((span(1, 2), 10), (span(11, 12), 20));
        judged(first, None, second).unwrap();
        judged((span(1, 2), 100), Some((span(5, 6), How::Given)), second).unwrap();
        judged((span(1, 2), 100), Some((span(5, 12), How::Unclear)), second).unwrap();
    }

    #[test]
    fn what_is_gone_is_not_taken_and_a_lost_lease_settles_nothing() {
        let second = (span(11, 12), 20);
        let gone = judged((span(1, 2), 100), Some((span(5, 6), How::Acked)), second);
        assert!(gone.unwrap_err().contains("after it was gone"));
        let lost = judged((span(1, 2), 10), Some((span(14, 15), How::Given)), second);
        assert!(lost.unwrap_err().contains("lost lease"));
        judged((span(1, 2), 10), Some((span(14, 15), How::Refused)), second).unwrap();
    }
}
