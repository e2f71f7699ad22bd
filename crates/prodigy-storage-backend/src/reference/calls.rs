//! Checks the calls that concurrent workers made on a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};

use super::{Change, Mismatch};
use crate::queue::Settled;

/// A time span that contains a call. A call that did not return ends at `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// A moment before the call.
    pub start: u64,
    /// A moment after the call.
    pub end: u64,
}

#[derive(Clone, Debug)]
struct Take<T> {
    token: T,
    span: Span,
    /// The earliest moment at which the lease may end.
    until: u64,
}

#[derive(Clone, Debug)]
struct Settling<T> {
    token: Option<T>,
    change: Change<()>,
    span: Span,
    /// The outcome of the change; `None` if it is unknown.
    outcome: Option<Settled>,
}

impl<T> Settling<T> {
    fn is_done(&self) -> bool {
        self.outcome == Some(Settled::Done)
    }

    /// True if the change may have had an effect.
    fn may_count(&self) -> bool {
        matches!(self.outcome, None | Some(Settled::Done))
    }
}

/// The calls on one item.
#[derive(Clone, Debug)]
struct Item<T> {
    /// Each push of a failure, and whether it was acknowledged.
    pushes: Vec<(Span, bool)>,
    takes: Vec<Take<T>>,
    settlings: Vec<Settling<T>>,
}

/// The state of an item that is stored after all calls.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The number of failures.
    pub failures: u64,
    /// True if the item is eligible.
    pub eligible: bool,
    /// True if the item has a lease, which may have ended.
    pub taken: bool,
}

/// The calls that concurrent workers made on a queue, by item. Only overlapping spans leave the order of two calls
/// open.
#[derive(Clone, Debug)]
pub struct Calls<K, T> {
    items: BTreeMap<K, Item<T>>,
    tokens: BTreeSet<T>,
}

/// The numbers of items, of takes, and of removals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items that were pushed.
    pub items: usize,
    /// Takes of items.
    pub takes: usize,
    /// Items that were removed.
    pub removed: usize,
}

impl<K, T> Default for Calls<K, T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            tokens: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Display, T: Ord + Clone + Debug> Calls<K, T> {
    fn item(&mut self, key: K) -> &mut Item<T> {
        self.items.entry(key).or_insert_with(|| Item {
            pushes: Vec::new(),
            takes: Vec::new(),
            settlings: Vec::new(),
        })
    }

    /// Records the push of a failure, and whether it was acknowledged.
    pub fn push(&mut self, key: K, span: Span, acknowledged: bool) {
        self.item(key).pushes.push((span, acknowledged));
    }

    /// Records a take, whose lease ends at `until` or later.
    ///
    /// # Errors
    /// The token was given out before, for another take.
    pub fn take(&mut self, key: K, token: T, span: Span, until: u64) -> Result<(), Mismatch> {
        if !self.tokens.insert(token.clone()) {
            return Err(Mismatch::new(format!("token {token:?} was handed out twice")));
        }
        self.item(key).takes.push(Take { token, span, until });
        Ok(())
    }

    /// Records a change of an item, under a token or by its key. The outcome is `None` if it is unknown.
    pub fn settle(
        &mut self,
        key: K,
        token: Option<T>,
        change: Change<()>,
        span: Span,
        outcome: Option<Settled>,
    ) {
        // `Kept` means that the item was released instead of removed.
        let (change, outcome) = match outcome {
            Some(Settled::Kept) => (Change::Release(None), Some(Settled::Done)),
            outcome => (change, outcome),
        };
        let settling = Settling {
            token,
            change,
            span,
            outcome,
        };
        let item = self.item(key);
        if matches!(change, Change::Fail(())) && settling.may_count() {
            item.pushes.push((span, settling.is_done()));
        }
        item.settlings.push(settling);
    }

    /// Checks the calls on each item, and compares them with the items that are stored at the end.
    ///
    /// # Errors
    /// Two workers had an item at once, an item was taken after its removal, or an item is lost or was never
    /// pushed.
    pub fn check(&self, stored: &BTreeMap<K, Stored>) -> Result<Counts, Mismatch> {
        if let Some(key) = stored.keys().find(|key| !self.items.contains_key(*key)) {
            return Err(Mismatch::new(format!("item {key} was never pushed")));
        }
        let mut counts = Counts::default();
        for (key, item) in &self.items {
            item.check(stored.get(key))
                .map_err(|what| Mismatch::new(format!("item {key} {what}: {item:#?}")))?;
            counts.items += 1;
            counts.takes += item.takes.len();
            counts.removed += usize::from(item.removals().any(Settling::is_done));
        }
        Ok(counts)
    }
}

impl<T: Ord + Debug> Item<T> {
    fn removals(&self) -> impl Iterator<Item = &Settling<T>> {
        self.settlings.iter().filter(|one| one.change == Change::Remove)
    }

    /// The moment until which the item of a take certainly belonged to its worker: the end of the lease, or the
    /// start of a call that may have ended the lease earlier.
    fn surely_until(&self, take: &Take<T>) -> u64 {
        let of_it = self.settlings.iter().filter(|one| {
            let means_it = one.token.as_ref().is_none_or(|token| *token == take.token);
            means_it && one.may_count() && one.span.end > take.span.start
        });
        let mut of_it: Vec<_> = of_it.collect();
        of_it.sort_by_key(|one| one.span.start);
        let mut until = take.until;
        for one in of_it {
            let Change::Extend(longer) = one.change else {
                return until.min(one.span.start);
            };
            // An extension with an unknown outcome may have shortened the lease.
            until = if one.is_done() { longer } else { until.min(longer) };
        }
        until
    }

    fn check(&self, stored: Option<&Stored>) -> Result<(), Mismatch> {
        for (number, one) in self.takes.iter().enumerate() {
            for other in self.takes.iter().skip(number + 1) {
                let at_once =
                    self.surely_until(one) > other.span.end && self.surely_until(other) > one.span.end;
                holds(!at_once, || {
                    format!("was taken by two workers at once, {one:?} and {other:?}")
                })?;
            }
        }
        for done in self.settlings.iter().filter(|one| one.is_done()) {
            for take in &self.takes {
                self.check_take_and_change(take, done)?;
            }
        }
        let removed = self.removals().filter(|one| one.is_done()).count();
        holds(removed <= 1, || format!("was removed {removed} times"))?;
        match stored {
            Some(stored) => self.check_stored(stored),
            None => {
                let pushed = self.pushes.iter().any(|(_, acknowledged)| *acknowledged);
                let may_be_gone = self.removals().any(Settling::may_count);
                holds(!pushed || may_be_gone, || "is lost".to_owned())
            }
        }
    }

    /// Checks that a change that was made allows a take after it.
    fn check_take_and_change(&self, take: &Take<T>, done: &Settling<T>) -> Result<(), Mismatch> {
        if take.span.start > done.span.end {
            // True if another change of these kinds may have happened between the change and the take.
            let other = |kinds: &dyn Fn(&Settling<T>) -> bool| {
                self.settlings.iter().any(|other| {
                    let between = other.span.end > done.span.start && other.span.start < take.span.end;
                    between && kinds(other)
                })
            };
            let allowed = match done.change {
                Change::Remove => false,
                Change::Release(Some(until)) => {
                    take.span.end >= until || other(&|other| other.token.is_none())
                }
                Change::Park => other(&|other| {
                    matches!(other.change, Change::Unpark | Change::Edit(()) | Change::Fail(()))
                }),
                _ => true,
            };
            holds(allowed, || {
                format!("was taken too soon after a change, {take:?}, {done:?}")
            })?;
        }
        let mine = self
            .takes
            .iter()
            .find(|mine| Some(&mine.token) == done.token.as_ref());
        let lost =
            mine.is_some_and(|mine| mine.span.end < take.span.start && take.span.end < done.span.start);
        holds(!lost, || {
            format!("was settled by a lease that another take followed, {take:?}, {done:?}")
        })
    }

    /// Compares the calls with the stored item at the end.
    fn check_stored(&self, stored: &Stored) -> Result<(), Mismatch> {
        holds(!self.removals().any(Settling::is_done), || {
            "was removed, and is there".to_owned()
        })?;
        let may_count = |which: &dyn Fn(&Change<()>) -> bool| {
            let of_these = self
                .settlings
                .iter()
                .filter(|one| which(&one.change) && one.may_count());
            of_these.map(|one| one.span).collect::<Vec<_>>()
        };
        // A push after a removal makes the count of failures start again, and an edit sets the count.
        let again = may_count(&|change| *change == Change::Remove)
            .iter()
            .any(|removal| self.pushes.iter().any(|(push, _)| push.end > removal.start));
        let acknowledged = self
            .pushes
            .iter()
            .filter(|(_, acknowledged)| *acknowledged)
            .count();
        let least = if again { 1 } else { acknowledged };
        let edited = !may_count(&|change| matches!(change, Change::Edit(()))).is_empty();
        holds(
            edited || (least as u64..=self.pushes.len() as u64).contains(&stored.failures),
            || format!("has failed {} times", stored.failures),
        )?;
        let last_unpark =
            may_count(&|change| matches!(change, Change::Unpark | Change::Edit(()) | Change::Fail(())))
                .iter()
                .map(|span| span.end)
                .max()
                .unwrap_or_default();
        let mut parks = self.settlings.iter().filter(|one| one.change == Change::Park);
        let parked = parks.any(|one| one.is_done() && one.span.start > last_unpark);
        let pushed_again = self.pushes.len() > 1;
        holds(!parked || pushed_again || !stored.eligible, || {
            "was parked, and is eligible".to_owned()
        })
    }
}

fn holds(condition: bool, what: impl FnOnce() -> String) -> Result<(), Mismatch> {
    if condition {
        Ok(())
    } else {
        Err(Mismatch::new(what()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Change;
    use super::{Calls, Counts, Span, Stored};
    use crate::queue::Settled;

    /// The calls on one item that was pushed.
    struct Case(Calls<&'static str, &'static str>);

    impl Case {
        fn new() -> Self {
            let mut calls = Calls::default();
            calls.push("i", Span { start: 0, end: 1 }, true);
            Self(calls)
        }

        fn push(mut self, at: u64) -> Self {
            let span = Span {
                start: at,
                end: at + 1,
            };
            self.0.push("i", span, true);
            self
        }

        fn take(self, at: u64, token: &'static str, length: u64) -> Self {
            self.take_in(at, at + 1, token, length)
        }

        fn take_in(mut self, start: u64, end: u64, token: &'static str, length: u64) -> Self {
            self.0
                .take("i", token, Span { start, end }, start + length)
                .unwrap();
            self
        }

        fn settle(
            mut self,
            at: u64,
            token: Option<&'static str>,
            change: Change<()>,
            outcome: Option<Settled>,
        ) -> Self {
            let end = if outcome.is_some() { at + 1 } else { u64::MAX };
            let span = Span { start: at, end };
            self.0.settle("i", token, change, span, outcome);
            self
        }

        fn done(self, at: u64, token: Option<&'static str>, change: Change<()>) -> Self {
            self.settle(at, token, change, Some(Settled::Done))
        }

        /// The message of the check if the item is stored with this number of failures, or is absent for `None`.
        /// Empty if the check passes.
        fn judged(&self, failures: Option<u64>) -> String {
            let stored = failures.map(|failures| Stored {
                failures,
                eligible: true,
                taken: false,
            });
            let stored: BTreeMap<_, _> = stored.into_iter().map(|stored| ("i", stored)).collect();
            let result = self.0.check(&stored);
            let message = result.err().map(|error| error.to_string()).unwrap_or_default();
            message.split(": Item").next().unwrap_or_default().to_owned()
        }
    }

    #[test]
    fn two_at_once_are_seen_in_either_order_and_an_ended_lease_makes_room() {
        let case = || Case::new().take(10, "a", 1_000);
        assert!(case().take(20, "b", 1_000).judged(Some(1)).contains("at once"));
        let late = Case::new().take(20, "b", 1_000).take(10, "a", 1_000);
        assert!(late.judged(Some(1)).contains("at once"));
        let together = Case::new()
            .take_in(10, 40, "a", 1_000)
            .take_in(20, 30, "b", 1_000);
        assert!(together.judged(Some(1)).contains("at once"));
        assert_eq!(
            Case::new().take(10, "a", 5).take(20, "b", 1_000).judged(Some(1)),
            ""
        );
        let released = case().done(15, Some("a"), Change::Release(None));
        assert_eq!(released.take(20, "b", 9).judged(Some(1)), "");
        let unclear = case().settle(15, Some("a"), Change::Remove, None);
        assert_eq!(unclear.take(20, "b", 9).judged(Some(1)), "");
    }

    #[test]
    fn a_token_is_handed_out_once() {
        let mut case = Case::new().take(10, "a", 5);
        let span = Span { start: 20, end: 21 };
        assert!(case.0.take("i", "a", span, 30).is_err());
    }

    #[test]
    fn an_extension_lasts_and_an_unclear_one_may_not() {
        let extended = |outcome| {
            let case = Case::new().take(10, "a", 5);
            let case = case.settle(14, Some("a"), Change::Extend(1_014), outcome);
            case.take(20, "b", 1_000).judged(Some(1))
        };
        assert!(extended(Some(Settled::Done)).contains("at once"));
        assert_eq!(extended(None), "");
        assert_eq!(extended(Some(Settled::Unknown)), "");
    }

    #[test]
    fn a_removed_item_stays_so_and_a_pushed_one_is_there() {
        let taken = || Case::new().take(10, "a", 50);
        let removed = || taken().done(15, Some("a"), Change::Remove);
        assert_eq!(removed().judged(None), "");
        assert!(removed().judged(Some(1)).contains("is there"));
        assert!(removed().take(20, "b", 9).judged(None).contains("too soon"));
        assert!(
            removed()
                .done(30, None, Change::Remove)
                .judged(None)
                .contains("2 times")
        );
        assert!(Case::new().judged(None).contains("lost"));
        assert_eq!(Case::new().settle(3, None, Change::Remove, None).judged(None), "");
        let kept = taken().settle(15, Some("a"), Change::Remove, Some(Settled::Kept));
        assert!(kept.judged(None).contains("lost"));
    }

    #[test]
    fn failures_add_up_unless_a_removal_came_between() {
        let twice = || Case::new().push(10);
        assert_eq!(twice().judged(Some(2)), "");
        assert!(twice().judged(Some(1)).contains("1 times"));
        assert!(twice().judged(Some(3)).contains("3 times"));
        let failed = |outcome| Case::new().settle(5, Some("a"), Change::Fail(()), outcome);
        assert!(failed(Some(Settled::Done)).judged(Some(1)).contains("1 times"));
        assert_eq!(failed(None).judged(Some(1)) + &failed(None).judged(Some(2)), "");
        assert!(failed(Some(Settled::Unknown)).judged(Some(2)).contains("2 times"));
        let unclear = |at| Span {
            start: at,
            end: at + 1,
        };
        let mut between = twice();
        between.0.settle("i", None, Change::Remove, unclear(5), None);
        assert_eq!(between.judged(Some(1)), "");
        let mut behind = twice();
        behind.0.settle("i", None, Change::Remove, unclear(20), None);
        assert!(behind.judged(Some(1)).contains("1 times"));
    }

    #[test]
    fn a_delay_a_park_and_a_lost_lease_hold() {
        let taken = || Case::new().take(10, "a", 50);
        let delayed = || taken().done(15, Some("a"), Change::Release(Some(115)));
        assert!(delayed().take(20, "b", 9).judged(Some(1)).contains("too soon"));
        assert_eq!(delayed().take(120, "b", 9).judged(Some(1)), "");
        let forced = delayed().done(17, None, Change::Release(None));
        assert_eq!(forced.take(20, "b", 9).judged(Some(1)), "");
        let parked = || Case::new().done(15, None, Change::Park);
        assert!(parked().take(20, "b", 9).judged(Some(1)).contains("too soon"));
        assert!(parked().judged(Some(1)).contains("is eligible"));
        assert_eq!(
            parked()
                .done(17, None, Change::Unpark)
                .take(20, "b", 9)
                .judged(Some(1)),
            ""
        );
        let lost = || Case::new().take(10, "a", 5).take(20, "b", 5);
        let late = |outcome| lost().settle(40, Some("a"), Change::Release(None), Some(outcome));
        assert!(
            late(Settled::Done)
                .judged(Some(1))
                .contains("another take followed")
        );
        assert!(
            late(Settled::Kept)
                .judged(Some(1))
                .contains("another take followed")
        );
        assert_eq!(late(Settled::Unknown).judged(Some(1)), "");
    }

    #[test]
    fn all_is_counted_and_an_unknown_item_is_seen() {
        let case = Case::new().take(10, "a", 50).done(15, Some("a"), Change::Remove);
        let counts = Counts {
            items: 1,
            takes: 1,
            removed: 1,
        };
        assert_eq!(case.0.check(&BTreeMap::new()), Ok(counts));
        let stored = Stored {
            failures: 1,
            eligible: true,
            taken: false,
        };
        assert!(case.0.check(&[("j", stored)].into()).is_err());
    }
}
