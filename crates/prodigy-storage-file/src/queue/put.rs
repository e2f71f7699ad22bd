//! Putting items.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::dead_letter::{merge, normalise};
use prodigy_storage_backend::{
    Deadline, Durability, ErrorKind, ItemId, PutReport, QueueItem, Result, StorageError,
};
use prodigy_storage_layout::{Entry, JobAddress};
use serde_json::value::RawValue;

use super::CLOSING;
use super::Queues;
use super::line::{self, encoded};
use super::rewrite::{Change, Changes, Context, unknown};
use super::scan::Fragment;
use super::state::{QueueState, close};
use crate::root::{LockedFile, Replace, TempFile};

const OPERATION: &str = "queue put";

/// The items of a batch under one key.
struct Pushed<'a> {
    id: &'a ItemId,
    body: Cow<'a, RawValue>,
    /// The bodies to be merged into it, in order.
    more: Vec<Cow<'a, RawValue>>,
}

impl Queues {
    pub(crate) fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.root.prepare_write(OPERATION, job)?;
        let mut batch = self.by_key(items)?;
        if batch.is_empty() {
            return Ok(PutReport::default());
        }
        let path = Entry::Queue(job.clone()).path();
        let _lock = LockedFile::take(
            &self.root,
            &Entry::QueueLock(job.clone()).path(),
            OPERATION,
            "queue",
            deadline,
        )?;
        let state = self.queue_open(OPERATION, &path, deadline)?;
        let found = match &state {
            Some(state) => self.find(&path, state, &batch, deadline)?,
            None => HashMap::new(),
        };
        let added = batch.len() - found.len();
        let report = PutReport {
            added,
            merged: items.len() - added,
        };

        let mut merged = HashMap::new();
        let mut new = Vec::with_capacity(added);
        for item in &mut batch {
            let stored = found.get(item.id.as_str());
            if let Some((_, entry)) = stored {
                item.body = Cow::Owned(merge(&entry.body, &item.body, self.root.now())?);
            }
            for more in item.more.drain(..) {
                item.body = Cow::Owned(merge(&item.body, &more, self.root.now())?);
            }
            self.fits(item.id, &item.body)?;
            match stored {
                Some((start, entry)) => {
                    let line = encoded(&item.body, entry.lease.as_ref());
                    merged.insert(*start, line);
                }
                None => new.push(&*item),
            }
        }
        let state = match state {
            None => self.create(&path, &new, durability)?,
            Some(state) if merged.is_empty() && state.plain => self.push(&path, state, &new, durability)?,
            Some(state) => {
                let context = Context {
                    operation: OPERATION,
                    path: &path,
                    durability,
                    deadline,
                };
                let changes = Changes {
                    decide: &mut |start, _, _| merged.remove(&start).map(Change::Line),
                    drops: false,
                    added: new.iter().map(|item| encoded(&item.body, None)).collect(),
                    kept: false,
                };
                self.queue_rewrite(context, state, changes)?
            }
        };
        self.keep(&path, state);
        Ok(report)
    }

    /// Checks the whole batch, and puts together what has the same key.
    fn by_key<'a>(&self, items: &'a [QueueItem]) -> Result<Vec<Pushed<'a>>> {
        let mut batch: Vec<Pushed<'a>> = Vec::with_capacity(items.len());
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(items.len());
        for item in items {
            let body = self.checked(item)?;
            self.fits(&item.id, &body)?;
            match places.get(item.id.as_str()).and_then(|&at| batch.get_mut(at)) {
                Some(earlier) => earlier.more.push(body),
                None => {
                    places.insert(item.id.as_str(), batch.len());
                    batch.push(Pushed {
                        id: &item.id,
                        body,
                        more: Vec::new(),
                    });
                }
            }
        }
        Ok(batch)
    }

    /// The body as a line may hold it: on one line, the id first, without fields of the queue.
    fn checked<'a>(&self, item: &'a QueueItem) -> Result<Cow<'a, RawValue>> {
        let json = item.body.get().as_bytes();
        let normal = memchr::memchr2(b'\n', b'\r', json).is_none()
            && line::id(json).is_some_and(|id| json.starts_with(line::HEAD) && id == item.id.as_str())
            && memchr::memmem::find_iter(json, b"\"item_id\"").nth(1).is_none()
            && ["\"crc\"", "\"lease_"]
                .iter()
                .all(|name| memchr::memmem::find(json, name.as_bytes()).is_none());
        if normal {
            return Ok(Cow::Borrowed(&item.body));
        }
        let again = normalise(&item.body, self.root.now())?;
        if again.id != item.id {
            return Err(StorageError::invalid(
                OPERATION,
                &item.id,
                format!("its body says `item_id` {}", again.id),
            ));
        }
        Ok(Cow::Owned(again.body))
    }

    fn fits(&self, id: &ItemId, body: &RawValue) -> Result<()> {
        let (len, limit) = (body.get().len() as u64, self.root.options.max_record_size);
        if len <= limit {
            return Ok(());
        }
        Err(StorageError::new(
            ErrorKind::TooLarge,
            OPERATION,
            id,
            format!("the item has {len} bytes, `max_record_size` is {limit}; nothing was stored"),
        )
        .with_hint("keep large data in a file of its own and push its path, or raise `max_record_size`"))
    }

    /// The items of the batch that are stored already, with their offsets. The file is only read where a hash says
    /// that there may be one.
    fn find<'a>(
        &self,
        path: &Path,
        state: &QueueState,
        batch: &[Pushed<'a>],
        deadline: Deadline,
    ) -> Result<HashMap<&'a str, (u64, prodigy_storage_backend::QueueEntry)>> {
        let mut wanted: HashSet<&str> = batch
            .iter()
            .map(|item| item.id.as_str())
            .filter(|id| state.hashes.contains(&self.hash(id)))
            .collect();
        let mut found = HashMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        self.queue_survey(OPERATION, path, &state.file, deadline, |fragment, bytes| {
            if let Fragment::Item { start, checksum, .. } = fragment
                && let Some(id) = line::id(bytes)
                && wanted.contains(id.as_ref())
                && let Some(entry) = line::read(bytes, *checksum)
                && let Some(id) = wanted.take(id.as_ref())
            {
                found.insert(id, (*start, entry));
            }
            if let Fragment::TooLarge {
                start,
                end,
                checksum,
                head,
            } = fragment
            {
                let item = self.too_large_item(path, *start..*end, *checksum, head);
                // A second one with its id is not stored, and what is not read can't be merged into.
                if item.id.as_deref().is_some_and(|id| wanted.contains(id)) {
                    return Err(item.into());
                }
            }
            Ok(!wanted.is_empty())
        })?;
        Ok(found)
    }

    /// Makes the file.
    fn create(&self, path: &Path, new: &[&Pushed<'_>], durability: Durability) -> Result<QueueState> {
        let mut bytes = vec![b'['];
        lines(&mut bytes, new, false);
        let end = bytes.len() as u64;
        bytes.extend_from_slice(CLOSING);
        TempFile::write_whole(&self.root, OPERATION, path, &[&bytes], Replace::Never, durability)?;
        let fault = |error| self.root.write_fault(OPERATION, path, error);
        let file: Arc<dyn crate::fs::FsFile> = self
            .root
            .fs
            .open(path, crate::fs::OpenMode::Write)
            .map_err(fault)?
            .into();
        Ok(QueueState {
            identity: file.metadata().map_err(fault)?.identity,
            file,
            end,
            len: bytes.len() as u64,
            any: true,
            plain: true,
            hashes: new.iter().map(|item| self.hash(item.id.as_str())).collect(),
            linked: durability == Durability::Strict,
            synced: true,
        })
    }

    /// Writes new items over the closing bracket: one write, one sync, however long the queue is. One sync more where
    /// another process wrote last.
    fn push(
        &self,
        path: &Path,
        mut state: QueueState,
        new: &[&Pushed<'_>],
        durability: Durability,
    ) -> Result<QueueState> {
        if durability == Durability::Strict && !state.synced {
            // A loss of power that took what is there, and not what is written behind it, would leave a hole.
            self.root.counters.sync(path);
            state
                .file
                .sync()
                .map_err(|error| self.root.write_fault(OPERATION, path, error))?;
        }
        let mut bytes = Vec::new();
        lines(&mut bytes, new, state.any);
        let end = state.end + bytes.len() as u64;
        bytes.extend_from_slice(CLOSING);
        let len = state.end + bytes.len() as u64;
        let written = state.file.write_all_at(&bytes, state.end).and_then(|()| {
            // A closing of another program may have been longer.
            if state.len > len {
                state.file.set_len(len)
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            return match close(&mut state) {
                Ok(()) => {
                    let error = self.root.write_fault(OPERATION, path, error);
                    self.keep(path, state);
                    Err(error)
                }
                Err(again) => Err(unknown(
                    &self.root,
                    OPERATION,
                    path,
                    &format!("only in part ({error:#}), and it could not be taken back"),
                    again,
                )),
            };
        }
        if durability == Durability::Strict {
            self.root.counters.sync(path);
            state
                .file
                .sync()
                .map_err(|error| unknown(&self.root, OPERATION, path, "the sync failed", error))?;
            if !state.linked {
                self.root
                    .sync_folder(path.parent().unwrap_or(Path::new("")))
                    .map_err(|error| {
                        unknown(
                            &self.root,
                            OPERATION,
                            path,
                            "its folder could not be synced",
                            error,
                        )
                    })?;
                state.linked = true;
            }
            state.synced = true;
        } else {
            self.root.sync_file_later(path)?;
        }
        state.end = end;
        state.len = len;
        state.any = true;
        let hashes = new.iter().map(|item| self.hash(item.id.as_str()));
        state.hashes.extend(hashes);
        Ok(state)
    }
}

/// The lines of new items, each with what separates it from the one before.
fn lines(out: &mut Vec<u8>, new: &[&Pushed<'_>], mut any: bool) {
    for item in new {
        out.extend_from_slice(if any { b",\n" } else { b"\n" });
        line::encode(out, &item.body, None);
        any = true;
    }
}
