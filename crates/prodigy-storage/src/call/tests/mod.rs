//! Tests of the caller: each rule of [`Caller::call`], the conformance suite, and appends with faults.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod appends;
mod conformance;
mod documents;
mod redrives;
mod rules;
mod scans;
pub(crate) mod through;
mod tracing;
mod unclear;
