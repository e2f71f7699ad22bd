//! Tests of damaged documents, of documents of newer formats, and of failed syncs.

use super::*;

#[test]
fn a_damaged_newest_one_is_skipped_and_moved_by_a_writer_only() {
    let place = Place::new();
    let store = place.writer();
    let good = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
    let bad = add(&store, Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    flip(&place.path(&bad.document), 109);
    let damaged = std::fs::read(place.path(&bad.document)).unwrap();
    let before = place.everything();
    for store in [&place.reader(), &store] {
        let error = store.get(&bad.document, never()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(
            error
                .target()
                .ends_with(place.path(&bad.document).to_str().unwrap())
        );
        assert!(body(store, &good.document).is_some());
    }
    assert_eq!(place.everything(), before);

    let options = PutOptions::default().expect(Expected::Revision(good.revision));
    let next = add(&store, Phase::Map, "{\"n\":3}", &options).unwrap();
    assert!(next.document > bad.document);
    assert_eq!(place.quarantined(), [damaged]);
    assert_eq!(body(&store, &bad.document), None);
    assert_eq!(body(&store, &good.document).as_deref(), Some("{\"n\":1}"));
}

#[test]
fn a_series_of_damage_only_counts_as_empty() {
    let place = Place::new();
    let store = place.writer();
    let bad = add(&store, Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    std::fs::write(place.path(&bad.document), "").unwrap();
    place.hand.0.fetch_sub(1, Ordering::Relaxed);
    let next = add(
        &store,
        Phase::Map,
        "{}",
        &PutOptions::default().expect(Expected::Absent),
    )
    .unwrap();
    assert!(next.document > bad.document, "its name is not given again");
    assert_eq!(place.quarantined().len(), 1);
}

#[test]
fn a_newer_format_is_an_error_of_its_own() {
    let place = Place::new();
    let store = place.writer();
    let added = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    std::fs::write(place.path(&added.document), "{\"format\":2,\"x\":1}\n").unwrap();
    let before = place.everything();
    assert_eq!(kind(store.get(&added.document, never())), ErrorKind::NewerFormat);
    assert_eq!(
        kind(store.revision(&added.document, never())),
        ErrorKind::NewerFormat
    );
    let expected = PutOptions::default().expect(Expected::Revision(added.revision));
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &expected)),
        ErrorKind::NewerFormat
    );
    assert_eq!(place.everything(), before);
}

#[test]
fn a_failed_sync_stores_nothing_before_the_rename_and_is_unclear_after_it() {
    let place = Place::new();
    let switches = Arc::new(Switches::default());
    let fs = Faulty::new(RealFs::new(place.root()), Arc::clone(&switches));
    let store = Documents::new(crate::root::Root::new(
        Arc::new(fs),
        FileOptions::new(place.root()),
    ));
    let document = Document::Finished(job());
    put(&store, &document, "{\"n\":1}", Expected::Any).unwrap();

    switches.files.store(true, Ordering::Relaxed);
    assert_eq!(
        kind(put(&store, &document, "{\"n\":2}", Expected::Any)),
        ErrorKind::Io
    );
    assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":1}"));
    let folder = place.path(&document).parent().unwrap().to_owned();
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        1,
        "no temporary file stays"
    );
    switches.files.store(false, Ordering::Relaxed);

    switches.folders.store(true, Ordering::Relaxed);
    let error = put(&store, &document, "{\"n\":3}", Expected::Any).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(!error.is_transient());
    assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":3}"));
    let error = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::OutcomeUnknown, false)
    );
    let error = store
        .delete(&document, Expected::Any, Durability::Strict, None, never())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    // A relaxed write does not sync the folder, so the failing sync does not matter.
    let relaxed = PutOptions::new(Durability::Relaxed);
    store.put(&document, Body::EMPTY, &relaxed, never()).unwrap();
    assert!(
        store
            .delete(&document, Expected::Any, Durability::Relaxed, None, never())
            .unwrap()
    );
}
