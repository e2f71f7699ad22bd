//! Promises of documents of kinds that the caller defines.

use prodigy_storage_layout::{Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, Phase};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, job, jobs, list, object, refused, repo, repositories, soon};
use crate::backend::Backend;
use crate::document::{Expected, PutOptions};
use crate::error::ErrorKind;
use crate::log::Durability;

topic! { "own document":
    own_documents_are_kept_apart "documents of the caller's own are kept apart by owner, kind and name",
    own_documents_are_listed "they are listed by kind and name, for one kind or for all kinds, and never with checkpoints",
    an_own_document_is_deleted "a deleted document is absent and no longer listed, and the others are kept",
    an_own_document_is_compared_and_set "a put or a deletion under another revision is refused, and under the present revision it succeeds",
    an_own_document_of_a_job_is_fenced "a document of a job is fenced like every document of the job, and a document of a repository accepts no token",
    own_documents_make_their_owner_known "a repository or a job with no other data is listed",
}

fn of_job(name: &str) -> Result<DocumentOwner, Failure> {
    Ok(DocumentOwner::Job(job(name)?))
}

fn of_repo() -> Result<DocumentOwner, Failure> {
    Ok(DocumentOwner::Repo(repo("shop")?))
}

fn own(owner: &DocumentOwner, kind: &str, name: &str) -> Result<Document, Failure> {
    Ok(Document::Own(
        owner.clone(),
        DocumentKind::new(kind)?,
        DocumentName::new(name)?,
    ))
}

/// Documents of three owners, sorted as their listings are.
fn all() -> Result<Vec<Document>, Failure> {
    let mut all = Vec::new();
    for owner in [of_job("a")?, of_job("b")?, of_repo()?] {
        for kind in ["plans", "sessions"] {
            for name in ["a", "a.json", "b", "größe"] {
                all.push(own(&owner, kind, name)?);
            }
        }
    }
    Ok(all)
}

fn put(backend: &dyn Backend, document: &Document, body: &str) -> Check {
    backend.put(document, object(body)?, &PutOptions::default(), soon())?;
    Ok(())
}

fn put_all(backend: &dyn Backend) -> Result<Vec<Document>, Failure> {
    let all = all()?;
    for (number, document) in all.iter().enumerate() {
        put(backend, document, &format!("{{\"n\":{number}}}"))?;
    }
    Ok(all)
}

fn scope(owner: &DocumentOwner, kind: Option<&str>) -> Result<DocumentScope, Failure> {
    let kind = kind.map(DocumentKind::new).transpose()?;
    Ok(DocumentScope::Own(owner.clone(), kind))
}

fn own_documents_are_kept_apart(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let all = put_all(&*backend)?;
    for (number, document) in all.iter().enumerate() {
        let got = harness.open().get(document, soon())?;
        let body = got.map(|got| String::from_utf8_lossy(got.body()).into_owned());
        ensure_eq!(body, Some(format!("{{\"n\":{number}}}")), "{document:?}");
    }
    Ok(())
}

fn own_documents_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let all = put_all(&*backend)?;
    for phase in Phase::ALL {
        backend.add(&job("a")?, phase, object("{}")?, &PutOptions::default(), soon())?;
    }
    for owner in [of_job("a")?, of_job("b")?, of_repo()?] {
        for kind in [None, Some("plans"), Some("sessions"), Some("none")] {
            let scope = scope(&owner, kind)?;
            let listed = list(&*harness.open(), &scope)?;
            let listed: Vec<Document> = listed.into_iter().map(|entry| entry.document).collect();
            let wanted = all.iter().filter(|document| scope.contains(document));
            ensure_eq!(listed, wanted.cloned().collect::<Vec<_>>(), "{scope:?}");
        }
    }
    let checkpoints = list(&*backend, &DocumentScope::Job(job("a")?))?;
    ensure_eq!(checkpoints.len(), Phase::ALL.len(), "checkpoints of the job");
    Ok(())
}

fn an_own_document_is_deleted(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let all = put_all(&*backend)?;
    let (gone, kept): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|document| document.name().is_some_and(|name| name.as_str().starts_with('a')));
    for document in &gone {
        ensure!(
            backend.delete(document, Expected::Any, Durability::Strict, None, soon())?,
            "the document {document:?} did not exist"
        );
        ensure_eq!(backend.get(document, soon())?, None, "a deleted document");
    }
    let mut left = Vec::new();
    for owner in [of_job("a")?, of_job("b")?, of_repo()?] {
        left.extend(list(&*harness.open(), &scope(&owner, None)?)?);
    }
    let left: Vec<&Document> = left.iter().map(|entry| &entry.document).collect();
    ensure_eq!(left, kept, "remaining documents");
    Ok(())
}

fn an_own_document_is_compared_and_set(harness: &dyn Harness) -> Check {
    for owner in [of_job("a")?, of_repo()?] {
        let (one, two, document) = (harness.open(), harness.open(), own(&owner, "plans", "p")?);
        let under = |expected| PutOptions::default().expect(expected);
        let first = one.put(&document, object("{\"n\":1}")?, &under(Expected::Absent), soon())?;
        refused(
            two.put(&document, object("{\"n\":2}")?, &under(Expected::Absent), soon()),
            ErrorKind::Conflict,
            "a put that expects no document",
        )?;
        let second = two.put(
            &document,
            object("{\"n\":3}")?,
            &under(Expected::Revision(first)),
            soon(),
        )?;
        refused(
            one.put(
                &document,
                object("{\"n\":4}")?,
                &under(Expected::Revision(first)),
                soon(),
            ),
            ErrorKind::Conflict,
            "a put under an older revision",
        )?;
        refused(
            one.delete(
                &document,
                Expected::Revision(first),
                Durability::Strict,
                None,
                soon(),
            ),
            ErrorKind::Conflict,
            "a deletion under an older revision",
        )?;
        ensure_eq!(one.revision(&document, soon())?, Some(second), "revision");
        ensure!(
            one.delete(
                &document,
                Expected::Revision(second),
                Durability::Strict,
                None,
                soon()
            )?,
            "the deletion reported that the document did not exist"
        );
    }
    Ok(())
}

fn an_own_document_of_a_job_is_fenced(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let under = |fence: &str| PutOptions::default().fencing(fence.parse().ok());
    let (document, other) = (
        own(&of_job("a")?, "plans", "p")?,
        own(&of_job("a")?, "plans", "q")?,
    );
    backend.put(&document, object("{}")?, &under("shop/a=5"), soon())?;
    for refused_one in [&document, &other] {
        refused(
            backend.put(refused_one, object("{}")?, &under("shop/a=4"), soon()),
            ErrorKind::Fenced,
            "a put under an older token",
        )?;
    }
    refused(
        backend.add(&job("a")?, Phase::Map, object("{}")?, &under("shop/a=4"), soon()),
        ErrorKind::Fenced,
        "a checkpoint under an older token than a document's",
    )?;
    put(&*backend, &document, "{}")?;
    refused(
        backend.put(
            &own(&of_repo()?, "plans", "p")?,
            object("{}")?,
            &under("shop/a=6"),
            soon(),
        ),
        ErrorKind::InvalidInput,
        "a token with a document of a repository",
    )?;
    Ok(())
}

fn own_documents_make_their_owner_known(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let other = DocumentOwner::Repo(repo("mill")?);
    put(&*backend, &own(&other, "plans", "p")?, "{}")?;
    put(&*backend, &own(&of_job("a")?, "plans", "p")?, "{}")?;
    ensure_eq!(
        repositories(&*backend)?,
        [repo("mill")?, repo("shop")?],
        "repositories"
    );
    ensure_eq!(jobs(&*backend, &repo("shop")?)?, [job("a")?.job], "jobs");
    ensure_eq!(
        jobs(&*backend, &repo("mill")?)?,
        [],
        "jobs of a repository without jobs"
    );
    Ok(())
}
