//! Lists the segments of a log, by the names in its folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use super::clock::StepClock;
use super::covered::{Covered, NameReader, OwnFile};
use super::cursor::Position;
use super::removed_mark::RemovedMark;
use super::sealed_mark::{SealedMark, SealedNames};
use super::segment_ref::SegmentRef;
use super::{archive, sealed_mark, search, source};
use crate::fs::{FileKind, FolderMark, FsFolder, NotRegular};
use crate::root::Root;

const LIST: &str = "list log";

/// The forms in which a segment exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) plain: bool,
    pub(crate) zstd: bool,
    pub(crate) gzip: bool,
}

impl Forms {
    /// One form that exists: the plain one, if it does.
    pub(crate) fn any(self) -> SegmentForm {
        match (self.plain, self.zstd) {
            (true, _) => SegmentForm::Plain,
            (false, true) => SegmentForm::Zstd,
            (false, false) => SegmentForm::Gzip,
        }
    }

    /// True if only the plain form exists.
    pub(crate) fn only_plain(self) -> bool {
        self.plain && !self.zstd && !self.gzip
    }
}

/// A segment that was removed, but whose files still exist.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) name: SegmentName,
    pub(crate) forms: Forms,
}

/// The contents of a log's folder, by the names in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The segments, ordered by lower bound. A twin (a compressed file beside a plain one with other events) is a
    /// segment of its own.
    pub(crate) segments: BTreeMap<SegmentName, Forms>,
    /// The names of temporary files.
    pub(crate) temps: Vec<String>,
    /// The marks of sealed segments (`.sealed-…` files): at most one, except while it is being replaced.
    pub(crate) marks: Vec<SealedMark>,
    /// The mark of sealed segments that a writer may trust. `None` in a listing that is not for a writer.
    pub(super) mark: Option<SealedMark>,
    /// The marks of removed segments (`.removed-…` files): at most one, except while it is being replaced.
    pub(super) removed_marks: Vec<RemovedMark>,
    /// Segments that were removed, but whose files still exist.
    pub(crate) leftovers: Vec<Leftover>,
    /// The names of files with events that are not the names of segments.
    pub(crate) others: Vec<String>,
}

impl Listing {
    /// The newest mark of removed segments that belongs to this log, if any.
    pub(super) fn removed(&self) -> Option<RemovedMark> {
        RemovedMark::newest(self.own_removed_marks())
    }

    /// True if the oldest segment that a removal left is there, so that its mark belongs to this log.
    fn has_left(&self, mark: RemovedMark) -> bool {
        mark.belongs_beside(|made| self.has_made(made))
    }

    /// The marks of removed segments that do not belong to this log, and were not replaced by one that does.
    pub(crate) fn untrue_removed_marks(&self) -> impl Iterator<Item = RemovedMark> {
        let removed = self.removed();
        let marks = self.removed_marks.iter().copied();
        marks.filter(move |mark| {
            let is_replaced = removed.is_some_and(|newer| mark.left <= Some(newer.up_to));
            !self.has_left(*mark) && !is_replaced
        })
    }

    /// Our segments, for a mark of sealed segments.
    pub(super) fn sealed_names(&self) -> SealedNames<impl Iterator<Item = (Timestamp, Timestamp)> + Clone> {
        let ours = self
            .segments
            .keys()
            .filter(|name| name.is_canonical() && name.twin_form().is_none());
        SealedNames {
            segments: ours.map(|name| (name.lower(), name.made())),
            may_repeat: false,
        }
    }

    /// The mark of sealed segments that a writer may trust; `self` must list all segments.
    pub(super) fn trusted_mark(&self, root: &Root, folder: &Path) -> Option<SealedMark> {
        self.trusted_of(root, folder, &self.marks)
    }

    /// True if a mark of sealed segments belongs to this folder and to the segments in it.
    pub(crate) fn trusts(&self, root: &Root, folder: &Path, mark: SealedMark) -> bool {
        self.trusted_of(root, folder, &[mark]).is_some()
    }

    fn trusted_of(&self, root: &Root, folder: &Path, marks: &[SealedMark]) -> Option<SealedMark> {
        sealed_mark::trusted(root, folder, marks, &self.sealed_names())
    }

    /// The creation time of the log's first segment, including removed ones. It distinguishes this log from earlier and
    /// later logs in the same folder. A segment that is older than the removed ones was put back by hand.
    pub(crate) fn begun(&self) -> Option<Timestamp> {
        let removed = self.removed().map(|mark| mark.begun);
        removed.into_iter().chain(self.oldest_made()).min()
    }

    /// The creation time of the oldest segment of ours that was not removed.
    pub(crate) fn oldest_made(&self) -> Option<Timestamp> {
        self.made().min()
    }

    /// The creation times of the segments of ours that were not removed.
    pub(super) fn made(&self) -> impl Iterator<Item = Timestamp> {
        let ours = self.segments.keys().filter(|name| name.is_canonical());
        ours.map(SegmentName::made)
    }

    /// True if a segment of ours has this creation time.
    pub(crate) fn has_made(&self, made: Timestamp) -> bool {
        self.made().any(|its| its == made)
    }

    /// The latest creation time of any segment of ours, including removed ones.
    pub(crate) fn newest_made(&self) -> Option<Timestamp> {
        self.made().max().max(self.removed().map(|mark| mark.up_to))
    }

    /// The segments of ours that were created before the end of a removal, and that it did not remove. A log has none,
    /// unless the mark or the segments were copied by hand.
    pub(crate) fn older_than_removed(&self) -> impl Iterator<Item = &SegmentName> {
        let removed = self.removed();
        let names = self.segments.keys();
        names.filter(move |name| removed.is_some_and(|mark| mark.covers(name)))
    }

    /// Moves the removed segments from `segments` to `leftovers`.
    fn set_aside_removed(&mut self, root: &Arc<Root>, folder: &Path, clock: &mut StepClock) -> Result<()> {
        let marks: Vec<RemovedMark> = self.own_removed_marks().collect();
        if marks.is_empty() {
            return Ok(());
        }
        let mut gone = Vec::new();
        for (name, forms) in &self.segments {
            if is_hidden(&marks, root, folder, name, clock)? {
                gone.push(Leftover {
                    name: name.clone(),
                    forms: *forms,
                });
            }
        }
        for leftover in &gone {
            self.segments.remove(&leftover.name);
        }
        self.leftovers = gone;
        Ok(())
    }

    /// The newest mark of removed segments, if it hides segments and none of them was unlinked yet, or the first segment
    /// of the log is still here. Without the mark the log is then as it was before the removal, also for cursors.
    pub(crate) fn undoable(&self) -> Option<RemovedMark> {
        let mark = self.removed().filter(|_| !self.leftovers.is_empty())?;
        let hidden = self.leftovers.iter().map(|leftover| leftover.name.made());
        let has_begun = self.made().chain(hidden).any(|made| made == mark.begun);
        (has_begun || mark.checks().count() == self.leftovers.len()).then_some(mark)
    }

    /// The marks of removed segments that belong to this log.
    fn own_removed_marks(&self) -> impl Iterator<Item = RemovedMark> {
        RemovedMark::own(&self.removed_marks, |made| self.has_made(made))
    }

    fn add_segment(&mut self, segment: SegmentName, form: SegmentForm) {
        let forms = self.segments.entry(segment).or_default();
        match form {
            SegmentForm::Plain => forms.plain = true,
            SegmentForm::Zstd => forms.zstd = true,
            SegmentForm::Gzip => forms.gzip = true,
            _ => {}
        }
    }

    fn add_own(&mut self, file: OwnFile) {
        self.add_segment(file.segment(), file.form);
    }

    fn add(&mut self, root: &Root, folder: &Path, name: &str, kind: FileKind) -> Result<()> {
        if kind != FileKind::File {
            match SegmentName::parse(name) {
                // A segment of ours that is not a file is an error: its events must not seem to be missing.
                Some((segment, _)) if segment.is_canonical() => {
                    return Err(root.read_fault(LIST, &folder.join(name), NotRegular.into()));
                }
                Some(_) => root.pass_over(&folder.join(name), kind),
                None => {}
            }
        } else if let Some((segment, form)) = SegmentName::parse(name) {
            self.add_segment(segment, form);
        } else if name.starts_with(crate::fs::TEMP_PREFIX) {
            self.temps.push(name.to_owned());
        } else if let Some(mark) = SealedMark::parse(name) {
            self.marks.push(mark);
        } else if let Some(mark) = RemovedMark::parse(name) {
            self.removed_marks.push(mark);
        } else if name.contains(".jsonl") {
            self.others.push(name.to_owned());
        }
        Ok(())
    }
}

/// True if one of the marks states that a segment is removed.
fn is_hidden(
    marks: &[RemovedMark],
    root: &Arc<Root>,
    folder: &Path,
    name: &SegmentName,
    clock: &mut StepClock,
) -> Result<bool> {
    for mark in marks {
        if mark.hides(root, folder, name, clock)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A function that lists an open folder with one pass over its names. A name that is created or removed during the pass
/// may be missed.
type Pass = fn(&Arc<Root>, &Path, &dyn FsFolder) -> Result<Listing>;

/// Makes one pass over a folder. An absent folder has no segments.
fn read_folder(pass: Pass, root: &Arc<Root>, folder: &Path) -> Result<Listing> {
    match root.open_folder(LIST, folder)? {
        Some(opened) => pass(root, folder, &*opened),
        None => Ok(Listing::default()),
    }
}

fn list_opened(root: &Arc<Root>, folder: &Path, opened: &dyn FsFolder) -> Result<Listing> {
    let (mut listing, mut added) = (Listing::default(), Ok(()));
    let names = opened.names(&mut |name, kind| {
        if added.is_ok() {
            added = listing.add(root, folder, name, kind);
        }
    });
    names.map_err(|error| root.read_fault(LIST, folder, error))?;
    added.map(|()| listing)
}

/// The latest creation time in a log, and the state of the folder for which it is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownNewest {
    mark: Mark,
    made: Option<Timestamp>,
}

/// The latest creation time in the names of our segments, in any form, including removed ones. The folder is not read
/// if it has not changed since `known`.
///
/// Called for each new segment, in folders with thousands of names: parses only names that are greater than all before
/// them. The caller has locked the folder, so no segment is created meanwhile. Two passes are made: a segment in
/// compression may show neither of its names to one of them, but this happens only once to a segment.
pub(crate) fn newest_made(
    root: &Root,
    folder: &Path,
    known: Option<KnownNewest>,
) -> Result<Option<Timestamp>> {
    let width = Timestamp::MIN.to_string().len();
    let mark = mark(root, folder);
    if let Some(known) = known.filter(|known| mark == Some(known.mark)) {
        return Ok(known.made);
    }
    let (mut newest, mut text) = (None, String::new());
    for _ in 0..2 {
        let opened = root.fs.folder(folder);
        let pass = opened.and_then(|opened| {
            opened.names(&mut |name, _| {
                if let Some(mark) = RemovedMark::parse(name) {
                    newest = newest.max(Some(mark.up_to));
                    return;
                }
                // The last stamp in the name of a segment, in every form, is its creation time. The texts of stamps
                // sort by time.
                let stem = name.split(".jsonl").next().unwrap_or_default();
                let stamp = stem.len().checked_sub(width).and_then(|at| stem.get(at..));
                if let Some(stamp) = stamp.filter(|stamp| **stamp > *text)
                    && let Some((segment, _)) = SegmentName::parse(name)
                    && segment.is_canonical()
                {
                    stamp.clone_into(&mut text);
                    newest = newest.max(Some(segment.made()));
                }
            })
        });
        pass.map_err(|error| root.read_fault(LIST, folder, error))?;
        if mark.is_some() && mark == self::mark(root, folder) {
            break;
        }
    }
    Ok(newest)
}

/// Lists the folder for a new writer, without the segments that a trusted mark of sealed segments covers. Of the
/// covered ones, only the newest, the oldest, and those that may still be compressed are listed. In a folder with
/// thousands of names, the other ones are not parsed.
fn list_unsealed(root: &Arc<Root>, folder: &Path, opened: &dyn FsFolder) -> Result<Listing> {
    let (mut listing, mut added) = (Listing::default(), Ok(()));
    let (mut reader, mut ours) = (NameReader::default(), Vec::new());
    let names = opened.names(&mut |name, kind| match reader.read(name, kind) {
        Some(file) => ours.push(file),
        None if added.is_ok() => added = listing.add(root, folder, name, kind),
        None => {}
    });
    names.map_err(|error| root.read_fault(LIST, folder, error))?;
    added?;
    let is_packed = |file: &OwnFile| file.form != SegmentForm::Plain;
    let some_are_packed = ours.iter().any(is_packed);
    let is_here = |made| ours.iter().any(|file: &OwnFile| file.made == made);
    let marks: Vec<_> = RemovedMark::own(&listing.removed_marks, is_here).collect();
    let removed = RemovedMark::newest(marks.iter().copied());
    if let Some(up_to) = removed.map(|mark| mark.up_to) {
        let (mut kept, clock) = (Vec::with_capacity(ours.len()), &mut StepClock::default());
        for file in ours {
            if file.made > up_to || !is_hidden(&marks, root, folder, &file.segment(), clock)? {
                kept.push(file);
            }
        }
        ours = kept;
    }
    let covered = SealedNames {
        segments: ours.iter().map(|file| (file.lower, file.made)),
        // A segment that is being compressed has two files.
        may_repeat: some_are_packed,
    };
    listing.mark = sealed_mark::trusted(root, folder, &listing.marks, &covered);
    let position = Position {
        // The segment without which the mark of removed segments does not count is listed.
        begun: removed.and_then(|mark| mark.left),
        ..Position::default()
    };
    let mut covered = listing.mark.map(|mark| Covered::new(mark.made, &position));
    let compresses = root.options.compression;
    let plain_is_final = !compresses && !some_are_packed;
    for file in ours {
        let needs_no_work = if is_packed(&file) {
            compresses
        } else {
            plain_is_final
        };
        let is_covered = needs_no_work && covered.as_mut().is_some_and(|covered| covered.takes(file));
        if !is_covered {
            listing.add_own(file);
        }
    }
    for file in covered.into_iter().flat_map(Covered::kept) {
        listing.add_own(file);
    }
    Ok(listing)
}

/// Lists all segments. One pass is enough if the folder did not change. Otherwise, passes are made until two agree.
///
/// A pass over a folder that changes may miss both names of a segment that is being renamed. A segment is renamed only
/// once, so two passes that agree have missed none.
pub(crate) fn list(root: &Arc<Root>, folder: &Path, deadline: Deadline) -> Result<Listing> {
    let listed = open_and_list(root, folder, deadline)?;
    Ok(listed.map(|(_, listing)| listing).unwrap_or_default())
}

/// Like [`list`], but lists only the segments that a new writer has to examine: those that the mark of sealed segments
/// does not cover, and some that it covers. Also returns the latest creation time, if the folder did not change
/// meanwhile.
pub(super) fn list_for_writer(
    root: &Arc<Root>,
    folder: &Path,
    deadline: Deadline,
) -> Result<(Listing, Option<KnownNewest>)> {
    let before = mark(root, folder);
    let listed = list_by(list_unsealed, root, folder, deadline)?;
    let listing = listed.map(|(_, listing)| listing).unwrap_or_default();
    // As in `newest_made` below, a new name is also above what a mark states that does not belong to this log.
    let removed = listing.removed_marks.iter().map(|mark| mark.up_to).max();
    let made = listing.newest_made().max(removed);
    let known = before.filter(|before| mark(root, folder) == Some(*before));
    Ok((listing, known.map(|mark| KnownNewest { mark, made })))
}

/// Like [`list`], but also returns the open folder. `None` if the folder is absent.
pub(super) fn open_and_list(
    root: &Arc<Root>,
    folder: &Path,
    deadline: Deadline,
) -> Result<Option<(Box<dyn FsFolder>, Listing)>> {
    list_by(list_opened, root, folder, deadline)
}

fn list_by(
    pass: Pass,
    root: &Arc<Root>,
    folder: &Path,
    deadline: Deadline,
) -> Result<Option<(Box<dyn FsFolder>, Listing)>> {
    let Some(opened) = root.open_folder(LIST, folder)? else {
        return Ok(None);
    };
    let mark = mark_of(root, &*opened);
    let mut before = pass(root, folder, &*opened)?;
    if mark.is_some() && mark == mark_of(root, &*opened) {
        return Ok(Some((opened, finished(root, folder, before, deadline)?)));
    }
    loop {
        let after = read_folder(pass, root, folder)?;
        if before.segments.keys().eq(after.segments.keys()) && before.removed() == after.removed() {
            return Ok(Some((opened, finished(root, folder, after, deadline)?)));
        }
        deadline.check(
            LIST,
            &root.absolute(folder).display(),
            "a listing that does not change",
        )?;
        before = after;
    }
}

/// A listing, and the state of the folder for which it is right.
#[derive(Debug)]
pub(super) struct KnownListing {
    mark: Mark,
    listing: Arc<Listing>,
}

/// Like [`list`], for a writer: also finds the trusted mark. Returns the listing in `known` if the folder has not
/// changed since.
pub(super) fn list_if_changed(
    root: &Arc<Root>,
    folder: &Path,
    known: &mut Option<KnownListing>,
    deadline: Deadline,
) -> Result<Arc<Listing>> {
    let before = mark(root, folder);
    if let Some(known) = known.as_ref().filter(|known| before == Some(known.mark)) {
        return Ok(Arc::clone(&known.listing));
    }
    let mut listing = list(root, folder, deadline)?;
    listing.mark = listing.trusted_mark(root, folder);
    let listing = Arc::new(listing);
    *known = before
        .filter(|before| mark(root, folder) == Some(*before))
        .map(|mark| KnownListing {
            mark,
            listing: Arc::clone(&listing),
        });
    Ok(listing)
}

/// The identity of a folder, and a value that changes with its names.
type Mark = ((u64, u64), FolderMark);

/// The identity of a log's folder, and the value that changes with its names; `None` if the file system gives none.
fn mark(root: &Root, folder: &Path) -> Option<Mark> {
    let opened = root.fs.folder(folder).ok()?;
    let mark = mark_of(root, &*opened)?;
    Some((opened.metadata().ok()?.identity, mark))
}

/// The value that changes with a folder's names; `None` if the file system gives none.
fn mark_of(root: &Root, opened: &dyn FsFolder) -> Option<FolderMark> {
    // A network file system may answer from a cache, so an equal value proves nothing.
    match root.options.allow_network_fs {
        true => None,
        false => opened.mark().ok()?,
    }
}

/// Lists the segments that a scan from `position` needs: all that the position does not cover, all that it names, the
/// newest of the covered ones for the replay filter, and the oldest one, which identifies the log. In a folder with
/// thousands of names, the other ones are not parsed.
pub(crate) fn list_after(
    root: &Arc<Root>,
    folder: &Path,
    position: &Position,
    deadline: Deadline,
) -> Result<Listing> {
    let (Some(covered_to), Some(mark)) = (position.mark, mark(root, folder)) else {
        return list(root, folder, deadline);
    };
    let Ok(opened) = root.fs.folder(folder) else {
        return list(root, folder, deadline);
    };
    let (mut reader, mut covered) = (NameReader::default(), Covered::new(covered_to, position));
    let (mut listing, mut added) = (Listing::default(), Ok(()));
    let names = opened.names(&mut |name, kind| match reader.read(name, kind) {
        Some(file) if covered.takes(file) => {}
        Some(file) => listing.add_own(file),
        None if added.is_ok() => added = listing.add(root, folder, name, kind),
        None => {}
    });
    names.map_err(|error| root.read_fault(LIST, folder, error))?;
    added?;
    if self::mark(root, folder) != Some(mark) {
        return list(root, folder, deadline);
    }
    for file in covered.kept() {
        listing.add_own(file);
    }
    if !listing.removed_marks.iter().all(|mark| listing.has_left(*mark)) {
        // The segment without which a mark does not count may be a covered one.
        return list(root, folder, deadline);
    }
    finished(root, folder, listing, deadline)
}

/// Completes a listing: leaves out removed segments, and adds twins.
fn finished(root: &Arc<Root>, folder: &Path, mut listing: Listing, deadline: Deadline) -> Result<Listing> {
    listing.set_aside_removed(root, folder, &mut StepClock::until(deadline))?;
    add_twins(root, folder, &mut listing, deadline)?;
    Ok(listing)
}

/// Adds the twins: compressed files beside plain ones with other events, which format 1 could leave. During a
/// compression, or after its process died, both files have the same events, and are one segment.
fn add_twins(root: &Arc<Root>, folder: &Path, listing: &mut Listing, deadline: Deadline) -> Result<()> {
    let mut twins = Vec::new();
    for (name, forms) in &listing.segments {
        if !forms.plain || !name.is_canonical() {
            continue;
        }
        for (there, form) in [(forms.zstd, SegmentForm::Zstd), (forms.gzip, SegmentForm::Gzip)] {
            if there && differ(SegmentRef::new(root, folder, name), form, deadline)? {
                twins.push((
                    name.twin(form),
                    Forms {
                        plain: false,
                        ..*forms
                    },
                ));
            }
        }
    }
    listing.segments.extend(twins);
    Ok(())
}

/// True if the compressed form has other events than the plain one. A compressed file of ours shows this in its first
/// frame.
fn differ(segment: SegmentRef<'_>, form: SegmentForm, deadline: Deadline) -> Result<bool> {
    let Some((file, found)) = source::open_form(segment, SegmentForm::Plain)? else {
        return Ok(false);
    };
    let header = match form {
        SegmentForm::Zstd => archive::summary(segment)?,
        _ => None,
    };
    let Some(header) = header else {
        return Ok(!archive::says_the_same(segment, form)?);
    };
    let path = segment.path(SegmentForm::Plain);
    let last = search::last_record(
        segment.root,
        &path,
        &*file,
        found.len,
        &mut StepClock::until(deadline),
    )?;
    Ok(header.bytes != found.len || header.last != last.map(|last| last.id))
}
