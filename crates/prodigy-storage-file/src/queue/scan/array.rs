//! The JSON array around the items of a queue.

/// The state of the JSON array around the items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct ArrayState {
    /// The end of the last fragment, or of the opening bracket.
    pub(in crate::queue) end: u64,
    /// Whether the array has anything in it.
    pub(in crate::queue) any: bool,
    /// The first bytes are an opening bracket, and one comma is between two items.
    pub(in crate::queue) plain: bool,
    /// The array is closed behind the last fragment.
    pub(in crate::queue) closed: bool,
    /// The start of an item whose end is missing.
    pub(in crate::queue) tail: Option<u64>,
    pub(super) commas: u32,
    pub(super) brackets: u32,
    pub(super) begun: bool,
    /// A byte-order mark is before everything.
    pub(super) marked: bool,
    /// The last fragment is damage.
    pub(super) damaged: bool,
}

impl ArrayState {
    /// True if the file is an array from its first byte to its last one.
    pub(in crate::queue) fn is_whole(&self) -> bool {
        self.begun && self.plain && self.closed && self.tail.is_none()
    }

    /// True if an array that is ours so far has the end of an item here.
    pub(in crate::queue) fn is_plain_at(&self, offset: u64) -> bool {
        self.plain && self.is_at(offset)
    }

    /// True if this is the end of an item, and only items are before it.
    pub(super) fn is_at(&self, offset: u64) -> bool {
        self.end == offset
            && self.any
            && self.begun
            && !self.damaged
            && self.commas == 0
            && self.brackets == 0
    }
}
