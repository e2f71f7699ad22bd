//! Groups similar files into one finding each: files of other programs, and folders with wrong permission bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{DLQ, EVENTS, STATE};

use super::finding::{FindingKind, FindingSeverity};
use super::walk::Examination;

/// A kind of files or folders that is reported in one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    FolderMode,
    EventFiles,
    OtherEventFiles,
    EventLines,
    DeadLetters,
    Items,
    Elements,
    Queues,
    OrphanLists,
    Checkpoints,
    Documents,
    Unreadable,
    OverLimit,
    JobState,
    Stray,
}

/// The number of files in a group, and the path of the first.
#[derive(Debug)]
struct Tally {
    first: PathBuf,
    count: u64,
}

/// The counts of each group.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Group, Tally>);

impl Group {
    /// Chooses the group of a path that is not part of the layout.
    pub(super) fn of(path: &Path) -> Self {
        let mut parts = path.components().map(|part| part.as_os_str());
        match (parts.next(), parts.nth(2)) {
            (Some(area), Some(name))
                if area == DLQ
                    && ["mapreduce", "items", "index.json", "dlq-items.json"]
                        .iter()
                        .any(|known| name == *known) =>
            {
                Self::DeadLetters
            }
            (Some(area), Some(name)) if area == EVENTS && name.to_string_lossy().contains(".jsonl") => {
                Self::OtherEventFiles
            }
            (Some(area), _) if area == STATE => Self::JobState,
            _ => Self::Stray,
        }
    }

    /// The severity and the kind, the texts for one file and for several, and the advice.
    const fn words(
        self,
    ) -> (
        FindingSeverity,
        FindingKind,
        &'static str,
        &'static str,
        &'static str,
    ) {
        const KEPT: &str = "nothing: it stays as it is, for the program that wrote it";
        const IMPORT: &str = "nothing: it stays as it is, for the program that wrote it; `prodigy-storage import` stores \
                              its contents if it knows the form";
        const LETTERS: &str = "nothing: it stays as it is, for the program that wrote it; \
                               `prodigy-storage dlq import` takes its items over";
        let (one, more, advice) = match self {
            Self::FolderMode => {
                return (
                    FindingSeverity::Warning,
                    FindingKind::Mode,
                    "other users may reach into this folder",
                    "folders into which other users may reach",
                    "run `chmod 0700` on the root if no other user needs it",
                );
            }
            Self::Stray => {
                return (
                    FindingSeverity::Note,
                    FindingKind::Stray,
                    "a name that the layout does not have",
                    "names that the layout does not have",
                    "nothing reads them; move them away if you know that no program needs them",
                );
            }
            Self::EventFiles => (
                "another program's event file; it is read, and not verified",
                "event files of another program; they are read, and not verified",
                KEPT,
            ),
            Self::OtherEventFiles => (
                "another program's event file, with a name that no segment has; it is not read",
                "event files of another program, with names that no segment has; they are not read",
                IMPORT,
            ),
            Self::EventLines => (
                "another program's event file, with lines that are not read as events",
                "event files of another program, with lines that are not read as events",
                KEPT,
            ),
            Self::DeadLetters => (
                "a file of another program's dead letters; it is not read",
                "files of another program's dead letters; they are not read",
                LETTERS,
            ),
            Self::Items => (
                "another program's queue of dead letters; it is read, and the next change of the queue converts it to the store's format",
                "queues of dead letters of another program; they are read, and the next change of a queue converts it to the store's format",
                KEPT,
            ),
            Self::Elements => (
                "a queue of dead letters with elements of another program, which are skipped and kept",
                "queues of dead letters with elements of another program, which are skipped and kept",
                KEPT,
            ),
            Self::Queues => (
                "another program's file at the path of a queue of dead letters; what is not an item is skipped, and the queue is not changed",
                "files of another program at the paths of queues of dead letters; what is not an item is skipped, and the queues are not changed",
                IMPORT,
            ),
            Self::OrphanLists => (
                "another program's list of orphaned worktrees; it is read, and not changed",
                "lists of orphaned worktrees of another program; they are read, and not changed",
                KEPT,
            ),
            Self::Checkpoints => (
                "another program's checkpoint; it is read, and not verified",
                "documents of another program; they are read, and not verified",
                KEPT,
            ),
            Self::Documents => (
                "a document that carries no checksum, as one written by hand; it is read, and not verified",
                "documents that carry no checksum, as ones written by hand; they are read, and not verified",
                "nothing; the next put converts it to the store's format",
            ),
            Self::Unreadable => (
                "another program's file, which is not read: it has none of our marks, and is not an object",
                "files of another program that are not read: they have none of our marks, and are not objects",
                KEPT,
            ),
            Self::OverLimit => (
                "another program's file, which is larger than `max_document_size`; readers refuse it",
                "files of another program that are larger than `max_document_size`; readers refuse them",
                "raise `backend_config.max_document_size` if they have to be read; they stay as they are",
            ),
            Self::JobState => (
                "another program's file about a job; it is not read",
                "files of another program about jobs; they are not read",
                IMPORT,
            ),
        };
        (FindingSeverity::Note, FindingKind::Foreign, one, more, advice)
    }

    /// The severity, the kind, the text for this number of files, and the advice.
    fn texts(self, count: u64) -> (FindingSeverity, FindingKind, String, &'static str) {
        let (severity, kind, one, more, advice) = self.words();
        let why = match count {
            1 => one.to_owned(),
            _ => format!("{count} {more}; this is the first"),
        };
        (severity, kind, why, advice)
    }
}

impl Examination<'_> {
    /// Counts a file or a folder of a group.
    pub(super) fn group(&mut self, group: Group, path: &Path) {
        if self.scope.each {
            let (severity, kind, why, advice) = group.texts(1);
            let finding = self.finding(severity, kind, path, why).advice(advice);
            match self.groups.0.contains_key(&group) {
                true => (self.found)(finding),
                false => self.report(finding),
            }
        }
        let tally = self.groups.0.entry(group).or_insert_with(|| Tally {
            first: path.to_owned(),
            count: 0,
        });
        tally.count += 1;
    }

    /// Reports a finding for each group.
    pub(super) fn report_groups(&mut self) {
        for (group, tally) in std::mem::take(&mut self.groups).0 {
            if self.scope.each {
                continue;
            }
            let (severity, kind, why, advice) = group.texts(tally.count);
            let mut finding = self.finding(severity, kind, &tally.first, why).advice(advice);
            finding.count = tally.count;
            self.report(finding);
        }
    }
}
