//! Removal of the oldest segments of a log.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, EventId, LogSummary, Result, StorageError};
use prodigy_storage_layout::{JobAddress, SegmentForm, SegmentName, Timestamp, events_folder};

use super::clock::StepClock;
use super::folder::LockedFolder;
use super::listing::{self, Forms, Leftover, Listing};
use super::removed_mark::{MOST, RemovedMark, checks_of};
use super::segment_ref::SegmentRef;
use super::{Logs, search};
use crate::fs::{FsFile, OpenMode};
use crate::root::{LockNow, Quarantine, Replace, TempFile};

const REMOVE: &str = "remove events";

/// A segment to remove.
#[derive(Debug)]
struct Old {
    name: SegmentName,
    forms: Forms,
    /// The last id of the segment, and of each twin (a compressed file beside a plain one with other events).
    lasts: Vec<Option<EventId>>,
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
        let chosen = self.choose(&folder, listing.segments.iter(), before, deadline)?;
        let (freed, _) = self.divide_leftovers(&folder, &listing, before, deadline)?;
        self.size_of(&folder, names_of(&chosen, &freed))
    }

    /// Removes the oldest segments, up to the first one that is not sealed or has an event at `before` or later. The
    /// segment with the newest event always stays, and so do all that were created after it. Also removes the files that an interrupted
    /// removal left, if these rules would remove them without its mark, and moves the others to the quarantine, which frees no space.
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
        let chosen = self.choose(&folder, listing.segments.iter(), before, deadline)?;
        let (freed, moved) = self.divide_leftovers(&folder, &listing, before, deadline)?;
        let removed = self.size_of(&folder, names_of(&chosen, &freed))?;
        let mut mark = listing.removed();
        let mut marks = listing.removed_marks.clone();
        if mark.is_some() && (marks.len() > 1 || !listing.leftovers.is_empty()) {
            // If a process died after it wrote the mark, the mark may not be on the disk yet.
            self.root.sync_folder(&folder)?;
            for leftover in freed {
                self.unlink_segment(&folder, &leftover.name, deadline)?;
            }
            for leftover in moved {
                self.move_away(&folder, &leftover.name, deadline)?;
            }
            self.unlink_marks(&folder, &mut marks, mark)?;
        }
        let mut rest = chosen.as_slice();
        while let Some((part, last)) = next_part(&mut rest) {
            let up_to = (last.name.made()).max(mark.map_or(Timestamp::MIN, |mark| mark.up_to));
            let new = RemovedMark {
                begun: listing.begun().unwrap_or(last.name.made()),
                left: listing.made().filter(|made| *made > up_to).min(),
                newest: (part.iter().flat_map(|old| &old.lasts).flatten().copied())
                    .chain(mark.map(|mark| mark.newest))
                    .max()
                    .unwrap_or(EventId::MIN),
                up_to,
                checks: checks_of(part.iter().flat_map(Old::identities)),
            };
            self.begun_removals.lock().insert(new.path(&folder));
            self.write_mark(&folder, new, part, deadline)?;
            self.root.sync_folder(&folder)?;
            for old in part {
                self.unlink_segment(&folder, &old.name, deadline)?;
            }
            marks.push(new);
            mark = Some(new);
            self.unlink_marks(&folder, &mut marks, mark)?;
        }
        self.begun_removals
            .lock()
            .retain(|path| path.parent() != Some(folder.as_path()));
        if let Some(mark) = mark {
            self.empty_mark(&folder, mark);
        }
        if removed.segments > 0 {
            tracing::info!(%job, segments = removed.segments, bytes = removed.bytes, "removed the oldest segments");
        }
        Ok(removed)
    }

    /// Divides the segments that a removal has hidden: those that may be unlinked, and the others. A process unlinks what its own
    /// removal left. Otherwise another process died there, or the mark was copied to a log that has the same segments, so only
    /// what this removal would take without the mark is unlinked.
    fn divide_leftovers<'l>(
        &self,
        folder: &Path,
        listing: &'l Listing,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<(Vec<&'l Leftover>, Vec<&'l Leftover>)> {
        let leftovers = listing.leftovers.iter();
        let is_identified = listing.removed().is_some_and(RemovedMark::has_checks);
        if listing.leftovers.is_empty() || !is_identified || self.has_begun(folder, listing) {
            let is_freed = self.has_begun(folder, listing);
            return Ok(leftovers.partition(|_| is_freed));
        }
        let hidden = leftovers
            .clone()
            .map(|leftover| (&leftover.name, &leftover.forms));
        let chosen = self.choose(folder, listing.segments.iter().chain(hidden), before, deadline)?;
        let is_chosen = |leftover: &&Leftover| {
            let base = leftover.name.base();
            chosen.iter().any(|old| old.name == base)
        };
        Ok(leftovers.partition(is_chosen))
    }

    /// True if this process has begun the removal that hides segments, and an error ended it.
    fn has_begun(&self, folder: &Path, listing: &Listing) -> bool {
        let mark = listing.removed().map(|mark| mark.path(folder));
        mark.is_some_and(|path| self.begun_removals.lock().contains(&path))
    }

    /// Unlinks the marks that `kept` replaces, durably, with everything that was unlinked in the folder before.
    fn unlink_marks(
        &self,
        folder: &Path,
        marks: &mut Vec<RemovedMark>,
        kept: Option<RemovedMark>,
    ) -> Result<()> {
        for old in marks.extract_if(.., |mark| Some(*mark) != kept) {
            self.root.unlink(REMOVE, &old.path(folder))?;
        }
        self.root.sync_folder(folder)
    }

    /// Chooses the oldest of these segments that may be removed.
    fn choose<'a>(
        &self,
        folder: &Path,
        segments: impl Iterator<Item = (&'a SegmentName, &'a Forms)>,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<Old>> {
        let clock = &mut StepClock::until(deadline);
        let mut by_age: Vec<_> = segments.filter(|(name, _)| name.is_canonical()).collect();
        by_age.sort_by_key(|(name, _)| name.made());
        let mut chosen: Vec<Old> = Vec::new();
        for (name, forms) in &by_age {
            let segment = SegmentRef::new(&self.root, folder, name);
            let stays = !is_complete(segment, **forms)?;
            let last = if stays {
                None
            } else {
                search::last_of(segment, clock)?
            };
            let beside = chosen.pop_if(|old| old.name.made() == name.made());
            if stays || last.map_or(name.made(), |last| last.time) >= before {
                // A segment that stays keeps its twin, which has the same creation time.
                break;
            }
            let mut old = Old {
                name: name.base(),
                forms: **forms,
                lasts: vec![last.map(|last| last.id)],
            };
            if let Some(beside) = beside {
                old.lasts.extend(beside.lasts);
                if name.twin_form().is_some() {
                    old.forms = beside.forms;
                }
            }
            chosen.push(old);
        }
        self.keep_newest(folder, &mut chosen, by_age.iter().map(|(name, _)| *name), clock)?;
        Ok(chosen)
    }

    /// If no other segment has a newer event than the chosen ones, keeps the one with the newest event, and all that were
    /// created after it. The segment that was created last need not have the newest event: it may be empty, its
    /// writer may have written less lately than another one, and its ids may be given ones.
    fn keep_newest<'a>(
        &self,
        folder: &Path,
        chosen: &mut Vec<Old>,
        by_age: impl DoubleEndedIterator<Item = &'a SegmentName>,
        clock: &mut StepClock,
    ) -> Result<()> {
        let newest = |old: &Old| old.lasts.iter().flatten().max().copied();
        let Some(up_to) = chosen.last().map(|old| old.name.made()) else {
            return Ok(());
        };
        let chosen_newest = chosen.iter().filter_map(newest).max();
        for name in by_age.rev().take_while(|name| name.made() > up_to) {
            let last = search::last_of(SegmentRef::new(&self.root, folder, name), clock)?;
            if last.is_some_and(|last| Some(last.id) > chosen_newest) {
                return Ok(());
            }
        }
        let kept = chosen.iter().position(|old| newest(old) == chosen_newest);
        chosen.truncate(kept.unwrap_or(0));
        Ok(())
    }

    /// The total size of all files of these segments.
    fn size_of<'a>(
        &self,
        folder: &Path,
        segments: impl Iterator<Item = (&'a SegmentName, Forms)>,
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
        segments: &[Old],
        deadline: Deadline,
    ) -> Result<()> {
        let (root, path) = (&self.root, mark.path(folder));
        match root.fs.open(&path, OpenMode::CreateNew) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(root.write_fault(REMOVE, &path, error)),
        }
        let sizes = segments.iter().flat_map(|Old { name, .. }| {
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

    /// Moves all forms of a segment to the quarantine: it is not certain that a removal of this log took the segment.
    /// Leaves it where the disk is too full for that.
    fn move_away(&self, folder: &Path, name: &SegmentName, deadline: Deadline) -> Result<()> {
        let (root, _lock) = (&self.root, self.lock_removed(folder, name, deadline)?);
        for form in SegmentForm::ALL {
            let path = folder.join(name.file_name(form));
            if root
                .fs
                .metadata(&path)
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                continue;
            }
            match Quarantine::of(root).take(REMOVE, &path) {
                Err(error) if error.kind() == ErrorKind::DiskFull => {
                    tracing::warn!(path = %path.display(), %error, "a removed segment still takes space");
                }
                moved => moved?,
            }
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
                format!("{} holds the segment", self.holder_of(&path)),
            )
            .with_hint("repeat the removal: it continues where it stopped")),
        }
    }
}

impl Old {
    /// The creation time and the last id of the segment, and of each twin.
    fn identities(&self) -> impl Iterator<Item = (Timestamp, Option<EventId>)> {
        self.lasts.iter().map(|last| (self.name.made(), *last))
    }
}

/// The segments of which a removal unlinks the files.
fn names_of<'a>(
    chosen: &'a [Old],
    freed: &'a [&'a Leftover],
) -> impl Iterator<Item = (&'a SegmentName, Forms)> {
    let freed = freed.iter().map(|leftover| (&leftover.name, leftover.forms));
    chosen.iter().map(|old| (&old.name, old.forms)).chain(freed)
}

/// Takes as many of the oldest segments as one mark can identify. Returns them, and the last of them.
fn next_part<'a>(rest: &mut &'a [Old]) -> Option<(&'a [Old], &'a Old)> {
    let mut checks = 0;
    let fits = rest.iter().take_while(|old| {
        checks += old.lasts.len();
        checks <= MOST
    });
    let (part, left) = rest.split_at_checked(fits.count())?;
    *rest = left;
    Some((part, part.last()?))
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// True if the segment is sealed or closed, so that no writer appends to it.
fn is_complete(segment: SegmentRef<'_>, forms: Forms) -> Result<bool> {
    if !forms.plain {
        return Ok(true);
    }
    let path = segment.path(SegmentForm::Plain);
    match segment.root.fs.metadata(&path) {
        Ok(found) => Ok(!found.is_writable()),
        // The segment has just been compressed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(segment.root.read_fault(REMOVE, &path, error)),
    }
}
