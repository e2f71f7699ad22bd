//! The leases of locks and writers that this process holds. They are renewed in the background.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{Clock, Durability, Result, SystemClock, Uptime};
use uuid::Uuid;

use crate::branch::{self, Branches};
use crate::db::Db;
use crate::log::{OF_WRITERS, WriterRow, of_writers};
use crate::pool::Pool;
use crate::session::{Claim, Session};
use crate::sql::{Sql, column, rows};

/// The length of a lease, which the server's clock measures.
pub(crate) const LEASE_SECONDS: i64 = 30;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS as u64);
const RENEWAL: Duration = Duration::from_secs(10);
/// The holder regards its lease as ended this long before the server does, since the clocks of two machines may
/// drift.
const MARGIN: Duration = Duration::from_secs(1);

/// The end of a lease by the clock of its holder, which is earlier than by the server's.
#[derive(Debug)]
pub(crate) struct Held {
    until: Mutex<Uptime>,
}

impl Held {
    /// A lease that was requested at this moment, by the clock of this machine.
    pub(crate) fn since(asked: Uptime) -> Self {
        Self {
            until: Mutex::new(asked.after(LEASE.saturating_sub(MARGIN))),
        }
    }

    /// Ends the lease, since the server no longer has it.
    pub(crate) fn lose(&self) {
        *self.until.lock() = SystemClock.uptime();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.until.lock().has_come(SystemClock.uptime())
    }
}

/// The leases of a handle.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    pub(crate) branches: Branches,
    locks: Mutex<HashMap<Uuid, Weak<Held>>>,
}

impl Leases {
    pub(crate) fn hold(&self, lease: Uuid, held: &Arc<Held>) {
        self.locks.lock().insert(lease, Arc::downgrade(held));
    }

    pub(crate) fn release(&self, lease: Uuid) {
        self.locks.lock().remove(&lease);
    }

    /// Renews all leases again and again, until the handle is dropped.
    pub(crate) fn renew_always(
        self: &Arc<Self>,
        db: &Db,
        writers: impl Fn() -> Vec<WriterRow> + Send + 'static,
    ) {
        let (leases, pool) = (Arc::downgrade(self), Arc::clone(&db.pool));
        db.handle().spawn(async move {
            loop {
                tokio::time::sleep(RENEWAL).await;
                let Some(leases) = leases.upgrade() else { return };
                let renewed = tokio::time::timeout(RENEWAL, leases.renew(&pool, writers()));
                match renewed.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "leases could not be renewed"
                        );
                    }
                    Err(_) => tracing::warn!("leases could not be renewed in time"),
                }
            }
        });
    }

    async fn renew(&self, pool: &Arc<Pool>, writers: Vec<WriterRow>) -> Result<()> {
        let held: HashMap<Uuid, Arc<Held>> = {
            let mut locks = self.locks.lock();
            locks.retain(|_, held| held.strong_count() > 0);
            locks
                .iter()
                .filter_map(|(lease, held)| Some((*lease, held.upgrade()?)))
                .collect()
        };
        if held.is_empty() && writers.is_empty() {
            return Ok(());
        }
        let mut session = Session::open(pool, None, Claim::default(), "renew leases", String::new()).await?;
        let asked = SystemClock.uptime();
        let later = format!("clock_timestamp() + {LEASE_SECONDS} * interval '1 second'");
        let locks = format!(
            "update @.lock set expires = {later} where lease = any($1) and expires > clock_timestamp() returning lease"
        );
        let rows_of_writers =
            format!("update @.writer w set expires = {later} {OF_WRITERS} and not w.closed");
        let mut statements = vec![
            Sql::new(locks).arg(held.keys().copied().collect::<Vec<Uuid>>()),
            of_writers(rows_of_writers, &writers),
        ];
        // So a new branch is noticed before somebody tries to take a lock.
        if self.branches.are_named(&mut session).await? {
            statements.push(branch::note());
        }
        let answers = session.write(Durability::Relaxed, statements).await?;
        let mut lost = held;
        for row in rows(&answers, 0) {
            if let Some(held) = lost.remove(&column::<Uuid>(row, 0)?) {
                *held.until.lock() = asked.after(LEASE.saturating_sub(MARGIN));
            }
        }
        for (lease, held) in lost {
            // It is not renewed again: another process may hold the lock in between.
            self.release(lease);
            held.lose();
        }
        Ok(())
    }
}
