//! The backend in a random sequence: makes each call, and compares the answer with the expected answer of the
//! model.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, JobAddress, Phase,
};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::model::{Answer, Call, DOCUMENTS, HANDLES, JOBS, LEASE, State, Step, What, Which, Whose, Wish};
use super::tools::{
    Check, append, append_given, drain, entry, field, given, item, item_id, job, keys, list, object, read,
    read_some, soon,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::document::{Added, Expected, PutOptions, Revision, StoredDocument};
use crate::error::{ErrorKind, Result as StorageResult};
use crate::id::EventId;
use crate::log::{Cursor, Durability, ScanOptions};
use crate::queue::{
    Change, Claim, Eligible, ItemId, ItemState, LeaseToken, QueueItem, QueueMark, Select, Settlement,
};
use crate::reference::{Log, Reading};

/// Values that the backend chose and that the model does not know: ids, revisions, tokens.
#[derive(Default)]
struct Job {
    /// The events that the backend stored: the id of each, and the model's number for it.
    log: Log<EventId, u64>,
    cursor: Option<Cursor>,
    followed: Reading<EventId>,
    /// The documents that were added to the tested series, oldest first, each with the number that the reference
    /// model gave it.
    series: Vec<(u64, Added)>,
    tokens: Vec<(LeaseToken, ItemId)>,
    mark: QueueMark,
    /// The items of the last push.
    pushed: Vec<QueueItem>,
}

impl Job {
    /// Sets the reader's cursor. All events except the last `left` count as read.
    fn stand_before(&mut self, left: usize, cursor: Cursor) -> Check {
        self.cursor = Some(cursor);
        self.followed = Reading::default();
        let read = self.log.durable().len().saturating_sub(left);
        for (id, _) in self.log.durable().take(read) {
            self.followed.give(id)?;
        }
        Ok(())
    }
}

pub(super) struct Subject<'a> {
    harness: &'a dyn Harness,
    handles: Vec<Arc<dyn Backend>>,
    names: Vec<JobAddress>,
    jobs: Vec<Job>,
    documents: Vec<Document>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(harness: &'a dyn Harness) -> Result<Self, Failure> {
        let names: Vec<JobAddress> = ["a", "b"].into_iter().map(job).collect::<Result<_, _>>()?;
        let (kind, name) = (DocumentKind::new("notes")?, DocumentName::new("n")?);
        let of_job = DocumentOwner::Job(job("a")?);
        let of_repo = DocumentOwner::Repo(job("a")?.repo);
        let documents = vec![
            Document::Orphans(job("x")?),
            Document::Own(of_job, kind.clone(), name.clone()),
            Document::Own(of_repo, kind, name),
        ];
        debug_assert_eq!((names.len(), documents.len()), (JOBS, DOCUMENTS));
        Ok(Self {
            harness,
            handles: (0..HANDLES).map(|_| harness.open()).collect(),
            names,
            jobs: (0..JOBS).map(|_| Job::default()).collect(),
            documents,
        })
    }

    /// Makes a call on the backend, and compares the answer with `after`, the model's state after the call.
    pub(super) fn apply(&mut self, step: &Step, after: &State) -> Check {
        let handle = Arc::clone(at(&self.handles, step.handle)?);
        let backend = &*handle;
        let answer = &after.answer;
        match &step.call {
            Call::Append { job, .. } => self.append(backend, *job, after),
            Call::AppendGiven { job, millis } => self.append_given(backend, *job, millis, after),
            Call::Read { job } => self.read(backend, *job, after),
            Call::Follow { job, limit } => self.follow(backend, *job, *limit),
            Call::Tail { job, count, limit } => self.tail(backend, *job, *count, *limit),
            Call::End { job } => {
                let end = backend.end(at(&self.names, *job)?, soon())?;
                at_mut(&mut self.jobs, *job)?.stand_before(0, end)
            }
            Call::Seal { job } => Ok(backend.seal(at(&self.names, *job)?, soon())?),
            Call::Put { document, wish } => {
                // If the condition was met, the model now has the written value.
                let tag = at(&after.documents, *document)?
                    .stable()
                    .copied()
                    .unwrap_or_default();
                let document = at(&self.documents, *document)?;
                let options =
                    PutOptions::default().expect(expected(*wish, backend.revision(document, soon())?));
                let put = backend.put(document, object(&body(tag))?, &options, soon());
                written(put.map(|_| true), answer)
            }
            Call::Delete { document, wish } => {
                let document = at(&self.documents, *document)?;
                let expected = expected(*wish, backend.revision(document, soon())?);
                written(
                    backend.delete(document, expected, Durability::Strict, None, soon()),
                    answer,
                )
            }
            Call::Get { document } => {
                let name = at(&self.documents, *document)?;
                let got = backend.get(name, soon())?;
                let revision = got.as_ref().map(StoredDocument::revision);
                let tag = match got {
                    Some(got) => Some(tag_of(&got)?),
                    None => None,
                };
                at(&after.documents, *document)?.check(tag.as_ref())?;
                ensure_eq!(
                    backend.revision(name, soon())?,
                    revision,
                    "the revision of a document, and the result of `revision`"
                );
                Ok(())
            }
            Call::Add { job, wish } => self.add(backend, *job, *wish, after),
            Call::Newest { job, before } => self.newest(backend, *job, *before, after),
            Call::Drop { job, newer } => self.remove(backend, *job, *newer, answer),
            Call::QueuePut { job, .. } => {
                let now = self.harness.clock().now();
                let pushed = &at(&after.queues, *job)?.pushed;
                let items = pushed
                    .iter()
                    .map(|(key, data)| item(&key.to_string(), &data.to_string(), now));
                at_mut(&mut self.jobs, *job)?.pushed = items.collect::<Result<_, _>>()?;
                self.queue_put(backend, *job, answer)
            }
            Call::PutAgain { job } => self.queue_put(backend, *job, answer),
            Call::Take { job, limit, which } => self.take(backend, *job, *limit, which, answer),
            Call::Settle { job, settlements } => self.settle(backend, *job, settlements, answer),
            Call::Compact { job } => {
                let compaction = backend.queue_compact(at(&self.names, *job)?, soon())?;
                ensure!(
                    compaction.after <= compaction.before,
                    "a compaction adds bytes: {compaction:?}"
                );
                Ok(())
            }
            Call::Mark { job } => {
                let summary = backend.queue_summary(at(&self.names, *job)?, soon())?;
                at_mut(&mut self.jobs, *job)?.mark = summary.mark;
                Ok(())
            }
            Call::Queue { job } => self.queue(backend, *job, after),
            Call::Advance { seconds } => {
                self.harness.clock().advance(Duration::from_secs(*seconds));
                Ok(())
            }
            Call::Restart => {
                drop(handle);
                self.restart();
                Ok(())
            }
            Call::Reboot => {
                drop(handle);
                self.harness.clock().reboot();
                self.restart();
                Ok(())
            }
        }
    }

    fn restart(&mut self) {
        self.handles.clear();
        self.harness.restart();
        self.handles = (0..HANDLES).map(|_| self.harness.open()).collect();
    }

    /// Compares the whole contents of the store with the model.
    pub(super) fn finish(&mut self, state: &State) -> Check {
        let backend = at(&self.handles, 0)?.clone();
        for job in 0..JOBS {
            self.read(&*backend, job, state)?;
            self.follow(&*backend, job, usize::MAX)?;
            self.queue(&*backend, job, state)?;
            let scope = DocumentScope::Checkpoints(at(&self.names, job)?.clone(), Phase::Map);
            let mut found = Vec::new();
            for entry in list(&*backend, &scope)? {
                let got = backend.get(&entry.document, soon())?;
                found.push(got.map(|got| String::from_utf8_lossy(got.body()).into_owned()));
            }
            let wanted: Vec<_> = at(&state.series, job)?
                .iter()
                .map(|&tag| Some(body(tag)))
                .collect();
            ensure_eq!(found, wanted, "series of a job");
        }
        Ok(())
    }

    fn append(&mut self, backend: &dyn Backend, index: usize, after: &State) -> Check {
        let Answer::Appended { stored, .. } = &after.answer else {
            return Err(Failure::new("the model has no answer"));
        };
        let texts: Vec<String> = stored.iter().map(u64::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let ids = append(backend, at(&self.names, index)?, &texts)?;
        let job = at_mut(&mut self.jobs, index)?;
        let newest = job.log.durable().last().map_or(EventId::MIN, |(id, _)| id);
        ensure!(
            ids.iter().all(|&id| id > newest),
            "the assigned ids {ids:?} are not above {newest}"
        );
        for (id, tag) in ids.into_iter().zip(stored) {
            job.log.store(id, *tag)?;
        }
        Ok(())
    }

    fn append_given(&mut self, backend: &dyn Backend, index: usize, millis: &[i64], after: &State) -> Check {
        let Answer::Appended { stored, duplicates } = &after.answer else {
            return Err(Failure::new("the model has no answer"));
        };
        let stands = at(&after.events, index)?;
        let mut events: Vec<(EventId, String)> = Vec::new();
        for &millis in millis {
            let id = given(millis);
            let first = events.iter().all(|(before, _)| *before != id);
            let stored = stands
                .iter()
                .find(|event| event.millis == Some(millis) && stored.contains(&event.tag));
            // A repeated event gets a payload that no stored event has, so a read would show if it were stored.
            let tag = stored.filter(|_| first).map_or(0, |event| event.tag);
            events.push((id, tag.to_string()));
        }
        let events: Vec<(EventId, &str)> = events.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let appended = append_given(backend, at(&self.names, index)?, &events)?;
        ensure_eq!(
            (appended.stored, appended.duplicates),
            (stored.len(), *duplicates),
            "events stored and known already"
        );
        let log = &mut at_mut(&mut self.jobs, index)?.log;
        for event in stands.iter().filter(|event| stored.contains(&event.tag)) {
            log.store(given(event.millis.unwrap_or_default()), event.tag)?;
        }
        Ok(())
    }

    fn read(&self, backend: &dyn Backend, index: usize, after: &State) -> Check {
        let log = &at(&self.jobs, index)?.log;
        ensure_eq!(
            log.durable().len(),
            at(&after.events, index)?.len(),
            "events stored"
        );
        let found = read(backend, at(&self.names, index)?)?;
        log.check(found, |id, tag, payload| -> Check {
            ensure_eq!(Some(payload), tag.map(u64::to_string), "payload of event {id}");
            Ok(())
        })?;
        Ok(())
    }

    fn follow(&mut self, backend: &dyn Backend, index: usize, limit: usize) -> Check {
        let name = at(&self.names, index)?;
        let job = at_mut(&mut self.jobs, index)?;
        let options = job
            .cursor
            .take()
            .map_or_else(ScanOptions::all, ScanOptions::after);
        let (events, cursor) = read_some(backend, name, &options, limit)?;
        job.cursor = Some(cursor);
        ensure!(
            events.is_sorted_by(|a, b| a.0 < b.0),
            "events followed are out of order: {events:?}"
        );
        for (id, payload) in &events {
            job.followed.give(*id)?;
            ensure_eq!(
                Some(payload),
                job.log.get(*id).map(u64::to_string).as_ref(),
                "payload of event {id}"
            );
        }
        if events.len() < limit {
            job.followed.check_all(&job.log)?;
        }
        Ok(())
    }

    fn tail(&mut self, backend: &dyn Backend, index: usize, count: usize, limit: usize) -> Check {
        let tail = backend.tail(at(&self.names, index)?, count, None, soon())?;
        let (events, cursor) = drain(tail, limit)?;
        let job = at_mut(&mut self.jobs, index)?;
        let (all, behind) = (job.log.durable(), job.log.durable().len().min(count));
        let wanted = all.skip(job.log.durable().len() - behind).take(limit);
        let wanted: Vec<_> = wanted.map(|(id, tag)| (id, tag.to_string())).collect();
        ensure_eq!(events, wanted, "the newest {count} events, {limit} at most");
        job.stand_before(behind - wanted.len(), cursor)
    }

    fn add(&mut self, backend: &dyn Backend, index: usize, wish: Wish, after: &State) -> Check {
        let job = at_mut(&mut self.jobs, index)?;
        let newest = job.series.last().map(|(_, added)| added.revision);
        let options = PutOptions::default().expect(expected(wish, newest));
        let tag = at(&after.series, index)?.last().copied().unwrap_or_default();
        let added = backend.add(
            at(&self.names, index)?,
            Phase::Map,
            object(&body(tag))?,
            &options,
            soon(),
        );
        if let Ok(added) = &added {
            job.series.push((tag, added.clone()));
        }
        written(added.map(|_| true), &after.answer)
    }

    fn newest(&self, backend: &dyn Backend, index: usize, before: usize, after: &State) -> Check {
        let series = &at(&self.jobs, index)?.series;
        let bound = series.len().checked_sub(before).and_then(|at| series.get(at));
        let bound = bound.map(|(_, added)| &added.document);
        let found = backend.newest(at(&self.names, index)?, Phase::Map, bound, soon())?;
        let tags = at(&after.series, index)?;
        // If the series does not have `before` documents, or `before` is 0, the call has no upper bound.
        let below = bound.map_or(0, |_| before);
        let wanted = tags.len().checked_sub(below + 1).and_then(|at| tags.get(at));
        let wanted = wanted.and_then(|tag| series.iter().find(|(of, _)| of == tag));
        ensure_eq!(
            found.map(|entry| entry.document),
            wanted.map(|(_, added)| added.document.clone()),
            "newest of a series before {bound:?}"
        );
        Ok(())
    }

    fn remove(&mut self, backend: &dyn Backend, index: usize, newer: usize, answer: &Answer) -> Check {
        let series = &mut at_mut(&mut self.jobs, index)?.series;
        let removed = match series.len().checked_sub(newer + 1) {
            Some(at) => {
                let (_, added) = series.remove(at);
                backend.delete(&added.document, Expected::Any, Durability::Strict, None, soon())
            }
            None => Ok(false),
        };
        written(removed, answer)
    }

    fn queue_put(&self, backend: &dyn Backend, index: usize, answer: &Answer) -> Check {
        let items = &at(&self.jobs, index)?.pushed;
        let report = backend.queue_put(at(&self.names, index)?, items, Durability::Strict, None, soon())?;
        ensure_eq!(Answer::Queued(report), *answer, "items added, merged and known");
        Ok(())
    }

    fn take(
        &mut self,
        backend: &dyn Backend,
        index: usize,
        limit: usize,
        which: &Which,
        answer: &Answer,
    ) -> Check {
        let job = at_mut(&mut self.jobs, index)?;
        let select = match which {
            Which::Eligible => Select::eligible(),
            Which::Parked => Select::any().with(Eligible::No),
            Which::Keys(keys) => {
                let ids = keys.iter().map(|key| item_id(&key.to_string()));
                Select::ids(ids.collect::<Result<Vec<_>, _>>()?)
            }
            Which::Marked => Select::eligible().until(job.mark),
            Which::Failed(times) => Select::eligible().attempts(*times..=u64::MAX),
        };
        let lease = Duration::from_secs(LEASE);
        let taken = backend.queue_take(at(&self.names, index)?, &select, limit, lease, None, soon())?;
        let keys: Vec<u8> = taken
            .iter()
            .filter_map(|entry| entry.id.as_str().parse().ok())
            .collect();
        ensure_eq!(Answer::Taken(keys), *answer, "items taken");
        for entry in taken {
            let lease = entry
                .lease
                .ok_or_else(|| Failure::new("an item was taken without a lease"))?;
            ensure!(
                job.tokens.iter().all(|(token, _)| *token != lease.token),
                "a token was given out twice: {}",
                lease.token
            );
            job.tokens.push((lease.token, entry.id));
        }
        Ok(())
    }

    fn settle(
        &self,
        backend: &dyn Backend,
        index: usize,
        settlements: &[(Whose, What)],
        answer: &Answer,
    ) -> Check {
        let Answer::Settled(wanted, data) = answer else {
            return Err(Failure::new("the model has no answer"));
        };
        let (name, job) = (at(&self.names, index)?, at(&self.jobs, index)?);
        let now = self.harness.clock().now();
        let mut calls = Vec::new();
        for (&(whose, what), data) in settlements.iter().zip(data) {
            let (claim, id) = match whose {
                Whose::Token(number) => match job.tokens.get(number) {
                    Some((token, id)) => (Claim::Lease(token.clone()), id.clone()),
                    // A token that no take has returned.
                    None => (Claim::Lease(LeaseToken::random()), item_id("none")?),
                },
                Whose::Key(key) => {
                    let id = item_id(&key.to_string())?;
                    (Claim::Item(id.clone()), id)
                }
                Whose::Present(key) => {
                    let id = item_id(&key.to_string())?;
                    let got = backend.queue_get(name, &id, soon())?;
                    let revision = got.map(|got| got.revision).unwrap_or_default();
                    (Claim::Revision(id.clone(), revision), id)
                }
                Whose::Stale(key) => {
                    let id = item_id(&key.to_string())?;
                    (Claim::Revision(id.clone(), QueueMark(u64::MAX)), id)
                }
            };
            let pushed = item(id.as_str(), &data.to_string(), now)?;
            let change = match what {
                What::Remove => Change::Remove,
                What::Extend => Change::Extend(Duration::from_secs(LEASE)),
                What::Release(delay) => Change::Release {
                    delay: Duration::from_secs(delay),
                },
                What::Fail => Change::Fail(pushed),
                What::Park => Change::Park { reason: None },
                What::Unpark => Change::Unpark,
                What::Edit => Change::Edit(pushed.body),
            };
            calls.push(Settlement::new(claim, change));
        }
        let settled = backend.queue_settle(name, &calls, None, soon())?;
        ensure_eq!(settled, *wanted, "the outcomes of the settlements");
        Ok(())
    }

    fn queue(&self, backend: &dyn Backend, index: usize, after: &State) -> Check {
        let name = at(&self.names, index)?;
        let wanted = at(&after.queues, index)?.items();
        let clock = self.harness.clock();
        let order: Vec<String> = wanted.iter().map(|item| item.key().to_string()).collect();
        ensure_eq!(keys(backend, name)?, order, "keys of a queue");
        let mut places = Vec::new();
        for item in wanted {
            let got = entry(backend, name, &item.key().to_string())?;
            let text = got.body.get().as_bytes();
            for (field_name, value) in [
                ("item_data", serde_json::json!(item.data())),
                ("failure_count", serde_json::json!(item.failures().end())),
                ("reprocess_eligible", serde_json::json!(item.is_eligible())),
            ] {
                ensure_eq!(
                    field(text, field_name)?,
                    value,
                    "{field_name} of item {}",
                    item.key()
                );
            }
            ensure_eq!(
                (got.state(clock), got.lease.is_some()),
                (item.state(after.now), item.token().is_some()),
                "state of item {}, and whether it has a lease",
                item.key()
            );
            places.push((item.place(), got.place));
        }
        places.sort_unstable();
        ensure!(
            places.is_sorted_by(|a, b| a.1 < b.1),
            "the order of the places differs from the model's: {places:?}"
        );
        let summary = backend.queue_summary(name, soon())?;
        let count = |test: fn(&ItemState, bool) -> bool| {
            let tested = wanted
                .iter()
                .filter(|item| test(&item.state(after.now), item.is_eligible()));
            tested.count() as u64
        };
        ensure_eq!(
            (
                summary.items,
                summary.pending,
                summary.leased,
                summary.delayed,
                summary.parked
            ),
            (
                wanted.len() as u64,
                count(|state, eligible| *state == ItemState::Pending && eligible),
                count(|state, _| *state == ItemState::Leased),
                count(|state, eligible| *state == ItemState::Delayed && eligible),
                count(|state, eligible| *state != ItemState::Leased && !eligible),
            ),
            "items of the summary: all, pending, leased, delayed, parked"
        );
        Ok(())
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

fn at<T>(of: &[T], index: usize) -> Result<&T, Failure> {
    of.get(index)
        .ok_or_else(|| Failure::new("a step is out of range"))
}

fn at_mut<T>(of: &mut [T], index: usize) -> Result<&mut T, Failure> {
    of.get_mut(index)
        .ok_or_else(|| Failure::new("a step is out of range"))
}

fn body(tag: u64) -> String {
    format!("{{\"n\":{tag}}}")
}

fn tag_of(document: &StoredDocument) -> Result<u64, Failure> {
    let tag = field(document.body(), "n")?.as_u64();
    let tag = tag.ok_or_else(|| Failure::new("a document has no tag"))?;
    ensure_eq!(
        String::from_utf8_lossy(document.body()),
        body(tag),
        "body of a document"
    );
    Ok(tag)
}

fn expected(wish: Wish, present: Option<Revision>) -> Expected {
    match wish {
        Wish::Any => Expected::Any,
        Wish::Absent => Expected::Absent,
        Wish::Present => Expected::Revision(present.unwrap_or_else(Revision::random)),
        Wish::Wrong => Expected::Revision(Revision::random()),
    }
}

fn written(outcome: StorageResult<bool>, answer: &Answer) -> Check {
    let outcome = match outcome {
        Ok(outcome) => Some(outcome),
        Err(error) if error.kind() == ErrorKind::Conflict => None,
        Err(error) => return Err(error.into()),
    };
    ensure_eq!(
        Answer::Written(outcome),
        *answer,
        "the result of a conditional write"
    );
    Ok(())
}
