//! The rows of items, and the SQL conditions that select them.

use std::time::Duration;

use prodigy_storage_backend::dead_letter::{self, Facts};
use prodigy_storage_backend::{
    Clock, Delay, Eligible, ErrorKind, ItemId, Lease, LeaseToken, QueueEntry, QueueMark, Result, Select,
    StorageError,
};
use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::sql::{Sql, column};

/// The columns of an item, in the order in which [`Item::read`] reads them.
pub(crate) const COLUMNS: &str = "birth, id, place, revision, token, leased_until, delayed_until, body";

/// The row of an item.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) birth: i64,
    pub(crate) id: ItemId,
    pub(crate) place: i64,
    pub(crate) revision: i64,
    pub(crate) token: Option<String>,
    pub(crate) leased_until: Option<i64>,
    pub(crate) delayed_until: Option<i64>,
    pub(crate) body: Box<RawValue>,
}

fn damaged(id: &[u8], why: String) -> StorageError {
    StorageError::new(ErrorKind::Damaged, "read item", String::from_utf8_lossy(id), why)
        .with_hint("keep the row, and compare it with a backup")
}

/// The ids in the type of their column.
pub(crate) fn bytes_of(ids: &[ItemId]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.as_str().as_bytes().to_vec()).collect()
}

fn mark(number: i64) -> QueueMark {
    QueueMark(number.unsigned_abs())
}

impl Item {
    pub(crate) fn new(id: ItemId, body: &RawValue, birth: i64) -> Self {
        Self {
            birth,
            id,
            place: birth,
            revision: birth,
            token: None,
            leased_until: None,
            delayed_until: None,
            body: body.to_owned(),
        }
    }

    pub(crate) fn read(row: &Row) -> Result<Self> {
        let id: Vec<u8> = column(row, 1)?;
        let body: Vec<u8> = column(row, 7)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|error| error.to_string());
        let body = text(body).and_then(|body| RawValue::from_string(body).map_err(|error| error.to_string()));
        Ok(Self {
            birth: column(row, 0)?,
            place: column(row, 2)?,
            revision: column(row, 3)?,
            token: column(row, 4)?,
            leased_until: column(row, 5)?,
            delayed_until: column(row, 6)?,
            body: body.map_err(|why| damaged(&id, why))?,
            id: text(id.clone())
                .map_err(|why| damaged(&id, why))
                .and_then(ItemId::new)?,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.body.get().len() as u64
    }

    pub(crate) fn facts(&self) -> Result<Facts> {
        dead_letter::facts(&self.body)
    }

    /// Converts to the item that callers get. Leases and delays are measured by the server's clock. For a caller,
    /// they end when the same time has passed on the caller's clock.
    pub(crate) fn entry(self, clock: &dyn Clock, server_now: i64) -> QueueEntry {
        let ahead = |until: i64| {
            let left = until.saturating_sub(server_now);
            clock
                .uptime()
                .after(Duration::from_nanos(u64::try_from(left).unwrap_or(0)))
        };
        let lease = self.token.zip(self.leased_until).map(|(token, until)| Lease {
            token: LeaseToken::from(token),
            until: Timestamp::from_nanos(until),
            end: Some(ahead(until)),
        });
        QueueEntry {
            lease,
            delay: self.delayed_until.map(|until| Delay {
                until: Timestamp::from_nanos(until),
                end: ahead(until),
            }),
            id: self.id,
            body: self.body,
            revision: mark(self.revision),
            place: mark(self.place),
            verified: true,
        }
    }
}

/// The SQL condition that selects these items of the job `$1`, `$2`. Adds its other parameters to `sql`.
pub(crate) fn selected(select: &Select, sql: &mut Sql) -> String {
    let mut conditions = Vec::new();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(ids) = &select.ids {
        conditions.push(format!("id = any({})", sql.push(bytes_of(ids))));
    }
    match select.eligible {
        Eligible::Yes => conditions.push("eligible".into()),
        Eligible::No => conditions.push("not eligible".into()),
        Eligible::Any => {}
    }
    for (column, wanted) in [
        ("signature", &select.signature),
        ("error_type", &select.error_type),
    ] {
        if let Some(wanted) = wanted {
            conditions.push(format!("{column} = {}", sql.push(wanted.as_bytes().to_vec())));
        }
    }
    if let Some(bound) = select.not_after {
        conditions.push(format!(
            "coalesce(last_attempt <= {}, true)",
            sql.push(bound.as_nanos())
        ));
    }
    if let Some(bound) = select.not_before {
        conditions.push(format!("last_attempt >= {}", sql.push(bound.as_nanos())));
    }
    if let Some(least) = select.min_attempts {
        conditions.push(format!("failures >= {}", sql.push(number(least))));
    }
    if let Some(most) = select.max_attempts {
        conditions.push(format!("failures <= {}", sql.push(number(most))));
    }
    if let Some(until) = select.until {
        conditions.push(format!("place <= {}", sql.push(number(until.0))));
    }
    conditions
        .iter()
        .fold(String::new(), |all, condition| format!("{all} and {condition}"))
}
