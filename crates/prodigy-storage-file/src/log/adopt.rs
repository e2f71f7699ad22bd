//! Which segment a new writer writes to.

use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use super::active::{Active, SegmentFile};
use super::listing;
use super::segment::StepClock;
use super::{archive, search, tail};
use crate::fs::{FsFile, Metadata, OpenMode, UNLOCKED_MODE};
use crate::store::Store;

/// Sealed segments whose last id is looked at for the newest id of the log, by their making.
const RECENT: usize = 8;

/// What a new writer finds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) active: Option<Active>,
    /// The newest segment that was made.
    pub(crate) newest_made: Option<Timestamp>,
    /// Above it all new ids have to be.
    pub(crate) newest: EventId,
}

/// Looks through a log for a segment to go on in, and for its newest id; finishes what dead writers left.
pub(crate) fn adopt(
    store: &Arc<Store>,
    folder: &Path,
    durability: Durability,
    deadline: Deadline,
) -> Result<Found> {
    let listing = listing::list(store, folder, deadline)?;
    store.sweep(folder, listing.temps.iter().map(String::as_str));
    let now = store.now();
    let newest_made = listing.newest_made_but(None);
    let mut newest = EventId::MIN;
    let mut candidates = Vec::new();
    let clock = &mut StepClock::until(deadline);
    let mut names: Vec<_> = listing
        .segments
        .iter()
        .filter(|(name, _)| name.is_canonical())
        .collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.made()));
    for (age, (name, forms)) in names.into_iter().enumerate() {
        newest = newest.max(EventId::floor(name.lower()));
        let path = folder.join(name.file_name(SegmentForm::Plain));
        let found = match forms.plain.then(|| store.fs.metadata(&path)).transpose() {
            // It may have been compressed at this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other.map_err(|error| store.read_fault("adopt segment", &path, error))?,
        };
        let Some(found) = found else {
            if age < RECENT {
                newest = newest.max(search::last_id_of(store, folder, name, clock)?.unwrap_or(EventId::MIN));
            }
            continue;
        };
        let open = is_open(&found);
        // A file that was written to after now was written before the clock stepped back.
        if age < RECENT || open || found.is_unlocked() || found.modified > now {
            newest = newest.max(search::last_id_of(store, folder, name, clock)?.unwrap_or(EventId::MIN));
        }
        if open && forms.only_plain() {
            candidates.push(name.clone());
        } else if store.options.file_locks
            && (!forms.only_plain() || store.options.compression)
            && found.is_sealed()
        {
            archive::enqueue(store, folder, name);
        }
    }
    let mut active = None;
    if store.options.file_locks {
        for name in candidates {
            if let Some(taken) = take(store, folder, &name, newest_made, durability, clock)? {
                newest = newest.max(taken.last.unwrap_or(EventId::MIN));
                active = Some(taken);
                break;
            }
        }
    }
    Ok(Found {
        active,
        newest_made,
        newest,
    })
}

/// Whether a writer with locks may append to it.
fn is_open(found: &Metadata) -> bool {
    !found.is_sealed() && !found.is_unlocked()
}

/// Takes an unsealed segment, unless someone holds it or it is not what it was.
fn take(
    store: &Store,
    folder: &Path,
    name: &SegmentName,
    newest_made: Option<Timestamp>,
    durability: Durability,
    clock: &mut StepClock,
) -> Result<Option<Active>> {
    let path = folder.join(name.file_name(SegmentForm::Plain));
    let fault = |error| store.write_fault("adopt segment", &path, error);
    let file = match store.fs.open(&path, OpenMode::Write) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Sealed at this moment, or of another user: another one will do.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    if !file.try_lock().map_err(fault)? {
        return Ok(None);
    }
    // Between opening and locking it may have been sealed, compressed and unlinked.
    let ours = file.metadata().map_err(fault)?;
    let at_path = match store.fs.metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    // One with a second name, which may be outside of the root, is left as it is.
    if ours.identity != at_path.identity || ours.links != 1 || !is_open(&ours) {
        return Ok(None);
    }
    if ours.len == 0 && newest_made.is_some_and(|newest| newest > name.made()) {
        // Its maker died before it could see that another was made meanwhile, which a cursor may have passed over to.
        store.fs.unlink(&path).map_err(fault)?;
        return Ok(None);
    }
    let Some(len) = tail::mend(store, &path, &*file)? else {
        return Ok(None);
    };
    if len > 0 && durability == Durability::Strict {
        // What its dead writer left may be in memory only. A loss of power that took that, and not what is written
        // behind it, would leave a hole.
        store.counters.sync(&path);
        if let Err(error) = file.sync_all() {
            tracing::error!(segment = %path.display(), %error, "a segment is left alone: its state on disk is unknown");
            return Ok(None);
        }
    }
    let last = search::last_id(store, &path, &*file, len, clock)?;
    tracing::debug!(segment = %path.display(), len, "adopted");
    Ok(Some(Active {
        name: name.clone(),
        path,
        file: Arc::new(SegmentFile::new(file)),
        len,
        last,
    }))
}

/// Makes a new segment whose ids are not below `lower`, or, where `lower` is `None`, are new.
///
/// Its `made` is above that of every other segment, also of one that another process makes at the same moment: a
/// cursor that passed over all that was made before a moment has passed over nothing that comes later.
///
/// `newest` is the newest `made` that this writer knows of, and is kept up to date.
pub(crate) fn create(
    store: &Store,
    folder: &Path,
    newest: &mut Option<Timestamp>,
    lower: Option<Timestamp>,
    deadline: Deadline,
) -> Result<Active> {
    loop {
        deadline.check(
            "create segment",
            &store.absolute(folder).display(),
            "a name of its own",
        )?;
        let now = store.now();
        let made = newest.map_or(now, |newest| now.max(newest.next()));
        if *newest == Some(made) {
            return Err(end_of_time(store, folder, "a segment's name"));
        }
        *newest = Some(made);
        let name = SegmentName::new(lower.map_or(made, |lower| lower.min(made)), made);
        let path = folder.join(name.file_name(SegmentForm::Plain));
        let made_file = if store.options.file_locks {
            create_locked(store, folder, &path)?
        } else {
            create_unlocked(store, folder, &path)?
        };
        let Some(file) = made_file else { continue };
        let others = listing::newest_made_since(store, folder, &name, made);
        if !matches!(others, Ok(None)) {
            // A cursor may have passed over to that one already. Ours is empty, and no one else's.
            store
                .fs
                .unlink(&path)
                .map_err(|error| store.write_fault("create segment", &path, error))?;
            *newest = others?;
            continue;
        }
        return Ok(Active {
            name,
            path,
            file: Arc::new(SegmentFile::new(file)),
            len: 0,
            last: None,
        });
    }
}

/// Nothing can come after what the log says of itself.
pub(super) fn end_of_time(store: &Store, folder: &Path, what: &str) -> StorageError {
    StorageError::new(
        ErrorKind::Damaged,
        "append events",
        store.absolute(folder).display(),
        format!("{what} stands at the end of time: nothing new can come after it"),
    )
    .with_hint("no writer of ours gets there: look for the segment, and move it away")
}

/// Makes a segment and takes its lock. `None` if the name is taken, or another took the fresh file first.
fn create_locked(store: &Store, folder: &Path, path: &Path) -> Result<Option<Box<dyn FsFile>>> {
    let fault = |error| store.write_fault("create segment", path, error);
    let opened = match store.fs.open(path, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            store.make_folder(folder)?;
            store.fs.open(path, OpenMode::CreateNew)
        }
        other => other,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    if !file.try_lock().map_err(fault)? || file.metadata().map_err(fault)?.links == 0 {
        return Ok(None);
    }
    Ok(Some(file))
}

/// Makes a segment that has its mark from the moment that it has its name: a writer with locks that saw it without
/// could take it.
fn create_unlocked(store: &Store, folder: &Path, path: &Path) -> Result<Option<Box<dyn FsFile>>> {
    let (temp, file) = store.create_temp(folder)?;
    let renamed = file
        .set_mode(UNLOCKED_MODE)
        .and_then(|()| store.fs.rename_new(&temp, path));
    match renamed {
        Ok(()) => Ok(Some(file)),
        Err(error) => {
            let _ = store.fs.unlink(&temp);
            match error.kind() {
                // The name is taken, or one with locks swept the temporary file away.
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => Ok(None),
                _ => Err(store.write_fault("create segment", path, error)),
            }
        }
    }
}
