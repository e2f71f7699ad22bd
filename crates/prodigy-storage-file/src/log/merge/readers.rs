//! The segments that a merge reads, in bounded memory and with a bounded number of descriptors.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use prodigy_storage_backend::{EventId, Result};

use crate::log::clock::StepClock;
use crate::log::segment::SegmentReader;

/// Readers that hold a descriptor at once; one with a decoder counts for several.
const MOST_OPEN: usize = 48;
const DECODER_WEIGHT: usize = 6;
/// Each read takes this part of the memory that buffers may still take. So the chunks of many readers become as large as
/// that memory allows, whatever the number of readers, and a segment is opened once per chunk rather than once per event.
const SHARE: usize = 128;
/// The bounds of a chunk.
const LARGE_CHUNK: usize = 256 << 10;
const SMALL_CHUNK: usize = 4 << 10;

/// The place of a reader among the others.
pub(super) type Slot = usize;

/// The readers of a merge, by the order of their heads.
#[derive(Debug)]
pub(super) struct Readers {
    readers: Vec<Option<SegmentReader>>,
    free: Vec<Slot>,
    heap: BinaryHeap<Reverse<(EventId, Slot)>>,
    /// Readers that hold a descriptor.
    open: Vec<Slot>,
    /// Bytes in the buffers of all readers.
    buffered: usize,
    /// Bytes that all buffers may take.
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

    /// How many bytes a read asks for now.
    pub(super) fn chunk(&self) -> usize {
        (self.memory.saturating_sub(self.buffered) / SHARE).clamp(SMALL_CHUNK, LARGE_CHUNK)
    }

    /// The order of the head that comes next.
    pub(super) fn smallest(&self) -> Option<EventId> {
        self.heap.peek().map(|Reverse((order, _))| *order)
    }

    /// Takes the reader whose head comes next out of the order.
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

    /// Takes out a reader that is at its end.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<SegmentReader> {
        let reader = self.readers.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.buffered -= reader.buffered();
        Some(reader)
    }

    /// Goes to the next head of a reader. After an error the reader stays at its place.
    pub(super) fn step(&mut self, slot: Slot, clock: &mut StepClock) -> Result<()> {
        let stepped = self.with(slot, |reader, chunk| {
            reader.read_by(chunk);
            reader.step(clock)
        });
        stepped.unwrap_or(Ok(()))
    }

    /// Gives a reader its buffer back.
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

    /// Takes the buffer of a reader.
    pub(super) fn sleep(&mut self, slot: Slot) {
        self.with(slot, |reader, _| reader.sleep());
    }

    /// Counts the head of a reader as read.
    pub(super) fn consume(&mut self, slot: Slot) {
        if let Some(reader) = self.readers.get_mut(slot).and_then(Option::as_mut) {
            reader.consume();
        }
    }

    /// Changes a reader, and counts the bytes that its buffer takes afterwards.
    fn with<T>(&mut self, slot: Slot, act: impl FnOnce(&mut SegmentReader, usize) -> T) -> Option<T> {
        let chunk = self.chunk();
        let reader = self.readers.get_mut(slot)?.as_mut()?;
        let before = reader.buffered();
        let acted = act(reader, chunk);
        self.buffered = self.buffered + reader.buffered() - before;
        Some(acted)
    }

    /// Puts a reader's head among the others. A reader beyond the bounds gives back its descriptor or its buffer.
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

    /// Notes whether a reader holds a descriptor. If that is one too many, closes the one whose head comes last.
    pub(super) fn bound_open(&mut self, slot: Slot) {
        let is_open = |readers: &[Option<SegmentReader>], slot: Slot| {
            let reader = readers.get(slot).and_then(Option::as_ref);
            reader
                .filter(|reader| reader.is_open())
                .map(|reader| (weight(reader), reader.order))
        };
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
