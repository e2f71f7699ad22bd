//! Tests of `backup` and `restore` with real processes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::Value;

use crate::support::{Bench, Run, SAVE, run};

const WRITERS: usize = 8;
/// The number of events that each writer has acknowledged before the backup begins.
const BEFORE: usize = 25;

fn ids(run: &Run) -> HashSet<String> {
    let id = |line: Value| line["id"].as_str().unwrap().to_owned();
    run.jsonl().into_iter().map(id).collect()
}

fn prints(run: &Run, wanted: &str) {
    assert!(run.out.contains(wanted), "no {wanted:?} in: {}", run.out);
}

/// Runs the tool on another root.
fn at(bench: &Bench, root: &str, arguments: &[&str]) -> Run {
    let root = bench.path(root);
    run(
        bench.std([&["--base-dir", root.to_str().unwrap()], arguments].concat()),
        "",
    )
}

#[test]
fn a_backup_while_8_processes_write_has_all_that_was_acknowledged_before() {
    let bench = Bench::new();
    let (sender, acknowledged) = mpsc::channel();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (bench, sender) = (&bench, sender.clone());
            scope.spawn(move || {
                let job = format!("job-{}", writer % 2);
                let mut tool = bench.std(["events", "append", "--repo", "shop", "--job", &job, "--ack"]);
                let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let mut input = child.stdin.take().unwrap();
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                for number in 0.. {
                    // This loop ends after the backup, when the receiver of the ids is dropped.
                    if writeln!(input, "{{\"writer\":{writer},\"number\":{number}}}").is_err() {
                        break;
                    }
                    let Some(Ok(id)) = lines.next() else { break };
                    if sender.send((number, job.clone(), id)).is_err() {
                        break;
                    }
                }
                drop(input);
                assert!(child.wait().unwrap().success());
            });
        }
        drop(sender);
        let mut before = HashSet::new();
        let mut ready = 0;
        for (number, job, id) in &acknowledged {
            before.insert((job, id));
            ready += usize::from(number + 1 == BEFORE);
            if ready == WRITERS {
                break;
            }
        }
        let archive = bench.path("live.tar.zst");
        let archive = archive.to_str().unwrap();
        let summary = bench.run(&["backup", archive, "--json"]).code(0).json();
        assert_eq!(summary["jobs"], 2);
        drop(acknowledged);
        bench.run(&["restore", "--check", archive]).code(0);
        prints(
            &at(&bench, "copy", &["restore", archive]).code(0),
            "restored: 2 jobs",
        );
        at(&bench, "copy", &["doctor"]).code(0);
        for job in ["job-0", "job-1"] {
            let cat = ["events", "cat", "--repo", "shop", "--job", job];
            let restored = ids(&at(&bench, "copy", &cat).code(0));
            for (_, id) in before.iter().filter(|(of, _)| of == job) {
                assert!(
                    restored.contains(id),
                    "{job}: {id} was acknowledged before the backup"
                );
            }
        }
        assert!(before.len() >= WRITERS * BEFORE);
    });
}

#[test]
fn an_archive_goes_through_a_pipe_and_one_job_comes_out_of_it() {
    let bench = Bench::new();
    for job in ["one", "two"] {
        bench
            .feed(&["events", "append", "--repo", "shop", "--job", job], "1\n2\n")
            .code(0);
    }
    let output = bench.std(["backup", "-"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("in the archive: 2 jobs"));
    let checked = run(bench.std(["restore", "--check", "-"]), output.stdout.clone());
    prints(&checked.code(0), "whole: 2 jobs");
    let archive = bench.write("all.tar.zst", &output.stdout);
    let archive = archive.to_str().unwrap();

    bench.run(&["restore", archive]).code(1).says("not empty");
    bench
        .run(&["restore", archive, "--repo", "shop"])
        .code(2)
        .says("--job");
    bench
        .run(&["restore", archive, "--repo", "shop", "--job", "three"])
        .code(4)
        .says("shop/one, shop/two");
    bench
        .run(&["restore", archive, "--repo", "shop", "--job", "one"])
        .code(1)
        .says("has data of this job")
        .says("if this restore was run before, it may have ended")
        .says("prodigy-storage job delete --repo shop one");
    bench
        .run(&["job", "delete", "one", "--repo", "shop", "--yes"])
        .code(0);
    let restored = bench
        .run(&["restore", archive, "--repo", "shop", "--job", "one"])
        .code(0);
    prints(&restored, "restored: shop/one");
    let cat = bench
        .run(&["events", "cat", "--repo", "shop", "--job", "one", "--payload"])
        .code(0);
    assert_eq!(cat.out, "1\n2\n");
}

#[test]
fn a_backup_replaces_no_file_and_damage_to_it_is_found() {
    let bench = Bench::new();
    bench.append("1\n");
    let archive = bench.path("a.tar.zst");
    let name = archive.to_str().unwrap();
    let written = bench
        .run(&["backup", name, "--repo", "shop", "--job", "job"])
        .code(0);
    prints(&written, "written to");
    let before = std::fs::read(&archive).unwrap();
    bench.run(&["backup", name]).code(1).says("it is there already");
    assert_eq!(std::fs::read(&archive).unwrap(), before);
    let mut flipped = before;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&archive, flipped).unwrap();
    bench.run(&["restore", "--check", name]).code(5);
    at(&bench, "copy", &["restore", name]).code(5);
    assert!(!bench.path("copy").exists());
    bench.run(&["restore", "--check", "absent"]).code(1);
    bench
        .run(&["backup", "x.tar.zst", "--repo", "shop", "--job", "none"])
        .code(4)
        .says("no job `none` in the repository `shop`");
    let left: Vec<_> = std::fs::read_dir(bench.path("here")).unwrap().collect();
    assert!(left.is_empty(), "a backup that failed leaves nothing: {left:?}");
}

#[test]
fn an_archive_is_restored_from_standard_input() {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let archive = bench.path("archive");
    bench.run(&["backup", archive.to_str().unwrap()]).code(0);
    let archive = std::fs::read(archive).unwrap();
    let new = Bench::new();
    new.feed(&["restore", "-"], archive.clone())
        .code(0)
        .prints("restored: 1 job");
    let cat = ["events", "cat", "--repo", "shop", "--job", "job"];
    assert_eq!(new.run(&cat).code(0).lines().len(), 2);
    let cut = &archive[..archive.len() - 10];
    let other = Bench::new();
    other.feed(&["restore", "-"], cut).code(5);
    assert!(!other.root().join("events").exists());
}

#[test]
fn a_restore_of_a_job_that_was_cut_short_is_ended_by_the_same_restore_and_the_store_says_so() {
    let bench = Bench::new();
    bench
        .feed(&["events", "append", "--repo", "shop", "--job", "one"], "1\n2\n")
        .code(0);
    bench.run(&["backup", "one.tar.zst"]).code(0);
    let restore = ["restore", "one.tar.zst", "--repo", "shop", "--job", "one"];
    // The mark of a restore is there before its first file, and is removed behind its last one.
    let folder = bench.root().join("deletions/shop");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("one.json"), r#"{"restoring":"an archive"}"#).unwrap();
    for command in ["status", "health", "doctor"] {
        let said = bench.run(&[command]).out;
        assert!(said.contains("same `restore`"), "{command}: {said}");
        assert!(
            said.contains("prodigy-storage clean --repo shop --job one --yes"),
            "{command}: {said}"
        );
        assert!(said.contains("discards"), "{command}: {said}");
    }
    bench.run(&restore).code(0);
    assert_eq!(bench.run(&["doctor"]).code(0).out.matches("restore").count(), 0);
    let cat = bench.run(&["events", "cat", "--repo", "shop", "--job", "one", "--payload"]);
    assert_eq!(cat.code(0).out, "1\n2\n");
}

/// A store with a finished job and without the job's events, as a restore leaves it that was cut short: it copies the documents
/// before the segments.
fn finished_without_its_events() -> Bench {
    let bench = Bench::new();
    bench.append("1\n");
    let end = bench
        .run(&["events", "end", "--repo", "shop", "--job", "job"])
        .code(0)
        .out;
    let save = [&SAVE[..], &["--cursor", end.trim()]].concat();
    bench.feed(&save, "1").code(0);
    bench.run(&["job", "finish", "--repo", "shop", "job"]).code(0);
    std::fs::remove_dir_all(bench.root().join("events/shop/job")).unwrap();
    bench.run(&["doctor"]).code(5).prints("missing events");
    bench
}

#[test]
fn of_a_job_whose_restore_was_cut_short_the_doctor_reports_that_alone() {
    let bench = finished_without_its_events();
    bench.write(
        "home/.prodigy/deletions/shop/job.json",
        "{\"restoring\":\"2026-11-28T15:00:00Z\"}\n",
    );
    let doctor = bench.run(&["doctor"]).code(0);
    let doctor = doctor
        .prints("unfinished deletion")
        .prints("damage: 0 found, 0 left; 1 warning");
    assert!(!doctor.out.contains("missing events"), "{}", doctor.out);
}

#[test]
fn of_a_root_whose_restore_was_cut_short_the_doctor_reports_that_alone() {
    let bench = finished_without_its_events();
    bench.write(
        "home/.prodigy/format.json",
        "{\"format\":1,\"restoring\":\"2026-11-28T15:00:00Z\"}\n",
    );
    let doctor = bench.run(&["doctor"]);
    assert!(!doctor.out.contains("missing events"), "{}", doctor.out);
    doctor
        .code(5)
        .prints("a restore into this root was begun and has not ended");
}
