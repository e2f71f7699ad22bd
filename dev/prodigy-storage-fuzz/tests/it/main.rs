//! Replays the committed corpus, and checks the results for hostile input that `docs/assurance/hostile-input.md`
//! states.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bombs;
mod configuration;
mod documents;
mod events;
mod items;
mod replay;
mod store;
mod values;
