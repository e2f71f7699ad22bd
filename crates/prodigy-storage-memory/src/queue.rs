//! Keyed items of one job, taken under a lease.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{self, Facts};
use prodigy_storage_backend::{
    Clock, ErrorKind, ItemId, Lease, LeaseToken, PutReport, QueueEntry, QueueItem, Result, Select, Settled,
    StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde_json::value::RawValue;

use crate::budget::{Budget, ITEM_COST};

const PUT: &str = "put items";

/// An item as it is kept; replaced, never changed, so that a scan holds what it saw.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: ItemId,
    pub(crate) body: Arc<RawValue>,
    pub(crate) lease: Option<Lease>,
    facts: Facts,
}

impl Item {
    fn new(id: ItemId, body: &RawValue, lease: Option<Lease>) -> Result<Self> {
        Ok(Self {
            facts: dead_letter::facts(body)?,
            body: Arc::from(body.to_owned()),
            id,
            lease,
        })
    }

    fn cost(&self) -> u64 {
        // The key is in the order, in the index and in the body.
        (self.body.get().len() + 2 * self.id.as_str().len()) as u64 + ITEM_COST
    }

    fn is_pending(&self, clock: &dyn Clock) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.has_ended(clock))
    }

    pub(crate) fn entry(&self) -> QueueEntry {
        QueueEntry {
            id: self.id.clone(),
            body: (*self.body).to_owned(),
            lease: self.lease.clone(),
            verified: true,
        }
    }
}

/// A queue, in the order in which items were first put.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: BTreeMap<u64, Arc<Item>>,
    keys: HashMap<ItemId, u64>,
    tokens: HashMap<LeaseToken, u64>,
    next: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.items.values()
    }

    /// The bytes of the budget that the items use.
    pub(crate) fn cost(&self) -> u64 {
        self.items.values().map(|item| item.cost()).sum()
    }

    /// Bytes of keys and bodies.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.values().map(|item| item.body.get().len() as u64).sum()
    }

    /// Puts one back as a snapshot holds it.
    pub(crate) fn restore(&mut self, id: ItemId, body: &RawValue, lease: Option<Lease>) -> Result<()> {
        let item = Item::new(id, body, lease)?;
        let seq = self.next;
        self.next += 1;
        self.set(seq, item);
        Ok(())
    }

    fn set(&mut self, seq: u64, item: Item) {
        if let Some(old) = self.items.get(&seq).and_then(|old| old.lease.as_ref()) {
            self.tokens.remove(&old.token);
        }
        if let Some(lease) = &item.lease {
            self.tokens.insert(lease.token.clone(), seq);
        }
        if !self.keys.contains_key(&item.id) {
            self.keys.insert(item.id.clone(), seq);
        }
        self.items.insert(seq, Arc::new(item));
    }

    fn unset(&mut self, seq: u64, budget: &Budget) {
        if let Some(item) = self.items.remove(&seq) {
            self.keys.remove(&item.id);
            if let Some(lease) = &item.lease {
                self.tokens.remove(&lease.token);
            }
            budget.release(item.cost());
        }
    }

    /// Puts a batch, whole or not at all.
    pub(crate) fn put(
        &mut self,
        job: &JobAddress,
        items: &[QueueItem],
        now: Timestamp,
        max_record_size: u64,
        budget: &Budget,
    ) -> Result<PutReport> {
        let mut report = PutReport::default();
        // The items of the batch, by place. A key that comes twice is merged again.
        let mut made: BTreeMap<u64, Item> = BTreeMap::new();
        let mut new_keys: HashMap<&ItemId, u64> = HashMap::new();
        let mut next = self.next;
        for item in items {
            let known = self
                .keys
                .get(&item.id)
                .or_else(|| new_keys.get(&item.id))
                .copied();
            let (seq, merged) = match known {
                None => {
                    let seq = next;
                    next += 1;
                    new_keys.insert(&item.id, seq);
                    report.added += 1;
                    (seq, Item::new(item.id.clone(), &item.body, None)?)
                }
                Some(seq) => {
                    report.merged += 1;
                    let stored = made
                        .get(&seq)
                        .or_else(|| self.items.get(&seq).map(Arc::as_ref))
                        .map(|stored| (Arc::clone(&stored.body), stored.lease.clone()));
                    let Some((body, lease)) = stored else {
                        continue;
                    };
                    let body = dead_letter::merge(&body, &item.body, now)?;
                    (seq, Item::new(item.id.clone(), &body, lease)?)
                }
            };
            let bytes = merged.body.get().len() as u64;
            if bytes > max_record_size {
                return Err(StorageError::new(
                    ErrorKind::TooLarge,
                    PUT,
                    format!("{job} {}", item.id),
                    format!("an item of {bytes} bytes is larger than `max_record_size` ({max_record_size})"),
                )
                .with_hint(
                    "store the large part elsewhere and its place in the item, or raise `max_record_size`",
                ));
            }
            made.insert(seq, merged);
        }
        let new: u64 = made.values().map(Item::cost).sum();
        let old: u64 = made
            .keys()
            .filter_map(|seq| self.items.get(seq))
            .map(|item| item.cost())
            .sum();
        budget.replace(old, new, PUT, job)?;
        self.next = next;
        for (seq, item) in made {
            self.set(seq, item);
        }
        Ok(report)
    }

    pub(crate) fn get(&self, id: &ItemId) -> Option<QueueEntry> {
        let seq = self.keys.get(id)?;
        self.items.get(seq).map(|item| item.entry())
    }

    pub(crate) fn take(
        &mut self,
        select: &Select,
        limit: usize,
        lease: Duration,
        clock: &dyn Clock,
    ) -> Vec<QueueEntry> {
        let takes =
            |item: &Item| item.is_pending(clock) && dead_letter::selects(select, &item.id, &item.facts);
        let places: Vec<u64> = match &select.ids {
            // A few keys of a long queue are looked up, not looked for.
            Some(ids) => {
                let mut places: Vec<u64> = ids
                    .iter()
                    .filter_map(|id| self.keys.get(id).copied())
                    .filter(|seq| self.items.get(seq).is_some_and(|item| takes(item)))
                    .collect();
                places.sort_unstable();
                places.dedup();
                places.truncate(limit);
                places
            }
            None => self
                .items
                .iter()
                .filter(|(_, item)| takes(item))
                .map(|(&seq, _)| seq)
                .take(limit)
                .collect(),
        };
        let mut taken = Vec::with_capacity(places.len());
        for seq in places {
            let Some(mut item) = self.items.get(&seq).map(|item| Item::clone(item)) else {
                continue;
            };
            item.lease = Some(Lease::begin(lease, clock));
            taken.push(item.entry());
            self.set(seq, item);
        }
        taken
    }

    /// Settles each token once; what no token of `each` names (any more) is unknown.
    fn settle<K: Clone + Eq + std::hash::Hash>(
        &mut self,
        each: &[K],
        find: impl Fn(&Self, &K) -> Option<u64>,
        mut apply: impl FnMut(&mut Self, u64),
    ) -> Settled<K> {
        let mut settled = Settled {
            settled: Vec::new(),
            unknown: Vec::new(),
        };
        let mut seen = HashSet::new();
        for key in each.iter().filter(|key| seen.insert((*key).clone())) {
            match find(self, key) {
                Some(seq) => {
                    apply(self, seq);
                    settled.settled.push(key.clone());
                }
                None => settled.unknown.push(key.clone()),
            }
        }
        settled
    }

    pub(crate) fn ack(&mut self, tokens: &[LeaseToken], budget: &Budget) -> Settled<LeaseToken> {
        self.settle(
            tokens,
            |queue, token| queue.tokens.get(token).copied(),
            |queue, seq| queue.unset(seq, budget),
        )
    }

    pub(crate) fn nack(&mut self, tokens: &[LeaseToken]) -> Settled<LeaseToken> {
        self.settle(
            tokens,
            |queue, token| queue.tokens.get(token).copied(),
            |queue, seq| {
                if let Some(item) = queue.items.get(&seq) {
                    let mut item = Item::clone(item);
                    item.lease = None;
                    queue.set(seq, item);
                }
            },
        )
    }

    pub(crate) fn remove(&mut self, ids: &[ItemId], budget: &Budget) -> Settled<ItemId> {
        self.settle(
            ids,
            |queue, id| queue.keys.get(id).copied(),
            |queue, seq| queue.unset(seq, budget),
        )
    }
}
