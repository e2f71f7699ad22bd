//! Works of peers that read a million events.

use std::time::Instant;

use anyhow::Result;

use super::store::Which;
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::row::{Contestant, Role};
use crate::rows::log::{Read, source};

/// The number of events in a batch while a store is filled.
const FILL: usize = 10_000;

/// Works of peers that read all events from a store with the same events as our log.
pub(crate) fn works(lab: &Lab, events: usize) -> Result<Vec<Contestant>> {
    let works = [Which::Sqlite, Which::Redb, Which::Fjall].map(|which| {
        let folder = lab.bench().folder()?;
        let mut peer = which.open(folder.path(), false)?;
        let mut source = source();
        for start in (0..events).step_by(FILL) {
            peer.append_batch(&mut source, start..(start + FILL).min(events))?;
        }
        let name = match which {
            Which::Sqlite => "SQLite + serde_json",
            Which::Redb => "redb + serde_json",
            _ => "fjall + serde_json",
        };
        Ok(Contestant::new(Role::Peer, name, move |_| {
            // Moves the folder into this closure, since it is removed when it is dropped.
            let _ = folder.path();
            let mut read = Read::default();
            let began = Instant::now();
            peer.read(&mut |event| read.add(event))?;
            let took = per_operation(began, events);
            read.must_be(events)?;
            Ok(took)
        }))
    });
    works.into_iter().collect()
}
