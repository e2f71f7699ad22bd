//! Notes in the target what copies stored there. So a later copy knows what it may take away, because the source has it no more.

use std::collections::BTreeMap;

use prodigy_storage_backend::Result;
use prodigy_storage_backend::record::checksum;
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobId, RepoName, Timestamp};
use serde::{Deserialize, Serialize};

use super::begun::documents;
use super::job::{delete_document, get, put};
use crate::documents::DocumentOptions;
use crate::listing::Listing;
use crate::storage::Storage;

/// The documents and jobs of one repository that copies from one place stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copied {
    from: String,
    repo: RepoName,
    /// The checksum of each document that a copy stored. There are two while it replaces the document.
    documents: BTreeMap<String, Vec<u32>>,
    /// The time of the last write to each job in the target, at the end of its copy.
    jobs: BTreeMap<JobId, Timestamp>,
    #[serde(skip)]
    is_changed: bool,
}

impl Copied {
    fn name(from: &str, repo: &RepoName) -> String {
        let what = serde_json::json!([from, repo]).to_string();
        format!("stored-{:08x}", checksum(what.as_bytes()))
    }

    /// Reads the note. A note that can't be read is as none: nothing is taken away then.
    pub(super) fn read(target: &Storage, from: &str, repo: &RepoName) -> Result<Self> {
        let found = documents(target)?.get::<Self>(Self::name(from, repo).as_str());
        let found = found.ok().flatten().map(|found| found.data);
        let same = found.filter(|found| found.from == from && found.repo == *repo);
        Ok(same.unwrap_or_else(|| Self {
            from: from.to_owned(),
            repo: repo.clone(),
            documents: BTreeMap::new(),
            jobs: BTreeMap::new(),
            is_changed: false,
        }))
    }

    /// Stores the note in the target, if it was changed.
    pub(super) fn store(&mut self, target: &Storage) -> Result<()> {
        if std::mem::take(&mut self.is_changed) {
            let name = Self::name(&self.from, &self.repo);
            documents(target)?.put(&name, &*self, DocumentOptions::new())?;
        }
        Ok(())
    }

    /// True if no copy has stored anything.
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.jobs.is_empty()
    }

    /// True if nobody has written to a job in the target since a copy stored it.
    pub(super) fn is_untouched(&self, job: &JobId, last_write: Option<Timestamp>) -> bool {
        last_write.is_some() && self.jobs.get(job).copied() == last_write
    }

    pub(super) fn add_job(&mut self, job: &JobId, last_write: Option<Timestamp>) {
        if let Some(last_write) = last_write {
            self.is_changed |= self.jobs.insert(job.clone(), last_write) != Some(last_write);
        }
    }

    fn stored(&self, document: &Document, sum: u32) -> bool {
        let sums = self.documents.get(&document.to_string());
        sums.is_some_and(|sums| sums.contains(&sum))
    }

    /// Copies the documents that belong to the repository and not to a job. Takes away those that an earlier copy stored, that the source
    /// has no more, and that nobody has changed in the target. Returns the number of the documents.
    pub(super) fn copy_documents(&mut self, source: &Storage, target: &Storage) -> Result<u64> {
        let all = own(source, &self.repo)?;
        // The note comes first: a copy that is killed has noted all that it stored.
        for document in &all {
            if let Some(theirs) = get(source, document)? {
                let (sum, ours) = (checksum(theirs.body()), get(target, document)?);
                let ours = ours.map(|ours| checksum(ours.body()));
                if ours != Some(sum) && ours.is_none_or(|ours| self.stored(document, ours)) {
                    self.documents
                        .insert(document.to_string(), ours.into_iter().chain([sum]).collect());
                    self.is_changed = true;
                }
            }
        }
        self.store(target)?;
        let mut copied = 0;
        for document in &all {
            let Some(theirs) = get(source, document)? else {
                continue;
            };
            let ours = get(target, document)?;
            if ours.is_none_or(|ours| ours.body() != theirs.body()) {
                put(target, document, theirs.body())?;
            }
            let sum = checksum(theirs.body());
            if let Some(sums) = self.documents.get_mut(&document.to_string())
                && *sums != [sum]
            {
                *sums = vec![sum];
                self.is_changed = true;
            }
            copied += 1;
        }
        if !self.documents.is_empty() {
            for document in own(target, &self.repo)? {
                if let Some(ours) = get(target, &document)?
                    && self.stored(&document, checksum(ours.body()))
                    && get(source, &document)?.is_none()
                {
                    delete_document(target, &document)?;
                    self.documents.remove(&document.to_string());
                    self.is_changed = true;
                }
            }
        }
        self.store(target)?;
        Ok(copied)
    }
}

/// The documents that belong to a repository and not to a job, and the place of its registry entry.
fn own(storage: &Storage, repo: &RepoName) -> Result<Vec<Document>> {
    let scope = DocumentScope::Own(DocumentOwner::Repo(repo.clone()), None);
    let own = Listing::documents(storage.inner(), scope).map(|entry| entry.map(|entry| entry.document));
    own.chain([Ok(Document::Repository(repo.clone()))]).collect()
}
