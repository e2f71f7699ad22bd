//! Removal of the oldest segments of a log.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, EventId, LogSummary, Result, StorageError};
use prodigy_storage_layout::{JobAddress, SegmentForm, SegmentName, Timestamp, events_folder};

use super::clock::StepClock;
use super::folder::LockedFolder;
use super::listing::{self, Forms, Listing};
use super::removed_mark::RemovedMark;
use super::segment_ref::SegmentRef;
use super::{Logs, search};
use crate::fs::{FsFile, OpenMode};
use crate::root::{LockNow, Replace, TempFile};

const REMOVE: &str = "remove events";

/// The segments to remove, oldest first.
#[derive(Debug, Default)]
struct Chosen {
    segments: Vec<(SegmentName, Forms)>,
    /// The newest id in these segments.
    newest: Option<EventId>,
}

impl Logs {
    /// The size of the segments that [`remove_before`](Self::remove_before) would remove now.
    pub(crate) fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        let folder = self.folder_of(REMOVE, job)?;
        let listing = listing::list(&self.root, &folder, deadline)?;
        let chosen = self.choose(&folder, &listing, before, deadline)?;
        self.size_of(&folder, chosen.segments.iter().chain(&listing.leftovers))
    }

    /// Removes the oldest segments, up to the first one that is not sealed or has an event at `before` or later. The
    /// newest segment always stays. Also removes files that an interrupted removal left.
    pub(crate) fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        self.root.prepare_write(REMOVE, job)?;
        self.root.check_takes_writes(REMOVE, job)?;
        let folder = events_folder(job);
        if self
            .root
            .fs
            .metadata(&folder)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            return Ok(LogSummary::default());
        }
        let _locked = LockedFolder::take(&self.root, &folder, deadline)?;
        self.root.check_takes_writes(REMOVE, job)?;
        let listing = listing::list(&self.root, &folder, deadline)?;
        let Chosen { segments, newest } = self.choose(&folder, &listing, before, deadline)?;
        let removed = self.size_of(&folder, segments.iter().chain(&listing.leftovers))?;
        let mark = match segments.last() {
            Some((last, _)) => Some(RemovedMark {
                begun: listing.begun().unwrap_or(last.made()),
                left: listing.made().filter(|made| *made > last.made()).min(),
                newest: newest
                    .max(listing.removed().map(|mark| mark.newest))
                    .unwrap_or(EventId::MIN),
                up_to: last.made(),
            }),
            None => listing.removed(),
        };
        let Some(mark) = mark else { return Ok(removed) };
        if !segments.is_empty() {
            self.write_mark(&folder, mark, &segments, deadline)?;
        }
        // If a process died after it wrote the mark, the mark may not be on the disk yet. So the folder is synced here.
        self.root.sync_folder(&folder)?;
        for (name, _) in segments.iter().chain(&listing.leftovers) {
            self.unlink_segment(&folder, name, deadline)?;
        }
        for old in listing.removed_marks.iter().filter(|old| **old != mark) {
            self.root.unlink(REMOVE, &old.path(&folder))?;
        }
        self.root.sync_folder(&folder)?;
        self.empty_mark(&folder, mark);
        tracing::info!(%job, segments = removed.segments, bytes = removed.bytes, "removed the oldest segments");
        Ok(removed)
    }

    /// Chooses the oldest segments that may be removed.
    fn choose(
        &self,
        folder: &Path,
        listing: &Listing,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<Chosen> {
        let clock = &mut StepClock::until(deadline);
        let newest = listing.newest_made();
        let mut by_age: Vec<_> = listing
            .segments
            .iter()
            .filter(|(name, _)| name.is_canonical())
            .collect();
        by_age.sort_by_key(|(name, _)| name.made());
        let mut chosen = Chosen::default();
        for (name, forms) in by_age {
            let segment = SegmentRef::new(&self.root, folder, name);
            let stays = Some(name.made()) >= newest || !is_sealed(segment, *forms)?;
            let last = if stays {
                None
            } else {
                search::last_of(segment, clock)?
            };
            if stays || last.map_or(name.made(), |last| last.time) >= before {
                // A segment that stays keeps its twin, which has the same creation time.
                chosen.segments.retain(|(other, _)| other.made() < name.made());
                break;
            }
            chosen.newest = chosen.newest.max(last.map(|last| last.id));
            chosen.segments.push((name.clone(), *forms));
        }
        // A twin (a compressed file beside a plain one) is removed with the segment beside it.
        chosen.segments.retain(|(name, _)| name.twin_form().is_none());
        Ok(chosen)
    }

    /// The total size of all files of these segments.
    fn size_of<'a>(
        &self,
        folder: &Path,
        segments: impl Iterator<Item = &'a (SegmentName, Forms)>,
    ) -> Result<LogSummary> {
        let mut summary = LogSummary::default();
        for (name, forms) in segments {
            summary.segments += 1;
            summary.sealed += 1;
            summary.compressed += u64::from(!forms.plain);
            for form in SegmentForm::ALL {
                let path = folder.join(name.file_name(form));
                match self.root.fs.metadata(&path) {
                    Ok(found) => summary.bytes += found.len,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(self.root.read_fault(REMOVE, &path, error)),
                }
            }
        }
        Ok(summary)
    }

    /// Creates the mark of removed segments. It is an empty file, which needs no space for contents. If the disk is too
    /// full even for a new name, one of the removed segments is renamed to be the mark.
    fn write_mark(
        &self,
        folder: &Path,
        mark: RemovedMark,
        segments: &[(SegmentName, Forms)],
        deadline: Deadline,
    ) -> Result<()> {
        let (root, path) = (&self.root, mark.path(folder));
        match root.fs.open(&path, OpenMode::CreateNew) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(root.write_fault(REMOVE, &path, error)),
        }
        let sizes = segments.iter().flat_map(|(name, _)| {
            let files = SegmentForm::ALL
                .into_iter()
                .map(|form| folder.join(name.file_name(form)));
            files.filter_map(move |path| Some((root.fs.metadata(&path).ok()?.len, name, path)))
        });
        let Some((_, name, smallest)) = sizes.min_by_key(|(len, ..)| *len) else {
            return Ok(());
        };
        let _lock = self.lock_removed(folder, name, deadline)?;
        root.fs
            .rename_new(&smallest, &path)
            .map_err(|error| root.write_fault(REMOVE, &path, error))
    }

    /// Replaces a mark that is a renamed segment with an empty file, now that there is space. If that fails, the next
    /// removal tries again.
    fn empty_mark(&self, folder: &Path, mark: RemovedMark) {
        let path = mark.path(folder);
        if self.root.fs.metadata(&path).is_ok_and(|found| found.len > 0)
            && let Err(error) =
                TempFile::write_whole(&self.root, REMOVE, &path, &[], Replace::Over, Durability::Strict)
        {
            tracing::warn!(path = %path.display(), %error, "a removed segment still takes space: the next removal frees it");
        }
    }

    /// Removes all forms of a segment, after waiting for the end of a compression.
    fn unlink_segment(&self, folder: &Path, name: &SegmentName, deadline: Deadline) -> Result<()> {
        let _lock = self.lock_removed(folder, name, deadline)?;
        for form in SegmentForm::ALL {
            self.root.unlink(REMOVE, &folder.join(name.file_name(form)))?;
        }
        Ok(())
    }

    fn lock_removed(
        &self,
        folder: &Path,
        name: &SegmentName,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn FsFile>>> {
        let path = folder.join(name.file_name(SegmentForm::Plain));
        match self.lock_segment(&path, deadline)? {
            LockNow::Taken(file, _) => Ok(Some(file)),
            LockNow::Absent => Ok(None),
            LockNow::Held | LockNow::Replaced => Err(StorageError::new(
                ErrorKind::LockUnavailable,
                REMOVE,
                self.root.absolute(&path).display(),
                "a process holds the segment",
            )
            .with_hint("repeat the removal: it continues where it stopped")),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// True if the segment is sealed, so that no writer appends to it.
fn is_sealed(segment: SegmentRef<'_>, forms: Forms) -> Result<bool> {
    if !forms.plain {
        return Ok(true);
    }
    let path = segment.path(SegmentForm::Plain);
    match segment.root.fs.metadata(&path) {
        Ok(found) => Ok(found.is_sealed()),
        // The segment has just been compressed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(segment.root.read_fault(REMOVE, &path, error)),
    }
}
