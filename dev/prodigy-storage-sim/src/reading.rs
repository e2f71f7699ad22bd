//! Reads a log from a cursor, for workloads and checks.

use std::collections::HashSet;

use anyhow::{Result, bail};
use prodigy_storage_backend::{Cursor, EventId, LogStore, ScanItem, ScanOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;

use crate::stage::patience;

/// Reads a log to its end, from the beginning or from a cursor. Returns the cursor at the end, and the ids of all
/// events that were returned so far, including those before the first cursor.
///
/// # Errors
/// An error of the backend, damage, or an event that is returned twice.
pub(crate) fn read_on(
    backend: &FileBackend,
    job: &JobAddress,
    before: Option<(Cursor, HashSet<EventId>)>,
) -> Result<(Cursor, HashSet<EventId>)> {
    let (cursor, given) = before.unzip();
    let mut given: HashSet<EventId> = given.unwrap_or_default();
    let options = cursor.map_or_else(ScanOptions::all, ScanOptions::after);
    let mut scan = backend.scan(job, &options, patience())?;
    while let Some(item) = scan.next()? {
        match item {
            ScanItem::Record(record) if given.insert(record.id) => {}
            ScanItem::Record(record) => bail!("{} was given twice", record.id),
            ScanItem::Damage(damage) => bail!("damage: {damage}"),
            ScanItem::TooLarge(record) => bail!("{record}"),
        }
    }
    Ok((scan.cursor(), given))
}
