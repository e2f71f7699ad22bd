//! Promises of the pages of a listing.

use std::cell::Cell;
use std::fmt::Debug;

use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, append, job, lock_name, repo, soon};
use crate::body::Body;
use crate::document::{DocumentEntry, PutOptions};
use crate::lock::{LockInfo, LockOptions};
use crate::page::{Entries, Page, PageOptions};

topic! { "page":
    pages_of_names_join "the pages of repositories and of jobs make up the whole listing, whatever their limit: each name once, in order",
    pages_of_documents_join "the pages of documents make up the whole listing, over all phases",
    pages_of_locks_join "the pages of locks make up the whole listing",
    a_page_begins_behind_its_key "a page begins behind its key, whether or not an entry has that key",
    entries_may_come_and_go "entries that are added or removed between two pages neither hide nor repeat another entry",
}

const NAMES: [&str; 7] = ["a", "ab", "b", "c", "d", "e", "f"];

/// Reads a listing with pages of several sizes, and compares each result with the expected entries.
fn in_pages<T, K>(
    wanted: &[K],
    key: impl Fn(&T) -> K,
    read: impl Fn(&PageOptions<K>) -> crate::Result<Page<T, K>>,
) -> Check
where
    K: Clone + Debug + PartialEq,
{
    for limit in [0, 1, 2, wanted.len(), 100] {
        let (pages, largest) = (Cell::new(0), Cell::new(0));
        let entries = Entries::new(|page: &PageOptions<K>| {
            let page = read(page)?;
            pages.set(pages.get() + 1);
            largest.set(largest.get().max(page.entries.len()));
            Ok(page)
        });
        let listed: Vec<K> = entries
            .limit(limit)
            .map(|entry| entry.map(|entry| key(&entry)))
            .collect::<crate::Result<_>>()?;
        ensure_eq!(listed, wanted, "entries in pages of {limit}");
        let limit = limit.max(1);
        ensure!(
            largest.get() <= limit,
            "a page of {limit} holds {} entries",
            largest.get()
        );
        ensure_eq!(pages.get(), wanted.len().div_ceil(limit), "pages of {limit}");
    }
    Ok(())
}

fn job_ids() -> Result<Vec<JobId>, Failure> {
    Ok(NAMES.iter().map(JobId::new).collect::<Result<_, _>>()?)
}

fn pages_of_names_join(harness: &dyn Harness) -> Check {
    let (backend, shop) = (harness.open(), repo("shop")?);
    for id in job_ids()? {
        append(&*backend, &JobAddress::new(shop.clone(), id.clone()), &["1"])?;
        append(&*backend, &JobAddress::new(repo(id.as_str())?, id), &["1"])?;
    }
    in_pages(&job_ids()?, JobId::clone, |page| {
        backend.jobs(&shop, page, soon())
    })?;
    let repositories: Vec<RepoName> = NAMES
        .iter()
        .copied()
        .chain(["shop"])
        .map(RepoName::new)
        .collect::<Result<_, _>>()?;
    in_pages(&repositories, RepoName::clone, |page| {
        backend.repositories(page, soon())
    })
}

fn pages_of_documents_join(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut wanted = Vec::new();
    for phase in [
        Phase::Setup,
        Phase::Map,
        Phase::Reduce,
        Phase::Map,
        Phase::Map,
        Phase::Reduce,
    ] {
        let added = backend.add(&job, phase, Body::EMPTY, &PutOptions::default(), soon())?;
        wanted.push(added.document);
    }
    let address = |entry: &DocumentEntry| entry.document.clone();
    let scope = DocumentScope::Job(job.clone());
    in_pages(&wanted, address, |page| backend.list(&scope, page, soon()))?;
    for phase in Phase::ALL {
        let of_phase = |document: &&Document| document.phase() == Some(phase);
        let wanted: Vec<_> = wanted.iter().filter(of_phase).cloned().collect();
        let scope = DocumentScope::Checkpoints(job.clone(), phase);
        in_pages(&wanted, address, |page| backend.list(&scope, page, soon()))?;
    }
    let mut wanted = Vec::new();
    for id in job_ids()? {
        let document = Document::Orphans(JobAddress::new(repo("shop")?, id));
        backend.put(&document, Body::EMPTY, &PutOptions::default(), soon())?;
        wanted.push(document);
    }
    let scope = DocumentScope::Orphans(repo("shop")?);
    in_pages(&wanted, address, |page| backend.list(&scope, page, soon()))
}

fn pages_of_locks_join(harness: &dyn Harness) -> Check {
    if !harness.named_locks() {
        return Ok(());
    }
    let backend = harness.open();
    let mut wanted: Vec<LockName> = ["b", "a/b", "a", "a/b/c", "c/d"]
        .into_iter()
        .map(lock_name)
        .collect::<Result<_, _>>()?;
    for name in &wanted {
        backend.lock(name, &LockOptions::default(), soon())?.release()?;
    }
    wanted.sort();
    in_pages(
        &wanted,
        |lock: &LockInfo| lock.name.clone(),
        |page| backend.locks(page, soon()),
    )
}

fn a_page_begins_behind_its_key(harness: &dyn Harness) -> Check {
    let (backend, shop) = (harness.open(), repo("shop")?);
    for id in ["b", "d"] {
        append(&*backend, &job(id)?, &["1"])?;
    }
    for (after, wanted) in [("a", 2), ("b", 1), ("c", 1), ("d", 0), ("e", 0)] {
        let page = backend.jobs(&shop, &PageOptions::after(JobId::new(after)?), soon())?;
        ensure_eq!(page.entries.len(), wanted, "jobs behind {after}");
        ensure_eq!(page.next, None, "the key behind the last page");
    }
    Ok(())
}

fn entries_may_come_and_go(harness: &dyn Harness) -> Check {
    let (backend, shop) = (harness.open(), repo("shop")?);
    let orphans = |name: &str| Ok::<_, Failure>(Document::Orphans(job(name)?));
    for name in ["b", "d", "f"] {
        backend.put(&orphans(name)?, Body::EMPTY, &PutOptions::default(), soon())?;
    }
    let first = backend.jobs(&shop, &PageOptions::default().limit(2), soon())?;
    ensure_eq!(
        first.entries,
        [JobId::new("b")?, JobId::new("d")?],
        "the first page"
    );
    for name in ["a", "c", "e"] {
        backend.put(&orphans(name)?, Body::EMPTY, &PutOptions::default(), soon())?;
    }
    // Even the document after whose key the next page begins is deleted.
    let durability = crate::log::Durability::Strict;
    backend.delete(
        &orphans("d")?,
        crate::document::Expected::Any,
        durability,
        None,
        soon(),
    )?;
    let mut next = PageOptions::default();
    next.after = first.next;
    let second = backend.jobs(&shop, &next, soon())?;
    ensure_eq!(
        second.entries,
        [JobId::new("e")?, JobId::new("f")?],
        "the second page"
    );
    Ok(())
}
