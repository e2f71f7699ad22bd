//! The documents of the store, and the conditions of writes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use prodigy_storage_backend::{
    Added, Body, DocumentEntry, ErrorKind, Expected, Fence, FenceMarks, PutOptions, Result, Revision,
    StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase, Stamp, Timestamp};

use crate::budget::{Budget, DOCUMENT_COST};

/// A stored document.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) revision: Revision,
    pub(crate) modified: Timestamp,
}

fn is_marks(document: &Document) -> bool {
    matches!(document, Document::Fencing(_))
}

/// The documents of one job, or all registry entries, by address.
#[derive(Debug, Default)]
pub(crate) struct Documents(BTreeMap<Document, Kept>);

impl Documents {
    /// True if no document except fencing marks (the greatest token of each lock) exists.
    pub(crate) fn are_marks_only(&self) -> bool {
        self.0.keys().all(is_marks)
    }

    /// Removes all documents except fencing marks. Returns the number of bytes that this frees in the budget.
    pub(crate) fn keep_marks_only(&mut self) -> u64 {
        let mut freed = 0;
        self.0.retain(|document, kept| {
            let stays = is_marks(document);
            freed += if stays { 0 } else { cost(document, kept.body.len()) };
            stays
        });
        freed
    }

    /// The time of the last write to a document, except the fencing marks and the mark of a finished job.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        let work = |document: &&Document| !matches!(document, Document::Finished(_) | Document::Fencing(_));
        let entries = self.0.iter().filter(|(document, _)| work(document));
        entries.map(|(_, kept)| kept.modified).max()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Document, &Kept)> {
        self.0.iter()
    }

    pub(crate) fn get(&self, document: &Document) -> Option<StoredDocument> {
        let kept = self.0.get(document)?;
        Some(StoredDocument::new(
            Arc::clone(&kept.body),
            0,
            kept.revision,
            true,
        ))
    }

    pub(crate) fn revision(&self, document: &Document) -> Option<Revision> {
        self.0.get(document).map(|kept| kept.revision)
    }

    /// Adds a document from a snapshot.
    pub(crate) fn restore(&mut self, document: Document, kept: Kept) {
        self.0.insert(document, kept);
    }

    pub(crate) fn put(
        &mut self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        now: Timestamp,
        budget: &Budget,
    ) -> Result<Revision> {
        const PUT: &str = "put document";
        let target = document.path();
        let stands = self.0.get(document);
        FenceMarks::check_target(PUT, document, options.fencing.as_ref())?;
        let marks = self.pass_fence(PUT, document.job(), &target.display(), options.fencing.as_ref())?;
        check_expected(PUT, &target.display(), options.expected, stands)?;
        if let Some(marks) = marks {
            self.keep_marks(marks, now, budget)?;
        }
        let old = self
            .0
            .get(document)
            .map_or(0, |kept| cost(document, kept.body.len()));
        budget.replace(old, cost(document, body.as_bytes().len()), PUT, &target.display())?;
        let revision = Revision::random();
        self.0.insert(
            document.clone(),
            Kept {
                body: Arc::new(body.as_bytes().to_vec()),
                revision,
                modified: now,
            },
        );
        Ok(revision)
    }

    pub(crate) fn add(
        &mut self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        now: Timestamp,
        budget: &Budget,
    ) -> Result<Added> {
        const ADD: &str = "add document";
        let target = format!("{job} {phase}");
        let newest = self.newest_kept(job, phase, None);
        let marks = self.pass_fence(ADD, Some(job), &target, options.fencing.as_ref())?;
        check_expected(ADD, &target, options.expected, newest.map(|(_, kept)| kept))?;
        let stamps = self.series(job).into_iter().filter_map(|of| {
            let (document, _) = self.newest_kept(job, of, None)?;
            // Stamps of other phases count only if this store gave them: those of another program come from its own
            // clock.
            document
                .stamp()
                .filter(|stamp| of == phase || stamp.is_canonical())
        });
        let above = stamps.map(|stamp| stamp.time().next());
        let stamp = above.chain(options.not_before).fold(now, Timestamp::max);
        let document = Document::checkpoint(job, phase, Stamp::from(stamp).with_key(options.key.clone()));
        if let Some(marks) = marks {
            self.keep_marks(marks, now, budget)?;
        }
        let unconditional = PutOptions::new(options.durability);
        let revision = self.put(&document, body, &unconditional, now, budget)?;
        Ok(Added { document, revision })
    }

    /// Refuses a token below the mark of its lock. Returns the new body of the marks if the token raises a mark.
    fn pass_fence(
        &self,
        operation: &'static str,
        job: Option<&JobAddress>,
        target: &dyn std::fmt::Display,
        fence: Option<&Fence>,
    ) -> Result<Option<(Document, Vec<u8>)>> {
        let (Some(job), Some(fence)) = (job, fence) else {
            return Ok(None);
        };
        let document = Document::Fencing(job.clone());
        let unreadable = |error| {
            let why = "it does not hold the fencing marks of a job";
            StorageError::new(ErrorKind::Damaged, operation, format!("{document:?}"), why).with_source(error)
        };
        let mut marks = match self.0.get(&document) {
            Some(kept) => FenceMarks::parse(&kept.body).map_err(unreadable)?,
            None => FenceMarks::default(),
        };
        marks.check(operation, target, fence)?;
        if !marks.raise(fence) {
            return Ok(None);
        }
        let body = serde_json::to_vec(&marks.to_body()).map_err(unreadable)?;
        Ok(Some((document, body)))
    }

    /// Refuses a token below the mark of its lock.
    pub(crate) fn check_mark(
        &self,
        operation: &'static str,
        job: &JobAddress,
        fence: Option<&Fence>,
    ) -> Result<()> {
        self.pass_fence(operation, Some(job), job, fence).map(drop)
    }

    /// Checks the token of a write that is not a document: refuses it if it is below the mark of its lock, or raises
    /// the mark.
    pub(crate) fn raise_mark(
        &mut self,
        operation: &'static str,
        job: &JobAddress,
        fence: Option<&Fence>,
        now: Timestamp,
        budget: &Budget,
    ) -> Result<()> {
        match self.pass_fence(operation, Some(job), job, fence)? {
            Some(marks) => self.keep_marks(marks, now, budget),
            None => Ok(()),
        }
    }

    fn keep_marks(
        &mut self,
        (document, body): (Document, Vec<u8>),
        now: Timestamp,
        budget: &Budget,
    ) -> Result<()> {
        let old = self
            .0
            .get(&document)
            .map_or(0, |kept| cost(&document, kept.body.len()));
        budget.replace(
            old,
            cost(&document, body.len()),
            "raise fencing mark",
            &"fencing marks",
        )?;
        let kept = Kept {
            body: Arc::new(body),
            revision: Revision::random(),
            modified: now,
        };
        self.0.insert(document, kept);
        Ok(())
    }

    pub(crate) fn delete(
        &mut self,
        document: &Document,
        expected: Expected,
        fence: Option<&Fence>,
        now: Timestamp,
        budget: &Budget,
    ) -> Result<bool> {
        const DELETE: &str = "delete document";
        FenceMarks::check_target(DELETE, document, fence)?;
        let stands = self.0.get(document);
        let target = document.path();
        let marks = self.pass_fence(DELETE, document.job(), &target.display(), fence)?;
        check_expected(DELETE, &target.display(), expected, stands)?;
        if let Some(marks) = marks {
            self.keep_marks(marks, now, budget)?;
        }
        match self.0.remove(document) {
            Some(kept) => {
                budget.release(cost(document, kept.body.len()));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    pub(crate) fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
    ) -> Option<DocumentEntry> {
        let (document, kept) = self.newest_kept(job, phase, before)?;
        Some(entry(document, kept))
    }

    /// The phases whose checkpoints have stamps. Caller-defined phases come after the built-in ones.
    fn series(&self, job: &JobAddress) -> Vec<Phase> {
        let end = |phase| Document::checkpoint(job, phase, Stamp::from(Timestamp::MAX));
        let mut found = vec![Phase::Map, Phase::Reduce];
        let mut last = end(Phase::Reduce);
        loop {
            let behind = (Bound::Excluded(&last), Bound::Unbounded);
            let next = self.0.range::<Document, _>(behind).next();
            match next.and_then(|(document, _)| document.phase()) {
                Some(phase) => {
                    last = end(phase);
                    found.push(phase);
                }
                None => return found,
            }
        }
    }

    /// Finds the newest document of a phase, and reads no other document: the documents of a phase are adjacent,
    /// ordered by their stamps, and the phases are in the order of `Document`.
    fn newest_kept(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
    ) -> Option<(&Document, &Kept)> {
        let in_series = |document: &Document| document.phase() == Some(phase) && document.job() == Some(job);
        let found = match before {
            Some(before) if in_series(before) => self.0.range::<Document, _>(..before).next_back(),
            Some(_) => None,
            None => {
                let last = Document::checkpoint(job, phase, Stamp::from(Timestamp::MAX));
                self.0.range(..=last).next_back()
            }
        };
        found.filter(|(document, _)| in_series(document))
    }

    pub(crate) fn list(&self, scope: &DocumentScope, into: &mut Vec<DocumentEntry>) {
        into.extend(
            self.0
                .iter()
                .filter(|(document, _)| scope.contains(document))
                .map(|(document, kept)| entry(document, kept)),
        );
    }
}

fn entry(document: &Document, kept: &Kept) -> DocumentEntry {
    DocumentEntry::new(document.clone(), kept.body.len() as u64, kept.modified)
}

/// The number of bytes that a document counts in the budget.
pub(crate) fn cost(document: &Document, body: usize) -> u64 {
    let job = document.job().map_or(0, |job| job.job.as_str().len());
    let own = match document {
        Document::Own(_, kind, name) => kind.as_str().len() + name.as_str().len(),
        _ => 0,
    };
    (body + job + own + document.repo().as_str().len()) as u64 + DOCUMENT_COST
}

fn check_expected(
    operation: &'static str,
    target: &dyn std::fmt::Display,
    expected: Expected,
    stands: Option<&Kept>,
) -> Result<()> {
    let why = match (expected, stands) {
        (Expected::Any, _) | (Expected::Absent, None) => return Ok(()),
        (Expected::Revision(wanted), Some(kept)) if kept.revision == wanted => return Ok(()),
        (Expected::Absent, Some(kept)) => {
            format!(
                "no document was expected, but there is one with revision {}",
                kept.revision
            )
        }
        (Expected::Revision(wanted), Some(kept)) => {
            format!(
                "revision {wanted} was expected, but the document has {}",
                kept.revision
            )
        }
        (Expected::Revision(wanted), None) => {
            format!("revision {wanted} was expected, but the document is absent")
        }
    };
    Err(StorageError::new(ErrorKind::Conflict, operation, target, why)
        .with_hint("someone else wrote it: read it again and decide"))
}
