//! Reads the audit log, and joins the entries about one removal.

use std::collections::HashMap;

use prodigy_storage_backend::{EventId, Result};
use prodigy_storage_layout::{JobAddress, RepoName, Timestamp};

use super::{Removal, RemovalKind, RemovalOutcome};
use crate::events::{Event, EventReader, Events};

/// The fields that the entries about one removal share, if they name no [entry of its beginning](Removal::begun).
type Key = (
    RemovalKind,
    Option<JobAddress>,
    Option<RepoName>,
    String,
    Timestamp,
);

/// The removals of the [audit log](crate::Storage::audit_log), oldest first: an iterator that joins the entry about the beginning of
/// a removal with the entry about its end.
///
/// A removal that has ended is returned once, with what was removed ([`Removed`](RemovalOutcome::Removed)); one that is not known to
/// have ended as [`Begun`](RemovalOutcome::Begun), with what was to be removed. Data that was kept is returned with the reason.
/// Removals of which nothing was removed, because another process had removed the data, are left out. So the sum over `Removed` is what was
/// removed. An entry that can't be read is returned as its error.
///
/// ```
/// use prodigy_storage::{Removal, RemovalHistory, RemovalKind, RemovalOutcome, Storage, Timestamp};
///
/// let storage = Storage::in_memory()?;
/// let log = storage.audit_log()?;
/// let removal = Removal::new(RemovalKind::Job, "end of the run", Timestamp::now()).size(1, 4096);
/// let begun = log.append(&removal.clone().outcome(RemovalOutcome::Begun))?;
/// let outcomes = || -> Result<Vec<_>, prodigy_storage::StorageError> {
///     RemovalHistory::new(&log)?.map(|entry| Ok(entry?.event.outcome)).collect()
/// };
/// assert_eq!(outcomes()?, [RemovalOutcome::Begun]);
/// log.append(&removal.outcome(RemovalOutcome::Removed).begun(begun))?;
/// assert_eq!(outcomes()?, [RemovalOutcome::Removed]);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
pub struct RemovalHistory {
    entries: EventReader<Removal>,
    /// For each removal that has ended: the last entry that says what it removed.
    ends: HashMap<EventId, EventId>,
    /// The number and the bytes that a removal did not remove whose first entry, of an earlier version, counts them.
    not_made: HashMap<Key, (u64, u64)>,
}

impl RemovalHistory {
    /// Reads an audit log, which is read twice: to find the ends of removals, and to return them.
    ///
    /// # Errors
    /// As [`Events::read`].
    pub fn new(log: &Events) -> Result<Self> {
        let (mut ends, mut not_made) = (HashMap::new(), HashMap::new());
        // A damaged entry is returned by the second reading.
        for entry in log.read::<Removal>()?.flatten() {
            let removal = entry.event;
            match (&removal.outcome, removal.begun) {
                (RemovalOutcome::Removed, Some(begun)) => {
                    ends.insert(begun, entry.id);
                }
                (RemovalOutcome::Gone | RemovalOutcome::Kept { .. }, None) => {
                    not_made.insert(key(&removal), (removal.count, removal.bytes));
                }
                _ => {}
            }
        }
        Ok(Self {
            entries: log.read()?,
            ends,
            not_made,
        })
    }

    /// True if the entry is returned.
    fn joins(&mut self, entry: &mut Event<Removal>) -> bool {
        let removal = &mut entry.event;
        match (&removal.outcome, removal.begun) {
            (RemovalOutcome::Begun, _) => !self.ends.contains_key(&entry.id),
            (RemovalOutcome::Removed, Some(begun)) => {
                removal.count > 0 && self.ends.get(&begun) == Some(&entry.id)
            }
            (RemovalOutcome::Removed, None) | (RemovalOutcome::Kept { .. }, _) => true,
            (RemovalOutcome::Gone, _) => false,
            (RemovalOutcome::Due, _) => {
                let (count, bytes) = self.not_made.remove(&key(removal)).unwrap_or_default();
                removal.count = removal.count.saturating_sub(count);
                removal.bytes = removal.bytes.saturating_sub(bytes);
                removal.outcome = RemovalOutcome::Removed;
                removal.count > 0
            }
        }
    }
}

impl Iterator for RemovalHistory {
    type Item = Result<Event<Removal>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut entry = self.entries.next()?;
            if entry.as_mut().map_or(true, |entry| self.joins(entry)) {
                return Some(entry);
            }
        }
    }
}

fn key(removal: &Removal) -> Key {
    let (job, repo) = (removal.job.clone(), removal.repo.clone());
    (removal.kind, job, repo, removal.rule.clone(), removal.before)
}
