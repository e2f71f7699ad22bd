//! The options of an append, and the buffer for its batch.

use std::cell::RefCell;

use prodigy_storage_backend::{Annotations, Batch, Durability, EventId};

/// A thread keeps its batch for the next append if the batch has at most this number of bytes.
const KEPT: usize = 1 << 20;

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// Calls `work` with an empty batch of this thread. The batch is reused, so that few events need an allocation.
pub(crate) fn with_batch<R>(work: impl FnOnce(&mut Batch) -> R) -> R {
    // The batch is taken out of the cell, not borrowed: while an event is serialised, it may append another event.
    let mut batch = BATCH.try_with(RefCell::take).unwrap_or_default();
    let result = work(&mut batch);
    if batch.bytes() <= KEPT {
        batch.clear();
        // This fails while the thread ends. The batch is then dropped.
        let _ = BATCH.try_with(|kept| kept.replace(batch));
    }
    result
}

/// The options of an append: the optional fields of an event, its id, and the durability. All are optional.
///
/// ```
/// use prodigy_storage::{AppendOptions, Durability};
///
/// let options = AppendOptions::new().correlation_id("run-7").metadata(&["eu"]).durability(Durability::Relaxed);
/// assert_eq!(options.correlation_id, Some("run-7"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct AppendOptions<'a, M = ()> {
    /// The id of the event, if the caller chooses it. If an event is already stored under this id, the append is
    /// acknowledged and stores nothing.
    pub id: Option<EventId>,
    /// The id that events with one cause share.
    pub correlation_id: Option<&'a str>,
    /// Facts about the event: any JSON value.
    pub metadata: Option<&'a M>,
    /// The durability of this call, instead of the configured one.
    pub durability: Option<Durability>,
}

impl AppendOptions<'_> {
    /// Options without optional fields, with the configured durability.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: None,
            correlation_id: None,
            metadata: None,
            durability: None,
        }
    }
}

// A derived implementation would require `M: Clone`.
impl<M> Copy for AppendOptions<'_, M> {}

impl<M> Clone for AppendOptions<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Default for AppendOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, M> AppendOptions<'a, M> {
    /// Stores the event under this id, once. [`EventId::for_key`] makes an id that a program computes again after a
    /// restart. The id decides the event's place in the log. One that is over an hour ahead of the clock is refused, unless it is
    /// at most a second above the newest id of the log, which may be ahead itself.
    #[must_use]
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the correlation id: the id that events with one cause share.
    #[must_use]
    pub fn correlation_id(mut self, id: &'a str) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// Sets the metadata: facts about the event, as any JSON value.
    #[must_use]
    pub fn metadata<N>(self, metadata: &'a N) -> AppendOptions<'a, N> {
        AppendOptions {
            id: self.id,
            correlation_id: self.correlation_id,
            metadata: Some(metadata),
            durability: self.durability,
        }
    }

    /// Sets the durability of this call, instead of the configured one.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    pub(crate) fn annotations(&self) -> Annotations<'a, M> {
        Annotations {
            correlation_id: self.correlation_id,
            metadata: self.metadata,
        }
    }
}
