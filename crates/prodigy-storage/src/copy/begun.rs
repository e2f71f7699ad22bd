//! Marks in the target that a copy was begun and has not ended: what it copied so far looks like a whole store.

use std::cell::Cell;
use std::path::Path;

use prodigy_storage_backend::record::checksum;
use prodigy_storage_backend::{Check, ErrorKind, Moved, Result, Severity, StorageError, shell_flags};
use prodigy_storage_layout::{JobAddress, JobId, Part, RepoName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::documents::{DocumentOptions, Documents};
use crate::storage::Storage;

/// The beginning of the names of the marks, which are documents.
const NAME: &str = "copy-";

/// A copy that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The place of the source.
    pub(super) from: String,
    pub(super) repo: Option<RepoName>,
    pub(super) job: Option<JobId>,
    pub(super) keep_source: bool,
    pub(super) since: Timestamp,
    /// True if this copy has stored the mark.
    #[serde(skip)]
    pub(super) is_put: Cell<bool>,
}

impl Begun {
    /// The name of the mark. Each copy of the same data from the same place has the same one.
    fn name(&self) -> String {
        let part = serde_json::json!([self.from, self.repo, self.job]).to_string();
        format!("{NAME}{:08x}", checksum(part.as_bytes()))
    }

    fn part(&self) -> Part {
        match (&self.repo, &self.job) {
            (Some(repo), Some(job)) => Part::Job(JobAddress::new(repo.clone(), job.clone())),
            (Some(repo), None) => Part::Repository(repo.clone()),
            (None, _) => Part::Store,
        }
    }

    /// True if the mark is in the target: an earlier copy has not ended.
    pub(super) fn is_there(&self, target: &Storage) -> Result<bool> {
        match documents(target)?.get_raw(self.name()) {
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(true),
            found => Ok(found?.is_some()),
        }
    }

    /// Stores the mark in the target. A copy does so before its first write there: one that is refused before leaves no mark.
    pub(super) fn put(&self, target: &Storage) -> Result<()> {
        if !self.is_put.get() {
            documents(target)?.put(self.name(), self, DocumentOptions::new())?;
            self.is_put.set(true);
        }
        Ok(())
    }

    /// Removes the mark from the target.
    pub(super) fn remove(&self, target: &Storage) -> Result<()> {
        documents(target)?
            .delete(self.name(), DocumentOptions::new())
            .map(drop)
    }

    fn check(&self, here: Option<&Path>) -> Check {
        let job = self
            .job
            .as_ref()
            .map_or_else(String::new, |job| format!("the job {job} of "));
        let what = match &self.repo {
            Some(repo) => format!("{job}the repository {repo}"),
            None => format!("{job}the store"),
        };
        let found = format!(
            "a copy of {what} {} was begun at {} and has not ended: data may be missing here",
            self.from,
            self.since.to_rfc3339()
        );
        let check = Check::new("copy", Severity::Warning, found).with_hint(format!(
            "make the copy again: it continues. If the data is enough as it is, `{}` takes this mark away",
            Moved::reopening(&self.part())
        ));
        let (Some(here), true) = (here, Path::new(&self.from).is_absolute()) else {
            return check;
        };
        let mut command = format!(
            "prodigy-storage {} copy {}",
            shell_flags([("--base-dir", &self.from)]),
            shell_flags([("--to", here)])
        );
        let repo = self.repo.as_ref().map(|repo| ("--repo", repo.as_str()));
        let job = self.job.as_ref().map(|job| ("--job", job.as_str()));
        if repo.is_some() || job.is_some() {
            command.push(' ');
            command.push_str(&shell_flags(repo.into_iter().chain(job)));
        }
        command.push_str(if self.keep_source {
            " --keep-source"
        } else {
            " --yes"
        });
        check.with_command(command)
    }
}

/// The documents of copies in their target.
pub(super) fn documents(target: &Storage) -> Result<Documents> {
    target.repo(RepoName::PROBE)?.documents(RepoName::PROBE)
}

/// The marks in a store, with their names. A mark that can't be read comes with the error.
fn all(target: &Storage) -> Result<Vec<(String, Result<Begun>)>> {
    let documents = documents(target)?;
    let mut found = Vec::new();
    for info in documents.list() {
        let name = info?.name;
        if name.as_str().starts_with(NAME)
            && let Some(begun) = documents.get::<Begun>(name.as_str()).transpose()
        {
            found.push((name.to_string(), begun.map(|begun| begun.data)));
        }
    }
    Ok(found)
}

/// Removes the marks of copies of a part, or of parts within it. Returns their number. The part of a damaged mark is unknown: it is
/// removed with the marks of the whole store.
pub(crate) fn forget(target: &Storage, part: &Part) -> Result<u64> {
    let mut removed = 0;
    for (name, begun) in all(target)? {
        let is_of = match begun {
            Ok(begun) => part.contains(&begun.part()),
            Err(error) => is_damaged(&error) && *part == Part::Store,
        };
        if is_of {
            documents(target)?.delete(&name, DocumentOptions::new())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_damaged(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::InvalidInput)
}

/// A check for each copy into this store that has not ended.
pub(crate) fn checks(target: &Storage) -> Vec<Check> {
    let here = target.capabilities().root;
    // A store that can't be read has checks that say so.
    let begun = all(target).unwrap_or_default().into_iter();
    begun
        .map(|(_, begun)| match begun {
            Ok(begun) => begun.check(here.as_deref()),
            Err(error) => {
                let found = format!("a copy into this store was begun and has not ended, and its mark can't be read: {error:#}");
                Check::new("copy", Severity::Warning, found).with_hint(format!(
                    "make the copy again: it continues, and takes the mark away. If the data is enough as it is, `{}` takes it away",
                    Moved::reopening(&Part::Store)
                ))
            }
        })
        .collect()
}
