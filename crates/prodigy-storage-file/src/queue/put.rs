//! Pushes items into a queue.

use std::borrow::Cow;
use std::collections::HashMap;

use prodigy_storage_backend::dead_letter::{RESERVED, first, merge, normalise};
use prodigy_storage_backend::{
    Deadline, Durability, ErrorKind, ItemId, PutReport, QueueItem, Result, StorageError,
};
use prodigy_storage_layout::JobAddress;
use serde_json::value::RawValue;

use super::compact::Unreadable;
use super::index::Flags;
use super::line;
use super::record::Verb;
use super::standing::Standing;
use super::turn::Turn;
use super::{Gate, Queues};

const OPERATION: &str = "queue put";
/// An estimate of the number of bytes that a line or a record adds to the contents of an item.
const FRAME: u64 = 128;

/// The items of a batch that have the same key, in the order of the batch.
struct Pushed<'a> {
    id: &'a ItemId,
    bodies: Vec<Cow<'a, RawValue>>,
}

/// The changes that a batch makes.
#[derive(Default)]
struct Plan<'a> {
    new: Vec<(&'a ItemId, Box<RawValue>)>,
    /// The new contents of items that are already stored, each with the item's birth, by which the index finds it.
    merged: Vec<(u64, Box<RawValue>)>,
    report: PutReport,
}

impl Plan<'_> {
    /// Estimates the number of bytes that the changes add to the queue.
    fn bytes(&self) -> u64 {
        let bodies = self
            .new
            .iter()
            .map(|(_, body)| body)
            .chain(self.merged.iter().map(|(_, body)| body));
        bodies.map(|body| body.get().len() as u64 + FRAME).sum()
    }
}

impl Queues {
    pub(crate) fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        gate: Gate<'_>,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.root.prepare_write(OPERATION, job)?;
        let batch = self.by_key(items)?;
        if batch.is_empty() {
            return Ok(PutReport::default());
        }
        let mut turn = Turn::begin(self, OPERATION, job, "queue", deadline)?;
        if let Some(pass) = gate {
            pass()?;
        }
        turn.tidy_if_new();
        let plan = self.plan(&mut turn, batch)?;
        let report = plan.report;
        self.has_room(&mut turn, job, &plan)?;
        let is_plain = turn.files.items.as_ref().is_none_or(|items| items.plain);
        if !is_plain || (turn.files.rough && !plan.merged.is_empty()) {
            turn.compact(Unreadable::Quarantined)?;
        }
        if !plan.new.is_empty() {
            let mut lines: Vec<(&RawValue, &ItemId, u64)> = Vec::with_capacity(plan.new.len());
            for (id, body) in &plan.new {
                lines.push((body, *id, turn.next()?));
            }
            turn.push(&lines, durability)?;
        }
        for (birth, body) in &plan.merged {
            let number = turn.next()?;
            if let Some(at) = turn.files.index.find(*birth) {
                turn.change(at, number, Verb::Merge, &Standing::default(), Some(body));
            }
        }
        turn.commit(durability)?;
        turn.compact_if_due();
        turn.end(durability)?;
        Ok(report)
    }

    fn plan<'a>(&self, turn: &mut Turn<'_>, batch: Vec<Pushed<'a>>) -> Result<Plan<'a>> {
        let now = self.root.now();
        let mut plan = Plan::default();
        for Pushed { id, bodies } in batch {
            let mut stored = None;
            for at in turn.with_id(id)? {
                if turn.files.index.is(at, Flags::LARGE) {
                    // The stored item is too large to be read, so a push can't be merged into it, and a second item
                    // with its id is not allowed.
                    return Err(self.over_limit(OPERATION, id));
                }
                stored = turn
                    .entry(at)?
                    .map(|entry| (turn.files.index.birth(at), entry.body));
                if stored.is_some() {
                    break;
                }
            }
            let birth = stored.as_ref().map(|(birth, _)| *birth);
            let mut body = stored.map(|(_, body)| body);
            let mut is_changed = false;
            for pushed in bodies {
                let made = match &body {
                    None => {
                        plan.report.added += 1;
                        Some(first(&pushed, now)?.into_owned())
                    }
                    Some(body) => merge(body, &pushed, now)?,
                };
                match made {
                    Some(made) => {
                        plan.report.merged += usize::from(body.is_some());
                        self.fits(OPERATION, id, &made)?;
                        (body, is_changed) = (Some(made), true);
                    }
                    None => plan.report.known += 1,
                }
            }
            match (body, birth) {
                (Some(body), None) => plan.new.push((id, body)),
                (Some(body), Some(birth)) if is_changed => plan.merged.push((birth, body)),
                _ => {}
            }
        }
        Ok(plan)
    }

    /// Fails if a batch would make the queue larger than its maximum size.
    fn has_room(&self, turn: &mut Turn<'_>, job: &JobAddress, plan: &Plan<'_>) -> Result<()> {
        let (Some(cap), added) = (self.root.options.max_queue_size, plan.bytes()) else {
            return Ok(());
        };
        let is_over = |turn: &Turn<'_>| turn.files.bytes().saturating_add(added) > cap;
        if added == 0 || !is_over(turn) {
            return Ok(());
        }
        // A compaction that frees only a few bytes is not made, since each push would then make one.
        if turn.files.dead_bytes() > cap / 8 {
            turn.compact(Unreadable::Kept)?;
        }
        if is_over(turn) {
            return Err(StorageError::queue_full(
                OPERATION,
                job,
                turn.files.bytes(),
                added,
                cap,
            ));
        }
        Ok(())
    }

    /// Checks all items of the batch, and groups them by key.
    fn by_key<'a>(&self, items: &'a [QueueItem]) -> Result<Vec<Pushed<'a>>> {
        let mut batch: Vec<Pushed<'a>> = Vec::with_capacity(items.len());
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(items.len());
        for item in items {
            let body = self.checked(item)?;
            self.fits(OPERATION, &item.id, &body)?;
            match places.get(item.id.as_str()).and_then(|&at| batch.get_mut(at)) {
                Some(earlier) => earlier.bodies.push(body),
                None => {
                    places.insert(item.id.as_str(), batch.len());
                    batch.push(Pushed {
                        id: &item.id,
                        bodies: vec![body],
                    });
                }
            }
        }
        Ok(batch)
    }

    /// The body of an item as it is stored in a line: without line breaks, with the id first, and without fields of the
    /// queue.
    fn checked<'a>(&self, item: &'a QueueItem) -> Result<Cow<'a, RawValue>> {
        let json = item.body.get().as_bytes();
        let is_normal = memchr::memchr2(b'\n', b'\r', json).is_none()
            && line::id(json).is_some_and(|id| json.starts_with(line::HEAD) && id == item.id.as_str())
            && has_only_own_names(json);
        if is_normal {
            return Ok(Cow::Borrowed(&item.body));
        }
        let again = normalise(&item.body)?;
        if again.id != item.id {
            return Err(StorageError::invalid(
                OPERATION,
                &item.id,
                format!("its body says `item_id` {}", again.id),
            ));
        }
        Ok(Cow::Owned(again.body))
    }

    pub(super) fn fits(&self, operation: &'static str, id: &ItemId, body: &RawValue) -> Result<()> {
        let (len, limit) = (body.get().len() as u64, self.root.options.max_record_size);
        if len <= limit {
            return Ok(());
        }
        Err(StorageError::new(
            ErrorKind::TooLarge,
            operation,
            id,
            format!("the item has {len} bytes, `max_record_size` is {limit}; nothing was stored"),
        )
        .with_hint("keep large data in a file of its own and push its path, or raise `max_record_size`"))
    }

    /// The error for a change of an item that is larger than this process reads.
    pub(super) fn over_limit(&self, operation: &'static str, id: &ItemId) -> StorageError {
        let limit = self.root.options.max_record_size;
        StorageError::new(
            ErrorKind::TooLarge,
            operation,
            id,
            format!("the stored item of this id is larger than `max_record_size` ({limit}) allows to read"),
        )
        .with_hint("raise `max_record_size`, or remove the item by its id")
    }
}

/// True if the text contains `"item_id"` once, and nowhere the name of a field that only the queue writes, neither as a
/// name nor as a value.
fn has_only_own_names(json: &[u8]) -> bool {
    let mut ids = 0;
    memchr::memchr_iter(b'"', json).all(|quote| {
        let text = json.get(quote + 1..).unwrap_or_default();
        let is = |name: &str| {
            let rest = text.strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.first() == Some(&b'"'))
        };
        match text.first() {
            Some(b'i') => {
                ids += usize::from(is("item_id"));
                ids < 2
            }
            // The reserved names begin with one of these letters.
            Some(b'q' | b'd' | b'l' | b'c') => !RESERVED.iter().any(|name| is(name)),
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_name_or_a_second_id_is_found_anywhere() {
        let item = |text: &str| format!(r#"{{"item_id":"a","item_data":{{"text":"{text}"}}}}"#);
        for plain in ["item_ids", "the item_id", "crc:", "queue_births", r#"\\"x\\""#] {
            assert!(has_only_own_names(item(plain).as_bytes()), "{plain}");
        }
        assert!(!has_only_own_names(item("crc").as_bytes()));
        assert!(!has_only_own_names(item("item_id").as_bytes()));
        for name in RESERVED {
            let more = item(&format!(r#"x","{name}":"1"#));
            assert!(!has_only_own_names(more.as_bytes()), "{name}");
        }
        assert!(!has_only_own_names(item(r#"x","item_id":"b"#).as_bytes()));
    }
}
