//! Tests of the PostgreSQL backend, on a real server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod acknowledge;
mod branch;
mod conformance;
mod direct;
mod disk;
mod docs;
mod failures;
mod first;
mod health;
mod late;
mod listen;
mod lock;
mod lost;
mod plans;
mod release;
mod removal;
mod replica;
mod server;
mod take;
mod tls;
