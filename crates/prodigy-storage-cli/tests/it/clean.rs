//! Tests of `clean`.

use serde_json::Value;

use crate::support::Bench;

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

/// Appends events, each to a new segment.
fn append(bench: &Bench, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let words = [&["events", "append"][..], &JOB].concat();
        bench.feed(&words, format!("{number}\n")).code(0);
    }
}

fn bench() -> Bench {
    Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "1")
}

/// A job with four sealed segments, an unsealed one, and three checkpoints.
fn filled() -> Bench {
    let bench = bench();
    append(&bench, 0..5);
    for number in 0..3 {
        let words = [&["checkpoint", "save", "--phase", "map"][..], &JOB].concat();
        bench.feed(&words, number.to_string()).code(0);
    }
    bench
}

fn payloads(bench: &Bench) -> String {
    bench
        .run(&[&["events", "cat", "-o", "payload"][..], &JOB].concat())
        .code(0)
        .out
}

#[test]
fn a_plan_is_shown_and_carried_out_with_yes() {
    let bench = filled();
    let rules = ["clean", "--events", "1ns", "--keep-checkpoints", "2"];
    let plan = bench.run(&rules).code(0);
    let lines = plan.lines();
    assert_eq!(lines.len(), 3, "{}", plan.out);
    assert!(
        lines[1].starts_with("events") && lines[1].ends_with("shop/job"),
        "{}",
        plan.out
    );
    assert!(lines[2].starts_with("checkpoints"), "{}", plan.out);
    plan.says("nothing was removed; `--yes` makes 2 removals");
    assert_eq!(payloads(&bench), "0\n1\n2\n3\n4\n");
    let done = [&rules[..], &["--yes", "--json"]].concat();
    let removals = bench.run(&done).code(0).jsonl();
    assert_eq!(removals.len(), 2);
    assert_eq!(
        (
            &removals[0]["kind"],
            &removals[0]["count"],
            &removals[0]["outcome"]
        ),
        (&"events".into(), &4.into(), &"removed".into())
    );
    assert_eq!(payloads(&bench), "4\n");
    let none = bench.run(&rules).code(0);
    none.says("nothing is old enough: events stay for 1s, the newest 2 checkpoints of a phase stay; the oldest last write of a job is ");
    bench.run(&["doctor"]).code(0);
}

#[test]
fn the_jobs_that_no_rule_is_about_are_named_with_the_flag_that_is_missing() {
    let bench = bench();
    bench.append("1\n");
    bench
        .run(&["clean", "--finished-jobs", "1d"])
        .code(0)
        .says("finished jobs stay for 1d; the oldest last write of a job is ")
        .says("no rule is set for 1 unfinished job: `--idle-jobs 90d`, or `job finish` and");
    bench.run(&["job", "finish", "job", "--repo", "shop"]).code(0);
    bench
        .run(&["clean", "--idle-jobs", "1d"])
        .code(0)
        .says("no rule is set for 1 finished job: `--finished-jobs 30d`");
    let both = bench.run(&["clean", "--idle-jobs", "1d", "--finished-jobs", "1d"]);
    assert!(!both.code(0).err.contains("no rule"));
}

#[test]
fn a_plan_counts_segments_and_an_active_job_is_named_with_its_process() {
    let bench = filled();
    let plan = bench.run(&["clean", "--events", "1ns"]).code(0).out;
    assert!(plan.contains("events  4 segments"), "{plan}");
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let clean = |more: &[&'static str]| {
        let held = [
            "lock",
            "run",
            "shop/job/resume",
            "--",
            tool,
            "clean",
            "--idle-jobs",
            "1ns",
        ];
        bench.run(&[&held[..], more].concat()).code(0)
    };
    let one = clean(&JOB);
    let one = one.says("nothing is removed: shop/job is active: process ");
    let one = one.says(" holds the lock `shop/job/resume`");
    assert!(!one.err.contains("old enough"), "{}", one.err);
    clean(&[]).says("nothing is old enough: idle jobs stay for 1s; shop/job is active: process ");
}

#[test]
fn the_log_names_each_removal() {
    let bench = filled();
    assert_eq!(bench.run(&["clean", "--log"]).code(0).out, "");
    bench
        .run(&["clean", "--idle-jobs", "1ns", "--yes"])
        .code(0)
        .says("removed ");
    let log = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
    assert_eq!(log.len(), 1);
    assert!(log[0]["time"].is_string(), "{}", log[0]);
    assert_eq!(
        (
            &log[0]["removal"]["kind"],
            &log[0]["removal"]["rule"],
            &log[0]["removal"]["job"]["job"]
        ),
        (&"job".into(), &"retention.idle_jobs".into(), &Value::from("job"))
    );
    let table = bench.run(&["clean", "--log"]).code(0);
    assert!(table.lines()[1].ends_with("shop/job"), "{}", table.out);
    bench.run(&["job", "show", "job", "--repo", "shop"]).code(4);
}

#[test]
fn a_timer_hears_nothing_where_nothing_is_due_and_the_configuration_is_its_rule() {
    let bench = filled();
    let quiet = bench.run(&["clean", "--auto"]).code(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    bench
        .run(&["clean"])
        .code(0)
        .says("nothing is removed without a rule");
    let bench = bench.with("PRODIGY__STORAGE__RETENTION__EVENTS__MAX_AGE", "1ns");
    bench.run(&["clean", "--auto"]).code(0).says("removed ");
    assert_eq!(payloads(&bench), "4\n");
}

#[test]
fn a_timer_removes_nothing_when_the_clock_is_so_far_ahead_that_all_data_looks_old() {
    let bench = bench().with("PRODIGY__STORAGE__RETENTION__IDLE_JOBS", "30d");
    append(&bench, 0..5);
    make_old(&bench.root());
    let refused = bench.run(&["clean", "--auto"]).code(1);
    assert!(
        refused.err.contains("nothing was removed") && refused.err.contains("clean --yes"),
        "{}",
        refused.err
    );
    assert_eq!(payloads(&bench), "0\n1\n2\n3\n4\n");
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n").code(0);
    // A program has written with this clock since, which does not prove that the clock is right.
    let held = bench.run(&["clean", "--auto"]).code(0);
    held.says("1 removal due by the clock, and held back")
        .says("clean --yes");
    assert_eq!(payloads(&bench), "0\n1\n2\n3\n4\n");
    bench.run(&["clean", "--yes"]).code(0).says("removed ");
    bench.run(&["job", "show", "job", "--repo", "shop"]).code(4);
    make_old(&bench.root());
    bench.run(&["clean", "--yes"]).code(0).says("removed ");
    bench.run(&["job", "show", "other", "--repo", "shop"]).code(4);
}

#[test]
fn an_overtaken_holder_of_a_lock_removes_nothing_and_restores_nothing() {
    let bench = filled();
    let archive = bench.path("archive");
    let archive = archive.to_str().unwrap();
    let of_job = ["--repo", "shop", "--job", "job"];
    bench.run(&[&["backup", archive][..], &of_job].concat()).code(0);
    let words = [
        &[
            "checkpoint",
            "save",
            "--phase",
            "map",
            "--fencing",
            "shop/resume=2",
        ][..],
        &JOB,
    ]
    .concat();
    bench.feed(&words, "9").code(0);
    let bench = bench.with("PRODIGY_STORAGE_FENCE", "shop/resume=1");
    for rule in ["--idle-jobs", "--events"] {
        let refused = bench.run(&["clean", rule, "1ns", "--yes"]).code(1);
        assert!(refused.err.contains("fenced off"), "{}", refused.err);
        assert_eq!(payloads(&bench), "0\n1\n2\n3\n4\n");
    }
    let bench = bench.with("PRODIGY_STORAGE_FENCE", "shop/resume=3");
    bench.run(&["clean", "--idle-jobs", "1ns", "--yes"]).code(0);
    let bench = bench.with("PRODIGY_STORAGE_FENCE", "shop/resume=2");
    bench.run(&["restore", archive]).code(1).says("fenced off");
    bench.run(&["job", "show", "job", "--repo", "shop"]).code(4);
    let bench = bench.with("PRODIGY_STORAGE_FENCE", "shop/resume=3");
    bench.run(&["restore", archive]).code(0);
    assert_eq!(payloads(&bench), "0\n1\n2\n3\n4\n");
}

/// Sets the mtime of a folder and its contents to a time long ago.
fn make_old(folder: &std::path::Path) {
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365 * 40);
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_symlink() {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            make_old(&entry.path());
        }
        std::fs::File::open(entry.path())
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
}

#[test]
fn a_reader_that_did_not_get_the_removed_events_is_refused_and_one_that_did_goes_on() {
    let bench = bench();
    let end = || {
        let words = [&["events", "end", "--json"][..], &JOB].concat();
        bench.run(&words).code(0).json()["cursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let follow = |cursor: &str| {
        let words = [&["events", "follow", "--for", "0s", "--cursor", cursor][..], &JOB].concat();
        bench.run(&words)
    };
    append(&bench, 0..1);
    let early = end();
    append(&bench, 1..4);
    let late = end();
    append(&bench, 4..5);
    bench.run(&["clean", "--events", "1ns", "--yes"]).code(0);
    let refused = follow(&early).code(1);
    assert!(
        refused.err.contains("cursor gap") && refused.err.contains("removed"),
        "{}",
        refused.err
    );
    let next = follow(&late).code(0).jsonl();
    assert_eq!((next.len(), &next[0]["event"]), (1, &4.into()));
}

#[test]
fn what_stays_is_an_error() {
    let bench = filled();
    let folder = bench.root().join("state/shop/mapreduce/jobs/job");
    std::fs::write(folder.join("finished.json"), "{}").unwrap();
    let refused = bench.run(&["clean", "--idle-jobs", "1ns", "--yes"]).code(1);
    assert!(
        refused.err.contains("not removed: job of shop/job"),
        "{}",
        refused.err
    );
    bench.run(&["clean", "--yes", "--auto"]).code(2);
    bench.run(&["clean", "--keep-checkpoints", "0"]).code(2);
}

/// Plants the tombstone of a deletion whose process was killed.
fn half_deleted(bench: &Bench) {
    bench.write(
        "home/.prodigy/deletions/shop/job.json",
        "{\"deleted_at\":\"2026-11-28T15:00:00Z\"}\n",
    );
}

#[test]
fn a_deletion_that_was_cut_short_is_named_everywhere_and_ended_by_any_clean() {
    for way in [
        &["--yes"][..],
        &["--auto"],
        &["--yes", "--repo", "shop", "--job", "job"],
    ] {
        let bench = filled();
        let other = ["events", "append", "--repo", "shop", "--job", "other"];
        bench.feed(&other, "1\n").code(0);
        bench.run(&["status"]).code(0).prints("no problems");
        half_deleted(&bench);
        assert_eq!(
            bench
                .run(&["job", "list", "--repo", "shop"])
                .code(0)
                .lines()
                .len(),
            2
        );
        let status = bench.run(&["status"]).code(0).out;
        assert!(
            status.contains("the deletion or restore of shop/job was cut short"),
            "{status}"
        );
        // It is about this job alone: a rule of retention may be set.
        let command = "run: prodigy-storage clean --repo shop --job job --yes";
        assert!(status.contains(command), "{status}");
        bench
            .run(&["health"])
            .code(0)
            .prints("warning  deletions: the deletion or restore of shop/job")
            .prints(command);
        let doctor = bench.run(&["doctor"]).code(0).out;
        assert!(doctor.contains(command), "{doctor}");
        assert_eq!(
            doctor.matches("cut short").count() + doctor.matches("unfinished deletion").count(),
            1,
            "{doctor}"
        );
        for usage in [&["usage"][..], &["usage", "--jobs"]] {
            bench
                .run(usage)
                .code(0)
                .says("belong to 1 job whose deletion was cut short");
        }
        // The plan names it, without any rule, and removes nothing.
        let plan = bench.run(&["clean", "--json"]).code(0).json();
        assert_eq!(
            (&plan["kind"], &plan["outcome"]),
            (&"unfinished_deletion".into(), &"due".into())
        );
        assert_eq!(plan["job"]["job"], "job");
        assert!(plan["bytes"].as_u64().unwrap() > 500, "{plan}");
        assert!(bench.root().join("events/shop/job").exists());

        bench
            .run(&[&["clean"][..], way].concat())
            .code(0)
            .prints("unfinished deletion");
        for gone in [
            "events/shop/job",
            "state/shop/mapreduce/jobs/job",
            "deletions/shop/job.json",
        ] {
            assert!(!bench.root().join(gone).exists(), "{gone}");
        }
        bench
            .run(&["clean"])
            .code(0)
            .says("nothing is removed without a rule");
        bench.run(&["doctor"]).code(0).prints("0 warnings, 0 notes");
        bench.run(&["status"]).code(0).prints("no problems");
        let log = bench.run(&["clean", "--log", "--json"]).code(0).json();
        assert_eq!(log["removal"]["kind"], "unfinished_deletion");
        assert_eq!(
            bench
                .run(&[&["events", "cat"][..], &other[2..]].concat())
                .code(0)
                .lines()
                .len(),
            1
        );
    }
}

#[test]
fn folders_and_links_in_the_quarantine_go_with_their_age() {
    let bench = filled();
    let at = |name: &str| format!("home/.prodigy/quarantine/{name}");
    bench.write(&at("old-folder/deep/er/file"), "0123456789");
    bench.write(&at("old-folder/file"), "01234");
    std::fs::create_dir_all(bench.path(&at("empty"))).unwrap();
    let outside = bench.write("outside/file", "mine");
    std::os::unix::fs::symlink(outside.parent().unwrap(), bench.path(&at("link"))).unwrap();
    let link = bench.path(&at("link"));
    let touched = std::process::Command::new("touch")
        .args(["-h", "-d", "2020-01-01"])
        .arg(link)
        .status();
    assert!(touched.unwrap().success());
    make_old(&bench.path(&at("")));
    bench.write(&at("new-folder/file"), "x");
    let clean = ["clean", "--quarantine", "30d"];
    let plan = bench.run(&[&clean[..], &["--json"]].concat()).code(0).json();
    assert_eq!(plan["count"], 4, "two files, a link and an empty folder: {plan}");
    assert!(plan["bytes"].as_u64().unwrap() >= 15, "{plan}");
    bench
        .run(&[&clean[..], &["--yes"]].concat())
        .code(0)
        .says("removed ");
    let left = std::fs::read_dir(bench.path(&at(""))).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["new-folder"]);
    assert!(outside.exists());
}

#[test]
fn a_job_without_a_repository_is_one_of_the_repository_here() {
    let bench = Bench::new();
    for repo in ["here", "shop"] {
        let append = ["events", "append", "--repo", repo, "--job", "nightly"];
        bench.feed(&append, "1\n").code(0);
    }
    let append = ["events", "append", "--repo", "shop", "--job", "weekly"];
    bench.feed(&append, "1\n").code(0);
    let copied = bench.path("copied");
    let to = copied.to_str().unwrap();
    for command in [
        &["clean", "--idle-jobs", "0s"][..],
        &["copy", "--to", to],
        &["copy", "--to", to, "--keep-source"],
    ] {
        let here = bench.run(&[command, &["--job", "nightly"]].concat()).code(0).out;
        assert!(here.contains("here/nightly") && !here.contains("shop/"), "{here}");
        let all = [command, &["--job", "nightly", "--all-repos"]].concat();
        bench
            .run(&all)
            .code(0)
            .prints("here/nightly")
            .prints("shop/nightly");
        bench
            .run(&[command, &["--job", "weekly"]].concat())
            .code(4)
            .says("no job `weekly` in the repository `here`");
        bench
            .run(&[command, &["--job", "wekly", "--all-repos"]].concat())
            .code(4)
            .says("did you mean `shop/weekly`?");
        bench
            .run(&[command, &["--job", "weekly", "--all-repos", "--repo", "shop"]].concat())
            .code(2);
    }
    bench
        .run(&["doctor", "--job", "weekly"])
        .code(4)
        .says("in the repository `here`");
    bench.run(&["doctor", "--job", "weekly", "--all-repos"]).code(0);
    bench
        .run(&["copy", "--reopen", "--job", "weekly"])
        .code(4)
        .says("in the repository `here`");
}

#[test]
fn a_removal_that_died_before_it_unlinked_anything_frees_its_space_when_it_is_run_again() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "4096");
    let pad = "x".repeat(1500);
    for number in 0..9 {
        bench.append(&format!("{{\"n\":{number},\"pad\":\"{pad}\"}}\n"));
    }
    let log = bench.root().join("events/shop/job");
    let segments = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect()
    };
    let kept = bench.path("kept");
    std::fs::create_dir(&kept).unwrap();
    for segment in segments(&log) {
        std::fs::copy(&segment, kept.join(segment.file_name().unwrap())).unwrap();
    }
    let clean = ["clean", "--events", "0s", "--yes"];
    bench.run(&clean).code(0);
    let left = segments(&log);
    // The files of the removal are there again, and its mark hides them.
    for segment in segments(&kept) {
        let place = log.join(segment.file_name().unwrap());
        if !left.contains(&place) {
            std::fs::copy(&segment, place).unwrap();
        }
    }
    assert!(segments(&log).len() > left.len());
    bench.run(&clean).code(0);
    assert_eq!(segments(&log).len(), left.len());
    assert!(!bench.root().join("quarantine").exists());
}
