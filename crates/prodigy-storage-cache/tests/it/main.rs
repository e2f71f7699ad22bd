//! The cache against a clock that only the tests move, and the layer over a backend that tells what it was asked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[cfg(feature = "layer")]
mod cached;
#[cfg(feature = "layer")]
mod fake;
#[cfg(feature = "layer")]
mod forwarding;
mod lru_ttl;
mod shared;
mod single_load;
mod support;
