//! Deletions of jobs, and removals of old events: each happened completely, or not at all.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Result, ensure};
use prodigy_storage_backend::{
    Catalog, Cursor, DocumentStore, ErrorKind, EventId, LogStore, QueueStore, ScanOptions,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Document, DocumentScope, JobAddress};

use crate::history::{Action, Answer, History, Op};
use crate::stage::patience;

/// A possible history of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Possible {
    ops: Vec<Op>,
    deleted: BTreeSet<JobAddress>,
    removed: Vec<(JobAddress, Vec<EventId>)>,
    /// Cursors that are before removed events, so that reading from them is refused as a gap.
    gaps: Vec<(JobAddress, Cursor)>,
}

impl Possible {
    fn delete(&mut self, job: &JobAddress) {
        self.ops.retain(|op| op.action.job() != Some(job));
        self.deleted.insert(job.clone());
    }

    fn remove(&mut self, job: &JobAddress, ids: &[EventId]) {
        let gaps = &mut self.gaps;
        self.ops.retain(|op| match (&op.action, &op.answer) {
            (Action::Append { job: of, .. }, Some((_, Answer::Appended { ids: stored, .. }))) => {
                of != job || !stored.iter().all(|id| ids.contains(id))
            }
            (Action::Scan { job: of }, Some((_, Answer::Scanned { cursor, given })))
                if of == job && !ids.iter().all(|id| given.contains(id)) =>
            {
                gaps.push((job.clone(), cursor.clone()));
                false
            }
            _ => true,
        });
        self.removed.push((job.clone(), ids.to_vec()));
    }

    /// True if an event was removed that is not among the events `given` to a reader.
    pub(super) fn misses(&self, job: &JobAddress, given: &HashSet<EventId>) -> bool {
        let removed = self.removed.iter().filter(|(of, _)| of == job);
        removed.flat_map(|(_, ids)| ids).any(|id| !given.contains(id))
    }

    /// The operations that have an effect, without those on deleted data.
    pub(super) fn history(&self) -> History {
        History::of(self.ops.clone())
    }

    /// Checks that deleted jobs have no data, unless they were written to later.
    pub(super) fn verify(&self, backend: &FileBackend) -> Result<()> {
        let is_gone = |job: &&JobAddress| self.ops.iter().all(|op| op.action.job() != Some(job));
        for job in self.deleted.iter().filter(is_gone) {
            let mut scan = backend.scan(job, &ScanOptions::all(), patience())?;
            ensure!(scan.next()?.is_none(), "an event of {job} is left");
            let items = backend.queue_summary(job, patience())?.items;
            ensure!(items == 0, "{items} items of {job} are left");
            let scope = DocumentScope::Job(job.clone());
            let checkpoints = backend.list(&scope, &Default::default(), patience())?.entries;
            ensure!(checkpoints.is_empty(), "of {job} are left: {checkpoints:?}");
            for document in [Document::Orphans(job.clone()), Document::Finished(job.clone())] {
                ensure!(
                    backend.get(&document, patience())?.is_none(),
                    "{document} is left"
                );
            }
            let jobs = backend.jobs(&job.repo, &Default::default(), patience())?.entries;
            ensure!(!jobs.contains(&job.job), "{job} is listed");
        }
        for (job, cursor) in &self.gaps {
            ensure!(
                is_gap(backend, job, cursor),
                "a cursor that does not cover the removed events of {job} goes on"
            );
        }
        Ok(())
    }
}

/// True if a cursor is refused because of a gap.
pub(super) fn is_gap(backend: &FileBackend, job: &JobAddress, cursor: &Cursor) -> bool {
    let scan = backend.scan(job, &ScanOptions::after(cursor.clone()), patience());
    scan.is_err_and(|error| error.kind() == ErrorKind::CursorGap)
}

/// The possible histories of a store: every acknowledged deletion or removal happened, and every other one may have
/// happened.
pub(super) fn possible(history: &History) -> Vec<Possible> {
    let mut possible = vec![Possible::default()];
    for op in history.ops() {
        match (&op.action, op.answer.as_ref().map(|(_, answer)| answer)) {
            (Action::DeleteJob { .. }, Some(Answer::Refused)) => {}
            (Action::DeleteJob { job }, Some(_)) => {
                possible.iter_mut().for_each(|possible| possible.delete(job));
            }
            (Action::DeleteJob { job }, None) => {
                let mut made = possible.clone();
                made.iter_mut().for_each(|possible| possible.delete(job));
                possible.extend(made);
            }
            (Action::RemoveOld { job, ids, .. }, answer) => {
                let kept = possible.clone();
                possible.iter_mut().for_each(|possible| possible.remove(job, ids));
                if answer.is_none() {
                    possible.extend(kept);
                }
            }
            _ => possible
                .iter_mut()
                .for_each(|possible| possible.ops.push(op.clone())),
        }
    }
    possible
}

/// Checks that a cursor after a deleted event is refused.
pub(super) fn verify(history: &History, backend: &FileBackend) -> Result<()> {
    let mut cursors = Vec::new();
    for op in history.ops() {
        match (&op.action, &op.answer) {
            (Action::Scan { job }, Some((_, Answer::Scanned { cursor, given }))) if !given.is_empty() => {
                cursors.push((job, cursor, false));
            }
            (Action::DeleteJob { job }, Some((_, Answer::Done))) => {
                for cursor in cursors.iter_mut().filter(|(of, ..)| *of == job) {
                    cursor.2 = true;
                }
            }
            _ => {}
        }
    }
    let deleted: HashMap<_, _> = cursors
        .into_iter()
        .filter(|(.., deleted)| *deleted)
        .map(|(job, cursor, _)| ((job, cursor.as_str()), cursor))
        .collect();
    for ((job, _), cursor) in deleted {
        ensure!(
            is_gap(backend, job, cursor),
            "a cursor into the log of {job} that was deleted goes on"
        );
    }
    Ok(())
}
