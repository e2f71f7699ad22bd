//! The committed corpus, replayed; and what hostile input is documented to give, as `docs/assurance/hostile-input.md` tells it.
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
