//! The JSON array that contains the items of a queue.

/// The state of the JSON array up to the scanner's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct ArrayState {
    /// The offset after the last fragment, or after the opening bracket.
    pub(in crate::queue) end: u64,
    /// True if the array has an element.
    pub(in crate::queue) any: bool,
    /// True if the file begins with an opening bracket, and has exactly one comma between two elements.
    pub(in crate::queue) plain: bool,
    /// True if a closing bracket follows the last fragment.
    pub(in crate::queue) closed: bool,
    /// The offset of an unfinished item at the end of the file.
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
    /// True if the whole file is a valid array.
    pub(in crate::queue) fn is_whole(&self) -> bool {
        self.begun && self.plain && self.closed && self.tail.is_none()
    }

    /// True if our writers never leave such a file: one without an array, or one without a journal in which the array
    /// ends before its first item is complete. The first push writes the file as a whole, so such a file was damaged
    /// later.
    pub(in crate::queue) fn is_bare(&self, has_journal: bool) -> bool {
        !self.any && (!self.begun || !self.closed && !has_journal)
    }

    /// True if an item ends at this offset, and the array is in our form up to there.
    pub(in crate::queue) fn is_plain_at(&self, offset: u64) -> bool {
        self.plain && self.is_at(offset)
    }

    /// True if the last fragment ends at this offset, is an item, and no comma or bracket follows it.
    pub(super) fn is_at(&self, offset: u64) -> bool {
        self.end == offset
            && self.any
            && self.begun
            && !self.damaged
            && self.commas == 0
            && self.brackets == 0
    }
}
