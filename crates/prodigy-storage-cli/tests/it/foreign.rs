//! A root that another program wrote.

use std::path::Path;

use crate::support::{Bench, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "mapreduce-1001"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::write(to.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// The root that the Prodigy program, version 0.4.4, wrote.
fn bench() -> Bench {
    let bench = Bench::new();
    let fixture = "../prodigy-storage-file/tests/fixtures/prodigy-0.4.4";
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture),
        &bench.root(),
    );
    bench
}

#[test]
fn dead_letters_that_are_not_read_are_told_once_and_by_the_exit_code() {
    let bench = bench();
    let run = bench.run(&[&["dlq", "list"], &JOB[..]].concat()).code(6);
    assert_eq!(
        run.err.matches("3 items of another program").count(),
        1,
        "{}",
        run.err
    );
    assert!(run.err.contains("`prodigy-storage import`"), "{}", run.err);
    bench
        .feed(
            &[&["dlq", "push"], &JOB[..]].concat(),
            r#"{"item_id":"ours","item_data":1}"#,
        )
        .code(0);
    let run = bench
        .run(&[&["dlq", "list", "--json"], &JOB[..]].concat())
        .code(6);
    assert!(
        run.out.contains("\"ours\"") && !run.out.contains("item_0"),
        "{}",
        run.out
    );
}

#[test]
fn a_doctor_gives_one_line_for_each_kind_and_ends_well() {
    let bench = bench();
    let before = tree(&bench.root());
    for arguments in [&["doctor", "--json"][..], &["doctor", "--json", "--repair"]] {
        let lines = bench.run(arguments).code(0).jsonl();
        assert!(lines.len() <= 10, "{lines:?}");
        assert_eq!(lines.last().unwrap()["summary"]["damage"], 0);
    }
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn orphans_of_another_program_are_listed_and_kept() {
    let bench = bench();
    let run = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--json"])
        .code(0);
    assert!(run.out.contains("/tmp/wt/agent-1"), "{}", run.out);
}
