//! The order in which items are taken, which is by place. The place of an item is its birth (the counter's number when
//! it was added) until it is taken.

use std::ops::Bound;

use super::Index;
use super::slot::{Flags, Slot};

/// A position in the order of ready items.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct Walk {
    /// The first slot to consider among the items whose place is their birth.
    next: usize,
    /// The place of the last returned item among all other items.
    place: u64,
}

impl Index {
    pub(super) fn is_ready(slot: Slot) -> bool {
        let Flags(bits) = slot.flags;
        let never = Flags::DEAD.0 | Flags::PARKED.0 | Flags::ODD.0 | Flags::LARGE.0 | Flags::WAITS.0;
        bits & never == 0
    }

    /// Removes an item from the order in which items are taken.
    pub(super) fn unlist(&mut self, at: u32) {
        if self.loading {
            return;
        }
        let slot = self.slot(at);
        if slot.place != slot.birth && self.moved.get(&slot.place.get()) == Some(&at) {
            self.moved.remove(&slot.place.get());
        }
    }

    /// Adds an item to the order in which items are taken, if it is ready.
    pub(super) fn list(&mut self, at: u32) {
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

    /// The next ready item after the one that `walk` returned last.
    pub(in crate::queue) fn next_ready(&mut self, walk: &mut Walk) -> Option<u32> {
        let unmoved = |slot: &Slot| Self::is_ready(*slot) && slot.place == slot.birth;
        // Moves `first` past slots that are not ready with their birth as their place. `list` lowers it again for such
        // a slot.
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
