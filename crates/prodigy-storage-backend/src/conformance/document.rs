//! Promises of documents.

use prodigy_storage_layout::{
    CheckpointKey, Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, Phase, Stamp,
};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, job, list, moment, object, refused, repo, repositories, soon};
use crate::backend::Backend;
use crate::body::Body;
use crate::document::{Expected, PutOptions, Revision};
use crate::error::ErrorKind;
use crate::log::Durability;

topic! { "document":
    a_document_is_got_as_it_was_put "a body is read byte for byte, verified, and with the revision of its put",
    an_absent_document_is_none "a document that does not exist is `None`, and reading it creates nothing",
    each_put_has_a_new_revision "each put has a new revision, even with the same body, and `revision` returns it",
    every_kind_of_document_is_kept "documents of each kind are kept apart",
    absent_is_expected_once "of two puts that expect no document, the second is a conflict, and the first is kept",
    a_revision_is_compared "a put under a revision succeeds only if that is the present one",
    one_of_many_writers_wins "of eight threads that replace one revision exactly one wins",
    a_deletion_is_conditional "a deletion succeeds only if its condition is met, and reports whether the document existed",
    a_series_ascends "additions to a series have ascending stamps, even within one instant and when the clock steps back",
    both_series_of_a_job_ascend "stamps of map and reduce ascend together when the clock steps back, and a stamp is never before `not_before`",
    an_addition_is_conditional "an addition succeeds only if the newest document of the series is the expected one",
    setup_is_replaced "the setup checkpoint has only one name, and an addition replaces it",
    phases_are_series_of_their_own "each phase of a job is a series of its own",
    a_phase_of_the_callers_own_is_a_series "a phase of the caller's own is a series of its own, whose stamps ascend together with those of the others",
    an_addition_is_found_by_its_key "an addition with a key is listed by it, whatever its phase, and ordered as any other",
    a_handle_sees_what_another_replaced "a document that another handle replaced or deleted is read again",
    a_large_body_is_whole "a body of 2 MiB is read whole",
    any_body_is_kept "every body is read byte for byte: nested 128 deep, with a name twice, with any number and escape",
}

pub(super) fn orphans(name: &str) -> Result<Document, Failure> {
    Ok(Document::Orphans(job(name)?))
}

pub(super) fn put(backend: &dyn Backend, document: &Document, body: &str) -> Result<Revision, Failure> {
    Ok(backend.put(document, object(body)?, &PutOptions::default(), soon())?)
}

pub(super) fn body(backend: &dyn Backend, document: &Document) -> Result<Option<String>, Failure> {
    let got = backend.get(document, soon())?;
    Ok(got.map(|got| String::from_utf8_lossy(got.body()).into_owned()))
}

fn a_document_is_got_as_it_was_put(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    for text in [r#"{"a": [1, 2.50, "é\n"],  "b":{} }"#, "{}", "{\n  \"a\": 1\n}"] {
        let revision = put(&*backend, &document, text)?;
        let got = harness.open().get(&document, soon())?;
        let got = got.ok_or_else(|| Failure::new("a document that was put does not exist"))?;
        ensure_eq!(String::from_utf8_lossy(got.body()), text, "body");
        ensure_eq!(got.revision(), revision, "revision");
        ensure!(got.is_verified(), "the document is not verified");
    }
    Ok(())
}

fn an_absent_document_is_none(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    ensure_eq!(body(&*backend, &document)?, None, "body");
    ensure_eq!(backend.revision(&document, soon())?, None, "revision");
    ensure!(
        !backend.delete(&document, Expected::Any, Durability::Strict, None, soon())?,
        "the deletion of an absent document reported that it existed"
    );
    ensure_eq!(repositories(&*backend)?.len(), 0, "repositories after that");
    Ok(())
}

fn each_put_has_a_new_revision(harness: &dyn Harness) -> Check {
    let (one, two, document) = (harness.open(), harness.open(), orphans("a")?);
    let first = put(&*one, &document, r#"{"a":1}"#)?;
    ensure_eq!(two.revision(&document, soon())?, Some(first), "revision told");
    let second = put(&*two, &document, r#"{"a":1}"#)?;
    ensure!(first != second, "two puts have one revision");
    ensure_eq!(
        one.revision(&document, soon())?,
        Some(second),
        "the result of `revision` after the second put"
    );
    Ok(())
}

fn every_kind_of_document_is_kept(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let job = job("a")?;
    let stamp = Stamp::from(moment(5));
    let (kind, name) = (DocumentKind::new("plans")?, DocumentName::new("p")?);
    let documents = [
        Document::Setup(job.clone()),
        Document::Map(job.clone(), stamp.clone()),
        Document::Reduce(job.clone(), stamp),
        Document::Orphans(job.clone()),
        Document::Finished(job.clone()),
        Document::Repository(repo("shop")?),
        Document::Own(DocumentOwner::Job(job.clone()), kind.clone(), name.clone()),
        Document::Own(DocumentOwner::Repo(job.repo), kind, name),
    ];
    for (n, document) in documents.iter().enumerate() {
        put(&*backend, document, &format!("{{\"n\":{n}}}"))?;
    }
    for (n, document) in documents.iter().enumerate() {
        ensure_eq!(
            body(&*backend, document)?,
            Some(format!("{{\"n\":{n}}}")),
            "{document:?}"
        );
    }
    Ok(())
}

fn absent_is_expected_once(harness: &dyn Harness) -> Check {
    let (one, two, document) = (harness.open(), harness.open(), orphans("a")?);
    let absent = PutOptions::default().expect(Expected::Absent);
    one.put(&document, object("{\"n\":1}")?, &absent, soon())?;
    refused(
        two.put(&document, object("{\"n\":2}")?, &absent, soon()),
        ErrorKind::Conflict,
        "a put that expects no document, over a document",
    )?;
    ensure_eq!(body(&*two, &document)?, Some("{\"n\":1}".into()), "body");
    Ok(())
}

fn a_revision_is_compared(harness: &dyn Harness) -> Check {
    let (one, two, document) = (harness.open(), harness.open(), orphans("a")?);
    let under = |revision| PutOptions::default().expect(Expected::Revision(revision));
    refused(
        one.put(&document, Body::EMPTY, &under(Revision::random()), soon()),
        ErrorKind::Conflict,
        "a put under a revision, without a document",
    )?;
    let first = put(&*one, &document, "{\"n\":1}")?;
    let second = two.put(&document, object("{\"n\":2}")?, &under(first), soon())?;
    let error = refused(
        one.put(&document, object("{\"n\":3}")?, &under(first), soon()),
        ErrorKind::Conflict,
        "a put under an older revision",
    )?;
    ensure!(
        !error.is_transient(),
        "a conflict is marked as transient, so it would be retried"
    );
    ensure_eq!(body(&*one, &document)?, Some("{\"n\":2}".into()), "body");
    one.put(&document, object("{\"n\":4}")?, &under(second), soon())?;
    ensure_eq!(body(&*two, &document)?, Some("{\"n\":4}".into()), "body");
    Ok(())
}

fn one_of_many_writers_wins(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    for round in 0..10 {
        let revision = put(&*backend, &document, "{\"n\":0}")?;
        let options = PutOptions::default().expect(Expected::Revision(revision));
        let won: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=8)
                .map(|n| {
                    let (backend, document, options) = (harness.open(), &document, &options);
                    scope.spawn(move || {
                        let text = format!("{{\"n\":{n}}}");
                        let body = object(&text).ok()?;
                        let put = backend.put(document, body, options, soon());
                        put.is_ok().then_some(n)
                    })
                })
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok().flatten())
                .collect()
        });
        ensure_eq!(won.len(), 1, "successful writers in round {round}");
        let wanted = won.first().map(|n| format!("{{\"n\":{n}}}"));
        ensure_eq!(
            body(&*backend, &document)?,
            wanted,
            "the body of the successful writer"
        );
    }
    Ok(())
}

fn a_deletion_is_conditional(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    let old = put(&*backend, &document, "{}")?;
    let present = put(&*backend, &document, "{}")?;
    refused(
        backend.delete(
            &document,
            Expected::Revision(old),
            Durability::Strict,
            None,
            soon(),
        ),
        ErrorKind::Conflict,
        "a deletion under an older revision",
    )?;
    ensure_eq!(body(&*backend, &document)?, Some("{}".into()), "body after it");
    ensure!(
        backend.delete(
            &document,
            Expected::Revision(present),
            Durability::Strict,
            None,
            soon()
        )?,
        "the deletion reported that the document did not exist"
    );
    ensure_eq!(
        body(&*harness.open(), &document)?,
        None,
        "body after the deletion"
    );
    ensure!(
        !backend.delete(&document, Expected::Any, Durability::Strict, None, soon())?,
        "the second deletion reported that the document existed"
    );
    Ok(())
}

pub(super) fn add(
    harness: &dyn Harness,
    phase: Phase,
    text: &str,
    options: &PutOptions,
) -> Result<Document, Failure> {
    let added = harness
        .open()
        .add(&job("a")?, phase, object(text)?, options, soon())?;
    let got = harness.open().get(&added.document, soon())?;
    ensure_eq!(
        got.map(|got| got.revision()),
        Some(added.revision),
        "the revision of the added document"
    );
    Ok(added.document)
}

fn a_series_ascends(harness: &dyn Harness) -> Check {
    let any = PutOptions::default();
    let mut made = Vec::new();
    for round in 0..6 {
        if round == 3 {
            harness.clock().set(moment(-3_600_000));
        }
        made.push(add(harness, Phase::Map, &format!("{{\"n\":{round}}}"), &any)?);
    }
    let stamps: Vec<_> = made
        .iter()
        .filter_map(|document| document.stamp().cloned())
        .collect();
    ensure_eq!(stamps.len(), 6, "stamps");
    ensure!(
        stamps.is_sorted_by(|a, b| a < b),
        "stamps do not ascend: {stamps:?}"
    );
    let scope = DocumentScope::Checkpoints(job("a")?, Phase::Map);
    let listed: Vec<_> = list(&*harness.open(), &scope)?
        .into_iter()
        .map(|entry| entry.document)
        .collect();
    ensure_eq!(listed, made, "the series listed, oldest first");
    Ok(())
}

fn both_series_of_a_job_ascend(harness: &dyn Harness) -> Check {
    let mut options = PutOptions::default();
    let mut last: Option<Stamp> = None;
    let phases = [
        Phase::Map,
        Phase::Reduce,
        Phase::Reduce,
        Phase::Map,
        Phase::Reduce,
    ];
    for (round, phase) in phases.into_iter().enumerate() {
        if round > 0 {
            harness.clock().set(moment(-3_600_000));
        }
        // A setup checkpoint has no stamp, so it does not raise the stamps of other series.
        add(harness, Phase::Setup, "{}", &PutOptions::default())?;
        let added = add(harness, phase, "{}", &options)?;
        let stamp = added.stamp().cloned();
        ensure!(
            stamp > last,
            "stamps of two series do not ascend: {stamp:?} after {last:?}"
        );
        let time = stamp.as_ref().map(Stamp::time);
        ensure!(
            time >= options.not_before,
            "stamp {time:?} is before {:?}",
            options.not_before
        );
        last = stamp;
        if round == 3 {
            options = options.not_before(Some(moment(3_600_000)));
        }
    }
    // The stamp of another program's document comes from that program's clock. It raises only the later stamps of
    // its own series.
    let foreign = Stamp::parse("2100-01-01").ok_or_else(|| Failure::new("not a stamp"))?;
    put(&*harness.open(), &Document::Map(job("a")?, foreign.clone()), "{}")?;
    let any = PutOptions::default();
    let reduce = add(harness, Phase::Reduce, "{}", &any)?;
    ensure!(
        reduce.stamp() < Some(&foreign),
        "another program's name in map raised the stamp {reduce:?}"
    );
    let map = add(harness, Phase::Map, "{}", &any)?;
    ensure!(
        map.stamp() > Some(&foreign),
        "the stamp {map:?} is not above its own series"
    );
    Ok(())
}

fn an_addition_is_conditional(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let absent = PutOptions::default().expect(Expected::Absent);
    let first = one.add(&job, Phase::Reduce, object("{\"n\":1}")?, &absent, soon())?;
    refused(
        two.add(&job, Phase::Reduce, object("{\"n\":2}")?, &absent, soon()),
        ErrorKind::Conflict,
        "an addition that expects an empty series",
    )?;
    let after_first = PutOptions::default().expect(Expected::Revision(first.revision));
    two.add(&job, Phase::Reduce, object("{\"n\":2}")?, &after_first, soon())?;
    refused(
        one.add(&job, Phase::Reduce, object("{\"n\":3}")?, &after_first, soon()),
        ErrorKind::Conflict,
        "an addition that expects another document than the newest",
    )?;
    let scope = DocumentScope::Checkpoints(job, Phase::Reduce);
    ensure_eq!(list(&*one, &scope)?.len(), 2, "documents of the series");
    Ok(())
}

fn setup_is_replaced(harness: &dyn Harness) -> Check {
    let any = PutOptions::default();
    let first = add(harness, Phase::Setup, "{\"n\":1}", &any)?;
    let second = add(harness, Phase::Setup, "{\"n\":2}", &any)?;
    ensure_eq!(first, second, "names of two setup checkpoints");
    ensure_eq!(body(&*harness.open(), &second)?, Some("{\"n\":2}".into()), "body");
    let absent = PutOptions::default().expect(Expected::Absent);
    refused(
        harness
            .open()
            .add(&job("a")?, Phase::Setup, Body::EMPTY, &absent, soon()),
        ErrorKind::Conflict,
        "an addition that expects no setup checkpoint",
    )?;
    Ok(())
}

fn phases_are_series_of_their_own(harness: &dyn Harness) -> Check {
    let absent = PutOptions::default().expect(Expected::Absent);
    for phase in Phase::ALL {
        add(harness, phase, "{}", &absent)?;
    }
    for phase in Phase::ALL {
        let scope = DocumentScope::Checkpoints(job("a")?, phase);
        let listed = list(&*harness.open(), &scope)?;
        ensure_eq!(listed.len(), 1, "documents of phase {phase}");
    }
    Ok(())
}

/// Checks what a read returns. Reads several times, since a cache answers from the second time on.
fn sees(backend: &dyn Backend, document: &Document, wanted: Option<(&str, Revision)>, when: &str) -> Check {
    let revision = wanted.map(|(_, revision)| revision);
    let wanted = wanted.map(|(text, revision)| (text.to_owned(), revision));
    for _ in 0..2 {
        let got = backend.get(document, soon())?;
        let got = got.map(|got| (String::from_utf8_lossy(got.body()).into_owned(), got.revision()));
        ensure_eq!(got, wanted, "body and revision got {when}");
        ensure_eq!(
            backend.revision(document, soon())?,
            revision,
            "revision told {when}"
        );
    }
    Ok(())
}

fn a_handle_sees_what_another_replaced(harness: &dyn Harness) -> Check {
    let (reader, writer, job) = (harness.open(), harness.open(), job("a")?);
    let document = Document::Orphans(job.clone());
    let text = |n: u32| format!("{{\"n\":{n}}}");
    sees(&*reader, &document, None, "before the first put")?;
    // All bodies have the same length, and the third is equal to the second.
    for n in [1, 2, 2, 3] {
        let revision = put(&*writer, &document, &text(n))?;
        sees(&*reader, &document, Some((&text(n), revision)), "after a put")?;
    }
    ensure!(
        writer.delete(&document, Expected::Any, Durability::Strict, None, soon())?,
        "the deletion reported that the document did not exist"
    );
    sees(&*reader, &document, None, "after a deletion")?;
    let revision = put(&*writer, &document, &text(3))?;
    sees(
        &*reader,
        &document,
        Some((&text(3), revision)),
        "after a put in place of a deleted document",
    )?;

    let any = PutOptions::default();
    for phase in Phase::ALL {
        let scope = DocumentScope::Checkpoints(job.clone(), phase);
        for n in 1..=3 {
            let added = writer.add(&job, phase, object(&text(n))?, &any, soon())?;
            let newest = list(&*reader, &scope)?.pop().map(|entry| entry.document);
            ensure_eq!(
                newest.as_ref(),
                Some(&added.document),
                "newest listed of phase {phase}"
            );
            sees(
                &*reader,
                &added.document,
                Some((&text(n), added.revision)),
                "after an addition",
            )?;
        }
    }
    Ok(())
}

fn a_large_body_is_whole(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    let text = format!("{{\"data\":\"{}\"}}", "0123456789abcdef".repeat(128 << 10));
    put(&*backend, &document, &text)?;
    ensure!(
        body(&*backend, &document)? == Some(text),
        "the body of 2 MiB has changed"
    );
    Ok(())
}

fn any_body_is_kept(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    for text in [
        "{ }",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1e999,"b":-0.0,"c":12345678901234567890123456789}"#,
        r#"{"\u0061":"\ud83d\ude00 \u0000 \/ \u2028"}"#,
        "{\"a\"\t:\r\n[ ]}",
        r#"{"format":2,"revision":"x","checksum":"y"}"#,
        &nested,
    ] {
        put(&*backend, &document, text)?;
        ensure_eq!(body(&*harness.open(), &document)?, Some(text.into()), "body");
    }
    Ok(())
}

fn a_phase_of_the_callers_own_is_a_series(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let (review, merge) = ("review".parse::<Phase>()?, "merge".parse::<Phase>()?);
    let phases = [review, Phase::Map, merge, review, Phase::Reduce, merge, review];
    let mut added = Vec::new();
    for phase in phases {
        let document = harness
            .open()
            .add(&job, phase, object("{}")?, &PutOptions::default(), soon())?
            .document;
        ensure_eq!(document.phase(), Some(phase), "phase of {document:?}");
        added.push(document);
    }
    let stamps: Vec<_> = added.iter().filter_map(Document::stamp).collect();
    ensure!(
        stamps.len() == phases.len() && stamps.is_sorted_by(|one, other| one < other),
        "stamps do not ascend: {stamps:?}"
    );
    for phase in [review, merge, Phase::Map, Phase::Reduce] {
        let of_phase: Vec<_> = added
            .iter()
            .filter(|document| document.phase() == Some(phase))
            .collect();
        let listed = list(&*backend, &DocumentScope::Checkpoints(job.clone(), phase))?;
        let listed: Vec<_> = listed.iter().map(|entry| &entry.document).collect();
        ensure_eq!(listed, of_phase, "documents of {phase}");
        let newest = backend.newest(&job, phase, None, soon())?;
        let newest = newest.map(|entry| entry.document);
        ensure_eq!(newest.as_ref(), of_phase.last().copied(), "the newest of {phase}");
        if let [.., before, last] = of_phase.as_slice() {
            let found = backend.newest(&job, phase, Some(last), soon())?;
            let found = found.map(|entry| entry.document);
            ensure_eq!(
                found.as_ref(),
                Some(*before),
                "the one before the newest of {phase}"
            );
        }
    }
    let all = list(&*backend, &DocumentScope::Job(job.clone()))?;
    ensure_eq!(all.len(), phases.len(), "checkpoints of the job");
    let expects = PutOptions::default().expect(Expected::Absent);
    refused(
        backend.add(&job, review, object("{}")?, &expects, soon()),
        ErrorKind::Conflict,
        "an addition that expects an empty phase",
    )?;
    Ok(())
}

fn an_addition_is_found_by_its_key(harness: &dyn Harness) -> Check {
    let (backend, mine, other) = (harness.open(), job("a")?, job("b")?);
    let review = "review".parse::<Phase>()?;
    let mut wanted = Vec::new();
    for (job, phase, key) in [
        (&mine, Phase::Map, Some("one")),
        (&mine, review, Some("two.json")),
        (&mine, Phase::Reduce, Some("one")),
        (&mine, Phase::Map, None),
        (&other, Phase::Map, Some("one")),
    ] {
        let name = key.map(CheckpointKey::new).transpose()?;
        let options = PutOptions::default().key(name);
        let added = backend.add(job, phase, object("{}")?, &options, soon())?;
        wanted.push((job, key, added.document));
    }
    for (job, key) in [
        (&mine, "one"),
        (&mine, "two.json"),
        (&mine, "three"),
        (&other, "one"),
    ] {
        let scope = DocumentScope::Keyed(job.clone(), CheckpointKey::new(key)?);
        let listed = list(&*harness.open(), &scope)?;
        let listed: Vec<_> = listed.into_iter().map(|entry| entry.document).collect();
        let of_key = wanted
            .iter()
            .filter(|(of, name, _)| *of == job && *name == Some(key));
        let of_key: Vec<_> = of_key.map(|(.., document)| document.clone()).collect();
        ensure_eq!(listed, of_key, "documents of {job} under {key}");
    }
    let newest = backend.newest(&mine, Phase::Map, None, soon())?;
    let last = wanted.get(3).map(|(.., document)| document);
    ensure_eq!(
        newest.as_ref().map(|entry| &entry.document),
        last,
        "the newest of map"
    );
    Ok(())
}
