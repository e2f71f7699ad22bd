//! Documents: atomic, checksummed JSON files.
//!
//! A file is an [`envelope`] and is only ever replaced whole. Readers take no lock and change nothing. Every write,
//! one without a condition included, holds one lock file: that of the job's state, or the registry's. So a condition
//! that was found true is still true when the new file gets its name.

mod body;
mod catalog;
mod envelope;
mod fence;
mod listing;
mod newest;
mod read;
mod series;
mod write;

pub(crate) use envelope::is_ours;
pub(crate) use fence::DurableMarks;
pub(crate) use read::DocumentRead;

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
