//! Promises of what outlives the process.

use std::time::Duration;

use prodigy_storage_layout::{Document, DocumentScope, Phase};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, MINUTE, acknowledge, append, append_given, entry, given, item, item_id, job, keys, list,
    lock_name, moment, names, object, payloads, read, read_from, read_some, refused, settle, settle_item,
    soon, take, tokens,
};
use crate::clock::Clock;
use crate::document::PutOptions;
use crate::error::ErrorKind;
use crate::lock::LockOptions;
use crate::log::{Durability, ScanOptions};
use crate::queue::{Change, Claim, Select, Settled};

topic! { "restart":
    events_outlive_the_process (Restart) "events and their ids are kept over a restart, and later ids ascend",
    ids_ascend_over_a_restart_with_an_older_clock (Restart) "ids ascend even if the clock is behind after a restart",
    given_ids_are_known_after_a_restart (Restart) "a repeated append is stored once, even over a restart",
    cursors_outlive_the_process (Restart) "a read from a cursor continues exactly after a restart",
    documents_outlive_the_process (Restart) "documents and their revisions are kept over a restart, and later stamps ascend",
    leases_outlive_the_process (Restart) "items and leases are kept over a restart, and tokens are still valid",
    places_outlive_the_process (Restart) "places, revisions and delays are kept over a restart, and the counter continues",
    fencing_marks_outlive_the_process (Restart) "a token that was overtaken before a restart is refused after it",
    fencing_outlives_the_process (Restart) "fencing tokens ascend over a restart, and no lock is held",
}

fn restart(harness: &dyn Harness) -> Check {
    ensure!(harness.restart(), "a harness that could restart no longer can");
    Ok(())
}

fn events_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let mut ids = append(&*harness.open(), &job, &["1", "2"])?;
    restart(harness)?;
    let backend = harness.open();
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2"], "events");
    ids.extend(append(&*backend, &job, &["3"])?);
    ensure!(ids.is_sorted_by(|a, b| a < b), "ids do not ascend: {ids:?}");
    let read: Vec<_> = read(&*backend, &job)?.into_iter().map(|event| event.0).collect();
    ensure_eq!(read, ids, "ids read");
    Ok(())
}

fn ids_ascend_over_a_restart_with_an_older_clock(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let mut ids = vec![given(9000)];
    append_given(&*harness.open(), &job, &[(given(9000), "1")])?;
    ids.extend(append(&*harness.open(), &job, &["2"])?);
    restart(harness)?;
    harness.clock().set(moment(-86_400_000));
    ids.extend(append(&*harness.open(), &job, &["3", "4"])?);
    ensure!(ids.is_sorted_by(|a, b| a < b), "ids do not ascend: {ids:?}");
    let events = read(&*harness.open(), &job)?;
    ensure_eq!(payloads(&events), ["1", "2", "3", "4"], "order read");
    let read: Vec<_> = events.into_iter().map(|event| event.0).collect();
    ensure_eq!(read, ids, "ids read");
    Ok(())
}

fn given_ids_are_known_after_a_restart(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let events = [(given(1), "1"), (given(2), "2"), (given(3), "3")];
    append_given(&*harness.open(), &job, &events)?;
    restart(harness)?;
    let again = append_given(&*harness.open(), &job, &events)?;
    ensure_eq!(
        (again.stored, again.duplicates),
        (0, 3),
        "the result of the repeated append"
    );
    ensure_eq!(read(&*harness.open(), &job)?.len(), 3, "events");
    Ok(())
}

fn cursors_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    append_given(
        &*harness.open(),
        &job,
        &[(given(10), "10"), (given(20), "20"), (given(30), "30")],
    )?;
    let (_, middle) = read_some(&*harness.open(), &job, &ScanOptions::all(), 2)?;
    restart(harness)?;
    append_given(&*harness.open(), &job, &[(given(15), "15"), (given(40), "40")])?;
    let (events, end) = read_from(&*harness.open(), &job, Some(middle))?;
    ensure_eq!(payloads(&events), ["15", "30", "40"], "events after the cursor");
    restart(harness)?;
    ensure_eq!(
        read_from(&*harness.open(), &job, Some(end))?.0.len(),
        0,
        "events after the end"
    );
    Ok(())
}

fn documents_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let any = PutOptions::default();
    let document = Document::Orphans(job.clone());
    let revision = harness
        .open()
        .put(&document, object("{\"n\":1}")?, &any, soon())?;
    let first = harness
        .open()
        .add(&job, Phase::Map, object("{\"n\":2}")?, &any, soon())?;
    restart(harness)?;
    let backend = harness.open();
    let got = backend
        .get(&document, soon())?
        .ok_or_else(|| Failure::new("the document does not exist"))?;
    ensure_eq!(
        (got.body(), got.revision()),
        (&b"{\"n\":1}"[..], revision),
        "the document"
    );
    harness.clock().set(moment(-1000));
    let second = backend.add(&job, Phase::Map, object("{\"n\":3}")?, &any, soon())?;
    let scope = DocumentScope::Checkpoints(job, Phase::Map);
    let listed: Vec<_> = list(&*backend, &scope)?
        .into_iter()
        .map(|entry| entry.document)
        .collect();
    ensure_eq!(listed, [first.document, second.document], "the series");
    Ok(())
}

fn leases_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let now = harness.clock().now();
    let items = [item("a", "1", now)?, item("b", "2", now)?, item("c", "3", now)?];
    harness
        .open()
        .queue_put(&job, &items, Durability::Strict, None, soon())?;
    let tokens = tokens(&take(&*harness.open(), &job, 2)?);
    restart(harness)?;
    let backend = harness.open();
    ensure_eq!(keys(&*backend, &job)?, ["a", "b", "c"], "items");
    ensure_eq!(names(&take(&*backend, &job, 5)?), ["c"], "items pending");
    let first: Vec<_> = tokens.first().cloned().into_iter().collect();
    ensure_eq!(
        acknowledge(&*backend, &job, &first)?,
        [Settled::Done],
        "the outcome for the first token"
    );
    harness.clock().advance(2 * MINUTE);
    ensure_eq!(
        names(&take(&*backend, &job, 5)?),
        ["b", "c"],
        "items pending after the leases' end"
    );
    Ok(())
}

fn places_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let put = |name: &str, data: &str| {
        let item = item(name, data, harness.clock().now())?;
        Ok::<_, Failure>(
            harness
                .open()
                .queue_put(&job, &[item], Durability::Strict, None, soon())?,
        )
    };
    for name in ["a", "b", "c", "d"] {
        put(name, "1")?;
    }
    // Item a gets the last place, b a delay, and c other contents.
    let release = |delay| Change::Release { delay };
    settle_item(&*harness.open(), &job, "a", release(Duration::ZERO))?;
    settle_item(&*harness.open(), &job, "b", release(2 * MINUTE))?;
    let stale = entry(&*harness.open(), &job, "c")?.revision;
    put("c", "2")?;
    let before = harness.open().queue_summary(&job, soon())?;
    let entries = |backend: &dyn crate::backend::Backend| {
        let all = ["a", "b", "c", "d"].into_iter().map(|name| {
            let entry = entry(backend, &job, name)?;
            Ok((entry.place, entry.revision, entry.delay))
        });
        all.collect::<Result<Vec<_>, Failure>>()
    };
    let stored = entries(&*harness.open())?;
    restart(harness)?;
    let backend = harness.open();
    ensure_eq!(entries(&*backend)?, stored, "places, revisions and delays");
    let after = backend.queue_summary(&job, soon())?;
    ensure!(
        after.mark >= before.mark,
        "the counter decreased: {after:?} after {before:?}"
    );
    let claim = Claim::Revision(item_id("c")?, stale);
    ensure_eq!(
        settle(&*backend, &job, claim, Change::Remove)?,
        Settled::Changed,
        "a revision from before the restart"
    );
    ensure_eq!(
        names(&take(&*backend, &job, 9)?),
        ["c", "d", "a"],
        "items by place"
    );
    put("e", "1")?;
    ensure!(
        entry(&*backend, &job, "e")?.place > after.mark,
        "a new item has an old number"
    );
    let bounded = Select::eligible().until(after.mark);
    ensure_eq!(
        backend.queue_take(&job, &bounded, 9, MINUTE, None, soon())?.len(),
        0,
        "items of a run that the old counter bounds"
    );
    Ok(())
}

fn fencing_outlives_the_process(harness: &dyn Harness) -> Check {
    if !harness.named_locks() {
        return Ok(());
    }
    let name = lock_name("shop/resume")?;
    let first = {
        let backend = harness.open();
        let guard = backend.lock(&name, &LockOptions::default(), soon())?;
        guard.fencing()
    };
    restart(harness)?;
    let guard = harness.open().lock(&name, &LockOptions::default(), soon())?;
    ensure!(guard.fencing() > first, "token {} after {first}", guard.fencing());
    Ok(())
}

fn fencing_marks_outlive_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let under = |fence: &str| PutOptions::default().fencing(fence.parse().ok());
    let add = |options: &PutOptions| {
        harness.clock().advance(Duration::from_secs(1));
        harness
            .open()
            .add(&job, Phase::Map, object("{}")?, options, soon())
            .map_err(Failure::from)
    };
    add(&under("shop/resume=5"))?;
    add(&PutOptions::default())?;
    restart(harness)?;
    refused(
        harness
            .open()
            .add(&job, Phase::Map, object("{}")?, &under("shop/resume=4"), soon()),
        ErrorKind::Fenced,
        "an older token after a restart",
    )?;
    add(&under("shop/resume=5")).map(drop)
}
