//! Tests of a job's fencing marks: the greatest token of each lock.

use super::*;

fn marks(place: &Place) -> Option<String> {
    body(&place.reader(), &Document::Fencing(job()))
}

fn under(fence: &str) -> PutOptions {
    PutOptions::default().fencing(Some(fence.parse().unwrap()))
}

/// Turns the store into one of an earlier version, with tokens in checkpoints but without a document of marks.
fn forget_marks(place: &Place) {
    std::fs::remove_file(place.path(&Document::Fencing(job()))).unwrap();
}

#[test]
fn marks_are_a_document_that_people_can_read() {
    let place = Place::new();
    let store = place.writer();
    add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert_eq!(marks(&place), None);
    for fence in ["5", "shop/resume=7", "4", "shop/resume=8"] {
        let _ = add(&store, Phase::Map, "{}", &under(fence));
    }
    let expected = r#"{"marks":[{"token":5},{"lock":"shop/resume","token":8}]}"#;
    assert_eq!(marks(&place).as_deref(), Some(expected));
    // The document with the marks is in the folder of checkpoints, but it is not listed.
    assert_eq!(
        store
            .list(&DocumentScope::Job(job()), &Default::default(), never())
            .unwrap()
            .entries
            .len(),
        4
    );
}

#[test]
fn marks_of_an_earlier_version_are_taken_over_from_all_checkpoints() {
    let place = Place::new();
    let store = place.writer();
    add(&store, Phase::Map, r#"{"fencing":9,"data":1}"#, &fenced(9)).unwrap();
    add(&store, Phase::Reduce, r#"{"fencing":6,"data":1}"#, &fenced(9)).unwrap();
    let damaged = add(&store, Phase::Map, r#"{"fencing":99,"data":1}"#, &fenced(9)).unwrap();
    // Makes the newest checkpoint of each phase one without a token, as in a store of an earlier version.
    for phase in Phase::ALL {
        add(
            &store,
            phase,
            r#"{"data":{"fencing":50}}"#,
            &PutOptions::default(),
        )
        .unwrap();
    }
    let long = format!(r#"{{"cursor":"{}","fencing":11,"data":1}}"#, "x".repeat(9000));
    add(&store, Phase::Reduce, &long, &fenced(9)).unwrap();
    flip(&place.path(&damaged.document), 100);
    forget_marks(&place);
    let store = place.writer();
    for phase in Phase::ALL {
        assert_eq!(kind(add(&store, phase, "{}", &fenced(10))), ErrorKind::Fenced);
    }
    assert_eq!(marks(&place), None, "a refused write leaves nothing");
    add(&store, Phase::Map, "{}", &fenced(11)).unwrap();
    assert_eq!(marks(&place).as_deref(), Some(r#"{"marks":[{"token":11}]}"#));
}

#[test]
fn a_token_of_an_earlier_version_outlives_its_checkpoint() {
    type Removal = fn(&Documents, &Document);
    let removals: [(Phase, Removal); 3] = [
        (Phase::Map, |store, document| {
            assert!(
                store
                    .delete(document, Expected::Any, Durability::Strict, None, never())
                    .unwrap()
            );
        }),
        (Phase::Setup, |store, _| {
            add(store, Phase::Setup, "{}", &PutOptions::default()).unwrap();
        }),
        (Phase::Setup, |store, document| {
            put(store, document, "{}", Expected::Any).unwrap();
        }),
    ];
    for (phase, remove) in removals {
        let place = Place::new();
        let store = place.writer();
        let saved = add(&store, phase, r#"{"fencing":9}"#, &fenced(9)).unwrap();
        forget_marks(&place);
        let store = place.writer();
        remove(&store, &saved.document);
        assert_eq!(kind(add(&store, Phase::Map, "{}", &fenced(8))), ErrorKind::Fenced);
    }
}

#[test]
fn a_mark_is_durable_before_the_write_begins() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let place = Place::new();
        let switches = Arc::new(Switches::default());
        let fs = Faulty::new(RealFs::new(place.root()), Arc::clone(&switches));
        let store = Documents::new(crate::root::Root::new(
            Arc::new(fs),
            FileOptions::new(place.root()),
        ));
        let options = |token| PutOptions::new(durability).fencing(Fence::unnamed(token).ok());
        add(&store, Phase::Map, "{}", &options(1)).unwrap();
        let count = || {
            store
                .list(&DocumentScope::Job(job()), &Default::default(), never())
                .unwrap()
                .entries
                .len()
        };
        for switch in [&switches.files, &switches.folders] {
            switch.store(true, Ordering::Relaxed);
            // The error says that the write failed, not that its outcome is unknown: the document was not written.
            assert_eq!(kind(add(&store, Phase::Map, "{}", &options(2))), ErrorKind::Io);
            switch.store(false, Ordering::Relaxed);
            assert_eq!(count(), 1);
        }
        // After the failed sync, the mark may exist without being durable. Another process syncs it before it writes
        // under the same token.
        switches.folders.store(true, Ordering::Relaxed);
        assert_eq!(kind(add(&store, Phase::Map, "{}", &options(2))), ErrorKind::Io);
        assert_eq!(count(), 1);
        switches.folders.store(false, Ordering::Relaxed);
        add(&store, Phase::Map, "{}", &options(2)).unwrap();
        assert_eq!(
            kind(add(&store, Phase::Map, "{}", &options(1))),
            ErrorKind::Fenced
        );
    }
}

#[test]
fn damaged_marks_refuse_fenced_writes_until_they_are_restored() {
    let place = Place::new();
    let store = place.writer();
    add(&store, Phase::Map, r#"{"fencing":9}"#, &fenced(9)).unwrap();
    let path = place.path(&Document::Fencing(job()));
    flip(&path, 100);
    let error = add(&store, Phase::Map, "{}", &fenced(9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.hint().unwrap().contains("doctor --repair"), "{error}");
    add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    // A document without an envelope is refused, too, if it does not have the form of marks.
    std::fs::write(&path, r#"{"marks":7}"#).unwrap();
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &fenced(9))),
        ErrorKind::Damaged
    );
    // An operator can lower a mark by hand, for example after a token that was too great.
    std::fs::write(&path, r#"{"marks":[{"token":2}]}"#).unwrap();
    add(&store, Phase::Map, "{}", &fenced(3)).unwrap();
}
