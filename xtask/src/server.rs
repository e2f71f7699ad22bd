//! A private PostgreSQL server for a chore.

#[path = "../../crates/prodigy-storage-postgres/tests/it/server.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the server of the backend's tests"
)]
mod private;

pub(crate) use private::Server;
