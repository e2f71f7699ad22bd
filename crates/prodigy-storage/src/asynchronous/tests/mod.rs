//! Cancelled futures, dropped handles and panics under load.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod cancelled;
mod record;
#[cfg(feature = "postgres")]
#[path = "../../../../prodigy-storage-postgres/tests/it/server.rs"]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the server of the backend's tests"
)]
mod server;
mod work;
