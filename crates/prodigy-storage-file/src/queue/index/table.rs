//! The hash table of ids.

use super::Index;
use super::slot::Flags;

impl Index {
    /// The items whose id may have this hash, the latest first.
    pub(in crate::queue) fn with_hash(&mut self, hash: u64) -> Vec<u32> {
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

    /// The pairs of items that may have equal ids, each with the older item first.
    pub(in crate::queue) fn twins(&mut self) -> Vec<(u32, u32)> {
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

    /// Adds the missing slots to the table. The first search for an id builds the table.
    pub(super) fn fill_table(&mut self) {
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
}

/// The part of a hash that a slot stores.
pub(super) fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn spread(hash: u32) -> usize {
    (u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize
}
