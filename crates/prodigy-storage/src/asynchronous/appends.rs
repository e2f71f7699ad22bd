//! Appends that many tasks make to one log, stored by few calls of the backend.
//!
//! Appends that wait for the same log form a queue. One thread at a time serves a queue: it removes the waiting
//! appends, stores them in one call and so with one sync, and sends each task the ids of its own events. Meanwhile
//! later appends wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use prodigy_storage_backend::{
    AppendOptions, Appended, Batch, Deadline, Durability, ErrorKind, EventId, Result,
};
use prodigy_storage_layout::JobAddress;

use super::pool;
use super::queues::Queues;
use super::target::{OfCall, OfFuture, Target};
use super::threads::{Reply, Threads, late, reply};
use crate::call::operation::APPEND;
use crate::storage::Inner;

/// The largest number of bytes that one call appends, unless a single append has more.
const MOST: usize = 1 << 20;

/// The ids of the events of one append, and the result of the call that stored it. If other appends were stored by
/// the same call, the result counts their events too.
pub(super) type Ids = (Vec<EventId>, Appended);

pub(super) type Appends = Queues<Key, Append>;

/// Appends with equal keys can be stored by one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    job: JobAddress,
    strict: bool,
    /// True if the events already have ids.
    given: bool,
    /// The fencing token of the events, as text.
    fence: Option<String>,
}

/// An append of a task.
pub(super) struct Append {
    inner: Arc<Inner>,
    batch: Batch,
    /// True if no other append may be stored by the same call.
    alone: bool,
    begun: Instant,
    deadline: Deadline,
    reply: Reply<Ids>,
    /// Keeps a flush waiting until this append has ended.
    _hold: pool::Batch,
    _of_call: OfCall,
}

impl Append {
    /// Counts this append, as its task made it, and sends its result.
    fn answer(self, result: Result<Ids>) {
        self.inner.caller.count(APPEND, self.begun, result.is_err());
        self.reply.send(result);
    }
}

/// How to append a batch.
pub(super) struct How {
    pub(super) durability: Option<Durability>,
    /// True if the append needs a call of its own, so that the result counts no other events.
    pub(super) alone: bool,
}

impl Threads {
    /// Appends a batch, together with the appends of other tasks to the same log.
    pub(super) async fn append(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        job: &JobAddress,
        batch: Batch,
        how: How,
    ) -> Result<Ids> {
        let key = Key {
            job: job.clone(),
            strict: how.durability.unwrap_or(inner.config.durability) == Durability::Strict,
            given: !batch.ids().is_empty(),
            fence: batch.fence().map(ToString::to_string),
        };
        let (target, begun, deadline) = (Target::job(job), Instant::now(), inner.deadline());
        self.given_up.ended(target).await;
        let (reply, answer) = reply(self, drop);
        let of_future = OfFuture::new(self, target);
        let append = Append {
            inner: Arc::clone(inner),
            batch,
            alone: how.alone,
            begun,
            deadline,
            reply,
            _hold: self.appends.hold(),
            _of_call: of_future.of_call(),
        };
        self.appends.push(key, append);
        let result = answer.get(APPEND.name).await;
        of_future.answered();
        result
    }
}

/// Stores the appends that wait in one queue.
pub(super) fn serve(queues: &Appends, key: &Key) {
    let (too_late, gathered): (Vec<_>, Vec<_>) = queues
        .with(key, gather)
        .into_iter()
        .partition(|append| append.deadline.has_passed());
    for append in too_late {
        append.inner.caller.thread_timed_out();
        append.answer(Err(late(APPEND.name, &key.job)));
    }
    match gathered.len() {
        0 => {}
        1 => gathered.into_iter().for_each(|append| append_alone(key, append)),
        _ => append_together(key, gathered),
    }
}

/// Removes from the queue the next appends that one call can store.
fn gather(queue: &mut VecDeque<Append>) -> Vec<Append> {
    let (mut gathered, mut bytes) = (Vec::<Append>::new(), 0);
    while let Some(next) = queue.pop_front() {
        if next.reply.is_cancelled() {
            continue;
        }
        bytes += next.batch.bytes();
        let fits = bytes <= MOST && !next.alone;
        if !gathered.is_empty() && !fits {
            queue.push_front(next);
            break;
        }
        let alone = next.alone;
        gathered.push(next);
        if alone {
            break;
        }
    }
    gathered
}

fn append_together(key: &Key, gathered: Vec<Append>) {
    let (mut all, mut ids, mut deadline) = (Batch::new(), Vec::new(), Deadline::never());
    all.set_fence(gathered.first().and_then(|append| append.batch.fence()));
    for append in &gathered {
        all.extend_from(&append.batch);
        ids.extend_from_slice(append.batch.ids());
        deadline = deadline.min(append.deadline);
    }
    all.set_ids(ids);
    let Some(first) = gathered.first() else { return };
    match first
        .inner
        .caller
        .append_uncounted(&key.job, &mut all, &options(key), deadline)
    {
        // The backend refused one of the events and stored none. Each append is now made alone, so that only the
        // refused one fails.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge) => {
            for append in gathered {
                append_alone(key, append);
            }
        }
        outcome => {
            let mut ids = all.ids();
            for append in gathered {
                let (own, others) = ids.split_at_checked(append.batch.len()).unwrap_or_default();
                ids = others;
                append.answer(match &outcome {
                    Ok(appended) => Ok((own.to_vec(), *appended)),
                    Err(error) => {
                        let unclear = if error.ids().is_empty() { &[] } else { own };
                        Err(error.clone().with_ids(unclear))
                    }
                });
            }
        }
    }
}

fn append_alone(key: &Key, mut append: Append) {
    let caller = &append.inner.caller;
    let result = caller.append_uncounted(&key.job, &mut append.batch, &options(key), append.deadline);
    let ids = append.batch.ids().to_vec();
    append.answer(result.map(|appended| (ids, appended)));
}

fn options(key: &Key) -> AppendOptions {
    AppendOptions::new(match key.strict {
        true => Durability::Strict,
        false => Durability::Relaxed,
    })
}
