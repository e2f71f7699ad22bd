//! Tests of conditional writes to documents, and of their names and fencing tokens.

use super::*;

#[test]
fn a_document_is_put_got_and_deleted() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        assert_eq!(body(&store, &document), None);
        let revision = put(&store, &document, " {\"a\": [1,\n2]}\n", Expected::Any).unwrap();
        let got = place.reader().get(&document, never()).unwrap().unwrap();
        assert_eq!(got.body(), b"{\"a\": [1,\n2]}");
        assert!(got.is_verified());
        assert_eq!(got.revision(), revision);
        assert_eq!(store.revision(&document, never()).unwrap(), Some(revision));
        for durability in [Durability::Strict, Durability::Relaxed] {
            let deleted = store
                .delete(&document, Expected::Any, durability, None, never())
                .unwrap();
            assert_eq!(deleted, durability == Durability::Strict);
        }
        assert_eq!(store.revision(&document, never()).unwrap(), None);
    }
}

#[test]
fn a_condition_that_is_not_true_is_a_conflict_that_names_both() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        let other = Revision::random();
        let error = put(&store, &document, "{}", Expected::Revision(other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.why(),
            format!("expected revision {other}, found no document")
        );
        let first = put(&store, &document, "{\"n\":1}", Expected::Absent).unwrap();
        let error = put(&store, &document, "{\"n\":2}", Expected::Absent).unwrap_err();
        assert_eq!(
            error.why(),
            format!("expected no document, found revision {first}")
        );
        assert!(!error.is_transient());
        let second = put(&store, &document, "{\"n\":2}", Expected::Revision(first)).unwrap();
        let error = put(&store, &document, "{\"n\":3}", Expected::Revision(first)).unwrap_err();
        assert_eq!(
            error.why(),
            format!("expected revision {first}, found revision {second}")
        );
        assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":2}"));
        let delete = |expected| store.delete(&document, expected, Durability::Strict, None, never());
        assert_eq!(kind(delete(Expected::Revision(first))), ErrorKind::Conflict);
        assert_eq!(kind(delete(Expected::Absent)), ErrorKind::Conflict);
        assert!(delete(Expected::Revision(second)).unwrap());
        assert_eq!(kind(delete(Expected::Revision(second))), ErrorKind::Conflict);
        assert!(!delete(Expected::Absent).unwrap());
    }
}

#[test]
fn of_threads_and_stores_that_race_one_wins_each_round() {
    let place = Place::new();
    let shared = place.writer();
    let alone = place.writer();
    let document = Document::Repository(job().repo);
    put(&shared, &document, "{\"n\":0}", Expected::Absent).unwrap();
    let per_thread = 20;
    std::thread::scope(|scope| {
        for store in [&shared, &shared, &alone, &alone] {
            scope.spawn(|| {
                let mut done = 0;
                while done < per_thread {
                    let found = store.get(&document, never()).unwrap().unwrap();
                    let n: serde_json::Value = serde_json::from_slice(found.body()).unwrap();
                    let next = format!("{{\"n\":{}}}", n["n"].as_u64().unwrap() + 1);
                    let options =
                        PutOptions::new(Durability::Relaxed).expect(Expected::Revision(found.revision()));
                    let next = Body::parse(next.as_bytes()).unwrap();
                    match store.put(&document, next, &options, never()) {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(
        body(&shared, &document),
        Some(format!("{{\"n\":{}}}", 4 * per_thread))
    );
}

#[test]
fn stores_that_add_at_once_get_a_name_each_and_one_first() {
    let place = Place::new();
    let stores = [place.writer(), place.writer()];
    let (mut names, mut firsts) = (BTreeSet::new(), 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = [0, 1, 0, 1]
            .map(|index| {
                let store = &stores[index];
                scope.spawn(move || {
                    let first = PutOptions::new(Durability::Relaxed).expect(Expected::Absent);
                    let first = add(store, Phase::Map, "{}", &first);
                    let any = PutOptions::new(Durability::Relaxed);
                    let more: Vec<_> = (0..10)
                        .map(|_| add(store, Phase::Map, "{}", &any).unwrap())
                        .collect();
                    (first, more)
                })
            })
            .into_iter()
            .collect();
        for thread in threads {
            let (first, more) = thread.join().unwrap();
            match first {
                Ok(added) => {
                    firsts += 1;
                    names.insert(added.document);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
            names.extend(more.into_iter().map(|added| added.document));
        }
    });
    assert_eq!((firsts, names.len()), (1, 41));
    let scope = DocumentScope::Checkpoints(job(), Phase::Map);
    let listed = stores[0]
        .list(&scope, &Default::default(), never())
        .unwrap()
        .entries;
    assert!(listed.iter().map(|entry| &entry.document).eq(names.iter()));
}

#[test]
fn a_checkpoint_is_above_the_newest_though_the_clock_steps_back() {
    let place = Place::new();
    let store = place.writer();
    let stamp = |added: &Added| added.document.stamp().unwrap().time();
    let first = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&first), store.root.now());
    place.hand.0.fetch_sub(3_600_000_000_000, Ordering::Relaxed);
    let second = add(&place.writer(), Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&second), stamp(&first).next());
    // Stamps ascend across all phases of a job.
    let reduce = add(&store, Phase::Reduce, "{}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&reduce), stamp(&second).next());
    place.hand.0.fetch_add(7_200_000_000_000, Ordering::Relaxed);
    let third = add(&store, Phase::Map, "{\"n\":3}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&third), store.root.now());
    let listed = store
        .list(&DocumentScope::Job(job()), &Default::default(), never())
        .unwrap()
        .entries;
    let listed: Vec<_> = listed.into_iter().map(|entry| entry.document).collect();
    assert_eq!(
        listed,
        [first.document, second.document, reduce.document, third.document]
    );
}

#[test]
fn names_of_other_programs_count() {
    let place = Place::new();
    let store = place.writer();
    let foreign = Document::Map(job(), Stamp::parse("20991231_235959").unwrap());
    std::fs::create_dir_all(place.path(&foreign).parent().unwrap()).unwrap();
    std::fs::write(place.path(&foreign), "{\"fencing\": 4}").unwrap();
    let got = store.get(&foreign, never()).unwrap().unwrap();
    assert!(!got.is_verified());
    assert_eq!(store.revision(&foreign, never()).unwrap(), Some(got.revision()));
    assert_eq!(kind(add(&store, Phase::Map, "{}", &fenced(3))), ErrorKind::Fenced);
    let options = fenced(4).expect(Expected::Revision(got.revision()));
    let added = add(&store, Phase::Map, "{}", &options).unwrap();
    assert!(added.document.stamp().unwrap() > foreign.stamp().unwrap());

    let last = Document::Map(job(), Stamp::from(Timestamp::MAX));
    std::fs::write(place.path(&last), "{}").unwrap();
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &PutOptions::default())),
        ErrorKind::Refused
    );
}

#[test]
fn setup_has_one_name_and_is_replaced_under_the_same_checks() {
    let place = Place::new();
    let store = place.writer();
    let first = add(
        &store,
        Phase::Setup,
        "{\"fencing\":5}",
        &fenced(5).expect(Expected::Absent),
    )
    .unwrap();
    assert_eq!(first.document, Document::Setup(job()));
    let absent = PutOptions::default().expect(Expected::Absent);
    assert_eq!(
        kind(add(&store, Phase::Setup, "{}", &absent)),
        ErrorKind::Conflict
    );
    assert_eq!(
        kind(add(&store, Phase::Setup, "{}", &fenced(4))),
        ErrorKind::Fenced
    );
    let next = PutOptions::default().expect(Expected::Revision(first.revision));
    add(&store, Phase::Setup, "{\"n\":2}", &next).unwrap();
    assert_eq!(body(&store, &first.document).as_deref(), Some("{\"n\":2}"));
}

#[test]
fn an_older_token_is_fenced_off_and_both_are_named() {
    let place = Place::new();
    let store = place.writer();
    add(&store, Phase::Map, "{\"fencing\":7}", &fenced(7)).unwrap();
    let error = add(&store, Phase::Map, "{\"fencing\":6}", &fenced(6)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(
        error.why().contains("token 6") && error.why().contains("under 7"),
        "{error}"
    );
    add(&store, Phase::Map, "{\"fencing\":7}", &fenced(7)).unwrap();
}
