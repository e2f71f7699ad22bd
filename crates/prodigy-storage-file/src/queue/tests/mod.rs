//! Tests of the file backend's queue: one test for each promise.

mod ahead;
mod blanks;
mod crash;
mod damage;
mod faults;
mod foreign;
mod hostile;
mod intake;
mod journal;
mod large;
mod leases;
mod links;
mod missing;
mod passes;
mod pushes;
mod sharing;
pub(super) mod support;
