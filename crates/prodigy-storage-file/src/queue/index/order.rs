//! The order in which items are taken: by their places, which are their births until one is taken.

use std::ops::Bound;

use super::Index;
use super::slot::{Flags, Slot};

/// How far a walk through the items that are ready came.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct Walk {
    /// The next slot among those in the places of their births.
    next: usize,
    /// The last place among the others.
    place: u64,
}

impl Index {
    pub(super) fn is_ready(slot: Slot) -> bool {
        let Flags(bits) = slot.flags;
        let never = Flags::DEAD.0 | Flags::PARKED.0 | Flags::ODD.0 | Flags::LARGE.0 | Flags::WAITS.0;
        bits & never == 0
    }

    /// Takes an item out of the order in which items are taken.
    pub(super) fn unlist(&mut self, at: u32) {
        if self.loading {
            return;
        }
        let slot = self.slot(at);
        if slot.place != slot.birth && self.moved.get(&slot.place.get()) == Some(&at) {
            self.moved.remove(&slot.place.get());
        }
    }

    /// Puts an item into the order, if it is ready.
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

    /// The next item that is ready, behind the last one that `walk` gave.
    pub(in crate::queue) fn next_ready(&mut self, walk: &mut Walk) -> Option<u32> {
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
