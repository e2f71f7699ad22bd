//! Tests of `health`, which reports problems that the next write would have.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::support::{Bench, run, within};

/// A command of the tool, with a limit on the number of open files.
fn limited(bench: &Bench, files: u32, arguments: &[&str]) -> Command {
    within(
        &format!(r#"ulimit -n {files}; exec "$0" "$@""#),
        &bench.std(arguments),
    )
}

#[test]
fn a_small_limit_of_open_files_is_named_with_the_command_that_raises_it() {
    let bench = Bench::new();
    bench.append("1\n");
    let failed = run(limited(&bench, 8, &["health"]), "").code(1);
    assert!(
        failed
            .out
            .contains("the limit of open files of this process is 8"),
        "{}",
        failed.out
    );
    assert!(failed.out.contains("ulimit -n 1024"), "{}", failed.out);
    let warned = run(limited(&bench, 64, &["health"]), "").code(0);
    assert!(warned.out.contains("warning  open files"), "{}", warned.out);
    let enough = run(limited(&bench, 256, &["health"]), "").code(0);
    assert!(!enough.out.contains("open files"), "{}", enough.out);
    // The errors of other commands name the limit, too.
    let save = limited(&bench, 8, &crate::support::SAVE);
    run(save, "{}")
        .code(1)
        .says("the limit of this process is 8")
        .says("ulimit -n 1024");
}

#[test]
fn a_damaged_entry_of_a_repository_is_found() {
    let bench = Bench::new();
    let git = Command::new("git")
        .args(["init", "-q"])
        .arg(bench.path("here"))
        .status();
    assert!(git.unwrap().success());
    bench.feed(&["events", "append", "--job", "job"], "1\n").code(0);
    bench.run(&["health"]).code(0);
    let entry = bench.root().join("state/here/repository.json");
    let whole = fs::read_to_string(&entry).unwrap();
    for damage in ["", "xx", &whole[..whole.len() / 2]] {
        fs::write(&entry, damage).unwrap();
        let health = bench.run(&["health"]).code(1);
        assert!(
            health.out.contains("failure  repositories") && health.out.contains("here/repository.json"),
            "{damage}: {}",
            health.out
        );
    }
    fs::write(&entry, whole).unwrap();
    bench.run(&["health"]).code(0);
}

#[test]
fn a_damaged_note_of_deleted_logs_is_found() {
    let bench = Bench::new();
    bench.append("1\n");
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    let note = bench.root().join("deletions/shop.json");
    assert!(note.exists());
    fs::write(&note, "{").unwrap();
    let append = ["events", "append", "--repo", "shop", "--job", "new"];
    bench.feed(&append, "1\n").code(5);
    let health = bench.run(&["health"]).code(1);
    assert!(health.out.contains("deletions/shop.json"), "{}", health.out);
}

/// A process that has appended an event and keeps its handle until it is dropped.
struct Writer(Child);

impl Writer {
    fn at_work(bench: &Bench) -> Self {
        let words = [
            "events", "append", "--repo", "shop", "--job", "busy", "--batch", "1", "--ack",
        ];
        let mut child = bench
            .std(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"1\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty());
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_without_file_locks_and_another_one_are_refused_and_health_says_so() {
    let without = "PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_FILE_LOCKS";
    let push = ["dlq", "push", "--repo", "shop", "--job", "other"];
    let item = "{\"item_id\":\"a\",\"item_data\":1}\n";
    for writer_has_locks in [true, false] {
        let set = |has_locks: bool, bench: Bench| bench.with(without, &has_locks.to_string());
        let bench = set(writer_has_locks, Bench::new());
        bench.append("1\n");
        let writer = Writer::at_work(&bench);
        let bench = set(!writer_has_locks, bench);
        let health = bench.run(&["health"]).code(1);
        assert!(
            health.out.contains("enable_file_locks"),
            "{writer_has_locks}: {}",
            health.out
        );
        bench.feed(&push, item).code(3).says("enable_file_locks");
        drop(writer);
        bench.run(&["health"]).code(0);
        bench.feed(&push, item).code(0);
    }
}
