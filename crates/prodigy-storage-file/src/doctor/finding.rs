//! The findings of the doctor, and their summary.

use std::path::{Path, PathBuf};

use prodigy_storage_layout::{JobId, RepoName};
use serde::Serialize;

/// The data to examine; the default is the whole root.
///
/// ```
/// use prodigy_storage_file::DoctorScope;
/// use prodigy_storage_layout::{JobId, RepoName};
///
/// let scope = DoctorScope::all().repo(RepoName::new("shop")?).job(JobId::new("mapreduce-7")?);
/// assert!(scope.job.is_some());
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoctorScope {
    /// The name of the repository to examine; `None` for all.
    pub repo: Option<RepoName>,
    /// The job to examine, in the chosen repository or in every one; `None` for all jobs.
    pub job: Option<JobId>,
    /// True if each file of a group of similar ones is a finding of its own; otherwise one finding counts them.
    pub each: bool,
}

impl DoctorScope {
    /// The whole root.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Limits the scope to this repository.
    #[must_use]
    pub fn repo(mut self, repo: RepoName) -> Self {
        self.repo = Some(repo);
        self
    }

    /// Limits the scope to this job.
    #[must_use]
    pub fn job(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    /// Reports each file of a group of similar ones, such as strays, as a finding of its own. The summary counts each file in either
    /// case.
    #[must_use]
    pub fn each(mut self, each: bool) -> Self {
        self.each = each;
        self
    }

    /// True if the whole root is examined.
    pub(super) fn is_all(&self) -> bool {
        self.repo.is_none() && self.job.is_none()
    }
}

/// The severity of a finding.
///
/// ```
/// use prodigy_storage_file::FindingSeverity;
///
/// assert!(FindingSeverity::Note < FindingSeverity::Warning && FindingSeverity::Warning < FindingSeverity::Damage);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingSeverity {
    /// Harmless: reported for completeness.
    Note,
    /// Nothing is damaged, but a person should look at it.
    Warning,
    /// Bytes differ from what was written, or are missing.
    Damage,
}

/// The kind of a finding.
///
/// ```
/// use prodigy_storage_file::{Finding, FindingKind};
///
/// fn is_torn(finding: &Finding) -> bool {
///     finding.kind == FindingKind::TornEnd
/// }
/// # let _ = is_torn;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Bytes of a log that are not a valid record.
    DamagedEvents,
    /// A compressed segment that can't be decompressed, or whose contents differ from its header.
    DamagedArchive,
    /// Bytes of a dead-letter queue that are not a valid item.
    DamagedItems,
    /// A checkpoint, a record of orphans or a mark that differs from what was written.
    DamagedDocument,
    /// A registry entry that is damaged, missing, or at the wrong place.
    Registry,
    /// A lock file that differs from what was written.
    DamagedLock,
    /// A lock whose next tokens are not above the fencing mark of a job.
    LockBehindMark,
    /// A `format.json` that differs from what was written. A repair writes it again.
    DamagedFormat,
    /// A `format.json` that is too damaged for a repair: it has to be restored, or moved away.
    UnknownFormat,
    /// A snapshot file of the memory backend that differs from what was written.
    DamagedSnapshot,
    /// Data without a checksum: another program wrote it, or the checksum itself is damaged.
    Unverified,
    /// The end of an interrupted write. The next writer removes it.
    TornEnd,
    /// A temporary file. Its writer may still be at work, or may have died.
    Temporary,
    /// A segment that exists both compressed and uncompressed.
    TwoForms,
    /// An event, item or document above this reader's size limit.
    OverLimit,
    /// A checkpoint that refers to a position in the log beyond its last event: events are missing.
    MissingEvents,
    /// A segment whose events stand in another order than they were stored in.
    OutOfOrder,
    /// The newest id of a log is more than an hour ahead of the clock.
    AheadOfClock,
    /// A mark of sealed or removed segments (a `.sealed-…` or `.removed-…` file) that does not belong to the log, or is
    /// untrue.
    UntrueMark,
    /// A mark of removed segments (a `.removed-…` file) that hides segments whose files are all here.
    HiddenEvents,
    /// A job whose deletion was started and has not ended.
    UnfinishedDeletion,
    /// A mark that a job or repository was moved to another store, so that this store accepts no more writes to it.
    Moved,
    /// Permission bits that differ from those that the backend sets.
    Mode,
    /// Two repositories, or two jobs of a repository, whose names differ only in case.
    NameCollision,
    /// A folder that has files, and none of a store: its path may be mistyped.
    NoStore,
    /// Data of the store under a name that nothing reads, such as in a folder that was renamed.
    Displaced,
    /// A name that is not part of the layout.
    Stray,
    /// Files of another program. The doctor never changes them.
    Foreign,
    /// A file of another program whose contents were imported, and that has not changed since. Readers do not report
    /// it.
    Imported,
    /// A link, or another thing that is neither a file nor a folder.
    Link,
    /// A link at the path of a folder, or anything other than a file at the path of a file.
    InTheWay,
    /// A document of a newer format.
    NewerFormat,
    /// Data that the operating system does not let this process read.
    Unreadable,
}

impl FindingKind {
    /// All kinds, for a program that has advice for each.
    ///
    /// ```
    /// use prodigy_storage_file::FindingKind;
    ///
    /// assert!(FindingKind::ALL.contains(&FindingKind::Stray));
    /// ```
    pub const ALL: [Self; 33] = [
        Self::DamagedEvents,
        Self::DamagedArchive,
        Self::DamagedItems,
        Self::DamagedDocument,
        Self::Registry,
        Self::DamagedLock,
        Self::LockBehindMark,
        Self::DamagedFormat,
        Self::UnknownFormat,
        Self::DamagedSnapshot,
        Self::Unverified,
        Self::TornEnd,
        Self::Temporary,
        Self::TwoForms,
        Self::OverLimit,
        Self::MissingEvents,
        Self::OutOfOrder,
        Self::AheadOfClock,
        Self::UntrueMark,
        Self::HiddenEvents,
        Self::UnfinishedDeletion,
        Self::Moved,
        Self::Mode,
        Self::NameCollision,
        Self::NoStore,
        Self::Displaced,
        Self::Stray,
        Self::Foreign,
        Self::Imported,
        Self::Link,
        Self::InTheWay,
        Self::NewerFormat,
        Self::Unreadable,
    ];
}

/// The result for a finding: repaired or not.
///
/// ```
/// use prodigy_storage_file::FindingOutcome;
///
/// fn outcome(outcome: &FindingOutcome) -> String {
///     match outcome {
///         FindingOutcome::Repaired { .. } => "repaired".into(),
///         FindingOutcome::Left { why } => format!("left: {why}"),
///         _ => "found".into(),
///     }
/// }
/// assert_eq!(outcome(&FindingOutcome::Found), "found");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingOutcome {
    /// The data is unchanged: there was nothing to repair, or no repair was requested.
    Found,
    /// The data was repaired.
    Repaired {
        /// The copy of the removed bytes in the quarantine, if bytes were removed.
        kept: Option<String>,
    },
    /// A repair was requested, but not made.
    Left {
        /// The reason.
        why: String,
    },
}

/// A finding of the doctor.
///
/// ```
/// use prodigy_storage_file::Finding;
///
/// fn print(finding: &Finding) {
///     println!("{:?} in {}", finding.kind, finding.place);
/// }
/// # let _ = print;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How serious the finding is.
    pub severity: FindingSeverity,
    /// The kind of the problem.
    pub kind: FindingKind,
    /// The path of the file or folder. In one that is not Unicode, `\xff` is a byte; [`path`](Self::path) has the bytes.
    pub place: String,
    /// The paths of the first of them; empty if `place` is the only one.
    #[serde(skip)]
    pub(super) paths: Vec<PathBuf>,
    /// The path to which the file or folder is to be moved back.
    #[serde(skip)]
    pub(super) right: Option<PathBuf>,
    /// The number of files or folders; `place` is the first of them.
    pub count: u64,
    /// The offset in the file; in a compressed segment, the offset in the uncompressed data.
    pub offset: u64,
    /// The number of bytes; 0 if unknown.
    pub len: u64,
    /// A description of the problem.
    pub why: String,
    /// The data that is lost.
    pub lost: String,
    /// Advice: how the problem can be solved.
    pub advice: String,
    /// Whether the problem was repaired.
    pub outcome: FindingOutcome,
}

impl Finding {
    /// The largest number of paths that a finding about several files has.
    pub const NAMED: usize = 20;

    /// Creates a finding about a file or folder, without lost data and without advice.
    #[must_use]
    pub fn new(severity: FindingSeverity, kind: FindingKind, place: String, why: impl Into<String>) -> Self {
        Self {
            severity,
            kind,
            place,
            paths: Vec::new(),
            right: None,
            count: 1,
            offset: 0,
            len: 0,
            why: why.into(),
            lost: "nothing".into(),
            advice: "nothing".into(),
            outcome: FindingOutcome::Found,
        }
    }

    pub(super) fn at(mut self, offset: u64, len: u64) -> Self {
        (self.offset, self.len) = (offset, len);
        self
    }

    /// Sets the data that is lost.
    #[must_use]
    pub fn lost(mut self, lost: impl Into<String>) -> Self {
        self.lost = lost.into();
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Sets the outcome.
    #[must_use]
    pub fn outcome(mut self, outcome: FindingOutcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The path of the file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.paths
            .first()
            .map_or(Path::new(&self.place), PathBuf::as_path)
    }

    /// The paths of the first files or folders, of which [`count`](Self::count) is the number: at least one, and at most
    /// [`NAMED`](Self::NAMED).
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        match self.paths.is_empty() {
            true => vec![self.path()],
            false => self.paths.iter().map(PathBuf::as_path).collect(),
        }
    }

    /// The absolute path to which the file or folder is to be moved back, for data under a wrong name whose right place is known and free.
    #[must_use]
    pub fn right_place(&self) -> Option<&Path> {
        self.right.as_deref()
    }

    /// True if it is damage that was not repaired.
    #[must_use]
    pub fn is_damage_left(&self) -> bool {
        self.severity == FindingSeverity::Damage && !matches!(self.outcome, FindingOutcome::Repaired { .. })
    }
}

/// The counts of an examination.
///
/// ```
/// use prodigy_storage_file::DoctorSummary;
///
/// fn exit_code(summary: &DoctorSummary) -> u8 {
///     if summary.is_clean() { 0 } else { 5 }
/// }
/// assert_eq!(exit_code(&DoctorSummary::default()), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DoctorSummary {
    /// The number of examined files.
    pub files: u64,
    /// The number of valid records of logs.
    pub events: u64,
    /// The number of items of queues.
    pub items: u64,
    /// The number of valid documents, and of documents of other programs.
    pub documents: u64,
    /// The number of harmless findings.
    pub notes: u64,
    /// The number of findings that a person should look at.
    pub warnings: u64,
    /// The number of findings of damage.
    pub damage: u64,
    /// The number of repaired findings of any severity.
    pub repaired: u64,
    /// The number of findings of damage that was not repaired.
    pub left: u64,
    /// The number of findings of any severity whose repair was requested and not made.
    pub unrepaired: u64,
    /// The number of files and folders that this user may not read. Their contents were not examined.
    pub unread: u64,
}

impl DoctorSummary {
    /// True if no damage remains: there was none, or all of it was repaired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left == 0
    }

    /// Counts a finding; one about several files counts as several.
    pub fn count(&mut self, finding: &Finding) {
        match finding.severity {
            FindingSeverity::Note => self.notes += finding.count,
            FindingSeverity::Warning => self.warnings += finding.count,
            FindingSeverity::Damage => self.damage += finding.count,
        }
        let is_unread =
            finding.kind == FindingKind::Unreadable && finding.severity == FindingSeverity::Warning;
        self.unread += u64::from(is_unread);
        self.repaired += u64::from(matches!(finding.outcome, FindingOutcome::Repaired { .. }));
        self.left += u64::from(finding.is_damage_left());
        self.unrepaired += u64::from(matches!(finding.outcome, FindingOutcome::Left { .. }));
    }
}

#[cfg(test)]
mod tests {
    use super::FindingKind as K;

    #[test]
    fn all_kinds_are_listed_in_their_order() {
        for (place, kind) in K::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
            // A new kind does not compile here: it belongs in `ALL`, and in the table of commands of the tool.
            match kind {
                K::DamagedEvents
                | K::DamagedArchive
                | K::DamagedItems
                | K::DamagedDocument
                | K::Registry
                | K::DamagedLock
                | K::LockBehindMark
                | K::DamagedFormat
                | K::UnknownFormat
                | K::DamagedSnapshot
                | K::Unverified
                | K::TornEnd
                | K::Temporary
                | K::TwoForms
                | K::OverLimit
                | K::MissingEvents
                | K::OutOfOrder
                | K::AheadOfClock
                | K::UntrueMark
                | K::HiddenEvents
                | K::UnfinishedDeletion
                | K::Moved
                | K::Mode
                | K::NameCollision
                | K::NoStore
                | K::Displaced
                | K::Stray
                | K::Foreign
                | K::Imported
                | K::Link
                | K::InTheWay
                | K::NewerFormat
                | K::Unreadable => {}
            }
        }
        assert_eq!(K::Unreadable as usize + 1, K::ALL.len());
    }
}
