//! Tests of data of other programs that can't be read: readers skip and count it, and report each kind once. It is no
//! damage.

use super::*;

#[test]
fn lines_that_are_no_events_are_skipped_counted_once_and_no_damage() {
    let place = Place::new();
    place.write(
        &format!("{LOG}/events-20261128_150000.jsonl"),
        "{\"event_type\":\"old\"}\n\nnot json\n",
    );
    let before = place.files();
    let backend = place.backend();
    for _ in 0..2 {
        let mut scan = backend.scan(&job(), &ScanOptions::all(), never()).unwrap();
        let mut events = 0;
        while let Some(item) = scan.next().unwrap() {
            assert!(matches!(item, ScanItem::Record(_)), "{item:?}");
            events += 1;
        }
        assert_eq!(events, 14);
        assert_eq!(skipped(&backend, ForeignKind::EventLines), 2, "each counts once");
    }
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|finding| finding.why.contains("not read as events"))
    );
    assert_eq!(place.files(), before);
}

#[test]
fn each_reading_call_counts_what_it_skips() {
    type Read = fn(&FileBackend);
    let reads: [(ForeignKind, u64, Read); 8] = [
        (ForeignKind::DeadLetters, 3, |backend| {
            backend
                .queue_scan(&job(), &Select::any(), never())
                .unwrap()
                .for_each(drop);
        }),
        (ForeignKind::DeadLetters, 3, |backend| {
            let id = ItemId::new("item_0").unwrap();
            assert!(backend.queue_get(&job(), &id, never()).unwrap().is_none());
        }),
        (ForeignKind::DeadLetters, 3, |backend| {
            let taken = backend.queue_take(
                &job(),
                &Select::eligible(),
                9,
                Duration::from_secs(9),
                None,
                never(),
            );
            assert!(taken.unwrap().is_empty());
        }),
        (ForeignKind::DeadLetters, 3, |backend| {
            let id = ItemId::new("item_0").unwrap();
            let settled = backend
                .queue_settle(&job(), &[removed(&id)], None, never())
                .unwrap();
            assert_eq!(settled, [Settled::Unknown]);
        }),
        (ForeignKind::Checkpoints, 2, |backend| {
            let scope = DocumentScope::Job(job());
            assert_eq!(
                backend
                    .list(&scope, &Default::default(), never())
                    .unwrap()
                    .entries
                    .len(),
                3
            );
        }),
        (ForeignKind::Checkpoints, 2, |backend| {
            assert!(
                backend
                    .newest(&job(), Phase::Setup, None, never())
                    .unwrap()
                    .is_some()
            );
        }),
        (ForeignKind::Checkpoints, 2, |backend| {
            assert!(
                backend
                    .newest(&job(), Phase::Map, None, never())
                    .unwrap()
                    .is_some()
            );
        }),
        (ForeignKind::EventFiles, 1, |backend| {
            drop(backend.scan(&job(), &ScanOptions::all(), never()).unwrap());
        }),
    ];
    for (number, (kind, count, read)) in reads.into_iter().enumerate() {
        let place = Place::new();
        place.write(&format!("{LOG}/old.jsonl"), "{}\n");
        let before = place.files();
        let backend = place.backend();
        read(&backend);
        read(&backend);
        assert_eq!(skipped(&backend, kind), count, "read {number}");
        let mut after = place.files();
        after.retain(|path, _| before.contains_key(path));
        assert_eq!(after, before, "read {number}");
    }
}

#[test]
fn the_counters_of_skipped_files_leave_out_those_that_were_imported() {
    let place = Place::new();
    let items = format!("dlq/shop/{JOB}/mapreduce/dlq/{JOB}/items");
    let noted = ["item_0.json", "item_1.json"].map(|name| {
        let path = Path::new(&items).join(name);
        let found = std::fs::metadata(place.root().join(&path)).unwrap();
        (path, found.len(), Timestamp::from(found.modified().unwrap()))
    });
    Doctor::new(place.options())
        .unwrap()
        .mark_imported(&noted)
        .unwrap();
    let count = || {
        let backend = place.backend();
        backend
            .queue_scan(&job(), &Select::any(), never())
            .unwrap()
            .for_each(drop);
        skipped(&backend, ForeignKind::DeadLetters)
    };
    assert_eq!(count(), 1);
    place.write(&format!("{items}/item_1.json"), "{}");
    assert_eq!(count(), 2, "the other program wrote to it again");
    // A record of imports that can't be read covers no file.
    place.write(&format!("imported/{items}/files.json"), "{");
    assert_eq!(count(), 3);
}

#[test]
fn a_list_of_orphans_or_a_checkpoint_that_is_not_read_is_no_damage() {
    let place = Place::new();
    place.write(ORPHANS, "[{\"path\":1}]");
    let map = Document::Map(job(), Stamp::parse("20261128_150000").unwrap());
    place.write(
        &format!("state/shop/mapreduce/jobs/{JOB}/map-checkpoint-20261128_150000.json"),
        "[1]",
    );
    let backend = place.backend();
    for (document, kind) in [
        (Document::Orphans(job()), ForeignKind::OrphanLists),
        (map, ForeignKind::Checkpoints),
    ] {
        let before = skipped(&backend, kind);
        for _ in 0..2 {
            let error = backend.get(&document, never()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Foreign);
        }
        assert_eq!(skipped(&backend, kind), before + 1);
    }
}

#[test]
fn dead_letters_beside_the_queue_are_skipped_and_counted() {
    for (names, count) in [
        (&["dlq-items.json"][..], 1),
        (&["index.json"], 1),
        (&["index.json", "items/a.json", "items/b.json"], 2),
    ] {
        let place = Place::new();
        let other = JobAddress::new(job().repo, JobId::new("other").unwrap());
        for name in names {
            place.write(&format!("dlq/shop/other/{name}"), "{}");
        }
        let before = place.files();
        let backend = place.backend();
        assert_eq!(
            backend
                .queue_scan(&other, &Select::any(), never())
                .unwrap()
                .count(),
            0
        );
        assert_eq!(skipped(&backend, ForeignKind::DeadLetters), count, "{names:?}");
        let (_, findings) = place.look(true);
        let letters = findings
            .iter()
            .find(|finding| finding.why.contains("dead letters"))
            .map(|finding| finding.count);
        assert_eq!(letters, Some(4 + names.len() as u64), "{findings:?}");
        assert_eq!(place.files(), before);
    }
}

#[test]
fn a_list_of_orphans_of_unknown_form_is_skipped() {
    for text in ["{\"orphaned\":[1]}", "[5]", "{}"] {
        let place = Place::new();
        place.write(ORPHANS, text);
        let backend = place.backend();
        let error = backend.get(&Document::Orphans(job()), never()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign, "{text}");
        assert_eq!(skipped(&backend, ForeignKind::OrphanLists), 1, "{text}");
    }
}

#[test]
fn a_queue_file_of_another_program_is_one_note_and_keeps_its_mode() {
    for (text, note) in [
        ("[]", "it is read"),
        ("[{\"item_id\":\"a\"}]", "it is read"),
        ("garbage", "the queue is not changed"),
        ("{\"items\":{\"a\":1}}", "the queue is not changed"),
        ("[{\"a\":1}]", "the queue is not changed"),
    ] {
        let place = Place::new();
        place.write("dlq/shop/other/items.json", text);
        let before = place.files();
        let (summary, findings) = place.look(true);
        assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
        let told: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.place.ends_with("items.json"))
            .map(|finding| finding.why.as_str())
            .collect();
        assert!(told.len() == 1 && told[0].contains(note), "{text}: {told:?}");
        assert_eq!(place.files(), before, "{text}");
    }
}

#[test]
fn a_pipe_or_a_link_under_the_name_of_another_programs_event_file_is_skipped_and_one_under_a_name_of_ours_is_an_error()
 {
    let place = Place::new();
    let (before, ..) = place.events(&ScanOptions::all());
    let folder = place.root().join("events/shop").join(JOB);
    let make = |name: &str| {
        let made = std::process::Command::new("mkfifo")
            .arg(folder.join(name))
            .status();
        assert!(made.unwrap().success());
    };
    make("events-20261128_100000.jsonl");
    std::os::unix::fs::symlink("nothing", folder.join("events-20261128_090000.jsonl")).unwrap();
    let (after, ..) = place.events(&ScanOptions::all());
    assert_eq!(after, before);
    let backend = place.backend();
    let mut scan = backend.scan(&job(), &ScanOptions::all(), never()).unwrap();
    while scan.next().unwrap().is_some() {}
    assert_eq!(skipped(&backend, ForeignKind::OtherThings), 2);
    // If a segment of this project can't be read, the scan fails: the log must not appear to be empty.
    make("events-20270115T080000.000000000Z.jsonl");
    let scan = place.backend().scan(&job(), &ScanOptions::all(), never());
    assert!(scan.map(drop).is_err());
}
