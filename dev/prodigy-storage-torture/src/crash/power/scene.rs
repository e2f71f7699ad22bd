//! Data on a disk that loses its power.

use std::process::Command;

use anyhow::Result;

use super::death::Death;
use super::process::Ended;

/// A process that is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) input: Vec<u8>,
    /// True if its input stays open, so that the process does not end by itself.
    pub(crate) held: bool,
}

/// A kind of writing, with its acknowledged data.
pub(crate) trait Scene {
    /// A process that writes something, by chance.
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch>;

    /// A process that writes something, always the same after the same.
    fn rehearse(&mut self) -> Result<Launch>;

    /// The process of either is dead, and the power was lost. What it acknowledged is noted.
    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()>;

    /// Checks that all acknowledged data is there, and no impossible data. Returns the number of checked things.
    fn check(&self) -> Result<usize>;

    /// An undisturbed process continues from the state that the dead one left.
    fn go_on(&mut self) -> Result<()>;
}
