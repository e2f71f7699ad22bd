//! The report of the doctor.

use prodigy_storage_layout::{JobId, RepoName};
use serde::Serialize;

/// The data to examine; `Default` is the whole root.
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
    /// Only this repository's data.
    pub repo: Option<RepoName>,
    /// Only this job's data, of the repository or of each.
    pub job: Option<JobId>,
}

impl DoctorScope {
    /// The whole root.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only this repository's data.
    #[must_use]
    pub fn repo(mut self, repo: RepoName) -> Self {
        self.repo = Some(repo);
        self
    }

    /// Only this job's data.
    #[must_use]
    pub fn job(mut self, job: JobId) -> Self {
        self.job = Some(job);
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
    /// Bytes differ from the written ones, or are not where they were written.
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
    /// Bytes of a log that are no record.
    DamagedEvents,
    /// A compressed segment that does not decompress, or not to what its header says.
    DamagedArchive,
    /// Bytes of a dead-letter queue that are no item.
    DamagedItems,
    /// A checkpoint, a record of orphans or a mark that is not what was written.
    DamagedDocument,
    /// A registry entry that is damaged, or lost, or does not fit its place.
    Registry,
    /// A lock file that is not what was written.
    DamagedLock,
    /// A lock whose tokens began again below the fencing mark of a job.
    LockBehindMark,
    /// `format.json` is not what was written.
    DamagedFormat,
    /// The snapshot of the memory backend is not what was written.
    DamagedSnapshot,
    /// Data without a checksum: another program wrote it, or its checksum is damaged.
    Unverified,
    /// The end of a write that was cut short. The next writer mends it.
    TornEnd,
    /// A file that a writer makes before it renames it, or that a dead one left.
    Temporary,
    /// A segment in two forms.
    TwoForms,
    /// An event, an item or a document that is larger than this reader's limit.
    OverLimit,
    /// The newest id of a log is more than an hour ahead of the clock.
    AheadOfClock,
    /// A job whose deletion was begun and has not ended.
    UnfinishedDeletion,
    /// Permission bits that are not those that the backend sets.
    Mode,
    /// Two repositories, or two jobs of one, whose names differ by case only.
    NameCollision,
    /// A name that the layout does not have.
    Stray,
    /// Files of another program. They are left as they are.
    Foreign,
    /// A file of another program whose contents were imported, and that was not written to since. Readers do not report it.
    Imported,
    /// A link, or another thing that is no file and no folder.
    Link,
    /// A link at the path of a folder of the store, or anything but a file at the path of a file.
    InTheWay,
    /// A document of a newer format.
    NewerFormat,
    /// The operating system refuses to read it.
    Unreadable,
}

/// The outcome of a finding.
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
    /// It is unchanged: there was nothing to repair, or no repair was asked for.
    Found,
    /// It is out of the way.
    Repaired {
        /// The copy of the bytes in the quarantine, where any were taken from their place.
        kept: Option<String>,
    },
    /// A repair was asked for and not made.
    Left {
        /// Why.
        why: String,
    },
}

/// One thing that was found.
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
    /// The severity.
    pub severity: FindingSeverity,
    /// The kind.
    pub kind: FindingKind,
    /// The file, or folder.
    pub place: String,
    /// How many files or folders it is about: `place` is the first of them.
    pub count: u64,
    /// Where in it; uncompressed, of a compressed segment.
    pub offset: u64,
    /// The number of bytes; 0 if it is not known.
    pub len: u64,
    /// The fault.
    pub why: String,
    /// The data that is lost by it.
    pub lost: String,
    /// The remedy.
    pub advice: String,
    /// The outcome.
    pub outcome: FindingOutcome,
}

impl Finding {
    /// A finding about a file or folder. It lost nothing, and nothing has to be done about it.
    #[must_use]
    pub fn new(severity: FindingSeverity, kind: FindingKind, place: String, why: impl Into<String>) -> Self {
        Self {
            severity,
            kind,
            place,
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

    /// Sets the data that is lost by it.
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

    /// Whether it is damage that is still there.
    #[must_use]
    pub fn is_damage_left(&self) -> bool {
        self.severity == FindingSeverity::Damage && !matches!(self.outcome, FindingOutcome::Repaired { .. })
    }
}

/// The numbers of an examination.
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
    /// Files that were examined.
    pub files: u64,
    /// Records of logs whose checksum holds.
    pub events: u64,
    /// Items of queues.
    pub items: u64,
    /// Documents that are as they were written, or another program's.
    pub documents: u64,
    /// Harmless findings.
    pub notes: u64,
    /// Findings that somebody should look at.
    pub warnings: u64,
    /// Damage that was found.
    pub damage: u64,
    /// Findings, of any severity, that were repaired.
    pub repaired: u64,
    /// Damage that is still there.
    pub left: u64,
    /// Findings, of any severity, whose repair was asked for and not made.
    pub unrepaired: u64,
    /// Files and folders that this user may not read: what is in them was not examined.
    pub unread: u64,
}

impl DoctorSummary {
    /// Whether no damage is there, or none any more.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left == 0
    }

    /// Counts a finding.
    pub fn count(&mut self, finding: &Finding) {
        match finding.severity {
            FindingSeverity::Note => self.notes += 1,
            FindingSeverity::Warning => self.warnings += 1,
            FindingSeverity::Damage => self.damage += 1,
        }
        let is_unread =
            finding.kind == FindingKind::Unreadable && finding.severity == FindingSeverity::Warning;
        self.unread += u64::from(is_unread);
        self.repaired += u64::from(matches!(finding.outcome, FindingOutcome::Repaired { .. }));
        self.left += u64::from(finding.is_damage_left());
        self.unrepaired += u64::from(matches!(finding.outcome, FindingOutcome::Left { .. }));
    }
}
