//! Tests of files that another program wrote into the root of this store, after their import.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "mapreduce-1001"];
const OTHER_JOB: [&str; 4] = ["--repo", "shop", "--job", "mapreduce-1795871086268"];

/// Commands that list data, each with the job in which it skips files of another program.
const LISTINGS: [(&[&str], [&str; 4]); 7] = [
    (&["dlq", "list"], JOB),
    (&["dlq", "export"], JOB),
    (&["events", "cat"], JOB),
    (&["events", "stats"], JOB),
    (&["checkpoint", "list"], JOB),
    (&["checkpoint", "show"], JOB),
    (&["checkpoint", "list"], OTHER_JOB),
];

fn copy(from: &Path, to: &Path) {
    for path in tree(from).into_iter().filter(|path| path.is_file()) {
        let to = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../prodigy-storage-file/tests/fixtures/prodigy-0.4.4")
}

/// A root that the Prodigy program (version 0.4.4) wrote, with an event file whose name is not a segment's name.
fn bench() -> Bench {
    let bench = Bench::new();
    copy(&fixture(), &bench.root());
    bench.write(
        "home/.prodigy/events/shop/mapreduce-1001/kept.jsonl",
        "{\"timestamp\":\"2026-11-28T15:00:00Z\",\"event\":{\"kept\":1}}\n",
    );
    bench
}

fn codes(bench: &Bench) -> Vec<Option<i32>> {
    let run = |(arguments, job): &(&[&str], [&str; 4])| bench.run(&[*arguments, &job[..]].concat()).code;
    LISTINGS.iter().map(run).collect()
}

#[test]
fn no_listing_reports_files_whose_contents_were_imported() {
    for of_a_copy in [false, true] {
        let bench = bench();
        assert_eq!(codes(&bench), [Some(6); LISTINGS.len()]);
        let root = bench.root();
        let before = tree(&root);
        let path = match of_a_copy {
            true => bench.path("copy"),
            false => root.clone(),
        };
        if of_a_copy {
            copy(&root, &path);
        }
        let path = path.to_str().unwrap();
        bench
            .run(&["import", path])
            .code(0)
            .says("readers read them where they are");
        assert_eq!(codes(&bench), [Some(0); LISTINGS.len()], "a copy: {of_a_copy}");
        let events = bench.run(&[&["events", "cat"], &JOB[..]].concat()).jsonl();
        assert_eq!(events.len(), 15, "what is read in the root is not stored twice");
        let letters = bench.run(&[&["dlq", "export"], &JOB[..]].concat()).jsonl();
        assert_eq!(letters.len(), 3);
        let after = tree(&root);
        assert!(before.iter().all(|path| after.contains(path)));
        // A second import stores nothing and changes nothing.
        bench.run(&["import", path]).code(0);
        assert_eq!(
            bench.run(&[&["events", "cat"], &JOB[..]].concat()).jsonl().len(),
            15
        );
        assert_eq!(codes(&bench), [Some(0); LISTINGS.len()]);
    }
}

#[test]
fn a_file_that_was_written_to_after_its_import_is_reported_again() {
    let bench = bench();
    bench.run(&["import", bench.root().to_str().unwrap()]).code(0);
    let item = "dlq/shop/mapreduce-1001/mapreduce/dlq/mapreduce-1001/items/item_9.json";
    bench.write(
        &format!("home/.prodigy/{item}"),
        r#"{"item_id":"item_9","item_data":1}"#,
    );
    let list = [&["dlq", "list"], &JOB[..]].concat();
    bench.run(&list).code(6).says("1 dead letter of another program");
    bench.run(&["import", bench.root().to_str().unwrap()]).code(0);
    bench.run(&list).code(0);
    bench.write(
        &format!("home/.prodigy/{item}"),
        r#"{"item_id":"item_9","item_data":22}"#,
    );
    bench.run(&list).code(6).says("1 dead letter of another program");
}

#[test]
fn what_an_import_left_out_is_reported_as_before() {
    let bench = bench();
    let items = "dlq/shop/mapreduce-1001/mapreduce/dlq/mapreduce-1001/items";
    bench.write(&format!("home/.prodigy/{items}/item_9.json"), r#"{"item_id":7}"#);
    bench
        .run(&["import", bench.root().to_str().unwrap()])
        .code(1)
        .says("item_9.json");
    let list = [&["dlq", "list"], &JOB[..]].concat();
    bench.run(&list).code(6).says("1 dead letter of another program");
}

#[test]
fn dead_letters_that_dlq_import_read_are_not_reported_again() {
    let bench = bench();
    let folder = "dlq/shop/mapreduce-1001/mapreduce/dlq/mapreduce-1001/items";
    let files =
        ["item_0.json", "item_1.json", "item_2.json"].map(|name| bench.root().join(folder).join(name));
    let mut import = [&["dlq", "import"], &JOB[..]].concat();
    import.extend(files.iter().map(|file| file.to_str().unwrap()));
    bench.run(&import).code(0).says("");
    for command in ["list", "export", "analyze"] {
        bench.run(&[&["dlq", command], &JOB[..]].concat()).code(0);
    }
    // An acknowledged dead letter does not come back.
    bench
        .run(&[&["dlq", "remove", "item_0"], &JOB[..]].concat())
        .code(0);
    bench.run(&[&["dlq", "list"], &JOB[..]].concat()).code(0);
}

#[test]
fn the_doctor_names_imported_files_and_the_command_that_moves_each_away() {
    let bench = bench();
    bench.run(&["import", bench.root().to_str().unwrap()]).code(0);
    let shown = bench.run(&["doctor"]).code(0);
    assert_eq!(
        shown.out.matches("note     imported (").count(),
        1,
        "{}",
        shown.out
    );
    let findings = bench.run(&["doctor", "--json"]).code(0).jsonl();
    let imported: Vec<_> = findings
        .iter()
        .filter(|line| line["kind"] == "imported")
        .collect();
    assert!(imported.len() > 5, "{findings:?}");
    for finding in imported {
        let moved = Command::new("sh")
            .arg("-c")
            .arg(finding["command"].as_str().unwrap())
            .status();
        assert!(moved.unwrap().success());
        assert!(!Path::new(finding["place"].as_str().unwrap()).exists());
    }
    let shown = bench.run(&["doctor"]).code(0);
    assert_eq!(shown.out.matches("imported").count(), 0, "{}", shown.out);
    assert_eq!(codes(&bench), [Some(0); LISTINGS.len()]);
}

#[test]
fn the_root_is_not_imported_under_another_name() {
    let bench = bench();
    let root = bench.root();
    bench
        .run(&["import", root.to_str().unwrap(), "--repo", "other"])
        .code(2)
        .says("the root of the store itself");
    let dry = bench
        .run(&["import", root.to_str().unwrap(), "--dry-run"])
        .code(0);
    assert!(!root.join("imported").exists(), "{}", dry.err);
    assert_eq!(codes(&bench), [Some(6); LISTINGS.len()]);
}
