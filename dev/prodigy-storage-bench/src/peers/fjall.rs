//! fjall: a keyspace that maps a number to JSON.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::store::{Peer, parsed, value};
use crate::event::{Event, Source};

/// A handle on the database, which threads can share.
#[derive(Clone)]
pub(crate) struct Fjall {
    database: Database,
    events: Keyspace,
    strict: bool,
    buffer: Vec<u8>,
}

impl Fjall {
    pub(crate) fn open(folder: &Path, strict: bool) -> Result<Self> {
        let database = Database::builder(folder.join("store.fjall")).open()?;
        let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            events,
            strict,
            buffer: Vec::new(),
        })
    }

    /// Stores bytes under a number.
    pub(crate) fn put(&self, n: u64, bytes: &[u8]) -> Result<()> {
        self.events.insert(n.to_be_bytes(), bytes)?;
        if self.strict {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    /// Reads the bytes under the greatest number.
    pub(crate) fn last<R>(&self, read: impl FnOnce(&[u8]) -> Result<R>) -> Result<Option<R>> {
        let last = self.events.last_key_value();
        last.map(|guard| read(&guard.value()?)).transpose()
    }
}

impl Peer for Fjall {
    fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        value(&mut self.buffer, event)?;
        self.put(n as u64, &self.buffer)
    }

    fn append_batch(&mut self, source: &mut Source, numbers: Range<usize>) -> Result<()> {
        let mut batch = self.database.batch();
        if self.strict {
            batch = batch.durability(Some(PersistMode::SyncData));
        }
        for n in numbers {
            value(&mut self.buffer, source.event(n))?;
            batch.insert(&self.events, (n as u64).to_be_bytes(), self.buffer.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&Event)) -> Result<()> {
        for guard in self.events.iter() {
            each(&parsed(&guard.value()?)?);
        }
        Ok(())
    }
}

impl fmt::Debug for Fjall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fjall")
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
