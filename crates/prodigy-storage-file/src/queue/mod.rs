//! The queue of a job: `dlq/{repo}/{job}/items.json` and `items.journal`.
//!
//! The items are a JSON array with one item per line; each line ends in its checksum. A push overwrites the closing
//! bracket and the blanks after it, in one write. A change of stored items appends records to the journal, also in one
//! write, whatever the number of items. A compaction replaces both files. All writers hold `items.lock`. Readers take
//! no lock and write nothing.
//!
//! **One counter.** Each new item and each record takes the next number of the counter. The first number of an item is
//! its birth. A record names the birth of the item that it changes. The record has no effect if the item's line states
//! a change with its number or a greater one, since the line then includes it.
//!
//! **Crashes.** The next writer cuts off a push or a record that was cut short. A compaction first gives the new array
//! its name, durably, and then the new journal. After a crash in between, the new array already includes all changes of
//! the old journal, so these have no effect, and the counter continues.
//!
//! **Reading before the lock.** A process reads a long queue that it does not know before it has the lock. If another
//! process compacts the queue meanwhile, the new array is also read before the lock. Under the lock, it checks that
//! both files are still those that it read, and reads only what was added since.
//!
//! **Readers** open the journal first, then the array, and then check that the journal was not replaced. If it was not,
//! it has every change of the items up to the length that the array had. If a compaction replaced the array meanwhile,
//! that array includes all changes of the older journal.
//!
//! - `scan` separates items from damage, in bounded memory, for files of any writer; `buffer` holds the bytes; `large`
//!   checks an item that is larger than a reader keeps in memory; `journal` reads the journal in the same way;
//! - `owner` decides whether we or another program wrote a file; `blanks` reserves space at the end of both files, so
//!   that a sync is short;
//! - `line` and `record` are the formats of an item and of a change; both contain the fields of `standing`, for leases,
//!   delays and places;
//! - `index` is the index of a queue in a process, `files` its open files, `turn` a writer that holds the lock, `load`
//!   reads new bytes into the index, `intake` adds items and records to it, with a second thread for long files;
//! - `put`, `take`, `settle`, `compact` and `read` are the operations; `view` is the array with the changes of the
//!   journal applied;
//! - `copy` writes the current queue for a backup;
//! - `survey` is the doctor's examination and repair of a queue.

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

pub(crate) use owner::OVERWRITTEN;
use prodigy_storage_backend::Result;
pub(crate) use queues::Queues;
pub(crate) use scan::LOST_WRITE;
pub(crate) use survey::Survey;
pub(crate) use view::NO_ARRAY;

/// A check that a write makes inside its critical section, before it writes anything: that of a fencing token.
pub(crate) type Gate<'a> = Option<&'a dyn Fn() -> Result<()>>;

/// The folder for dead letters in the layout of earlier programs. It is below the state of a repository, or below the
/// folder of a queue.
pub(crate) const EARLIER_QUEUES: &str = "mapreduce/dlq";

/// The bytes that we write after the last item.
const CLOSING: &[u8] = b"\n]\n";
/// The bytes that we write between two items.
const SEPARATOR: &[u8] = b",\n";
