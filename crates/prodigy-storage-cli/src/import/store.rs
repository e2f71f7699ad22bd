//! Stores the imported data, and reads it back. Ids and keys are derived from the contents, so a second import stores
//! nothing twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

use prodigy_storage::backend::Annotations;
use prodigy_storage::backend::dead_letter::{first, merge, normalise};
use prodigy_storage::{
    Batch, Checkpoint, CheckpointKey, Cursor, DocumentOptions, Documents, Durability, EventId, Expected,
    ItemId, Job, JobAddress, OrphanedWorktree, Phase, ReadOptions, SaveOptions, ScanItem, Select, Storage,
    StorageError, Timestamp, escape,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::text;
use super::turn::Turn;
use crate::errors::is_about_the_value;

#[cfg(test)]
mod tests;

/// The largest number of events in one write; `BATCH_BYTES` limits their size.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// The longest time between the save of a checkpoint and the time in its name, in nanoseconds.
const CLOSE: u64 = 1_000_000_000;
/// The prefix of the keys of imported checkpoints.
const IMPORTED: &str = "imported-";

/// The number of values that were stored, known and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Stored by this run.
    pub(super) stored: u64,
    /// Stored by an earlier run.
    pub(super) known: u64,
    /// Refused, each with a message.
    pub(super) refused: u64,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.stored += more.stored;
        self.known += more.known;
        self.refused += more.refused;
    }
}

/// The reason why a value is refused.
pub(super) type Refusal = String;

/// A state of a job, which is stored as a checkpoint.
pub(super) struct State<'s> {
    pub(super) phase: Phase,
    /// The time when the state was created.
    pub(super) time: Option<Timestamp>,
    pub(super) key: Option<String>,
    pub(super) schema_version: u32,
    /// The position of the state, or an event of the job that it would skip.
    pub(super) cursor: Result<Option<Cursor>, EventId>,
    pub(super) data: &'s RawValue,
}

/// Imports files and counts the outcomes.
pub(super) struct Importer<'a> {
    storage: &'a Storage,
    /// True in a dry run, which stores nothing.
    pub(super) dry: bool,
    turn: Turn,
    /// The checksum of each imported event's payload, for the comparison with the stored event.
    events: HashMap<EventId, u128>,
    /// The ids of the dead letters that were pushed to a job. A new one has the checksum of its data, for the
    /// comparison.
    letters: HashMap<String, Option<u128>>,
    /// The plan of a dry run.
    planned: Planned,
    /// The checkpoint keys of the export that is imported.
    pub(super) keys: HashSet<String>,
    /// The number of records imported since the last call of [`count_as`](Self::count_as).
    count: Count,
    /// The counts of the finished kinds of data, by the kind's name in the report.
    pub(super) counts: BTreeMap<&'static str, Count>,
    pub(super) refusals: Vec<Refusal>,
    /// The number of states that are older than a checkpoint of their job.
    pub(super) superseded: usize,
}

/// The values that a dry run would store: two files may contain the same one.
#[derive(Default)]
struct Planned {
    /// The number of events of the job at hand, each repeated one included.
    events: u64,
    /// The checkpoints, by job and key.
    states: HashSet<(JobAddress, String)>,
    /// The dead letters, by job and id.
    letters: HashMap<(JobAddress, ItemId), Box<RawValue>>,
    /// The orphaned worktrees.
    orphans: Vec<(JobAddress, OrphanedWorktree)>,
}

type Outcome<T = ()> = Result<T, StorageError>;

/// Events that are stored in one write.
#[derive(Default)]
pub(super) struct Events {
    batch: Batch,
    ids: Vec<EventId>,
}

/// A line of an event file. Other programs write an object with a member `event`.
#[derive(Deserialize)]
struct EventLine<'l> {
    id: Option<String>,
    timestamp: Option<String>,
    correlation_id: Option<String>,
    #[serde(borrow, default, deserialize_with = "super::lines::present")]
    event: Option<&'l RawValue>,
    #[serde(borrow)]
    metadata: Option<&'l RawValue>,
}

/// A dead letter. Its fields other than the data are stored but not compared, since a push may add to them.
#[derive(Deserialize)]
struct Letter<'l> {
    item_id: String,
    #[serde(borrow)]
    item_data: &'l RawValue,
}

/// The checksum of a value, independent of its formatting.
fn sum_of_value(value: &RawValue) -> u128 {
    let value: Value = serde_json::from_str(value.get()).unwrap_or_default();
    sum(value.to_string().as_bytes())
}

/// A 128-bit hash of the bytes.
fn sum(bytes: &[u8]) -> u128 {
    EventId::for_key(Timestamp::from_nanos(0), bytes).as_u128()
}

impl<'a> Importer<'a> {
    pub(super) fn new(storage: &'a Storage, turn: Turn) -> Self {
        Self {
            storage,
            dry: turn.is_dry(),
            turn,
            events: HashMap::new(),
            letters: HashMap::new(),
            planned: Planned::default(),
            keys: HashSet::new(),
            count: Count::default(),
            counts: BTreeMap::new(),
            refusals: Vec::new(),
            superseded: 0,
        }
    }

    /// Adds the values that were imported since the last call to the count of a kind.
    pub(super) fn count_as(&mut self, kind: &'static str) {
        let count = std::mem::take(&mut self.count);
        self.counts.entry(kind).or_default().add(count);
    }

    pub(super) fn refuse(&mut self, what: impl std::fmt::Display, why: impl std::fmt::Display) {
        self.count.refused += 1;
        // Names in it may have line breaks.
        self.refusals.push(escape(&format!("{what}: {why}")).into_owned());
    }

    /// Refuses a value that the store does not take, so that the others are imported.
    fn unless_refused(&mut self, place: &str, stored: Outcome) -> Outcome {
        match stored {
            Err(error) if is_about_the_value(&error) => {
                self.refuse(place, format!("{error:#}"));
                Ok(())
            }
            stored => stored,
        }
    }

    /// Reads a file. If that fails, reports the file as refused.
    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        let longest = self.storage.config().file.max_document_size;
        match text::whole(path, longest) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.refuse(path.display(), error);
                None
            }
        }
    }

    fn json(&mut self, path: &Path) -> Option<Box<RawValue>> {
        let bytes = self.read(path)?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(path.display(), format!("it is not JSON: {error}"));
                None
            }
        }
    }

    /// Imports the lines of an event file. The id of an event is derived from its time and its line; its original id
    /// and time are kept in its metadata.
    pub(super) fn events(&mut self, job: &Job, path: &Path) -> Outcome {
        let mut file = match text::open(path) {
            Ok(file) => file,
            Err(error) => {
                self.refuse(path.display(), error);
                return Ok(());
            }
        };
        let mut events = Events::default();
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let place = format!("{} line {number}", path.display());
            match file.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.refuse(place, error);
                    break;
                }
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            self.event_line(job, &place, text, &mut events)?;
        }
        self.append(job, &mut events)
    }

    /// Imports an event from a line; it is stored in a batch with others.
    pub(super) fn event_line(&mut self, job: &Job, place: &str, text: &[u8], events: &mut Events) -> Outcome {
        match self.event(text, &mut events.batch) {
            Ok(id) => events.ids.push(id),
            Err(why) => self.refuse(place, why),
        }
        if events.batch.len() >= BATCH || events.batch.bytes() >= BATCH_BYTES {
            self.append(job, events)?;
        }
        Ok(())
    }

    /// Adds the event of a line to a batch, and returns its id.
    fn event(&mut self, text: &[u8], batch: &mut Batch) -> Result<EventId, String> {
        let parsed: EventLine<'_> =
            serde_json::from_slice(text).map_err(|error| format!("it is not an event: {error}"))?;
        let event = parsed
            .event
            .ok_or("it is not an event: it has no field `event`")?;
        let time = parsed.timestamp.as_deref().and_then(Timestamp::parse);
        let time = time.ok_or_else(|| {
            let id = parsed.id.as_deref().unwrap_or("without an id");
            match parsed.timestamp.as_deref() {
                Some(text) => {
                    let text: String = text.chars().take(40).collect();
                    format!("event {id}: its time `{text}` is no time between 1970 and 2262")
                }
                None => format!("event {id}: it has no field `timestamp`"),
            }
        })?;
        if text.len() as u64 > self.storage.config().file.max_record_size {
            return Err("it is larger than `max_record_size`".to_owned());
        }
        // An append refuses an id that is ahead of the clock.
        let now = Timestamp::now();
        let own = parsed.id.as_deref().and_then(|id| id.parse::<EventId>().ok());
        let own = own.filter(|id| id.is_v7() && !id.is_ahead_of(now));
        let id = own.unwrap_or_else(|| EventId::for_key(time.min(now), text));
        let origin = json!({"id": parsed.id, "timestamp": parsed.timestamp}).to_string();
        // The other fields are kept byte for byte.
        let metadata = match parsed.metadata.map(|metadata| metadata.get().trim_end()) {
            Some(object) if object.starts_with('{') && object.len() > 2 => {
                let fields = object.strip_suffix('}').unwrap_or(object);
                format!("{fields},\"imported\":{origin}}}")
            }
            Some(other) if !other.starts_with('{') => {
                format!("{{\"metadata\":{other},\"imported\":{origin}}}")
            }
            _ => format!("{{\"imported\":{origin}}}"),
        };
        let metadata = RawValue::from_string(metadata).map_err(|error| error.to_string())?;
        let beside = Annotations {
            correlation_id: parsed.correlation_id.as_deref(),
            metadata: Some(&metadata),
        };
        batch
            .push_with(event, beside)
            .map_err(|error| format!("{error:#}"))?;
        self.events.insert(id, sum(event.get().as_bytes()));
        Ok(id)
    }

    /// The ids of the events that were imported since the last comparison.
    pub(super) fn event_ids(&self) -> BTreeSet<EventId> {
        self.events.keys().copied().collect()
    }

    pub(super) fn append(&mut self, job: &Job, events: &mut Events) -> Outcome {
        let Events { batch, ids } = events;
        if batch.is_empty() {
            return Ok(());
        }
        if self.dry {
            // They are counted when the log is read.
            self.planned.events += batch.len() as u64;
        } else {
            self.turn.check()?;
            batch.set_ids(ids.iter().copied());
            let appended = job.events().append_prepared(batch, Some(Durability::Relaxed))?;
            self.count.stored += appended.stored as u64;
            self.count.known += appended.duplicates as u64;
        }
        batch.clear();
        ids.clear();
        Ok(())
    }

    /// Makes the events of a job durable, and compares each with what a read returns. A dry run reads which of them are stored
    /// already.
    pub(super) fn verify_events(&mut self, job: &Job) -> Outcome {
        let mut expected = std::mem::take(&mut self.events);
        let planned = std::mem::take(&mut self.planned.events);
        if expected.is_empty() {
            return Ok(());
        }
        if !self.dry {
            self.storage.flush()?;
        }
        let (all, mut found, mut differs) = (expected.len() as u64, 0, Vec::new());
        let mut lines = job.events().read_lines(ReadOptions::new())?;
        while let Some(item) = lines.next()? {
            if let ScanItem::Record(record) = item
                && let Some(sum_of) = expected.get(&record.id)
            {
                let parsed = record.parse_event::<Box<RawValue>>();
                let is_same = parsed.is_ok_and(|parsed| sum(parsed.event.get().as_bytes()) == *sum_of);
                found += u64::from(self.dry);
                if is_same {
                    expected.remove(&record.id);
                } else if self.dry {
                    differs.push(record.id);
                }
            }
        }
        if self.dry {
            let new = all.saturating_sub(found);
            self.count.stored += new;
            self.count.known += planned.saturating_sub(new);
            expected.retain(|id, _| differs.contains(id));
        }
        if let Some(id) = expected.keys().next() {
            let why = format!(
                "{} events differ from the imported ones, the first is {id}",
                expected.len()
            );
            self.refuse(job.address(), why);
        }
        Ok(())
    }

    /// Imports dead letters: an item, or an array of items.
    pub(super) fn letters(&mut self, job: &Job, path: &Path) -> Outcome {
        let Some(value) = self.json(path) else {
            return Ok(());
        };
        let items: Vec<Box<RawValue>> = match value.get().starts_with('[') {
            true => serde_json::from_str(value.get()).unwrap_or_default(),
            false => vec![value],
        };
        let place = path.display().to_string();
        items.iter().try_for_each(|item| self.letter(job, &place, item))
    }

    /// Imports a dead letter.
    pub(super) fn letter(&mut self, job: &Job, place: &str, item: &RawValue) -> Outcome {
        if self.dry {
            let planned = self.plan_letter(job, item);
            return self.unless_refused(place, planned);
        }
        match job.dlq().push_raw(item) {
            Ok(report) => {
                self.count.stored += (report.added + report.merged) as u64;
                self.count.known += report.known as u64;
                if let Ok(letter) = serde_json::from_str::<Letter<'_>>(item.get()) {
                    // The data of an existing item may have been edited since, so it is not compared.
                    let sum = (report.added > 0).then(|| sum_of_value(letter.item_data));
                    self.letters.insert(letter.item_id, sum);
                }
            }
            Err(error) if is_about_the_value(&error) => self.refuse(place, format!("{error:#}")),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Counts a dead letter as a push would.
    fn plan_letter(&mut self, job: &Job, item: &RawValue) -> Outcome {
        let (pushed, now) = (normalise(item)?, Timestamp::now());
        let key = (job.address().clone(), pushed.id.clone());
        let before = match self.planned.letters.remove(&key) {
            Some(body) => Some(body),
            None => job.dlq().get(&pushed.id)?.map(|item| item.body.clone()),
        };
        let made = match &before {
            None => Some(first(&pushed.body, now)?.into_owned()),
            Some(stored) => merge(stored, &pushed.body, now)?,
        };
        match made {
            Some(_) => self.count.stored += 1,
            None => self.count.known += 1,
        }
        self.planned
            .letters
            .extend(made.or(before).map(|body| (key, body)));
        Ok(())
    }

    /// Compares each dead letter of a job with what a read returns.
    pub(super) fn verify_letters(&mut self, job: &Job) -> Outcome {
        let mut expected = std::mem::take(&mut self.letters);
        if expected.is_empty() {
            return Ok(());
        }
        for item in job.dlq().scan(&Select::any())? {
            if let Ok(item) = item
                && let Ok(letter) = serde_json::from_str::<Letter<'_>>(item.body.get())
                && let Some(sum) = expected.get(&letter.item_id)
                && sum.is_none_or(|sum| sum == sum_of_value(letter.item_data))
            {
                expected.remove(&letter.item_id);
            }
        }
        if let Some(id) = expected.keys().min() {
            let why = format!(
                "{} dead letters differ from the imported ones, the first is {id}",
                expected.len()
            );
            self.refuse(job.address(), why);
        }
        Ok(())
    }

    /// Imports the orphaned worktrees of a job.
    pub(super) fn orphans(&mut self, job: &Job, path: &Path) -> Outcome {
        #[derive(Deserialize)]
        struct Document {
            #[serde(alias = "data")]
            orphaned_worktrees: Vec<OrphanedWorktree>,
        }
        let Some(value) = self.json(path) else {
            return Ok(());
        };
        let list: Result<Vec<OrphanedWorktree>, _> = match value.get().starts_with('[') {
            true => serde_json::from_str(value.get()),
            false => serde_json::from_str(value.get()).map(|found: Document| found.orphaned_worktrees),
        };
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                self.refuse(
                    path.display(),
                    format!("it is not a list of orphaned worktrees: {error}"),
                );
                return Ok(());
            }
        };
        list.iter().try_for_each(|orphan| self.orphan(job, orphan))
    }

    /// Imports an orphaned worktree.
    pub(super) fn orphan(&mut self, job: &Job, orphan: &OrphanedWorktree) -> Outcome {
        let planned = (job.address().clone(), orphan.clone());
        if job.orphans().list()?.contains(orphan) || self.planned.orphans.contains(&planned) {
            self.count.known += 1;
            return Ok(());
        }
        if self.dry {
            self.planned.orphans.push(planned);
        } else {
            job.orphans().record(orphan)?;
            if !job.orphans().list()?.contains(orphan) {
                self.refuse(
                    job.address(),
                    format!("the orphaned worktree of {} can't be read back", orphan.agent_id),
                );
                return Ok(());
            }
        }
        self.count.stored += 1;
        Ok(())
    }

    /// Imports a file with a state of a job.
    pub(super) fn checkpoint(&mut self, job: &Job, path: &Path) -> Outcome {
        let Some(data) = self.json(path) else {
            return Ok(());
        };
        let (phase, time) = phase_and_time(path, &data);
        let state = State {
            phase,
            time,
            key: None,
            schema_version: 1,
            cursor: Ok(None),
            data: &data,
        };
        self.state(job, &path.display().to_string(), state)
    }

    /// Imports a state of a job as a checkpoint, under its own key or under a key that is derived from its bytes.
    pub(super) fn state(&mut self, job: &Job, place: &str, state: State<'_>) -> Outcome {
        let stored = self.new_state(job, place, state);
        self.unless_refused(place, stored)
    }

    fn new_state(&mut self, job: &Job, place: &str, state: State<'_>) -> Outcome {
        let text = state.data.get();
        let key = state.key.clone().unwrap_or_else(|| derived_key(text.as_bytes()));
        let is_planned = self.dry && !self.planned.states.insert((job.address().clone(), key.clone()));
        let is_there = |job: &Job| -> Outcome<bool> {
            let found = job.checkpoints().find::<Box<RawValue>>(&key)?;
            Ok(found.is_some_and(|found| found.data.get() == text))
        };
        if is_planned || is_there(job)? || is_saved(job, &state)? {
            self.count.known += 1;
            return Ok(());
        }
        let newer = newer_than(job, &state, &self.keys)?;
        if newer.is_some() && state.key.is_none() {
            self.superseded += 1;
            return self.value(&job.documents("states")?, place, &key, state.data);
        }
        if let Some(newer) = newer {
            let why =
                format!("the job has the newer checkpoint {newer}: it would resume from an older state");
            self.refuse(place, why);
            return Ok(());
        }
        let cursor = match state.cursor {
            Ok(cursor) => cursor,
            Err(event) => {
                let why = format!(
                    "the job has the event {event}, which the export lacks, before the position of this checkpoint: a resume \
                     would skip that event. Import into a job that has no events of its own"
                );
                self.refuse(place, why);
                return Ok(());
            }
        };
        if self.dry {
            self.count.stored += 1;
            return Ok(());
        }
        let name = CheckpointKey::new(&key)
            .map_err(|error| StorageError::invalid("import checkpoint", place, error.to_string()))?;
        self.turn.check()?;
        let options = SaveOptions::new()
            .key(name)
            .cursor(cursor)
            .schema_version(state.schema_version);
        job.checkpoints().save(state.phase, state.data, options)?;
        match is_there(job)? {
            true => self.count.stored += 1,
            false => self.refuse(place, "reading it back gives another value"),
        }
        Ok(())
    }

    /// Imports a document under the name of its file.
    pub(super) fn document(&mut self, documents: &Documents, path: &Path) -> Outcome {
        let Some(value) = self.json(path) else {
            return Ok(());
        };
        let name = path.file_stem().and_then(|name| name.to_str());
        let place = path.display().to_string();
        self.value(documents, &place, name.unwrap_or_default(), &value)
    }

    /// Imports a value as a document.
    pub(super) fn value(
        &mut self,
        documents: &Documents,
        place: &str,
        name: &str,
        value: &RawValue,
    ) -> Outcome {
        let stored = self.new_value(documents, place, name, value);
        self.unless_refused(place, stored)
    }

    fn new_value(&mut self, documents: &Documents, place: &str, name: &str, value: &RawValue) -> Outcome {
        let same = |stored: &RawValue| {
            let of = |text: &str| serde_json::from_str::<Value>(text).ok();
            of(stored.get()) == of(value.get())
        };
        if let Some(stored) = documents.get_raw(name)? {
            match same(&stored.data) {
                true => self.count.known += 1,
                false => self.refuse(place, format!("another document has the name `{name}`: it stays")),
            }
            return Ok(());
        }
        if self.dry {
            self.count.stored += 1;
            return Ok(());
        }
        let absent = DocumentOptions::new().expected_revision(Expected::Absent);
        documents.put(name, value, absent)?;
        match documents.get_raw(name)?.is_some_and(|stored| same(&stored.data)) {
            true => self.count.stored += 1,
            false => self.refuse(place, "reading it back gives another value"),
        }
        Ok(())
    }
}

/// The key of an imported checkpoint that has no key of its own, derived from its contents.
pub(super) fn derived_key(contents: &[u8]) -> String {
    format!(
        "{IMPORTED}{}",
        EventId::for_key(Timestamp::from_nanos(0), contents)
    )
}

/// True if the state is a checkpoint of the job itself, whose export is imported.
fn is_saved(job: &Job, state: &State<'_>) -> Outcome<bool> {
    let Some(time) = state.time else { return Ok(false) };
    // The time in the name is close to that of the save, so that not every checkpoint is read.
    let is_close = |at: Timestamp| at.as_nanos().abs_diff(time.as_nanos()) < CLOSE;
    for entry in job.checkpoints().list() {
        let id = entry?.id;
        if id.phase() != state.phase || !id.time().is_none_or(is_close) {
            continue;
        }
        let found = job.checkpoints().get::<Box<RawValue>>(&id)?;
        let is_same = |found: &Checkpoint<Box<RawValue>>| {
            found.saved_at == time && found.data.get() == state.data.get()
        };
        if found.is_some_and(|found| is_same(&found)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The path of a checkpoint of the job that is newer than the state and was not imported.
fn newer_than(job: &Job, state: &State<'_>, keys: &HashSet<String>) -> Outcome<Option<String>> {
    for entry in job.checkpoints().list() {
        let entry = entry?;
        let path = entry.id.path().display().to_string();
        let key = path.strip_suffix(".json").and_then(|path| path.rsplit_once('.'));
        let is_imported = path.contains(IMPORTED) || key.is_some_and(|(_, key)| keys.contains(key));
        let is_setup = entry.id.phase() == Phase::Setup;
        let is_newer = match entry.id.time() {
            Some(at) if !is_setup => state.time.is_none_or(|time| at > time),
            _ => state.phase == Phase::Setup,
        };
        if is_newer && !is_imported {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The phase of a state, from the name of its file or from its contents; and the time of the state.
fn phase_and_time(path: &Path, state: &RawValue) -> (Phase, Option<Timestamp>) {
    let state: Value = serde_json::from_str(state.get()).unwrap_or_default();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let stated = |place: &Value| {
        ["updated_at", "created_at", "timestamp"]
            .iter()
            .find_map(|field| Timestamp::parse(place.get(field)?.as_str()?))
    };
    let metadata = state.get("metadata").unwrap_or(&Value::Null);
    let phase = match name.split('-').next() {
        Some("setup") => Phase::Setup,
        Some("reduce") => Phase::Reduce,
        Some("map") => Phase::Map,
        _ => match metadata.get("phase").and_then(Value::as_str) {
            Some("Setup") => Phase::Setup,
            Some("Reduce") => Phase::Reduce,
            _ => Phase::Map,
        },
    };
    (phase, stated(&state).or_else(|| stated(metadata)))
}

/// The time of a state, by which states are ordered for the import.
pub(super) fn time_of(path: &Path, longest: u64) -> Option<Timestamp> {
    let bytes = text::whole(path, longest).ok()?;
    let state: Box<RawValue> = serde_json::from_slice(&bytes).ok()?;
    phase_and_time(path, &state).1
}
