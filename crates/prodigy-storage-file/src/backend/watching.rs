//! Watching the logs of many jobs.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{LogReports, LogScope, LogWatch, Reporting, Result};
use prodigy_storage_layout::{JobAddress, events_folder, repo_events_folder};

use super::handle::Handle;
use super::stores::Stores;
use super::waiting::watch_nearest;
use crate::fs::{FsWatch, Wake};
use crate::root::{Look, is_of_this_machine};

const WATCH: &str = "watch logs";

/// Begins to watch the logs of a scope.
pub(super) fn watch(
    handle: &Arc<Handle>,
    scope: &LogScope,
    reports: &LogReports,
) -> Result<Box<dyn LogWatch>> {
    let mut watch = FolderWatches {
        store: handle.enter(WATCH, Look::Now)?,
        _reporting: handle.waiters.report(scope.clone(), reports.clone()),
        handle: Arc::clone(handle),
        reports: reports.clone(),
        above: match scope {
            LogScope::Repository(repo) => repo_events_folder(repo),
            _ => PathBuf::from(prodigy_storage_layout::EVENTS),
        },
        folders: HashMap::new(),
    };
    watch.watch_above(None);
    Ok(Box::new(watch))
}

/// Watches on the folders of logs, and on the parent folders in which new jobs and repositories appear.
struct FolderWatches {
    handle: Arc<Handle>,
    store: Arc<Stores>,
    _reporting: Reporting,
    reports: LogReports,
    /// The folder in which the repositories or jobs of the scope are created.
    above: PathBuf,
    folders: HashMap<PathBuf, Box<dyn FsWatch>>,
}

impl fmt::Debug for FolderWatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderWatches")
            .field("folders", &self.folders.len())
            .finish_non_exhaustive()
    }
}

impl FolderWatches {
    /// Watches the folders in which new jobs appear. Returns false if one of them can't be watched.
    fn watch_above(&mut self, job: Option<&JobAddress>) -> bool {
        let reports = self.reports.clone();
        let wake: Wake = Arc::new(move || reports.add_new());
        let repo = job.map(|job| repo_events_folder(&job.repo));
        let above = self.above.clone();
        [Some(above), repo]
            .into_iter()
            .flatten()
            .all(|folder| self.watch_folder(folder, &wake))
    }

    /// Watches a folder, or the nearest one above it that exists. Returns false if none can be watched.
    fn watch_folder(&mut self, folder: PathBuf, wake: &Wake) -> bool {
        if self.folders.get(&folder).is_some_and(|watch| watch.is_live()) && self.exists(&folder) {
            return true;
        }
        match watch_nearest(&self.store.root, &folder, wake) {
            Ok(Some(watch)) => {
                self.folders.insert(folder, watch);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.handle.warn_unwatched(&folder.display(), &error);
                false
            }
        }
    }

    /// True if the folder exists. For an absent folder, the watch is on a folder above it.
    fn exists(&self, folder: &Path) -> bool {
        self.store.root.fs.metadata(folder).is_ok()
    }
}

impl LogWatch for FolderWatches {
    fn include(&mut self, job: &JobAddress) -> Result<bool> {
        let store = self.handle.enter(WATCH, Look::Soon)?;
        if !Arc::ptr_eq(&store, &self.store) {
            self.folders.clear();
            self.store = store;
        }
        let is_watched_above = self.watch_above(Some(job));
        let (reports, told) = (self.reports.clone(), job.clone());
        let wake: Wake = Arc::new(move || reports.add(&told));
        let is_watched = self.watch_folder(events_folder(job), &wake);
        Ok(is_watched && is_watched_above && is_of_this_machine(&self.store.root))
    }

    fn reports_new_jobs(&mut self) -> Result<bool> {
        Ok(self.watch_above(None) && is_of_this_machine(&self.store.root))
    }
}
