//! Tests of commands on a root that another program wrote.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Bench, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "mapreduce-1001"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::write(to.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// A copy of a root that the Prodigy program, version 0.4.4, wrote.
fn bench() -> Bench {
    let bench = Bench::new();
    let fixture = "../prodigy-storage-file/tests/fixtures/prodigy-0.4.4";
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture),
        &bench.root(),
    );
    bench
}

/// The bytes and the mode of each file.
fn files(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let files = tree(root).into_iter().filter(|path| path.is_file());
    files
        .map(|path| {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            let bytes = std::fs::read(&path).unwrap();
            (path, (bytes, mode))
        })
        .collect()
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn every_reading_command_that_skips_data_of_another_program_says_so_once_and_ends_with_6() {
    let letters = "3 dead letters of another program";
    let state = "2 files with the state of jobs of another program";
    let lines = "2 lines that are not events, in event files of another program";
    let orphans = "1 list of orphaned worktrees of another program";
    let folders = "1 folder that is not a session's worktree of another program";
    let commands: &[(&[&str], &str)] = &[
        (&["dlq", "list"], letters),
        (&["dlq", "analyze"], letters),
        (&["dlq", "export"], letters),
        (&["checkpoint", "list"], state),
        (&["checkpoint", "list", "--phase", "map"], state),
        (&["checkpoint", "show"], state),
        (&["checkpoint", "show", "--phase", "setup"], state),
        (&["checkpoint", "show", "--phase", "reduce", "--payload"], state),
        (&["checkpoint", "prune", "--keep", "1"], state),
        (&["events", "cat"], lines),
        (&["events", "cat", "--payload", "--since", "2020-01-01"], lines),
        (&["events", "stats"], lines),
        (&["events", "follow", "--for", "300ms"], lines),
    ];
    let bench = bench();
    bench.write(
        "home/.prodigy/events/shop/mapreduce-1001/events-20261128_150000.jsonl",
        "{\"event_type\":\"old\"}\nnot json\n",
    );
    bench.write(
        "home/.prodigy/orphaned_worktrees/shop/mapreduce-7.json",
        "[{\"path\":1}]",
    );
    std::fs::create_dir_all(bench.root().join("worktrees/shop/agent-1")).unwrap();
    let before = files(&bench.root());
    let run = |arguments: &[&str], job: &[&str], told: &str| {
        let run = bench.run(&[arguments, job].concat()).code(6);
        assert_eq!(count(&run.err, "skipped: "), 1, "{}", run.err);
        assert_eq!(count(&run.err, told), 1, "{}", run.err);
        let remedy = match told {
            _ if told == letters || told == state => "`prodigy-storage import /",
            _ if told == folders => "",
            _ => "`prodigy-storage doctor --verbose`",
        };
        assert!(run.err.contains(remedy), "{}", run.err);
        assert_eq!(count(&run.err, "damaged"), 0, "{}", run.err);
    };
    for (arguments, told) in commands {
        run(arguments, &JOB, told);
    }
    run(&["worktree", "orphans"], &["--repo", "shop"], orphans);
    run(
        &["worktree", "orphans"],
        &["--repo", "shop", "--job", "mapreduce-7"],
        orphans,
    );
    run(&["worktree", "list"], &["--repo", "shop"], folders);
    // A command that works on items notes what it skips, and succeeds.
    for arguments in [&["dlq", "take", "--all"][..], &["dlq", "redrive", "--dry-run"]] {
        let run = bench.run(&[arguments, &JOB].concat()).code(0);
        assert_eq!(count(&run.err, letters), 1, "{}", run.err);
        assert_eq!(count(&run.err, "note: 3 dead letters"), 1, "{}", run.err);
    }
    // A missing item has its own exit code, and the command also reports what it skipped.
    for arguments in [["dlq", "show", "item_0"], ["dlq", "remove", "item_0"]] {
        let run = bench.run(&[&arguments[..], &JOB].concat()).code(4);
        assert_eq!(count(&run.err, letters), 1, "{}", run.err);
    }
    let mut after = files(&bench.root());
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn what_is_ours_is_given_beside_what_is_skipped() {
    let bench = bench();
    let push = [&["dlq", "push"], &JOB[..]].concat();
    let pushed = bench.feed(&push, r#"{"item_id":"ours","item_data":1}"#).code(0);
    assert_eq!(
        count(&pushed.err, "skipped"),
        0,
        "a command that only stores skips nothing"
    );
    let run = bench
        .run(&[&["dlq", "list", "--json"], &JOB[..]].concat())
        .code(6);
    assert!(
        run.out.contains("\"ours\"") && !run.out.contains("item_0"),
        "{}",
        run.out
    );
}

#[test]
fn usage_counts_every_file_whoever_wrote_it() {
    let bench = bench();
    let total: usize = files(&bench.root()).values().map(|(bytes, _)| bytes.len()).sum();
    let usage = bench.run(&["usage", "--json"]).code(0).json();
    let areas = usage["areas"].as_array().unwrap();
    let counted: u64 = areas.iter().map(|area| area["bytes"].as_u64().unwrap()).sum();
    assert_eq!(counted, total as u64);
    assert!(
        areas
            .iter()
            .any(|area| area["area"] == "other" && area["files"] == 2)
    );
}

#[test]
fn events_that_stand_twice_count_as_often_as_they_are_given() {
    let bench = bench();
    let line = "{\"timestamp\":\"2026-11-28T15:00:00Z\",\"event\":1}\n";
    bench.write(
        "home/.prodigy/events/shop/mapreduce-1001/events-20261128_150000.jsonl",
        line.repeat(3),
    );
    let given = bench
        .run(&[&["events", "cat"], &JOB[..]].concat())
        .code(0)
        .lines()
        .len();
    let stats = bench
        .run(&[&["events", "stats", "--json"], &JOB[..]].concat())
        .code(0)
        .json();
    assert_eq!((given, &stats["events"]), (15, &serde_json::json!(15)));
    let doctor = bench.run(&["doctor", "--json"]).code(0).jsonl();
    assert_eq!(doctor.last().unwrap()["summary"]["events"], 15);
}

#[test]
fn prune_removes_no_checkpoint_of_another_program_and_does_not_count_it() {
    let bench = bench();
    bench.write(
        "home/.prodigy/state/shop/mapreduce/jobs/mapreduce-1001/map-checkpoint-20261128_120000.json",
        "{\"older\":1}",
    );
    let before = files(&bench.root());
    for n in 0..3 {
        let save = [&["checkpoint", "save", "--phase", "map"], &JOB[..]].concat();
        bench.feed(&save, format!("{{\"n\":{n}}}")).code(0);
    }
    for dry in [true, false] {
        let mut prune = [&["checkpoint", "prune", "--keep", "1", "--json"], &JOB[..]].concat();
        if dry {
            prune.push("--dry-run");
        }
        assert_eq!(bench.run(&prune).code(6).lines().len(), 2);
    }
    let mut after = files(&bench.root());
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
    let show = [&["checkpoint", "show", "--phase", "map", "--payload"], &JOB[..]].concat();
    assert_eq!(bench.run(&show).out, "{\"n\":2}\n");
}

#[test]
fn a_save_of_setup_is_refused_where_the_file_is_another_programs() {
    let bench = bench();
    let before = files(&bench.root());
    let save = [&["checkpoint", "save", "--phase", "setup"], &JOB[..]].concat();
    let run = bench.feed(&save, "{}").code(1);
    let run = run
        .says("setup-checkpoint.json")
        .says("belongs to another program");
    assert_eq!(count(&run.err, "hint: "), 1, "{}", run.err);
    let mut after = files(&bench.root());
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn the_newest_checkpoint_of_another_program_is_the_one_that_states_the_latest_time() {
    let bench = bench();
    let folder = bench.root().join("state/shop/mapreduce/jobs/mapreduce-1001");
    let show = [&["checkpoint", "show"], &JOB[..]].concat();
    let old = std::fs::File::options()
        .write(true)
        .open(folder.join("setup-checkpoint.json"))
        .unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    // By its own data, the setup checkpoint was saved after map and reduce.
    let shown = bench.run(&show).code(6).json();
    assert_eq!(
        (&shown["phase"], &shown["verified"]),
        (&"setup".into(), &false.into())
    );
    assert_eq!(shown["saved_at"], "2026-11-28T13:04:46.279596Z");
    // A checkpoint without a time of its own comes before all others, even if its file is newer.
    std::fs::write(folder.join("setup-checkpoint.json"), "{\"completed\":true}").unwrap();
    assert_eq!(bench.run(&show).code(6).json()["phase"], "map");
    // A checkpoint saved by this tool is the newest, unless another program's checkpoint states a later time.
    std::fs::remove_file(folder.join("map-checkpoint-20261128_130446.json")).unwrap();
    std::fs::remove_file(folder.join("reduce-checkpoint-v1-20261128_130446.json")).unwrap();
    std::fs::write(
        folder.join("map-checkpoint-20200101_000000.json"),
        "{\"metadata\":{\"created_at\":\"2020-01-01T00:00:00Z\"}}",
    )
    .unwrap();
    let save = [&["checkpoint", "save", "--phase", "reduce"], &JOB[..]].concat();
    bench.feed(&save, "{\"ours\":1}").code(0);
    let shown = bench.run(&show).code(6).json();
    assert_eq!(
        (&shown["phase"], &shown["data"]["ours"]),
        (&"reduce".into(), &1.into())
    );
}

#[test]
fn a_session_of_every_command_leaves_the_files_of_another_program_as_they_were() {
    let bench = bench().with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    for path in tree(&bench.root()) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = files(&bench.root());
    let job = |arguments: &[&'static str]| [arguments, &JOB[..]].concat();
    bench
        .feed(&job(&["events", "append", "--batch", "2"]), "1\n2\n3\n")
        .code(0);
    bench
        .feed(&job(&["dlq", "push"]), r#"{"item_id":"a","item_data":1}"#)
        .code(0);
    for phase in ["map", "reduce"] {
        bench
            .feed(&job(&["checkpoint", "save", "--phase", phase]), "{}")
            .code(0);
    }
    let commands: Vec<Vec<&str>> = vec![
        job(&["events", "cat"]),
        job(&["events", "stats"]),
        job(&["events", "follow", "--for", "100ms"]),
        job(&["checkpoint", "list"]),
        job(&["checkpoint", "show"]),
        job(&["checkpoint", "prune", "--keep", "1"]),
        job(&["dlq", "list"]),
        job(&["dlq", "show", "a"]),
        job(&["dlq", "take", "--all"]),
        job(&["dlq", "remove", "a"]),
        vec!["worktree", "list", "--repo", "shop"],
        vec!["worktree", "orphans", "--repo", "shop"],
        vec!["worktree", "path", "--repo", "shop", "session-1"],
        vec!["lock", "list"],
        vec!["lock", "run", "shop/mapreduce-1001", "--", "true"],
        vec!["repo", "identify"],
        vec!["repo", "register", "--as", "other"],
        vec!["config", "show"],
        vec!["config", "check"],
        vec!["usage"],
        vec!["doctor"],
        vec!["doctor", "--repair"],
    ];
    for command in commands {
        let run = bench.run(&command);
        assert!(matches!(run.code, Some(0 | 6)), "{command:?}: {}", run.err);
    }
    bench.run(&["health"]);
    let mut after = files(&bench.root());
    assert!(after.len() > before.len());
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn a_doctor_gives_one_line_for_each_kind_and_ends_well() {
    let bench = bench();
    let before = tree(&bench.root());
    for arguments in [&["doctor", "--json"][..], &["doctor", "--json", "--repair"]] {
        let lines = bench.run(arguments).code(0).jsonl();
        assert!(lines.len() <= 10, "{lines:?}");
        assert_eq!(lines.last().unwrap()["summary"]["damage"], 0);
    }
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn orphans_of_another_program_are_listed_and_kept() {
    let bench = bench();
    let run = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--json"])
        .code(0);
    assert!(run.out.contains("/tmp/wt/agent-1"), "{}", run.out);
}

#[test]
fn a_checkpoint_of_another_program_over_the_limit_does_not_hide_the_one_before_it() {
    let bench = Bench::new();
    let job = ["--repo", "shop", "--job", "job"];
    let save = [&["checkpoint", "save", "--phase", "map"][..], &job].concat();
    bench.feed(&save, "{\"done\":7}").code(0);
    let state = "home/.prodigy/state/shop/mapreduce/jobs/job";
    let large = format!("{{\"state\":\"{}\"}}", "x".repeat(2 << 20));
    let file = bench.write(&format!("{state}/map-checkpoint-20991128_120000.json"), &large);
    let limited = |bench: Bench| bench.with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "1MiB");
    let bench = limited(bench);
    let show = [&["checkpoint", "show", "--payload"][..], &job].concat();
    let shown = bench.run(&show).code(6);
    assert_eq!(shown.out, "{\"done\":7}\n");
    shown
        .says("is skipped, and one before it is used")
        .says("map-checkpoint-20991128_120000.json")
        .says("larger than `max_document_size`");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), large);
    // The newest checkpoint was saved by this tool and is too large to read. An older one must not be used instead.
    std::fs::remove_file(&file).unwrap();
    let bench = bench.with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "8MiB");
    bench.feed(&save, large).code(0);
    let bench = limited(bench);
    bench.run(&show).code(1).says("larger than `max_document_size`");
}

/// The removals in the audit log: the job, the count, the bytes and the outcome.
fn removals(bench: &Bench) -> Vec<(String, u64, u64, String)> {
    let log = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
    let row = |entry: &serde_json::Value| {
        let removal = &entry["removal"];
        (
            removal["job"]["job"].as_str().unwrap().to_owned(),
            removal["count"].as_u64().unwrap(),
            removal["bytes"].as_u64().unwrap(),
            removal["outcome"].to_string(),
        )
    };
    log.iter().map(row).collect()
}

#[test]
fn a_job_with_nothing_but_files_of_another_program_is_never_removed_nor_recorded_as_removed() {
    let bench = bench();
    let before = files(&bench.root());
    let is_kept = |bench: &Bench| {
        let after = files(&bench.root());
        before.iter().all(|(path, file)| after.get(path) == Some(file))
    };
    // The first write begins a store.
    bench
        .feed(&["events", "append", "--repo", "other", "--job", "j"], "1\n")
        .code(0);
    let clean = |how: &[&str]| bench.run(&[&["clean", "--idle-jobs", "0s", "--repo", "shop"], how].concat());
    for how in [&[][..], &["--yes"], &["--yes"]] {
        let run =
            clean(how).says("old enough is 1 job, with nothing but files of other programs, which stay");
        assert_eq!(run.out, "");
    }
    let auto = clean(&["--auto"]);
    assert_eq!(auto.out, "");
    let delete = ["job", "delete", "mapreduce-1001", "--repo", "shop", "--yes"];
    let run = bench
        .run(&delete)
        .code(6)
        .says("shop/mapreduce-1001 is still listed");
    assert!(!run.out.contains("deleted"), "{}", run.out);
    let json = bench.run(&[&delete[..], &["--json"]].concat()).code(6).json();
    assert_eq!(json["deleted"], false);
    assert!(json["left"].as_array().unwrap().len() > 5, "{json}");
    assert_eq!(removals(&bench), []);
    assert!(is_kept(&bench));
    // The hint names all of the files.
    let fix = run.err.split('`').nth(1).unwrap();
    crate::planted::shell(&bench, fix).code(0);
    let jobs = bench.run(&["job", "list", "--repo", "shop", "--json"]).jsonl();
    assert!(jobs.iter().all(|job| job["job"] != "mapreduce-1001"), "{jobs:?}");
}

#[test]
fn of_a_job_with_files_of_another_program_the_own_bytes_alone_are_removed_and_recorded() {
    for command in [
        &[
            "clean",
            "--idle-jobs",
            "0s",
            "--repo",
            "shop",
            "--job",
            "mapreduce-1001",
            "--yes",
        ][..],
        &["job", "delete", "mapreduce-1001", "--repo", "shop", "--yes"],
    ] {
        let bench = bench();
        let before = files(&bench.root());
        bench
            .feed(&[&["events", "append"], &JOB[..]].concat(), "1\n")
            .code(0);
        let of_job = bench.root().join("events/shop/mapreduce-1001");
        let own = files(&of_job)
            .into_iter()
            .filter(|(path, _)| !before.contains_key(path));
        let bytes = own.map(|(_, (bytes, _))| bytes.len() as u64).sum::<u64>();
        assert!(bytes > 0);
        for _ in 0..2 {
            bench.run(command);
            let once = ("mapreduce-1001".to_owned(), 1, bytes, "\"removed\"".to_owned());
            assert_eq!(removals(&bench), [once], "{command:?}");
        }
    }
}
