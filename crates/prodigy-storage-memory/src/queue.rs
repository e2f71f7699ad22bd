//! The queue of a job: items with keys, which are taken under a lease.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{self, Facts};
use prodigy_storage_backend::{
    Change, Claim, Clock, Delay, ErrorKind, ItemId, ItemState, Lease, LeaseToken, PutReport, QueueEntry,
    QueueItem, QueueMark, QueueSummary, Result, Select, Settled, Settlement, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde_json::value::RawValue;

use crate::budget::{Budget, ITEM_COST};

const PUT: &str = "put items";
const SETTLE: &str = "settle items";

/// A stored item. A change replaces it with a new one, so that running scans keep the item that they found.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: ItemId,
    pub(crate) body: Arc<RawValue>,
    pub(crate) lease: Option<Lease>,
    pub(crate) delay: Option<Delay>,
    /// The number of the change that added the item. It identifies the item.
    pub(crate) birth: QueueMark,
    pub(crate) revision: QueueMark,
    pub(crate) place: QueueMark,
    facts: Facts,
}

impl Item {
    /// Creates an item that was added by the change with this number.
    fn new(id: ItemId, body: &RawValue, birth: QueueMark) -> Result<Self> {
        Ok(Self {
            facts: dead_letter::facts(body)?,
            body: Arc::from(body.to_owned()),
            id,
            lease: None,
            delay: None,
            birth,
            revision: birth,
            place: birth,
        })
    }

    /// Creates an item from a snapshot.
    pub(crate) fn restored(
        id: ItemId,
        body: &RawValue,
        lease: Option<Lease>,
        delay: Option<Delay>,
        [birth, revision, place]: [QueueMark; 3],
    ) -> Result<Self> {
        Ok(Self {
            lease,
            delay,
            revision,
            place,
            ..Self::new(id, body, birth)?
        })
    }

    /// A copy of the item with other contents.
    fn with_body(&self, body: &RawValue) -> Result<Self> {
        Ok(Self {
            facts: dead_letter::facts(body)?,
            body: Arc::from(body.to_owned()),
            ..self.clone()
        })
    }

    fn bytes(&self) -> u64 {
        self.body.get().len() as u64
    }

    fn cost(&self) -> u64 {
        // The key is stored in the index and with the item, besides the body.
        self.bytes() + 2 * self.id.as_str().len() as u64 + ITEM_COST
    }

    fn state(&self, clock: &dyn Clock) -> ItemState {
        ItemState::of(self.lease.as_ref(), self.delay.as_ref(), clock)
    }

    /// True if the selection includes the item. The caller has already compared the key.
    fn is_selected(&self, select: &Select) -> bool {
        select.until.is_none_or(|mark| self.place <= mark) && dead_letter::suits(select, &self.facts)
    }

    pub(crate) fn entry(&self) -> QueueEntry {
        QueueEntry {
            id: self.id.clone(),
            body: (*self.body).to_owned(),
            lease: self.lease.clone(),
            delay: self.delay,
            revision: self.revision,
            place: self.place,
            verified: true,
        }
    }
}

/// The items of a job's queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The items by birth, and so in the order of their first push.
    items: BTreeMap<QueueMark, Arc<Item>>,
    /// The births of items, by key. The next fields have them by place and by token.
    keys: HashMap<ItemId, QueueMark>,
    places: BTreeMap<QueueMark, QueueMark>,
    tokens: HashMap<LeaseToken, QueueMark>,
    /// The number of the last change.
    counter: QueueMark,
    /// The total length of all bodies, in bytes.
    bytes: u64,
    /// The time of the last change.
    changed: Option<Timestamp>,
}

/// The changes of a call that are not applied yet. They are applied only when it is certain that the whole call
/// succeeds.
#[derive(Default)]
struct Staged {
    /// The changed items, by birth; `None` for an item that is removed.
    items: BTreeMap<QueueMark, Option<Item>>,
    /// The births of the items that are added, by key.
    new: HashMap<ItemId, QueueMark>,
    counter: QueueMark,
}

impl Staged {
    fn over(queue: &Queue) -> Self {
        Self {
            counter: queue.counter,
            ..Self::default()
        }
    }

    fn next(&mut self) -> QueueMark {
        self.counter.0 += 1;
        self.counter
    }

    fn stage(&mut self, item: Item) {
        self.items.insert(item.birth, Some(item));
    }

    fn item<'a>(&'a self, queue: &'a Queue, birth: QueueMark) -> Option<&'a Item> {
        match self.items.get(&birth) {
            Some(staged) => staged.as_ref(),
            None => queue.items.get(&birth).map(AsRef::as_ref),
        }
    }

    fn by_id<'a>(&'a self, queue: &'a Queue, id: &ItemId) -> Option<&'a Item> {
        let birth = self.new.get(id).or_else(|| queue.keys.get(id))?;
        self.item(queue, *birth)
    }

    fn by_token<'a>(&'a self, queue: &'a Queue, token: &LeaseToken) -> Option<&'a Item> {
        let item = self.item(queue, *queue.tokens.get(token)?)?;
        item.lease
            .as_ref()
            .is_some_and(|lease| lease.token == *token)
            .then_some(item)
    }
}

/// The limits and the clock that a change is checked against.
pub(crate) struct Rules<'a> {
    pub(crate) job: &'a JobAddress,
    pub(crate) now: Timestamp,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) max_record_size: u64,
    pub(crate) max_queue_size: Option<u64>,
    pub(crate) budget: &'a Budget,
}

impl Rules<'_> {
    fn fits(&self, operation: &'static str, item: &Item) -> Result<()> {
        let (bytes, max) = (item.bytes(), self.max_record_size);
        if bytes <= max {
            return Ok(());
        }
        Err(StorageError::new(
            ErrorKind::TooLarge,
            operation,
            format!("{} {}", self.job, item.id),
            format!("an item of {bytes} bytes is larger than `max_record_size` ({max})"),
        )
        .with_hint(
            "store the large part elsewhere and a reference to it in the item, or raise `max_record_size`",
        ))
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.items.values()
    }

    /// The number of the last change.
    pub(crate) fn counter(&self) -> QueueMark {
        self.counter
    }

    /// The time of the last change.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        self.changed
    }

    /// The number of bytes that the items count in the budget.
    pub(crate) fn cost(&self) -> u64 {
        self.items.values().map(|item| item.cost()).sum()
    }

    /// The total length of all bodies, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Creates a queue from a snapshot.
    pub(crate) fn restored(counter: QueueMark, items: impl IntoIterator<Item = Item>) -> Self {
        let mut queue = Self::default();
        for item in items {
            queue.counter = queue.counter.max(item.revision).max(item.place);
            queue.set(item);
        }
        queue.counter = queue.counter.max(counter);
        queue
    }

    fn set(&mut self, item: Item) {
        self.unset(item.birth);
        if let Some(lease) = &item.lease {
            self.tokens.insert(lease.token.clone(), item.birth);
        }
        self.keys.insert(item.id.clone(), item.birth);
        self.places.insert(item.place, item.birth);
        self.bytes += item.bytes();
        self.items.insert(item.birth, Arc::new(item));
    }

    fn unset(&mut self, birth: QueueMark) {
        if let Some(item) = self.items.remove(&birth) {
            self.keys.remove(&item.id);
            self.places.remove(&item.place);
            self.bytes -= item.bytes();
            if let Some(lease) = &item.lease {
                self.tokens.remove(&lease.token);
            }
        }
    }

    /// The total sizes of the staged items, and of the items that they replace, by the size function `of`.
    fn difference(&self, staged: &Staged, of: impl Fn(&Item) -> u64) -> (u64, u64) {
        let old = staged.items.keys().filter_map(|birth| self.items.get(birth));
        let new = staged.items.values().flatten();
        (old.map(|item| of(item)).sum(), new.map(&of).sum())
    }

    fn commit(&mut self, staged: Staged, operation: &'static str, rules: &Rules<'_>) -> Result<()> {
        let (old, new) = self.difference(&staged, Item::cost);
        rules.budget.replace(old, new, operation, rules.job)?;
        self.counter = staged.counter;
        self.changed = Some(rules.now);
        for (birth, item) in staged.items {
            match item {
                Some(item) => self.set(item),
                None => self.unset(birth),
            }
        }
        Ok(())
    }

    /// Pushes a batch of items completely or not at all.
    pub(crate) fn put(&mut self, items: &[QueueItem], rules: &Rules<'_>) -> Result<PutReport> {
        let (mut report, mut staged) = (PutReport::default(), Staged::over(self));
        for pushed in items {
            let item = match staged.by_id(self, &pushed.id) {
                None => {
                    report.added += 1;
                    let body = dead_letter::first(&pushed.body, rules.now)?;
                    let birth = staged.next();
                    staged.new.insert(pushed.id.clone(), birth);
                    Item::new(pushed.id.clone(), &body, birth)?
                }
                Some(stored) => match dead_letter::merge(&stored.body, &pushed.body, rules.now)? {
                    None => {
                        report.known += 1;
                        continue;
                    }
                    Some(body) => {
                        report.merged += 1;
                        let merged = stored.with_body(&body)?;
                        let revision = staged.next();
                        Item { revision, ..merged }
                    }
                },
            };
            rules.fits(PUT, &item)?;
            staged.stage(item);
        }
        self.has_room(&staged, rules)?;
        self.commit(staged, PUT, rules)?;
        Ok(report)
    }

    /// Fails if a push would make the queue exceed its maximum size.
    fn has_room(&self, staged: &Staged, rules: &Rules<'_>) -> Result<()> {
        let Some(max) = rules.max_queue_size else {
            return Ok(());
        };
        let (old, new) = self.difference(staged, Item::bytes);
        let before = self.bytes();
        let after = before.saturating_sub(old).saturating_add(new);
        if new <= old || after <= max {
            return Ok(());
        }
        Err(StorageError::queue_full(
            PUT,
            rules.job,
            before,
            after - before,
            max,
        ))
    }

    pub(crate) fn get(&self, id: &ItemId) -> Option<QueueEntry> {
        let birth = self.keys.get(id)?;
        self.items.get(birth).map(|item| item.entry())
    }

    /// The selected items, ordered by birth.
    pub(crate) fn select(&self, select: &Select) -> Vec<Arc<Item>> {
        let selected = |item: &&Arc<Item>| item.is_selected(select);
        match &select.ids {
            // If the selection names keys, only these are looked up, even in a long queue.
            Some(ids) => {
                let found = ids.iter().filter_map(|id| self.keys.get(id));
                let found: BTreeMap<_, _> = found
                    .filter_map(|birth| Some((*birth, self.items.get(birth)?)))
                    .collect();
                found.into_values().filter(selected).cloned().collect()
            }
            None => self.items.values().filter(selected).cloned().collect(),
        }
    }

    pub(crate) fn take(
        &mut self,
        select: &Select,
        limit: usize,
        lease: Duration,
        clock: &dyn Clock,
    ) -> Vec<QueueEntry> {
        let is_pending = |item: &&Arc<Item>| item.state(clock) == ItemState::Pending;
        let found: Vec<Arc<Item>> = if select.ids.is_some() {
            let mut found = self.select(select);
            found.retain(|item| is_pending(&item));
            found.sort_unstable_by_key(|item| item.place);
            found.truncate(limit);
            found
        } else {
            let by_place = self.places.values().filter_map(|birth| self.items.get(birth));
            by_place
                .filter(is_pending)
                .filter(|item| item.is_selected(select))
                .take(limit)
                .cloned()
                .collect()
        };
        let mut taken = Vec::with_capacity(found.len());
        for item in found {
            self.counter.0 += 1;
            let item = Item {
                lease: Some(Lease::begin(lease, clock)),
                delay: None,
                place: self.counter,
                ..Item::clone(&item)
            };
            taken.push(item.entry());
            self.set(item);
        }
        taken
    }

    /// Makes all changes, or none of them.
    pub(crate) fn settle(&mut self, settlements: &[Settlement], rules: &Rules<'_>) -> Result<Vec<Settled>> {
        let mut staged = Staged::over(self);
        let settled = settlements
            .iter()
            .map(|settlement| self.settle_one(settlement, &mut staged, rules))
            .collect::<Result<Vec<_>>>()?;
        self.commit(staged, SETTLE, rules)?;
        Ok(settled)
    }

    fn settle_one(&self, settlement: &Settlement, staged: &mut Staged, rules: &Rules<'_>) -> Result<Settled> {
        settlement.check(SETTLE)?;
        let found = match &settlement.claim {
            Claim::Lease(token) => staged.by_token(self, token),
            Claim::Item(id) | Claim::Revision(id, _) => staged.by_id(self, id),
        };
        let Some(stored) = found.cloned() else {
            return Ok(Settled::Unknown);
        };
        if matches!(settlement.claim, Claim::Revision(_, revision) if revision != stored.revision) {
            return Ok(Settled::Changed);
        }
        let contents = dead_letter::changed(&stored.id, &stored.body, &settlement.change, rules.now)?;
        if contents.is_none() && matches!(settlement.change, Change::Unpark) {
            return Ok(Settled::Already);
        }
        let number = staged.next();
        let mut item = match contents {
            Some(body) => {
                let item = stored.with_body(&body)?;
                rules.fits(SETTLE, &item)?;
                Item {
                    revision: number,
                    ..item
                }
            }
            None => stored,
        };
        let by_token = matches!(settlement.claim, Claim::Lease(_));
        let mut settled = Settled::Done;
        match &settlement.change {
            Change::Remove if by_token && item.revision > item.place => {
                settled = Settled::Kept;
                item.lease = None;
                item.place = number;
            }
            Change::Remove => {
                staged.items.insert(item.birth, None);
                return Ok(Settled::Done);
            }
            Change::Extend(length) => {
                item.lease = item.lease.map(|lease| lease.extended(*length, rules.clock));
            }
            Change::Release { delay } => {
                item.lease = None;
                item.delay = Delay::begin(*delay, rules.clock);
                item.place = number;
            }
            Change::Fail(_) => {
                item.lease = None;
                item.delay = None;
                item.place = number;
            }
            // Parking, unparking and editing end the lease.
            _ => item.lease = None,
        }
        staged.stage(item);
        Ok(settled)
    }

    pub(crate) fn summary(&self, clock: &dyn Clock) -> QueueSummary {
        let mut summary = QueueSummary::default();
        summary.items = self.items.len() as u64;
        summary.bytes = self.bytes();
        summary.mark = self.counter;
        for item in self.items.values() {
            let counted = match (item.state(clock), item.facts.eligible) {
                (ItemState::Leased, _) => &mut summary.leased,
                (_, false) => &mut summary.parked,
                (ItemState::Delayed, true) => &mut summary.delayed,
                (ItemState::Pending, true) => &mut summary.pending,
            };
            *counted += 1;
        }
        summary
    }
}
