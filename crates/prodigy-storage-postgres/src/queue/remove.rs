//! Acknowledges items in one round trip. No other settlement can do so, since others need a decision in this
//! process.

use std::collections::HashMap;

use prodigy_storage_backend::{Change, Claim, Durability, Result, Settled, Settlement};
use prodigy_storage_layout::{JobAddress, Part};

use crate::fault::unknown;
use crate::job::{OPEN_JOB, of_job};
use crate::moved;
use crate::session::Session;
use crate::sql::{column, rows};

/// The tokens of the settlements, if each of them removes an item under a token; otherwise `None`.
pub(super) fn tokens(settlements: &[Settlement]) -> Option<Vec<String>> {
    settlements
        .iter()
        .map(|settlement| match (&settlement.claim, &settlement.change) {
            (Claim::Lease(token), Change::Remove) => Some(token.as_str().to_owned()),
            _ => None,
        })
        .collect()
}

/// Removes the items of these tokens. An item whose contents were changed since it was taken is released instead,
/// with the last place of the queue.
///
/// The statements read each item again once they have locked the item. So they need neither the lock of the job nor a
/// transaction around them. A move to another store waits for them, by locking the table of items.
pub(super) async fn remove(
    session: &mut Session,
    job: &JobAddress,
    tokens: Vec<String>,
) -> Result<Vec<Settled>> {
    let text = format!(
        "delete from @.item where job = {OPEN_JOB} and token = any($3) and revision <= place \
         returning token, nextval('@.mark')"
    );
    let remove = of_job(text, job).frequent().arg(tokens.clone());
    let answers = session.write(Durability::Strict, vec![remove]).await?;
    let mut found: HashMap<String, bool> = HashMap::new();
    for row in rows(&answers, 0) {
        found.insert(column(row, 0)?, false);
    }
    let rest: Vec<String> = tokens
        .iter()
        .filter(|token| !found.contains_key(*token))
        .cloned()
        .collect();
    if !rest.is_empty()
        && let Err(error) = remove_or_release(session, job, rest, &mut found).await
    {
        return Err(match found.is_empty() {
            true => error,
            false => {
                let why = "some of the items were removed, and then the call failed";
                unknown(session.operation, &session.target, why).with_source(error)
            }
        });
    }
    let settled = tokens.iter().map(|token| match found.remove(token) {
        Some(true) => Settled::Kept,
        Some(false) => Settled::Done,
        None => Settled::Unknown,
    });
    Ok(settled.collect())
}

/// Removes or releases the items of these tokens. Adds to `found` for each item whether it was kept.
async fn remove_or_release(
    session: &mut Session,
    job: &JobAddress,
    tokens: Vec<String>,
    found: &mut HashMap<String, bool>,
) -> Result<()> {
    let text = format!(
        "with j as materialized (select {OPEN_JOB} as id), \
         f as materialized (select birth, token, revision > place as is_kept \
           from @.item where job = (select id from j) and token = any($3) order by birth for update), \
         g as (delete from @.item i using f where i.job = (select id from j) and i.birth = f.birth and not f.is_kept), \
         k as (update @.item i set place = nextval('@.mark'), token = null, leased_until = null, modified = {{now}} \
           from f where i.job = (select id from j) and i.birth = f.birth and f.is_kept) \
         select token, is_kept, case when not is_kept then nextval('@.mark') end from f"
    );
    let remove = of_job(text, job).frequent().arg(tokens.clone());
    let answers = session.write(Durability::Strict, vec![remove]).await?;
    if rows(&answers, 0).len() < tokens.len() {
        moved::refuse(session, &Part::Job(job.clone())).await?;
    }
    for row in rows(&answers, 0) {
        found.insert(column(row, 0)?, column(row, 1)?);
    }
    Ok(())
}
