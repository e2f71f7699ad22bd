//! The reports of a worker to the program that kills it.
#![allow(dead_code, reason = "each program that includes this file uses a part of it")]

use std::io::Write;

use anyhow::Result;
use prodigy_storage::{Clock, SystemClock};
use serde_json::Value;

/// Prints and flushes a report.
pub(crate) fn tell(what: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// The time since the boot, in nanoseconds.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemClock.uptime().since.as_nanos()).unwrap_or(u64::MAX)
}
