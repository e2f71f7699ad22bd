//! A dead-letter file with arbitrary bytes: reading it, and every kind of write to it.

use std::collections::BTreeMap;
use std::time::Duration;

use prodigy_storage_backend::{
    Change, Claim, Durability, ErrorKind, ItemId, PutReport, QueueEntry, QueueItem, QueueStep, QueueStore,
    Select, Settled, Settlement, StorageError,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::Entry;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::oracle;
use crate::place::{NEVER, Place, job};
use crate::shape::resealed;

const NEW: &str = "\u{1}new";

/// Input: a byte of choices, then the file.
pub fn items(bytes: &[u8]) {
    let Some((&choices, rest)) = bytes.split_first() else {
        return;
    };
    let bytes = if choices & 1 == 1 {
        resealed(rest)
    } else {
        rest.to_vec()
    };
    let path = Entry::Queue(job()).path();
    let place = Place::new([(path.clone(), bytes.as_slice(), 0o600)]);

    let hash = place.hash();
    let before = Items::of(&place);
    before.are_in(&bytes);
    assert_eq!(hash, place.hash(), "reading changes nothing");
    let ids = before.ids();
    for id in ids.keys() {
        let found = place
            .reader()
            .queue_get(&place.job, &ItemId::new(id.as_str()).unwrap(), NEVER)
            .unwrap();
        assert_eq!(
            found.unwrap().id.as_str(),
            id,
            "what a scan gives is found by its id"
        );
    }

    let writer = place.open(place.options());
    let new = item(NEW, "{\"a\":1}");
    let report = match writer.queue_put(&place.job, &[new], Durability::Strict, None, NEVER) {
        Ok(report) => report,
        Err(error) => return refused(&place, &bytes, &error),
    };
    assert_eq!(report, PutReport::new(1, 0, 0));
    let pushed = Items::of(&place);
    assert_eq!(
        pushed.without(NEW).ids(),
        ids,
        "a push costs nothing that was readable"
    );
    assert_eq!(
        pushed
            .entries
            .iter()
            .filter(|entry| entry.id.as_str() == NEW)
            .count(),
        1
    );
    match choices >> 1 & 3 {
        0 => taking(&place, &writer, &pushed),
        1 => removing(&place, &writer, &pushed),
        2 => merging(&place, &writer, &pushed),
        _ => {}
    }
    drop(writer);
    let json = place.read(&path).unwrap();
    if Items::of(&place).damage == 0 && Items::of(&place).kept == 0 {
        let list = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&json);
        assert!(
            list.is_ok(),
            "it is a list again: {:?}",
            String::from_utf8_lossy(&json)
        );
    }
}

/// Only a file of another program is refused, and the refusal changes nothing.
fn refused(place: &Place, bytes: &[u8], error: &StorageError) {
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert!(
        !bytes.is_empty() && !bytes.windows(8).any(|part| part == b",\"crc\":\""),
        "a file with a checksum of ours is ours"
    );
    let may_be_torn = bytes.contains(&0) || !bytes.get(4..).is_some_and(|rest| rest.contains(&b'\n'));
    assert!(
        !(bytes.starts_with(b"[\n{\"item_id\":\"") && may_be_torn),
        "so is one that begins as ours do, with an item that is cut off"
    );
    let now = place.read(&Entry::Queue(job()).path()).unwrap();
    assert_eq!(now.as_slice(), bytes, "another program's file stays as it is");
    assert!(place.quarantined().is_empty(), "and nothing of it is moved");
}

fn item(id: &str, data: &str) -> QueueItem {
    let id = ItemId::new(id).unwrap();
    let body = format!(
        "{{\"item_id\":{},\"item_data\":{data}}}",
        Value::from(id.as_str())
    );
    QueueItem {
        id,
        body: RawValue::from_string(body).unwrap(),
    }
}

fn taking(place: &Place, writer: &FileBackend, before: &Items) {
    let hour = Duration::from_secs(3600);
    let all = Select::any();
    let mut taken = writer
        .queue_take(&place.job, &all, usize::MAX, hour, None, NEVER)
        .unwrap();
    // An item of another program whose facts can't be read is taken only by its id.
    let rest = before.entries.iter().map(|entry| entry.id.clone());
    let rest = Select::ids(rest);
    taken.extend(
        writer
            .queue_take(&place.job, &rest, usize::MAX, hour, None, NEVER)
            .unwrap(),
    );
    assert!(taken.iter().any(|entry| entry.id.as_str() == NEW));
    let again = writer
        .queue_take(&place.job, &all, usize::MAX, hour, None, NEVER)
        .unwrap();
    assert!(again.is_empty(), "what is taken is not taken twice: {again:?}");
    assert_eq!(Items::of(place).ids(), before.ids(), "a taken item stays stored");
    let tokens: Vec<_> = taken
        .iter()
        .map(|entry| entry.lease.as_ref().unwrap().token.clone())
        .collect();
    let (back, gone) = tokens.split_at(tokens.len() / 2);
    let delay = Duration::ZERO;
    let back = back.iter().map(|token| (token, Change::Release { delay }));
    let each: Vec<Settlement> = back
        .chain(gone.iter().map(|token| (token, Change::Remove)))
        .map(|(token, change)| Settlement::new(Claim::from(token), change))
        .collect();
    let settled = writer.queue_settle(&place.job, &each, None, NEVER).unwrap();
    assert_eq!(settled, vec![Settled::Done; each.len()]);
    let mut left = before.ids();
    for entry in &taken[tokens.len() / 2..] {
        let count = left.get_mut(entry.id.as_str()).unwrap();
        *count -= 1;
    }
    left.retain(|_, count| *count > 0);
    assert_eq!(Items::of(place).ids(), left, "only what was acknowledged is gone");
}

fn removing(place: &Place, writer: &FileBackend, before: &Items) {
    let Some(first) = before.entries.first().map(|entry| entry.id.clone()) else {
        return;
    };
    let removal = Settlement::new(Claim::from(&first), Change::Remove);
    let settled = writer.queue_settle(&place.job, &[removal], None, NEVER).unwrap();
    assert_eq!(settled, [Settled::Done]);
    let after = Items::of(place);
    assert_eq!(
        after.ids(),
        before.without(first.as_str()).ids(),
        "only what was named is gone"
    );
    assert_eq!(after.damage, 0, "a rewrite moves damage away");
    assert!(
        before.damage == 0 || !place.quarantined().is_empty(),
        "to where it can be looked at"
    );
}

fn merging(place: &Place, writer: &FileBackend, before: &Items) {
    let Some(first) = before.entries.first().map(|entry| entry.id.clone()) else {
        return;
    };
    // Nothing can be merged into some items of other programs; then nothing changes.
    let hash = place.hash();
    match writer.queue_put(
        &place.job,
        &[item(first.as_str(), "2")],
        Durability::Strict,
        None,
        NEVER,
    ) {
        Ok(report) => assert_eq!(report, PutReport::new(0, 1, 0)),
        Err(_) => assert_eq!(hash, place.hash()),
    }
    let after = Items::of(place);
    assert_eq!(after.ids(), before.ids(), "each id as often as before");
}

/// The items and the damage that a scan returned.
#[derive(Debug)]
struct Items {
    entries: Vec<QueueEntry>,
    damage: u64,
    kept: usize,
    told: Vec<(u64, u64)>,
}

impl Items {
    fn of(place: &Place) -> Self {
        let bytes = place.read(&Entry::Queue(job()).path()).unwrap_or_default();
        let mut items = Self {
            entries: Vec::new(),
            damage: 0,
            kept: 0,
            told: Vec::new(),
        };
        for step in place.reader().queue_scan(&job(), &Select::any(), NEVER).unwrap() {
            match step.unwrap() {
                QueueStep::Entry(entry) => items.entries.push(entry),
                QueueStep::TooLarge(item) => panic!("no input is as large as the limit: {item}"),
                QueueStep::Damage(damage) => {
                    // Damage of the frame around items loses no data: a write restores it. Text that is not JSON but
                    // has a valid checksum was made by hand; a write keeps it.
                    let end = damage.offset + damage.len;
                    let text = &bytes[usize::try_from(damage.offset).unwrap()..usize::try_from(end).unwrap()];
                    if oracle::is_sealed(text) {
                        items.kept += 1;
                    } else if !damage.why.contains("frame") {
                        items.damage += damage.len;
                    }
                    items.told.push((damage.offset, damage.len));
                }
            }
        }
        items
    }

    /// The number of occurrences of each id.
    fn ids(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for entry in &self.entries {
            *ids.entry(entry.id.as_str().to_owned()).or_default() += 1;
        }
        ids
    }

    fn without(&self, id: &str) -> Self {
        let entries = self.entries.iter().filter(|entry| entry.id.as_str() != id);
        Self {
            entries: entries.cloned().collect(),
            damage: self.damage,
            kept: self.kept,
            told: self.told.clone(),
        }
    }

    /// Checks that every returned item is in the file.
    fn are_in(&self, bytes: &[u8]) {
        for entry in &self.entries {
            let fields: Value = serde_json::from_str(entry.body.get()).unwrap_or_default();
            // A body with a valid checksum may have two ids; the first one is used, which the parsed value does not
            // show.
            let twice = entry.body.get().matches("\"item_id\"").count() > 1;
            if let Some(id) = fields.get("item_id").filter(|_| !twice) {
                assert_eq!(id, entry.id.as_str(), "the body says the same id");
            }
        }
        let sealed = (0..bytes.len())
            .filter(|&at| bytes[at..].starts_with(b"{"))
            .flat_map(|at| (at..bytes.len()).map(move |end| (at, end)))
            .filter(|&(_, end)| bytes[..=end].ends_with(b"\"}"))
            .take(1 << 14)
            .filter(|&(at, end)| oracle::is_sealed(&bytes[at..=end]))
            .count();
        let verified = self.entries.iter().filter(|entry| entry.verified).count();
        assert!(
            verified <= sealed || bytes.len() > 1 << 10,
            "{verified} verified of {sealed} with a checksum"
        );
        for (offset, len) in &self.told {
            // Items that are missing at the end are reported there, with a length of 0.
            assert!(
                (*len > 0 || *offset == bytes.len() as u64) && offset + len <= bytes.len() as u64,
                "damage is within the file"
            );
        }
    }
}
