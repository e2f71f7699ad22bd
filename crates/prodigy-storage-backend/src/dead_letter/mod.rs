//! The form of a dead letter, and the merge of two dead letters with one key.
//!
//! An item is a JSON object with `item_id` and `item_data`. [`normalise`] checks a pushed item and fills missing
//! fields, [`first`] completes a new item, [`merge`] merges a push into the stored item of its key, [`changed`] applies
//! a [`Change`](crate::Change) to an item's contents, and [`facts`] returns the fields that a [`Select`](crate::Select)
//! compares. All of them are pure functions over JSON text, and keep `item_data` byte for byte. [`DeadLetter`] is the
//! same item as a Rust type.
//!
//! The queue adds the fields that are named in [`RESERVED`]. At the top level of a pushed item such
//! fields are removed, so that lines of a queue's file can be pushed again.
//!
//! ```
//! use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, facts};
//! use prodigy_storage_backend::ItemId;
//!
//! let letter = DeadLetter::new(ItemId::new("src/a.rs")?, "review this file")
//!     .failure(Failure::new("Timeout", "agent 17 gave no answer in 30s"));
//! let item = letter.to_item()?;
//! assert_eq!(
//!     facts(&item.body)?.signature.as_deref(),
//!     Some("Timeout: agent <n> gave no answer in <n>s"),
//! );
//! # Ok::<(), prodigy_storage_backend::StorageError>(())
//! ```

mod facts;
mod failure;
mod fields;
mod letter;
mod life;
mod merge;
mod normalise;
mod signature;
#[cfg(test)]
mod tests;

pub use facts::{Facts, facts, facts_of_line, selects, suits};
pub use fields::RESERVED;
pub use letter::{DeadLetter, Failure, WorktreeArtifacts};
pub(crate) use life::same_id;
pub use life::{changed, edit, fail, park, unpark};
pub use merge::merge;
pub(crate) use normalise::normalise_for;
pub use normalise::{first, normalise};
pub use signature::signature;
