use prodigy_storage::{
    DocumentInfo, DocumentOptions, Documents, ErrorKind, Expected, Listing, Phase, SaveOptions,
    StorageBuilder,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Fixture, file_with, memory_with, on_each};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    agent: String,
    turns: u32,
}

fn session(turns: u32) -> Session {
    Session {
        agent: "a-1".into(),
        turns,
    }
}

/// The documents of a job (sessions) and of a repository (workflows).
fn each_owner(fixture: &Fixture) -> [Documents; 2] {
    let repo = fixture.storage.repo("shop").unwrap();
    [
        repo.job("job-1").unwrap().documents("sessions").unwrap(),
        repo.documents("sessions").unwrap(),
    ]
}

fn put(documents: &Documents, name: &str, value: &impl Serialize) {
    documents.put(name, value, DocumentOptions::new()).unwrap();
}

fn names(listing: Listing<DocumentInfo>) -> Vec<String> {
    let entries = listing.all().unwrap();
    entries
        .iter()
        .map(|entry| format!("{}/{}", entry.kind, entry.name))
        .collect()
}

#[test]
fn a_value_comes_back_as_it_was_put_until_it_is_replaced_or_deleted() {
    on_each(|fixture| {
        for documents in each_owner(fixture) {
            assert!(documents.get::<Session>("s").unwrap().is_none());
            assert_eq!(documents.revision("s").unwrap(), None);
            let first = documents.put("s", &session(1), DocumentOptions::new()).unwrap();
            let found = documents.get::<Session>("s").unwrap().unwrap();
            assert_eq!((found.data, found.revision), (session(1), first));
            assert_eq!((found.kind.as_str(), found.name.as_str()), ("sessions", "s"));
            assert!(found.verified && found.saved_at.is_some() && found.fencing.is_none());
            put(&documents, "s", &session(2));
            assert_eq!(documents.get::<Session>("s").unwrap().unwrap().data, session(2));
            assert!(documents.delete("s", DocumentOptions::new()).unwrap());
            assert!(!documents.delete("s", DocumentOptions::new()).unwrap());
            assert!(documents.get::<Session>("s").unwrap().is_none());
        }
    });
}

#[test]
fn any_json_value_is_a_document_byte_for_byte() {
    on_each(|fixture| {
        let [documents, _] = each_owner(fixture);
        for text in ["null", "7", "[1.0, 1e300]", "{\"a\":  \"\\u00e9\"}"] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            put(&documents, "any", &raw);
            assert_eq!(documents.get_raw("any").unwrap().unwrap().data.get(), text);
        }
        let broken = RawValue::from_string("\"\\ud800\"".to_owned()).unwrap();
        let error = documents.put("any", &broken, DocumentOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let other = documents.get::<Session>("any").unwrap_err();
        assert_eq!(other.kind(), ErrorKind::InvalidInput, "{other}");
        assert!(other.target().contains("any.json"), "{other}");
    });
}

#[test]
fn a_write_under_another_revision_is_a_conflict() {
    on_each(|fixture| {
        for documents in each_owner(fixture) {
            let under = |expected| DocumentOptions::new().expected_revision(expected);
            let first = documents.put("s", &session(1), under(Expected::Absent)).unwrap();
            let second = documents
                .put("s", &session(2), under(Expected::Revision(first)))
                .unwrap();
            for stale in [Expected::Absent, Expected::Revision(first)] {
                let put = documents.put("s", &session(3), under(stale)).unwrap_err();
                let deleted = documents.delete("s", under(stale)).unwrap_err();
                assert_eq!(put.kind(), ErrorKind::Conflict);
                assert_eq!(deleted.kind(), ErrorKind::Conflict);
            }
            assert_eq!(documents.revision("s").unwrap(), Some(second));
            assert!(documents.delete("s", under(Expected::Revision(second))).unwrap());
        }
    });
}

#[test]
fn documents_are_listed_by_kind_and_name_and_are_no_checkpoints() {
    on_each(|fixture| {
        let repo = fixture.storage.repo("shop").unwrap();
        let job = repo.job("job-1").unwrap();
        for (kind, name) in [("sessions", "b"), ("plans", "z"), ("sessions", "a")] {
            put(&job.documents(kind).unwrap(), name, &1);
            put(&repo.documents(kind).unwrap(), &format!("of-repo-{name}"), &1);
        }
        job.checkpoints().save_map(&1, SaveOptions::default()).unwrap();
        let sessions = job.documents("sessions").unwrap();
        assert_eq!(names(sessions.list()), ["sessions/a", "sessions/b"]);
        assert_eq!(
            names(job.all_documents()),
            ["plans/z", "sessions/a", "sessions/b"]
        );
        assert_eq!(
            names(repo.all_documents()),
            ["plans/of-repo-z", "sessions/of-repo-a", "sessions/of-repo-b"]
        );
        assert!(names(job.documents("none").unwrap().list()).is_empty());
        assert_eq!(job.checkpoints().list().count(), 1);
        let entry = sessions.list().next().unwrap().unwrap();
        assert!(entry.bytes > 0, "{entry:?}");
    });
}

#[test]
fn kinds_and_names_are_checked_as_all_names_are() {
    on_each(|fixture| {
        let repo = fixture.storage.repo("shop").unwrap();
        let job = repo.job("job-1").unwrap();
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0", "CON", "\u{202e}a"] {
            let kind = [
                job.documents(name).unwrap_err(),
                repo.documents(name).unwrap_err(),
            ];
            let documents = job.documents("kind").unwrap();
            let put = documents.put(name, &1, DocumentOptions::new()).unwrap_err();
            let get = documents.get::<Value>(name).unwrap_err();
            let delete = documents.delete(name, DocumentOptions::new()).unwrap_err();
            for error in kind.into_iter().chain([put, get, delete]) {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
            }
        }
        assert!(!fixture.folder.path().join("root").exists());
    });
}

#[test]
fn a_cached_document_is_served_by_its_revision() {
    let set = |builder: StorageBuilder| builder.set("enable_cache", "true");
    for cached in [memory_with(set), file_with(set)] {
        for documents in each_owner(&cached) {
            put(&documents, "s", &session(1));
            for _ in 0..3 {
                assert_eq!(documents.get::<Session>("s").unwrap().unwrap().data, session(1));
            }
            put(&documents, "s", &session(2));
            assert_eq!(documents.get::<Session>("s").unwrap().unwrap().data, session(2));
        }
        assert_eq!(cached.storage.stats().get("cache.hits"), 4);
        assert_eq!(cached.storage.stats().get("cache.misses"), 4);
    }
}

#[test]
fn what_another_process_replaced_is_never_served_from_the_cache() {
    let cached = file_with(|builder| builder.set("enable_cache", "true"));
    let root = cached.folder.path().join("root");
    let other = crate::support::builder(&cached.folder)
        .base_dir(&root)
        .set("timeout", "29s")
        .open()
        .unwrap();
    let [mine, _] = each_owner(&cached);
    let others = other.repo("shop").unwrap().job("job-1").unwrap();
    let others = others.documents("sessions").unwrap();
    put(&mine, "s", &session(1));
    assert_eq!(mine.get::<Session>("s").unwrap().unwrap().data, session(1));
    put(&others, "s", &session(2));
    assert_eq!(mine.get::<Session>("s").unwrap().unwrap().data, session(2));
}

#[test]
fn a_file_that_was_written_by_hand_is_read_and_replaced() {
    let fixture = file_with(|builder| builder);
    let [documents, _] = each_owner(&fixture);
    put(&documents, "s", &session(1));
    let folder = fixture
        .folder
        .path()
        .join("root/state/shop/mapreduce/jobs/job-1/documents/sessions");
    let text = std::fs::read_to_string(folder.join("s.json")).unwrap();
    assert!(text.contains(r#""data":{"agent":"a-1","turns":1}}"#), "{text}");
    std::fs::write(folder.join("hand.json"), r#"{"agent":"a-1","turns":7}"#).unwrap();
    let found = documents.get::<Session>("hand").unwrap().unwrap();
    assert_eq!(
        (found.data, found.verified, found.saved_at),
        (session(7), false, None)
    );
    put(&documents, "hand", &session(8));
    assert!(documents.get::<Session>("hand").unwrap().unwrap().verified);
}

#[test]
fn a_damaged_document_is_reported_and_repaired_and_its_space_is_counted() {
    let fixture = file_with(|builder| builder);
    let before = fixture.storage.usage().unwrap();
    assert!(before.areas.is_empty());
    for (documents, below) in each_owner(&fixture).into_iter().zip([
        "state/shop/mapreduce/jobs/job-1/documents",
        "state/shop/documents",
    ]) {
        put(&documents, "s", &session(1));
        let path = fixture
            .folder
            .path()
            .join("root")
            .join(below)
            .join("sessions/s.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = documents.get::<Session>("s").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    }
    let state = fixture.storage.usage().unwrap().areas;
    let state = state.iter().find(|area| area.area == "state").unwrap();
    assert_eq!(state.files, 2);
    let mut found = Vec::new();
    let doctor = fixture.storage.doctor().unwrap();
    let scope = prodigy_storage::doctor::DoctorScope::default();
    doctor
        .examine(&scope, &mut |finding| found.push(finding))
        .unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().all(|finding| finding.place.ends_with("s.json")),
        "{found:?}"
    );
    let wait = std::time::Duration::from_secs(5);
    doctor.repair(&scope, wait, &mut |_| {}).unwrap();
    for documents in each_owner(&fixture) {
        assert!(documents.get::<Session>("s").unwrap().is_none());
        put(&documents, "s", &json!(1));
    }
}

#[test]
fn documents_alone_make_a_job_and_a_repository_known() {
    on_each(|fixture| {
        let [of_job, _] = each_owner(fixture);
        put(&of_job, "s", &1);
        let mill = fixture.storage.repo("mill").unwrap();
        put(&mill.documents("workflows").unwrap(), "w", &1);
        let repos = fixture.storage.repositories().all().unwrap();
        assert_eq!(
            repos.iter().map(|repo| repo.as_str()).collect::<Vec<_>>(),
            ["mill", "shop"]
        );
        assert_eq!(fixture.storage.repo("shop").unwrap().jobs().count(), 1);
        assert_eq!(mill.jobs().count(), 0);
        assert!(
            fixture
                .job()
                .checkpoints()
                .latest::<Value>(Phase::Map)
                .unwrap()
                .is_none()
        );
    });
}

#[test]
fn the_documents_of_a_repository_and_of_its_jobs_go_with_it() {
    on_each(|fixture| {
        for documents in each_owner(fixture) {
            put(&documents, "s", &session(1));
        }
        fixture.storage.repo("shop").unwrap().delete().unwrap();
        for documents in each_owner(fixture) {
            assert!(documents.get::<Session>("s").unwrap().is_none());
            assert!(names(documents.list()).is_empty());
        }
    });
}
