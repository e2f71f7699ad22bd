//! Tests of the configuration through its public interface.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod corpus;
mod environment;
mod fixture;
mod foreign;
mod robust;
mod round_trip;
mod sources;
