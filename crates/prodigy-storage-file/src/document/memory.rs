//! What this process remembers of the newest documents of a folder, and when that may be trusted.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use lru::LruCache;
use parking_lot::Mutex;
use prodigy_storage_layout::{Phase, Stamp, Timestamp};

use super::few::{Below, Few};
use crate::fs::Metadata;

/// Folders that are remembered; past them the one goes that was asked for longest ago.
const FOLDERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;

/// How far back the last change of a folder has to lie for the next one to get another time. A kernel stamps by a clock
/// that steps every 10 ms at the slowest: ten steps.
const GRAIN: i64 = 100 * MILLISECOND;
/// The same where the file system seems to keep whole seconds, or every second one of them.
const COARSE_GRAIN: i64 = 3 * SECOND;

/// Which folder it is, and its last change.
///
/// The time of modification alone is none: any program can set it back. The time of change can't be set, and moves
/// with each name that comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderState {
    identity: (u64, u64),
    modified: Timestamp,
    changed: Timestamp,
}

impl FolderState {
    pub(super) fn of(folder: &Metadata) -> Self {
        Self {
            identity: folder.identity,
            modified: folder.modified,
            changed: folder.changed,
        }
    }

    /// Whether every change after `now` gives the folder another state; `now` is a time on the clock that stamps it.
    ///
    /// A change in the same step of that clock as the last one would leave the state as it was.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        let last = self.modified.max(self.changed);
        let whole = self.changed.as_nanos() % SECOND == 0;
        let grain = if whole { COARSE_GRAIN } else { GRAIN };
        // A time before 1970 reads as its start: all of those are one.
        self.changed > Timestamp::MIN && now.as_nanos().saturating_sub(last.as_nanos()) > grain
    }
}

/// The newest few of each series of a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Newest {
    pub(super) map: Few,
    pub(super) reduce: Few,
}

impl Newest {
    /// Those of a phase; the setup phase is no series.
    pub(super) fn of(&self, phase: Phase) -> Option<&Few> {
        match phase {
            Phase::Setup => None,
            Phase::Map => Some(&self.map),
            Phase::Reduce => Some(&self.reduce),
        }
    }
}

/// The newest of the folders that were asked for last. It holds a few stamps a folder, whatever is in it.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<LruCache<PathBuf, (FolderState, Newest)>>);

impl Default for Memory {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(FOLDERS)))
    }
}

impl Memory {
    /// The newest one of a series that is older than `before`; `None` where the folder is not as it was.
    pub(super) fn recall(
        &self,
        folder: &Path,
        state: FolderState,
        phase: Phase,
        before: Option<&Stamp>,
    ) -> Option<Below> {
        let mut folders = self.0.lock();
        let (known, newest) = folders.get(folder)?;
        if *known != state {
            return None;
        }
        Some(newest.of(phase)?.below(before))
    }

    /// Remembers what a listing found that began at `now`, after the folder was in this state: only if no change since
    /// can have left it so.
    pub(super) fn keep(&self, folder: &Path, state: FolderState, now: Option<Timestamp>, newest: Newest) {
        if now.is_some_and(|now| state.is_settled(now)) {
            self.0.lock().put(folder.to_owned(), (state, newest));
        }
    }

    /// Forgets a folder whose names this process changed.
    pub(crate) fn forget(&self, folder: &Path) {
        self.0.lock().pop(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_764_018_118_000_000_000;

    fn state(modified: i64, changed: i64) -> FolderState {
        FolderState {
            identity: (1, 2),
            modified: Timestamp::from_nanos(modified),
            changed: Timestamp::from_nanos(changed),
        }
    }

    #[test]
    fn a_folder_is_settled_when_its_last_change_lies_further_back_than_the_clock_steps() {
        let now = Timestamp::from_nanos(NOON + 7);
        let back = |nanos: i64| NOON + 7 - nanos;
        for (modified, changed, settled) in [
            (back(GRAIN + 1), back(GRAIN + 1), true),
            (back(GRAIN), back(GRAIN), false),
            (back(0), back(GRAIN + 1), false),
            (back(GRAIN + 1), back(0), false),
            // From the future: the clock stepped back, or somebody set the time.
            (back(-HOUR), back(HOUR), false),
            (back(HOUR), back(-HOUR), false),
            // Whole seconds.
            (NOON - SECOND, NOON - SECOND, false),
            (NOON - 3 * SECOND, NOON - 3 * SECOND, true),
            (NOON - SECOND, back(GRAIN + 1), true),
            // Before 1970.
            (0, 0, false),
            (back(HOUR), 0, false),
        ] {
            assert_eq!(
                state(modified, changed).is_settled(now),
                settled,
                "{modified} {changed}"
            );
        }
    }

    const HOUR: i64 = 3600 * SECOND;

    #[test]
    fn only_what_is_settled_is_remembered_and_only_for_that_state() {
        let (memory, folder) = (Memory::default(), Path::new("a"));
        let old = state(NOON - HOUR, NOON - HOUR + 1);
        let keep = |now: Option<i64>| {
            memory.keep(folder, old, now.map(Timestamp::from_nanos), Newest::default());
            memory.recall(folder, old, Phase::Map, None)
        };
        assert_eq!(keep(None), None, "on a clock that is not known");
        assert_eq!(keep(Some(NOON - HOUR + 1)), None, "just after a change");
        assert_eq!(keep(Some(NOON)), Some(Below::None));
        for other in [
            state(NOON - HOUR + 1, NOON - HOUR + 1),
            state(NOON - HOUR, NOON - HOUR + 2),
            FolderState {
                identity: (1, 3),
                ..old
            },
            FolderState {
                identity: (0, 2),
                ..old
            },
        ] {
            assert_eq!(memory.recall(folder, other, Phase::Map, None), None, "{other:?}");
        }
        assert_eq!(memory.recall(Path::new("b"), old, Phase::Map, None), None);
        memory.forget(folder);
        assert_eq!(memory.recall(folder, old, Phase::Map, None), None);
    }

    #[test]
    fn a_bounded_number_of_folders_is_remembered() {
        let memory = Memory::default();
        let old = state(NOON - HOUR, NOON - HOUR + 1);
        let path = |n: usize| PathBuf::from(n.to_string());
        let now = Some(Timestamp::from_nanos(NOON));
        for n in 0..=FOLDERS.get() {
            memory.keep(&path(n), old, now, Newest::default());
        }
        assert_eq!(memory.0.lock().len(), FOLDERS.get());
        assert_eq!(memory.recall(&path(0), old, Phase::Map, None), None);
        assert_eq!(
            memory.recall(&path(FOLDERS.get()), old, Phase::Map, None),
            Some(Below::None)
        );
    }
}
