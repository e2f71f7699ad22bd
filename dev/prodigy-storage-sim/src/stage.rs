//! Simulated processes, and the history of their operations.

mod letters;

pub(crate) use letters::{LONG, work};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Cursor, Deadline, DocumentStore, Durability, ErrorKind, EventId,
    Expected, Fence, LeaseToken, LockGuard, LockOptions, LockStore, LogStore, PutOptions, ScanItem,
    ScanOptions,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{Document, JobAddress, JobId, LockName, Phase, RepoName, Timestamp};

use crate::fs::{Doom, Process, SimFs};
use crate::history::{Action, Answer, History};
use crate::reading::read_on;

/// The longest wait of a call. No call on a simulated disk takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The options with which all backends are opened.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The size in bytes at which a segment is sealed.
    pub max_file_size: u64,
    /// Whether sealed segments are compressed.
    pub compression: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_file_size: 1 << 20,
            compression: false,
        }
    }
}

impl Setup {
    /// The options for a backend on this file system.
    #[must_use]
    pub fn options(self, sim: &SimFs) -> FileOptions {
        sim.options()
            .max_file_size(self.max_file_size)
            .compression(self.compression)
    }
}

/// A deadline that no call on a simulated disk reaches.
#[must_use]
pub(crate) fn patience() -> Deadline {
    Deadline::after(PATIENCE)
}

/// A file system, the simulated processes that use it, and the history of their operations.
#[derive(Debug)]
pub struct Stage {
    sim: Arc<SimFs>,
    setup: Setup,
    actors: Vec<Actor>,
    history: History,
    /// A counter that makes every payload, message and body unique.
    next: usize,
    mark: &'static str,
    /// The number of the last process of the earlier runs: process numbers continue after it.
    numbers: u32,
}

#[derive(Debug)]
struct Actor {
    process: Arc<Process>,
    backend: Option<FileBackend>,
    guards: Vec<Box<dyn LockGuard>>,
    /// The cursor and the returned events of each log that the process follows.
    followed: HashMap<JobAddress, (Cursor, HashSet<EventId>)>,
    tokens: HashMap<String, LeaseToken>,
    /// The fencing token of the process's appends, pushes, takes and settlements.
    fence: Option<u64>,
}

impl Stage {
    /// A stage on a file system that continues a history. All its payloads begin with the text `mark`.
    #[must_use]
    pub fn new(sim: Arc<SimFs>, setup: Setup, history: History, mark: &'static str) -> Self {
        Self {
            numbers: history
                .ops()
                .iter()
                .map(|op| op.process)
                .max()
                .unwrap_or_default(),
            sim,
            setup,
            actors: Vec::new(),
            history,
            next: 0,
            mark,
        }
    }

    /// The file system.
    #[must_use]
    pub fn sim(&self) -> &Arc<SimFs> {
        &self.sim
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Starts a process; returns its index, by which other methods select it.
    ///
    /// # Errors
    /// The error from opening the backend.
    pub fn enter(&mut self) -> Result<usize> {
        let (backend, process) = self.sim.open(self.setup.options(&self.sim))?;
        self.actors.push(Actor {
            process,
            backend: Some(backend),
            guards: Vec::new(),
            followed: HashMap::new(),
            tokens: HashMap::new(),
            fence: None,
        });
        Ok(self.actors.len() - 1)
    }

    /// Ends a process in an orderly way.
    pub fn leave(&mut self, who: usize) {
        if let Some(actor) = self.actors.get_mut(who) {
            actor.guards.clear();
            actor.backend = None;
        }
    }

    /// Makes a process die in its next call that matches `doom`.
    pub fn doom(&mut self, who: usize, doom: Doom) {
        if let Some(actor) = self.actors.get(who) {
            actor.process.kill_in(doom);
        }
    }

    /// Runs an operation in which a process has to die.
    ///
    /// # Errors
    /// Fails if the process did not die.
    pub fn dying(
        &mut self,
        who: usize,
        doom: Doom,
        play: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.doom(who, doom);
        play(self)?;
        ensure!(self.is_dead(who), "the process made no such call: {doom:?}");
        Ok(())
    }

    /// Has `other` seal and compress its segment between the moments at which `who` opens a segment and tries its lock.
    ///
    /// # Errors
    /// Fails if one of the processes has ended.
    pub fn sealed_meanwhile(&mut self, who: usize, other: usize, job: &JobAddress) -> Result<()> {
        let sealer = self.backend(other)?.clone();
        let job = job.clone();
        self.actor(who)?.0.process.before_it_locks(".jsonl", move || {
            // An error is ignored: the calls that follow show whether the segment was sealed.
            let _ = sealer
                .seal(&job, patience())
                .and_then(|()| sealer.flush(patience()));
        });
        Ok(())
    }

    /// Sets the wall clock of a process to `offset` nanoseconds after (or, if negative, before) the true time.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub fn set_clock(&self, who: usize, offset: i64) -> Result<()> {
        self.actor(who)?.0.process.clock().set(offset);
        Ok(())
    }

    /// Kills a process.
    pub fn kill(&mut self, who: usize) {
        if let Some(actor) = self.actors.get_mut(who) {
            actor.process.kill();
            actor.guards.clear();
            actor.backend = None;
        }
    }

    /// True if a process has died.
    #[must_use]
    pub fn is_dead(&self, who: usize) -> bool {
        self.actors
            .get(who)
            .is_none_or(|actor| actor.backend.is_none() || actor.process.is_dead())
    }

    fn actor(&self, who: usize) -> Result<(&Actor, &FileBackend)> {
        let actor = self.actors.get(who).context("there is no such process")?;
        Ok((actor, actor.backend.as_ref().context("the process has ended")?))
    }

    /// The backend of a process.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub fn backend(&self, who: usize) -> Result<&FileBackend> {
        self.actor(who).map(|(_, backend)| backend)
    }

    /// A text that differs from every other text of all runs.
    pub fn unique(&mut self) -> String {
        self.next += 1;
        format!("{}{}", self.mark, self.next)
    }

    /// Runs an operation and records its answer. If the process dies in it, returns `Ok(None)` and records no answer.
    fn perform(
        &mut self,
        who: usize,
        action: Action,
        act: impl FnOnce(&FileBackend) -> Result<Answer>,
    ) -> Result<Option<Answer>> {
        let number = self.numbers + self.actor(who)?.0.process.number();
        let op = self.history.begin(number, action, self.sim.position());
        let (actor, backend) = self.actor(who)?;
        let answer = act(backend);
        if actor.process.is_dead() {
            self.kill(who);
            return Ok(None);
        }
        let answer = answer?;
        self.history.answer(op, answer.clone(), self.sim.position());
        Ok(Some(answer))
    }

    /// Appends one event for each given size in bytes.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn append(
        &mut self,
        who: usize,
        job: &JobAddress,
        sizes: &[usize],
        durability: Durability,
    ) -> Result<()> {
        let payloads = self.payloads(sizes);
        self.append_these(who, job, payloads, None, durability)
    }

    /// Payloads of about these sizes.
    pub fn payloads(&mut self, sizes: &[usize]) -> Vec<String> {
        sizes
            .iter()
            .map(|size| {
                let name = self.unique();
                format!("{name}:{}", "x".repeat(size.saturating_sub(name.len())))
            })
            .collect()
    }

    /// Appends these events, under these ids if they are given.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn append_these(
        &mut self,
        who: usize,
        job: &JobAddress,
        payloads: Vec<String>,
        given: Option<Vec<EventId>>,
        durability: Durability,
    ) -> Result<()> {
        let fence = self.token_of(who);
        let mut batch = Batch::new();
        batch.set_fence(unnamed(fence)?.as_ref());
        for payload in &payloads {
            batch.push(payload)?;
        }
        if let Some(given) = &given {
            batch.set_ids(given.iter().copied());
        }
        let action = Action::Append {
            job: job.clone(),
            payloads,
            given,
            fence,
            durability,
        };
        self.perform(who, action, |backend| {
            let appended = backend.append(job, &mut batch, &AppendOptions::new(durability), patience())?;
            Ok(Answer::Appended {
                ids: batch.ids().to_vec(),
                stored: appended.stored,
            })
        })?;
        Ok(())
    }

    /// Reads a log to its end and keeps the cursor.
    ///
    /// # Errors
    /// An error of the backend, or damage in the log.
    pub fn scan(&mut self, who: usize, job: &JobAddress) -> Result<()> {
        self.perform(who, Action::Scan { job: job.clone() }, |backend| {
            let (cursor, given) = read_on(backend, job, None)?;
            Ok(Answer::Scanned {
                cursor,
                given: Arc::new(given),
            })
        })?;
        Ok(())
    }

    /// Reads the new events of a log since the process last followed it, and keeps the cursor.
    ///
    /// # Errors
    /// An error of the backend, damage, or an event that is returned twice.
    pub fn follow(&mut self, who: usize, job: &JobAddress) -> Result<()> {
        let before = self
            .actors
            .get_mut(who)
            .and_then(|actor| actor.followed.remove(job));
        let answer = self.perform(who, Action::Scan { job: job.clone() }, |backend| {
            let (cursor, given) = read_on(backend, job, before)?;
            Ok(Answer::Scanned {
                cursor,
                given: Arc::new(given),
            })
        })?;
        if let (Some(Answer::Scanned { cursor, given }), Some(actor)) = (answer, self.actors.get_mut(who)) {
            actor.followed.insert(job.clone(), (cursor, (*given).clone()));
        }
        Ok(())
    }

    /// Completes background work, and makes relaxed writes durable.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn flush(&mut self, who: usize) -> Result<()> {
        self.perform(who, Action::Flush, |backend| {
            backend.flush(patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Seals the segment to which the process appends, and waits until it is compressed.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn seal(&mut self, who: usize, job: &JobAddress) -> Result<()> {
        self.perform(who, Action::Flush, |backend| {
            backend.seal(job, patience())?;
            backend.flush(patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Puts a document of about `bytes` bytes, on condition of its current revision or of its absence.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn put(
        &mut self,
        who: usize,
        document: &Document,
        compare: bool,
        size: usize,
        durability: Durability,
    ) -> Result<()> {
        let body = self.body(size);
        let action = Action::Put {
            document: document.clone(),
            body: Some(body.clone()),
            durability,
        };
        self.perform(who, action, |backend| {
            let expected = match (compare, backend.revision(document, patience())?) {
                (false, _) => Expected::Any,
                (true, None) => Expected::Absent,
                (true, Some(revision)) => Expected::Revision(revision),
            };
            let options = PutOptions::new(durability).expect(expected);
            backend.put(document, Body::parse(body.as_bytes())?, &options, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// A document body of about `size` bytes that is unique.
    fn body(&mut self, size: usize) -> String {
        let name = self.unique();
        format!(
            "{{\"data\":\"{name}:{}\"}}",
            "y".repeat(size.saturating_sub(name.len()))
        )
    }

    /// Deletes a document.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn delete(&mut self, who: usize, document: &Document, durability: Durability) -> Result<()> {
        let action = Action::Put {
            document: document.clone(),
            body: None,
            durability,
        };
        self.perform(who, action, |backend| {
            backend.delete(document, Expected::Any, durability, None, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Deletes a job. Returns false if the deletion was refused because a process is working on the job.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn delete_job(&mut self, who: usize, job: &JobAddress) -> Result<bool> {
        let action = Action::DeleteJob { job: job.clone() };
        let answer = self.perform(who, action, |backend| {
            match backend.delete_job(job, None, patience()) {
                Ok(_) => Ok(Answer::Done),
                Err(error) if error.kind() == ErrorKind::LockUnavailable => Ok(Answer::Refused),
                Err(error) => Err(error.into()),
            }
        })?;
        Ok(!matches!(answer, Some(Answer::Refused)))
    }

    /// Removes the oldest segments of a log whose events are all before a time.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn remove_old(&mut self, who: usize, job: &JobAddress, before: Timestamp) -> Result<()> {
        let mut ids = Vec::new();
        let mut scan =
            self.backend(who)?
                .scan(job, &ScanOptions::all().between(None, Some(before)), patience())?;
        while let Some(item) = scan.next()? {
            if let ScanItem::Record(record) = item {
                ids.push(record.id);
            }
        }
        let job = job.clone();
        let action = Action::RemoveOld {
            job: job.clone(),
            before,
            ids,
        };
        self.perform(who, action, |backend| {
            backend.remove_before(&job, before, None, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Saves a checkpoint of about `size` bytes in a phase, and returns its name. `None` if the process died.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn add(
        &mut self,
        who: usize,
        job: &JobAddress,
        phase: Phase,
        size: usize,
        durability: Durability,
    ) -> Result<Option<Document>> {
        let body = self.body(size);
        self.add_this(who, job, phase, &body, None, durability)
    }

    /// Saves a checkpoint in a phase under a fencing token, and returns its name. `None` if the process died.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn add_fenced(
        &mut self,
        who: usize,
        job: &JobAddress,
        phase: Phase,
        token: u64,
        durability: Durability,
    ) -> Result<Option<Document>> {
        let body = self.body(30).replacen('{', &format!("{{\"fencing\":{token},"), 1);
        self.add_this(who, job, phase, &body, Some(token), durability)
    }

    fn add_this(
        &mut self,
        who: usize,
        job: &JobAddress,
        phase: Phase,
        body: &str,
        fence: Option<u64>,
        durability: Durability,
    ) -> Result<Option<Document>> {
        let action = Action::Add {
            job: job.clone(),
            phase,
            body: body.to_owned(),
            fence,
            durability,
        };
        let answer = self.perform(who, action, |backend| {
            let options = PutOptions::new(durability).fencing(unnamed(fence)?);
            let added = backend.add(job, phase, Body::parse(body.as_bytes())?, &options, patience())?;
            Ok(Answer::Added(added.document))
        })?;
        Ok(match answer {
            Some(Answer::Added(document)) => Some(document),
            _ => None,
        })
    }

    /// Sets the fencing token for later appends and queue operations of a process.
    pub fn fence(&mut self, who: usize, token: u64) {
        if let Some(actor) = self.actors.get_mut(who) {
            actor.fence = Some(token);
        }
    }

    fn token_of(&self, who: usize) -> Option<u64> {
        self.actors.get(who)?.fence
    }

    /// Takes a named lock, which the process holds until [`unlock`](Self::unlock) or its death.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn lock(&mut self, who: usize, name: &LockName) -> Result<()> {
        let mut held = None;
        self.perform(who, Action::Lock { name: name.clone() }, |backend| {
            let guard = backend.lock(name, &LockOptions::new("simulated"), patience())?;
            let token = guard.fencing();
            held = Some(guard);
            Ok(Answer::Token(token))
        })?;
        if let (Some(guard), Some(actor)) = (held, self.actors.get_mut(who)) {
            actor.guards.push(guard);
        }
        Ok(())
    }

    /// Releases every lock of a process.
    pub fn unlock(&mut self, who: usize) {
        if let Some(actor) = self.actors.get_mut(who) {
            actor.guards.clear();
        }
    }
}

fn unnamed(token: Option<u64>) -> Result<Option<Fence>> {
    Ok(token.map(Fence::unnamed).transpose()?)
}

/// The address of a job by its name.
///
/// # Errors
/// Fails if the name is invalid.
pub fn job(name: &str) -> Result<JobAddress> {
    Ok(JobAddress::new(RepoName::new("shop")?, JobId::new(name)?))
}
