//! Tests of the file backend through its public interface.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[cfg(feature = "backup")]
mod backup;
mod conformance;
mod deletion;
#[cfg(feature = "compression")]
mod flips;
mod foreign;
mod format;
#[cfg(feature = "compression")]
mod frozen;
mod letters;
mod moved;
mod replaced;
mod security;
mod survey;
mod tokens;
mod waiting;
