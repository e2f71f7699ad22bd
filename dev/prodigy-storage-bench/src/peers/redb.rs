//! redb: a table that maps a number to JSON.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use redb::{
    Builder, ConcurrencyMode, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::store::{Peer, parsed, value};
use crate::event::{Event, Source};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// A handle on the database, which threads can share.
#[derive(Clone, Debug)]
pub(crate) struct Redb {
    database: Arc<Database>,
    strict: bool,
    buffer: Vec<u8>,
}

impl Redb {
    pub(crate) fn open(folder: &Path, strict: bool) -> Result<Self> {
        Self::with(&Builder::new(), folder, strict)
    }

    /// Opens the database for several processes at once.
    pub(crate) fn open_shared(folder: &Path, strict: bool) -> Result<Self> {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
        Self::with(&builder, folder, strict)
    }

    fn with(builder: &Builder, folder: &Path, strict: bool) -> Result<Self> {
        let database = builder.create(folder.join("store.redb"))?;
        Ok(Self {
            database: Arc::new(database),
            strict,
            buffer: Vec::new(),
        })
    }

    fn begin(&self) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if self.strict {
            Durability::Immediate
        } else {
            Durability::None
        })?;
        Ok(transaction)
    }

    /// Stores bytes under a number.
    pub(crate) fn put(&self, n: u64, bytes: &[u8]) -> Result<()> {
        let transaction = self.begin()?;
        transaction.open_table(EVENTS)?.insert(n, bytes)?;
        Ok(transaction.commit()?)
    }

    /// Reads the bytes under the greatest number.
    pub(crate) fn last<R>(&self, read: impl FnOnce(&[u8]) -> Result<R>) -> Result<Option<R>> {
        let table = self.database.begin_read()?.open_table(EVENTS)?;
        let last = table.last()?;
        last.map(|(_, value)| read(value.value())).transpose()
    }
}

impl Peer for Redb {
    fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        value(&mut buffer, event)?;
        self.put(n as u64, &buffer)?;
        self.buffer = buffer;
        Ok(())
    }

    fn append_batch(&mut self, source: &mut Source, numbers: Range<usize>) -> Result<()> {
        let transaction = self.begin()?;
        {
            let mut table = transaction.open_table(EVENTS)?;
            for n in numbers {
                value(&mut self.buffer, source.event(n))?;
                table.insert(n as u64, self.buffer.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&Event)) -> Result<()> {
        let table = self.database.begin_read()?.open_table(EVENTS)?;
        for entry in table.iter()? {
            each(&parsed(entry?.1.value())?);
        }
        Ok(())
    }
}
