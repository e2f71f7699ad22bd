//! Tests of the tool with `backend: memory`, and of runs without a current folder.

use crate::support::{Bench, run};

const EVERY_READING_COMMAND: [&[&str]; 16] = [
    &["events", "cat", "--repo", "shop", "--job", "job"],
    &["events", "stats", "--repo", "shop", "--job", "job"],
    &["dlq", "list", "--repo", "shop", "--job", "job"],
    &["checkpoint", "list", "--repo", "shop", "--job", "job"],
    &["worktree", "orphans", "--repo", "shop"],
    &["lock", "list"],
    &["health"],
    &["usage"],
    &["doctor"],
    &[
        "events", "follow", "--repo", "shop", "--job", "job", "--for", "0s",
    ],
    &["dlq", "analyze", "--repo", "shop", "--job", "job"],
    &["dlq", "export", "--repo", "shop", "--job", "job"],
    &["dlq", "redrive", "--dry-run", "--repo", "shop", "--job", "job"],
    &["worktree", "list", "--repo", "shop"],
    &["repo", "identify"],
    &["report", "--repo", "shop", "--output", "../page.html"],
];

#[test]
fn memory_without_a_snapshot_warns_that_nothing_is_kept() {
    let bench = Bench::new().with("PRODIGY_STORAGE_TYPE", "memory");
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    let run = bench.feed(&append, "1\n").code(0).says("nothing is kept");
    assert_eq!(run.err.matches("nothing is kept").count(), 1, "{}", run.err);
    bench.run(&["config", "check"]).code(0).says("nothing is kept");
}

#[test]
fn a_job_in_a_snapshot_is_not_active() {
    let bench = Bench::of_memory();
    bench.append("1\n");
    let listed = bench.run(&["job", "list", "--json", "--repo", "shop"]).code(0);
    assert_eq!(listed.json()["state"], "open", "{}", listed.out);
    bench
        .run(&["job", "delete", "--repo", "shop", "job", "--yes"])
        .code(0);
}

#[test]
fn every_reading_command_reads_a_snapshot() {
    let bench = Bench::of_memory();
    bench.append("1\n");
    let before = std::fs::read(bench.path("store.jsonl")).unwrap();
    for command in EVERY_READING_COMMAND {
        let run = bench.run(command).code(0);
        assert!(!run.err.contains("nothing is kept"), "{}", run.err);
    }
    assert_eq!(bench.run(EVERY_READING_COMMAND[0]).lines().len(), 1);
    assert_eq!(std::fs::read(bench.path("store.jsonl")).unwrap(), before);
}

#[test]
fn a_current_folder_that_is_gone_stops_no_command_with_an_absolute_place() {
    let bench = Bench::new();
    let root = bench.path("elsewhere");
    let gone = bench.path("gone");
    std::fs::create_dir(&gone).unwrap();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = format!(
        "rmdir {} && exec {tool} usage --base-dir {}",
        gone.display(),
        root.display()
    );
    let mut command = std::process::Command::new("sh");
    command
        .env_clear()
        .env("HOME", bench.path("home"))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(&gone)
        .args(["-c", &script]);
    run(command, "").code(0);
}

#[test]
fn the_doctor_examines_a_snapshot() {
    let bench = Bench::of_memory();
    bench.run(&["doctor"]).code(0);
    bench.append("1\n2\n");
    let summary = bench.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(
        (&summary["summary"]["events"], &summary["summary"]["files"]),
        (&2.into(), &1.into())
    );
    bench
        .run(&["doctor", "--job", "other"])
        .code(4)
        .says("no job `other` in the repository `here`");
    let file = bench.path("store.jsonl");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    for arguments in [&["doctor"][..], &["doctor", "--repair"]] {
        let run = bench.run(arguments).code(5);
        assert!(run.out.contains("store.jsonl"), "{}", run.out);
        assert!(run.out.contains("1 found, 1 left"), "{}", run.out);
    }
    // The damaged snapshot is never changed.
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}
