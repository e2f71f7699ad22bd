//! The file backend as a [`Backend`].

mod catalog;
mod delete;
mod handle;
mod moved;
mod parts;
mod queues;
mod remove;
mod stores;
mod survey;
mod unfinished;
mod waiting;
mod watching;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{
    Activity, Added, AppendOptions, Appended, Batch, Body, Capabilities, Catalog, Cursor, Deadline,
    DocumentEntry, DocumentStore, Durability, ErrorKind, Expected, Fence, Health, JobSurvey, LockGuard,
    LockInfo, LockOptions, LockStore, LogReports, LogScope, LogStore, LogSummary, LogWatch, Moved, Page,
    PageOptions, PutOptions, Result, Revision, Scan, ScanOptions, Stats, StorageError, StoredDocument,
    UnfinishedDeletion, Usage, WaitOptions,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Part, Phase, RepoName, Timestamp,
};

use crate::fs::FileSystem;
use crate::queue::Gate;
use crate::root::{self, FileOptions, Look, Root};
use handle::{CheckedScan, Handle};
pub(crate) use stores::Stores;

/// The roots that are open in this process: all handles on one root share its writers.
static OPEN: LazyLock<Mutex<HashMap<String, Weak<Handle>>>> = LazyLock::new(Mutex::default);

const OPENING: &str = "open storage";

/// Files below one root, as `docs/reference/on-disk-format.md` describes them.
///
/// Cheap to clone. All handles of a process that were opened by one path with the same options share one writer per log,
/// and so its syncs.
///
/// ```
/// use prodigy_storage_backend::{Catalog, Deadline, PageOptions};
/// use prodigy_storage_file::{FileBackend, FileOptions};
///
/// let folder = tempfile::tempdir()?;
/// let backend = FileBackend::open(FileOptions::new(folder.path().join("root")))?; // creates nothing yet
/// let repositories = backend.repositories(&PageOptions::default(), Deadline::never())?;
/// assert!(repositories.entries.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileBackend {
    handle: Arc<Handle>,
}

impl FileBackend {
    /// Opens a root. Creates nothing: the first write creates the folders. A handle that may write also rewrites the
    /// files of small queues to hold only pending items, if a process died before it could do so.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a root that any user may write to, that is no folder, or that is on a network file
    /// system; [`ErrorKind::NewerFormat`] for a root that a newer version wrote; [`ErrorKind::InvalidInput`] for a
    /// relative path if the current folder can't be found.
    pub fn open(mut options: FileOptions) -> Result<Self> {
        if options.compression && !cfg!(feature = "compression") {
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                "open storage",
                options.root.display(),
                "this build can't compress",
            )
            .with_hint("build with the feature `compression`, or set `enable_compression: false`"));
        }
        options.resolve()?;
        let key = format!("{options:?}");
        let mut open = OPEN.lock();
        if let Some(handle) = open.get(&key).and_then(Weak::upgrade) {
            match handle.enter(OPENING, Look::Now) {
                Ok(store) => {
                    root::check(&store.root)?;
                    return Ok(Self { handle });
                }
                // The root was replaced. Earlier handles keep failing, for they have lost data; this one opens the
                // folder that is there now.
                Err(error) if error.kind() == ErrorKind::Replaced => {}
                Err(error) => return Err(error),
            }
        }
        open.retain(|_, handle| handle.strong_count() > 0);
        let store = Stores::new(Root::open(options));
        root::check(&store.root)?;
        let handle = Arc::new(Handle::new(Arc::clone(&store), true));
        open.insert(key, Arc::downgrade(&handle));
        // Unlocks the table, so that other threads can open handles while this one rewrites queues.
        drop(open);
        store.tidy_what_was_left();
        Ok(Self { handle })
    }

    /// Opens a root on another file system, sharing no state with other handles; for tests.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn open_on(file_system: Arc<dyn FileSystem>, options: FileOptions) -> Result<Self> {
        let store = Stores::new(Root::new(file_system, options));
        root::check(&store.root)?;
        Ok(Self {
            handle: Arc::new(Handle::new(store, false)),
        })
    }
}

impl LogStore for FileBackend {
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        let fence = batch.fence().cloned();
        let appended = self.handle.append(APPEND, job, options.durability, |store| {
            let documents = &store.documents;
            store.past_deletion(Some(job), deadline, || {
                gated(store, APPEND, job, fence.as_ref(), deadline, |pass| {
                    if let Some(pass) = pass {
                        pass()?;
                    }
                    let appended = store.logs.append(job, batch, options, deadline)?;
                    if let Some(fence) = &fence {
                        documents
                            .check_mark(APPEND, job, fence)
                            .map_err(|error| perhaps_stored(error, batch))?;
                    }
                    Ok(appended)
                })
            })
        });
        // Waiters are notified after an error, too, because some of the events may be stored.
        self.handle.waiters.notify(job);
        appended
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.handle
            .scan("scan events", |store| {
                CheckedScan::begin(store, job, || store.logs.scan(job, options, deadline))
            })
            .map(|scan| Box::new(scan) as Box<dyn Scan>)
    }

    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        self.handle
            .scan("read last events", |store| {
                CheckedScan::begin(store, job, || store.logs.tail(job, count, step_timeout, deadline))
            })
            .map(|scan| Box::new(scan) as Box<dyn Scan>)
    }

    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor> {
        self.handle
            .scan("find end of events", |store| store.logs.end(job, deadline))
    }

    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool> {
        waiting::wait(&self.handle, job, cursor, options, deadline)
    }

    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>> {
        watching::watch(&self.handle, scope, reports)
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.handle
            .read("summarise events", |store| store.logs.log_summary(job, deadline))
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.handle.write("seal events", Durability::Strict, |store| {
            store.logs.seal(job, deadline)?;
            store.sweep(job);
            Ok(())
        })
    }

    fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        self.handle.read("find old events", |store| {
            store.logs.removable_before(job, before, deadline)
        })
    }

    fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        self.handle.write("remove events", Durability::Strict, |store| {
            store.past_deletion(Some(job), deadline, || {
                if let Some(fence) = fence {
                    store.documents.pass_mark("remove events", job, fence, deadline)?;
                }
                store.logs.remove_before(job, before, deadline)
            })
        })
    }

    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        self.handle.write("persist events", Durability::Strict, |store| {
            store.logs.persist(job, cursor, deadline)
        })
    }
}

const APPEND: &str = "append events";
const PUT: &str = "put document";
const ADD: &str = "add checkpoint";
const DELETE: &str = "delete document";
const RAISE: &str = "raise fencing mark";

/// Runs a write under a fencing token, after a check that this store issued the token.
fn fenced<T>(
    store: &Stores,
    operation: &'static str,
    target: &dyn fmt::Display,
    fence: Option<&Fence>,
    write: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(fence) = fence else {
        return write();
    };
    store.locks.check_origin(operation, target, fence)?;
    write().map_err(|error| store.locks.explain_fenced(error, fence))
}

/// Runs a fenced write to a log or a queue. `write` calls the given check of the token inside its critical section.
fn gated<T>(
    store: &Stores,
    operation: &'static str,
    job: &JobAddress,
    fence: Option<&Fence>,
    deadline: Deadline,
    write: impl FnOnce(Gate<'_>) -> Result<T>,
) -> Result<T> {
    let pass = fence.map(|fence| move || store.documents.pass_mark(operation, job, fence, deadline));
    fenced(store, operation, job, fence, || {
        write(pass.as_ref().map(|pass| pass as &dyn Fn() -> Result<()>))
    })
}

/// The error of an append whose fencing token was overtaken, or could not be checked again, after the events were
/// written.
fn perhaps_stored(error: StorageError, batch: &Batch) -> StorageError {
    let error = match error.kind() {
        ErrorKind::Fenced => error.with_hint(
            "another process took the lock since: stop. The events may be stored, with their token, so that readers can leave them out",
        ),
        _ => StorageError::new(
            ErrorKind::OutcomeUnknown,
            APPEND,
            error.target().to_owned(),
            "the events were written, and then their fencing token could not be checked again",
        )
        .with_hint("append the same batch again: what is stored is not stored twice")
        .with_source(error),
    };
    error.with_ids(batch.ids())
}

impl DocumentStore for FileBackend {
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.handle.read("get document", |store| {
            match store.is_gone("get document", document.job())? {
                true => Ok(None),
                false => store.documents.get(document, deadline),
            }
        })
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.handle.read("get revision", |store| {
            match store.is_gone("get revision", document.job())? {
                true => Ok(None),
                false => store.documents.revision(document, deadline),
            }
        })
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        let path = document.path();
        let put = self
            .handle
            .write_dated(PUT, &path.display(), options.durability, |store| {
                store.past_deletion(document.job(), deadline, || {
                    fenced(store, PUT, &path.display(), options.fencing.as_ref(), || {
                        store.documents.put(document, body, options, deadline)
                    })
                })
            });
        if let Document::Finished(job) = document {
            self.handle.waiters.notify(job);
        }
        put
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        self.handle.write_dated(ADD, job, options.durability, |store| {
            store.past_deletion(Some(job), deadline, || {
                fenced(store, ADD, job, options.fencing.as_ref(), || {
                    store.documents.add(job, phase, body, options, deadline)
                })
            })
        })
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.handle.write(DELETE, durability, |store| {
            store.past_deletion(document.job(), deadline, || {
                fenced(store, DELETE, document, fence, || {
                    store
                        .documents
                        .delete(document, expected, durability, fence, deadline)
                })
            })
        })
    }

    fn raise_mark(&self, job: &JobAddress, fence: &Fence, deadline: Deadline) -> Result<()> {
        self.handle.write(RAISE, Durability::Strict, |store| {
            store.past_deletion(Some(job), deadline, || {
                fenced(store, RAISE, job, Some(fence), || {
                    store.documents.pass_mark(RAISE, job, fence, deadline)
                })
            })
        })
    }

    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        self.handle.read("list documents", |store| {
            store.documents_of(scope, page, deadline)
        })
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.handle.read("find newest document", |store| {
            match store.is_gone("find newest document", Some(job))? {
                true => Ok(None),
                false => store.documents.newest(job, phase, before, deadline),
            }
        })
    }
}

impl LockStore for FileBackend {
    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.handle.write("take lock", Durability::Strict, |store| {
            store.locks.lock(name, options, deadline)
        })
    }

    fn locks(&self, page: &PageOptions<LockName>, deadline: Deadline) -> Result<Page<LockInfo, LockName>> {
        self.handle
            .read("list locks", |store| store.locks.list(page, deadline))
    }
}

impl Catalog for FileBackend {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("file");
        let store = self.handle.store();
        let options = &store.root.options;
        capabilities.root = Some(options.root.clone());
        capabilities.persistent = true;
        capabilities.multi_process = options.file_locks;
        capabilities.read_only = options.read_only;
        capabilities.foreign_owner = root::foreign_owner(&store.root);
        capabilities.generation = self.handle.generation();
        capabilities
    }

    fn repositories(&self, page: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>> {
        self.handle
            .read("list repositories", |store| store.repositories(page, deadline))
    }

    fn jobs(&self, repo: &RepoName, page: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>> {
        self.handle
            .read("list jobs", |store| store.jobs(repo, page, deadline))
    }

    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        self.handle
            .read("find writers", |store| store.is_active(repo, deadline))
    }

    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity> {
        self.handle
            .read("look at job", |store| store.activity(job, deadline))
    }

    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        self.handle
            .read("survey jobs", |store| store.survey(repo, page, deadline))
    }

    fn delete_job(&self, job: &JobAddress, fence: Option<&Fence>, deadline: Deadline) -> Result<bool> {
        let deleted = self.handle.write("delete job", Durability::Strict, |store| {
            store.delete_job(job, fence, None, deadline)
        });
        self.handle.waiters.notify(job);
        deleted
    }

    fn delete_old_job(
        &self,
        job: &JobAddress,
        last: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        let deleted = self.handle.write("delete old job", Durability::Strict, |store| {
            store.delete_job(job, fence, Some(last), deadline)
        });
        self.handle.waiters.notify(job);
        deleted
    }

    fn unfinished_deletions(
        &self,
        page: &PageOptions<JobAddress>,
        _: Deadline,
    ) -> Result<Page<UnfinishedDeletion, JobAddress>> {
        self.handle
            .read("find deletions", |store| store.unfinished_deletions(page))
    }

    fn finish_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        let finished = self.handle.write("finish deletion", Durability::Strict, |store| {
            store.end_deletion(job, deadline)
        });
        self.handle.waiters.notify(job);
        finished
    }

    fn mark_moved(&self, moved: &Moved, last: Option<Timestamp>, deadline: Deadline) -> Result<()> {
        self.handle.write("mark as moved", Durability::Strict, |store| {
            store.mark_moved(moved, last, deadline)
        })
    }

    fn unmark_moved(&self, part: &Part, _: Deadline) -> Result<u64> {
        self.handle.write("take marks away", Durability::Strict, |store| {
            store.root.unmark_moved(part)
        })
    }

    fn moved(&self, part: &Part, page: &PageOptions<Part>, _: Deadline) -> Result<Page<Moved, Part>> {
        self.handle
            .read("look for marks", |store| store.root.moved_page(part, page))
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.handle
            .write("flush", Durability::Strict, |store| store.flush(deadline))
    }

    fn health(&self, _: Deadline) -> Result<Health> {
        Ok(Health {
            checks: match self.handle.enter("check health", Look::Now) {
                Ok(store) => {
                    let mut checks = root::health(&store.root);
                    checks.extend(store.documents.health());
                    checks.extend(store.queues.health());
                    checks.extend(store.check_deletions());
                    checks
                }
                Err(error) => vec![root::failure("root", &error)],
            },
        })
    }

    fn usage(&self, _: Deadline) -> Result<Usage> {
        self.handle
            .read("measure usage", |store| Ok(root::usage(&store.root)))
    }

    fn stats(&self, stats: &mut Stats) {
        let store = self.handle.store();
        store.root.counters.add_to(stats);
        store.root.foreign.add_to(stats);
    }
}
