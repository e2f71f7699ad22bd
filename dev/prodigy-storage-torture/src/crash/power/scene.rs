//! Scenes: work on a disk that loses its power.

use std::process::Command;

use anyhow::Result;

use super::death::Death;
use super::process::Ended;

/// A process to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) input: Vec<u8>,
    /// True if its input stays open, so that the process does not end by itself.
    pub(crate) held: bool,
}

/// A kind of write, with the data that it has acknowledged.
pub(crate) trait Scene {
    /// Returns a process that makes a random write.
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch>;

    /// Returns a process whose write is the same in every run.
    fn rehearse(&mut self) -> Result<Launch>;

    /// Adds the acknowledgements of a process, after its death and the power loss.
    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()>;

    /// Checks that all acknowledged data exists, and no other data. Returns the number of checked things.
    fn check(&self) -> Result<usize>;

    /// Continues with another process, which is not killed.
    fn continue_work(&mut self) -> Result<()>;
}
