//! The doctor's view of a queue, and the rewrite of its file without damage.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, Result, TooLarge};
use prodigy_storage_layout::{Entry, JobAddress};

use super::Queues;
use super::line::{self, ItemChecksum, TRAILER};
use super::rewrite::{Change, Changes, Context};
use super::scan::{Fragment, Scanner};
use crate::fs::{FsFile, OpenMode};
use crate::root::LockedFile;

const REPAIR: &str = "repair queue";

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) why: &'static str,
    /// Whether the item that they belong to is whole even so.
    pub(crate) harmless: bool,
}

/// The contents of a queue's file.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Items that can be read.
    pub(crate) items: u64,
    /// Those among them that have no checksum.
    pub(crate) unverified: u64,
    pub(crate) spots: Vec<Spot>,
    /// Items that are larger than the limit: no damage.
    pub(crate) too_large: Vec<TooLarge>,
    /// Where the end of a write that was cut short begins.
    pub(crate) torn: Option<u64>,
    /// Whether the array is closed.
    pub(crate) closed: bool,
    pub(crate) len: u64,
    /// Offsets of items whose checksum matches and that can't be parsed even so.
    unreadable: Vec<u64>,
    /// The number of elements of another program.
    pub(crate) others: u64,
    /// True if the file is ours.
    pub(crate) ours: bool,
}

impl Survey {
    /// True if the file holds items only.
    pub(crate) fn is_read(&self) -> bool {
        self.others == 0 && self.spots.is_empty() && self.torn.is_none()
    }
}

impl Queues {
    /// Reads a queue's file; `None` if there is no file. Takes no lock.
    pub(crate) fn queue_survey_at(&self, path: &Path) -> Result<Option<Survey>> {
        let file: Arc<dyn FsFile> = match self.root.fs.open(path, OpenMode::Read) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.root.read_fault("examine queue", path, error)),
        };
        self.survey(path, &file).map(Some)
    }

    fn survey(&self, path: &Path, file: &Arc<dyn FsFile>) -> Result<Survey> {
        let fault = |error| self.root.read_fault("examine queue", path, error);
        let mut survey = Survey {
            ours: self.queue_is_ours(path, file)?,
            ..Survey::default()
        };
        let mut scanner = Scanner::new(Arc::clone(file), self.root.options.largest_read()).map_err(fault)?;
        while let Some(fragment) = scanner.next().map_err(fault)? {
            match fragment {
                Fragment::Foreign { .. } => survey.others += 1,
                Fragment::Damage { start, end, why } => {
                    survey.spots.push(Spot {
                        start,
                        end,
                        why,
                        harmless: false,
                    });
                }
                Fragment::TooLarge {
                    start,
                    end,
                    checksum,
                    head,
                } => {
                    let item = self.too_large_item(path, start..end, checksum, &head);
                    survey.too_large.push(item);
                }
                Fragment::Item {
                    start,
                    range,
                    checksum,
                } => {
                    let bytes = scanner.bytes(range);
                    let end = start + bytes.len() as u64;
                    if line::read(bytes, checksum).is_none() {
                        survey.unreadable.push(start);
                        survey.spots.push(Spot {
                            start,
                            end,
                            why: "it is not an item",
                            harmless: false,
                        });
                        continue;
                    }
                    survey.items += 1;
                    survey.unverified += u64::from(checksum == ItemChecksum::Missing);
                    if checksum == ItemChecksum::BadFrame {
                        survey.spots.push(Spot {
                            start: end.saturating_sub(TRAILER as u64),
                            end,
                            why: "the frame of a checksum is damaged; its item is whole",
                            harmless: true,
                        });
                    }
                }
            }
        }
        survey.torn = scanner.array().tail;
        survey.closed = scanner.array().closed;
        survey.len = scanner.len();
        Ok(survey)
    }

    /// Rewrites a queue without its damage, under its lock. `keep` gets the file and the damage first,
    /// and has to have copied the damage when it returns. False if nothing is damaged.
    pub(crate) fn queue_rebuild(
        &self,
        job: &JobAddress,
        deadline: Deadline,
        keep: impl FnOnce(&dyn FsFile, &[Spot]) -> Result<()>,
    ) -> Result<bool> {
        let path = Entry::Queue(job.clone()).path();
        self.root.prepare_write(REPAIR, job)?;
        let _lock = LockedFile::take(
            &self.root,
            &Entry::QueueLock(job.clone()).path(),
            REPAIR,
            "repair",
            deadline,
        )?;
        let Some(state) = self.queue_open(REPAIR, &path, Deadline::never())? else {
            return Ok(false);
        };
        let survey = self.survey(&path, &state.file)?;
        if survey.spots.is_empty() || !survey.ours {
            self.keep(&path, state);
            return Ok(false);
        }
        keep(&*state.file, &survey.spots)?;
        let context = Context {
            operation: REPAIR,
            path: &path,
            durability: Durability::Strict,
            deadline: Deadline::never(),
        };
        let unreadable: HashSet<u64> = survey.unreadable.into_iter().collect();
        let changes = Changes {
            decide: &mut |start, _, _| unreadable.contains(&start).then_some(Change::Drop),
            drops: true,
            added: Vec::new(),
            kept: true,
        };
        let state = self.queue_rewrite(context, state, changes)?;
        self.keep(&path, state);
        Ok(true)
    }
}
