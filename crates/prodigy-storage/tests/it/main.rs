//! Tests of the facade through its public interface.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod checkpoints;
mod clean;
mod dlq;
mod documents;
mod events;
mod fenced;
mod follow;
mod follow_all;
mod full;
mod handle;
mod identity;
mod large;
mod loadable;
mod name_with_data;
mod one_effect;
mod orphans;
mod redrive;
mod registry;
mod replaced;
mod security;
mod support;
mod two_processes;
