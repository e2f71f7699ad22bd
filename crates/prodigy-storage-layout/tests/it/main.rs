#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod decision;
mod identity;
mod identity_git;
mod names;
mod paths;
mod strategy;
mod times;
