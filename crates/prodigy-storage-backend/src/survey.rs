//! Surveys: the counts of many jobs, page by page.

use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobAddress, JobId, RepoName};

use crate::backend::Backend;
use crate::deadline::Deadline;
use crate::document::StoredDocument;
use crate::error::{ErrorKind, Result, StorageError};
use crate::log::LogSummary;
use crate::page::{Entries, Page, PageOptions};
use crate::queue::QueueSummary;
use crate::report::Activity;

/// The number of documents, and their stored size.
///
/// ```
/// use prodigy_storage_backend::DocumentCount;
///
/// let mut checkpoints = DocumentCount::default();
/// checkpoints.add(4096);
/// assert_eq!((checkpoints.count, checkpoints.bytes), (1, 4096));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentCount {
    /// The number of documents.
    pub count: u64,
    /// The stored size of the documents in bytes.
    pub bytes: u64,
    /// The number of empty files at the path of a document. An empty file is damage, and counts in neither number
    /// above.
    pub damaged: u64,
}

impl DocumentCount {
    /// Counts a document of this size. A document is never empty, so a size of 0 counts as damage.
    pub fn add(&mut self, bytes: u64) {
        match bytes {
            0 => self.damaged += 1,
            _ => self.count += 1,
        }
        self.bytes += bytes;
    }
}

/// The counts of a job for which no event or document has to be read.
///
/// ```
/// use prodigy_storage_backend::{Backend, Deadline, JobFacts, Result};
/// use prodigy_storage_layout::JobAddress;
///
/// fn print_size(backend: &dyn Backend, job: &JobAddress) -> Result<()> {
///     let facts = JobFacts::by_calls(backend, job, Deadline::never())?;
///     println!("{} bytes of events, {} checkpoints", facts.log.bytes, facts.checkpoints.count);
///     Ok(())
/// }
/// # let _ = print_size;
/// ```
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct JobFacts {
    /// The result of [`Catalog::activity`](crate::Catalog::activity).
    pub activity: Activity,
    /// The document that marks the job as finished.
    pub finished: Option<StoredDocument>,
    /// The error of reading that document, if it is damaged. All other facts are known then, too.
    pub damage: Option<StorageError>,
    /// The result of [`LogStore::log_summary`](crate::LogStore::log_summary).
    pub log: LogSummary,
    /// The result of [`QueueStore::queue_summary`](crate::QueueStore::queue_summary).
    pub queue: QueueSummary,
    /// The checkpoints of every phase.
    pub checkpoints: DocumentCount,
    /// The documents of the caller's own kinds.
    pub documents: DocumentCount,
}

impl JobFacts {
    /// The values of [`finished`](Self::finished) and [`damage`](Self::damage), from the result of reading the document that
    /// marks the job as finished.
    ///
    /// ```
    /// use prodigy_storage_backend::{ErrorKind, JobFacts, StorageError};
    ///
    /// let damaged = StorageError::new(ErrorKind::Damaged, "get document", "finished.json", "it is empty");
    /// let (finished, damage) = JobFacts::mark(Err(damaged))?;
    /// assert!(finished.is_none() && damage.is_some());
    /// # Ok::<(), StorageError>(())
    /// ```
    ///
    /// # Errors
    /// Any other error than damage.
    pub fn mark(
        read: Result<Option<StoredDocument>>,
    ) -> Result<(Option<StoredDocument>, Option<StorageError>)> {
        match read {
            Err(error) if error.kind() == ErrorKind::Damaged => Ok((None, Some(error))),
            read => Ok((read?, None)),
        }
    }

    /// Collects the facts of a job, with one call for each. For a backend whose calls are cheap.
    ///
    /// # Errors
    /// The errors of the calls.
    pub fn by_calls<B: Backend + ?Sized>(backend: &B, job: &JobAddress, deadline: Deadline) -> Result<Self> {
        let count = |scope: &DocumentScope| -> Result<DocumentCount> {
            let mut counted = DocumentCount::default();
            for entry in Entries::new(|page| backend.list(scope, page, deadline)) {
                counted.add(entry?.bytes);
            }
            Ok(counted)
        };
        let (finished, damage) = Self::mark(backend.get(&Document::Finished(job.clone()), deadline))?;
        Ok(Self {
            activity: backend.activity(job, deadline)?,
            finished,
            damage,
            log: backend.log_summary(job, deadline)?,
            queue: backend.queue_summary(job, deadline)?,
            checkpoints: count(&DocumentScope::Job(job.clone()))?,
            documents: count(&DocumentScope::Own(DocumentOwner::Job(job.clone()), None))?,
        })
    }
}

/// A job of a [survey](crate::Catalog::survey).
///
/// ```
/// use prodigy_storage_backend::{JobFacts, JobSurvey};
/// use prodigy_storage_layout::JobId;
///
/// let survey = JobSurvey::new(JobId::new("mapreduce-7")?, Ok(JobFacts::default()));
/// assert!(survey.facts.is_ok_and(|facts| facts.log.segments == 0));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct JobSurvey {
    /// The id of the job.
    pub job: JobId,
    /// The facts of the job, or an error if a part of it is damaged or can't be read.
    pub facts: Result<JobFacts>,
}

impl JobSurvey {
    /// The survey of a job with these facts.
    #[must_use]
    pub fn new(job: JobId, facts: Result<JobFacts>) -> Self {
        Self { job, facts }
    }

    /// Surveys a page of jobs, with one call for each fact of each job. For a backend whose calls are cheap.
    ///
    /// ```
    /// use prodigy_storage_backend::{Backend, Deadline, JobSurvey, Page, PageOptions, Result};
    /// use prodigy_storage_layout::{JobId, RepoName};
    ///
    /// fn survey(backend: &dyn Backend, repo: &RepoName) -> Result<Page<JobSurvey, JobId>> {
    ///     JobSurvey::by_calls(backend, repo, &PageOptions::default(), Deadline::never())
    /// }
    /// # let _ = survey;
    /// ```
    ///
    /// # Errors
    /// The errors of listing the jobs, and [`Timeout`](ErrorKind::Timeout).
    pub fn by_calls<B: Backend + ?Sized>(
        backend: &B,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<Self, JobId>> {
        let listed = backend.jobs(repo, page, deadline)?;
        let mut entries = Vec::with_capacity(listed.entries.len());
        for job in listed.entries {
            let address = JobAddress::new(repo.clone(), job);
            match JobFacts::by_calls(backend, &address, deadline) {
                Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
                facts => entries.push(Self::new(address.job, facts)),
            }
        }
        Ok(Page::new(entries, listed.next))
    }
}
