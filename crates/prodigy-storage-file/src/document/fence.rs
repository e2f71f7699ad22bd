//! The fencing marks of a job: the greatest token of each lock under which the job was written to. They are a document
//! of their own, which stays when checkpoints are deleted.
//!
//! Marks are raised under the job's state lock. A raised mark is durable before the write under its token begins, even if
//! that write is relaxed. So after any crash, the mark is at least the greatest token among the stored documents.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use parking_lot::Mutex;
use prodigy_storage_backend::{
    Body, Deadline, Durability, Entries, ErrorKind, Fence, FenceMarks, Result, Revision, StorageError,
};
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobAddress, LockName};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Documents;
use super::read::DocumentRead;
use crate::root::Replace;

const MARKS: &str = "read fencing marks";
/// The number of bytes that are read at first to find a document's token. The fields of a checkpoint before its state
/// fit in them, unless the cursor is very long.
const HEAD: usize = 4096;

/// The revision of each job's marks that this process knows to be durable.
#[derive(Debug, Default)]
pub(super) struct DurableMarks(Mutex<HashMap<JobAddress, Revision>>);

impl Documents {
    /// Checks the token of a write that is not a document, such as an append. Refuses a token below the mark of its
    /// lock, and otherwise makes sure that the durable mark is at least the token. Takes the job's state lock only to
    /// raise the mark.
    pub(crate) fn pass_mark(
        &self,
        operation: &'static str,
        job: &JobAddress,
        fence: &Fence,
        deadline: Deadline,
    ) -> Result<()> {
        if self.check_mark(operation, job, fence)? {
            return Ok(());
        }
        self.root.prepare_write(operation, job)?;
        let path = marks_path(job);
        let _lock = self.lock_documents(&Document::Fencing(job.clone()), operation, deadline)?;
        self.pass_fence(operation, job, fence, &path, deadline)
    }

    /// Refuses a token below the mark of its lock. Returns true if the mark equals the token and is known to be durable.
    pub(crate) fn check_mark(
        &self,
        operation: &'static str,
        job: &JobAddress,
        fence: &Fence,
    ) -> Result<bool> {
        let path = marks_path(job);
        match self.look(operation, &path)? {
            DocumentRead::Valid(found) => {
                let mut marks = self.parse_marks(&path, found.body())?;
                marks.check(operation, job, fence)?;
                Ok(!marks.raise(fence) && self.is_durable(job, found.revision()))
            }
            DocumentRead::Absent => Ok(false),
            DocumentRead::Foreign(error) | DocumentRead::Damaged(error, _) => Err(unreadable(error)),
        }
    }

    /// Refuses a token below the mark of its lock, and otherwise raises the mark. The caller holds the job's state lock.
    pub(crate) fn pass_fence(
        &self,
        operation: &'static str,
        job: &JobAddress,
        fence: &Fence,
        target: &Path,
        deadline: Deadline,
    ) -> Result<()> {
        let path = marks_path(job);
        let (mut marks, revision) = match self.look(operation, &path)? {
            DocumentRead::Valid(found) => (self.parse_marks(&path, found.body())?, Some(found.revision())),
            DocumentRead::Absent => (self.marks_in_documents(job, deadline)?, None),
            DocumentRead::Foreign(error) | DocumentRead::Damaged(error, _) => {
                return Err(unreadable(error));
            }
        };
        marks.check(operation, self.root.absolute(target).display(), fence)?;
        if marks.raise(fence) || revision.is_none() {
            return self.write_marks(job, &marks);
        }
        // Another process may have written the marks and died before its sync.
        if !revision.is_some_and(|revision| self.is_durable(job, revision)) {
            self.root.sync_folder(path.parent().unwrap_or(Path::new("")))?;
            self.know_durable(job, revision);
        }
        Ok(())
    }

    /// Creates the marks of a job if an earlier version stored tokens only in documents. Called before a document with
    /// a token is replaced or removed. The caller holds the job's state lock.
    pub(super) fn keep_token(&self, document: &Document, deadline: Deadline) -> Result<()> {
        let Some(job) = document.job() else {
            return Ok(());
        };
        let has_marks = self.root.fs.metadata(&marks_path(job)).is_ok();
        if !has_marks && self.fence_in(document)?.is_some() {
            let marks = self.marks_in_documents(job, deadline)?;
            self.write_marks(job, &marks)?;
        }
        Ok(())
    }

    /// Creates the marks of a job from the tokens of all its documents, before the job is removed. The caller holds the
    /// job's state lock.
    pub(crate) fn keep_tokens(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        if self.root.fs.metadata(&marks_path(job)).is_err() {
            let marks = self.marks_in_documents(job, deadline)?;
            if marks != FenceMarks::default() {
                self.write_marks(job, &marks)?;
            }
        }
        Ok(())
    }

    /// Replaces damaged marks. The new marks are the greatest tokens in `marks` and in the job's documents. The caller
    /// holds the job's state lock.
    pub(crate) fn restore_marks(
        &self,
        job: &JobAddress,
        mut marks: FenceMarks,
        deadline: Deadline,
    ) -> Result<()> {
        marks.include(self.marks_in_documents(job, deadline)?);
        self.write_marks(job, &marks)
    }

    /// Raises the marks of a job to at least the given ones. The caller holds the job's state lock.
    #[cfg(feature = "backup")]
    pub(crate) fn include_marks(&self, job: &JobAddress, marks: &FenceMarks) -> Result<()> {
        let path = marks_path(job);
        let mut all = match self.look(MARKS, &path)? {
            DocumentRead::Valid(found) => self.parse_marks(&path, found.body())?,
            DocumentRead::Absent => FenceMarks::default(),
            DocumentRead::Foreign(error) | DocumentRead::Damaged(error, _) => return Err(unreadable(error)),
        };
        all.include(marks.clone());
        self.write_marks(job, &all)
    }

    /// Parses the marks in a document of another root or archive.
    #[cfg(feature = "backup")]
    pub(crate) fn marks_in(&self, job: &JobAddress, document: Vec<u8>) -> Result<FenceMarks> {
        let path = marks_path(job);
        match super::envelope::decode(document, false) {
            Ok(document) => self.parse_marks(&path, document.body()),
            Err(_) => self.parse_marks(&path, b""),
        }
    }

    fn parse_marks(&self, path: &Path, body: &[u8]) -> Result<FenceMarks> {
        FenceMarks::parse(body).map_err(|error| {
            StorageError::new(
                ErrorKind::Damaged,
                MARKS,
                self.root.absolute(path).display(),
                "it does not hold the fencing marks of a job",
            )
            .with_hint("restore the file, or move it away: marks are then taken from the job's checkpoints")
            .with_source(error)
        })
    }

    fn write_marks(&self, job: &JobAddress, marks: &FenceMarks) -> Result<()> {
        const RAISE: &str = "raise fencing mark";
        let path = marks_path(job);
        let mut buffer = Vec::new();
        let body = Body::write(&mut buffer, &marks.to_body())
            .map_err(|fault| fault.refused(RAISE, path.display()))?;
        match self.write_document(RAISE, &path, body, Replace::Over, Durability::Strict) {
            Ok(revision) => {
                self.know_durable(job, Some(revision));
                Ok(())
            }
            // The mark may or may not be stored, but the document has certainly not been written, so the error says
            // that it failed.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Err(StorageError::new(
                ErrorKind::Io,
                RAISE,
                self.root.absolute(&path).display(),
                "the mark could not be made durable; nothing else was written",
            )
            .with_hint("try again once the disk works")
            .with_source(error)),
            Err(error) => Err(error),
        }
    }

    fn is_durable(&self, job: &JobAddress, revision: Revision) -> bool {
        self.durable_marks.0.lock().get(job) == Some(&revision)
    }

    fn know_durable(&self, job: &JobAddress, revision: Option<Revision>) {
        let mut known = self.durable_marks.0.lock();
        match revision {
            Some(revision) => known.insert(job.clone(), revision),
            None => known.remove(job),
        };
    }

    /// The greatest token of each lock in the documents of a job. Damaged documents are skipped.
    fn marks_in_documents(&self, job: &JobAddress, deadline: Deadline) -> Result<FenceMarks> {
        let mut marks = FenceMarks::default();
        let series = DocumentScope::Job(job.clone());
        let checkpoints = Entries::new(|page| self.list(&series, page, deadline));
        let scope = DocumentScope::Own(DocumentOwner::Job(job.clone()), None);
        let own = Entries::new(|page| self.list(&scope, page, deadline));
        let others = [Document::Orphans(job.clone()), Document::Finished(job.clone())];
        for document in checkpoints
            .map(|entry| entry.map(|entry| entry.document))
            .chain(own.map(|entry| entry.map(|entry| entry.document)))
            .chain(others.map(Ok))
        {
            let document = document?;
            deadline.check(MARKS, job, "the documents of the job")?;
            if let Some(fence) = self.fence_in(&document)?
                && marks.clone().raise(&fence)
                && self.is_whole(&document)
            {
                marks.raise(&fence);
            }
        }
        Ok(marks)
    }

    /// True if a document verifies. For a document that is too large to be read, only the checksum is compared.
    fn is_whole(&self, document: &Document) -> bool {
        match self.look(MARKS, &document.path()) {
            Ok(found) => matches!(found, DocumentRead::Valid(_)),
            Err(error) => error.kind() == ErrorKind::TooLarge,
        }
    }

    /// The token in a document, which is not verified. `None` if the document has no token, is damaged, has a newer
    /// format, or is reached through a link.
    fn fence_in(&self, document: &Document) -> Result<Option<Fence>> {
        self.read_fence(document).or_else(|error| match error.kind() {
            ErrorKind::Refused | ErrorKind::NewerFormat | ErrorKind::Damaged => Ok(None),
            _ => Err(error),
        })
    }

    fn read_fence(&self, document: &Document) -> Result<Option<Fence>> {
        let path = document.path();
        let Some(file) = self.open_document(MARKS, &path)? else {
            return Ok(None);
        };
        let mut head = vec![0; HEAD];
        let read = file
            .read_full_at(&mut head, 0)
            .map_err(|error| self.root.read_fault(MARKS, &path, error))?;
        head.truncate(read);
        if let Some(told) = fence_in(&head) {
            return Ok(told);
        }
        match self.look(MARKS, &path) {
            Ok(DocumentRead::Valid(found)) => Ok(fence_in(found.body()).flatten()),
            Ok(DocumentRead::Absent | DocumentRead::Foreign(_) | DocumentRead::Damaged(..)) => Ok(None),
            // The fields before a large state may be longer than the first read, so this reads up to the size limit.
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                head.resize(usize::try_from(self.most_read()).unwrap_or(usize::MAX), 0);
                let read = file
                    .read_full_at(&mut head, 0)
                    .map_err(|error| self.root.read_fault(MARKS, &path, error))?;
                head.truncate(read);
                Ok(fence_in(&head).flatten())
            }
            Err(error) => Err(error),
        }
    }
}

/// The error of a fenced write if the marks of the job can't be read.
fn unreadable(error: StorageError) -> StorageError {
    error.with_hint(
        "end the holders of older locks, then run `prodigy-storage doctor --repair`: it restores the marks from the \
         tokens in the job's documents and events",
    )
}

fn marks_path(job: &JobAddress) -> std::path::PathBuf {
    Document::Fencing(job.clone()).path()
}

/// The token in a JSON object. `None` if the given bytes end before it is certain whether the object has a token.
fn fence_in(bytes: &[u8]) -> Option<Option<Fence>> {
    let mut fields = Fields::default();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let parsed = parser.deserialize_map(FieldsVisitor(&mut fields));
    if parsed.is_err() && !fields.over {
        return None;
    }
    let token = fields.token.filter(|token| *token > 0);
    Some(token.and_then(|token| Fence::stored(fields.lock, token).ok()))
}

#[derive(Default)]
struct Fields {
    token: Option<u64>,
    lock: Option<LockName>,
    /// True after the parser reached the field of the state. No token comes after it.
    over: bool,
}

struct FieldsVisitor<'a>(&'a mut Fields);

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                // Other programs may store other values in these fields. Only a number is a token, and only a valid
                // name names a lock.
                "fencing" => self.0.token = map.next_value::<&RawValue>()?.get().parse().ok(),
                "fencing_lock" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    let name = serde_json::from_str::<String>(raw).ok();
                    self.0.lock = name.and_then(|name| LockName::new(name).ok());
                }
                "data" => {
                    self.0.over = true;
                    return Err(serde::de::Error::custom("the state"));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence_text(text: &str) -> Option<Option<String>> {
        Some(fence_in(text.as_bytes())?.map(|fence| fence.to_string()))
    }

    #[test]
    fn the_token_is_a_number_at_the_top_before_the_state() {
        let none = Some(None);
        let some = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(fence_text(r#"{"a":{"fencing":1},"fencing":7}"#), some("7"));
        assert_eq!(
            fence_text(r#"{"fencing":7,"fencing_lock":"a/b","data":"cut"#),
            some("a/b=7")
        );
        assert_eq!(fence_text(r#"{"phase":"map","data":{"fencing":1}}"#), none);
        assert_eq!(fence_text(r#"{"fencing":null}"#), none);
        assert_eq!(fence_text(r#"{"fencing":"7"}"#), none);
        assert_eq!(
            fence_text(r#"{"fencing":18446744073709551615}"#),
            some(&u64::MAX.to_string())
        );
        assert_eq!(fence_text(r#"{"phase":"map","cursor":"lo"#), None);
    }
}
