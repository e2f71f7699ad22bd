//! Tests of `health`, which reports problems that the next write would have.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::support::{Bench, run, within};

/// Waits for the first line that a process prints.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

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
        let line = first_line(&mut child);
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

/// A process that holds the lock of the queue `shop/job`, and its id. Without `flock`, prints a notice and returns `None`.
#[cfg(target_os = "linux")]
fn holder(bench: &Bench) -> Option<(Child, u32)> {
    let lock = bench.root().join("dlq/shop/job/items.lock");
    let mut command = Command::new("flock");
    command.arg(&lock).args(["sh", "-c", "echo held; exec cat"]);
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        eprintln!("SKIPPED: this machine has no `flock`");
        return None;
    };
    let line = first_line(&mut child);
    assert_eq!(line, "held\n");
    let pid = child.id();
    Some((child, pid))
}

/// A store with the item `a` in the queue of `shop/job`.
#[cfg(target_os = "linux")]
fn with_item() -> Bench {
    let bench = Bench::new();
    let item = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench
        .feed(&["dlq", "push", "--repo", "shop", "--job", "job"], item)
        .code(0);
    bench
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_that_holds_a_lock_of_the_store_for_long_or_is_stopped_is_a_problem() {
    let bench = with_item();
    let Some((mut child, pid)) = holder(&bench) else {
        return;
    };
    let looks = ["status", "health", "doctor"];
    for look in looks {
        let shown = bench.run(&[look]).out;
        assert!(!shown.contains("items.lock"), "{shown}");
    }
    // The holder signed the lock long ago.
    let lock = bench.root().join("dlq/shop/job/items.lock");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let line = format!(
        "{{\"pid\":{pid},\"host\":\"{}\",\"since\":\"2026-01-01T00:00:00Z\",\"purpose\":\"compact\"}}\n",
        host.trim()
    );
    fs::write(&lock, line).unwrap();
    for look in looks {
        let shown = bench.run(&[look]).code(0);
        let shown = shown
            .prints("warning  lock: ")
            .prints("dlq/shop/job/items.lock is held by process");
        shown
            .prints("since 2026-01-01")
            .prints("(compact)")
            .prints(&format!("kill {pid}"));
    }
    crate::support::send("STOP", pid);
    let go_on = format!("kill -CONT {pid}");
    for look in looks {
        let shown = bench
            .run(&[look])
            .prints("failure  lock: ")
            .prints("which is stopped");
        assert!(shown.out.contains(&format!("run: {go_on}\n")), "{}", shown.out);
    }
    bench.run(&["health"]).code(1);
    crate::planted::shell(&bench, &go_on).code(0);
    assert!(!bench.run(&["health"]).code(0).out.contains("stopped"));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!bench.run(&["health"]).code(0).out.contains("lock: "));
}

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_holder_of_a_named_lock_is_a_problem_with_its_command() {
    let bench = Bench::new();
    let mut command = bench.std(["lock", "run", "l", "--", "sh", "-c", "echo held; exec cat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    first_line(&mut child);
    assert!(!bench.run(&["health"]).code(0).out.contains("lock: "));
    crate::support::send("STOP", child.id());
    for look in ["status", "health", "doctor"] {
        let shown = bench.run(&[look]).code(0).prints("warning  lock: ");
        shown.prints(&format!("run: kill -CONT {}\n", child.id()));
    }
    crate::support::send("CONT", child.id());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_process_that_inherited_a_lock_is_a_problem_and_each_process_once() {
    let bench = Bench::new();
    let mut command = bench.std(["lock", "run", "l", "--", "sh", "-c", "echo $$; exec cat"]);
    let mut parent = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let child: u32 = first_line(&mut parent).trim().parse().unwrap();
    let is_named = |pid: u32, count: usize| {
        for look in ["status", "health", "doctor"] {
            let shown = bench.run(&[look]).code(0).out;
            let command = format!("run: kill -CONT {pid}\n");
            assert_eq!(shown.matches(&command).count(), count, "{look}: {shown}");
        }
    };
    crate::support::send("STOP", child);
    is_named(child, 1);
    is_named(parent.id(), 0);
    crate::support::send("STOP", parent.id());
    is_named(child, 1);
    is_named(parent.id(), 1);
    // The child holds the lock alone.
    parent.kill().unwrap();
    parent.wait().unwrap();
    is_named(child, 1);
    bench
        .run(&["status"])
        .code(0)
        .prints(&format!("l, held by process {child}, which did not sign"));
    crate::support::send("KILL", child);
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_terminal_a_command_says_which_lock_it_waits_for() {
    let bench = with_item();
    let Some((mut holder, pid)) = holder(&bench) else {
        return;
    };
    let park = ["dlq", "park", "a", "--repo", "shop", "--job", "job"];
    let Some(mut script) = bench.on_terminal(&park) else {
        drop(holder.stdin.take());
        holder.wait().unwrap();
        return;
    };
    let mut waiter = script.stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(waiter.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("note: ") && line.contains("items.lock: it is held by "),
        "{line}"
    );
    assert!(line.contains(&format!("process {pid}")), "{line}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(waiter.wait().unwrap().success());
}
