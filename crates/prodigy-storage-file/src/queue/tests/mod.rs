//! The promises of the queue of the file backend, sentence by sentence.

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
mod passes;
mod pushes;
mod sharing;
pub(super) mod support;
