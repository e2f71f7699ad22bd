//! Tests of the simulated file system, and of the file backend on it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod crash_model;
mod drawn;
mod file_system;
mod newest;
mod persist;
mod regressions;
mod workloads;
