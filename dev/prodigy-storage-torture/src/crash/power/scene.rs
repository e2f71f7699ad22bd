//! A scene: processes that write one kind of data on a disk whose power is cut, and the checks of that data.

use std::process::Command;

use anyhow::Result;

use super::death::Death;
use super::process::Ended;

/// The command and the input of a process to start.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) input: Vec<u8>,
    /// True if the input stays open after its last line, so that the process does not end by itself.
    pub(crate) held: bool,
}

/// A kind of write, and the data that processes have acknowledged.
pub(crate) trait Scene {
    /// Returns a process that makes a random write.
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch>;

    /// Returns a process that makes the same write in every run, to list its system calls.
    fn rehearse(&mut self) -> Result<Launch>;

    /// Adds the acknowledgements of a process that has died in a power loss.
    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()>;

    /// Checks that all acknowledged data exists, and no other data. Returns the number of checked things.
    fn check(&self) -> Result<usize>;

    /// Continues the work with another process, which is not killed.
    fn continue_work(&mut self) -> Result<()>;
}
