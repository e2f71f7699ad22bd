//! The runner against a clock that only the tests move, and the layers over a backend that fails when told to.
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
mod fake;
#[cfg(feature = "layer")]
mod forwarding;
#[cfg(feature = "layer")]
mod limited;
#[cfg(feature = "layer")]
mod retrying;
mod runner;
mod support;
#[cfg(feature = "layer")]
mod told;
