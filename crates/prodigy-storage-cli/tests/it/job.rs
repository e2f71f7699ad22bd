//! Tests of `job` and `repo list`.

#[cfg(target_os = "linux")]
use std::fs;
#[cfg(target_os = "linux")]
use std::io::{BufRead, BufReader, Write};
#[cfg(target_os = "linux")]
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Bench, Run, run};

fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("1\n2\n");
    for job in ["old", "other"] {
        bench
            .feed(
                &[
                    "checkpoint",
                    "save",
                    "--repo",
                    "shop",
                    "--job",
                    job,
                    "--phase",
                    "map",
                ],
                "1",
            )
            .code(0);
    }
    let push = ["dlq", "push", "--repo", "mill", "--job", "job"];
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    bench
}

#[test]
fn a_list_has_each_job_with_its_state_dead_letters_and_size() {
    let bench = filled();
    let jobs = bench
        .run(&["job", "list", "--repo", "shop", "--json"])
        .code(0)
        .jsonl();
    let names: Vec<&str> = jobs.iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!(names, ["job", "old", "other"]);
    for job in &jobs {
        assert_eq!(
            (job["repo"].as_str(), job["state"].as_str()),
            (Some("shop"), Some("open"))
        );
        assert!(job["last_activity"].is_string(), "{job}");
        assert_eq!(job["dead_letters"]["items"], 0);
    }
    assert!(jobs[0]["log"]["bytes"].as_u64().unwrap() > 100, "{}", jobs[0]);
    let all = bench.run(&["job", "list", "--all-repos"]).code(0);
    let lines = all.lines();
    assert!(
        lines[0].starts_with("REPOSITORY  JOB    STATE  ACTIVE  DEAD LETTERS   SIZE"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("mill        job    open "), "{lines:?}");
    assert_eq!(lines.len(), 5);
    let none = bench
        .run(&["job", "list", "--all-repos", "--state", "finished"])
        .code(0);
    assert_eq!(none.out, "");
}

#[test]
fn a_job_is_active_while_a_process_holds_a_lock_of_it() {
    let bench = filled();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let list = bench.run(&[
        "lock",
        "run",
        "shop/old/resume",
        "--",
        tool,
        "job",
        "list",
        "--repo",
        "shop",
        "--json",
        "--state",
        "active",
    ]);
    let jobs = list.code(0).jsonl();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["job"], "old");
}

#[test]
fn repositories_are_listed_with_their_jobs_by_state() {
    let bench = filled();
    let repos = bench.run(&["repo", "list", "--json"]).code(0).jsonl();
    assert_eq!(repos.len(), 2);
    assert_eq!(
        (&repos[0]["repo"], &repos[0]["dead_letters"]),
        (&"mill".into(), &1.into())
    );
    assert_eq!(
        (&repos[1]["jobs"], &repos[1]["open"], &repos[1]["active"]),
        (&3.into(), &3.into(), &0.into())
    );
    let lines = bench.run(&["repo", "list"]).code(0).out;
    assert!(
        lines.starts_with("REPOSITORY  JOBS  ACTIVE  OPEN  FINISHED  MOVED  DEAD LETTERS  LAST"),
        "{lines}"
    );
    assert_eq!(Bench::new().run(&["repo", "list"]).code(0).out, "");
}

#[test]
fn show_counts_the_parts_of_a_job() {
    let bench = filled();
    let job = bench
        .run(&["job", "show", "--repo", "shop", "old", "--json"])
        .code(0)
        .json();
    assert_eq!(job["checkpoints"]["count"], 1);
    assert_eq!(job["bytes"], job["checkpoints"]["bytes"]);
    let text = bench.run(&["job", "show", "--repo", "mill", "job"]).code(0).out;
    assert!(
        text.contains("dead letters 1: 1 pending, 0 leased, 0 delayed, 0 parked"),
        "{text}"
    );
}

#[test]
fn a_job_that_does_not_exist_is_refused_with_those_that_do() {
    let bench = filled();
    for command in [
        &["job", "show", "--repo", "shop", "oldd"][..],
        &["events", "cat", "--repo", "shop", "--job", "oldd"],
    ] {
        bench
            .run(command)
            .code(4)
            .says("no job `oldd` in the repository `shop`")
            .says("did you mean `old`? the jobs are `job`, `old`, `other`");
    }
    for command in [
        &["job", "list", "--repo", "shopp"][..],
        &["job", "show", "--repo", "shopp", "old"],
    ] {
        bench
            .run(command)
            .code(4)
            .says("nothing is stored under that name")
            .says("did you mean `shop`? the repositories are `mill`, `shop`");
    }
}

#[test]
fn delete_shows_what_would_go_and_deletes_with_yes() {
    let bench = filled();
    let delete = ["job", "delete", "--repo", "shop", "job", "old"];
    let plan = bench
        .run(&delete)
        .code(1)
        .says("nothing was deleted, since nobody can be asked; `--yes` deletes 2 jobs");
    assert!(
        plan.out.contains("shop/job") && plan.out.contains("checkpoints  1, "),
        "{}",
        plan.out
    );
    let left = || {
        bench
            .run(&["job", "list", "--repo", "shop", "--json"])
            .jsonl()
            .len()
    };
    assert_eq!(left(), 3);
    // A job that is named twice is deleted once.
    let deleted = bench
        .run(&[&delete[..], &["job", "--yes", "--json"]].concat())
        .code(0)
        .jsonl();
    assert!(
        deleted.iter().all(|job| job["deleted"] == true) && deleted.len() == 2,
        "{deleted:?}"
    );
    assert_eq!(left(), 1);
}

#[test]
fn a_command_over_several_jobs_does_what_it_can_and_names_the_others() {
    let bench = filled();
    let left = || {
        let list = bench.run(&["job", "list", "--repo", "shop", "--json"]).jsonl();
        list.iter()
            .map(|job| job["job"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(left().len(), 3);
    let jobs = ["none", "old", "gone", "other"];
    let run = |first: &[&str], more: &[&str]| bench.run(&[first, &["--repo", "shop"], &jobs, more].concat());
    run(&["job", "finish"], &[])
        .code(4)
        .says("no job `none`")
        .says("no job `gone`")
        .prints("finished shop/old")
        .prints("finished shop/other");
    let delete = ["job", "delete"];
    run(&delete, &[])
        .code(1)
        .says("no job `none`")
        .says("`--yes` deletes 2 jobs");
    assert_eq!(left().len(), 3);
    // As after a run that was killed when it had deleted some of the jobs.
    run(&delete, &["--yes"])
        .code(4)
        .says("no job `none`")
        .says("no job `gone`")
        .prints("deleted shop/old")
        .prints("deleted shop/other");
    assert_eq!(left(), ["job"]);
    run(&delete, &["--yes"]).code(4);
}

#[test]
fn finish_marks_jobs_until_an_event_comes_later() {
    let bench = filled();
    let job = ["--repo", "shop"];
    let state = |id: &str| {
        bench
            .run(&[&["--json", "job", "show", id], &job[..]].concat())
            .code(0)
            .json()["state"]
            .clone()
    };
    assert_eq!(state("old"), "open");
    let finished = bench.run(&[&["job", "finish", "old"], &job[..]].concat()).code(0);
    assert_eq!(finished.out, "finished shop/old\n");
    assert_eq!(state("old"), "finished");
    let append = ["events", "append", "--job", "old"];
    bench.feed(&[&append[..], &job[..]].concat(), "1").code(0);
    assert_eq!(state("old"), "open");
}

#[test]
fn an_unknown_job_or_repository_is_neither_healthy_nor_backed_up() {
    let bench = Bench::new();
    bench.append("1\n");
    for command in [
        &["doctor", "--repo", "shop", "--job", "jub"][..],
        &["backup", "a.tar.zst", "--repo", "shop", "--job", "jub"],
    ] {
        let run = bench.run(command).code(4);
        assert_eq!(run.out, "");
        run.says("did you mean `job`? the jobs are `job`");
    }
    for command in [
        &["doctor", "--repo", "shup"][..],
        &["backup", "a.tar.zst", "--repo", "shup", "--job", "job"],
    ] {
        bench
            .run(command)
            .code(4)
            .says("did you mean `shop`? the repositories are `shop`");
    }
    bench
        .run(&["doctor", "--repo", "shop", "--job", "job"])
        .code(0)
        .prints("1 event and 0 items read");
}

#[test]
fn an_active_job_is_not_deleted() {
    let bench = filled();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let held = [
        "lock",
        "run",
        "shop/old/resume",
        "--",
        tool,
        "job",
        "delete",
        "--repo",
        "shop",
        "old",
        "other",
        "--yes",
    ];
    bench
        .run(&held)
        .code(3)
        .says("the job is active: process ")
        .says(" holds the lock `shop/old/resume`")
        .prints("deleted shop/other");
    bench.run(&["job", "show", "--repo", "shop", "old"]).code(0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_refusal_of_an_active_job_or_repository_names_the_process_that_appends_to_it() {
    let bench = filled();
    for folder in ["objects", "refs"] {
        fs::create_dir_all(bench.path("shop/.git").join(folder)).unwrap();
    }
    bench.write("shop/.git/HEAD", "ref: refs/heads/main\n");
    let shop = bench.path("shop");
    bench
        .run(&["repo", "register", "--as", "shop", shop.to_str().unwrap()])
        .code(0);
    let append = ["events", "append", "--repo", "shop", "--job", "old", "--ack"];
    let mut writer = bench
        .std(append)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    writeln!(input, "1").unwrap();
    let mut ack = String::new();
    let mut acks = BufReader::new(writer.stdout.take().unwrap());
    acks.read_line(&mut ack).unwrap();
    let target = bench.path("target");
    let process = format!(": process {} on ", writer.id());
    let target = target.to_str().unwrap();
    for (code, refused) in [
        (3, &["job", "delete", "--repo", "shop", "old", "--yes"][..]),
        (
            1,
            &["copy", "--to", target, "--repo", "shop", "--job", "old", "--yes"],
        ),
        (3, &["repo", "unregister", "shop", "--yes"]),
    ] {
        bench
            .run(refused)
            .code(code)
            .says(&process)
            .says(" appends to its log, to a segment of 20");
    }
    drop(input);
    assert!(writer.wait().unwrap().success());
    bench
        .run(&["job", "delete", "--repo", "shop", "old", "--yes"])
        .code(0);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_delete_asks_and_a_no_keeps_the_job() {
    let bench = filled();
    for (answer, code, left) in [("n\n", 1, 3), ("yes\n", 0, 2)] {
        let Some(script) = bench.on_terminal(&["job", "delete", "--repo", "shop", "old"]) else {
            return;
        };
        let asked = run(script, answer).code(code);
        assert!(asked.out.contains("delete 1 job? [y/N]"), "{}", asked.out);
        assert_eq!(
            bench
                .run(&["job", "list", "--repo", "shop", "--json"])
                .jsonl()
                .len(),
            left
        );
    }
}

#[test]
fn usage_names_the_largest_jobs_or_areas_first() {
    let bench = filled();
    bench.append(&"\"a long event that takes more space than all the rest\"\n".repeat(50));
    let jobs = bench.run(&["usage", "--jobs", "--json"]).code(0).jsonl();
    let sizes: Vec<u64> = jobs.iter().map(|job| job["bytes"].as_u64().unwrap()).collect();
    assert!(
        sizes.len() == 4 && sizes.is_sorted_by(|one, other| one >= other),
        "{sizes:?}"
    );
    assert_eq!(
        (&jobs[0]["repo"], &jobs[0]["job"]),
        (&"shop".into(), &"job".into())
    );
    let table = bench.run(&["usage", "--jobs", "--top", "1"]).code(0);
    assert!(
        table.lines().len() == 2 && table.out.ends_with("  shop/job\n"),
        "{}",
        table.out
    );
    let all = bench.run(&["usage", "--json"]).code(0).json();
    let areas = bench.run(&["usage", "--top", "2", "--json"]).code(0).json();
    let area = |at: usize| areas["areas"][at]["bytes"].as_u64().unwrap();
    assert!(
        areas["areas"].as_array().unwrap().len() == 2 && area(0) >= area(1),
        "{areas}"
    );
    assert!(all["areas"].as_array().unwrap().len() > 2, "{all}");
}

#[test]
fn usage_of_one_repository_counts_that_one_alone() {
    let bench = filled();
    bench
        .run(&["clean", "--idle-jobs", "1ns", "--repo", "mill", "--yes"])
        .code(0);
    let usage = bench.run(&["usage", "--repo", "shop", "--json"]).code(0).json();
    let areas = usage["areas"].as_array().unwrap();
    assert!(
        areas.len() > 1 && areas.iter().all(|area| area["repo"] == "shop"),
        "{usage}"
    );
    let jobs = bench
        .run(&["usage", "--jobs", "--repo", "shop", "--json"])
        .code(0)
        .jsonl();
    assert!(
        jobs.len() > 1 && jobs.iter().all(|job| job["repo"] == "shop"),
        "{jobs:?}"
    );
    bench
        .run(&["usage", "--repo", "shpo"])
        .code(4)
        .says("did you mean `shop`?");
}

#[test]
fn the_audit_log_is_in_no_listing() {
    let bench = filled();
    bench
        .run(&["job", "delete", "old", "--repo", "shop", "--yes"])
        .code(0);
    assert!(bench.root().join("events/_audit/clean").exists());
    for command in [
        &["job", "list", "--all-repos"][..],
        &["repo", "list"],
        &["status"],
        &["usage"],
        &["usage", "--jobs"],
        &["copy", "--to", "elsewhere"],
    ] {
        for json in [&["--json"][..], &[]] {
            let run = bench.run(&[command, json].concat()).code(0);
            assert!(!run.out.contains("_audit"), "{command:?}: {}", run.out);
        }
    }
    let missing = bench.run(&["job", "list", "--repo", "nope"]).code(4);
    assert!(!missing.err.contains("_audit"), "{}", missing.err);
    bench
        .run(&["copy", "--to", "elsewhere", "--job", "clean"])
        .code(4);
    // Its data is counted, without a repository.
    let usage = bench.run(&["usage", "--json"]).code(0).json();
    let events = |area: &&serde_json::Value| area["area"] == "events" && area["repo"].is_null();
    assert_eq!(
        usage["areas"].as_array().unwrap().iter().filter(events).count(),
        1,
        "{usage}"
    );
}

#[test]
fn a_deletion_names_what_it_left_and_never_calls_the_folder_deleted() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for (folder, name, shown) in [
        ("events/shop/job", &b"y\xfe"[..], "y\\376"),
        ("events/shop/job", b"notes.txt", "notes.txt"),
        ("dlq/shop/job", b"notes.txt", "notes.txt"),
    ] {
        let bench = Bench::new();
        bench.append("1\n");
        let item = "{\"item_id\":\"a\",\"item_data\":1}";
        bench
            .feed(&["dlq", "push", "--repo", "shop", "--job", "job"], item)
            .code(0);
        let path = bench.root().join(folder).join(OsStr::from_bytes(name));
        std::fs::write(&path, "mine").unwrap();
        let delete = ["job", "delete", "job", "--repo", "shop", "--yes"];
        let run = bench.run(&delete).code(6).says(shown);
        assert!(!run.out.contains("deleted shop/job"), "{}", run.out);
        assert!(run.out.contains("its folder stays"), "{}", run.out);
        let json = [&delete[..], &["--json"]].concat();
        let lines = bench.run(&json).code(6).jsonl();
        assert_eq!(lines.last().unwrap()["left"].as_array().unwrap().len(), 1);
        let fix = run.err.split('`').nth(1).unwrap();
        crate::planted::shell(&bench, fix)
            .code(0)
            .prints("deleted shop/job\n");
        assert!(!bench.root().join(folder).exists());
    }
}

#[test]
fn a_job_that_begins_again_beside_its_deletion_is_said_to_and_no_file_of_it_is_named_for_removal() {
    let bench = Bench::new();
    bench.append("1\n");
    let over = AtomicBool::new(false);
    let mut runs = Vec::new();
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                bench.feed(&append, "2\n");
            }
        });
        let is_answer = |run: &Run| run.err.contains("begun again") || run.err.contains("rm -r");
        while runs.len() < 300 && !runs.last().is_some_and(is_answer) {
            runs.push(bench.run(&["job", "delete", "job", "--repo", "shop", "--yes"]));
        }
        over.store(true, Ordering::Relaxed);
    });
    let last = runs.pop().unwrap();
    last.code(0)
        .prints("deleted shop/job\n")
        .says("shop/job was deleted, and has begun again: a process writes to it");
}

#[test]
fn json_of_a_job_has_the_number_of_its_events() {
    let bench = Bench::new();
    bench.append("1\n2\n3\n");
    let shown = bench
        .run(&["job", "show", "--repo", "shop", "job", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&shown["events"], &shown["events_estimated"]),
        (&3.into(), &false.into())
    );
}

#[test]
fn a_clean_says_which_folder_stays_with_files_of_another_program() {
    let bench = Bench::new();
    bench.append("1\n");
    bench.write("home/.prodigy/events/shop/job/notes.txt", "mine");
    bench.run(&["clean", "--idle-jobs", "1ns", "--yes"]).code(0).says(
        "of shop/job was removed what the store wrote; its folder stays, with 1 file of another program",
    );
}

#[test]
fn a_job_that_was_written_to_meanwhile_is_not_deleted() {
    let bench = Bench::new();
    bench.append("1\n");
    let seen = prodigy_storage::Timestamp::now().to_rfc3339();
    let delete = [
        "job",
        "delete",
        "--repo",
        "shop",
        "--yes",
        "--unless-written-after",
        &seen,
        "job",
    ];
    bench.append("2\n");
    bench.run(&delete).code(3).says("it was written to after ");
    let cat = ["events", "cat", "--repo", "shop", "--job", "job", "--payload"];
    assert_eq!(bench.run(&cat).code(0).out, "1\n2\n");

    let of = ["--repo", "shop", "--job", "letters"];
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench.feed(&[&["dlq", "push"][..], &of].concat(), letter).code(0);
    bench
        .run(&[&["dlq", "take", "--all", "--lease", "1h"][..], &of].concat())
        .code(0);
    let unless_written_from_now = || {
        let seen = prodigy_storage::Timestamp::now().to_rfc3339();
        let delete = ["job", "delete", "--repo", "shop", "--yes", "letters"];
        bench.run(&[&delete[..], &["--unless-written-after", &seen]].concat())
    };
    unless_written_from_now()
        .code(3)
        .says("a worker holds a dead letter");
    bench.run(&[&["dlq", "release", "a"][..], &of].concat()).code(0);
    unless_written_from_now().code(0);
}
