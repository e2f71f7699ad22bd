//! Tests of `dlq export` and `dlq import`.

use std::path::{Path, PathBuf};

use super::{fail, listed, of, push, show, take};
use crate::support::Bench;

/// Dead letters that the Prodigy program, version 0.4.4, wrote: one pretty-printed file per item.
fn of_prodigy() -> Vec<PathBuf> {
    let folder = "../prodigy-storage-file/tests/fixtures/prodigy-0.4.4/dlq/shop/mapreduce-1001/mapreduce/dlq/mapreduce-1001/items";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn an_export_has_no_leases_and_is_imported_as_it_was() {
    let bench = Bench::new();
    fail(&bench, "a", "Timeout", "late", "2026-11-28T10:00:00Z");
    fail(&bench, "b", "Access", "denied", "2026-11-28T11:00:00Z");
    push(&bench, &["c"]);
    bench.run(&of("park", &["b", "--reason", "no key"])).code(0);
    take(&bench, &["a", "--lease", "1h"]);
    let exported = bench.run(&of("export", &[])).code(0);
    assert_eq!(exported.lines().len(), 3);
    assert!(
        !exported.out.contains("lease_") && !exported.out.contains("queue_"),
        "{}",
        exported.out
    );
    assert_eq!(
        bench
            .run(&of("export", &["--error-type", "Access"]))
            .code(0)
            .lines()
            .len(),
        1
    );
    let file = bench.write("letters.jsonl", &exported.out);
    let into = |job: &'static str| {
        [
            "dlq",
            "import",
            "--repo",
            "shop",
            "--job",
            job,
            file.to_str().unwrap(),
        ]
        .map(str::to_owned)
    };
    let told = bench.run(&into("other").each_ref().map(String::as_str)).code(0);
    assert_eq!(told.out, "3 items added, 0 merged\n");
    let other = bench
        .run(&["dlq", "export", "--repo", "shop", "--job", "other"])
        .code(0);
    assert_eq!(other.out, exported.out);
    // A second import adds nothing: the failures are known.
    bench.run(&into("other").each_ref().map(String::as_str)).code(0);
    let again = bench
        .run(&["dlq", "export", "--repo", "shop", "--job", "other", "a", "b"])
        .code(0);
    assert_eq!(again.out, exported.lines()[..2].join("\n") + "\n");
}

#[test]
fn the_items_of_prodigy_are_imported() {
    let bench = Bench::new();
    let files = of_prodigy();
    assert_eq!(files.len(), 3);
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let told = bench.run(&of("import", &files)).code(0);
    assert_eq!(told.out, "3 items added, 0 merged\n");
    assert_eq!(listed(&bench, &[]), ["item_0", "item_1", "item_2"]);
    let item = show(&bench, "item_0");
    assert_eq!(
        (&item["failure_count"], &item["item_data"]["file"]),
        (&2.into(), &"src/0.rs".into())
    );
    assert!(
        bench
            .run(&of("list", &["item_0"]))
            .code(0)
            .out
            .contains("Timeout: went wrong")
    );
    // The last item is parked.
    assert_eq!(listed(&bench, &["--parked"]), ["item_2"]);
    assert_eq!(take(&bench, &["--all"]).len(), 2);
}

#[test]
fn lines_arrays_and_pretty_printed_objects_are_imported_from_a_pipe_and_files() {
    let bench = Bench::new();
    let array = bench.write(
        "array.json",
        "[\n{\"item_id\":\"b\",\"item_data\":1},\n{\"item_id\":\"c\",\n \"item_data\":1}\n]\n",
    );
    let input = "{\"item_id\":\"a\",\"item_data\":1}\n{\n  \"item_id\": \"d\",\n  \"item_data\": {\n    \"x\": 1\n  }\n}\n";
    let told = bench
        .feed(&of("import", &[array.to_str().unwrap(), "-", "--json"]), input)
        .code(0)
        .json();
    assert_eq!(
        told,
        serde_json::json!({"added": 4, "merged": 0, "known": 0, "refused": 0})
    );
    assert_eq!(listed(&bench, &[]), ["b", "c", "a", "d"]);
    let told = bench
        .feed(&of("import", &[]), "{\"item_id\":\"a\",\"item_data\":2}\n")
        .code(0);
    assert_eq!(told.out, "0 items added, 1 merged\n");
}

#[test]
fn a_value_that_is_no_item_is_reported_with_file_and_line_and_the_others_are_imported() {
    let bench = Bench::new();
    let file = bench.write(
        "mixed.jsonl",
        "{\"item_id\":\"a\",\"item_data\":1}\n7\n{\"item_data\":1}\n{\"item_id\":\"b\",\"item_data\":\n{\"item_id\":\"c\",\"item_data\":1}\n{\"item_id\":\"d\",\"item_data\":1,\"failure_count\":\"x\"}\n{\"item_id\":\"e\",\"item_data\":1}\n",
    );
    let path = file.to_str().unwrap();
    let told = bench.run(&of("import", &["no-such-file", path])).code(1);
    assert_eq!(told.out, "3 items added, 0 merged, 5 refused\n");
    let mut told = told.says("no-such-file");
    for (line, why) in [
        (2, "an item is a JSON object"),
        (3, "`item_id` is missing"),
        (4, "the object does not end"),
        (6, "`failure_count`"),
    ] {
        told = told.says(&format!("{path}: line {line}")).says(why);
    }
    assert_eq!(listed(&bench, &[]), ["a", "c", "e"]);
}

#[test]
fn an_item_over_the_limit_is_reported_and_the_others_are_imported() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_RECORD_SIZE", "2000");
    let large = "x".repeat(10_000);
    let input = format!(
        "{{\"item_id\":\"a\",\"item_data\":1}}\n{{\"item_id\":\"b\",\"item_data\":\"{large}\"}}\n{{\"item_id\":\"c\",\"item_data\":1}}\n"
    );
    let told = bench
        .feed(&of("import", &[]), input)
        .code(1)
        .says("line 2")
        .says("max_record_size");
    assert_eq!(told.out, "2 items added, 0 merged, 1 refused\n");
    assert_eq!(listed(&bench, &[]), ["a", "c"]);
}

#[test]
fn a_file_that_can_not_be_read_keeps_no_other_one() {
    let bench = Bench::new();
    let folder = bench.path("here");
    let item = |name: &str| bench.write(name, format!(r#"{{"item_id":"{name}","item_data":1}}"#));
    let (a, b) = (item("a"), item("b"));
    let files = [
        a.to_str().unwrap(),
        folder.to_str().unwrap(),
        "missing",
        b.to_str().unwrap(),
    ];
    let import = ["dlq", "import", "--repo", "shop", "--job", "job"];
    bench
        .run(&[&import[..], &files].concat())
        .code(1)
        .says("read missing")
        .prints("2 items added, 0 merged, 2 refused");
}
