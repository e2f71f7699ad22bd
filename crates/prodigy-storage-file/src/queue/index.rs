//! The index that a process keeps of a queue: which items there are, where their bytes are, and which one is next.
//!
//! An item takes 28 bytes, 8 at most in the table of ids, and an entry in an ordered set only if it has a place of its own:
//! one that was never taken is where its birth says. A lease or a delay takes more, while it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use prodigy_storage_backend::{BootId, Clock, Lease, LeaseToken};
use prodigy_storage_layout::Timestamp;

use super::standing::End;

/// Leases and delays that are sorted out at once while an index loads.
const LATE: usize = 16 << 10;

/// A number of 48 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct U48([u16; 3]);

impl U48 {
    fn new(number: u64) -> Self {
        Self([number as u16, (number >> 16) as u16, (number >> 32) as u16])
    }

    fn get(self) -> u64 {
        let [low, middle, high] = self.0;
        u64::from(low) | u64::from(middle) << 16 | u64::from(high) << 32
    }
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    /// In the journal; else in the file of items.
    pub(super) in_journal: bool,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Facts of an item, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// It went, or another item of its id took its place.
    pub(super) const DEAD: Self = Self(1);
    const IN_JOURNAL: Self = Self(1 << 1);
    /// It is not eligible.
    pub(super) const PARKED: Self = Self(1 << 2);
    /// Its facts can't be read: it is taken only by its id.
    pub(super) const ODD: Self = Self(1 << 3);
    /// Its line does not state its birth.
    pub(super) const UNBORN: Self = Self(1 << 4);
    /// It is larger than this process reads.
    pub(super) const LARGE: Self = Self(1 << 5);
    /// Its contents were changed since it was taken.
    pub(super) const CHANGED: Self = Self(1 << 6);
    /// A lease or a delay holds it.
    const WAITS: Self = Self(1 << 7);
    /// It is not as its line in the file of items says.
    pub(super) const STIRRED: Self = Self(1 << 8);
    /// The line in the file of items has not the form that we write.
    pub(super) const ROUGH: Self = Self(1 << 9);

    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    fn with(self, flag: Self, yes: bool) -> Self {
        Self(if yes { self.0 | flag.0 } else { self.0 & !flag.0 })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    birth: U48,
    place: U48,
    offset: U48,
    flags: Flags,
    len: u32,
    hash: u32,
}

/// The lease or the delay of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// The hash of its token; 0 for a delay.
    token: u64,
    end: End,
    /// Where its text is.
    pub(super) text: Location,
}

/// A new item, as the index takes it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewItem {
    pub(super) birth: u64,
    pub(super) hash: u64,
    pub(super) location: Location,
    pub(super) parked: bool,
    pub(super) odd: bool,
    pub(super) large: bool,
    pub(super) rough: bool,
}

/// The new place and claim of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) place: u64,
    /// The hash of the token of its lease, 0 for a delay, and when that ends.
    pub(super) hold: Option<(u64, End)>,
    /// Where that is stated.
    pub(super) text: Location,
    /// Whether it was taken just now.
    pub(super) taken: bool,
}

/// The items of a queue, in the order of their births.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// Slots by the hash of their id: open addressing, a power of two long. 0 is free; else a slot's number + 1.
    table: Vec<u32>,
    in_table: usize,
    /// The first slot that may be ready and has its birth as its place.
    first: usize,
    /// The slots that are ready and have another place.
    moved: BTreeMap<u64, u32>,
    holds: HashMap<u32, Hold, foldhash::fast::RandomState>,
    tokens: HashMap<u64, u32, foldhash::fast::RandomState>,
    /// The holds that last, by their end.
    waiting: BTreeSet<(Duration, u32)>,
    /// Slots with a lease that goes by the wall clock.
    by_wall: BTreeSet<u32>,
    /// The boot in which `waiting` counts.
    boot: Option<BootId>,
    living: usize,
    living_bytes: u64,
    /// Whether the order and the tokens are left for [`loaded`](Self::loaded).
    loading: bool,
    /// Leases and delays in the order in which they were read while it loads: of one item the last one counts, if none of
    /// its later changes ended it.
    late: Vec<(u32, Hold)>,
}

impl Index {
    /// An index that takes up many items and changes first: all but [`push`](Self::push), [`find`](Self::find),
    /// [`remove`](Self::remove), [`rewrite`](Self::rewrite) and [`stand`](Self::stand) needs [`loaded`](Self::loaded) first.
    pub(super) fn load() -> Self {
        Self {
            loading: true,
            ..Self::default()
        }
    }

    /// Makes the order in which items are taken.
    pub(super) fn loaded(&mut self) {
        if !std::mem::take(&mut self.loading) {
            return;
        }
        self.slots.shrink_to_fit();
        self.take_late();
        let holds: Vec<(u32, Hold)> = self.holds.iter().map(|(at, hold)| (*at, *hold)).collect();
        for (at, hold) in holds {
            self.hold_on(at, hold);
        }
        let moved = |(at, slot): (u32, &Slot)| {
            (Self::is_ready(*slot) && slot.place != slot.birth).then(|| (slot.place.get(), at))
        };
        self.moved = (0u32..).zip(&self.slots).filter_map(moved).collect();
        self.first = 0;
    }

    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.living
    }

    /// Bytes that the items take where their present contents are.
    pub(super) fn living_bytes(&self) -> u64 {
        self.living_bytes
    }

    fn slot(&self, at: u32) -> Slot {
        self.slots.get(at as usize).copied().unwrap_or(Slot {
            flags: Flags::DEAD,
            ..Slot::default()
        })
    }

    fn change(&mut self, at: u32, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(at as usize) {
            change(slot);
        }
    }

    pub(super) fn birth(&self, at: u32) -> u64 {
        self.slot(at).birth.get()
    }

    pub(super) fn place(&self, at: u32) -> u64 {
        self.slot(at).place.get()
    }

    pub(super) fn is(&self, at: u32, flag: Flags) -> bool {
        self.slot(at).flags.has(flag)
    }

    pub(super) fn set(&mut self, at: u32, flag: Flags, yes: bool) {
        self.unlist(at);
        self.change(at, |slot| slot.flags = slot.flags.with(flag, yes));
        self.list(at);
    }

    pub(super) fn location(&self, at: u32) -> Location {
        let slot = self.slot(at);
        Location {
            in_journal: slot.flags.has(Flags::IN_JOURNAL),
            offset: slot.offset.get(),
            len: u64::from(slot.len),
        }
    }

    pub(super) fn hold(&self, at: u32) -> Option<Hold> {
        self.holds.get(&at).copied()
    }

    /// Every item, in the order of births.
    pub(super) fn living(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.flags.has(Flags::DEAD))
            .map(|(at, _)| at as u32)
    }

    /// The greatest birth.
    pub(super) fn last_birth(&self) -> u64 {
        self.slots.last().map_or(0, |slot| slot.birth.get())
    }

    /// The item of this birth, also if it went.
    pub(super) fn find(&self, birth: u64) -> Option<u32> {
        // Most births follow each other.
        let first = self.slots.first()?.birth.get();
        let guess = usize::try_from(birth.checked_sub(first)?).ok()?;
        if self
            .slots
            .get(guess)
            .is_some_and(|slot| slot.birth.get() == birth)
        {
            return Some(guess as u32);
        }
        let found = self.slots.binary_search_by_key(&birth, |slot| slot.birth.get());
        found.ok().map(|at| at as u32)
    }

    /// An item for another index, where its bytes are at `location`.
    pub(super) fn moved_to(&self, at: u32, location: Location) -> (NewItem, Option<Stand>) {
        let slot = self.slot(at);
        let new = NewItem {
            birth: slot.birth.get(),
            hash: u64::from(slot.hash) << 32,
            location,
            parked: slot.flags.has(Flags::PARKED),
            odd: slot.flags.has(Flags::ODD),
            large: slot.flags.has(Flags::LARGE),
            rough: false,
        };
        let hold = self.holds.get(&at).map(|hold| (hold.token, hold.end));
        let stand = (hold.is_some() || slot.place != slot.birth).then(|| Stand {
            place: slot.place.get(),
            hold,
            text: location,
            taken: false,
        });
        (new, stand)
    }

    /// The items whose id may have this hash, the latest first.
    pub(super) fn with_hash(&mut self, hash: u64) -> Vec<u32> {
        self.fill_table();
        let mask = self.table.len().wrapping_sub(1);
        let hash = short(hash);
        let mut at = spread(hash) & mask;
        let mut found = Vec::new();
        while let Some(&entry) = self.table.get(at)
            && entry != 0
        {
            let slot = self.slot(entry - 1);
            if slot.hash == hash && !slot.flags.has(Flags::DEAD) {
                found.push(entry - 1);
            }
            at = (at + 1) & mask;
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// The pairs of items whose ids may be the same, the older one first.
    pub(super) fn twins(&mut self) -> Vec<(u32, u32)> {
        self.fill_table();
        let mut hashes: Vec<(u32, u32)> = Vec::new();
        let mask = self.table.len().wrapping_sub(1);
        for at in self.living() {
            let hash = self.slot(at).hash;
            let mut probe = spread(hash) & mask;
            while let Some(&entry) = self.table.get(probe)
                && entry != 0
                && entry - 1 != at
            {
                if self.slot(entry - 1).hash == hash {
                    let (older, newer) = (at.min(entry - 1), at.max(entry - 1));
                    hashes.push((older, newer));
                }
                probe = (probe + 1) & mask;
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// Puts the slots that are not in the table yet into it. It is made when an id is first looked for.
    fn fill_table(&mut self) {
        let needed = (self.slots.len() + self.slots.len() / 3 + 8).next_power_of_two();
        if self.table.len() < needed {
            self.table = vec![0; needed];
            self.in_table = 0;
        }
        let mask = self.table.len().wrapping_sub(1);
        for (at, slot) in self.slots.iter().enumerate().skip(self.in_table) {
            if slot.flags.has(Flags::DEAD) {
                continue;
            }
            let mut probe = spread(slot.hash) & mask;
            while let Some(entry) = self.table.get_mut(probe) {
                if *entry == 0 {
                    *entry = at as u32 + 1;
                    break;
                }
                probe = (probe + 1) & mask;
            }
        }
        self.in_table = self.slots.len();
    }

    /// The item that a token took and no one else since.
    pub(super) fn with_token(&self, token: u64) -> Option<u32> {
        self.tokens.get(&token).copied()
    }

    /// Takes up an item. Births ascend.
    pub(super) fn push(&mut self, item: &NewItem) -> Option<u32> {
        let at = u32::try_from(self.slots.len()).ok().filter(|at| *at < u32::MAX)?;
        let flags = Flags::default()
            .with(Flags::PARKED, item.parked)
            .with(Flags::ODD, item.odd)
            .with(Flags::LARGE, item.large)
            .with(Flags::ROUGH, item.rough);
        self.slots.push(Slot {
            birth: U48::new(item.birth),
            place: U48::new(item.birth),
            offset: U48::new(item.location.offset),
            flags,
            len: u32::try_from(item.location.len).unwrap_or(u32::MAX),
            hash: short(item.hash),
        });
        self.living += 1;
        self.living_bytes += item.location.len;
        Some(at)
    }

    /// Takes up all items of another index, behind its own. Only before [`loaded`](Self::loaded), of both. False if there is no room.
    pub(super) fn append(&mut self, mut other: Self) -> bool {
        let first = self.slots.len();
        let Some(first) = u32::try_from(first)
            .ok()
            .filter(|_| first + other.slots.len() < u32::MAX as usize)
        else {
            return false;
        };
        other.take_late();
        self.slots.append(&mut other.slots);
        let holds = other.holds.into_iter();
        self.holds.extend(holds.map(|(at, hold)| (first + at, hold)));
        self.living += other.living;
        self.living_bytes += other.living_bytes;
        true
    }

    /// Sorts the items by their births, since the lines of a file may have another order.
    fn sort(&mut self) {
        if self.slots.is_sorted_by_key(|slot| slot.birth.get()) {
            return;
        }
        self.take_late();
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        order.sort_by_key(|at| self.birth(*at));
        self.holds = (0u32..)
            .zip(&order)
            .filter_map(|(to, from)| Some((to, *self.holds.get(from)?)))
            .collect();
        self.slots = order.iter().map(|at| self.slot(*at)).collect();
    }

    /// Gives births to the items whose lines state none: if all of them are before the others, they count from 1, as every
    /// reader counts them. Returns the last such birth, and whether there is any item without a birth of its own. Only
    /// before [`loaded`](Self::loaded).
    pub(super) fn bear_the_first(&mut self) -> (u64, bool) {
        if !self.loading {
            return (0, false);
        }
        let is_born = |slot: &Slot| slot.birth.get() > 0;
        let unborn = self.slots.iter().take_while(|slot| !is_born(slot)).count();
        let born = self
            .slots
            .iter()
            .map(|slot| slot.birth.get())
            .filter(|birth| *birth > 0);
        let count = self.slots.iter().filter(|slot| !is_born(slot)).count();
        let mut last = 0;
        if count == unborn
            && born
                .min()
                .is_none_or(|first| count as u64 <= first.saturating_sub(1))
        {
            for at in 0..count as u32 {
                last = u64::from(at) + 1;
                self.bear(at, last);
            }
        }
        self.sort();
        // One birth is one item's.
        let again: Vec<u32> = (1u32..)
            .zip(self.slots.windows(2))
            .filter(|(_, pair)| matches!(pair, [one, two] if one.birth == two.birth && is_born(two)))
            .map(|(at, _)| at)
            .collect();
        for at in &again {
            self.bear(*at, 0);
        }
        self.sort();
        (last, count > 0 || !again.is_empty())
    }

    /// Gives the other items without one the next births of the counter, and returns the last number. Only before
    /// [`loaded`](Self::loaded).
    pub(super) fn bear_the_rest(&mut self, mut counter: u64) -> u64 {
        if self.loading {
            let count = self.slots.iter().take_while(|slot| slot.birth.get() == 0).count();
            for at in 0..count as u32 {
                counter += 1;
                self.bear(at, counter);
            }
            self.sort();
        }
        counter
    }

    fn bear(&mut self, at: u32, birth: u64) {
        self.change(at, |slot| {
            if slot.place == slot.birth {
                slot.place = U48::new(birth);
            }
            slot.birth = U48::new(birth);
            slot.flags = slot.flags.with(Flags::UNBORN, true);
        });
    }

    /// An item went.
    pub(super) fn remove(&mut self, at: u32) {
        self.unlist(at);
        self.let_go(at);
        let slot = self.slot(at);
        if !slot.flags.has(Flags::DEAD) {
            self.living -= 1;
            self.living_bytes -= u64::from(slot.len);
            self.change(at, |slot| slot.flags = slot.flags.with(Flags::DEAD, true));
        }
    }

    /// An item has other contents.
    pub(super) fn rewrite(&mut self, at: u32, location: Location, parked: bool, odd: bool, large: bool) {
        self.unlist(at);
        let before = u64::from(self.slot(at).len);
        self.living_bytes = self.living_bytes.saturating_sub(before) + location.len;
        let leased = self.holds.get(&at).is_some_and(|hold| hold.token != 0);
        self.change(at, |slot| {
            slot.offset = U48::new(location.offset);
            slot.len = u32::try_from(location.len).unwrap_or(u32::MAX);
            slot.flags = slot
                .flags
                .with(Flags::IN_JOURNAL, location.in_journal)
                .with(Flags::PARKED, parked)
                .with(Flags::ODD, odd)
                .with(Flags::LARGE, large)
                .with(Flags::STIRRED, true)
                .with(Flags::ROUGH, false);
            if leased {
                slot.flags = slot.flags.with(Flags::CHANGED, true);
            }
        });
        self.list(at);
    }

    /// Gives an item another place, and another lease or delay. `text`: where that is stated. `hold`: the lease or the delay: the hash of its token, 0 for
    /// a delay, and when it ends.
    pub(super) fn stand(&mut self, at: u32, stand: &Stand) {
        self.unlist(at);
        self.let_go(at);
        let Stand {
            place,
            hold,
            text,
            taken,
        } = *stand;
        let is_leased = hold.is_some_and(|(token, _)| token != 0);
        self.change(at, |slot| {
            slot.place = U48::new(place);
            let mut flags = slot.flags.with(Flags::WAITS, hold.is_some());
            if text.in_journal {
                flags = flags.with(Flags::STIRRED, true);
            }
            if taken || !is_leased {
                flags = flags.with(Flags::CHANGED, false);
            }
            slot.flags = flags;
        });
        if let Some((token, end)) = hold {
            let hold = Hold { token, end, text };
            if self.loading {
                self.late.push((at, hold));
                if self.late.len() >= LATE {
                    self.take_late();
                }
            } else {
                self.holds.insert(at, hold);
                self.hold_on(at, hold);
            }
        }
        self.list(at);
    }

    /// Sorts out the leases and delays that were read so far.
    fn take_late(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        let slots = &self.slots;
        let is_held = |at: u32| {
            slots
                .get(at as usize)
                .is_some_and(|slot| slot.flags.has(Flags::WAITS))
        };
        self.holds.retain(|at, _| is_held(*at));
        self.holds.extend(late.drain(..).filter(|(at, _)| is_held(*at)));
        self.late = late;
    }

    /// Makes a lease known by its token, and a lease or delay by its end.
    fn hold_on(&mut self, at: u32, hold: Hold) {
        if hold.token != 0 {
            self.tokens.insert(hold.token, at);
        }
        match hold.end {
            End::At(end) => {
                let boot = *self.boot.get_or_insert(end.boot);
                // A lease of another boot has ended, which the next look finds.
                let since = if boot == end.boot {
                    end.since
                } else {
                    Duration::ZERO
                };
                self.waiting.insert((since, at));
            }
            End::Wall(_) => {
                self.by_wall.insert(at);
            }
        }
    }

    /// Forgets the lease or delay of an item.
    fn let_go(&mut self, at: u32) {
        if self.loading {
            self.change(at, |slot| slot.flags = slot.flags.with(Flags::WAITS, false));
            return;
        }
        if let Some(hold) = self.holds.remove(&at) {
            if self.tokens.get(&hold.token) == Some(&at) {
                self.tokens.remove(&hold.token);
            }
            if let End::At(end) = hold.end {
                self.waiting.remove(&(end.since, at));
                self.waiting.remove(&(Duration::ZERO, at));
            }
            self.by_wall.remove(&at);
            self.change(at, |slot| slot.flags = slot.flags.with(Flags::WAITS, false));
        }
    }

    /// Finds the leases and delays that have ended. A lease stays known by its token.
    pub(super) fn wake(&mut self, clock: &dyn Clock) {
        let now = clock.uptime();
        if self.boot != Some(now.boot) {
            // Which of them last is decided again.
            self.boot = Some(now.boot);
            let all = self.holds.iter();
            self.waiting = all
                .filter_map(|(at, hold)| match hold.end {
                    End::At(end) if self.is(*at, Flags::WAITS) => Some((
                        if end.boot == now.boot {
                            end.since
                        } else {
                            Duration::ZERO
                        },
                        *at,
                    )),
                    _ => None,
                })
                .collect();
        }
        while let Some(&(end, at)) = self.waiting.first()
            && end <= now.since
        {
            self.waiting.remove(&(end, at));
            self.end_wait(at);
        }
        if !self.by_wall.is_empty() {
            let lasts = |at: &u32| match self.holds.get(at).map(|hold| hold.end) {
                Some(End::Wall(until)) => !wall_lease(until).has_ended(clock),
                _ => false,
            };
            let (stay, ended): (Vec<u32>, Vec<u32>) = self.by_wall.iter().partition(|at| lasts(at));
            for at in ended {
                self.end_wait(at);
            }
            for at in stay {
                self.set(at, Flags::WAITS, true);
            }
        }
    }

    fn end_wait(&mut self, at: u32) {
        self.set(at, Flags::WAITS, false);
    }

    /// Whether a lease or a delay held an item at the last [`wake`](Self::wake).
    pub(super) fn waits(&self, at: u32) -> bool {
        self.is(at, Flags::WAITS)
    }

    fn is_ready(slot: Slot) -> bool {
        let Flags(bits) = slot.flags;
        let never = Flags::DEAD.0 | Flags::PARKED.0 | Flags::ODD.0 | Flags::LARGE.0 | Flags::WAITS.0;
        bits & never == 0
    }

    /// Takes an item out of the order in which items are taken.
    fn unlist(&mut self, at: u32) {
        if self.loading {
            return;
        }
        let slot = self.slot(at);
        if slot.place != slot.birth && self.moved.get(&slot.place.get()) == Some(&at) {
            self.moved.remove(&slot.place.get());
        }
    }

    /// Puts an item into the order, if it is ready.
    fn list(&mut self, at: u32) {
        let slot = self.slot(at);
        if self.loading || !Self::is_ready(slot) {
            return;
        }
        if slot.place == slot.birth {
            self.first = self.first.min(at as usize);
        } else {
            self.moved.insert(slot.place.get(), at);
        }
    }

    /// The next item that is ready, behind the last one that `walk` gave.
    pub(super) fn next_ready(&mut self, walk: &mut Walk) -> Option<u32> {
        let unmoved = |slot: &Slot| Self::is_ready(*slot) && slot.place == slot.birth;
        // Slots before the first one are not read again.
        while self.slots.get(self.first).is_some_and(|slot| !unmoved(slot)) {
            self.first += 1;
        }
        let mut next = walk.next.max(self.first);
        while self.slots.get(next).is_some_and(|slot| !unmoved(slot)) {
            next += 1;
        }
        walk.next = next;
        let first = self.slots.get(next).map(|slot| (slot.place.get(), next as u32));
        let after = (Bound::Excluded(walk.place), Bound::Unbounded);
        let second = self.moved.range(after).next().map(|(place, at)| (*place, *at));
        let (place, at) = match (first, second) {
            (Some(first), Some(second)) => first.min(second),
            (first, second) => first.or(second)?,
        };
        if second.is_some_and(|(_, second)| second == at) {
            walk.place = place;
        } else {
            walk.next = next + 1;
        }
        Some(at)
    }
}

/// How far a walk through the items that are ready came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// The next slot among those in the places of their births.
    next: usize,
    /// The last place among the others.
    place: u64,
}

/// A lease of an earlier version that ends at this time.
pub(super) fn wall_lease(until: Timestamp) -> Lease {
    Lease {
        token: LeaseToken::from(String::new()),
        until,
        end: None,
    }
}

/// The part of a hash that a slot keeps.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn spread(hash: u32) -> usize {
    (u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize
}

#[cfg(test)]
mod tests {
    use prodigy_storage_backend::Uptime;

    use super::super::tests::support::Hand;
    use super::*;

    #[test]
    fn an_item_takes_28_bytes() {
        assert_eq!(size_of::<Slot>(), 28);
        for number in [0, 1, 0xffff, 0x1_0000, 0x1234_5678_9abc, (1 << 48) - 1] {
            assert_eq!(U48::new(number).get(), number);
        }
    }

    fn index(births: impl IntoIterator<Item = u64>) -> Index {
        let mut index = Index::default();
        for birth in births {
            index.push(&item(birth, birth << 32));
        }
        index
    }

    fn item(birth: u64, hash: u64) -> NewItem {
        NewItem {
            birth,
            hash,
            location: Location {
                in_journal: false,
                offset: birth * 100,
                len: 100,
            },
            parked: false,
            odd: false,
            large: false,
            rough: false,
        }
    }

    fn ready(index: &mut Index) -> Vec<u64> {
        let mut walk = Walk::default();
        let mut found = Vec::new();
        while let Some(at) = index.next_ready(&mut walk) {
            found.push(index.birth(at));
        }
        found
    }

    fn leased(place: u64, token: u64, seconds: u64, boot: u128) -> Stand {
        let end = Uptime {
            boot: BootId::from_u128(boot),
            since: Duration::from_secs(seconds),
        };
        Stand {
            place,
            hold: Some((token, End::At(end))),
            text: Location::default(),
            taken: true,
        }
    }

    fn released(place: u64) -> Stand {
        Stand {
            place,
            hold: None,
            text: Location::default(),
            taken: false,
        }
    }

    #[test]
    fn items_are_taken_in_the_order_of_their_places_and_come_back_when_a_lease_ends() {
        let clock = Hand::new(1);
        let mut index = index([1, 2, 3, 5, 9]);
        assert_eq!(ready(&mut index), [1, 2, 3, 5, 9]);
        let at = index.find(2).unwrap();
        index.stand(at, &leased(10, 77, 160, 1));
        assert_eq!(ready(&mut index), [1, 3, 5, 9]);
        let last = index.find(1).unwrap();
        index.stand(last, &released(11));
        assert_eq!(ready(&mut index), [3, 5, 9, 1]);
        clock.turn(59);
        index.wake(&clock);
        assert_eq!(ready(&mut index), [3, 5, 9, 1]);
        clock.turn(1);
        index.wake(&clock);
        assert_eq!(ready(&mut index), [3, 5, 9, 2, 1], "by its place");
        assert_eq!(index.with_token(77), Some(at), "its token counts still");
        let (third, fifth) = (index.find(3).unwrap(), index.find(5).unwrap());
        index.set(third, Flags::PARKED, true);
        index.remove(fifth);
        assert_eq!(ready(&mut index), [9, 2, 1]);
        index.set(third, Flags::PARKED, false);
        assert_eq!(ready(&mut index), [3, 9, 2, 1], "in its place");
        index.remove(at);
        assert_eq!(index.with_token(77), None);
        assert_eq!((index.len(), index.living_bytes()), (3, 300));
    }

    #[test]
    fn another_boot_ends_every_lease_of_the_one_before() {
        let clock = Hand::new(1);
        let mut index = index([1, 2]);
        index.stand(0, &leased(3, 7, 1_000, 1));
        index.stand(1, &leased(4, 8, 1_000, 2));
        index.wake(&clock);
        assert_eq!(ready(&mut index), [2]);
        clock.reboot();
        index.wake(&clock);
        assert_eq!(ready(&mut index), [1, 2]);
    }

    #[test]
    fn items_are_found_by_birth_and_by_id_whatever_their_number() {
        let births: Vec<u64> = (1..3_000).filter(|birth| birth % 7 != 0).collect();
        let mut index = index(births.iter().copied());
        for birth in 0..3_010 {
            let found = index.find(birth).map(|at| index.birth(at));
            assert_eq!(found, births.contains(&birth).then_some(birth));
            let found: Vec<u64> = index
                .with_hash(birth << 32)
                .into_iter()
                .map(|at| index.birth(at))
                .collect();
            assert_eq!(
                found,
                births
                    .iter()
                    .filter(|b| **b == birth)
                    .copied()
                    .collect::<Vec<_>>()
            );
        }
        let at = index.find(100).unwrap();
        index.remove(at);
        assert!(index.with_hash(100 << 32).is_empty());
        assert!(index.twins().is_empty());
    }

    #[test]
    fn items_of_one_hash_are_twins_and_the_latest_comes_first() {
        let mut index = index([1, 2, 3]);
        for birth in [4, 5] {
            index.push(&item(birth, 2 << 32));
        }
        let births: Vec<u64> = index
            .with_hash(2 << 32)
            .into_iter()
            .map(|at| index.birth(at))
            .collect();
        assert_eq!(births, [5, 4, 2]);
        assert_eq!(index.twins(), [(1, 3), (1, 4), (3, 4)]);
    }

    #[test]
    fn loading_ends_in_the_same_index_whatever_the_order_of_births() {
        let mut index = Index::load();
        for birth in [5, 3, 4, 1] {
            index.push(&item(birth, birth << 32));
        }
        index.stand(1, &leased(9, 7, 160, 1));
        assert_eq!(index.bear_the_first(), (0, false));
        let at = index.find(4).unwrap();
        index.stand(at, &leased(10, 8, 160, 1));
        index.stand(at, &released(11));
        let gone = index.find(1).unwrap();
        index.stand(gone, &leased(12, 9, 160, 1));
        index.remove(gone);
        let again = index.find(5).unwrap();
        index.stand(again, &leased(13, 10, 160, 1));
        index.stand(again, &leased(14, 11, 160, 1));
        index.loaded();
        assert_eq!((index.with_token(9), index.with_token(10)), (None, None));
        assert_eq!(index.with_token(11), Some(again));
        index.stand(again, &released(15));
        index.wake(&Hand::new(1));
        assert_eq!(index.with_token(7).map(|at| index.birth(at)), Some(3));
        assert_eq!(index.with_token(8), None);
        assert_eq!(ready(&mut index), [4, 5]);
        assert_eq!(index.len(), 3);
    }

    fn births(index: &Index) -> Vec<u64> {
        index.living().map(|at| index.birth(at)).collect()
    }

    #[test]
    fn items_without_a_birth_count_from_1_or_are_the_last() {
        for (given, rough, first, all) in [
            (vec![0, 0, 0], true, 3, vec![1, 2, 3]),
            (vec![0, 0, 3, 4], true, 2, vec![1, 2, 3, 4]),
            (vec![0, 0, 2, 4], true, 0, vec![2, 4, 11, 12]),
            (vec![5, 0, 7], true, 0, vec![5, 7, 11]),
            (vec![5, 6, 5], true, 0, vec![5, 6, 11]),
            (vec![5, 6], false, 0, vec![5, 6]),
        ] {
            let mut index = Index::load();
            for birth in &given {
                index.push(&item(*birth, 1));
            }
            assert_eq!(index.bear_the_first(), (first, rough), "{given:?}");
            index.bear_the_rest(10);
            index.loaded();
            assert_eq!(births(&index), all, "{given:?}");
            assert_eq!(ready(&mut index), all, "{given:?}");
        }
    }
}
