//! Tests of commands that change all items that their filters select.

use super::{fail, listed, of, push, take};
use crate::support::Bench;

fn bench() -> Bench {
    let bench = Bench::new();
    for id in ["t1", "t2", "t3"] {
        fail(&bench, id, "Timeout", "no answer", "2026-11-01T10:00:00Z");
    }
    push(&bench, &["a"]);
    bench
}

#[test]
fn a_purge_counts_and_removes_only_on_demand() {
    let bench = bench();
    take(&bench, &["t2"]);
    let purge = ["--error-type", "Timeout", "--older-than", "1d"];
    let plan = bench.run(&of("purge", &purge)).code(0);
    assert_eq!(plan.out, "2 items would be removed\n");
    plan.says("add `--yes`").says("1 item taken by others");
    assert_eq!(listed(&bench, &[]), ["t1", "t2", "t3", "a"]);
    let plan = bench
        .run(&of("purge", &[&purge[..], &["--json"]].concat()))
        .code(0)
        .json();
    assert_eq!(plan, serde_json::json!({"would_remove": 2, "taken": 1}));
    let done = bench
        .run(&of("purge", &[&purge[..], &["--yes"]].concat()))
        .code(0);
    assert_eq!(done.out, "2 items removed\n");
    done.says("1 item taken by others");
    assert_eq!(listed(&bench, &[]), ["t2", "a"]);
}

#[test]
fn a_purge_says_which_items() {
    let bench = bench();
    bench.run(&of("purge", &["--yes"])).code(2).says("--any");
    assert_eq!(listed(&bench, &[]).len(), 4);
    let done = bench.run(&of("purge", &["a", "--yes", "--json"])).code(0).json();
    assert_eq!(done, serde_json::json!({"removed": 1, "changed": 0, "taken": 0}));
    bench.run(&of("purge", &["--any", "--yes"])).code(0);
    assert!(listed(&bench, &[]).is_empty());
}

#[test]
fn items_are_parked_and_unparked_by_filters() {
    let bench = bench();
    bench.run(&of("park", &[])).code(2).says("filters");
    bench.run(&of("park", &["a", "--error-type", "Timeout"])).code(2);
    bench.run(&of("unpark", &[])).code(2).says("--parked");
    let told = bench
        .run(&of("park", &["--error-type", "Timeout", "--reason", "later"]))
        .code(0);
    assert_eq!(told.out, "3 items parked\n");
    assert_eq!(listed(&bench, &["--parked"]), ["t1", "t2", "t3"]);
    assert_eq!(super::show(&bench, "t3")["parked_reason"], "later");
    // Items that are not parked are not selected for `unpark`.
    let told = bench.run(&of("unpark", &["--attempts", "1"])).code(0);
    assert_eq!(told.out, "3 items unparked\n");
    assert!(listed(&bench, &["--parked"]).is_empty());
    bench.run(&of("park", &["t1"])).code(0);
    assert_eq!(
        bench.run(&of("unpark", &["--parked"])).code(0).out,
        "1 item unparked\n"
    );
}

#[test]
fn more_items_than_one_write_takes_are_changed() {
    let bench = Bench::new();
    let ids: Vec<String> = (0..1100).map(|number| format!("i{number}")).collect();
    push(&bench, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        bench.run(&of("purge", &["--attempts", "1", "--yes"])).code(0).out,
        "1100 items removed\n"
    );
    assert!(listed(&bench, &[]).is_empty());
}
