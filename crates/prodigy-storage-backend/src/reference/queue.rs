//! The items of a queue in the model.

use std::fmt;
use std::ops::RangeInclusive;

use super::{Certainty, Mismatch};
use crate::queue::{ItemState, Settled};

/// A change of an item. A `u64` is a moment, by the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<F> {
    /// The item is removed.
    Remove,
    /// The lease ends at this moment.
    Extend(u64),
    /// The item is released: it is pending from this moment on, or at once for `None`.
    Release(Option<u64>),
    /// The item failed again.
    Fail(F),
    /// The item is no longer eligible.
    Park,
    /// The item is eligible again.
    Unpark,
    /// The item gets other contents, which have one failure.
    Edit(F),
}

/// Names the item to change, and the condition for the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<K, T> {
    /// The item that was taken under this token.
    Lease(T),
    /// The item under this key.
    Key(K),
    /// The item under this key, if it has this revision. With `None` the condition is never met.
    Revision(K, Option<u64>),
}

/// The result of pushing one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The key was new.
    Added,
    /// The key was known, and the failure was added to its item.
    Merged,
    /// The key was known, and its item already has this failure.
    Known,
}

/// An item with a key `K`, failures `F`, and tokens `T`.
#[derive(Clone, Debug)]
pub struct Item<K, F, T> {
    key: K,
    data: F,
    failures: Vec<(F, Certainty)>,
    eligible: bool,
    lease: Option<(u64, T)>,
    delay: Option<u64>,
    /// True if an operation with an unknown outcome may have changed whether the item is leased, delayed or
    /// eligible.
    unclear: bool,
    place: u64,
    revision: u64,
}

impl<K, F: PartialEq + Clone, T: PartialEq> Item<K, F, T> {
    fn new(key: K, failure: F, certainty: Certainty, number: u64) -> Self {
        Self {
            key,
            data: failure.clone(),
            failures: vec![(failure, certainty)],
            eligible: true,
            lease: None,
            delay: None,
            unclear: false,
            place: number,
            revision: number,
        }
    }

    /// The key of the item.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The contents of the last push or edit.
    pub fn data(&self) -> &F {
        &self.data
    }

    /// True if the item is eligible.
    pub fn is_eligible(&self) -> bool {
        self.eligible
    }

    /// The token of the last lease, which may have ended.
    pub fn token(&self) -> Option<&T> {
        self.lease.as_ref().map(|(_, token)| token)
    }

    /// The number by which the item is ordered among those to take.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// The number of the last change of the item's contents.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the item is leased, delayed or neither at this moment.
    pub fn state(&self, now: u64) -> ItemState {
        if self.lease.as_ref().is_some_and(|(end, _)| *end > now) {
            ItemState::Leased
        } else if self.delay.is_some_and(|end| end > now) {
            ItemState::Delayed
        } else {
            ItemState::Pending
        }
    }

    /// True if an operation with an unknown outcome may have changed whether the item is leased, delayed or
    /// eligible.
    pub fn is_unclear(&self) -> bool {
        self.unclear
    }

    /// True if the item has to exist, since one of its failures is durable.
    pub fn is_durable(&self) -> bool {
        self.has(|certainty| certainty == Certainty::Durable)
            .next()
            .is_some()
    }

    /// The least and the greatest number of failures that the item may have, if it exists.
    pub fn failures(&self) -> RangeInclusive<usize> {
        self.has(|certainty| certainty == Certainty::Durable).count()..=self.failures.len()
    }

    fn has(&self, which: impl Fn(Certainty) -> bool) -> impl Iterator<Item = &F> {
        let failures = self.failures.iter().filter(move |(_, sure)| which(*sure));
        failures.map(|(failure, _)| failure)
    }

    /// Compares the failures and the lease's token of a stored item with the model.
    ///
    /// # Errors
    /// The stored item lacks a durable failure, has a failure that nobody pushed, or has another lease.
    pub fn check(&self, failures: &[F], token: Option<&T>) -> Result<(), Mismatch>
    where
        F: fmt::Debug,
        T: fmt::Debug,
    {
        let mut rest = failures.iter();
        let mut durable = self.has(|certainty| certainty == Certainty::Durable);
        if !durable.all(|failure| rest.any(|found| found == failure)) {
            return Err(Mismatch::new(format!(
                "the durable ones of {:?} are not all there, in order: {failures:?}",
                self.failures
            )));
        }
        if !failures
            .iter()
            .all(|found| self.has(|_| true).any(|known| known == found))
        {
            return Err(Mismatch::new(format!(
                "nobody pushed all these failures: {failures:?}"
            )));
        }
        if !self.unclear && token != self.token() {
            return Err(Mismatch::new(format!(
                "its token is {token:?}; expected {:?}",
                self.token()
            )));
        }
        Ok(())
    }

    /// Records that a change was called, with an unknown outcome.
    fn change_perhaps(&mut self, change: Change<F>) {
        // A removal that had no effect leaves the state unchanged. Only if the contents were changed since the
        // take, it may have released the item instead.
        self.unclear |= change != Change::Remove || self.revision > self.place;
        if matches!(change, Change::Remove | Change::Edit(_)) {
            for (_, certainty) in &mut self.failures {
                *certainty = Certainty::Unclear;
            }
        }
        if let Change::Fail(failure) | Change::Edit(failure) = change {
            self.failures.push((failure, Certainty::Unclear));
        }
    }
}

/// The items of a queue, in the order of their first push.
#[derive(Clone, Debug)]
pub struct Queue<K, F, T> {
    items: Vec<Item<K, F, T>>,
    counter: u64,
}

impl<K, F, T> Default for Queue<K, F, T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            counter: 0,
        }
    }
}

impl<K: PartialEq + fmt::Display, F: PartialEq + Clone, T: PartialEq> Queue<K, F, T> {
    /// The items, in the order of their first push.
    pub fn items(&self) -> &[Item<K, F, T>] {
        &self.items
    }

    /// The number of the last change.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// The item under a key.
    pub fn get(&self, key: &K) -> Option<&Item<K, F, T>> {
        self.items.iter().find(|item| item.key == *key)
    }

    fn item(&mut self, key: &K) -> Option<&mut Item<K, F, T>> {
        self.items.iter_mut().find(|item| item.key == *key)
    }

    /// Records the push of an item with one failure.
    pub fn put(&mut self, key: K, failure: F, certainty: Certainty) -> Put {
        let number = self.counter + 1;
        let put = match self.item(&key) {
            None => {
                self.items.push(Item::new(key, failure, certainty, number));
                Put::Added
            }
            Some(item) if item.has(|_| true).any(|known| *known == failure) => return Put::Known,
            Some(item) => {
                // If the stored item may have been lost, this push may have created it again, without a lease.
                item.unclear |= !item.is_durable();
                item.data = failure.clone();
                item.failures.push((failure, certainty));
                item.revision = number;
                Put::Merged
            }
        };
        self.counter = number;
        if certainty == Certainty::Durable {
            self.sync(None);
        }
        put
    }

    /// The keys of the items that a take has to return: pending items that meet the condition, in the order of their
    /// places.
    pub fn pending(&self, now: u64, meets: impl Fn(&Item<K, F, T>) -> bool) -> Vec<&K> {
        let pending = self
            .items
            .iter()
            .filter(|item| item.state(now) == ItemState::Pending && meets(item));
        let mut pending: Vec<_> = pending.collect();
        pending.sort_by_key(|item| item.place);
        pending.into_iter().map(|item| &item.key).collect()
    }

    /// Records a take, under a lease that lasts until the given moment.
    ///
    /// # Errors
    /// The item does not exist, or has a lease that has not ended.
    pub fn take(&mut self, key: &K, token: T, now: u64, until: u64) -> Result<(), Mismatch> {
        let number = self.counter + 1;
        let Some(item) = self.item(key) else {
            return Err(Mismatch::new(format!("{key} was taken, and nobody pushed it")));
        };
        if !item.unclear && item.state(now) == ItemState::Leased {
            return Err(Mismatch::new(format!(
                "{key} was taken while a lease on it lasts"
            )));
        }
        item.lease = Some((until, token));
        item.delay = None;
        item.unclear = false;
        item.place = number;
        self.counter = number;
        self.sync(None);
        Ok(())
    }

    /// Records a take with an unknown outcome: each item that meets the condition may be taken.
    pub fn take_perhaps(&mut self, meets: impl Fn(&Item<K, F, T>) -> bool) {
        for item in &mut self.items {
            item.unclear |= meets(item);
        }
    }

    /// The item that a claim names, and the outcome of a change under that claim.
    pub fn outcome(&self, claim: &Claim<K, T>, change: &Change<F>) -> (Option<&K>, Settled) {
        let item = match claim {
            Claim::Lease(token) => self.items.iter().find(|item| item.token() == Some(token)),
            Claim::Key(key) | Claim::Revision(key, _) => self.get(key),
        };
        let Some(item) = item else {
            return (None, Settled::Unknown);
        };
        let settled = match claim {
            Claim::Revision(_, revision) if *revision != Some(item.revision) => Settled::Changed,
            Claim::Lease(_) if *change == Change::Remove && item.revision > item.place => Settled::Kept,
            _ if *change == Change::Unpark && item.eligible => Settled::Already,
            _ => Settled::Done,
        };
        (Some(&item.key), settled)
    }

    /// Records a change of the item under this key. The outcome is `None` if it is unknown.
    pub fn settle(&mut self, key: &K, change: Change<F>, outcome: Option<Settled>) {
        let number = self.counter + 1;
        let Some(position) = self.items.iter().position(|item| item.key == *key) else {
            return;
        };
        let Some(item) = self.items.get_mut(position) else {
            return;
        };
        let change = match outcome {
            None => return item.change_perhaps(change),
            Some(Settled::Unknown | Settled::Changed | Settled::Already) => return,
            Some(Settled::Kept) => Change::Release(None),
            Some(Settled::Done) => change,
        };
        let lease = item.lease.take();
        item.unclear = false;
        match change {
            Change::Remove => {
                self.items.remove(position);
            }
            Change::Extend(until) => item.lease = lease.map(|(_, token)| (until, token)),
            Change::Release(delay) => {
                item.place = number;
                item.delay = delay;
            }
            Change::Fail(failure) => {
                item.failures.push((failure, Certainty::Durable));
                item.revision = number;
                item.place = number;
                item.delay = None;
            }
            Change::Park | Change::Unpark => {
                item.eligible = change == Change::Unpark;
                item.revision = number;
            }
            Change::Edit(contents) => {
                item.data = contents.clone();
                item.failures = vec![(contents, Certainty::Durable)];
                item.eligible = true;
                item.revision = number;
            }
        }
        self.counter = number;
        self.sync(None);
    }

    /// Makes the relaxed pushes of a process durable; with `None`, those of all processes, as a strict change of
    /// the queue does.
    pub fn sync(&mut self, process: Option<u32>) {
        for (_, certainty) in self.items.iter_mut().flat_map(|item| &mut item.failures) {
            if let Certainty::Relaxed(by) = *certainty
                && process.is_none_or(|process| process == by)
            {
                *certainty = Certainty::Durable;
            }
        }
    }

    /// Records a power loss. A flush after it does not make relaxed pushes from before it durable. Returns true if
    /// there were relaxed pushes.
    pub fn lose(&mut self) -> bool {
        let mut had = false;
        for (_, certainty) in self.items.iter_mut().flat_map(|item| &mut item.failures) {
            if matches!(certainty, Certainty::Relaxed(_)) {
                *certainty = Certainty::Unclear;
                had = true;
            }
        }
        had
    }

    /// Records a restart of the machine: leases and delays have ended.
    pub fn reboot(&mut self) {
        for item in &mut self.items {
            item.delay = None;
            if let Some((end, _)) = &mut item.lease {
                *end = 0;
            }
        }
    }

    /// Sets the items to those that were found after a crash; `found` gives the number of failures of an item, and
    /// whether it is leased. All other items are lost.
    pub fn adopt(&mut self, found: impl Fn(&K) -> Option<(usize, bool)>) {
        self.items.retain_mut(|item| {
            let Some((failures, taken)) = found(&item.key) else {
                return false;
            };
            item.failures.truncate(failures);
            for (_, certainty) in &mut item.failures {
                *certainty = Certainty::Durable;
            }
            if !taken {
                item.lease = None;
            }
            item.unclear = taken && item.lease.is_none();
            true
        });
    }

    /// Checks that each item that has to exist was found. `found` is true for the key of a found item.
    ///
    /// # Errors
    /// An item that has to exist is missing.
    pub fn check_found(&self, found: impl Fn(&K) -> bool) -> Result<(), Mismatch> {
        match self
            .items
            .iter()
            .find(|item| item.is_durable() && !found(&item.key))
        {
            Some(item) => Err(Mismatch::new(format!(
                "{} was acknowledged, and is not there",
                item.key
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Certainty::{Durable, Relaxed, Unclear};
    use super::{Change, Claim, Put, Queue};
    use crate::queue::{ItemState, Settled};

    type Items = Queue<&'static str, u8, u8>;

    fn queue() -> Items {
        let mut queue = Items::default();
        assert_eq!(queue.put("a", 1, Durable), Put::Added);
        queue
    }

    /// Makes a change, with the outcome that the model expects for it.
    fn settle(queue: &mut Items, claim: Claim<&'static str, u8>, change: Change<u8>) -> Settled {
        let (key, settled) = queue.outcome(&claim, &change);
        if let Some(key) = key.copied() {
            queue.settle(&key, change, Some(settled));
        }
        settled
    }

    #[test]
    fn a_push_is_merged_once() {
        let mut queue = queue();
        assert_eq!(queue.put("a", 2, Durable), Put::Merged);
        assert_eq!(queue.put("a", 2, Durable), Put::Known);
        let item = queue.get(&"a").unwrap();
        assert_eq!((*item.data(), item.failures()), (2, 2..=2));
        item.check(&[1, 2], None).unwrap();
        assert!(item.check(&[2, 1], None).is_err() && item.check(&[1, 2, 3], None).is_err());
    }

    #[test]
    fn a_taken_item_is_pending_again_when_its_lease_ends() {
        let mut queue = queue();
        queue.put("b", 1, Durable);
        assert_eq!(queue.pending(0, |_| true), [&"a", &"b"]);
        queue.take(&"a", 7, 0, 10).unwrap();
        assert_eq!(queue.pending(9, |_| true), [&"b"]);
        assert_eq!(queue.pending(10, |_| true), [&"b", &"a"]);
        assert!(queue.take(&"a", 8, 9, 20).is_err() && queue.take(&"c", 8, 9, 20).is_err());
        queue.get(&"a").unwrap().check(&[1], Some(&7)).unwrap();
        assert!(queue.get(&"a").unwrap().check(&[1], None).is_err());
        queue.reboot();
        assert_eq!(queue.pending(0, |_| true), [&"b", &"a"]);
    }

    #[test]
    fn a_claim_decides_the_outcome() {
        let mut queue = queue();
        queue.take(&"a", 7, 0, 10).unwrap();
        assert_eq!(
            settle(&mut queue, Claim::Lease(8), Change::Remove),
            Settled::Unknown
        );
        assert_eq!(
            settle(&mut queue, Claim::Revision("a", None), Change::Park),
            Settled::Changed
        );
        queue.put("a", 2, Durable);
        assert_eq!(settle(&mut queue, Claim::Lease(7), Change::Remove), Settled::Kept);
        assert_eq!(
            settle(&mut queue, Claim::Lease(7), Change::Remove),
            Settled::Unknown
        );
        let revision = queue.get(&"a").map(super::Item::revision);
        assert_eq!(
            settle(&mut queue, Claim::Revision("a", revision), Change::Park),
            Settled::Done
        );
        assert!(!queue.get(&"a").unwrap().is_eligible());
        assert_eq!(
            settle(&mut queue, Claim::Key("a"), Change::Edit(9)),
            Settled::Done
        );
        queue.get(&"a").unwrap().check(&[9], None).unwrap();
        assert_eq!(
            settle(&mut queue, Claim::Key("a"), Change::Release(Some(5))),
            Settled::Done
        );
        assert_eq!(queue.get(&"a").unwrap().state(4), ItemState::Delayed);
        assert_eq!(settle(&mut queue, Claim::Key("a"), Change::Remove), Settled::Done);
        assert!(queue.items().is_empty());
    }

    #[test]
    fn an_operation_without_an_answer_leaves_both_states_possible() {
        let mut queue = queue();
        queue.take_perhaps(|_| true);
        let item = queue.get(&"a").unwrap();
        item.check(&[1], None).unwrap();
        item.check(&[1], Some(&7)).unwrap();
        assert!(queue.check_found(|_| false).is_err());
        queue.settle(&"a", Change::Remove, None);
        queue.check_found(|_| false).unwrap();
        queue.settle(&"a", Change::Fail(2), None);
        let item = queue.get(&"a").unwrap();
        assert_eq!(
            (item.failures(), item.is_durable(), item.is_unclear()),
            (0..=2, false, true)
        );
        queue.take(&"a", 7, 0, 10).unwrap();
        assert!(queue.get(&"a").unwrap().check(&[1], None).is_err());
    }

    #[test]
    fn a_removal_without_an_answer_leaves_the_lease_of_an_item_that_is_there() {
        let mut queue = queue();
        queue.take(&"a", 7, 0, 10).unwrap();
        queue.settle(&"a", Change::Remove, None);
        assert!(queue.get(&"a").unwrap().check(&[1], None).is_err());
        queue.put("a", 2, Durable);
        queue.get(&"a").unwrap().check(&[2], None).unwrap();
    }

    #[test]
    fn found_items_replace_the_possible_ones() {
        let mut queue = queue();
        queue.put("b", 1, Unclear);
        queue.put("a", 2, Unclear);
        queue.take_perhaps(|_| true);
        queue.adopt(|key| (*key == "a").then_some((1, false)));
        assert_eq!(queue.items().len(), 1);
        let item = queue.get(&"a").unwrap();
        assert_eq!((item.failures(), item.is_unclear()), (1..=1, false));
        queue.adopt(|_| Some((1, true)));
        assert!(queue.get(&"a").unwrap().is_unclear());
    }

    #[test]
    fn a_relaxed_push_is_durable_after_a_sync_and_lost_with_the_power() {
        let mut queue = Items::default();
        queue.put("a", 1, Relaxed(1));
        queue.put("b", 1, Relaxed(2));
        queue.put("c", 1, Unclear);
        queue.check_found(|_| false).unwrap();
        queue.sync(Some(1));
        assert!(queue.check_found(|key| *key != "a").is_err());
        queue.check_found(|key| *key == "a").unwrap();
        assert!(queue.lose() && !queue.lose());
        queue.put("d", 1, Durable);
        queue.check_found(|key| ["a", "d"].contains(key)).unwrap();
    }
}
