//! The one path: each rule of [`Caller::call`], the conformance suite through it, and appends over faults.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod appends;
mod conformance;
mod documents;
mod rules;
mod through;
mod tracing;
mod unclear;
