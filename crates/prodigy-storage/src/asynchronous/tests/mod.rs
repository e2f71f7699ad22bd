//! Cancelled futures, dropped handles and panics under load.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod cancelled;
mod record;
mod work;
