//! The segments that a merge reads, in bounded memory and with a bounded number of descriptors.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use prodigy_storage_backend::{EventId, Result};

use crate::log::clock::StepClock;
use crate::log::segment::SegmentReader;

/// The largest number of open descriptors of readers. A reader of a compressed segment counts as several, because of
/// its decoder.
const MOST_OPEN: usize = 48;
const DECODER_WEIGHT: usize = 6;
/// A read may use one part in this number of the memory that is left for buffers. So chunks are as large as the number
/// of readers allows, and a segment is opened once per chunk rather than once per event.
const SHARE: usize = 128;
/// The limits for the size of a chunk, in bytes.
const LARGE_CHUNK: usize = 256 << 10;
const SMALL_CHUNK: usize = 4 << 10;

/// The index of a reader.
pub(super) type Slot = usize;

/// The readers of a merge, ordered by the id of their next item.
#[derive(Debug)]
pub(super) struct Readers {
    readers: Vec<Option<SegmentReader>>,
    free: Vec<Slot>,
    heap: BinaryHeap<Reverse<(EventId, Slot)>>,
    /// The readers with an open descriptor.
    open: Vec<Slot>,
    /// The size of the buffers of all readers in bytes.
    buffered: usize,
    /// The maximum size of all buffers in bytes.
    memory: usize,
}

impl Readers {
    pub(super) fn new(memory: usize) -> Self {
        Self {
            readers: Vec::new(),
            free: Vec::new(),
            heap: BinaryHeap::new(),
            open: Vec::new(),
            buffered: 0,
            memory,
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&SegmentReader> {
        self.readers.get(slot).and_then(Option::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SegmentReader> {
        self.readers.iter().flatten()
    }

    /// The size of the chunk that a read asks for, given the memory that is left.
    pub(super) fn chunk(&self) -> usize {
        (self.memory.saturating_sub(self.buffered) / SHARE).clamp(SMALL_CHUNK, LARGE_CHUNK)
    }

    /// The key (an id) by which the next item of all readers is ordered.
    pub(super) fn smallest(&self) -> Option<EventId> {
        self.heap.peek().map(|Reverse((order, _))| *order)
    }

    /// Removes the reader with the next item from the order, and returns it.
    pub(super) fn pop(&mut self) -> Option<(EventId, Slot)> {
        self.heap.pop().map(|Reverse(next)| next)
    }

    /// Puts a reader back into the order, as it was before [`pop`](Self::pop).
    pub(super) fn put_back(&mut self, order: EventId, slot: Slot) {
        self.heap.push(Reverse((order, slot)));
    }

    /// Adds a reader.
    pub(super) fn add(&mut self, reader: SegmentReader) {
        self.buffered += reader.buffered();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.readers.push(None);
            self.readers.len() - 1
        });
        if let Some(place) = self.readers.get_mut(slot) {
            *place = Some(reader);
        }
        self.take_turn(slot);
    }

    /// Removes a reader whose segment was read to its end.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<SegmentReader> {
        let reader = self.readers.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.open.retain(|&other| other != slot);
        self.buffered -= reader.buffered();
        Some(reader)
    }

    /// Moves a reader to its next item. After an error the reader stays where it is.
    pub(super) fn step(&mut self, slot: Slot, clock: &mut StepClock) -> Result<()> {
        let stepped = self.with(slot, |reader, chunk| {
            reader.read_by(chunk);
            reader.step(clock)
        });
        stepped.unwrap_or(Ok(()))
    }

    /// Reads the current item of a reader again, if its buffer was freed.
    pub(super) fn wake(&mut self, slot: Slot, clock: &mut StepClock) -> Result<()> {
        if self.get(slot).is_none_or(SegmentReader::is_awake) {
            return Ok(());
        }
        let woken = self.with(slot, |reader, chunk| {
            reader.read_by(chunk);
            reader.wake(clock)
        });
        woken.unwrap_or(Ok(()))
    }

    /// Frees the buffer of a reader. [`wake`](Self::wake) reads it again.
    pub(super) fn sleep(&mut self, slot: Slot) {
        self.with(slot, |reader, _| reader.sleep());
    }

    /// Counts the item at a reader as read.
    pub(super) fn consume(&mut self, slot: Slot) {
        if let Some(reader) = self.readers.get_mut(slot).and_then(Option::as_mut) {
            reader.consume();
        }
    }

    /// Runs a change of a reader, and then counts the size of its buffer again.
    fn with<T>(&mut self, slot: Slot, act: impl FnOnce(&mut SegmentReader, usize) -> T) -> Option<T> {
        let chunk = self.chunk();
        let reader = self.readers.get_mut(slot)?.as_mut()?;
        let before = reader.buffered();
        let acted = act(reader, chunk);
        self.buffered = self.buffered + reader.buffered() - before;
        Some(acted)
    }

    /// Inserts a reader into the order by its next item. If memory or descriptors are short, closes descriptors or
    /// frees the reader's buffer.
    pub(super) fn take_turn(&mut self, slot: Slot) {
        self.bound_open(slot);
        let Some(order) = self.get(slot).map(|reader| reader.order) else {
            return;
        };
        let is_next = self.smallest().is_none_or(|smallest| order <= smallest);
        if self.buffered > self.memory && !is_next {
            self.sleep(slot);
        }
        self.put_back(order, slot);
    }

    /// Updates the list of open readers after a change. If too many are open, closes the one whose next item comes
    /// last.
    pub(super) fn bound_open(&mut self, slot: Slot) {
        let is_open = |readers: &[Option<SegmentReader>], slot: Slot| {
            let reader = readers.get(slot).and_then(Option::as_ref);
            reader
                .filter(|reader| reader.is_open())
                .map(|reader| (weight(reader), reader.order))
        };
        // Nothing changed since the last call for this reader: of the others, some may have been closed.
        if self.open.contains(&slot) == is_open(&self.readers, slot).is_some() {
            return;
        }
        self.open
            .retain(|&other| other != slot && is_open(&self.readers, other).is_some());
        if is_open(&self.readers, slot).is_none() {
            return;
        }
        self.open.push(slot);
        loop {
            let held = self.open.iter().filter_map(|&slot| is_open(&self.readers, slot));
            if held.map(|(weight, _)| weight).sum::<usize>() <= MOST_OPEN {
                return;
            }
            let others = self.open.iter().filter(|&&other| other != slot);
            let furthest = others
                .copied()
                .max_by_key(|&other| is_open(&self.readers, other).map(|(_, order)| order));
            let Some(furthest) = furthest else { return };
            self.open.retain(|&other| other != furthest);
            if let Some(reader) = self.readers.get_mut(furthest).and_then(Option::as_mut) {
                reader.close();
            }
        }
    }
}

fn weight(reader: &SegmentReader) -> usize {
    if reader.is_compressed() { DECODER_WEIGHT } else { 1 }
}
