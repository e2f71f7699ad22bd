//! Lists the named locks and their holders. The listing takes no lock and changes nothing: it reads the kernel's list of
//! locks ([`KernelLocks`]).
//!
//! A lock that the kernel does not list still counts as held if its file has no note of a release and its holder
//! belongs to another host or container, whose processes are not visible here. So a lock whose holder died is listed as
//! held only if the holder ran on another host, and only until the lock is taken again.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Deadline, LockInfo, Page, PageBuilder, PageOptions, Result};
use prodigy_storage_layout::{Entry, JobAddress, JobId, LockName, RepoName, locks_folder};

use super::Locks;
use super::origin::origin;
use super::slots::{Slots, State};
use crate::fs::{FileKind, OpenMode};
use crate::kernel::KernelLocks;
use crate::root::holder::{Who, who_holds};

const LOCKS: &str = "list locks";

impl Locks {
    /// Implements [`LockStore::locks`](prodigy_storage_backend::LockStore::locks), ordered by name.
    pub(crate) fn list(
        &self,
        page: &PageOptions<LockName>,
        deadline: Deadline,
    ) -> Result<Page<LockInfo, LockName>> {
        self.list_by(&mut KernelLocks::new(), page, deadline)
    }

    pub(super) fn list_by(
        &self,
        kernel: &mut KernelLocks,
        page: &PageOptions<LockName>,
        deadline: Deadline,
    ) -> Result<Page<LockInfo, LockName>> {
        let mut names = PageBuilder::new(page.clone());
        let folders = (1..=LockName::MAX_PARTS).map(|parts| (locks_folder().join(parts.to_string()), parts));
        self.each_name(folders.collect(), deadline, &mut |name| {
            names.offer(name);
            Ok(())
        })?;
        let names = names.finish();
        let mut found = Vec::with_capacity(names.entries.len());
        for name in names.entries {
            let path = Entry::Lock(name.clone()).path();
            deadline.check(LOCKS, &path.display(), "the file system")?;
            found.extend(self.lock_info(name, &path, kernel)?);
        }
        Ok(Page::new(found, names.next))
    }

    /// The locks of a job: those whose names begin with its repository and id. The cost does not depend on the number of other
    /// locks.
    pub(crate) fn of_job(
        &self,
        job: &JobAddress,
        kernel: &mut KernelLocks,
        deadline: Deadline,
    ) -> Result<Vec<LockInfo>> {
        let mut found = Vec::new();
        if let Ok(name) = LockName::new(job.to_string()) {
            let path = Entry::Lock(name.clone()).path();
            found.extend(self.lock_info(name, &path, kernel)?);
        }
        let folders = (3..=LockName::MAX_PARTS).map(|parts| {
            let folder = locks_folder().join(parts.to_string());
            (folder.join(job.repo.as_str()).join(job.job.as_str()), parts - 2)
        });
        self.each_name(folders.collect(), deadline, &mut |name| {
            let path = Entry::Lock(name.clone()).path();
            found.extend(self.lock_info(name, &path, kernel)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// A page of the jobs that may have named locks, found by the names of lock files.
    pub(crate) fn jobs_with_locks(&self, repo: &RepoName, page: &PageOptions<JobId>) -> Result<Page<JobId>> {
        let mut jobs = PageBuilder::new(page.clone());
        for parts in 2..=LockName::MAX_PARTS {
            let folder = locks_folder().join(parts.to_string()).join(repo.as_str());
            self.root.each_name(LOCKS, &folder, &mut |name, _| {
                // The lock `REPO/JOB` is a file named after the job. A lock with a longer name is in a folder of the
                // job's name.
                let job = match parts {
                    2 => name.strip_suffix(".lock"),
                    _ => Some(name),
                };
                jobs.extend(job.and_then(|job| JobId::new(job).ok()));
            })?;
        }
        Ok(jobs.finish())
    }

    /// Calls `give` with the name of each lock in these folders. The number beside a folder is the number of its
    /// levels, of which the last one contains lock files. Links, and folders below the last level, are ignored.
    fn each_name(
        &self,
        mut folders: Vec<(PathBuf, usize)>,
        deadline: Deadline,
        give: &mut dyn FnMut(LockName) -> Result<()>,
    ) -> Result<()> {
        while let Some((folder, depth)) = folders.pop() {
            for entry in self.root.names_in(LOCKS, &folder)? {
                let path = folder.join(&entry.name);
                deadline.check(LOCKS, &path.display(), "the file system")?;
                match entry.kind {
                    FileKind::Folder if depth > 1 => folders.push((path, depth - 1)),
                    FileKind::File if depth == 1 => {
                        if let Some(Entry::Lock(name)) = Entry::parse(&path) {
                            give(name)?;
                        }
                    }
                    _ => self.root.pass_over(&path, entry.kind),
                }
            }
        }
        Ok(())
    }

    fn lock_info(&self, name: LockName, path: &Path, kernel: &mut KernelLocks) -> Result<Option<LockInfo>> {
        let fault = |error| self.root.read_fault(LOCKS, path, error);
        let file = match self.root.fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        let slots = Slots::read(&*file).map_err(fault)?;
        let (fencing, suspect) = (slots.fencing(), slots.why_suspect().is_some());
        let record = slots.into_record();
        let released = record
            .as_ref()
            .is_some_and(|record| record.state == State::Released);
        let last = record.map(|record| record.holder);
        let origin = last
            .as_ref()
            .map(|holder| origin(&self.root, &name, fencing, holder));
        let who = who_holds(&*file, last.as_ref(), released, kernel).map_err(fault)?;
        let held = who != Who::Nobody;
        if fencing == 0 && !held && !suspect {
            // The file is empty: its creator died before it wrote to it, so no one ever held the lock.
            return Ok(None);
        }
        let holder = last.clone().filter(|_| who == Who::Signer);
        let pid = match who {
            Who::Unknown(pid) => pid,
            _ => None,
        };
        Ok(Some(
            LockInfo::new(name, held, holder, fencing)
                .pid(pid)
                .last_holder(last)
                .origin(origin)
                .suspect(suspect),
        ))
    }
}
