//! Taking items, and what becomes of them then.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{facts, facts_of_line, suits};
use prodigy_storage_backend::{
    Deadline, Durability, ItemId, Lease, LeaseToken, QueueEntry, Result, Select, Settled,
};
use prodigy_storage_layout::{Entry, JobAddress};

use super::Queues;
use super::line::{self, ItemChecksum, encoded};
use super::rewrite::{Change, Context};
use super::state::QueueState;
use crate::root::LockedFile;

/// The line that takes the place of one; `None` where it has to stay.
type Remake = fn(&[u8], ItemChecksum) -> Option<Vec<u8>>;

/// A queue whose lock is held.
struct Held<'a> {
    path: PathBuf,
    state: QueueState,
    _lock: LockedFile<'a>,
}

impl Queues {
    pub(crate) fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        const OPERATION: &str = "queue take";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        let Some(held) = self.hold(OPERATION, job, deadline)? else {
            return Ok(Vec::new());
        };
        if limit == 0 {
            self.keep(&held.path, held.state);
            return Ok(Vec::new());
        }
        let clock = &*self.root.options.clock;
        let named: Option<HashSet<&str>> = select
            .ids
            .as_ref()
            .map(|ids| ids.iter().map(ItemId::as_str).collect());
        let mut taken = Vec::new();
        self.change(OPERATION, held, deadline, false, |checksum, bytes| {
            if taken.len() >= limit || line::is_held(bytes, checksum, clock) {
                return None;
            }
            if let Some(named) = &named
                && line::id(bytes).is_none_or(|id| !named.contains(id.as_ref()))
            {
                return None;
            }
            // An item that is not asked for is not worth a copy.
            let sealed = match checksum {
                ItemChecksum::Valid => facts_of_line(bytes).ok(),
                ItemChecksum::BadFrame | ItemChecksum::Missing | ItemChecksum::TooLarge => None,
            };
            if sealed.as_ref().is_some_and(|facts| !suits(select, facts)) {
                return None;
            }
            let mut entry = line::read(bytes, checksum)?;
            // An item of another program without the facts is taken only by its name.
            let wanted = match sealed.map_or_else(|| facts(&entry.body), Ok) {
                Ok(facts) => suits(select, &facts),
                Err(_) => named.is_some() && select.signature.is_none() && select.not_after.is_none(),
            };
            if wanted && entry.is_pending(clock) {
                entry.lease = Some(Lease::begin(lease, clock));
                let line = encoded(&entry.body, entry.lease.as_ref());
                taken.push(entry);
                return Some(Change::Line(line));
            }
            None
        })?;
        Ok(taken)
    }

    pub(crate) fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.settle(
            "queue ack",
            job,
            tokens,
            LeaseToken::as_str,
            deadline,
            line::token,
            None,
        )
    }

    pub(crate) fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.settle(
            "queue nack",
            job,
            tokens,
            LeaseToken::as_str,
            deadline,
            line::token,
            Some(|bytes, checksum| Some(encoded(&line::read(bytes, checksum)?.body, None))),
        )
    }

    pub(crate) fn queue_remove(
        &self,
        job: &JobAddress,
        ids: &[ItemId],
        deadline: Deadline,
    ) -> Result<Settled<ItemId>> {
        const OPERATION: &str = "queue remove";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        self.settle(
            OPERATION,
            job,
            ids,
            ItemId::as_str,
            deadline,
            |bytes, checksum| match checksum {
                ItemChecksum::TooLarge => line::head_id(bytes).map(Cow::Owned),
                _ => line::id(bytes),
            },
            None,
        )
    }

    /// Changes the items whose key is among `keys`: to what `change` makes of one, or to nothing. A key that is named
    /// twice is settled once and then unknown.
    #[expect(clippy::too_many_arguments, reason = "what differs between three calls")]
    fn settle<K: Clone>(
        &self,
        operation: &'static str,
        job: &JobAddress,
        keys: &[K],
        text: impl Fn(&K) -> &str,
        deadline: Deadline,
        key: impl Fn(&[u8], ItemChecksum) -> Option<Cow<'_, str>>,
        change: Option<Remake>,
    ) -> Result<Settled<K>> {
        let mut settled = Settled {
            settled: Vec::new(),
            unknown: Vec::new(),
        };
        let Some(held) = self.hold(operation, job, deadline)? else {
            settled.unknown = keys.to_vec();
            return Ok(settled);
        };
        if keys.is_empty() {
            self.keep(&held.path, held.state);
            return Ok(settled);
        }
        let wanted: HashSet<&str> = keys.iter().map(&text).collect();
        let mut found = HashSet::new();
        self.change(operation, held, deadline, change.is_none(), |checksum, bytes| {
            let key = key(bytes, checksum)?;
            let key = *wanted.get(key.as_ref())?;
            let change = match change {
                Some(change) => Change::Line(change(bytes, checksum)?),
                None => Change::Drop,
            };
            found.insert(key);
            Some(change)
        })?;
        for key in keys {
            if found.remove(text(key)) {
                settled.settled.push(key.clone());
            } else {
                settled.unknown.push(key.clone());
            }
        }
        Ok(settled)
    }

    /// Locks and opens an existing queue; it creates none.
    fn hold(
        &self,
        operation: &'static str,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<Option<Held<'_>>> {
        let path = Entry::Queue(job.clone()).path();
        if !self.root.options.read_only && self.queue_is_absent(operation, &path)? {
            return Ok(None);
        }
        self.root.prepare_write(operation, job)?;
        let lock = LockedFile::take(
            &self.root,
            &Entry::QueueLock(job.clone()).path(),
            operation,
            "queue",
            deadline,
        )?;
        let state = self.queue_open(operation, &path, deadline)?;
        Ok(state.map(|state| Held {
            path,
            state,
            _lock: lock,
        }))
    }

    /// Stores what `decide` changes, and gives the lock back.
    fn change(
        &self,
        operation: &'static str,
        held: Held<'_>,
        deadline: Deadline,
        drops: bool,
        decide: impl FnMut(ItemChecksum, &[u8]) -> Option<Change>,
    ) -> Result<()> {
        let context = Context {
            operation,
            path: &held.path,
            durability: Durability::Strict,
            deadline,
        };
        let state = self.queue_change(context, held.state, drops, decide)?;
        self.keep(&held.path, state);
        Ok(())
    }
}
