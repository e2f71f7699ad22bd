//! Examines checkpoints, the marks of finished jobs, fencing marks, lists of orphaned worktrees, and the registry of
//! repositories.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{
    Body, Cursor, Deadline, Durability, ErrorKind, FenceMarks, LockOptions, Result, ScanItem, ScanOptions,
    shell_flags, shell_flags_of, shell_operands,
};
use prodigy_storage_layout::{
    Document, DocumentOwner, Entry, Evidence, JobAddress, LockName, Phase, Relation, RepoName, SegmentName,
    Timestamp, events_folder,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::finding::{FindingKind, FindingOutcome};
use super::foreign::Group;
use super::keep::keep_file;
use super::walk::Examination;
use crate::document::{DocumentRead, misshapen};
use crate::log::{Extent, Logs};
use crate::root::{Replace, read_format};

const EXAMINE: &str = "examine document";
const REPAIR: &str = "repair document";
/// The `kind` of a registry entry that the doctor wrote in place of a damaged one.
const LOST: &str = "lost";

/// The fields of a registry entry that the doctor reads.
#[derive(Deserialize)]
struct Registered {
    name: Option<String>,
    identity: Option<String>,
    #[serde(default)]
    file_id: Option<(u64, u64)>,
    #[serde(default)]
    born: Option<Timestamp>,
    #[serde(default)]
    kind: String,
}

/// The field of a checkpoint, or of the mark of a finished job, that the doctor reads.
#[derive(Deserialize)]
struct Positioned {
    #[serde(alias = "end")]
    cursor: Option<String>,
}

/// The entry that replaces a damaged registry entry, until a person decides which repository owns the name. Meanwhile
/// the name can't be given to another repository, and its repository can't be registered under a second name.
#[derive(Serialize)]
struct LostEntry<'a> {
    name: &'a str,
    /// A made-up path, which is not the path of any repository.
    identity: String,
    kind: &'static str,
    registered_at: Timestamp,
}

impl Examination<'_> {
    pub(super) fn document(&mut self, document: &Document, path: &Path) {
        let error = match self.parts.documents.look(EXAMINE, path) {
            Ok(DocumentRead::Absent) => return,
            Ok(DocumentRead::Valid(found)) => {
                if let Some(why) = misshapen(document, &found) {
                    self.summary.files += 1;
                    return self.damaged_document(document, path, why);
                }
                self.summary.documents += 1;
                if found.is_verified() {
                    self.mode(path);
                } else {
                    let group = match document {
                        Document::Orphans(_) => Group::OrphanLists,
                        Document::Own(..) => Group::Documents,
                        _ => Group::Checkpoints,
                    };
                    self.foreign(group, path);
                }
                match document {
                    Document::Repository(repo) => self.registered(repo, path, found.body()),
                    Document::Fencing(_) => self.marks(path, found.body()),
                    _ => self.position(document, path, found.body()),
                }
                return;
            }
            Ok(DocumentRead::Foreign(_)) => {
                let len = self.root.fs.metadata(path).map_or(0, |found| found.len);
                let group = match len > self.parts.documents.most_read() {
                    true => Group::OverLimit,
                    false => Group::Unreadable,
                };
                return self.foreign(group, path);
            }
            Ok(DocumentRead::Damaged(error, _)) => error,
            Err(error) if error.kind() == ErrorKind::NewerFormat => {
                let finding = self
                    .warning(FindingKind::NewerFormat, path, error.why().to_owned())
                    .advice("use the version that wrote it");
                return self.report(finding);
            }
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                self.mode(path);
                let len = self.root.fs.metadata(path).map_or(0, |found| found.len);
                let finding = self
                    .warning(FindingKind::OverLimit, path, error.why().to_owned())
                    .at(0, len)
                    .advice(error.hint().unwrap_or("raise the limit").to_owned());
                return self.report(finding);
            }
            Err(error) => return self.unreadable(path, &error),
        };
        self.mode(path);
        self.damaged_document(document, path, error.why());
    }

    /// Compares the position of a checkpoint, or of the mark of a finished job, with the log. Reports the first document of a
    /// job that is ahead of it.
    fn position(&mut self, document: &Document, path: &Path, body: &[u8]) {
        let cursor = serde_json::from_slice::<Positioned>(body)
            .ok()
            .and_then(|found| found.cursor);
        let (Some(job), Some(Ok(cursor))) = (document.job(), cursor.map(Cursor::new)) else {
            return;
        };
        let folder = events_folder(job);
        let known = self.compared.take().filter(|(of, ..)| of == job);
        let is_known = known.is_some();
        let read = || Some((job.clone(), Extent::of(self.root, &folder).ok()?, false));
        // A segment that can't be read has a finding of its own, from the examination of its log.
        let Some((_, mut extent, is_reported)) = known.or_else(read) else {
            return;
        };
        let mut lacks = extent.lacks(self.root, &folder, &cursor).ok().flatten();
        // The checkpoint may refer to events that were appended after the log was read, so the log is read again.
        if lacks.is_some()
            && is_known
            && let Ok(mut again) = Extent::of(self.root, &folder)
        {
            lacks = again.lacks(self.root, &folder, &cursor).ok().flatten();
            extent = again;
        }
        let older = extent.older(self.root, &folder, &cursor).ok().flatten();
        let older = older
            .map(SegmentName::stem)
            .map(str::to_owned)
            .filter(|_| lacks.is_none());
        let has_finding = is_reported || lacks.is_some() || older.is_some();
        self.compared = Some((job.clone(), extent, has_finding));
        if is_reported || !has_finding {
            return;
        }
        // No reader sees such a job: what is here of it is the part that a restore has copied, or that a deletion has left.
        let restoring = || read_format(self.root).is_err_and(|error| error.kind() == ErrorKind::Refused);
        if self.root.is_deleted(EXAMINE, job).unwrap_or(false) || restoring() {
            return;
        }
        if let Some(older) = older {
            let why = format!(
                "the segment {older} is older than the first one was when {} was saved: it was put back, or copied from another log",
                path.display()
            );
            let finding = self.warning(FindingKind::UntrueMark, &folder, why).advice(
                "compare the log with a backup: readers return the events of older segments, and a resume from this checkpoint is a \
                 CursorGap. A job that was deleted and begun again has both logs in a copy that keeps deleted files",
            );
            return self.report(finding);
        }
        let Some(why) = lacks else { return };
        let (what, lost, advice) = match document.phase() {
            None => (
                "the job was finished behind the end of its log",
                "events that were stored before the job was finished",
                format!(
                    "`prodigy-storage job finish {} {}`",
                    shell_flags([("--repo", job.repo.as_str())]),
                    shell_operands([job.job.as_str()])
                ),
            ),
            Some(phase) => {
                let of_job = shell_flags_of(job);
                let flags = format!("{of_job} {}", shell_flags([("--phase", phase.to_string())]));
                (
                    "the checkpoint is ahead of its log",
                    "events that were stored before this checkpoint; its state contains what they led to",
                    format!(
                        "save its state, which `prodigy-storage checkpoint show {flags} --payload` prints, with the position that \
                         `prodigy-storage events end {of_job}` prints: `prodigy-storage checkpoint save {flags} --cursor POSITION FILE`; \
                         then `prodigy-storage checkpoint prune {flags} --keep 1`"
                    ),
                )
            }
        };
        let advice = format!("compare the log with a backup; if the events are lost, {advice}");
        let mut finding = self
            .damage(FindingKind::MissingEvents, path, format!("{what}: {why}"))
            .lost(lost)
            .advice(advice);
        if self.repairs() {
            finding.outcome = FindingOutcome::Left {
                why: "events that are gone are in no file of the store".into(),
            };
        }
        self.report(finding);
    }

    /// Counts a file of another program at a path that the layout defines.
    pub(super) fn foreign(&mut self, group: Group, path: &Path) {
        self.summary.files += 1;
        self.group(group, path);
    }

    fn damaged_document(&mut self, document: &Document, path: &Path, why: &str) {
        let kind = match document {
            Document::Repository(_) => FindingKind::Registry,
            _ => FindingKind::DamagedDocument,
        };
        let len = self.root.fs.metadata(path).map_or(0, |found| found.len);
        if is_mark_of_copy(document) {
            let finding = self
                .damage(kind, path, why)
                .at(0, len)
                .lost("the name of the store that was copied here: the copy has not ended, and data may be missing")
                .advice(
                    "make the copy again, which continues and takes the mark away; if the data is enough as it is, \
                     `prodigy-storage copy --reopen` takes it away",
                );
            let outcome = match self.repairs() {
                true => FindingOutcome::Left {
                    why: "without the mark nothing says that data may be missing".into(),
                },
                false => FindingOutcome::Found,
            };
            return self.report(finding.outcome(outcome));
        }
        let (lost, advice) = loss_and_advice(document);
        let finding = self.damage(kind, path, why).at(0, len).lost(lost).advice(advice);
        if !self.repairs() {
            return self.report(finding);
        }
        let repaired = self.repair_document(document, path);
        self.report_repaired(finding, &repaired);
    }

    fn repair_document(&self, document: &Document, path: &Path) -> Result<Option<String>> {
        let (root, documents) = (self.root, &self.parts.documents);
        root.prepare_write(REPAIR, &path.display())?;
        let _lock = documents.lock_documents(document, REPAIR, self.deadline())?;
        // Reads the document again under the lock, since a writer may have replaced it.
        let why = match documents.look(REPAIR, path)? {
            DocumentRead::Damaged(error, _) => error.why().to_owned(),
            DocumentRead::Valid(found) => match misshapen(document, &found) {
                Some(why) => why.to_owned(),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let kept = keep_file(root, path, &why)?;
        if let Document::Repository(repo) = document {
            let entry = LostEntry {
                name: repo.as_str(),
                identity: format!("/{LOST}/{kept}"),
                kind: LOST,
                registered_at: root.now(),
            };
            let mut buffer = Vec::new();
            let body =
                Body::write(&mut buffer, &entry).map_err(|fault| fault.refused(REPAIR, path.display()))?;
            documents.write_document(REPAIR, path, body, Replace::Over, Durability::Strict)?;
            return Ok(Some(kept));
        }
        root.fs
            .unlink(path)
            .map_err(|error| root.write_fault(REPAIR, path, error))?;
        root.sync_folder(path.parent().unwrap_or(Path::new("")))?;
        if let Document::Fencing(job) = document {
            // The deadline limits only waits for locks. The lock is already held, so none is needed here.
            let of_events = self.marks_of_events(job)?;
            documents.restore_marks(job, of_events, Deadline::never())?;
        }
        Ok(Some(kept))
    }

    /// The greatest fencing tokens in the events of a job.
    fn marks_of_events(&self, job: &JobAddress) -> Result<FenceMarks> {
        let mut marks = FenceMarks::default();
        let logs = Logs::new(Arc::clone(self.root));
        let mut scan = logs.scan(job, &ScanOptions::all(), Deadline::never())?;
        while let Some(item) = scan.next()? {
            if let ScanItem::Record(record) = item
                && let Ok(parsed) = record.parse_event::<IgnoredAny>()
                && let Some(fence) = parsed.fence.filter(|_| record.verified)
            {
                marks.raise(&fence);
            }
        }
        Ok(marks)
    }

    /// Compares the fencing marks of a job with the locks. If a lock file was removed or restored from a backup, the
    /// lock issues tokens below the marks, and saves under them are refused.
    fn marks(&mut self, path: &Path, body: &[u8]) {
        let Ok(marks) = FenceMarks::parse(body) else {
            return;
        };
        for (lock, mark) in marks.named() {
            let newest = match self.parts.locks.newest_token(lock) {
                Ok(newest) if newest < mark => newest,
                Ok(_) => continue,
                Err(error) => {
                    self.unreadable(&Entry::Lock(lock.clone()).path(), &error);
                    continue;
                }
            };
            let why = format!(
                "the fencing mark of lock {lock} is {mark}, and the newest token of the lock is {newest}: its lock file was \
                 removed or restored, or the token {mark} is not from a lock"
            );
            let can_be_raised = mark < u64::MAX;
            let mut finding = self
                .warning(FindingKind::LockBehindMark, path, why)
                .lost("nothing; saves under a token of this lock below the mark are refused")
                .advice(match can_be_raised {
                    true => "end the holders of the lock; repair raises its tokens above the mark, for those who take it from then on",
                    false => "no token is greater than the mark, so no repair can raise the lock above it: end all writers of the job, \
                              then replace the file by `{\"marks\":[]}`",
                });
            if self.repairs() && can_be_raised {
                let raised = self.raise_token(lock, mark);
                self.report_repaired(finding, &raised);
            } else {
                if self.repairs() {
                    finding.outcome = FindingOutcome::Left {
                        why: "no token is greater than the mark".into(),
                    };
                }
                self.report(finding);
            }
        }
    }

    /// Takes a lock once with a token above the fencing mark, so that its later tokens are above the mark too.
    fn raise_token(&self, lock: &LockName, mark: u64) -> Result<Option<String>> {
        let options = LockOptions::new("repair");
        let locks = &self.parts.locks;
        locks
            .lock_above(lock, &options, mark, self.deadline())?
            .release()?;
        Ok(None)
    }

    /// Checks the contents of a registry entry.
    fn registered(&mut self, repo: &RepoName, path: &Path, body: &[u8]) {
        let hint = format!(
            "{}; only if the repository is gone for good: `prodigy-storage repo unregister --yes {}` frees the name and keeps the data",
            relink(repo),
            shell_operands([repo.as_str()])
        );
        let why = match serde_json::from_slice::<Registered>(body) {
            Ok(entry) if entry.kind == LOST => Some("the entry was damaged, and is kept in the quarantine"),
            Ok(Registered {
                identity: Some(identity),
                name: Some(name),
                file_id,
                born,
                ..
            }) => {
                let evidence = Evidence {
                    path: identity.into(),
                    file_id,
                    born,
                    origin: None,
                };
                self.registry.push((evidence, repo.clone()));
                if name != repo.as_str() {
                    let why = format!("it was registered as `{name}`: it was moved or copied by hand");
                    let finding = self
                        .warning(FindingKind::Registry, path, why)
                        .lost("no data: only the repository of the name; its commands fail until the entry is right")
                        .advice("`prodigy-storage repo list` shows which of the two names has data");
                    return self.report(finding);
                }
                None
            }
            _ => Some("it does not name its repository"),
        };
        if let Some(why) = why {
            let finding = self
                .warning(FindingKind::Registry, path, why)
                .lost("no data: only the repository of the name")
                .advice(hint);
            self.report(finding);
        }
    }

    /// Reports repositories that are registered twice. Two entries with the same path are different repositories if
    /// their inodes or birth times differ, as in two containers that share a root.
    pub(super) fn same_identities(&mut self) {
        let mut registry = std::mem::take(&mut self.registry);
        registry.sort_by(|(one, first), (other, second)| {
            (&one.path, one.born, first).cmp(&(&other.path, other.born, second))
        });
        for pair in registry.windows(2) {
            if let [(one, first), (other, second)] = pair
                && matches!(one.relation(other), Relation::Same | Relation::Incomplete)
            {
                let path = Document::Repository(second.clone()).path();
                let why = format!(
                    "`{first}` and `{second}` name the same repository, {}",
                    one.path.display()
                );
                let finding = self
                    .warning(FindingKind::Registry, &path, why)
                    .advice("check which of the two holds data; `repo relink NAME PATH` leaves one of them");
                self.report(finding);
            }
        }
    }

    /// Examines a lock file whose one line only describes the last holder.
    pub(super) fn information(&mut self, path: &Path) {
        if self.root.holder_is_unreadable(path) {
            let finding = self
                .note(FindingKind::DamagedLock, path, "it does not say who held it")
                .advice(
                    "nothing: the kernel decides who holds a lock; the next holder writes the line again",
                );
            self.report(finding);
        }
    }
}

/// The advice that gives a name, with its data, to its repository.
fn relink(repo: &RepoName) -> String {
    format!(
        "with the folder of the repository: `prodigy-storage repo relink {}`",
        shell_operands([repo.as_str(), "PATH"])
    )
}

/// Describes the data that is lost if a document is lost, and gives advice.
/// True for the mark that a copy into this store was begun and has not ended.
fn is_mark_of_copy(document: &Document) -> bool {
    match document {
        Document::Own(DocumentOwner::Repo(repo), _, name) => {
            repo.as_str() == RepoName::PROBE && name.as_str().starts_with("copy-")
        }
        _ => false,
    }
}

fn loss_and_advice(document: &Document) -> (&'static str, String) {
    let restore = "repair moves it to the quarantine; restore it from a backup if you have one";
    match document {
        Document::Repository(repo) => (
            "no data: only the repository of the name",
            format!("repair keeps the name; then, {}", relink(repo)),
        ),
        Document::Finished(_) => (
            "the mark that the job is over",
            "repair moves it to the quarantine; finish the job again".into(),
        ),
        Document::Fencing(_) => (
            "perhaps the newest fencing token: fenced writes to the job are refused until the file is repaired",
            "end the holders of older locks; repair takes the marks from the tokens in the job's documents and events"
                .into(),
        ),
        Document::Orphans(_) => ("the record of the job's orphaned worktrees", restore.into()),
        Document::Own(..) => (
            "this document: its name is free again once it is repaired",
            restore.into(),
        ),
        _ if document.phase() == Some(Phase::Setup) => ("the setup checkpoint", restore.into()),
        _ => (
            "this checkpoint: the one before it is used",
            format!("nothing has to be done to continue; {restore}"),
        ),
    }
}
