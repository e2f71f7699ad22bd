//! Tests of links, and of files or folders at unexpected paths of the store: no command skips them silently.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Bench, Run};

/// A store with the jobs `job` and `moved`. The log of `moved` was moved elsewhere, and is a link now.
fn linked() -> (Bench, PathBuf) {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let append = ["events", "append", "--repo", "shop", "--job", "moved"];
    bench.feed(&append, "{\"n\":2}\n").code(0);
    let (job, away) = (bench.root().join("events/shop/moved"), bench.path("away"));
    fs::rename(&job, &away).unwrap();
    symlink(&away, &job).unwrap();
    (bench, job)
}

fn names(run: &Run, what: &std::path::Path) {
    let what = what.to_str().unwrap();
    assert!(
        run.out.contains(what) || run.err.contains(what),
        "no {what} in: {}{}",
        run.out,
        run.err
    );
}

#[test]
fn a_backup_names_what_it_left_out_and_ends_with_6() {
    let (bench, job) = linked();
    let archive = bench.path("a.tar.zst");
    let run = bench.run(&["backup", archive.to_str().unwrap()]).code(6);
    run.says("left out of the archive");
    let folder = bench.root().join("state/shop/mapreduce/jobs/job/fencing.json");
    fs::create_dir_all(&folder).unwrap();
    let archive = bench.path("b.tar.zst");
    let run = bench
        .run(&["backup", "--json", archive.to_str().unwrap()])
        .code(6);
    names(&run, &job);
    names(&run, &folder);
    assert_eq!(run.json()["left_out"].as_array().unwrap().len(), 2);
}

#[test]
fn a_listing_that_passes_over_a_link_says_so_and_ends_with_6() {
    let (bench, _) = linked();
    let commands: [&[&str]; 6] = [
        &["job", "list", "--repo", "shop"],
        &["job", "list", "--all-repos"],
        &["repo", "list"],
        &["status"],
        &["usage", "--jobs"],
        &[
            "events",
            "follow",
            "--all-jobs",
            "--repo",
            "shop",
            "--for",
            "300ms",
        ],
    ];
    for command in commands {
        let run = bench.run(command).code(6);
        assert!(
            run.err.contains("1 link or other thing at the path of"),
            "{command:?}: {}",
            run.err
        );
        assert!(
            run.err.contains("`prodigy-storage doctor`"),
            "{command:?}: {}",
            run.err
        );
    }
    let (bench, job) = linked();
    names(&bench.run(&["usage"]).code(1), &job);
    fs::rename(bench.root().join("events/shop"), bench.path("shop")).unwrap();
    symlink(bench.path("shop"), bench.root().join("events/shop")).unwrap();
    bench.run(&["repo", "list"]).code(6).says("1 link or other thing");
}

#[test]
fn a_folder_under_the_name_of_a_segment_is_an_error_of_its_job_alone() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let append = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&append, "{\"n\":2}\n").code(0);
    let segment = bench.only_file("events/shop/other", "events-", ".jsonl");
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    for command in [
        &["job", "list", "--repo", "shop"][..],
        &["repo", "list"],
        &["status"],
    ] {
        let run = bench.run(command).code(6);
        names(&run, &segment);
        assert!(run.out.contains("shop") || run.out.contains("job"), "{}", run.out);
    }
    names(
        &bench
            .run(&["backup", bench.path("a.tar.zst").to_str().unwrap()])
            .code(6),
        &segment,
    );
}

#[test]
fn an_import_names_each_link_and_ends_with_6() {
    let (bench, job) = linked();
    let copy = bench.path("copy");
    let copied = Command::new("cp").arg("-a").args([&bench.root(), &copy]).status();
    assert!(copied.unwrap().success());
    let segment = bench.only_file("events/shop/job", "events-", ".jsonl");
    let fifo = copy.join("events/shop/job/events-1.jsonl");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let folder = copy.join("events/shop/job/events-2.jsonl");
    fs::create_dir(&folder).unwrap();
    let link = copy.join("events/shop/job/events-3.jsonl");
    symlink(segment, &link).unwrap();
    let run = bench
        .run(&["import", "--dry-run", copy.to_str().unwrap()])
        .code(6);
    for left in [&copy.join("events/shop/moved"), &fifo, &folder, &link] {
        names(&run, left);
    }
    let root = bench.root();
    names(&bench.run(&["import", root.to_str().unwrap()]).code(6), &job);
}

/// A store with a job that has two checkpoints, and the path of the newest one.
fn two_checkpoints() -> (Bench, PathBuf) {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let save = [
        "checkpoint",
        "save",
        "--phase",
        "map",
        "--repo",
        "shop",
        "--job",
        "job",
    ];
    bench.feed(&save, "{\"done\":1}").code(0);
    bench.feed(&save, "{\"done\":2}").code(0);
    let folder = bench.root().join("state/shop/mapreduce/jobs/job");
    let mut saved: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    saved.retain(|path| path.to_str().unwrap().contains("map-checkpoint-"));
    (bench, saved.into_iter().max().unwrap())
}

#[test]
fn a_checkpoint_whose_name_is_a_folder_is_damage_and_the_one_before_it_is_found() {
    let (bench, newest) = two_checkpoints();
    fs::remove_file(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    let show = [
        "checkpoint",
        "show",
        "--phase",
        "map",
        "--payload",
        "--repo",
        "shop",
        "--job",
        "job",
    ];
    let run = bench.run(&show).code(0);
    assert_eq!(run.out.trim(), r#"{"done":1}"#);
    names(&run, &newest);
}

#[test]
fn health_and_doctor_find_each_thing_in_the_way() {
    for (place, is_folder) in [
        ("the newest checkpoint", true),
        ("state/shop/mapreduce/jobs/job/fencing.json", true),
        ("state/shop/repository.json", true),
        ("deletions", false),
        ("deletions/shop", false),
        ("events/_audit", false),
        ("events/_audit/clean", false),
        ("events/shop/job/events-20270115T080000.000000000Z.jsonl", true),
    ] {
        let (bench, newest) = two_checkpoints();
        bench.run(&["health"]).code(0);
        bench.run(&["doctor"]).code(0);
        let path = match place {
            "the newest checkpoint" => newest,
            _ => bench.root().join(place),
        };
        let _ = fs::remove_file(&path);
        match is_folder {
            true => fs::create_dir(&path).unwrap(),
            false => drop(bench.write(&format!("home/.prodigy/{place}"), "mine")),
        }
        names(&bench.run(&["health"]).code(1), &path);
        let run = bench.run(&["doctor"]).code(5);
        names(&run, &path);
        assert!(run.out.contains("damage   in the way"), "{place}: {}", run.out);
        bench.run(&["doctor", "--repair"]).code(5);
        assert!(path.symlink_metadata().is_ok(), "a repair leaves it: {place}");
    }
}

#[test]
fn the_doctor_says_where_a_link_leads_and_copies_what_is_behind_it_first() {
    let (bench, job) = linked();
    names(&bench.run(&["health"]).code(1), &job);
    let run = bench.run(&["doctor"]).code(5);
    names(&run, &bench.path("away"));
    let command = run
        .out
        .lines()
        .find_map(|line| line.strip_prefix("         run: "));
    let command = command.unwrap_or_default();
    assert!(command.starts_with("cp -aL "), "{}", run.out);
    let run = bench.run(&["status"]).code(6);
    names(&run, &job);
    assert!(run.out.contains("prodigy-storage doctor"), "{}", run.out);
    let bench_2 = linked().0;
    let found = bench_2.run(&["doctor"]).code(5).out;
    let command = found.lines().find_map(|line| line.strip_prefix("         run: "));
    crate::planted::shell(&bench_2, command.unwrap_or_default()).code(0);
    bench_2.run(&["doctor"]).code(0);
    fs::rename(bench.path("away"), bench.path("elsewhere")).unwrap();
    let run = bench.run(&["doctor"]).code(5);
    assert!(run.out.contains(&format!("rm {}", job.display())), "{}", run.out);
}

/// Runs the first command that the doctor names, until it has none. Returns how many it named.
fn follow_the_doctor(bench: &Bench) -> usize {
    for step in 0..10 {
        let found = bench.run(&["doctor"]).out;
        let Some(command) = found.lines().find_map(|line| line.strip_prefix("         run: ")) else {
            return step;
        };
        crate::planted::shell(bench, command).code(0);
    }
    panic!("the commands of the doctor do not come to an end");
}

#[test]
fn a_file_at_the_path_of_any_folder_of_the_store_goes_away_by_the_doctors_command() {
    const AREAS: [&str; 11] = [
        "quarantine",
        "events",
        "state",
        "dlq",
        "locks",
        "deletions",
        "moved",
        "worktrees",
        "orphaned_worktrees",
        "imported",
        "events/shop",
    ];
    for area in AREAS {
        println!("{area}");
        let (bench, _) = two_checkpoints();
        let path = bench.root().join(area);
        let _ = fs::remove_dir_all(&path);
        fs::write(&path, "mine").unwrap();
        bench.run(&["doctor"]).code(5);
        assert!((1..=2).contains(&follow_the_doctor(&bench)));
        bench.run(&["doctor"]).code(0).prints("damage: 0 found");
        bench.append("{\"n\":2}\n");
    }
}

#[test]
fn a_file_that_is_the_quarantine_keeps_no_other_command_of_the_doctor_from_its_work() {
    let (bench, _) = two_checkpoints();
    bench.write("home/.prodigy/quarantine", "mine");
    bench.write("home/.prodigy/dlq", "mine");
    bench.write("home/.prodigy/notes", "mine");
    let found = bench.run(&["doctor", "--verbose"]).code(5).out;
    let named = found
        .lines()
        .filter_map(|line| line.strip_prefix("         run: "));
    let mut named: Vec<&str> = named.collect();
    named.sort_by_key(|command| !command.contains("notes"));
    for command in named
        .into_iter()
        .filter(|command| !command.ends_with("quarantine.file"))
    {
        crate::planted::shell(&bench, command).code(0);
    }
    follow_the_doctor(&bench);
    bench.run(&["doctor"]).code(0).prints("damage: 0 found");
}

#[test]
fn a_doctor_that_reports_a_failure_counts_it_and_does_not_end_with_0() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    bench.write("home/.prodigy/dlq/shop", "mine");
    let run = bench.run(&["doctor"]).code(5);
    assert!(run.out.contains("failure"), "{}", run.out);
    assert!(run.lines().last().unwrap().contains("; 1 failure"), "{}", run.out);
}

#[test]
fn a_doctor_with_too_few_open_files_counts_no_damage() {
    let (bench, _) = two_checkpoints();
    for limit in [8, 9, 10, 12] {
        let tool = bench.std(["doctor", "--repair"]);
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("ulimit -n {limit}; exec \"$@\""))
            .arg("sh");
        let run = crate::support::run(crate::support::started_by(limited, &tool), "");
        assert!(
            run.out.contains("damage: 0 found") || run.err.contains("too many files"),
            "{limit}: {}{}",
            run.out,
            run.err
        );
        assert!(!run.out.contains("damage   "), "{limit}: {}", run.out);
    }
    bench.run(&["doctor"]).code(0);
}
