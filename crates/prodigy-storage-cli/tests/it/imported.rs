//! Tests of files that another program wrote into the root of this store, after their import.

use std::fs;
use std::path::{Path, PathBuf};

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
fn the_doctor_names_imported_files_which_a_person_may_move_away() {
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
        assert!(finding["command"].is_null(), "{finding}");
        fs::remove_file(finding["place"].as_str().unwrap()).unwrap();
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

#[test]
fn no_command_of_the_doctor_moves_what_another_program_may_still_use() {
    for begins in [
        &["events", "append", "--repo", "mill", "--job", "j"][..],
        &["import", "ROOT"],
    ] {
        let bench = bench();
        bench.write("home/.prodigy/logs/run.txt", "mine");
        let root = bench.root().display().to_string();
        let begins: Vec<_> = begins.iter().map(|word| word.replace("ROOT", &root)).collect();
        let begins: Vec<_> = begins.iter().map(String::as_str).collect();
        bench.feed(&begins, "1\n").code(0);
        for verbose in [&["doctor"][..], &["doctor", "--verbose"]] {
            let doctor = bench.run(verbose).code(0).out;
            assert!(!doctor.contains("mv "), "{doctor}");
            let stray = doctor.matches("note     stray").count();
            assert_eq!(stray, 1, "{doctor}");
            assert!(
                doctor.contains("another program keeps files in this folder"),
                "{doctor}"
            );
        }
        // The sessions and the locks are files that an import knows.
        let findings = bench.run(&["doctor", "--verbose", "--json"]).jsonl();
        for folder in ["/sessions/", "/resume_locks/"] {
            let found = findings
                .iter()
                .filter(|line| line["place"].as_str().is_some_and(|at| at.contains(folder)));
            let kinds: Vec<_> = found.map(|line| line["kind"].as_str().unwrap()).collect();
            // A lock has no contents that an import stores.
            let wanted = match (begins[0], folder) {
                ("import", "/sessions/") => "imported",
                _ => "foreign",
            };
            assert_eq!(kinds, [wanted], "{findings:?}");
        }
    }
}
