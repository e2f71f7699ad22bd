//! An item in the index, and the changes that can be made to it.

use super::super::standing::End;

/// A number of 48 bits, stored in six bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct U48([u16; 3]);

impl U48 {
    pub(super) fn new(number: u64) -> Self {
        Self([number as u16, (number >> 16) as u16, (number >> 32) as u16])
    }

    pub(super) fn get(self) -> u64 {
        let [low, middle, high] = self.0;
        u64::from(low) | u64::from(middle) << 16 | u64::from(high) << 32
    }
}

/// A range of bytes in the journal or in the file of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Location {
    /// True for the journal, false for the file of items.
    pub(in crate::queue) in_journal: bool,
    pub(in crate::queue) offset: u64,
    pub(in crate::queue) len: u64,
}

/// Properties of an item, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Flags(pub(super) u16);

impl Flags {
    /// The item was removed, or replaced by another item with the same id.
    pub(in crate::queue) const DEAD: Self = Self(1);
    pub(super) const IN_JOURNAL: Self = Self(1 << 1);
    /// The item is parked: set aside for a person.
    pub(in crate::queue) const PARKED: Self = Self(1 << 2);
    /// A field of the item that decides whether it may be taken can't be read, so it is taken only by its id.
    pub(in crate::queue) const ODD: Self = Self(1 << 3);
    /// The item's line does not state its birth (the counter's number when it was added).
    pub(in crate::queue) const UNBORN: Self = Self(1 << 4);
    /// The item is larger than this process reads.
    pub(in crate::queue) const LARGE: Self = Self(1 << 5);
    /// The item's contents were changed since it was taken.
    pub(in crate::queue) const CHANGED: Self = Self(1 << 6);
    /// A lease or a delay keeps the item from being taken.
    pub(super) const WAITS: Self = Self(1 << 7);
    /// The item has changed since its line in the file of items was written.
    pub(in crate::queue) const STIRRED: Self = Self(1 << 8);
    /// The item's line in the file of items does not have the form that we write.
    pub(in crate::queue) const ROUGH: Self = Self(1 << 9);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn with(self, flag: Self, yes: bool) -> Self {
        Self(if yes { self.0 | flag.0 } else { self.0 & !flag.0 })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) birth: U48,
    pub(super) place: U48,
    pub(super) offset: U48,
    pub(super) flags: Flags,
    pub(super) len: u32,
    pub(super) hash: u32,
}

/// The lease or the delay of an item.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct Hold {
    /// The hash of the lease's token; 0 for a delay.
    pub(super) token: u64,
    pub(super) end: End,
    /// The location of the bytes that state the lease or the delay.
    pub(in crate::queue) text: Location,
}

/// A new item for the index.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct NewItem {
    pub(in crate::queue) birth: u64,
    pub(in crate::queue) hash: u64,
    pub(in crate::queue) location: Location,
    pub(in crate::queue) parked: bool,
    pub(in crate::queue) odd: bool,
    pub(in crate::queue) large: bool,
    pub(in crate::queue) rough: bool,
}

/// A new place of an item, and its new lease or delay.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct Stand {
    pub(in crate::queue) place: u64,
    /// The lease or delay: the hash of the lease's token (0 for a delay), and the end. `None` if the item has neither.
    pub(in crate::queue) hold: Option<(u64, End)>,
    /// The location of the bytes that state the place and the lease or delay.
    pub(in crate::queue) text: Location,
    /// True if the item was taken by this change.
    pub(in crate::queue) taken: bool,
}
