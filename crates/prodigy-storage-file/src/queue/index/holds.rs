//! Leases and delays: which of them last, and which items become ready when one of them ends.

use std::time::Duration;

use prodigy_storage_backend::{Clock, Lease, LeaseToken};
use prodigy_storage_layout::Timestamp;

use super::super::standing::End;
use super::Index;
use super::slot::{Flags, Hold};

impl Index {
    /// Keeps only the last lease or delay of each item that was read so far.
    pub(super) fn take_late(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        let slots = &self.slots;
        let is_held = |at: u32| {
            slots
                .get(at as usize)
                .is_some_and(|slot| slot.flags.has(Flags::WAITS))
        };
        self.holds.retain(|at, _| is_held(*at));
        self.holds.extend(late.drain(..).filter(|(at, _)| is_held(*at)));
        self.late = late;
    }

    /// Registers a lease by its token, and a lease or delay by its end.
    pub(super) fn hold_on(&mut self, at: u32, hold: Hold) {
        if hold.token != 0 {
            self.tokens.insert(hold.token, at);
        }
        match hold.end {
            End::At(end) => {
                let boot = *self.boot.get_or_insert(end.boot);
                // The lease was taken before a reboot, so it has ended; the next call of `wake` finds it.
                let since = if boot == end.boot {
                    end.since
                } else {
                    Duration::ZERO
                };
                self.waiting.insert((since, at));
            }
            End::Wall(_) => {
                self.by_wall.insert(at);
            }
        }
    }

    /// Removes the lease or delay of an item.
    pub(super) fn let_go(&mut self, at: u32) {
        if self.loading {
            self.change(at, |slot| slot.flags = slot.flags.with(Flags::WAITS, false));
            return;
        }
        if let Some(hold) = self.holds.remove(&at) {
            if self.tokens.get(&hold.token) == Some(&at) {
                self.tokens.remove(&hold.token);
            }
            if let End::At(end) = hold.end {
                self.waiting.remove(&(end.since, at));
                self.waiting.remove(&(Duration::ZERO, at));
            }
            self.by_wall.remove(&at);
            self.change(at, |slot| slot.flags = slot.flags.with(Flags::WAITS, false));
        }
    }

    /// Ends the leases and delays whose time has passed. An ended lease can still be found by its token.
    pub(in crate::queue) fn wake(&mut self, clock: &dyn Clock) {
        let now = clock.uptime();
        if self.boot != Some(now.boot) {
            // The machine was rebooted, so it is decided again which leases and delays last.
            self.boot = Some(now.boot);
            let all = self.holds.iter();
            self.waiting = all
                .filter_map(|(at, hold)| match hold.end {
                    End::At(end) if self.is(*at, Flags::WAITS) => Some((
                        if end.boot == now.boot {
                            end.since
                        } else {
                            Duration::ZERO
                        },
                        *at,
                    )),
                    _ => None,
                })
                .collect();
        }
        while let Some(&(end, at)) = self.waiting.first()
            && end <= now.since
        {
            self.waiting.remove(&(end, at));
            self.end_wait(at);
        }
        if !self.by_wall.is_empty() {
            let lasts = |at: &u32| match self.holds.get(at).map(|hold| hold.end) {
                Some(End::Wall(until)) => !wall_lease(until).has_ended(clock),
                _ => false,
            };
            let (stay, ended): (Vec<u32>, Vec<u32>) = self.by_wall.iter().partition(|at| lasts(at));
            for at in ended {
                self.end_wait(at);
            }
            for at in stay {
                self.set(at, Flags::WAITS, true);
            }
        }
    }

    pub(super) fn end_wait(&mut self, at: u32) {
        self.set(at, Flags::WAITS, false);
    }

    /// True if a lease or a delay was in force for the item at the last call of [`wake`](Self::wake).
    pub(in crate::queue) fn waits(&self, at: u32) -> bool {
        self.is(at, Flags::WAITS)
    }

    pub(in crate::queue) fn hold(&self, at: u32) -> Option<Hold> {
        self.holds.get(&at).copied()
    }

    /// The item that was last taken under this token.
    pub(in crate::queue) fn with_token(&self, token: u64) -> Option<u32> {
        self.tokens.get(&token).copied()
    }
}

/// A lease of an earlier version, which ends by the wall clock.
pub(in crate::queue) fn wall_lease(until: Timestamp) -> Lease {
    Lease {
        token: LeaseToken::from(String::new()),
        until,
        end: None,
    }
}
