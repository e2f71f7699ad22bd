//! The JSON array around the items of a queue.

/// The state of the JSON array around the items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct ArrayState {
    /// The end of the last fragment, or of the opening bracket.
    pub(in crate::queue) end: u64,
    /// True if the array has an element.
    pub(in crate::queue) any: bool,
    /// True if the file begins with an opening bracket, and exactly one comma is between two items.
    pub(in crate::queue) plain: bool,
    /// True if the array is closed behind the last fragment.
    pub(in crate::queue) closed: bool,
    /// The start of an item whose end is missing.
    pub(in crate::queue) tail: Option<u64>,
    pub(super) commas: u32,
    pub(super) brackets: u32,
    pub(super) begun: bool,
    /// True if a byte-order mark precedes the array.
    pub(super) marked: bool,
    /// True if the last fragment is damage.
    pub(super) damaged: bool,
}

impl ArrayState {
    /// True if the whole file is an array.
    pub(in crate::queue) fn is_whole(&self) -> bool {
        self.begun && self.plain && self.closed && self.tail.is_none()
    }

    /// True if no writer of ours leaves the file of a queue like this: without an array, or, if it has no journal, with an array
    /// that ends before its first item does. Our first push makes the file as a whole.
    pub(in crate::queue) fn is_bare(&self, has_journal: bool) -> bool {
        !self.any && (!self.begun || !self.closed && !has_journal)
    }

    /// True if an item ends here, and the array is in our form up to here.
    pub(in crate::queue) fn is_plain_at(&self, offset: u64) -> bool {
        self.plain && self.is_at(offset)
    }

    /// True if an item ends here, and only items precede it.
    pub(super) fn is_at(&self, offset: u64) -> bool {
        self.end == offset
            && self.any
            && self.begun
            && !self.damaged
            && self.commas == 0
            && self.brackets == 0
    }
}
