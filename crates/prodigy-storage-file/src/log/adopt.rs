//! Chooses the segment that a new writer appends to.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::{JobAddress, SegmentForm, SegmentName, Timestamp};

use super::active::{Active, SegmentFile};
use super::archive::Archive;
use super::clock::StepClock;
use super::folder::LockedFolder;
use super::listing::{self, KnownNewest, Listing};
use super::resume::EXAMINED;
use super::segment_ref::SegmentRef;
use super::{sealed_mark, search, tail};
use crate::fs::{FsFile, Metadata, OpenMode};
use crate::root::{LockNow, Root, TempFile, count};

/// The number of newest segments whose last id is always read to find the newest id of the log.
const RECENT: usize = 8;

/// The result of the search for a segment to continue, which is called an adoption.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) active: Option<Active>,
    /// The newest id of the log. New ids must be above it.
    pub(crate) newest: EventId,
    /// The newest segment of the listing, if a later call can reuse it.
    pub(crate) listed: Option<KnownNewest>,
}

/// Searches a log for an unsealed segment to continue, and for its newest id. Also completes work that dead writers
/// left.
pub(crate) fn adopt(
    root: &Arc<Root>,
    archive: &Arc<Archive>,
    folder: &Path,
    durability: Durability,
    deadline: Deadline,
) -> Result<Adoption> {
    let (listing, listed) = listing::list_for_writer(root, folder, deadline)?;
    TempFile::sweep(root, folder, listing.temps.iter().map(String::as_str));
    let now = root.now();
    let mut newest = EventId::MIN;
    let mut candidates = Vec::new();
    let clock = &mut StepClock::until(deadline);
    let mut names: Vec<_> = listing
        .segments
        .iter()
        .filter(|(name, _)| name.is_canonical())
        .collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.made()));
    let opened = match names.is_empty() {
        true => None,
        // Opens the folder once, since the metadata of thousands of its files may be read.
        false => Some(
            root.fs
                .folder(folder)
                .map_err(|error| root.read_fault("adopt segment", folder, error))?,
        ),
    };
    let mark = listing.mark;
    newest = newest.max(mark.map_or(EventId::MIN, |mark| mark.newest));
    let untrue: Vec<_> = listing
        .marks
        .iter()
        .copied()
        .filter(|other| Some(*other) != mark)
        .collect();
    if !untrue.is_empty() {
        // Done before this process appends: while a copy by hand continues, such a mark could match the segments again.
        sealed_mark::remove(root, folder, untrue.into_iter())?;
        root.sync_folder(folder)?;
    }
    let mut looked_at = 0;
    for (age, (name, forms)) in names.into_iter().enumerate() {
        if mark.is_some_and(|mark| mark.covers(name)) {
            if forms.plain && (!forms.only_plain() || root.options.compression) {
                archive.enqueue(folder, name, None);
            }
            continue;
        }
        let is_old = looked_at >= EXAMINED;
        looked_at += usize::from(forms.plain);
        newest = newest.max(EventId::floor(name.lower()));
        let file = name.file_name(SegmentForm::Plain);
        let plain = opened
            .as_ref()
            .filter(|_| forms.plain && name.twin_form().is_none());
        let found = match plain
            .map(|opened| opened.metadata_of(OsStr::new(&file)))
            .transpose()
        {
            // Another process may have compressed the segment since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other.map_err(|error| root.read_fault("adopt segment", &folder.join(&file), error))?,
        };
        // The clock was set back since the file was written to: its mtime is in the future. Its last id is read, too.
        let may_grow = |found: &Metadata| found.is_writable() || found.modified > now;
        if age < RECENT || name.twin_form().is_some() || found.as_ref().is_some_and(may_grow) {
            newest = newest
                .max(search::last_id_of(SegmentRef::new(root, folder, name), clock)?.unwrap_or(EventId::MIN));
        }
        let Some(found) = found else { continue };
        if found.is_open() && forms.only_plain() {
            candidates.push((name.clone(), found, is_old));
        } else if (!forms.only_plain() || root.options.compression) && found.is_sealed() {
            archive.enqueue(folder, name, None);
        }
    }
    if looked_at > sealed_mark::WORTH + candidates.len() {
        archive.mark_sealed(folder);
    }
    let mut active = None;
    for (name, found, is_old) in candidates {
        let is_copy = tail::is_copy(root, &folder.join(name.file_name(SegmentForm::Plain)), &found);
        if let Some(taken) = take(SegmentRef::new(root, folder, &name), &listing, durability, clock)? {
            newest = newest.max(taken.last.unwrap_or(EventId::MIN));
            if !is_copy && !is_old && !taken.is_ahead_of(now) {
                active = Some(taken);
                break;
            }
            // An empty segment is left: the doctor takes a sealed one for the rest of a segment that lost its records.
            if taken.len > 0 {
                give_up(root, archive, folder, taken, is_copy);
            }
        }
    }
    Ok(Adoption {
        active,
        newest,
        listed,
    })
}

/// Marks a segment that no writer may continue. A copy is closed: a cursor that names it continues at the same event in
/// the original, which may be longer. One whose last record is ahead of the clock is sealed, and one that is so old that a
/// cursor which covers it would not notice new events in it.
fn give_up(root: &Root, archive: &Arc<Archive>, folder: &Path, taken: Active, is_copy: bool) {
    let Active { name, path, file, .. } = taken;
    let marked = if is_copy { file.close() } else { file.seal() };
    if let Err(error) = marked {
        tracing::error!(segment = %path.display(), %error, "a segment that is a copy, old, or ends in the future, could not be sealed");
        return;
    }
    tracing::debug!(segment = %path.display(), is_copy, "no writer continues it: it is a copy, old, or ends in the future");
    count(&root.counters.sealed, 1);
    if root.options.compression && !is_copy {
        archive.enqueue(folder, &name, Some(file));
    }
}

/// Locks an unsealed segment. `None` if another process holds it, or if it has changed since the listing.
fn take(
    segment: SegmentRef<'_>,
    listing: &Listing,
    durability: Durability,
    clock: &mut StepClock,
) -> Result<Option<Active>> {
    let path = segment.path(SegmentForm::Plain);
    let fault = |error| segment.root.write_fault("adopt segment", &path, error);
    let (file, ours) = match segment.root.lock_now(&path, OpenMode::Write) {
        Ok(LockNow::Taken(file, found)) => (file, found),
        Ok(LockNow::Absent | LockNow::Held | LockNow::Replaced) => return Ok(None),
        // The segment was sealed in this moment, or belongs to another user. The search continues with another segment.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    // A file with a second name (a hard link) is not continued, since the other name may be outside of the root.
    if ours.links != 1 || !ours.is_open() {
        return Ok(None);
    }
    let made = Some(segment.name.made());
    if ours.len == 0 && listing.newest_made() > made {
        // The writer of this segment died before its first record. A cursor may count the segment as read, so no record
        // may be added. The first segment is kept, because cursors identify the log by it. The newest one does not get
        // here.
        if listing.oldest_made() != made {
            segment.root.fs.unlink(&path).map_err(fault)?;
        }
        return Ok(None);
    }
    let Some(len) = tail::mend(segment.root, &path, &*file)? else {
        return Ok(None);
    };
    if len > 0 && durability == Durability::Strict {
        // The dead writer may not have synced its bytes. A power loss could then leave a hole: it would take these
        // bytes, but not those that are written after them.
        segment.root.counters.sync(&path);
        if let Err(error) = file.sync_all() {
            tracing::error!(segment = %path.display(), %error, "a segment is left alone: its state on disk is unknown");
            return Ok(None);
        }
    }
    let last = search::last_record(segment.root, &path, &*file, len, clock)?;
    tracing::debug!(segment = %path.display(), len, "adopted");
    Ok(Some(Active {
        name: segment.name.clone(),
        path,
        file: Arc::new(SegmentFile::new(file)),
        len,
        last: last.map(|last| last.id),
        time: last.map(|last| last.time),
        unended: false,
    }))
}

/// Creates a new segment. Its ids are at least `lower`, or new if `lower` is `None`. `listed` is the newest segment of
/// an earlier listing.
///
/// Holds the lock on the folder meanwhile, so that segments are created one after the other. The new name is unused in
/// every form, and its creation time is later than that of every other segment, whatever the clocks of the writers
/// show. So a cursor that covers all segments up to some creation time covers no segment that is created later.
pub(crate) fn create(
    root: &Root,
    job: &JobAddress,
    folder: &Path,
    lower: Option<Timestamp>,
    listed: Option<KnownNewest>,
    deadline: Deadline,
) -> Result<Active> {
    loop {
        let locked = LockedFolder::take(root, folder, deadline)?;
        let newest = match listing::newest_made(root, folder, listed)? {
            None => root.newest_deleted(&job.repo)?,
            newest => newest,
        };
        let Some(made) = creation_time(root.now(), newest) else {
            return Err(end_of_time(root, folder, "a segment's name"));
        };
        let name = SegmentName::new(lower.map_or(made, |lower| lower.min(made)), made);
        let path = folder.join(name.file_name(SegmentForm::Plain));
        let created = create_locked(root, &path)?;
        drop(locked);
        if let Some(file) = created {
            return Ok(Active {
                name,
                path,
                file: Arc::new(SegmentFile::new(file)),
                len: 0,
                last: None,
                time: None,
                unended: false,
            });
        }
        deadline.check(
            "create segment",
            &root.absolute(folder).display(),
            "a segment that no one else takes",
        )?;
    }
}

/// The range, in nanoseconds, from which a creation time is chosen.
const SPREAD: i64 = 1 << 20;

/// The creation time of a new segment: at most a millisecond before `now`, and above `newest`. `None` if no time is left
/// above it.
///
/// It is chosen at random. If a log continues twice from the same segments, as after a restore or in a copy, the two parts
/// have no segment of the same name. So a cursor into one of them is a gap in the other, and skips nothing there.
fn creation_time(now: Timestamp, newest: Option<Timestamp>) -> Option<Timestamp> {
    let (now, next) = (
        now.as_nanos(),
        newest.map_or(0, |newest| newest.next().as_nanos()),
    );
    if newest.is_some_and(|newest| newest.as_nanos() == next) {
        return None;
    }
    let least = next.max(now.saturating_sub(SPREAD));
    let most = if next > now {
        next.saturating_add(SPREAD)
    } else {
        now
    };
    // From the operating system: processes that start in one moment, or under one stopped clock, must differ.
    let random = i64::from(uuid::Uuid::new_v4().as_u64_pair().1 as u32);
    Some(Timestamp::from_nanos(least + random % (most - least + 1)))
}

/// The error if the newest id or creation time in the log is the greatest possible one.
pub(super) fn end_of_time(root: &Root, folder: &Path, what: &str) -> StorageError {
    StorageError::new(
        ErrorKind::Damaged,
        "append events",
        root.absolute(folder).display(),
        format!("{what} has the greatest possible time: no new event can come after it"),
    )
    .with_hint("no writer of ours gets there: look for the segment, and move it away")
}

/// Creates a segment and takes its lock. `None` if another writer adopted the empty file first, or if a program that
/// does not take the folder's lock created the name.
fn create_locked(root: &Root, path: &Path) -> Result<Option<Box<dyn FsFile>>> {
    let fault = |error| root.write_fault("create segment", path, error);
    let file = match root.fs.open(path, OpenMode::CreateNew) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    if !root.try_lock(&file).map_err(fault)? {
        return Ok(None);
    }
    // Before this process had the lock, another writer may have adopted the file: written to it, sealed it, compressed
    // it and released it. The file is used only if it is unchanged.
    let ours = file.metadata().map_err(fault)?;
    let is_new = ours.len == 0 && ours.is_open() && ours.links == 1;
    let is_named = root.leads_to(path, ours.identity).map_err(fault)?;
    Ok((is_new && is_named).then_some(file))
}
