//! Tests of the tool as a script uses it: output on each stream, and exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[cfg(target_os = "linux")]
mod advice;
mod agree;
mod ahead;
mod append;
mod audit;
mod backup;
mod browser;
mod cat;
mod checkpoint;
mod clean;
mod colour;
mod command_line;
mod complete;
mod config;
mod copy;
mod dlq;
mod doctor;
mod document;
mod export;
#[cfg(unix)]
mod faults;
mod follow;
mod foreign;
mod health;
mod import;
mod import_names;
mod import_turns;
mod imported;
mod in_process;
mod job;
mod json_output;
mod kinds;
mod large;
mod leftovers;
mod lock;
mod memory;
mod migrate;
#[cfg(feature = "postgres")]
mod moves;
mod names;
mod output;
#[cfg(unix)]
mod pages;
mod places;
#[cfg(unix)]
mod planted;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(unix)]
mod problems;
mod report;
mod search;
mod security;
#[cfg(feature = "postgres")]
#[path = "../../../prodigy-storage-postgres/tests/it/server.rs"]
mod server;
mod several_jobs;
mod status;
mod support;
mod terminal;
mod transcripts;
mod users;
mod widths;
