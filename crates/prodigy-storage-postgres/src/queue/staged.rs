//! Applies the changes of a call to copies of the items. Nothing is written before all changes have succeeded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{self, Facts};
use prodigy_storage_backend::{
    Change, Claim, ErrorKind, ItemId, PutReport, QueueItem, QueueMark, Result, Settled, Settlement,
    StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};

use super::item::Item;
use super::{PUT, SETTLE};
use crate::sql::Sql;

/// A number above this is a placeholder for one that the server will assign.
const NEW: i64 = 1 << 62;

/// The limits that a change has to meet, and the time that it stores.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) job: JobAddress,
    /// The time of this machine, which is stored in the contents of items.
    pub(crate) now: Timestamp,
    pub(crate) max_record_size: u64,
    pub(crate) max_queue_size: Option<u64>,
}

/// The items that a call changes, before and after its changes, by the number of their first push.
#[derive(Debug)]
pub(crate) struct Staged {
    before: BTreeMap<i64, Item>,
    now: BTreeMap<i64, Item>,
    changed: BTreeSet<i64>,
    /// The number of placeholders so far. The server replaces each by a number when the changes are written.
    taken: i64,
    /// The server's time at the beginning of the call.
    server_now: i64,
}

impl Staged {
    pub(crate) fn new(items: Vec<Item>, server_now: i64) -> Self {
        let before: BTreeMap<i64, Item> = items.into_iter().map(|item| (item.birth, item)).collect();
        Self {
            now: before.clone(),
            before,
            changed: BTreeSet::new(),
            taken: 0,
            server_now,
        }
    }

    /// A placeholder for the next number that the server will assign. It is above all numbers that are assigned
    /// already.
    fn next(&mut self) -> i64 {
        self.taken += 1;
        NEW + self.taken
    }

    fn by_id(&self, id: &ItemId) -> Option<&Item> {
        self.now.values().find(|item| item.id == *id)
    }

    fn claimed(&self, claim: &Claim) -> Option<&Item> {
        match claim {
            Claim::Lease(token) => self
                .now
                .values()
                .find(|item| item.token.as_deref() == Some(token.as_str())),
            Claim::Item(id) | Claim::Revision(id, _) => self.by_id(id),
        }
    }

    fn set(&mut self, item: Item) {
        self.changed.insert(item.birth);
        self.now.insert(item.birth, item);
    }

    fn remove(&mut self, birth: i64) {
        self.changed.insert(birth);
        self.now.remove(&birth);
    }

    pub(crate) fn put(&mut self, items: &[QueueItem], rules: &Rules) -> Result<PutReport> {
        let mut report = PutReport::default();
        for pushed in items {
            let item = match self.by_id(&pushed.id) {
                None => {
                    report.added += 1;
                    let body = dead_letter::first(&pushed.body, rules.now)?.into_owned();
                    Item::new(pushed.id.clone(), &body, self.next())
                }
                Some(stored) => match dead_letter::merge(&stored.body, &pushed.body, rules.now)? {
                    None => {
                        report.known += 1;
                        continue;
                    }
                    Some(body) => {
                        report.merged += 1;
                        let stored = stored.clone();
                        Item {
                            body,
                            revision: self.next(),
                            ..stored
                        }
                    }
                },
            };
            fits(PUT, &item, rules)?;
            self.set(item);
        }
        Ok(report)
    }

    /// Fails if the changes would make a queue of `before` bytes larger than its maximum size.
    pub(crate) fn has_room(&self, before: u64, rules: &Rules) -> Result<()> {
        let Some(max) = rules.max_queue_size else {
            return Ok(());
        };
        let sum = |items: &BTreeMap<i64, Item>| items.values().map(Item::bytes).sum::<u64>();
        let (old, new) = (sum(&self.before), sum(&self.now));
        let after = before.saturating_sub(old).saturating_add(new);
        if new <= old || after <= max {
            return Ok(());
        }
        Err(StorageError::queue_full(
            PUT,
            &rules.job,
            before,
            after - before,
            max,
        ))
    }

    pub(crate) fn settle(&mut self, settlement: &Settlement, rules: &Rules) -> Result<Settled> {
        let Some(stored) = self.claimed(&settlement.claim).cloned() else {
            return Ok(Settled::Unknown);
        };
        if matches!(settlement.claim, Claim::Revision(_, QueueMark(revision)) if revision != stored.revision.unsigned_abs())
        {
            return Ok(Settled::Changed);
        }
        let contents = dead_letter::changed(&stored.id, &stored.body, &settlement.change, rules.now)?;
        if contents.is_none() && matches!(settlement.change, Change::Unpark) {
            return Ok(Settled::Already);
        }
        let number = self.next();
        let mut item = stored;
        if let Some(body) = contents {
            item.body = body;
            item.revision = number;
            fits(SETTLE, &item, rules)?;
        }
        let by_token = matches!(settlement.claim, Claim::Lease(_));
        let mut settled = Settled::Done;
        match &settlement.change {
            Change::Extend(length) => {
                item.leased_until = Some(self.after(*length));
                self.set(item);
                return Ok(settled);
            }
            Change::Remove if by_token && item.revision > item.place => {
                settled = Settled::Kept;
                item.place = number;
            }
            Change::Remove => {
                self.remove(item.birth);
                return Ok(settled);
            }
            Change::Release { delay } => {
                item.delayed_until = (!delay.is_zero()).then(|| self.after(*delay));
                item.place = number;
            }
            Change::Fail(_) => {
                item.delayed_until = None;
                item.place = number;
            }
            // Parking, unparking and editing leave the delay and the place unchanged.
            _ => {}
        }
        item.token = None;
        item.leased_until = None;
        self.set(item);
        Ok(settled)
    }

    fn after(&self, length: Duration) -> i64 {
        self.server_now
            .saturating_add(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
    }

    /// The statements that write the changed items.
    pub(crate) fn statements(&self, job: i64) -> Result<Vec<Sql>> {
        let mut statements = Vec::new();
        let gone: Vec<i64> = self
            .changed
            .iter()
            .filter(|birth| !self.now.contains_key(birth))
            .copied()
            .collect();
        if !gone.is_empty() {
            statements.push(
                Sql::new("delete from @.item where job = $1 and birth = any($2)")
                    .arg(job)
                    .arg(gone),
            );
        }
        let changed: Vec<&Item> = self
            .changed
            .iter()
            .filter_map(|birth| self.now.get(birth))
            .collect();
        if changed.is_empty() {
            if self.taken > 0 {
                let numbers = Sql::new("select nextval('@.mark') from generate_series(1, $1)");
                statements.push(numbers.arg(self.taken));
            }
            return Ok(statements);
        }
        let facts = changed
            .iter()
            .map(|item| item.facts())
            .collect::<Result<Vec<_>>>()?;
        let number = |column: &str| {
            format!("case when u.{column} > {NEW} then n.given[u.{column} - {NEW}] else u.{column} end")
        };
        let text = format!(
            "with n as materialized (select array(select nextval('@.mark') from generate_series(1, $15)) as given) \
             insert into @.item (job, birth, id, place, revision, token, leased_until, delayed_until, body, \
               eligible, signature, error_type, last_attempt, failures, modified) \
             select $1, {}, u.id, {}, {}, u.token, u.leased_until, u.delayed_until, u.body, \
               u.eligible, u.signature, u.error_type, u.last_attempt, u.failures, {{now}} \
             from n, unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[], \
               $9::bytea[], $10::boolean[], $11::bytea[], $12::bytea[], $13::bigint[], $14::bigint[]) \
               as u (birth, id, place, revision, token, leased_until, delayed_until, body, eligible, signature, error_type, \
               last_attempt, failures) \
             on conflict (job, birth) do update set place = excluded.place, revision = excluded.revision, \
               token = excluded.token, leased_until = excluded.leased_until, delayed_until = excluded.delayed_until, \
               body = excluded.body, eligible = excluded.eligible, signature = excluded.signature, \
               error_type = excluded.error_type, last_attempt = excluded.last_attempt, failures = excluded.failures, \
               modified = excluded.modified",
            number("birth"),
            number("place"),
            number("revision"),
        );
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let failures = |facts: &Facts| i64::try_from(facts.failure_count).unwrap_or(i64::MAX);
        statements.push(
            Sql::new(text)
                .arg(job)
                .arg(column(&changed, |item| item.birth))
                .arg(column(&changed, |item| item.id.as_str().as_bytes().to_vec()))
                .arg(column(&changed, |item| item.place))
                .arg(column(&changed, |item| item.revision))
                .arg(column(&changed, |item| item.token.clone()))
                .arg(column(&changed, |item| item.leased_until))
                .arg(column(&changed, |item| item.delayed_until))
                .arg(column(&changed, |item| item.body.get().as_bytes().to_vec()))
                .arg(column(&facts, |facts| facts.eligible))
                .arg(column(&facts, |facts| bytes(&facts.signature)))
                .arg(column(&facts, |facts| bytes(&facts.error_type)))
                .arg(column(&facts, |facts| {
                    facts.last_attempt.map(Timestamp::as_nanos)
                }))
                .arg(column(&facts, failures))
                .arg(self.taken),
        );
        Ok(statements)
    }
}

/// The values of one column, one for each row.
fn column<T, U>(rows: &[T], value: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(value).collect()
}

fn fits(operation: &'static str, item: &Item, rules: &Rules) -> Result<()> {
    let (bytes, max) = (item.bytes(), rules.max_record_size);
    if bytes <= max {
        return Ok(());
    }
    let why = format!("an item of {bytes} bytes is larger than `max_record_size` ({max})");
    Err(StorageError::new(
        ErrorKind::TooLarge,
        operation,
        format!("{} {}", rules.job, item.id),
        why,
    )
    .with_hint(
        "store the large part elsewhere and a reference to it in the item, or raise `max_record_size`",
    ))
}
