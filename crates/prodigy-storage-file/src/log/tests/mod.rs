//! Tests of the log.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod adoption;
mod archive;
#[cfg(feature = "backup")]
mod backups;
mod cursors;
mod damage;
mod durability;
mod faults;
mod given;
mod hostile;
mod large;
mod names;
mod newest;
mod persist;
mod processes;
mod readers;
mod removal;
mod scale;
mod sealed_marks;
mod still;
mod support;
mod tape;
mod times;
mod twins;
mod unlocked;
