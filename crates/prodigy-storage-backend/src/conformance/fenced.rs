//! Promises of fencing tokens, over every kind of write.

use std::time::Duration;

use prodigy_storage_layout::{Document, Phase};
use serde::de::IgnoredAny;

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, item, job, keys, object, refused, soon};
use crate::backend::Backend;
use crate::batch::Batch;
use crate::clock::Clock;
use crate::document::{Expected, PutOptions};
use crate::error::{ErrorKind, Result as StorageResult};
use crate::fence::Fence;
use crate::log::{AppendOptions, Appended, Durability, ScanItem, ScanOptions};
use crate::page::PageOptions;
use crate::queue::{Change, Claim, Select, Settlement};

topic! { "fence":
    every_write_is_fenced "an append, a push, a take, a settlement, a put, an addition, a deletion and a rise of the mark under an overtaken token are refused, and change nothing",
    every_write_raises_the_mark "each kind of write raises the mark of its lock for all other kinds",
    a_write_without_a_token_is_accepted "each kind of write is accepted without a token, and does not change the mark",
    tokens_of_two_locks_are_not_compared "a write under the token of one lock does not overtake the token of another lock",
    marks_belong_to_one_job "a write to another job overtakes no token",
    a_mark_alone_is_no_job "a raised mark refuses older tokens in a job of which nothing is stored, and the job is not listed",
    an_event_carries_its_token "an event is read with the token under which it was appended, or without a token",
    an_event_is_stored_once_under_two_tokens "an event that is appended again under a newer token is stored once, with the first token",
}

const STRICT: Durability = Durability::Strict;

fn fence(text: &str) -> Result<Fence, Failure> {
    Ok(text.parse()?)
}

fn append(backend: &dyn Backend, name: &str, text: &str, fence: Option<&Fence>) -> StorageResult<Appended> {
    let mut batch = Batch::new();
    batch.push(text)?;
    batch.set_fence(fence);
    let job =
        job(name).map_err(|_| crate::StorageError::invalid("make job", name, "it is not a valid name"))?;
    backend.append(&job, &mut batch, &AppendOptions::default(), soon())
}

/// The payloads of a log's events, each with the fencing token of its event.
fn events(backend: &dyn Backend, name: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut found = Vec::new();
    let mut scan = backend.scan(&job(name)?, &ScanOptions::all(), soon())?;
    while let Some(item) = scan.next()? {
        let ScanItem::Record(record) = item else {
            return Err(Failure::new("damage in a whole log"));
        };
        let parsed = record.parse_event::<String>()?;
        found.push((parsed.event, parsed.fence.map(|fence| fence.to_string())));
    }
    Ok(found)
}

/// The kinds of writes that may carry a fencing token.
#[derive(Clone, Copy, Debug)]
enum Write {
    Append,
    Push,
    Take,
    Settle,
    Put,
    Add,
    Delete,
    Raise,
}

const WRITES: [Write; 8] = [
    Write::Append,
    Write::Push,
    Write::Take,
    Write::Settle,
    Write::Put,
    Write::Add,
    Write::Delete,
    Write::Raise,
];

/// Makes a write of this kind to a job.
fn write(
    harness: &dyn Harness,
    name: &str,
    kind: Write,
    fence: Option<&Fence>,
) -> Result<StorageResult<()>, Failure> {
    harness.clock().advance(Duration::from_secs(1));
    let (backend, job) = (harness.open(), job(name)?);
    let minute = Duration::from_secs(60);
    Ok(match kind {
        Write::Append => append(&*backend, name, "x", fence).map(drop),
        Write::Push => {
            let items = [item("pushed", "2", harness.clock().now())?];
            backend.queue_put(&job, &items, STRICT, fence, soon()).map(drop)
        }
        Write::Take => backend
            .queue_take(&job, &Select::any(), 1, minute, fence, soon())
            .map(drop),
        Write::Settle => {
            let claim = Claim::Item(crate::queue::ItemId::new("kept")?);
            let settlements = [Settlement::new(claim, Change::Park { reason: None })];
            backend.queue_settle(&job, &settlements, fence, soon()).map(drop)
        }
        Write::Put => {
            let options = PutOptions::default().fencing(fence.cloned());
            let document = Document::Finished(job);
            backend.put(&document, object("{}")?, &options, soon()).map(drop)
        }
        Write::Add => {
            let options = PutOptions::default().fencing(fence.cloned());
            backend
                .add(&job, Phase::Map, object("{}")?, &options, soon())
                .map(drop)
        }
        Write::Delete => backend
            .delete(&Document::Orphans(job), Expected::Any, STRICT, fence, soon())
            .map(drop),
        Write::Raise => match fence {
            Some(fence) => backend.raise_mark(&job, fence, soon()),
            None => Ok(()),
        },
    })
}

/// Creates a job with an item and a document for each kind of write.
fn prepare(harness: &dyn Harness, name: &str) -> Check {
    let (backend, job) = (harness.open(), job(name)?);
    let items = ["kept", "other"].map(|name| item(name, "1", harness.clock().now()));
    let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
    backend.queue_put(&job, &items, STRICT, None, soon())?;
    backend.put(
        &Document::Orphans(job),
        object("{}")?,
        &PutOptions::default(),
        soon(),
    )?;
    Ok(())
}

fn a_mark_alone_is_no_job(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    backend.raise_mark(&job, &fence("shop/a=5")?, soon())?;
    let jobs = backend.jobs(&job.repo, &PageOptions::default(), soon())?;
    ensure!(jobs.entries.is_empty(), "{:?} are listed", jobs.entries);
    backend.raise_mark(&job, &fence("shop/a=5")?, soon())?;
    let old = append(&*harness.open(), "a", "x", Some(&fence("shop/a=4")?));
    refused(old, ErrorKind::Fenced, "an append under an older token")?;
    refused(
        backend.raise_mark(&job, &fence("shop/a=4")?, soon()),
        ErrorKind::Fenced,
        "a rise to an older token",
    )?;
    Ok(())
}

fn every_write_is_fenced(harness: &dyn Harness) -> Check {
    let (old, new) = (fence("shop/a=4")?, fence("shop/a=5")?);
    for kind in WRITES {
        let name = format!("{kind:?}");
        prepare(harness, &name)?;
        append(&*harness.open(), &name, "first", Some(&new))?;
        refused(
            write(harness, &name, kind, Some(&old))?,
            ErrorKind::Fenced,
            &format!("{kind:?} under an older token"),
        )?;
        let (backend, address) = (harness.open(), job(&name)?);
        ensure_eq!(
            events(&*backend, &name)?,
            [("first".to_owned(), Some(new.to_string()))],
            "events after {kind:?} was refused"
        );
        ensure_eq!(
            keys(&*backend, &address)?,
            ["kept", "other"],
            "items after {kind:?}"
        );
        let summary = backend.queue_summary(&address, soon())?;
        ensure_eq!(
            (summary.pending, summary.parked),
            (2, 0),
            "states of the items after {kind:?}"
        );
        ensure_eq!(
            backend.get(&Document::Finished(address.clone()), soon())?,
            None,
            "the document of a refused put"
        );
        ensure_eq!(
            backend.newest(&address, Phase::Map, None, soon())?,
            None,
            "the checkpoint of a refused addition"
        );
        ensure!(
            backend.get(&Document::Orphans(address), soon())?.is_some(),
            "a refused deletion deleted"
        );
    }
    Ok(())
}

fn every_write_raises_the_mark(harness: &dyn Harness) -> Check {
    for kind in WRITES {
        let name = format!("{kind:?}");
        prepare(harness, &name)?;
        write(harness, &name, kind, Some(&fence("shop/a=4")?))??;
        write(harness, &name, kind, Some(&fence("shop/a=4")?))??;
        write(harness, &name, kind, Some(&fence("shop/a=6")?))??;
        for other in WRITES {
            refused(
                write(harness, &name, other, Some(&fence("shop/a=5")?))?,
                ErrorKind::Fenced,
                &format!("{other:?} under a token older than that of {kind:?}"),
            )?;
        }
    }
    Ok(())
}

fn a_write_without_a_token_is_accepted(harness: &dyn Harness) -> Check {
    prepare(harness, "a")?;
    append(&*harness.open(), "a", "first", Some(&fence("shop/a=5")?))?;
    for kind in WRITES {
        write(harness, "a", kind, None)??;
        refused(
            write(harness, "a", kind, Some(&fence("shop/a=4")?))?,
            ErrorKind::Fenced,
            &format!("{kind:?} under an older token, after a write without a token"),
        )?;
        write(harness, "a", kind, Some(&fence("shop/a=5")?))??;
    }
    Ok(())
}

fn tokens_of_two_locks_are_not_compared(harness: &dyn Harness) -> Check {
    prepare(harness, "a")?;
    append(&*harness.open(), "a", "first", Some(&fence("shop/a=9")?))?;
    for kind in WRITES {
        write(harness, "a", kind, Some(&fence("shop/b=3")?))??;
        write(harness, "a", kind, Some(&fence("4")?))??;
    }
    Ok(())
}

fn marks_belong_to_one_job(harness: &dyn Harness) -> Check {
    for name in ["a", "b"] {
        prepare(harness, name)?;
    }
    append(&*harness.open(), "a", "first", Some(&fence("shop/a=9")?))?;
    for kind in WRITES {
        write(harness, "b", kind, Some(&fence("shop/a=3")?))??;
    }
    Ok(())
}

fn an_event_carries_its_token(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    // The name of a lock may contain a quotation mark.
    let tokens = [
        None,
        Some("shop/\"a\"=5"),
        Some("shop/b=7@0123456789abcdef"),
        None,
    ];
    for (number, token) in tokens.iter().enumerate() {
        let fence = token.map(fence).transpose()?;
        // A backend that gives its tokens an origin refuses a token with the origin of another store.
        let origin = fence.as_ref().and_then(Fence::origin);
        match append(&*backend, "a", &number.to_string(), fence.as_ref()) {
            Err(error) if origin.is_some() && error.kind() == ErrorKind::Fenced => {}
            other => drop(other?),
        }
    }
    for (text, token) in events(&*harness.open(), "a")? {
        let number: usize = text.parse()?;
        let wanted = tokens.get(number).copied().flatten();
        ensure_eq!(token.as_deref(), wanted, "token of event {number}");
    }
    let mut scan = backend.scan(&job("a")?, &ScanOptions::all(), soon())?;
    while let Some(item) = scan.next()? {
        if let ScanItem::Record(record) = item {
            ensure!(record.verified, "an event with a token is unverified");
            record.parse_event::<IgnoredAny>()?;
        }
    }
    Ok(())
}

fn an_event_is_stored_once_under_two_tokens(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut batch = Batch::new();
    batch.push("once")?;
    for token in ["shop/a=4", "shop/a=5"] {
        batch.set_fence(Some(&fence(token)?));
        backend.append(&job, &mut batch, &AppendOptions::default(), soon())?;
    }
    ensure_eq!(
        events(&*backend, "a")?,
        [("once".to_owned(), Some("shop/a=4".to_owned()))],
        "events"
    );
    Ok(())
}
