//! Takes items.

use std::time::Duration;

use prodigy_storage_backend::dead_letter::{facts, suits};
use prodigy_storage_backend::{Deadline, Durability, Eligible, Lease, QueueEntry, QueueMark, Result, Select};
use prodigy_storage_layout::{Entry, JobAddress};

use super::compact::Unreadable;
use super::index::{Flags, Walk};
use super::record::Verb;
use super::standing::Standing;
use super::turn::{STRIDE, Turn};
use super::{Gate, Queues};

impl Queues {
    pub(crate) fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        gate: Gate<'_>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        const OPERATION: &str = "queue take";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        if !self.root.options.read_only && self.is_absent(OPERATION, &Entry::Queue(job.clone()).path())? {
            return Ok(Vec::new());
        }
        self.root.prepare_write(OPERATION, job)?;
        let mut turn = Turn::begin(self, OPERATION, job, "queue", deadline)?;
        if let Some(pass) = gate {
            pass()?;
        }
        turn.tidy_if_new();
        let mut taken = turn.find(select, limit)?;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        if turn.files.rough {
            turn.compact(Unreadable::Quarantined)?;
        }
        for (birth, entry) in &mut taken {
            let number = turn.next()?;
            entry.lease = Some(Lease::begin(lease, &*self.root.options.clock));
            entry.delay = None;
            entry.place = QueueMark(number);
            let standing = Standing {
                place: number,
                lease: entry.lease.clone(),
                delay: None,
            };
            if let Some(at) = turn.files.index.find(*birth) {
                turn.change(at, number, Verb::Lease, &standing, None);
            }
        }
        turn.commit(Durability::Strict)?;
        turn.compact_if_due();
        turn.end(Durability::Strict)?;
        Ok(taken.into_iter().map(|(_, entry)| entry).collect())
    }
}

impl Turn<'_> {
    /// Finds the selected items that may be taken, ordered by place, each with its birth (the number that the
    /// queue's counter had when the item was added).
    fn find(&mut self, select: &Select, limit: usize) -> Result<Vec<(u64, QueueEntry)>> {
        let mut found = Vec::new();
        let mut walk = Walk::default();
        // A walk through the index returns eligible items in the order of their places, so no list of candidates is
        // needed.
        let is_walk = select.ids.is_none() && select.eligible == Eligible::Yes;
        let mut others = if is_walk {
            Vec::new()
        } else {
            self.candidates(select)?
        }
        .into_iter();
        let mut count = 0;
        while found.len() < limit {
            let next = match is_walk {
                true => self.files.index.next_ready(&mut walk),
                false => others.next(),
            };
            let Some(at) = next else {
                break;
            };
            if select
                .until
                .is_some_and(|mark| self.files.index.place(at) > mark.0)
            {
                break;
            }
            count += 1;
            if count % STRIDE == 0 {
                self.deadline
                    .check(self.operation, &self.items_path.display(), "the queue to be read")?;
            }
            let Some(entry) = self.entry(at)? else {
                let offset = self.files.index.location(at).offset;
                tracing::warn!(path = %self.items_path.display(), offset, "an item of a queue can't be read");
                self.files.index.set(at, Flags::ODD, true);
                continue;
            };
            let is_wanted = match facts(&entry.body) {
                Ok(facts) => suits(select, &facts),
                // An item of another program whose fields can't be read is taken only if its id is named.
                Err(_) => {
                    self.files.index.set(at, Flags::ODD, true);
                    select.ids.is_some() && asks_for_no_facts(select)
                }
            };
            if is_wanted {
                found.push((self.files.index.birth(at), entry));
            }
        }
        Ok(found)
    }

    /// The items that no lease or delay keeps from being taken, ordered by place. If ids are named, only these items.
    fn candidates(&mut self, select: &Select) -> Result<Vec<u32>> {
        let mut found = match &select.ids {
            Some(ids) => {
                let mut found = Vec::with_capacity(ids.len());
                for id in ids {
                    found.extend(self.with_id(id)?);
                }
                found
            }
            None => self.files.index.living().collect(),
        };
        let index = &self.files.index;
        found.retain(|at| !index.waits(*at) && !index.is(*at, Flags::LARGE));
        if select.eligible == Eligible::No {
            found.retain(|at| index.is(*at, Flags::PARKED) || index.is(*at, Flags::ODD));
        }
        found.sort_unstable_by_key(|at| index.place(*at));
        found.dedup();
        Ok(found)
    }
}

/// True if a selection depends on no field of an item's contents except its eligibility.
pub(super) fn asks_for_no_facts(select: &Select) -> bool {
    select.signature.is_none()
        && select.error_type.is_none()
        && select.not_after.is_none()
        && select.not_before.is_none()
        && select.min_attempts.is_none()
        && select.max_attempts.is_none()
}
