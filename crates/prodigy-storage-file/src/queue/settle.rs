//! Settles items: acknowledges, releases, or otherwise changes stored items.

use prodigy_storage_backend::dead_letter::changed;
use prodigy_storage_backend::{
    Change, Claim, Deadline, Delay, Durability, Lease, QueueEntry, Result, Settled, Settlement,
};
use prodigy_storage_layout::{Entry, JobAddress};

use super::compact::Unreadable;
use super::index::Flags;
use super::record::Verb;
use super::standing::Standing;
use super::turn::Turn;
use super::{Gate, Queues};

const OPERATION: &str = "queue settle";

impl Queues {
    pub(crate) fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        gate: Gate<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>> {
        for settlement in settlements {
            settlement.check(OPERATION)?;
        }
        if settlements
            .iter()
            .any(|settlement| !matches!(settlement.claim, Claim::Lease(_)))
        {
            self.skip_dead_letters(OPERATION, job, deadline)?;
        }
        let is_absent =
            !self.root.options.read_only && self.is_absent(OPERATION, &Entry::Queue(job.clone()).path())?;
        if settlements.is_empty() || is_absent {
            return Ok(vec![Settled::Unknown; settlements.len()]);
        }
        self.root.prepare_write(OPERATION, job)?;
        let mut turn = Turn::begin(self, OPERATION, job, "queue", deadline)?;
        if let Some(pass) = gate {
            pass()?;
        }
        turn.tidy_if_new();
        if turn.files.rough {
            let mut is_one_there = false;
            for settlement in settlements {
                is_one_there |= turn.claimed(&settlement.claim)?.is_some();
            }
            if is_one_there {
                turn.compact(Unreadable::Quarantined)?;
            }
        }
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            settled.push(turn.settle(settlement)?);
        }
        turn.commit(Durability::Strict)?;
        turn.compact_if_due();
        // Always strict: if a settlement finds that its change was already made, that change may not be on the disk
        // yet.
        turn.end(Durability::Strict)?;
        Ok(settled)
    }
}

impl Turn<'_> {
    /// Finds the item that a claim names; `None` if no item matches.
    fn claimed(&mut self, claim: &Claim) -> Result<Option<u32>> {
        match claim {
            Claim::Lease(token) => {
                let hash = self.queues.token_hash(token.as_str());
                let found = self.files.index.with_token(hash);
                match found {
                    Some(at) if self.token_of(at)?.as_ref() == Some(token) => Ok(found),
                    _ => Ok(None),
                }
            }
            Claim::Item(id) | Claim::Revision(id, _) => Ok(self.with_id(id)?.first().copied()),
        }
    }

    fn settle(&mut self, settlement: &Settlement) -> Result<Settled> {
        let Settlement { claim, change } = settlement;
        let Some(at) = self.claimed(claim)? else {
            return Ok(Settled::Unknown);
        };
        if let Claim::Revision(_, revision) = claim
            && self.entry_of(at, claim)?.revision != *revision
        {
            return Ok(Settled::Changed);
        }
        let clock = &*self.queues.root.options.clock;
        let released = |place| Standing {
            place,
            ..Standing::default()
        };
        match change {
            Change::Remove if matches!(claim, Claim::Lease(_)) && self.files.index.is(at, Flags::CHANGED) => {
                let number = self.next()?;
                self.change(at, number, Verb::Release, &released(number), None);
                return Ok(Settled::Kept);
            }
            Change::Remove => {
                // In a file of another program, two items may have the same id.
                let all = match claim {
                    Claim::Item(id) => self.with_id(id)?,
                    Claim::Lease(_) | Claim::Revision(..) => vec![at],
                };
                for at in all {
                    let number = self.next()?;
                    self.change(at, number, Verb::Remove, &released(number), None);
                }
            }
            Change::Extend(length) => {
                let Claim::Lease(token) = claim else {
                    return Ok(Settled::Unknown);
                };
                let lease = Lease {
                    token: token.clone(),
                    ..Lease::begin(*length, clock)
                };
                let standing = Standing {
                    place: self.files.index.place(at),
                    lease: Some(lease),
                    delay: None,
                };
                let number = self.next()?;
                self.change(at, number, Verb::Extend, &standing, None);
            }
            Change::Release { delay } => {
                let number = self.next()?;
                let standing = Standing {
                    delay: Delay::begin(*delay, clock),
                    ..released(number)
                };
                self.change(at, number, Verb::Release, &standing, None);
            }
            Change::Fail(_) => {
                let entry = self.entry_of(at, claim)?;
                let number = self.next()?;
                match changed(&entry.id, &entry.body, change, self.queues.root.now())? {
                    Some(body) => {
                        self.queues.fits(OPERATION, &entry.id, &body)?;
                        self.change(at, number, Verb::Fail, &released(number), Some(&body));
                    }
                    // The failure was already recorded by an earlier call, so only the lease ends.
                    None => self.change(at, number, Verb::Release, &released(number), None),
                }
            }
            _ => {
                let verb = match change {
                    Change::Park { .. } => Verb::Park,
                    Change::Unpark => Verb::Unpark,
                    _ => Verb::Edit,
                };
                let entry = self.entry_of(at, claim)?;
                let standing = Standing {
                    place: entry.place.0,
                    lease: None,
                    delay: entry.delay,
                };
                let Some(body) = changed(&entry.id, &entry.body, change, self.queues.root.now())? else {
                    return Ok(Settled::Already);
                };
                self.queues.fits(OPERATION, &entry.id, &body)?;
                let number = self.next()?;
                self.change(at, number, verb, &standing, Some(&body));
            }
        }
        Ok(Settled::Done)
    }

    /// Reads an item whose contents the change needs. Fails if they can't be read.
    fn entry_of(&self, at: u32, claim: &Claim) -> Result<QueueEntry> {
        if let Some(entry) = self.entry(at)? {
            return Ok(entry);
        }
        match claim {
            Claim::Item(id) | Claim::Revision(id, _) if self.files.index.is(at, Flags::LARGE) => {
                Err(self.queues.over_limit(OPERATION, id))
            }
            _ => Err(self.unreadable(at)),
        }
    }
}
