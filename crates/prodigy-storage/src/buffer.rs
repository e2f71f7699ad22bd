//! A buffer per thread, into which documents are serialised.

use std::cell::RefCell;

/// A thread keeps its buffer for the next document if the buffer has at most this number of bytes.
const KEPT: usize = 4 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with the buffer of this thread, so that few documents need an allocation.
pub(crate) fn with_buffer<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // The buffer is taken out of the cell, not borrowed: while a value is serialised, it may save another
    // document.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        // This fails while the thread ends. The buffer is then dropped.
        let _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
    result
}
