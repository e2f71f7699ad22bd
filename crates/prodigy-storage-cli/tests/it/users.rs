//! Tests with data of other users, and under conditions in which the next write would fail.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::support::{Bench, Run, SAVE, run, started_by, tree};

/// The id of an ordinary user.
const USER: &str = "4242";

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A bench whose folders every user may enter. If this process can't change its user, prints a notice and returns
/// `None`.
fn bench() -> Option<Bench> {
    let bench = Bench::new();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let may = as_user_with(&["test", "-x", tool]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this machine lets no other user run the tool");
        return None;
    }
    set(&bench.path(""), 0o755);
    std::fs::create_dir_all(bench.path("home")).unwrap();
    Some(bench)
}

fn as_user_with(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .args(arguments);
    command
}

/// Runs the tool as the ordinary user.
fn as_user(bench: &Bench, arguments: &[&str], input: &str) -> Run {
    run(started_by(as_user_with(&[]), &bench.std(arguments)), input)
}

/// Gives the home folder to the user, and has the user create a root there.
fn fill(bench: &Bench) {
    chown(bench.path("home"), Some(4242), Some(4242)).unwrap();
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    as_user(bench, &append, "1\n").code(0);
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    as_user(bench, &["dlq", "push", "--repo", "shop", "--job", "job"], letter).code(0);
    as_user(bench, &SAVE, "{}").code(0);
}

#[test]
fn a_run_as_root_makes_nothing_in_a_users_root() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    let before = tree(&bench.root());
    let append = ["events", "append", "--repo", "other", "--job", "job"];
    let refused = bench
        .feed(&append, "1\n")
        .code(1)
        .says("user 4242")
        .says("allow_foreign_owner");
    assert!(refused.err.contains("mode 0700"), "{}", refused.err);
    assert_eq!(tree(&bench.root()), before);
    bench
        .run(&["events", "cat", "--repo", "shop", "--job", "job"])
        .code(0);
    let health = bench.run(&["health"]).code(1);
    assert!(
        health.out.contains("user 4242") && health.out.contains("allow_foreign_owner"),
        "{}",
        health.out
    );
    // The user allows the foreign owner in the configuration, and then the command succeeds.
    let bench = bench.with("PRODIGY__STORAGE__BACKEND_CONFIG__ALLOW_FOREIGN_OWNER", "true");
    bench.feed(&append, "1\n").code(0);
    assert_eq!(
        bench.run(&["health", "--json"]).code(0).json()["severity"],
        "warning"
    );
    as_user(&bench, &append, "2\n").code(0);
    as_user(&bench, &["health"], "").code(0);
}

#[test]
fn a_root_of_root_is_named_with_its_owner_and_mode() {
    let Some(bench) = bench() else { return };
    bench.append("1\n");
    set(&bench.path("home"), 0o755);
    let root = bench.root();
    for arguments in [
        &["health"][..],
        &["usage"],
        &["events", "cat", "--repo", "shop", "--job", "job"],
        &["lock", "list"],
    ] {
        for flag in [None, Some("--base-dir")] {
            let mut arguments = arguments.to_vec();
            arguments.extend(flag);
            arguments.extend(flag.and(root.to_str()));
            let failed = as_user(&bench, &arguments, "");
            assert!(
                matches!(failed.code, Some(1 | 2)),
                "{arguments:?}: {:?}",
                failed.code
            );
            let says = format!("{}{}", failed.err, failed.out);
            assert!(
                says.contains(root.to_str().unwrap()) && says.contains("0700"),
                "{says}"
            );
            assert!(says.contains("user 0"), "{says}");
            assert!(!says.contains("the configuration file can't be read"), "{says}");
        }
    }
}

#[test]
fn health_and_usage_do_not_pass_over_what_the_user_cannot_enter() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    as_user(&bench, &["health"], "").code(0);
    as_user(&bench, &["usage"], "").code(0);
    // Folders that belong to root, as an earlier run as root would leave them.
    for (below, mode) in [
        ("events/shop/job", 0o700),
        ("dlq/shop", 0o755),
        ("state/shop/mapreduce", 0o500),
    ] {
        let folder = bench.root().join(below);
        let before = std::fs::metadata(&folder).unwrap().permissions();
        chown(&folder, Some(0), Some(0)).unwrap();
        set(&folder, mode);
        let health = as_user(&bench, &["health"], "").code(1);
        let named = format!("{} (owner 0, mode {mode:04o})", folder.display());
        assert!(health.out.contains(&named), "{}", health.out);
        let usage = as_user(&bench, &["usage", "--json"], "");
        if mode == 0o755 {
            usage.code(0);
        } else {
            let usage = usage
                .code(1)
                .says(folder.to_str().unwrap())
                .says("belongs to user 0")
                .err;
            assert!(usage.contains("not counted"), "{usage}");
        }
        chown(&folder, Some(4242), Some(4242)).unwrap();
        std::fs::set_permissions(&folder, before).unwrap();
    }
    as_user(&bench, &["health"], "").code(0);
}

#[test]
fn a_job_that_cannot_be_read_is_named_and_the_others_are_listed() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    for (repo, job) in [("shop", "other"), ("yard", "third")] {
        let append = ["events", "append", "--repo", repo, "--job", job];
        as_user(&bench, &append, "2\n").code(0);
    }
    set(&bench.path("here"), 0o777);
    let orphans = bench.write("home/.prodigy/orphaned_worktrees/shop/job.json", "[]");
    chown(orphans.parent().unwrap(), Some(4242), Some(4242)).unwrap();
    chown(&orphans, Some(0), Some(0)).unwrap();
    set(&orphans, 0o644);
    let lists: [(&[&str], i32); 11] = [
        (&["status"], 6),
        (&["job", "list", "--all-repos"], 6),
        (&["repo", "list"], 6),
        (&["usage", "--jobs"], 6),
        (&["usage"], 1),
        (&["clean", "--idle-jobs", "0s"], 1),
        (&["report", "--repo", "shop", "--output", "report.html"], 6),
        (&["backup", "all.tar.zst"], 6),
        (&["events", "cat", "--repo", "shop", "--all-jobs"], 6),
        (&["events", "tail", "--repo", "shop", "--all-jobs"], 6),
        (&["events", "stats", "--repo", "shop", "--all-jobs"], 6),
    ];
    // The unreadable place, the job that is still listed, and the number of commands above that read the place.
    for (below, owner, other, count) in [
        ("events/shop/job", 4242, "other", 11),
        ("events/shop/job", 0, "other", 11),
        ("state/shop/mapreduce/jobs/job", 4242, "other", 8),
        ("dlq/shop/job", 4242, "other", 8),
        ("events/shop", 4242, "third", 8),
    ] {
        let folder = bench.root().join(below);
        let before = std::fs::metadata(&folder).unwrap().permissions();
        chown(&folder, Some(owner), Some(owner)).unwrap();
        set(&folder, 0o000);
        for (arguments, code) in lists.into_iter().take(count) {
            let mut listed = as_user(&bench, arguments, "").code(code);
            if arguments == ["status"] {
                // It is among the problems.
                listed.err.push_str(&listed.out);
            }
            let listed = listed.says(folder.to_str().unwrap());
            let remedy = match owner {
                4242 => format!("chmod u+rwx {}", folder.display()),
                _ => format!("chown -R 4242 {}", folder.display()),
            };
            match arguments {
                ["backup", ..] => assert!(listed.err.contains("doctor"), "{}", listed.err),
                ["usage"] => {}
                _ => assert!(listed.err.contains(&remedy), "{arguments:?}: {}", listed.err),
            }
            let shown = match arguments {
                ["events", "stats", ..] => "events      1".to_owned(),
                ["events", ..] => "\"event\":2".to_owned(),
                ["report", ..] if other == "other" => "1 job".to_owned(),
                ["report", ..] => "0 jobs".to_owned(),
                ["backup", ..] => "written to".to_owned(),
                ["repo", ..] | ["usage"] => "yard".to_owned(),
                _ => other.to_owned(),
            };
            assert!(listed.out.contains(&shown), "{arguments:?}: {}", listed.out);
            for file in ["report.html", "all.tar.zst"] {
                let _ = std::fs::remove_file(bench.path("here").join(file));
            }
        }
        chown(&folder, Some(4242), Some(4242)).unwrap();
        std::fs::set_permissions(&folder, before).unwrap();
    }
    set(&orphans, 0o000);
    as_user(&bench, &["worktree", "orphans", "--repo", "shop"], "")
        .code(6)
        .says(orphans.to_str().unwrap());
    let one = ["backup", "--repo", "shop", "--job", "job", "one.tar.zst"];
    as_user(&bench, &one, "").code(1).says(orphans.to_str().unwrap());
    set(&orphans, 0o644);
    // It can be read, and not be written to: a check fails, as in `health`.
    as_user(&bench, &["status"], "").code(1);
}

#[test]
fn a_clean_that_fails_half_way_counts_what_it_removed() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    for state in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
        as_user(&bench, &SAVE, state).code(0);
    }
    let folder = bench.root().join("state/shop/mapreduce/jobs/job");
    let files = || {
        let entries = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.collect();
        files.sort();
        files
    };
    // In such a folder, a user can remove only files of their own.
    let theirs = files()[1].clone();
    chown(&theirs, Some(0), Some(4242)).unwrap();
    set(&theirs, 0o640);
    chown(&folder, Some(0), Some(0)).unwrap();
    set(&folder, 0o1777);
    let clean = ["clean", "--keep-checkpoints", "1", "--yes", "--json"];
    let run = as_user(&bench, &clean, "")
        .code(1)
        .says("not removed: checkpoints of shop/job, 1 with");
    let counts: Vec<_> = run.jsonl().iter().map(|line| line["count"].clone()).collect();
    assert_eq!(counts, [2, 1], "{}", run.out);
    assert_eq!(
        files().len(),
        2,
        "the newest checkpoint, and the one of another user"
    );
    let log = as_user(&bench, &["clean", "--log", "--json"], "").code(0).jsonl();
    let kept = log
        .iter()
        .filter(|line| line["removal"]["outcome"]["kept"].is_object());
    let kept: Vec<_> = kept.map(|line| &line["removal"]["count"]).collect();
    assert_eq!(kept, [1], "{log:?}");
    let run = as_user(&bench, &clean, "")
        .code(1)
        .says("note: nothing was removed");
    let lines = run.jsonl();
    assert_eq!(lines.len(), 1, "{}", run.out);
    assert_eq!(lines[0]["count"], 1);
    // The deletion of a job that stops in the middle: the job is gone for readers, and its files are not.
    let events = bench.root().join("events/shop/job");
    for entry in std::fs::read_dir(&events).unwrap() {
        let entry = entry.unwrap().path();
        chown(&entry, Some(0), Some(0)).unwrap();
        set(&entry, 0o644);
    }
    chown(&folder, Some(4242), Some(4242)).unwrap();
    chown(&theirs, Some(4242), Some(4242)).unwrap();
    chown(&events, Some(0), Some(0)).unwrap();
    set(&events, 0o1777);
    let idle = ["clean", "--idle-jobs", "1ns", "--yes", "--json"];
    let run = as_user(&bench, &idle, "").code(1).says("its deletion has begun");
    let counts: Vec<_> = run
        .jsonl()
        .iter()
        .map(|line| (line["count"].clone(), line["bytes"] == 0))
        .collect();
    assert_eq!(counts, [(1.into(), true), (0.into(), false)], "{}", run.out);
    chown(&events, Some(4242), Some(4242)).unwrap();
    let command = "`prodigy-storage clean --repo shop --job job --yes`";
    assert!(run.err.contains(command), "{}", run.err);
    as_user(&bench, &["clean", "--yes"], "").code(0);
    assert!(!events.exists());
}

#[test]
fn health_names_what_can_be_read_and_not_written() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    as_user(&bench, &["lock", "run", "shop/x", "--", "true"], "").code(0);
    for below in [
        "dlq/shop/job/items.json",
        "dlq/shop/job/items.lock",
        "locks/2/shop/x.lock",
        "locks/state/shop/job.lock",
        "dlq/shop/job",
        "events/shop/job",
        "state/shop/mapreduce/jobs/job",
    ] {
        let path = bench.root().join(below);
        let before = std::fs::metadata(&path).unwrap().permissions();
        set(&path, before.mode() & 0o555);
        let health = as_user(&bench, &["health"], "").code(1);
        assert!(
            health.out.contains(path.to_str().unwrap()),
            "{below}: {}",
            health.out
        );
        std::fs::set_permissions(&path, before).unwrap();
    }
    // A sealed segment, and a document that is replaced whole, may be read-only.
    for folder in ["events/shop/job", "state/shop/mapreduce/jobs/job"] {
        for entry in std::fs::read_dir(bench.root().join(folder)).unwrap() {
            set(&entry.unwrap().path(), 0o400);
        }
    }
    as_user(&bench, &["health"], "").code(0);
}

#[test]
fn health_fails_for_a_root_where_the_file_system_takes_no_files() {
    let bench = Bench::new();
    for root in ["/proc/prodigy", "/sys/prodigy", "/sys/kernel/prodigy"] {
        let health = bench.run(&["health", "--base-dir", root]).code(1);
        assert!(health.out.contains(root), "{}", health.out);
        bench
            .run(&["lock", "run", "--base-dir", root, "l", "--", "true"])
            .code(1);
    }
}

#[test]
fn from_a_folder_that_cannot_be_entered_an_absolute_base_dir_is_enough() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    let closed = bench.path("closed");
    std::fs::create_dir(&closed).unwrap();
    let root = bench.root();
    let root = root.to_str().unwrap();
    let job = ["--repo", "shop", "--job", "job"];
    let commands: [&[&str]; 6] = [
        &["health"],
        &["usage"],
        &["lock", "list"],
        &["events", "cat", job[0], job[1], job[2], job[3]],
        &["events", "append", job[0], job[1], job[2], job[3]],
        &["lock", "run", "l", "--wait", "0s", "--", "true"],
    ];
    for mode in [0o700, 0o000] {
        set(&closed, mode);
        for command in commands {
            let (before, behind) = match command.iter().position(|word| *word == "--") {
                Some(at) => command.split_at(at),
                None => (command, &[][..]),
            };
            let arguments = [before, &["--base-dir", root], behind].concat();
            let tool = bench.std(&arguments);
            // The namespace is entered while this process still has the rights of root.
            let mut as_user = as_user_with(&[env!("CARGO_BIN_EXE_prodigy-storage")]);
            as_user.args(&arguments).env_clear().current_dir(&closed);
            for (name, value) in tool.get_envs() {
                as_user.env(name, value.unwrap_or_default());
            }
            run(as_user, "1\n").code(0);
        }
    }
    set(&closed, 0o755);
}

#[test]
fn from_a_folder_that_is_gone_a_relative_base_dir_is_an_error() {
    let bench = Bench::new();
    for command in [&["usage"][..], &["health"], &["lock", "list"], &["doctor"]] {
        let tool = bench.std(command);
        let mut shell = std::process::Command::new("sh");
        shell
            .args([
                "-c",
                "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" \"$@\"",
            ])
            .arg(env!("CARGO_BIN_EXE_prodigy-storage"))
            .args(command)
            .args(["--base-dir", "relative"])
            .env_clear()
            .current_dir(bench.path("."));
        for (name, value) in tool.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.env("PATH", "/usr/bin:/bin");
        let said = run(shell, "").code(1);
        assert!(
            said.err.contains("the current folder can't be found"),
            "{}",
            said.err
        );
    }
}

#[test]
fn another_user_who_writes_is_warned_each_time() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    // The group of the root may write to it: folders with mode 0770, files with 0660.
    let opened = Command::new("chmod")
        .args(["-R", "a+rwX"])
        .arg(bench.root())
        .status();
    assert!(opened.unwrap().success());
    set(&bench.path("home"), 0o755);
    chown_all(&bench.root(), 4243);
    let bench = bench
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ALLOW_FOREIGN_OWNER", "true")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ALLOW_SHARED_ROOT", "true");
    let append = ["events", "append", "--repo", "shop", "--job", "other"];
    for _ in 0..2 {
        as_user(&bench, &append, "1\n")
            .code(0)
            .says("warning: ")
            .says("belongs to user 4243");
    }
    // A command that only reads does not write, so it prints no warning.
    let read = as_user(&bench, &["events", "cat", "--repo", "shop", "--job", "other"], "").code(0);
    assert!(!read.err.contains("warning"), "{}", read.err);
    // Files that the superuser writes belong to the owner of the root.
    let run = bench.feed(&append, "2\n").code(0);
    assert!(!run.err.contains("belongs to user"), "{}", run.err);
}

fn chown_all(path: &Path, uid: u32) {
    let given = Command::new("chown")
        .arg("-R")
        .arg(uid.to_string())
        .arg(path)
        .status();
    assert!(given.unwrap().success());
}

#[test]
fn no_reading_command_passes_over_what_it_cannot_read() {
    let Some(bench) = bench() else { return };
    fill(&bench);
    as_user(&bench, &["lock", "run", "shop/x", "--", "true"], "").code(0);
    for (below, commands) in [
        (
            "events/shop/job",
            &[&["events", "cat"][..], &["events", "stats"]][..],
        ),
        ("dlq/shop/job", &[&["dlq", "list"], &["dlq", "show", "a"]]),
        (
            "state/shop/mapreduce/jobs/job",
            &[&["checkpoint", "list"], &["checkpoint", "show"]],
        ),
        ("locks/2", &[&["lock", "list"]]),
    ] {
        let folder = bench.root().join(below);
        chown(&folder, Some(0), Some(0)).unwrap();
        for command in commands {
            let mut arguments = command.to_vec();
            if command[0] != "lock" {
                arguments.extend(["--repo", "shop", "--job", "job"]);
            }
            let failed = as_user(&bench, &arguments, "");
            assert!(
                failed.code.is_some_and(|code| code != 0 && code != 2),
                "{arguments:?}: {:?}",
                failed.code
            );
            assert!(
                failed.err.contains(bench.root().to_str().unwrap()),
                "{}",
                failed.err
            );
        }
        // A folder that this user may not read is not damage, and is not examined.
        let examined = as_user(&bench, &["doctor"], "").code(6);
        assert!(
            examined.out.contains("damage: 0 found, 0 left") && examined.out.contains("was not examined"),
            "{below}: {}",
            examined.out
        );
        chown(&folder, Some(4242), Some(4242)).unwrap();
    }
}

/// Runs a test of this file in a separate mount namespace.
fn in_namespace(test: &str) {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this machine allows no mount namespace of its own");
        return;
    }
    let inner = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    let failed = String::from_utf8_lossy(&inner.stderr);
    assert!(
        inner.status.success() && said.contains("1 passed"),
        "{said}{failed}"
    );
}

#[test]
fn health_fails_where_a_write_would_fail() {
    in_namespace("users::in_a_mount_namespace");
}

fn mount(arguments: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(mounted.success(), "mount {arguments:?}");
}

#[test]
#[ignore = "run by `health_fails_where_a_write_would_fail`, which makes the namespace"]
fn in_a_mount_namespace() {
    let bench = Bench::new();
    let disk = bench.path("home");
    std::fs::create_dir(&disk).unwrap();
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    let health = |code: i32, says: &str| {
        let health = bench.run(&["health"]).code(code);
        assert!(health.out.contains(says), "{says}: {}", health.out);
        assert!(!health.out.contains("of this machine"), "{}", health.out);
    };

    // tmpfs: everything works, and health reports that a restart loses all data.
    mount(&["-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "none"], &disk);
    health(0, "a restart of the machine loses all data");
    bench.feed(&append, "1\n").code(0);
    health(0, "tmpfs");

    // First all inodes of the disk are used, then all of its blocks.
    let mut files = 0;
    while std::fs::write(disk.join(format!("file-{files}")), "").is_ok() {
        files += 1;
    }
    health(1, "0 inodes are free");
    bench
        .feed(&["events", "append", "--repo", "shop", "--job", "new"], "1\n")
        .code(1)
        .says("no inode is free");
    // Frees three inodes, which are fewer than the first write of a job may need.
    for _ in 0..3 {
        files -= 1;
        std::fs::remove_file(disk.join(format!("file-{files}"))).unwrap();
    }
    health(1, "inodes are free");
    for file in 0..files {
        std::fs::remove_file(disk.join(format!("file-{file}"))).unwrap();
    }
    health(0, "tmpfs");
    let _ = std::fs::write(disk.join("large"), vec![7; 2 << 20]);
    health(1, "no space is left on the disk");
    std::fs::remove_file(disk.join("large")).unwrap();

    // The disk is mounted read-only, with an existing root and a missing one.
    mount(&["-o", "remount,ro"], &disk);
    health(1, "mounted for reading only");
    let other = disk.join("other/root");
    bench
        .run(&["health", "--base-dir", other.to_str().unwrap()])
        .code(1);
    bench
        .feed(&append, "2\n")
        .code(1)
        .says("mounted for reading only");
    mount(&["-o", "remount,rw"], &disk);
    health(0, "tmpfs");
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
}

#[test]
fn a_folder_in_which_nothing_can_be_created_is_found() {
    let Some(bench) = bench() else { return };
    // The file attribute `i` (immutable) forbids the write, although owner and mode allow it.
    fill(&bench);
    let locks = bench.root().join("events");
    let immutable = Command::new("chattr").arg("+i").arg(&locks).status();
    if immutable.is_ok_and(|status| status.success()) {
        let health = as_user(&bench, &["health"], "");
        let freed = Command::new("chattr").arg("-i").arg(&locks).status();
        assert!(freed.unwrap().success());
        assert!(health.out.contains(locks.to_str().unwrap()), "{}", health.out);
        health.code(1);
    } else {
        eprintln!("SKIPPED: this file system has no immutable folders");
    }
    // One reason is named once, with the folders that it is true of.
    chown(bench.root(), Some(0), Some(0)).unwrap();
    for entry in std::fs::read_dir(bench.root()).unwrap() {
        let entry = entry.unwrap().path();
        chown(&entry, Some(0), Some(0)).unwrap();
        set(&entry, if entry.is_dir() { 0o755 } else { 0o644 });
    }
    set(&bench.root(), 0o755);
    let health = as_user(&bench, &["health"], "").code(1);
    let writable = health
        .out
        .lines()
        .filter(|line| line.contains("failure  writable: "));
    let writable: Vec<_> = writable.collect();
    assert_eq!(writable.len(), 1, "{}", health.out);
    assert!(
        writable[0].contains("; the same in events, dlq, state"),
        "{}",
        health.out
    );
    // The root does not exist, and its folder belongs to another user.
    let deep = bench.path("deep/root");
    let health = as_user(&bench, &["health", "--base-dir", deep.to_str().unwrap()], "").code(1);
    assert!(
        health.out.contains("not writable") && health.out.contains("user 0"),
        "{}",
        health.out
    );
    assert!(!health.out.contains("chown"), "above the root: {}", health.out);
}
