//! Marks that state that a job, a repository or the whole store was moved to another store.
//!
//! A mark is a file. Each writer looks for one after it has taken its first lock of a job, or the lock for documents
//! outside of jobs. The mark of a job is written under all of the job's locks. The mark of a repository or of the whole
//! store is written first, and removed again if a job in it is then found to have no mark.

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
/// The largest length of a mark, in bytes. A longer one can't be read.
const LONGEST: u64 = 64 << 10;

/// The contents of a mark.
#[derive(Serialize, Deserialize)]
struct Contents {
    moved_to: String,
    moved_at: Timestamp,
}

/// The text of a mark's file.
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

/// Parses the text of a mark's file.
pub(crate) fn moved_in(part: &Part, text: &[u8]) -> serde_json::Result<Moved> {
    let found: Contents = serde_json::from_slice(text)?;
    Ok(Moved::new(part.clone(), found.moved_to, found.moved_at))
}

impl Root {
    /// Fails if a part of the store (such as a job), or a larger part that contains it, was moved to another store. To
    /// be called under a lock of the part, before the first write.
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

    /// True if the folder for marks exists. It rarely does, so this saves the search for three files.
    fn has_marks(&self) -> Result<bool> {
        match self.fs.metadata(Path::new(MOVED)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.read_fault(LOOK, Path::new(MOVED), error)),
        }
    }

    /// The mark of exactly this part; `None` if it has none.
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
            .with_hint(format!(
                "take the mark away with `{}` if the data was not moved",
                Moved::reopening(part)
            ))
            .with_source(error)),
        }
    }

    /// Writes a mark, unless the part already has one.
    pub(crate) fn write_moved(&self, operation: &'static str, moved: &Moved) -> Result<()> {
        let path = Entry::Moved(moved.part.clone()).path();
        let text = moved_text(operation, &path, moved)?;
        TempFile::sweep_all(self, path.parent().unwrap_or(Path::new("")));
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

    /// Removes the mark of exactly this part. Returns false if it has none.
    pub(crate) fn remove_moved(&self, part: &Part) -> Result<bool> {
        let path = Entry::Moved(part.clone()).path();
        let is_removed = self.unlink(UNMARK, &path)?;
        if is_removed {
            self.sync_folder(path.parent().unwrap_or(Path::new("")))?;
        }
        Ok(is_removed)
    }

    /// Removes the marks of a part and of all parts within it. Returns their number.
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

    /// All marks of a store; or for one job, its mark or that of the smallest part that contains it, as a mark of the
    /// job.
    #[cfg(feature = "backup")]
    pub(crate) fn marks_of(&self, job: Option<&JobAddress>) -> Result<Vec<Moved>> {
        let part = job.map_or(Part::Store, |job| Part::Job(job.clone()));
        let mut marks = Entries::new(|page| self.moved_page(&part, page)).collect::<Result<Vec<_>>>()?;
        if job.is_some() {
            // The mark of the smallest part comes last.
            marks = marks
                .pop()
                .into_iter()
                .map(|moved| Moved::new(part.clone(), moved.to, moved.at))
                .collect();
        }
        Ok(marks)
    }

    /// A page of the marks of a part, of the parts that contain it, and of the parts within it.
    pub(crate) fn moved_page(&self, part: &Part, page: &PageOptions<Part>) -> Result<Page<Moved, Part>> {
        if !self.has_marks()? {
            return Ok(Page::new(Vec::new(), None));
        }
        let mut parts = PageBuilder::new(page.clone());
        parts.extend(self.marked(part)?);
        let parts = parts.finish();
        let mut entries = Vec::with_capacity(parts.entries.len());
        for part in &parts.entries {
            // A mark that was removed after its name was read is left out.
            entries.extend(self.move_mark(part)?);
        }
        Ok(Page::new(entries, parts.next))
    }

    /// Among a part, the parts that contain it and the parts within it: those that have a mark.
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
