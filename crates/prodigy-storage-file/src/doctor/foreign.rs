//! Groups similar files into one finding each: files of other programs, and folders with wrong permission bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{DLQ, EVENTS, JobId, STATE};

use super::finding::{Finding, FindingKind, FindingSeverity};
use super::walk::Examination;
use crate::fs::OpenMode;
use crate::root::is_zstd;

/// True if a folder or a file that names a repository, a job or a document at this path has a name that is not allowed. All names are
/// under the same rules.
fn has_refused_name(path: &Path) -> bool {
    let parts: Vec<&str> = path.iter().skip(1).filter_map(|part| part.to_str()).collect();
    let Some((file, folders)) = parts.split_last() else {
        return false;
    };
    // Files in the folder of a job name nothing.
    let named = match path.iter().next().and_then(|area| area.to_str()) {
        Some("sessions") => file.strip_suffix(".json"),
        Some(STATE) if folders.last() == Some(&"mappings") => file.strip_suffix(".json"),
        _ => None,
    };
    folders
        .iter()
        .copied()
        .chain(named)
        .any(|name| JobId::new(name).is_err())
}

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
    RefusedNames,
    Stray,
}

/// The number of files in a group, and the paths of the first.
#[derive(Debug, Default)]
struct Tally {
    paths: Vec<PathBuf>,
    count: u64,
}

/// The counts of each group.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Group, Tally>);

impl Group {
    /// The advice about stray names where there are files of another program, whose names they may be.
    const OF_ANOTHER: &str = "this store reads none of them; another program keeps files in this folder and may use them: move them away \
                              if you know that it does not";

    /// True if a file of this group shows that another program writes to the root.
    fn is_of_another(self) -> bool {
        self.words().1 == FindingKind::Foreign && self != Self::Documents
    }

    /// Chooses the group of a path that is not part of the layout. A file is another program's if the tool's `import` knows what such a
    /// path holds, and leaves out where it is under a name that the store does not take.
    pub(super) fn of(path: &Path) -> Self {
        match Self::known(path) {
            Self::OtherEventFiles | Self::DeadLetters | Self::JobState if has_refused_name(path) => {
                Self::RefusedNames
            }
            group => group,
        }
    }

    fn known(path: &Path) -> Self {
        let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
        let is_letter = |rest: &[&str]| match rest {
            [.., "items", file] => file.ends_with(".json"),
            [.., file] => ["index.json", "dlq-items.json"].contains(file),
            [] => false,
        };
        let is_state = |file: &str| {
            let ends = [".json", ".json.gz", ".json.zst", ".checkpoint.gz"];
            ends.iter().any(|end| file.ends_with(end))
        };
        match parts.as_deref().unwrap_or_default() {
            [area, _, _, file] if *area == EVENTS && file.contains(".jsonl") => Self::OtherEventFiles,
            [area, _, _, rest @ ..] if *area == DLQ && is_letter(rest) => Self::DeadLetters,
            [area, _, "mapreduce", "jobs", _, file] | [area, "mapreduce", "jobs", _, file]
                if *area == STATE && is_state(file) =>
            {
                Self::JobState
            }
            [area, "reduce_checkpoints", _, file] | [area, _, "mappings", file]
                if *area == STATE && file.ends_with(".json") =>
            {
                Self::JobState
            }
            [area, .., "mapreduce", "dlq", _, "items", file] if *area == STATE && file.ends_with(".json") => {
                Self::DeadLetters
            }
            [area, .., "mapreduce", "dlq", _, "index.json"] if *area == STATE => Self::DeadLetters,
            ["sessions", file] if file.ends_with(".json") => Self::JobState,
            ["resume_locks", file] if file.ends_with(".lock") => Self::JobState,
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
            Self::RefusedNames => (
                "another program's file under a name that this store does not take; it is not read",
                "files of another program under names that this store does not take; they are not read",
                "nothing: it stays as it is, for the program that wrote it; to store its contents, copy the root, give the file or folder \
                 another name in the copy, and import the copy, which says what is wrong with a name",
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
    /// The group of a file that is not part of the layout: a stray one if what it holds is no data of another program.
    pub(super) fn group_of(&self, path: &Path) -> Group {
        match Group::of(path) {
            Group::Stray => Group::Stray,
            _ if self.is_text(path) => Group::Stray,
            group => group,
        }
    }

    /// True for a file that is neither JSON nor compressed. A file that can't be read is not judged.
    fn is_text(&self, path: &Path) -> bool {
        const GZIP: &[u8] = &[0x1f, 0x8b];
        let mut head = [0; 512];
        let file = self.root.fs.open(path, OpenMode::Read);
        let Ok(len) = file.and_then(|file| file.read_at(&mut head, 0)) else {
            return false;
        };
        let head = head.get(..len).unwrap_or_default();
        let is_json = matches!(head.trim_ascii_start().first(), Some(b'{' | b'['));
        !is_json && !head.starts_with(GZIP) && !is_zstd(head)
    }

    /// Counts a file or a folder of a group.
    pub(super) fn group(&mut self, group: Group, path: &Path) {
        self.is_shared |= group.is_of_another();
        // The advice about stray names depends on all other files.
        if self.scope.each && group != Group::Stray {
            let (severity, kind, why, advice) = group.texts(1);
            let finding = self.finding(severity, kind, path, why).advice(advice);
            return self.report(finding);
        }
        let tally = self.groups.0.entry(group).or_default();
        if tally.paths.len() < Finding::NAMED || self.scope.each {
            tally.paths.push(path.to_owned());
        }
        tally.count += 1;
    }

    /// Reports a finding for each group.
    pub(super) fn report_groups(&mut self) {
        for (group, tally) in std::mem::take(&mut self.groups).0 {
            let each = self.scope.each;
            let (severity, kind, why, advice) = group.texts(if each { 1 } else { tally.count });
            let advice = match group {
                Group::Stray if self.is_shared => Group::OF_ANOTHER,
                _ => advice,
            };
            for path in tally.paths.iter().filter(|_| each) {
                let finding = self.finding(severity, kind, path, why.as_str());
                self.report(finding.advice(advice));
            }
            if each {
                continue;
            }
            let first = tally.paths.first().map_or(Path::new(""), PathBuf::as_path);
            let mut finding = self.finding(severity, kind, first, why).advice(advice);
            finding.paths = tally.paths.iter().map(|path| self.root.absolute(path)).collect();
            finding.count = tally.count;
            self.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_an_import_knows_are_no_stray_ones() {
        for path in [
            "sessions/s.json",
            "resume_locks/j.lock",
            "state/reduce_checkpoints/j/reduce-checkpoint-v1-1.json",
            "state/shop/mappings/m.json",
        ] {
            assert_eq!(Group::of(Path::new(path)), Group::JobState, "{path}");
        }
        for path in ["sessions/notes.txt", "resume_locks/deep/j.lock", "other/s.json"] {
            assert_eq!(Group::of(Path::new(path)), Group::Stray, "{path}");
        }
    }
}
