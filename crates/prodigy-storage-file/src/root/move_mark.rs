//! Marks of what was moved to another store.
//!
//! A mark is a file. Each writer looks for one after it has taken its first lock of a job, or the lock of other documents. The mark of a
//! job is made under all of its locks. That of a repository or of the whole store is made first, and taken back if a job without a
//! mark is found then.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "backup")]
use prodigy_storage_backend::Entries;
use prodigy_storage_backend::{
    Durability, ErrorKind, Moved, Page, PageBuilder, PageOptions, Result, StorageError,
};
#[cfg(feature = "backup")]
use prodigy_storage_layout::JobAddress;
use prodigy_storage_layout::{
    Entry, MOVED, Part, RepoName, Timestamp, all_moved_jobs_folder, moved_jobs_folder,
    moved_repositories_folder,
};
use serde::{Deserialize, Serialize};

use super::{Replace, Root, TempFile};

const LOOK: &str = "look for marks";
const UNMARK: &str = "take marks away";
/// A longer mark is not read.
const LONGEST: u64 = 64 << 10;

/// The contents of a mark.
#[derive(Serialize, Deserialize)]
struct Contents {
    moved_to: String,
    moved_at: Timestamp,
}

/// The contents of the file of a mark.
pub(crate) fn moved_text(operation: &'static str, path: &Path, moved: &Moved) -> Result<Vec<u8>> {
    let contents = Contents {
        moved_to: moved.to.clone(),
        moved_at: moved.at,
    };
    let mut text = serde_json::to_vec(&contents).map_err(|error| {
        StorageError::new(
            ErrorKind::Io,
            operation,
            path.display(),
            "the mark can't be written",
        )
        .with_source(error)
    })?;
    text.push(b'\n');
    Ok(text)
}

/// The mark in such a file.
pub(crate) fn moved_in(part: &Part, text: &[u8]) -> serde_json::Result<Moved> {
    let found: Contents = serde_json::from_slice(text)?;
    Ok(Moved::new(part.clone(), found.moved_to, found.moved_at))
}

impl Root {
    /// Fails if a part, or a whole that contains it, was moved to another store. Called under a lock of the part, before anything
    /// is written.
    pub(crate) fn refuse_moved(&self, operation: &'static str, part: &Part) -> Result<()> {
        if !self.has_marks()? {
            return Ok(());
        }
        for part in part.wholes() {
            if let Some(moved) = self.move_mark(&part)? {
                return Err(moved.refused(operation, &part));
            }
        }
        Ok(())
    }

    /// Nearly every store has no such folder, so a writer looks for one path and not for three.
    fn has_marks(&self) -> Result<bool> {
        match self.fs.metadata(Path::new(MOVED)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.read_fault(LOOK, Path::new(MOVED), error)),
        }
    }

    /// The mark of a part itself.
    pub(crate) fn move_mark(&self, part: &Part) -> Result<Option<Moved>> {
        let path = Entry::Moved(part.clone()).path();
        let Some(bytes) = self.read_small(LOOK, &path, LONGEST)? else {
            return Ok(None);
        };
        match moved_in(part, &bytes) {
            Ok(found) => Ok(Some(found)),
            Err(error) => Err(StorageError::new(
                ErrorKind::Damaged,
                LOOK,
                self.absolute(&path).display(),
                "it does not say where the data was moved to",
            )
            .with_hint("take the mark away with `prodigy-storage copy --reopen` if the data was not moved")
            .with_source(error)),
        }
    }

    /// Stores a mark, unless the part has one.
    pub(crate) fn write_moved(&self, operation: &'static str, moved: &Moved) -> Result<()> {
        let path = Entry::Moved(moved.part.clone()).path();
        let text = moved_text(operation, &path, moved)?;
        match TempFile::write_whole(
            self,
            operation,
            &path,
            &[&text],
            Replace::Never,
            Durability::Strict,
        ) {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            written => written,
        }
    }

    /// Takes the mark of a part itself away. False if it has none.
    pub(crate) fn remove_moved(&self, part: &Part) -> Result<bool> {
        let path = Entry::Moved(part.clone()).path();
        let is_removed = self.unlink(UNMARK, &path)?;
        if is_removed {
            self.sync_folder(path.parent().unwrap_or(Path::new("")))?;
        }
        Ok(is_removed)
    }

    /// Takes away the marks of a part and of all parts within it.
    pub(crate) fn unmark_moved(&self, part: &Part) -> Result<u64> {
        self.prepare_write(UNMARK, part)?;
        let mut removed = 0;
        for found in self.marked(part)? {
            if part.contains(&found) {
                removed += u64::from(self.remove_moved(&found)?);
            }
        }
        Ok(removed)
    }

    /// The marks of a store, or that of one job: its own, or one that covers it, as a mark of the job.
    #[cfg(feature = "backup")]
    pub(crate) fn marks_of(&self, job: Option<&JobAddress>) -> Result<Vec<Moved>> {
        let part = job.map_or(Part::Store, |job| Part::Job(job.clone()));
        let mut marks = Entries::new(|page| self.moved_page(&part, page)).collect::<Result<Vec<_>>>()?;
        if job.is_some() {
            // The narrowest comes last.
            marks = marks
                .pop()
                .into_iter()
                .map(|moved| Moved::new(part.clone(), moved.to, moved.at))
                .collect();
        }
        Ok(marks)
    }

    /// A page of the marks that concern a part.
    pub(crate) fn moved_page(&self, part: &Part, page: &PageOptions<Part>) -> Result<Page<Moved, Part>> {
        if !self.has_marks()? {
            return Ok(Page::new(Vec::new(), None));
        }
        let mut parts = PageBuilder::new(page.clone());
        parts.extend(self.marked(part)?);
        let parts = parts.finish();
        let mut entries = Vec::with_capacity(parts.entries.len());
        for part in &parts.entries {
            // The listing leaves out a mark that was taken away meanwhile.
            entries.extend(self.move_mark(part)?);
        }
        Ok(Page::new(entries, parts.next))
    }

    /// The parts that have a mark: this one, the wholes that contain it, and those within it.
    fn marked(&self, part: &Part) -> Result<Vec<Part>> {
        let mut folders = vec![PathBuf::from(MOVED), moved_repositories_folder()];
        match part.repo() {
            Some(repo) => folders.push(moved_jobs_folder(repo)),
            None => {
                let jobs = all_moved_jobs_folder();
                for name in self.folders_in(LOOK, &jobs)? {
                    folders.extend(RepoName::new(name).ok().map(|repo| moved_jobs_folder(&repo)));
                }
            }
        }
        let mut found = Vec::new();
        for folder in folders {
            for entry in self.names_in(LOOK, &folder)? {
                if let Some(Entry::Moved(of)) = Entry::parse(&folder.join(&entry.name))
                    && (part.contains(&of) || of.contains(part))
                {
                    found.push(of);
                }
            }
        }
        Ok(found)
    }
}
