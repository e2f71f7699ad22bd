//! The index of a queue in a process: which items exist, where their bytes are, and which item is next.
//!
//! An item takes 28 bytes, and at most 8 in the table of ids. Items are ordered by place: at first this is the item's
//! birth (the counter's number when it was added); an item that was taken before has another place, and an entry in an
//! ordered set. A lease or a delay takes more memory while it lasts.

mod holds;
mod order;
mod slot;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use prodigy_storage_backend::BootId;

pub(super) use holds::wall_lease;
pub(super) use order::Walk;
pub(super) use slot::{Flags, Location, NewItem, Stand};
use slot::{Hold, Slot, U48};
use table::short;

/// The number of leases and delays that an index collects during loading before it drops outdated ones.
const LATE: usize = 16 << 10;

/// The items of a queue, ordered by birth.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// A hash table from ids to slots, with open addressing; its length is a power of two. 0 marks a free entry, any
    /// other value is the index of a slot plus 1.
    table: Vec<u32>,
    in_table: usize,
    /// No slot before this one is ready with its birth as its place.
    first: usize,
    /// The ready slots whose place is not their birth, by place.
    moved: BTreeMap<u64, u32>,
    holds: HashMap<u32, Hold, foldhash::fast::RandomState>,
    tokens: HashMap<u64, u32, foldhash::fast::RandomState>,
    /// The leases and delays that have not ended, ordered by their end.
    waiting: BTreeSet<(Duration, u32)>,
    /// Slots with a lease of an earlier version, which ends by the wall clock.
    by_wall: BTreeSet<u32>,
    /// The boot of the machine that the times in `waiting` count from.
    boot: Option<BootId>,
    living: usize,
    living_bytes: u64,
    /// True until [`loaded`](Self::loaded) is called. Meanwhile the order of items and the table of tokens are not
    /// kept.
    loading: bool,
    /// The leases and delays that were read during loading, in the order of reading. Only the last entry of an item
    /// counts, and only if no later change ended it.
    late: Vec<(u32, Hold)>,
}

impl Index {
    /// Creates an index for reading a whole queue. Before [`loaded`](Self::loaded), only [`push`](Self::push),
    /// [`find`](Self::find), [`remove`](Self::remove), [`rewrite`](Self::rewrite) and [`stand`](Self::stand) may be
    /// called.
    pub(super) fn load() -> Self {
        Self {
            loading: true,
            ..Self::default()
        }
    }

    /// Ends the loading: builds the order in which items are taken, and the table of tokens.
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

    /// The number of existing items.
    pub(super) fn len(&self) -> usize {
        self.living
    }

    /// The total length of the current contents of all items, in bytes.
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

    /// All existing items, ordered by birth.
    pub(super) fn living(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.flags.has(Flags::DEAD))
            .map(|(at, _)| at as u32)
    }

    /// The number of items with a birth up to this one, including removed ones.
    pub(super) fn born_up_to(&self, birth: u64) -> u64 {
        self.slots.partition_point(|slot| slot.birth.get() <= birth) as u64
    }

    /// The greatest birth of any item; 0 without items.
    pub(super) fn last_birth(&self) -> u64 {
        self.slots.last().map_or(0, |slot| slot.birth.get())
    }

    /// The item with this birth. It may have been removed.
    pub(super) fn find(&self, birth: u64) -> Option<u32> {
        // Most births are consecutive, so the position can be guessed.
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

    /// The entries of an item for the index of a compacted queue, in which its bytes are at `location`.
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

    /// Adds an item. Each birth must be greater than the one before. `None` if the index is full.
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

    /// Appends all items of another index. Both must be loading. Returns false if there is no room.
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

    /// Sorts the items by birth, since the lines of a file may be in another order.
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

    /// Gives births to items whose lines state none. If all of these come before the other items, their births are
    /// counted from 1, so that every reader gets the same ones. Returns the last of these births, and true if any line
    /// states no birth, or one that another line has too. Does nothing unless the index is loading.
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
        // Two items can't share a birth: the second one gets a new birth later.
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

    /// Gives each item without a birth (its number in the order of the pushes) the next number of the counter. Returns
    /// the last number. Does nothing unless the index is loading.
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

    /// Removes an item.
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

    /// Records new contents of an item.
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

    /// Records the new place of an item, and its new lease or delay.
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
}
