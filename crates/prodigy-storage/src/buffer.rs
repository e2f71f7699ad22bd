//! The buffer that a document is serialised into.

use std::cell::RefCell;

/// A thread keeps its buffer for the next document up to this number of bytes.
const KEPT: usize = 4 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer: no allocation per document once it has grown.
pub(crate) fn with_buffer<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken out rather than borrowed: serialising a value may itself save one.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        // Fails while the thread ends; the buffer is then dropped.
        let _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
    result
}
