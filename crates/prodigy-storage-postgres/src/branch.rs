//! Notices that the server's history has branched: after a failover to a standby that lacked the last commits, or after
//! a restore, the server continues from an earlier moment, and has lost the rows of locks that were taken since.
//!
//! A process whose lock was lost believes in it until its next renewal, or until its lease ends by its own clock. So for
//! the length of a lease, nobody gets a lock in a new branch. The table `branch` has one row, for the branch in which
//! the store was last seen. Each attempt to take a lock and each renewal compares it with the server's timeline, which
//! changes with a promotion and with a restore to a moment. The row also states the transaction that wrote it. If another
//! transaction wrote it, the row was put back from a dump.

use std::sync::OnceLock;

use prodigy_storage_backend::Result;

use crate::session::Session;
use crate::sql::{Sql, first, rows};

/// Whether the server names its timeline. CockroachDB does not: there, no branch is noticed.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    are_named: OnceLock<bool>,
}

impl Branches {
    /// True if [`note`] works on this server. The first call asks the server.
    pub(crate) async fn are_named(&self, session: &mut Session) -> Result<bool> {
        if let Some(known) = self.are_named.get() {
            return Ok(*known);
        }
        let functions = "select count(distinct proname) = 3 from pg_catalog.pg_proc \
                         where proname in ('pg_walfile_name', 'pg_current_wal_lsn', 'txid_current') \
                           and has_function_privilege(oid, 'execute')";
        let answers = session.read(vec![Sql::new(functions)]).await?;
        let are_named = first(rows(&answers, 0), 0)?.unwrap_or(false);
        Ok(*self.are_named.get_or_init(|| are_named))
    }
}

/// Notes the branch that the server is in. If it is not the noted one, no lock is given out for the length of a lease.
/// The first branch of a store is not new.
pub(crate) fn note() -> Sql {
    let is_another = |timeline: &str| {
        // The number of a transaction in `xmin` has 32 bits.
        format!("(b.timeline <> {timeline} or b.written_by % 4294967296 <> b.xmin::text::bigint)")
    };
    Sql::new(format!(
        "insert into @.branch as b (timeline, written_by, seen) \
         select server.timeline, txid_current(), 'epoch'::timestamptz \
         from (select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline) server \
         where not exists (select from @.branch b where b.one and not {}) \
         on conflict (one) do update \
           set timeline = excluded.timeline, written_by = excluded.written_by, seen = clock_timestamp() where {}",
        is_another("server.timeline"),
        is_another("excluded.timeline")
    ))
}

/// A condition on the row of the table `branch`: the branch was seen so recently that the holder of a lock which the
/// server lost may not know it yet.
pub(crate) const IS_NEW: &str = "(one and seen > clock_timestamp() - interval '30 seconds')";

/// Selects for how many more milliseconds no lock is given out. Returns no row if locks are given out.
pub(crate) fn rest() -> Sql {
    Sql::new(format!(
        "select ceil(extract(epoch from seen + interval '30 seconds' - clock_timestamp()) * 1000)::bigint \
         from @.branch where {IS_NEW}"
    ))
}

#[cfg(test)]
mod tests {
    use crate::lease::LEASE_SECONDS;

    #[test]
    fn no_lock_is_given_out_for_the_length_of_a_lease() {
        assert!(super::IS_NEW.contains(&format!("interval '{LEASE_SECONDS} seconds'")));
    }
}
