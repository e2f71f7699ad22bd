//! The queue of a job: `dlq/{repo}/{job}/items.json`.
//!
//! A JSON array with an item a line, each closed by its checksum. New items are written over the closing bracket, in
//! one write; everything else rewrites the file (temporary file, rename). All writers hold `items.lock`; readers hold
//! nothing and change nothing.
//!
//! - `scan` tells items from damage, in bounded memory, whoever wrote the file; lines that stand as pushes leave them
//!   are checked where they were read to, and written again from there;
//! - `buffer` is what it looks at; `large` looks at an item that is larger than a reader may hold;
//! - `line` is the form of one item;
//! - `state` keeps facts about a queue in this process: where it ends, and hashes of its ids;
//! - `put`, `settle` and `read` are the calls, `rewrite` what most of the writing ones end in;
//! - `survey` is what a doctor sees of a queue, and does to it.

mod buffer;
mod large;
mod line;
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

/// What stands behind the last item.
const CLOSING: &[u8] = b"\n]\n";
/// What stands between two items, as we write them.
const SEPARATOR: &[u8] = b",\n";
