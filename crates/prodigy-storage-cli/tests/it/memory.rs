//! `backend: memory` through the tool, and places without a current folder.

use crate::support::{Bench, run};

const EVERY_READING_COMMAND: [&[&str]; 8] = [
    &["events", "cat", "--repo", "shop", "--job", "job"],
    &["events", "stats", "--repo", "shop", "--job", "job"],
    &["dlq", "list", "--repo", "shop", "--job", "job"],
    &["checkpoint", "list", "--repo", "shop", "--job", "job"],
    &["worktree", "orphans", "--repo", "shop"],
    &["lock", "list"],
    &["health"],
    &["usage"],
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
