//! Named locks: each is a row with a lease and a fencing token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    Clock, Deadline, Durability, ErrorKind, Holder, LockGuard, LockInfo, LockOptions, LockStore, Page,
    PageOptions, Result, StorageError, SystemClock,
};
use prodigy_storage_layout::{LockName, Part};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::backend::PostgresBackend;
use crate::branch;
use crate::db::Db;
use crate::lease::{Held, LEASE_SECONDS, Leases};
use crate::moved;
use crate::sql::{Sql, column, first, rows};

const LOCK: &str = "take lock";
const RELEASE_LOCK: &str = "release lock";
/// The pauses between attempts to take a lock grow from the first of these to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];
/// The longest time for which a guard tries to release its lock. After that, the lock is free when its
/// lease ends.
const RELEASE: Duration = Duration::from_secs(5);

/// A statement that takes a lock if it is free, or if an earlier attempt with the same lease took it and its
/// answer was lost. Returns the token. It is above that of the row, and not below the server's time in milliseconds: so
/// it is also above those that a branch of the server's history gave out, and that a failover or a restore took back.
///
/// The statement neither locks the row of a held lock, which would delay its renewal, nor waits for a locked row: if its
/// caller gave up meanwhile, it would take the lock for nobody.
fn attempt(name: &LockName, holder: &Holder, lease: Uuid, knows_branches: bool) -> Sql {
    let part = Part::of_lock(name);
    let covered = moved::is_covered("$4", "$5");
    let held_back = match knows_branches {
        true => format!("or exists (select from @.branch where {})", branch::IS_NEW),
        false => String::new(),
    };
    let text = format!(
        "with r as materialized (select 1 from @.lock where name = $1 \
           and (lease is null or lease = $3 or expires <= clock_timestamp()) for update skip locked) \
         insert into @.lock as l (name, token, holder, lease, expires) \
         select $1, greatest(1, {{now}} / 1000000), $2, $3, clock_timestamp() + {LEASE_SECONDS} * interval '1 second' \
         where not ({covered} {held_back}) and (exists (select from r) or not exists (select from @.lock where name = $1)) \
         on conflict (name) do update set holder = excluded.holder, lease = excluded.lease, expires = excluded.expires, \
           token = greatest(l.token + 1, excluded.token) \
         where l.lease is null or l.lease = excluded.lease or l.expires <= clock_timestamp() returning token"
    );
    let holder = serde_json::to_vec(holder).unwrap_or_default();
    Sql::new(text)
        .arg(name.as_str().to_owned())
        .arg(holder)
        .arg(lease)
        .arg(part.repo().map_or(String::new(), |repo| repo.as_str().to_owned()))
        .arg(part.job().map_or(String::new(), |job| job.as_str().to_owned()))
}

/// The result of an attempt to take a lock.
#[derive(Debug, Default)]
struct Attempted {
    /// The token, if the lock was taken.
    token: Option<i64>,
    /// For how long the server gives out no lock, since its history has branched.
    held_back: Option<Duration>,
    /// The last holder, if another process holds the lock.
    holder: Option<Holder>,
}

impl Attempted {
    /// The error of an attempt that did not take the lock, and was the last one.
    fn unavailable(self, name: &LockName, began: Instant, deadline: Deadline) -> StorageError {
        if deadline.is_interrupted() {
            return StorageError::new(ErrorKind::Interrupted, LOCK, name, "the wait was ended");
        }
        let waited = format!("waited {:.1?} for it", began.elapsed());
        let new = |why: String| StorageError::new(ErrorKind::LockUnavailable, LOCK, name, why);
        if let Some(rest) = self.held_back {
            let why = format!(
                "the database had a failover or was restored, so it may have lost locks that are held: it gives out none for {} more \
                 seconds; {waited}",
                rest.as_millis().div_ceil(1000)
            );
            return new(why).with_hint("wait longer: every holder of a lost lock knows of it by then");
        }
        let holder = self
            .holder
            .map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
        new(format!("it is held by {holder}; {waited}")).with_hint(format!(
            "wait longer, or end its holder: the lock is free {LEASE_SECONDS} seconds later at the latest"
        ))
    }
}

fn holder_in(bytes: &[u8]) -> Option<Holder> {
    serde_json::from_slice(bytes).ok()
}

/// Reads a row of [`select_locks`].
pub(crate) fn info(row: &Row) -> Result<LockInfo> {
    let name: &str = column(row, 0)?;
    let name = LockName::new(name).map_err(|error| {
        StorageError::new(
            ErrorKind::Damaged,
            "list locks",
            name,
            "the row has a name that is refused",
        )
        .with_source(error)
    })?;
    let (token, holder, held): (i64, &[u8], bool) = (column(row, 1)?, column(row, 2)?, column(row, 3)?);
    let holder = holder_in(holder);
    Ok(LockInfo::new(name, held, holder.clone().filter(|_| held), token.unsigned_abs()).last_holder(holder))
}

/// A condition: the lease of a lock has not ended.
pub(crate) const IS_HELD: &str = "(lease is not null and expires > clock_timestamp())";

/// Selects locks, of which [`info`] reads a row.
pub(crate) fn select_locks() -> String {
    format!("select name, token, holder, {IS_HELD} from @.lock")
}

impl LockStore for PostgresBackend {
    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        let began = options.since.unwrap_or_else(Instant::now);
        let lease = Uuid::new_v4();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut pause = PAUSES.first().copied().unwrap_or_default();
        loop {
            let holder = Holder::new(
                std::process::id(),
                host.clone(),
                self.options().clock.now(),
                options.purpose.clone(),
            )
            .instance(Some(lease.simple().to_string()));
            let asked = SystemClock.uptime();
            let (of, leases) = (name.clone(), Arc::clone(self.leases()));
            // The first attempt is always made. It may take as long as opening a connection.
            let patience = Deadline::after(self.options().connect_timeout * 2);
            let tried = self
                .db()
                .call(LOCK, name, patience, move |mut session| async move {
                    let knows_branches = leases.branches.are_named(&mut session).await?;
                    let mut statements = vec![
                        attempt(&of, &holder, lease, knows_branches),
                        Sql::new("select holder from @.lock where name = $1").arg(of.as_str().to_owned()),
                        moved::covering(&Part::of_lock(&of)),
                    ];
                    if knows_branches {
                        statements.splice(0..0, [branch::note(), branch::rest()]);
                    }
                    let mut answers = session.write(Durability::Strict, statements).await?;
                    let own = answers.split_off(if knows_branches { 2 } else { 0 });
                    let token: Option<i64> = first(rows(&own, 0), 0)?;
                    if token.is_none() {
                        moved::refusal(&session, rows(&own, 2))?;
                    }
                    let rest: Option<i64> = first(rows(&answers, 1), 0)?;
                    let holder: Option<Vec<u8>> = first(rows(&own, 1), 0)?;
                    Ok(Attempted {
                        token,
                        held_back: rest.map(|rest| Duration::from_millis(rest.unsigned_abs())),
                        holder: holder.as_deref().and_then(holder_in),
                    })
                });
            let attempted = match tried {
                // It is not known whether this attempt took the lock. The next attempt has the same lease, and
                // finds out.
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown && !deadline.has_passed() => {
                    Attempted::default()
                }
                tried => tried?,
            };
            if let Some(token) = attempted.token {
                let held = Arc::new(Held::since(asked));
                self.leases().hold(lease, &held);
                return Ok(Box::new(Guard {
                    db: self.shared_db(),
                    leases: Arc::clone(self.leases()),
                    name: name.clone(),
                    token: token.unsigned_abs(),
                    lease,
                    held,
                    is_released: false,
                }));
            }
            if deadline.has_passed() || deadline.is_interrupted() {
                return Err(attempted.unavailable(name, began, deadline));
            }
            let jitter = Duration::from_micros(fastrand::u64(0..=pause.as_micros() as u64));
            std::thread::sleep(jitter.min(deadline.remaining().unwrap_or(jitter)));
            pause = (pause * 2).min(PAUSES.last().copied().unwrap_or_default());
        }
    }

    fn locks(&self, page: &PageOptions<LockName>, deadline: Deadline) -> Result<Page<LockInfo, LockName>> {
        let limit = page.limit.clamp(1, 1 << 30);
        let text = format!(
            "{} where $1::text is null or name > $1 order by name limit {}",
            select_locks(),
            limit + 1
        );
        let sql = Sql::new(text).arg(page.after.as_ref().map(|after| after.as_str().to_owned()));
        self.db()
            .call("list locks", &"", deadline, move |mut session| async move {
                let answers = session.read(vec![sql]).await?;
                let entries = rows(&answers, 0).iter().map(info).collect::<Result<_>>()?;
                Ok(Page::up_to(limit, entries, |last| last.name.clone()))
            })
    }
}

/// A held lock.
struct Guard {
    db: Arc<Db>,
    leases: Arc<Leases>,
    name: LockName,
    token: u64,
    lease: Uuid,
    held: Arc<Held>,
    is_released: bool,
}

impl Guard {
    /// Releases the lock. The call is repeated if its failure is one for the moment, or if its answer was lost.
    fn free(&mut self) -> Result<()> {
        self.is_released = true;
        self.leases.release(self.lease);
        let deadline = Deadline::after(RELEASE);
        let mut is_unclear = false;
        loop {
            // The row is kept for its token, so that the next holder gets a greater one. It keeps the lease, so that a
            // repetition finds what an earlier attempt released.
            let text = "update @.lock set expires = 'epoch' where name = $1 and lease = $2 returning token";
            let sql = Sql::new(text).arg(self.name.as_str().to_owned()).arg(self.lease);
            let freed = self.db.call(
                RELEASE_LOCK,
                &self.name,
                deadline,
                move |mut session| async move {
                    let answers = session.write(Durability::Relaxed, vec![sql]).await?;
                    first::<i64>(rows(&answers, 0), 0)
                },
            );
            match freed {
                Ok(Some(_)) => return Ok(()),
                // An earlier attempt released the lock, and another process took it.
                Ok(None) if is_unclear && !self.held.has_ended() => return Ok(()),
                Ok(None) => return Err(self.lost()),
                Err(error) => {
                    is_unclear |= error.kind() == ErrorKind::OutcomeUnknown;
                    if !(is_unclear || error.is_transient()) || deadline.has_passed() {
                        return Err(error);
                    }
                }
            }
            std::thread::sleep(PAUSES.last().copied().unwrap_or_default());
        }
    }

    /// The error of a lock whose lease has ended or is no longer in the database.
    fn lost(&self) -> StorageError {
        let why = "the lock was lost: its lease has ended or is gone from the database, so that another process may hold it";
        StorageError::new(ErrorKind::Replaced, "check lock", &self.name, why).with_hint(
            "stop the work under the lock, check the connection to the database, and take the lock again",
        )
    }
}

impl LockGuard for Guard {
    fn name(&self) -> &LockName {
        &self.name
    }

    fn fencing(&self) -> u64 {
        self.token
    }

    fn check(&self) -> Result<()> {
        if self.held.has_ended() {
            return Err(self.lost());
        }
        Ok(())
    }

    fn release(mut self: Box<Self>) -> Result<()> {
        let checked = self.check();
        self.free()?;
        checked
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_released
            && let Err(error) = self.free()
        {
            tracing::warn!(lock = %self.name, error = &error as &dyn std::error::Error, "a lock was not released: it is free when its lease ends");
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", &self.name)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
