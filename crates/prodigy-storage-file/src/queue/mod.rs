//! The queue of a job: `dlq/{repo}/{job}/items.json` and `items.journal`.
//!
//! The items are a JSON array with an item a line, each closed by its checksum. A new item is written over the closing
//! bracket and the blanks behind it, in one write. What happens to a stored item is a record at the end of the journal: one write, whatever the number
//! of items. A compaction replaces both files. All writers hold `items.lock`; readers hold
//! nothing and change nothing.
//!
//! **One counter.** Each new item and each record takes the next number: an item's first one is its birth. A record applies to
//! the item of its birth, unless the item's line says that it is part of it.
//!
//! **Crashes.** A push or a record that was cut short is cut off by the next writer. A compaction gives the new array its
//! name, durably, before the new journal: in between the records of the old one are part of every line that they name, so
//! they say nothing new, and the counter continues.
//!
//! **Readers** open the journal first, then the array, and look again which journal is there: if it is the same, the
//! journal has every change of the items up to the length that the array had. Of an array that a compaction wrote meanwhile, all changes
//! in the older journal are part.
//!
//! - `scan` separates items from damage, in bounded memory, for files of any writer; `buffer` holds the bytes; `large` checks an
//!   item that is larger than a reader may hold; `journal` does the same for the journal;
//! - `owner` decides whether a file is ours; `blanks` keeps room behind the end of both files, so that a sync is short;
//! - `line` and `record` are the forms of an item and of a change, `standing` what both say of leases, delays and places;
//! - `index` is what a process keeps of a queue, `files` its open files, `turn` a writer that holds the lock,
//!   `load` how it catches up, `intake` how an item and a record get into the index, by two threads where the files are long;
//! - `put`, `take`, `settle`, `compact` and `read` are the calls, `view` the array with the journal over it;
//! - `copy` writes a queue as it is now, for a backup;
//! - `survey` is what a doctor sees of a queue, and does to it.

mod blanks;
mod buffer;
mod compact;
#[cfg(feature = "backup")]
mod copy;
mod files;
mod index;
mod intake;
mod journal;
mod large;
mod leases;
mod line;
mod load;
mod owner;
mod put;
mod queues;
mod read;
mod record;
mod scan;
mod settle;
mod standing;
mod survey;
mod take;
#[cfg(test)]
mod tests;
mod turn;
mod view;

use prodigy_storage_backend::Result;
pub(crate) use queues::Queues;
pub(crate) use scan::LOST_WRITE;
pub(crate) use survey::Survey;

/// A check in the critical section of a write, before anything is written: that of a fencing token.
pub(crate) type Gate<'a> = Option<&'a dyn Fn() -> Result<()>>;

/// The bytes behind the last item.
const CLOSING: &[u8] = b"\n]\n";
/// The bytes between two items, as this program writes them.
const SEPARATOR: &[u8] = b",\n";
