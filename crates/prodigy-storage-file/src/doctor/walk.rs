//! Walks through the folders and files of a root.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Check, Deadline, ErrorKind, Moved, Result, StorageError};
use prodigy_storage_layout::{
    DELETIONS, DLQ, EVENTS, Entry, Evidence, IMPORTED, JobAddress, JobId, LOCKS, MOVED, ORPHANED, Part,
    QUARANTINE, RepoName, STATE, WORKTREES, checkpoints_folder, events_folder, queue_folder,
};

use rustix::io::Errno;

use super::Parts;
use super::finding::{DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity};
use super::foreign::{Group, Groups};
use super::keep::{keep_file, place};
use crate::fs::TEMP_PREFIX;
use crate::fs::{DirEntry, FileKind};
use crate::log::Extent;
use crate::log::removed_mark::RemovedMark;
use crate::log::sealed_mark::SealedMark;
use crate::root::{
    Imported, InTheWay, LockedFile, Root, TempFile, io_cause, is_folder, is_misplaced, is_no_store,
    is_of_user,
};

/// The largest depth of folders that are entered; the layout has no deeper ones.
const DEEPEST: usize = 8;

/// One run of the doctor, which examines a root and may repair it.
pub(super) struct Examination<'a> {
    pub(super) root: &'a Arc<Root>,
    pub(super) parts: &'a Parts,
    pub(super) scope: &'a DoctorScope,
    /// The longest wait for a lock during a repair; `None` if nothing is repaired.
    wait: Option<Duration>,
    pub(super) found: &'a mut dyn FnMut(Finding),
    pub(super) summary: DoctorSummary,
    /// For the last checkpoint: its job, the extent of the job's log, and true if a checkpoint ahead of the log was
    /// reported.
    pub(super) compared: Option<(JobAddress, Extent, bool)>,
    /// The identities and names in the registry entries that were read.
    pub(super) registry: Vec<(Evidence, RepoName)>,
    /// True if other users may enter the root, and so may reach its contents.
    pub(super) is_open_to_others: bool,
    /// Repositories and jobs that were reported because their names differ from others only in case.
    collisions: BTreeSet<PathBuf>,
    /// Counts of similar files, such as those of other programs: each group is one finding.
    pub(super) groups: Groups,
    /// Files at paths where a folder belongs.
    in_the_way: InTheWay,
    /// The absolute paths to which links lead that are in the way.
    led_to: HashSet<PathBuf>,
    /// True if there are files of another program.
    pub(super) is_shared: bool,
    /// The folder of the last examined file of another program, and the record of the files imported from there.
    imported: Option<(PathBuf, Imported)>,
}

impl<'a> Examination<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        scope: &'a DoctorScope,
        wait: Option<Duration>,
        found: &'a mut dyn FnMut(Finding),
    ) -> Self {
        Self {
            root: &parts.root,
            parts,
            scope,
            wait,
            found,
            summary: DoctorSummary::default(),
            compared: None,
            registry: Vec::new(),
            is_open_to_others: (parts.root.fs.metadata(Path::new("")))
                .is_ok_and(|root| root.mode & 0o011 != 0),
            collisions: BTreeSet::new(),
            groups: Groups::default(),
            in_the_way: InTheWay::default(),
            led_to: HashSet::new(),
            is_shared: false,
            imported: None,
        }
    }

    pub(super) fn run(mut self) -> Result<DoctorSummary> {
        // The format is examined first: a root of a newer version must not be repaired.
        self.format()?;
        if is_no_store(self.root) {
            let finding = self
                .warning(
                    FindingKind::NoStore,
                    Path::new(""),
                    "this is no store: it has files, and none of a store",
                )
                .advice(
                    "look at `prodigy-storage config show --origin`, and correct `--base-dir` or the configuration; the first write begins \
                     a store there",
                );
            self.report(finding);
            return Ok(self.summary);
        }
        let entries = self.names(Path::new(""));
        self.names_of_bytes(Path::new(""));
        self.note_links(Path::new(""), &entries);
        for entry in entries {
            let path = Path::new(&entry.name);
            match (entry.kind, entry.name.as_str()) {
                (kind, _) if is_misplaced(path, kind) => self.in_the_way(path),
                (FileKind::Folder, EVENTS | DLQ | STATE | ORPHANED | LOCKS | DELETIONS | MOVED) => {
                    self.folder(path, 1);
                }
                (FileKind::Folder, QUARANTINE | IMPORTED) => self.mode(path),
                // Only the names of the folders for checked-out worktrees are examined.
                (FileKind::Folder, WORKTREES) => {
                    for entry in self.names(path) {
                        let path = path.join(&entry.name);
                        if self.in_scope(&path) && !is_folder(&path) {
                            self.displaced(&path, entry.kind);
                        }
                    }
                }
                _ if path == Entry::Format.path() || is_of_user(&entry.name) => {}
                _ if self.scope.is_all() => self.other(path, &entry),
                _ => {}
            }
        }
        for path in std::mem::take(&mut self.in_the_way).files() {
            self.in_the_way(&path);
        }
        self.same_identities();
        self.report_groups();
        Ok(self.summary)
    }

    /// True if the doctor may repair, not only examine.
    pub(super) fn repairs(&self) -> bool {
        self.wait.is_some()
    }

    /// The deadline of a wait for a lock that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.wait.unwrap_or_default())
    }

    pub(super) fn finding(
        &self,
        severity: FindingSeverity,
        kind: FindingKind,
        path: &Path,
        why: impl Into<String>,
    ) -> Finding {
        let mut finding = Finding::new(severity, kind, place(self.root, path), why);
        if path.to_str().is_none() {
            finding.paths.push(self.root.absolute(path));
        }
        finding
    }

    pub(super) fn note(&self, kind: FindingKind, path: &Path, why: impl Into<String>) -> Finding {
        self.finding(FindingSeverity::Note, kind, path, why)
    }

    pub(super) fn warning(&self, kind: FindingKind, path: &Path, why: impl Into<String>) -> Finding {
        self.finding(FindingSeverity::Warning, kind, path, why)
    }

    pub(super) fn damage(&self, kind: FindingKind, path: &Path, why: impl Into<String>) -> Finding {
        self.finding(FindingSeverity::Damage, kind, path, why)
    }

    /// Reports a finding.
    pub(super) fn report(&mut self, finding: Finding) {
        self.summary.count(&finding);
        (self.found)(finding);
    }

    /// Reports a finding with the outcome of its repair.
    pub(super) fn report_repaired(&mut self, mut finding: Finding, outcome: &Result<Option<String>>) {
        finding.outcome = match outcome {
            Ok(kept) => FindingOutcome::Repaired { kept: kept.clone() },
            Err(error) => left(error),
        };
        self.report(finding);
    }

    /// Reports that a file or folder can't be read.
    pub(super) fn unreadable(&mut self, path: &Path, error: &StorageError) {
        // Missing rights of this user, and a limit on open files, are no damage.
        let severity = match is_of_this_process(error) {
            true => FindingSeverity::Warning,
            false => FindingSeverity::Damage,
        };
        let finding = self
            .finding(severity, FindingKind::Unreadable, path, format!("{error:#}"))
            .lost("perhaps nothing: the contents are not known")
            .advice(error.hint().unwrap_or("check the file, its owner and the disk"));
        let finding = match self.repairs() {
            true => Finding {
                outcome: FindingOutcome::Left {
                    why: "what can't be read is not touched".into(),
                },
                ..finding
            },
            false => finding,
        };
        self.report(finding);
    }

    /// The names in a folder, sorted; empty if the folder is absent.
    pub(super) fn names(&mut self, folder: &Path) -> Vec<DirEntry> {
        match self.root.names_in("examine", folder) {
            Ok(mut names) => {
                names.sort_by(|a, b| a.name.cmp(&b.name));
                names
            }
            Err(error) => {
                self.unreadable(folder, &error);
                Vec::new()
            }
        }
    }

    /// Reports the names in a folder that are not Unicode, which no other call lists.
    fn names_of_bytes(&mut self, folder: &Path) {
        // An error was reported with the other names of the folder.
        let mut names = self.root.fs.names_of_bytes(folder).unwrap_or_default();
        names.sort();
        for name in names {
            if self.in_scope(&folder.join(name.to_string_lossy().as_ref())) {
                self.group(Group::Stray, &folder.join(name));
            }
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        self.mode(folder);
        let entries = self.names(folder);
        self.names_of_bytes(folder);
        self.same_but_for_case(folder, &entries);
        if let Some(job) = log_of(folder) {
            self.log(&job, folder);
        }
        self.note_links(folder, &entries);
        for entry in entries {
            let path = folder.join(&entry.name);
            if !self.in_scope(&path) {
                continue;
            }
            if !is_misplaced(&path, entry.kind) {
                self.in_the_way.add(&path, entry.kind);
            }
            match entry.kind {
                kind if is_misplaced(&path, kind) => self.in_the_way(&path),
                FileKind::Folder if !is_folder(&path) && self.displaced(&path, entry.kind) => {}
                FileKind::Folder if depth < DEEPEST => self.folder(&path, depth + 1),
                FileKind::File if !entry.name.starts_with(TEMP_PREFIX) => self.file(&path, &entry),
                _ => self.other(&path, &entry),
            }
        }
    }

    /// Reports names of repositories, or of jobs of a repository, that a case-insensitive file system can't
    /// distinguish.
    fn same_but_for_case(&mut self, folder: &Path, entries: &[DirEntry]) {
        let Some(of) = holder_of_names(folder) else {
            return;
        };
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.kind == FileKind::Folder) {
            let Some(first) = seen.insert(entry.name.to_lowercase(), &entry.name) else {
                continue;
            };
            let path = folder.join(&entry.name);
            // A deletion leaves empty folders. They hold no data that could be mixed.
            let is_data = |name: &str| self.has_files(&folder.join(name), 0);
            if !self.in_scope(&path) || !is_data(first) || !is_data(&entry.name) {
                continue;
            }
            if !self.collisions.insert(of.join(&entry.name)) {
                continue;
            }
            let why = format!("`{first}` and `{}` are two names here", entry.name);
            let finding = self.note(FindingKind::NameCollision, &path, why).advice(
                "before the store moves to a case-insensitive file system, export the data of one of the names, and import it under \
                 another name",
            );
            self.report(finding);
        }
    }

    /// True if there are files below a folder, or if it can't be searched completely.
    fn has_files(&self, folder: &Path, depth: usize) -> bool {
        let Ok(entries) = self.root.fs.list(folder) else {
            return true;
        };
        let holds = |entry: &DirEntry| match entry.kind {
            FileKind::Folder if depth < DEEPEST => self.has_files(&folder.join(&entry.name), depth + 1),
            _ => true,
        };
        entries.iter().any(holds)
    }

    /// Notes where the links in a folder lead that are in the way.
    fn note_links(&mut self, folder: &Path, entries: &[DirEntry]) {
        for entry in entries {
            let path = folder.join(&entry.name);
            if entry.kind == FileKind::Other
                && is_misplaced(&path, entry.kind)
                && let Ok(target) = self.root.fs.link_target(&path)
            {
                let target = self.root.absolute(folder).join(target);
                self.led_to.insert(target);
            }
        }
    }

    /// Reports an entry of the wrong kind for its path, such as a file where a folder belongs.
    fn in_the_way(&mut self, path: &Path) {
        let what = self.root.describe_misplaced(path);
        let mut finding = self
            .damage(
                FindingKind::InTheWay,
                path,
                format!("{what}; nothing reads it or what it leads to"),
            )
            .lost("nothing that is stored elsewhere: the data that belongs here can't be found until it is moved back")
            .advice(match self.root.fs.link_target(path) {
                Ok(_) => {
                    "if it leads to data of this store, remove the link and move the data to its place; else move the link away"
                }
                Err(_) => "find out who put it there, and move it away",
            });
        if self.repairs() {
            finding.outcome = FindingOutcome::Left {
                why: "what is no file or folder of the store is not touched".into(),
            };
        }
        self.report(finding);
    }

    fn file(&mut self, path: &Path, entry: &DirEntry) {
        match Entry::parse(path) {
            // The examination of the log includes its segments.
            Some(Entry::Segment(..)) => {}
            Some(Entry::Queue(job)) => self.queue(&job, path),
            Some(Entry::QueueJournal(job)) => self.queue_journal(&job, path),
            Some(Entry::Document(document) | Entry::Compressed(document)) => self.document(&document, path),
            Some(Entry::Lock(name)) => {
                self.mode(path);
                self.named_lock(&name, path);
            }
            Some(
                Entry::QueueLock(_) | Entry::StateLock(_) | Entry::DocumentsLock(_) | Entry::RegistryLock,
            ) => {
                self.mode(path);
                self.information(path);
            }
            Some(Entry::DeletedLogs(repo)) => self.deleted_logs(&repo, path),
            Some(Entry::Moved(part)) => {
                self.mode(path);
                self.moved(&part, path);
            }
            Some(Entry::Tombstone(job)) => self.tombstone(&job, path),
            _ if log_of(path.parent().unwrap_or(path)).is_some()
                && (SealedMark::parse(&entry.name).is_some()
                    || RemovedMark::parse(&entry.name).is_some()) => {}
            // The folder in which an earlier version recorded writers without locks.
            _ if path.starts_with("locks/unlocked") => {}
            _ => self.other(path, entry),
        }
    }

    /// Reports the tombstone of a job whose deletion was interrupted, or an invalid file at its path.
    fn tombstone(&mut self, job: &JobAddress, path: &Path) {
        const REPAIR: &str = "repair mark of a deletion";
        self.summary.files += 1;
        match self.root.is_deleted(REPAIR, job) {
            Ok(false) => {}
            Ok(true) => {
                let discard = Check::end_of_deletion(job);
                let (what, advice) = match self.root.is_restored(job) {
                    true => (
                        "restore",
                        format!(
                            "run the same `restore` again, which begins again and ends it; or run `{discard}`, which discards what was restored; \
                             a write to the job discards it, too"
                        ),
                    ),
                    false => (
                        "deletion",
                        format!("run `{discard}`, which removes the rest; a write to the job does so, too"),
                    ),
                };
                let why = format!("a {what} of the job {job} was begun, and its process died");
                let finding = self.warning(FindingKind::UnfinishedDeletion, path, why);
                self.report(finding.advice(advice));
            }
            Err(error) => {
                let finding = self
                    .damage(FindingKind::DamagedDocument, path, error.why().to_owned())
                    .lost(format!("nothing: the job {job} is complete, and can't be read or written to until this file is gone"))
                    .advice("repair moves it to quarantine");
                if !self.repairs() {
                    return self.report(finding);
                }
                let repaired = self.move_away(REPAIR, path, &error);
                self.report_repaired(finding, &repaired);
            }
        }
    }

    /// Reports the note of a repository about its deleted logs if the note is damaged.
    fn deleted_logs(&mut self, repo: &RepoName, path: &Path) {
        const REPAIR: &str = "repair note about deleted logs";
        self.mode(path);
        let Err(error) = self.root.newest_deleted(repo) else {
            return;
        };
        if error.kind() != ErrorKind::Damaged {
            return self.unreadable(path, &error);
        }
        let finding = self
            .damage(FindingKind::DamagedDocument, path, error.why().to_owned())
            .lost("no data; no new log of the repository can begin until this file is gone")
            .advice("repair moves it to quarantine; begin without a cursor in logs of the repository that are begun again");
        if !self.repairs() {
            return self.report(finding);
        }
        let lock = Entry::RegistryLock.path();
        let repaired = LockedFile::take(self.root, &lock, REPAIR, REPAIR, self.deadline())
            .and_then(|_lock| self.move_away(REPAIR, path, &error));
        self.report_repaired(finding, &repaired);
    }

    /// Moves a damaged file to quarantine.
    fn move_away(
        &self,
        operation: &'static str,
        path: &Path,
        error: &StorageError,
    ) -> Result<Option<String>> {
        self.root.prepare_write(operation, &path.display())?;
        let kept = keep_file(self.root, path, error.why())?;
        self.root.unlink(operation, path)?;
        self.root.sync_folder(path.parent().unwrap_or(Path::new("")))?;
        Ok(Some(kept))
    }

    /// Reports the mark that a job or repository was moved to another store.
    fn moved(&mut self, part: &Part, path: &Path) {
        let finding = match self.root.move_mark(part) {
            Ok(None) => return,
            // The mark still refuses writes, which needs no report once the data was deleted here.
            Ok(Some(_)) if !self.is_here(part) => return,
            Ok(Some(moved)) => self
                .note(
                    FindingKind::Moved,
                    path,
                    format!(
                        "{part} was moved to {} at {}: it takes no more writes here",
                        moved.to,
                        moved.at.to_rfc3339()
                    ),
                )
                .advice(
                    "set the configuration to that place, look there for what was moved, and only then delete it here",
                ),
            Err(error) => self
                .damage(FindingKind::Moved, path, error.why())
                .lost("the name of the place that it was moved to; all writes to it are refused")
                .advice(format!(
                    "if the data was moved, remove the file and run the `copy` again, which writes the mark again, before anything is written \
                     here; if it was not moved, take the mark away with `{}`",
                    Moved::reopening(part)
                )),
        };
        self.report(finding);
    }

    /// True if this root has data of the part, or may have.
    fn is_here(&self, part: &Part) -> bool {
        let Part::Job(job) = part else {
            return true;
        };
        [events_folder(job), queue_folder(job), checkpoints_folder(job)]
            .iter()
            .any(|folder| self.root.fs.metadata(folder).is_ok() && self.has_files(folder, 0))
    }

    /// Reports a name that is not part of the layout.
    fn other(&mut self, path: &Path, entry: &DirEntry) {
        if entry.kind == FileKind::Other {
            let finding = self
                .warning(FindingKind::Link, path, "a link, or no file at all")
                .advice("nothing follows it; find out who put it there, and move it away");
            self.report(finding);
        } else if entry.kind == FileKind::File && entry.name.starts_with(TEMP_PREFIX) {
            self.temporary(path);
        } else if entry.kind == FileKind::File && self.is_imported(path, entry) {
            self.is_shared = true;
            let why = "another program's file, whose contents were imported";
            let finding = self
                .note(FindingKind::Imported, path, why)
                .advice("nothing has to be done; move it away once its program needs it no more");
            self.report(finding);
        } else if !self.led_to.contains(&self.root.absolute(path)) && self.displaced(path, entry.kind) {
            // It is reported.
        } else if entry.kind == FileKind::Folder && self.has_known_files(path) {
            self.names_of_bytes(path);
            for entry in self.names(path) {
                self.other(&path.join(&entry.name), &entry);
            }
        } else if !self.led_to.contains(&self.root.absolute(path)) {
            // Where a link at the path of a folder leads to may be the data of the store: the finding about the link
            // says so.
            self.group(self.group_of(path), path);
        }
    }

    /// True for a folder outside the layout with files whose contents `import` knows.
    fn has_known_files(&self, folder: &Path) -> bool {
        let entries = self.root.fs.list(folder).unwrap_or_default();
        entries.iter().any(|entry| {
            let path = folder.join(&entry.name);
            entry.kind == FileKind::File && self.group_of(&path) != Group::Stray
        })
    }

    fn is_imported(&mut self, path: &Path, entry: &DirEntry) -> bool {
        let folder = path.parent().unwrap_or(path);
        if self.imported.as_ref().is_none_or(|(noted, _)| noted != folder) {
            self.imported = Some((folder.to_owned(), Imported::in_folder(self.root, folder)));
        }
        let note = self.imported.as_ref();
        note.is_some_and(|(_, note)| note.covers(self.root, folder, &entry.name))
    }

    /// Reports a temporary file, whose writer may be at work or dead.
    fn temporary(&mut self, path: &Path) {
        let finding = self
            .note(
                FindingKind::Temporary,
                path,
                "a file of a write under way, or of a writer that died",
            )
            .advice("nothing: a later writer in this folder removes it once nobody holds it");
        if !self.repairs() {
            return self.report(finding);
        }
        let (folder, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
        TempFile::sweep(self.root, folder.unwrap_or(Path::new("")), name);
        if self.root.fs.metadata(path).is_err() {
            self.report_repaired(finding, &Ok(None));
        } else {
            self.report(finding);
        }
    }

    fn in_scope(&self, path: &Path) -> bool {
        if self.scope.is_all() {
            return true;
        }
        let parts: Vec<&str> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect();
        let repo = |name: Option<&&str>| match (name, &self.scope.repo) {
            (Some(name), Some(repo)) => **name == *repo.as_str(),
            _ => true,
        };
        let job = |name: Option<&str>| match (name, &self.scope.job) {
            (Some(name), Some(job)) => name == job.as_str(),
            _ => true,
        };
        let part = |index: usize| parts.get(index).copied();
        match part(0) {
            Some(EVENTS | DLQ) => repo(parts.get(1)) && job(part(2)),
            Some(STATE) => repo(parts.get(1)) && job(part(4)),
            Some(ORPHANED | DELETIONS) => {
                let name = part(1).map(|name| name.strip_prefix('.').unwrap_or(name));
                repo(name.as_ref()) && job(part(2).and_then(|name| name.strip_suffix(".json")))
            }
            // The scope selects marks by the part that they name. A mark of the whole store is always in scope.
            Some(MOVED) if part(1) == Some("jobs") => {
                repo(parts.get(2)) && job(part(3).and_then(|name| name.strip_suffix(".json")))
            }
            Some(MOVED) if part(1) == Some("repositories") => {
                let name = part(2).and_then(|name| name.strip_suffix(".json"));
                repo(name.as_ref())
            }
            Some(MOVED) => true,
            Some(LOCKS) if part(1).is_none_or(|area| area == STATE) => {
                repo(parts.get(2)) && job(part(3).and_then(|name| name.strip_suffix(".lock")))
            }
            Some(LOCKS) if part(1) == Some("documents") => {
                let name = part(2).and_then(|name| name.strip_suffix(".lock"));
                self.scope.job.is_none() && repo(name.as_ref())
            }
            // The files of named locks belong to no single repository, so only a run over the whole root examines them.
            _ => false,
        }
    }
}

/// The outcome for a repair that failed.
pub(super) fn left(error: &StorageError) -> FindingOutcome {
    FindingOutcome::Left {
        why: format!("{error:#}"),
    }
}

/// The repository if this folder contains its jobs' folders; an empty path if the folder contains repositories'
/// folders.
fn holder_of_names(folder: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = folder.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    match parts[..] {
        [EVENTS | DLQ | STATE] => Some(PathBuf::new()),
        [EVENTS | DLQ, repo] | [STATE, repo, "mapreduce", "jobs"] => Some(PathBuf::from(repo)),
        _ => None,
    }
}

/// The job whose log is in this folder; `None` if the folder is not that of a log.
fn log_of(folder: &Path) -> Option<JobAddress> {
    let mut parts = folder.components();
    if parts.next()?.as_os_str() != EVENTS {
        return None;
    }
    let repo = RepoName::new(parts.next()?.as_os_str().to_str()?).ok()?;
    let job = JobId::new(parts.next()?.as_os_str().to_str()?).ok()?;
    parts.next().is_none().then(|| JobAddress::new(repo, job))
}

/// True if this user may not read the file, or if the process or the system has too many open files.
fn is_of_this_process(error: &StorageError) -> bool {
    let full = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    io_cause(error).is_some_and(|source| {
        source.kind() == io::ErrorKind::PermissionDenied
            || source.raw_os_error().is_some_and(|raw| full.contains(&raw))
    })
}
