//! The queue of a job: `dlq/{repo}/{job}/items.json`.
//!
//! A JSON array with an item a line, each closed by its checksum. New items are written over the closing bracket, in
//! one write; everything else rewrites the file (temporary file, rename). All writers hold `items.lock`; readers hold
//! nothing and change nothing.
//!
//! - `scan` separates items from damage, in bounded memory, for files of any writer; it checks lines that are as a push
//!   wrote them in the read buffer, and a rewrite copies them from there;
//! - `buffer` holds the bytes; `large` checks an item that is larger than a reader may hold;
//! - `line` is the form of one item; `owner` decides whether a file is ours;
//! - `state` keeps facts about a queue in this process: where it ends, and hashes of its ids;
//! - `put`, `settle` and `read` are the calls, `rewrite` what most of the writing ones end in;
//! - `survey` is what a doctor sees of a queue, and does to it.

mod buffer;
mod large;
mod leases;
mod line;
mod owner;
mod put;
mod read;
mod rewrite;
mod scan;
mod settle;
mod state;
mod survey;
#[cfg(test)]
mod tests;

pub(crate) use state::Queues;

/// The bytes behind the last item.
const CLOSING: &[u8] = b"\n]\n";
/// The bytes between two items, as this program writes them.
const SEPARATOR: &[u8] = b",\n";
