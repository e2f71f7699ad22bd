//! Copies that are made again after the source, or the target, was changed.

use super::*;
use crate::documents::Documents;

fn kept() -> CopyOptions {
    CopyOptions::new().keep_source(true)
}

fn flows(storage: &Storage) -> Documents {
    storage.repo("shop").unwrap().documents("workflows").unwrap()
}

/// Changes a job in every way in which ordinary work changes it, except that no event is removed.
fn work(source: &Storage, between: &Cursor) {
    let job = job(source);
    let oldest = job.checkpoints().list().next().unwrap().unwrap().id;
    job.checkpoints().delete(&oldest).unwrap();
    job.checkpoints()
        .save_map(
            &json!({"saved": "between"}),
            SaveOptions::new().cursor(between.clone()),
        )
        .unwrap();
    append(&job, &[given(20)]);
    job.documents("notes")
        .unwrap()
        .delete("one", DocumentOptions::new())
        .unwrap();
    acknowledge(&job);
    let letter = DeadLetter::new(ItemId::new("new").unwrap(), json!({"of": "new"}));
    job.dlq().push(&letter).unwrap();
    job.finish().unwrap();
}

#[test]
fn a_copy_that_is_made_again_is_as_one_that_is_made_once() {
    for keep_source in [true, false] {
        let folders = Folders::new();
        let source = folders.at("source").open().unwrap();
        fill(&source);
        append(&job(&source), &[given(13)]);
        let between = job(&source).events().end().unwrap();
        append(&job(&source), &[given(14)]);
        job(&source).finish().unwrap();
        source.copy_to(folders.at("copy"), kept()).unwrap();
        work(&source, &between);
        flows(&source).delete("nightly", DocumentOptions::new()).unwrap();
        let report = source
            .copy_to(folders.at("copy"), kept().keep_source(keep_source))
            .unwrap();
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        source.reopen(&Part::Store).unwrap();
        source.copy_to(folders.at("once"), kept()).unwrap();
        let [copy, once] = ["copy", "once"].map(|name| contents(&folders.at(name).open().unwrap(), true));
        assert_eq!(copy, once);
    }
}

#[test]
fn a_copy_that_was_written_to_or_has_removed_events_is_not_replaced_and_the_way_out_is_named() {
    for is_written_to in [true, false] {
        let folders = Folders::new();
        let source = folders.at("source").flag("backend_config.max_file_size", "64KB");
        let source = source.open().unwrap();
        append(&job(&source), &[given(1)]);
        job(&source).finish().unwrap();
        append(&job(&source), &[given(2)]);
        job(&source).finish().unwrap();
        source.copy_to(folders.at("copy"), kept()).unwrap();
        let copy = folders.at("copy").open().unwrap();
        if is_written_to {
            let letter = DeadLetter::new(ItemId::new("of the copy").unwrap(), 1);
            job(&copy).dlq().push(&letter).unwrap();
        } else {
            assert_eq!(
                job(&source)
                    .events()
                    .remove_before(Timestamp::MAX)
                    .unwrap()
                    .segments,
                1
            );
        }
        let left = contents(&copy, true);
        let report = source.copy_to(folders.at("copy"), kept()).unwrap();
        let refused = &report.refused[0].1;
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        let command = format!(
            "prodigy-storage --base-dir {} job delete job-1 --repo shop --yes",
            folders.0.path().join("copy").display()
        );
        assert!(refused.hint().unwrap().contains(&command), "{refused:?}");
        assert_eq!(contents(&copy, true), left);
        assert!(job(&copy).delete().unwrap());
        let report = source.copy_to(folders.at("copy"), kept()).unwrap();
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        assert_eq!(contents(&copy, true), contents(&source, true));
    }
}

#[test]
fn each_store_has_an_audit_log_of_its_own_and_a_move_takes_it_along() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    append(&audit(&source), &[given(1), given(5)]);
    source.copy_to(folders.at("copy"), kept()).unwrap();
    let copy = folders.at("copy").open().unwrap();
    append(&audit(&copy), &[given(3), given(7)]);
    append(&audit(&source), &[given(2), given(9)]);
    drop(copy);
    for _ in 0..2 {
        let report = copy_whole(&source, folders.at("copy"));
        assert_eq!(report.marked.last(), Some(&Part::Store));
        let copy = folders.at("copy").open().unwrap();
        assert_eq!(ids(&audit(&copy), None), [1, 2, 3, 5, 7, 9].map(given));
    }
}

#[test]
fn a_document_of_a_repository_that_goes_between_two_copies_is_in_no_copy() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    let put = |storage: &Storage, name: &str, body: &str| {
        flows(storage).put(name, &body, DocumentOptions::new()).unwrap();
    };
    let names = |storage: &Storage| -> Vec<String> {
        let all = flows(storage).list();
        all.map(|info| info.unwrap().name.to_string()).collect()
    };
    let mut calls = 0;
    loop {
        source.reopen(&Part::Store).unwrap();
        for name in ["changed", "gone", "known", "used"] {
            put(&source, name, "old");
        }
        let store = memory();
        let target = over(Arc::clone(&store)).open().unwrap();
        // These were in the target before.
        put(&target, "known", "old");
        put(&target, "own", "own");
        let dying = Arc::new(Through::dying(Arc::clone(&store), calls));
        let first = source.copy_to(over(dying), kept());
        put(&source, "changed", "new");
        for name in ["gone", "known", "used"] {
            flows(&source).delete(name, DocumentOptions::new()).unwrap();
        }
        put(&target, "used", "changed in the target");
        let dying = Arc::new(Through::dying(Arc::clone(&store), calls / 2));
        _ = source.copy_to(over(dying), kept());
        copy_whole(&source, over(Arc::clone(&store)));
        assert_eq!(
            names(&target),
            ["changed", "known", "own", "used"],
            "after {calls} calls"
        );
        assert_eq!(
            flows(&target).get::<String>("changed").unwrap().unwrap().data,
            "new"
        );
        if first.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 20, "the copy took only {calls} calls");
}

#[test]
fn a_document_that_was_changed_after_its_move_stays_as_it_is() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    copy_whole(&source, folders.at("copy"));
    let copy = folders.at("copy").open().unwrap();
    flows(&copy)
        .put("nightly", &["test"], DocumentOptions::new())
        .unwrap();
    copy_whole(&source, folders.at("copy"));
    let there = flows(&copy).get::<Vec<String>>("nightly").unwrap().unwrap();
    assert_eq!(there.data, ["test"]);
}

#[test]
fn a_copy_that_is_made_again_removes_the_temporary_files_of_one_that_was_killed() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    source.copy_to(folders.at("copy"), kept()).unwrap();
    let root = folders.0.path().join("copy");
    let left = [
        "events/shop/job-1",
        "dlq/shop/job-1",
        "state/shop/mapreduce/jobs/job-1",
        "state/shop/mapreduce/jobs/job-1/documents/notes",
    ]
    .map(|folder| root.join(folder).join(".tmp-0123"));
    for file in &left {
        std::fs::write(file, "half").unwrap();
    }
    source.copy_to(folders.at("copy"), kept()).unwrap();
    for file in &left {
        assert!(!file.exists(), "{}", file.display());
    }
}
