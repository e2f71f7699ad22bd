//! Compares the jobs of two stores.

use std::collections::HashSet;

use prodigy_storage_backend::record::checksum_on;
use prodigy_storage_backend::{ErrorKind, EventId, ItemId, Result, StorageError};
use prodigy_storage_layout::{Document, JobAddress};

use super::job::{documents, letters};
use super::positions::next_record;
use super::{COPY, lines};
use crate::storage::Storage;

fn differs(job: &JobAddress, what: &str) -> StorageError {
    StorageError::new(
        ErrorKind::Conflict,
        COPY,
        job,
        format!("source and target differ: {what}"),
    )
    .with_hint(
        "if it was written to meanwhile, copy again; otherwise delete the job in the target, and copy again",
    )
}

/// Refuses a target that has something of the job that the source lacks: it comes from elsewhere. Returns whether it has an event.
pub(super) fn refuse_others(source: &Storage, target: &Storage, job: &JobAddress) -> Result<bool> {
    let mut theirs = lines(source, job, None)?;
    let mut ours = lines(target, job, None)?;
    let mut is_any = false;
    while let Some(id) = next_record(&mut ours)?.map(|record| record.id) {
        is_any = true;
        loop {
            match next_record(&mut theirs)?.map(|record| record.id) {
                Some(found) if found < id => {}
                Some(found) if found == id => break,
                _ => return Err(differs(job, &format!("only the target has event {id}"))),
            }
        }
    }
    let known: HashSet<Document> = documents(source, job)?.into_iter().collect();
    if let Some(document) = documents(target, job)?
        .iter()
        .find(|document| !known.contains(*document))
    {
        return Err(differs(job, &format!("only the target has {document}")));
    }
    let known: HashSet<ItemId> = letters(source, job)?.into_iter().map(|(_, id)| id).collect();
    if let Some((_, id)) = letters(target, job)?.iter().find(|(_, id)| !known.contains(id)) {
        return Err(differs(job, &format!("only the target has dead letter {id}")));
    }
    Ok(is_any)
}

/// The number of events of a job, and the checksum over their ids and contents, which are the same in both stores.
pub(super) fn events(source: &Storage, target: &Storage, job: &JobAddress) -> Result<(u64, u32)> {
    let (mut theirs, mut ours) = (lines(source, job, None)?, lines(target, job, None)?);
    let (mut count, mut sum) = (0, 0);
    loop {
        let (one, other) = (next_record(&mut theirs)?, next_record(&mut ours)?);
        let (Some(one), Some(other)) = (one, other) else {
            return match one.or(other) {
                None => Ok((count, sum)),
                Some(record) => Err(differs(job, &format!("only one of them has event {}", record.id))),
            };
        };
        if one.id != other.id || one.body() != other.body() {
            return Err(differs(job, &format!("event {}", one.id.min(other.id))));
        }
        count += 1;
        let id: EventId = one.id;
        sum = checksum_on(sum, &id.as_u128().to_be_bytes());
        sum = checksum_on(sum, one.body().unwrap_or_default().as_bytes());
    }
}

/// The dead letters of a job, which have to be the same in both stores. Returns their number.
pub(super) fn same_letters(source: &Storage, target: &Storage, job: &JobAddress) -> Result<u64> {
    let ids = |storage| -> Result<HashSet<ItemId>> {
        Ok(letters(storage, job)?.into_iter().map(|(_, id)| id).collect())
    };
    let theirs = ids(source)?;
    match theirs == ids(target)? {
        true => Ok(theirs.len() as u64),
        false => Err(differs(job, "the dead letters")),
    }
}
