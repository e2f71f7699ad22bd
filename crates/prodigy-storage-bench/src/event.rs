//! The event that is appended: about 360 bytes as a record.

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) agent: u32,
    pub(crate) item: String,
    pub(crate) step: u32,
    pub(crate) duration_ms: u64,
    pub(crate) output: String,
}

impl Event {
    /// The n-th event: contents differ.
    pub(crate) fn new(n: usize) -> Self {
        Self {
            kind: "agent_step_completed".into(),
            agent: (n % 16) as u32,
            item: format!("item-{:06}", n * 7919 % 1_000_000),
            step: (n % 9) as u32,
            duration_ms: (n as u64).wrapping_mul(2_654_435_761) % 90_000,
            output: format!(
                "commit {:016x} on branch agent-{}: tests pass, 3 files",
                n.wrapping_mul(0x9e37_79b9),
                n % 16
            ),
        }
    }
}

/// The full line, typed.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) event: Event,
    pub(crate) crc: &'a str,
}
