//! Copies that are made again after the source, or the target, was changed.

use super::*;
use crate::documents::Documents;

fn kept() -> CopyOptions {
    CopyOptions::new().keep_source(true)
}

fn flows(storage: &Storage) -> Documents {
    storage.repo("shop").unwrap().documents("workflows").unwrap()
}

#[test]
fn a_copy_loses_nothing_that_the_source_has_lost() {
    for whole in [false, true] {
        let folders = Folders::new();
        let source = folders.at("source").open().unwrap();
        fill(&source);
        job(&source).finish().unwrap();
        source.copy_to(folders.at("copy"), kept()).unwrap();
        let copy = folders.at("copy").open().unwrap();
        let before = contents(&copy, true);
        flows(&source).delete("nightly", DocumentOptions::new()).unwrap();
        match whole {
            // Another store got the path of the source, or the source lost the job.
            true => assert!(job(&source).delete().unwrap()),
            false => acknowledge(&job(&source)),
        }
        let report = source.copy_to(folders.at("copy"), kept()).unwrap();
        assert_eq!(report.refused.len(), usize::from(!whole), "{:?}", report.refused);
        assert_eq!(contents(&copy, true), before);
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
fn a_copy_that_is_refused_before_it_stores_anything_leaves_no_mark() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    copy_whole(&source, folders.at("copy"));
    let copy = folders.at("copy").open().unwrap();
    append(&job(&copy), &[given(20)]);
    job(&copy).finish().unwrap();
    let before = contents(&copy, true);
    for options in [CopyOptions::new(), kept()] {
        let report = source.copy_to(folders.at("copy"), options).unwrap();
        assert_eq!(report.refused.len(), 1, "{:?}", report.refused);
        assert!(begun::checks(&copy).is_empty(), "{:?}", begun::checks(&copy));
    }
    assert_eq!(contents(&copy, true), before);
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
