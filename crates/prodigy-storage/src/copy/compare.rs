//! Compares the jobs of two stores.

use std::collections::{HashMap, HashSet};

use prodigy_storage_backend::record::checksum_on;
use prodigy_storage_backend::{
    Cursor, ErrorKind, EventId, ItemId, Record, Result, StorageError, StoredDocument, shell_flags,
    shell_operands,
};
use prodigy_storage_layout::{Document, JobAddress};

use super::job::{documents, get, letters};
use super::positions::{are_equal, cursor_in, next_record, with_cursor};
use super::{COPY, lines};
use crate::storage::Storage;

fn differs(target: &Storage, job: &JobAddress, what: &str) -> StorageError {
    StorageError::new(
        ErrorKind::Conflict,
        COPY,
        job,
        format!("source and target differ: {what}"),
    )
    .with_hint(format!(
        "if it was written to meanwhile, copy again; otherwise, also if something of it was removed in the source since an earlier copy, {}",
        way_out(target, job)
    ))
}

/// The way out if a copy can't be continued. What only the target has is kept in a file.
pub(super) fn way_out(target: &Storage, job: &JobAddress) -> String {
    let flags = shell_flags([("--repo", job.repo.as_str())]);
    let name = shell_operands([job.job.as_str()]);
    let of_job = shell_flags([("--repo", job.repo.as_str()), ("--job", job.job.as_str())]);
    let (base, place) = match target.capabilities().root {
        Some(root) => (format!(" {}", shell_flags([("--base-dir", root)])), ""),
        None => (String::new(), " there"),
    };
    format!(
        "keep what the target has of the job by `prodigy-storage{base} export {of_job} FILE`{place}, delete it by \
         `prodigy-storage{base} job delete {name} {flags} --yes`{place}, and copy again; `import FILE` adds what only the file has"
    )
}

/// Fails if the target has an event of the job that the source lacks: the target's job is then not a copy of what the source has. Returns
/// true if the target has an event of the job.
pub(super) fn refuse_other_events(source: &Storage, target: &Storage, job: &JobAddress) -> Result<bool> {
    let mut theirs = lines(source, job, None)?;
    let mut ours = lines(target, job, None)?;
    let mut is_any = false;
    while let Some(id) = next_record(&mut ours)?.map(|record| record.id) {
        is_any = true;
        loop {
            match next_record(&mut theirs)?.map(|record| record.id) {
                Some(found) if found < id => {}
                Some(found) if found == id => break,
                _ => return Err(differs(target, job, &format!("only the target has event {id}"))),
            }
        }
    }
    Ok(is_any)
}

/// Fails if the target has a document or a dead letter of the job that the source lacks.
pub(super) fn refuse_others(source: &Storage, target: &Storage, job: &JobAddress) -> Result<()> {
    let known: HashSet<Document> = documents(source, job)?.into_iter().collect();
    if let Some(document) = documents(target, job)?
        .iter()
        .find(|document| !known.contains(*document))
    {
        return Err(differs(target, job, &format!("only the target has {document}")));
    }
    let known = sums(source, job)?;
    if let Some(letter) = letters(target, job)?
        .iter()
        .find(|letter| !known.contains_key(&letter.id))
    {
        let what = format!("only the target has dead letter {}", letter.id);
        return Err(differs(target, job, &what));
    }
    Ok(())
}

/// The numbers of a job's events, documents and dead letters, which are the same in both stores.
#[derive(Debug, Default)]
pub(super) struct Same {
    pub(super) events: u64,
    /// The checksum of the ids and contents of all events.
    pub(super) checksum: u32,
    pub(super) documents: u64,
    pub(super) letters: u64,
}

/// Compares everything that the two stores have of a job; fails at the first difference. With `copied`, both may have more events than
/// that number, which was copied: each store appends to its own audit log.
pub(super) fn job(source: &Storage, target: &Storage, job: &JobAddress, copied: Option<u64>) -> Result<Same> {
    let mut same = Same::default();
    match copied {
        None => events(source, target, job, &mut same)?,
        Some(copied) => common_events(source, target, job, copied, &mut same)?,
    }
    same.documents = same_documents(source, target, job)?;
    same.letters = same_letters(source, target, job)?;
    Ok(same)
}

impl Same {
    fn add(&mut self, event: &Record<'_>) {
        self.events += 1;
        self.checksum = checksum_on(self.checksum, &event.id.as_u128().to_be_bytes());
        self.checksum = checksum_on(self.checksum, event.body().unwrap_or_default().as_bytes());
    }
}

fn events(source: &Storage, target: &Storage, job: &JobAddress, same: &mut Same) -> Result<()> {
    let (mut theirs, mut ours) = (lines(source, job, None)?, lines(target, job, None)?);
    let only_one = |id: EventId| Err(differs(target, job, &format!("only one of them has event {id}")));
    loop {
        let (one, other) = match (next_record(&mut theirs)?, next_record(&mut ours)?) {
            (None, None) => return Ok(()),
            (Some(one), None) => return only_one(one.id),
            (None, Some(other)) => return only_one(other.id),
            (Some(one), Some(other)) => (one, other),
        };
        if one.id != other.id || one.body() != other.body() {
            return Err(differs(target, job, &format!("event {}", one.id.min(other.id))));
        }
        same.add(&other);
    }
}

/// Compares the events that both stores have, which are `copied` ones.
fn common_events(
    source: &Storage,
    target: &Storage,
    job: &JobAddress,
    copied: u64,
    same: &mut Same,
) -> Result<()> {
    let (mut theirs, mut ours) = (lines(source, job, None)?, lines(target, job, None)?);
    let mut held: Option<(EventId, Option<String>)> = None;
    'all: while let Some(other) = next_record(&mut ours)? {
        while held.as_ref().is_none_or(|(id, _)| *id < other.id) {
            let Some(one) = next_record(&mut theirs)? else {
                break 'all;
            };
            held = Some((one.id, one.body().map(str::to_owned)));
        }
        if let Some((id, body)) = &held
            && *id == other.id
        {
            if body.as_deref() != other.body() {
                return Err(differs(target, job, &format!("event {id}")));
            }
            same.add(&other);
        }
    }
    if copied != same.events {
        let what = format!(
            "{copied} events were copied, and the target has {} of them",
            same.events
        );
        return Err(differs(target, job, &what));
    }
    Ok(())
}

/// Compares the checkpoints and documents of a job. Only the cursors of checkpoints may differ, and the same events
/// have to be behind them. Returns the number of documents.
fn same_documents(source: &Storage, target: &Storage, job: &JobAddress) -> Result<u64> {
    let all: HashSet<Document> = documents(source, job)?
        .into_iter()
        .chain(documents(target, job)?)
        .chain([Document::Orphans(job.clone())])
        .collect();
    let (mut count, mut compared) = (0, HashMap::new());
    for document in &all {
        let is_same = match (get(source, document)?, get(target, document)?) {
            (None, None) => continue,
            (Some(theirs), Some(ours)) => {
                theirs.body() == ours.body()
                    || match moved_cursors(document, &theirs, &ours) {
                        None => false,
                        Some((old, new)) => {
                            let pair = (old.as_str().to_owned(), new.as_str().to_owned());
                            match compared.get(&pair) {
                                Some(is_same) => *is_same,
                                None => {
                                    let is_same = are_equal(job, (source, &old), (target, &new))?;
                                    compared.insert(pair, is_same);
                                    is_same
                                }
                            }
                        }
                    }
            }
            _ => false,
        };
        if !is_same {
            return Err(differs(target, job, &document.to_string()));
        }
        count += 1;
    }
    Ok(count)
}

/// The cursors of a checkpoint and of its copy, if nothing else differs.
fn moved_cursors(
    document: &Document,
    theirs: &StoredDocument,
    ours: &StoredDocument,
) -> Option<(Cursor, Cursor)> {
    let (old, new) = (cursor_in(theirs.body())?, cursor_in(ours.body())?);
    let is_moved = with_cursor(theirs, document, &new).is_ok_and(|body| body == ours.body());
    is_moved.then_some((old, new))
}

/// The checksum of the contents of each dead letter, by its key.
fn sums(storage: &Storage, job: &JobAddress) -> Result<HashMap<ItemId, u32>> {
    let letters = letters(storage, job)?.into_iter();
    Ok(letters.map(|letter| (letter.id, letter.checksum)).collect())
}

/// Compares the dead letters of a job. Returns their number.
fn same_letters(source: &Storage, target: &Storage, job: &JobAddress) -> Result<u64> {
    let (theirs, ours) = (sums(source, job)?, sums(target, job)?);
    let all = theirs.keys().chain(ours.keys());
    match all.into_iter().find(|id| theirs.get(*id) != ours.get(*id)) {
        None => Ok(theirs.len() as u64),
        Some(id) => Err(differs(target, job, &format!("dead letter {id}"))),
    }
}
