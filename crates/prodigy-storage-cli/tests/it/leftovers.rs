//! Tests of temporary files that a killed process left: the next write of the same kind removes them.

use std::path::PathBuf;

use crate::support::{Bench, SAVE, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

fn left(bench: &Bench) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".tmp-"))
    };
    tree(&bench.root()).into_iter().filter(is_temporary).collect()
}

/// Puts a file of a dead writer into each folder of the root, runs a command, and asserts that all are gone.
fn is_swept(bench: &Bench, folders: &[&str], command: &[&str], input: &str) {
    for folder in folders {
        bench.write(&format!("home/.prodigy/{folder}/.tmp-0123456789abcdef"), "half");
    }
    bench.feed(command, input).code(0);
    assert_eq!(left(bench), [] as [PathBuf; 0], "{command:?}");
}

#[test]
fn the_next_write_of_its_kind_removes_what_a_killed_one_left() {
    let bench = Bench::new();
    let append = [&["events", "append"][..], &JOB].concat();
    is_swept(&bench, &["events/shop/job"], &append, "1\n");
    is_swept(&bench, &["state/shop/mapreduce/jobs/job"], &SAVE, "1");
    let push = [&["dlq", "push"][..], &JOB].concat();
    is_swept(
        &bench,
        &["dlq/shop/job"],
        &push,
        r#"{"item_id":"a","item_data":1}"#,
    );
    let archive = bench.path("archive");
    let archive = archive.to_str().unwrap();
    bench.run(&["backup", archive]).code(0);
    let delete = ["job", "delete", "--repo", "shop", "job", "--yes"];
    is_swept(&bench, &["deletions", "deletions/shop"], &delete, "");
    let folders = [
        "deletions/shop",
        "events/shop/job",
        "state/shop/mapreduce/jobs/job",
        "dlq/shop/job",
    ];
    let restore = [&["restore", archive][..], &JOB].concat();
    is_swept(&bench, &folders, &restore, "");
    let store = bench.path("other");
    let moved = ["copy", "--to", store.to_str().unwrap(), "--yes"];
    is_swept(&bench, &["moved/jobs/shop"], &moved, "");
}

#[test]
fn a_whole_restore_removes_what_a_killed_one_left() {
    let bench = Bench::new();
    bench.append("1\n");
    bench.feed(&SAVE, "1").code(0);
    let archive = bench.path("archive");
    bench.run(&["backup", archive.to_str().unwrap()]).code(0);
    std::fs::rename(bench.root(), bench.path("home/before")).unwrap();
    is_swept(&bench, &[""], &["restore", archive.to_str().unwrap()], "");
    bench.run(&["doctor"]).code(0);
}
