//! Counts data that readers skip, because another program wrote it in an unknown form.
//!
//! Each reader reports skipped data to [`Foreign`], which counts it, and logs one warning per kind through
//! `tracing`. The counts are the counters `foreign.*` of [`Stats`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::report::Stats;

/// The number of files and folders whose counts are remembered, so that their data is counted once. Data at any
/// further place is counted at each read.
const MOST_PLACES: usize = 4096;

/// A kind of data that another program keeps in the root and that readers skip.
///
/// ```
/// use prodigy_storage_backend::ForeignKind;
///
/// assert_eq!(ForeignKind::DeadLetters.describe(3), "3 dead letters of another program");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ForeignKind {
    /// Files in the folder of a log whose names are not those of segments.
    EventFiles,
    /// Lines in another program's event files that are not events.
    EventLines,
    /// Files in the folder of a job's checkpoints whose names or forms are not those of checkpoints.
    Checkpoints,
    /// Files with dead letters beside the file of the queue.
    DeadLetters,
    /// Lists of orphaned worktrees in an unknown form.
    OrphanLists,
    /// Folders in the folder of worktrees that are not worktrees of sessions.
    Worktrees,
    /// Things of a wrong type, such as a link at the path of a file of the store.
    OtherThings,
}

impl ForeignKind {
    /// All kinds of foreign data.
    pub const ALL: [Self; 7] = [
        Self::EventFiles,
        Self::EventLines,
        Self::Checkpoints,
        Self::DeadLetters,
        Self::OrphanLists,
        Self::Worktrees,
        Self::OtherThings,
    ];

    /// The name of the counter for this kind in [`Stats`].
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::EventFiles => "foreign.event_files",
            Self::EventLines => "foreign.event_lines",
            Self::Checkpoints => "foreign.checkpoints",
            Self::DeadLetters => "foreign.dead_letters",
            Self::OrphanLists => "foreign.orphan_lists",
            Self::Worktrees => "foreign.worktrees",
            Self::OtherThings => "foreign.other_things",
        }
    }

    /// Describes `count` pieces of such data in words.
    ///
    /// ```
    /// use prodigy_storage_backend::ForeignKind;
    ///
    /// assert_eq!(ForeignKind::DeadLetters.describe(3), "3 dead letters of another program");
    /// ```
    #[must_use]
    pub fn describe(self, count: u64) -> String {
        let (one, many) = match self {
            Self::EventFiles => ("event file", "event files"),
            Self::EventLines => (
                "line that is not an event, in an event file",
                "lines that are not events, in event files",
            ),
            Self::Checkpoints => ("file with the state of a job", "files with the state of jobs"),
            Self::DeadLetters => ("dead letter", "dead letters"),
            Self::OrphanLists => ("list of orphaned worktrees", "lists of orphaned worktrees"),
            Self::Worktrees => (
                "folder that is not a session's worktree",
                "folders that are not a session's worktrees",
            ),
            Self::OtherThings => {
                let what = match count {
                    1 => "link or other thing",
                    _ => "links or other things",
                };
                return format!("{count} {what} at the path of a file or a folder of the store");
            }
        };
        let what = if count == 1 { one } else { many };
        format!("{count} {what} of another program")
    }
}

/// The skipped data in one file or folder.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u64,
    /// The offset in the file up to which skipped lines are counted.
    upto: u64,
}

#[derive(Debug, Default)]
struct Counts {
    seen: HashMap<(ForeignKind, PathBuf), Seen>,
    /// The counts for files and folders that are not remembered, since there are too many.
    beyond: HashMap<ForeignKind, u64>,
    /// The kinds for which a warning was logged.
    warned: Vec<ForeignKind>,
}

/// Counts the data that the readers of a handle skipped.
///
/// ```
/// use std::path::Path;
/// use prodigy_storage_backend::{Foreign, ForeignKind, Stats};
///
/// let foreign = Foreign::default();
/// for _ in 0..2 {
///     foreign.skip(ForeignKind::Worktrees, Path::new("worktrees/shop"), 3); // the same place, read twice
/// }
/// let mut stats = Stats::default();
/// foreign.add_to(&mut stats);
/// assert_eq!(stats.get(ForeignKind::Worktrees.counter()), 3);
/// ```
#[derive(Debug, Default)]
pub struct Foreign(Mutex<Counts>);

impl Foreign {
    /// Counts `count` pieces of data that a reader skipped at a place. If the place is read again, the greatest
    /// count is used.
    pub fn skip(&self, kind: ForeignKind, place: &Path, count: u64) {
        if count > 0 {
            self.note(kind, place, count, |seen| seen.count = seen.count.max(count));
        }
    }

    /// Counts a range of a file that a reader skipped. A range that is read again counts once.
    pub fn skip_line(&self, kind: ForeignKind, file: &Path, offset: u64, len: u64) {
        self.note(kind, file, 1, |seen| {
            if offset >= seen.upto {
                seen.count += 1;
                seen.upto = offset + len.max(1);
            }
        });
    }

    fn note(&self, kind: ForeignKind, place: &Path, count: u64, note: impl FnOnce(&mut Seen)) {
        let mut counts = self.0.lock();
        if !counts.warned.contains(&kind) {
            counts.warned.push(kind);
            tracing::warn!(
                kind = kind.counter(),
                place = %place.display(),
                count,
                "another program's data is skipped"
            );
        }
        let is_full = counts.seen.len() >= MOST_PLACES;
        let key = (kind, place.to_owned());
        if is_full && !counts.seen.contains_key(&key) {
            *counts.beyond.entry(kind).or_default() += count;
        } else {
            note(counts.seen.entry(key).or_default());
        }
    }

    /// Adds the counts to the counters of `stats`, for each kind that was skipped.
    pub fn add_to(&self, stats: &mut Stats) {
        let counts = self.0.lock();
        for ((kind, _), seen) in &counts.seen {
            stats.add(kind.counter(), seen.count);
        }
        for (kind, count) in &counts.beyond {
            stats.add(kind.counter(), *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(foreign: &Foreign, kind: ForeignKind) -> u64 {
        let mut stats = Stats::default();
        foreign.add_to(&mut stats);
        stats.get(kind.counter())
    }

    #[test]
    fn what_is_read_again_counts_once() {
        let foreign = Foreign::default();
        for count in [2, 3, 1] {
            foreign.skip(ForeignKind::DeadLetters, Path::new("a"), count);
        }
        foreign.skip(ForeignKind::DeadLetters, Path::new("b"), 4);
        foreign.skip(ForeignKind::DeadLetters, Path::new("c"), 0);
        assert_eq!(counted(&foreign, ForeignKind::DeadLetters), 7);
        for (offset, len) in [(0, 9), (10, 5), (0, 9), (10, 5), (20, 0), (20, 0)] {
            foreign.skip_line(ForeignKind::EventLines, Path::new("a"), offset, len);
        }
        assert_eq!(counted(&foreign, ForeignKind::EventLines), 3);
        assert_eq!(counted(&foreign, ForeignKind::Checkpoints), 0);
    }

    #[test]
    fn a_bounded_number_of_places_is_remembered_and_every_one_counts() {
        let foreign = Foreign::default();
        for place in 0..MOST_PLACES + 10 {
            foreign.skip(ForeignKind::Checkpoints, Path::new(&place.to_string()), 1);
        }
        assert_eq!(foreign.0.lock().seen.len(), MOST_PLACES);
        assert_eq!(
            counted(&foreign, ForeignKind::Checkpoints),
            MOST_PLACES as u64 + 10
        );
    }
}
