//! Tests of `events follow`.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Stdio};

use crate::support::Bench;

const FOLLOW: [&str; 6] = ["events", "follow", "--repo", "shop", "--job", "job"];

fn follow<'a>(more: &[&'a str]) -> Vec<&'a str> {
    FOLLOW.iter().chain(more).copied().collect()
}

fn cursor_of(said: &str) -> String {
    said.lines()
        .last()
        .unwrap()
        .strip_prefix("cursor: ")
        .unwrap()
        .to_owned()
}

#[test]
fn a_cursor_goes_on_exactly_where_it_was_told() {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let first = bench.run(&follow(&["--for", "0s"])).code(0);
    assert_eq!(first.lines().len(), 2);
    let cursor = cursor_of(&first.err);
    bench.append("3\n");
    let second = bench
        .run(&follow(&["--for", "0s", "--cursor", &cursor, "--json"]))
        .code(0);
    assert_eq!(second.json()["event"], 3);
    let told: serde_json::Value = serde_json::from_str(second.err.lines().last().unwrap()).unwrap();
    assert_ne!(told["cursor"], cursor.as_str());
    bench
        .run(&follow(&["--cursor", "no cursor"]))
        .code(2)
        .says("cursor");
}

#[test]
fn a_follow_that_ends_with_a_gap_prints_no_cursor() {
    let bench = Bench::new();
    bench.append("1\n");
    let cursor = cursor_of(&bench.run(&follow(&["--for", "0s"])).code(0).err);
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    bench.append("2\n");
    let gap = bench
        .run(&follow(&["--for", "0s", "--cursor", &cursor]))
        .code(1)
        .says("cursor gap");
    assert!(!gap.err.contains("cursor: "), "{}", gap.err);
}

#[test]
fn what_is_stored_when_the_time_ends_is_printed_to_its_end() {
    let bench = Bench::new();
    bench.append(&"1\n".repeat(3000));
    let all = bench.run(&follow(&["--for", "0s"])).code(0);
    assert_eq!(all.lines().len(), 3000);
}

#[test]
fn it_gives_what_is_appended_while_it_waits_and_ends_when_nobody_reads() {
    let bench = Bench::new();
    // The job does not exist yet: it may be created later.
    let mut child = bench
        .std(follow(&[]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for number in 1..=2 {
        bench.append(&format!("{number}\n"));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"event\":{number}")), "{line}");
    }
    drop(output);
    // The tool ends without waiting for another event.
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let cursor = cursor_of(&rest(child.stderr.take().unwrap()));
    assert!(
        bench
            .run(&follow(&["--for", "0s", "--cursor", &cursor]))
            .code(0)
            .out
            .is_empty()
    );
}

#[test]
fn all_jobs_are_followed_also_those_that_come_later() {
    let bench = Bench::new();
    bench.append("1\n");
    let append = |repo: &str, job: &str, line: &str| {
        bench
            .feed(&["events", "append", "--repo", repo, "--job", job], line)
            .code(0);
    };
    append("other", "job", "2\n");
    for (flags, jobs) in [
        (
            &["--repo", "shop", "--all-jobs"][..],
            &["shop/job", "shop/later"][..],
        ),
        (
            &["--all-repos"],
            &["other/job", "shop/job", "new/job", "shop/later"],
        ),
    ] {
        let mut child = bench
            .std([&["events", "follow"], flags].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        for (number, wanted) in jobs.iter().enumerate() {
            // The first half of the events is stored before the follow starts.
            if number >= jobs.len() / 2 {
                let (repo, job) = wanted.split_once('/').unwrap();
                append(repo, job, "3\n");
            }
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let job = format!(
                "{}/{}",
                value["repo"].as_str().unwrap(),
                value["job"].as_str().unwrap()
            );
            assert_eq!(job, *wanted, "{line}");
            assert!(value["record"]["event"].is_number(), "{line}");
        }
        drop(output);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        std::fs::remove_dir_all(bench.root().join("events/shop/later")).unwrap();
    }
    bench
        .run(&["events", "follow", "--repo", "shop"])
        .code(2)
        .says("--job");
    bench.run(&follow(&["--all-jobs"])).code(2).says("--all-jobs");
}

#[test]
fn several_named_jobs_are_followed_and_no_other() {
    let bench = Bench::new();
    for (job, line) in [("a", "1\n"), ("b", "2\n"), ("c", "3\n")] {
        let append = ["events", "append", "--repo", "shop", "--job", job];
        bench.feed(&append, line).code(0);
    }
    let several = [
        "events", "follow", "--repo", "shop", "--job", "a", "--job", "c", "--job", "later", "--for", "0s",
    ];
    let shown = bench.run(&several).code(0);
    let found: Vec<_> = shown.jsonl().iter().map(|line| line["job"].clone()).collect();
    assert_eq!(found, ["a", "c"]);
    // A job that is named twice is one job: its lines are printed as they are stored.
    let once = [
        "events", "follow", "--repo", "shop", "--job", "a", "--job", "a", "--for", "0s",
    ];
    let shown = bench.run(&once).code(0);
    assert_eq!(shown.json()["event"], 1);
    for flags in [
        &["--until-finished"][..],
        &["--cursor", cursor_of(&shown.err).as_str()],
    ] {
        let refused = bench.run(&[&several[..], flags].concat()).code(2);
        refused.says("one job");
    }
}

#[test]
fn from_now_gives_nothing_that_was_stored_before() {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let none = bench.run(&follow(&["--from-now", "--for", "0s"])).code(0);
    assert!(none.out.is_empty());
    let cursor = cursor_of(&none.err);
    bench.append("3\n");
    let later = bench.run(&follow(&["--cursor", &cursor, "--for", "0s"])).code(0);
    assert_eq!(later.json()["event"], 3);
    bench
        .run(&follow(&["--from-now", "--cursor", &cursor]))
        .code(2)
        .says("--cursor");
}

#[test]
fn until_finished_prints_every_event_and_ends() {
    let bench = Bench::new();
    let child = bench
        .std(follow(&["--until-finished"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    bench.append("1\n2\n");
    let storage = prodigy_storage::Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(bench.root())
        .open()
        .unwrap();
    storage
        .repo("shop")
        .unwrap()
        .job("job")
        .unwrap()
        .finish()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn an_interrupt_ends_it_with_the_cursor() {
    let bench = Bench::new();
    bench.append("1\n");
    let mut child = bench
        .std(follow(&[]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
    cursor_of(&rest(child.stderr.take().unwrap()));
}

fn rest(mut stderr: ChildStderr) -> String {
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn after_the_root_was_restored_no_cursor_is_printed() {
    let bench = Bench::new();
    bench.append("1\n");
    let mut child = bench
        .std(follow(&[]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([bench.root(), bench.path("copy")])
        .status();
    assert!(copied.unwrap().success());
    std::fs::rename(bench.root(), bench.path("old")).unwrap();
    std::fs::rename(bench.path("copy"), bench.root()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    // The copied store may get other events before the position of the cursor, so the cursor must not be printed.
    assert!(said.contains("the cursor is not valid in it"), "{said}");
    assert!(said.contains("hint: follow from the first event"), "{said}");
    assert!(!said.contains("cursor: "), "{said}");
}

#[test]
fn a_follow_of_an_unknown_job_says_that_it_waits_and_one_of_an_unknown_repository_fails() {
    let bench = Bench::new();
    let waits = |command: &[&str], repo: &str, job: &str| {
        bench.run(&[command, &["--repo", repo, "--job", job, "--for", "0s"]].concat())
    };
    for command in [&["events", "follow"][..], &["events", "tail", "-f"]] {
        waits(command, "shop", "job")
            .code(0)
            .says("note: no job `job` in the repository `shop` yet: waiting; there are no jobs");
    }
    bench.append("1\n");
    for command in [&["events", "follow"][..], &["events", "tail", "-f"]] {
        let run = waits(command, "shop", "jobb").code(0);
        let said = "note: no job `jobb` in the repository `shop` yet: waiting; did you mean `job`?";
        assert_eq!(run.err.matches(said).count(), 1, "{}", run.err);
        let known = waits(command, "shop", "job").code(0);
        assert!(!known.err.contains("waiting"), "{}", known.err);
        waits(command, "shpo", "job")
            .code(4)
            .says("nothing is stored under that name")
            .says("did you mean `shop`?");
    }
}
