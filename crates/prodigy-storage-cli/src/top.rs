//! The greatest entries of a listing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps a number of entries with the greatest keys, out of any number of offered entries.
pub(crate) struct Top<K, T> {
    limit: usize,
    heap: BinaryHeap<Entry<K, T>>,
}

impl<K: Ord, T> Top<K, T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            heap: BinaryHeap::new(),
        }
    }

    /// Keeps an entry if it is one of the greatest so far.
    pub(crate) fn offer(&mut self, key: K, entry: T) {
        self.heap.push(Entry { key, entry });
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    /// The entries, greatest first.
    pub(crate) fn into_sorted(self) -> impl Iterator<Item = T> {
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.entry)
    }
}

/// An entry of the heap. Its order is reversed, so the entry with the least key leaves first.
struct Entry<K, T> {
    key: K,
    entry: T,
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, T> Eq for Entry<K, T> {}

impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_and_come_first() {
        for (limit, wanted) in [(0, vec![]), (2, vec!["d", "c"]), (9, vec!["d", "c", "b", "a"])] {
            let mut top = Top::new(limit);
            for (key, entry) in [(3, "c"), (1, "a"), (4, "d"), (2, "b")] {
                top.offer(key, entry);
                assert!(top.heap.len() <= limit);
            }
            assert_eq!(top.into_sorted().collect::<Vec<_>>(), wanted);
        }
    }
}
