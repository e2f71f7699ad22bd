//! Tests of `doctor` with problems outside of the store's files: settings, the clock, inodes, names. Each problem is
//! found, and is gone after the command that the doctor prints.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::planted::{on_tmpfs, shell};
use crate::support::{Bench, Run};

/// A bench with a home folder, and a store with an event.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    bench
}

fn program(bench: &Bench, name: &str, text: &str) {
    let path = bench.write(&format!("bin/{name}"), text);
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

/// The command that the doctor prints for a problem with this title.
fn command(found: &str, title: &str) -> String {
    let mut lines = found.lines().skip_while(|line| !line.starts_with(title));
    assert!(lines.next().is_some(), "no {title} in\n{found}");
    let matters = lines.next().unwrap_or_default();
    assert!(matters.starts_with("         why it matters: "), "{found}");
    let command = lines.next().and_then(|line| line.strip_prefix("         run: "));
    command
        .unwrap_or_else(|| panic!("no command in\n{found}"))
        .to_owned()
}

/// Runs the doctor, then the command that it prints for the problem with this title. Fails unless the doctor then
/// finds no problem.
fn is_fixed(bench: &Bench, title: &str) -> Run {
    is_fixed_in(bench, title, "")
}

/// As [`is_fixed`], in a shell that has run `before`.
fn is_fixed_in(bench: &Bench, title: &str, before: &str) -> Run {
    let found = shell(bench, &format!("{before}\nprodigy-storage doctor"));
    let command = command(&found.out, title);
    let line = format!("{before}\n{{ {command}\n}} >&2 || exit 99\nprodigy-storage doctor");
    let left = shell(bench, &line);
    assert_eq!(left.code, Some(0), "after {command}\n{}{}", left.out, left.err);
    assert!(
        !left.out.contains(title),
        "after {command}\n{}{}",
        left.out,
        left.err
    );
    left
}

#[test]
fn a_deprecated_variable_is_replaced_by_its_successor() {
    let bench = bench();
    let root = bench.root();
    let bench = bench.with("PRODIGY_STORAGE_DIR", root.to_str().unwrap());
    let left = is_fixed(
        &bench,
        "warning  deprecated setting: variable PRODIGY_STORAGE_DIR",
    );
    assert!(left.out.contains("1 event "), "the same root: {}", left.out);
}

#[test]
fn a_deprecated_key_is_changed_in_its_file() {
    for (name, text) in [
        (
            "config.yml",
            "storage:\n  backend_config:\n    use_global: false\n",
        ),
        ("config.toml", "[storage.backend_config]\nuse_global = false\n"),
    ] {
        let bench = bench();
        let file = bench.write(&format!("home/.prodigy/{name}"), text);
        is_fixed(
            &bench,
            "warning  deprecated setting: `backend_config.use_global: false`",
        );
        let fixed = fs::read_to_string(file).unwrap();
        assert_eq!(fixed, text.replace("false", "true"));
    }
}

#[test]
fn a_setting_without_effect_is_removed() {
    let bench = bench();
    let root = bench.root();
    let root = root.to_str().unwrap();
    let bench = bench
        .with("PRODIGY_STORAGE_DIR", root)
        .with("PRODIGY_STORAGE_BASE_PATH", root);
    is_fixed(
        &bench,
        "warning  ignored setting: variable PRODIGY_STORAGE_DIR is ignored",
    );

    let bench = self::bench();
    bench.write(
        "home/.prodigy/config.yml",
        "storage:\n  durability: strict\ntimeout: 5s\n",
    );
    program(&bench, "editor", "#!/bin/sh\nsed -i \"${1#+}d\" \"$2\"\n");
    let editor = bench.path("bin/editor");
    let bench = bench.with("EDITOR", editor.to_str().unwrap());
    is_fixed(&bench, "warning  ignored setting: `timeout`");
}

#[test]
fn data_in_a_projects_own_folder_is_migrated_and_moved_away() {
    let bench = Bench::new();
    let local = "export PRODIGY__STORAGE__BACKEND_CONFIG__USE_GLOBAL=false\n";
    let filled = shell(
        &bench,
        &format!(
            "{local}job='--repo here --job job'\n\
             printf '%s\\n' 1 2 | prodigy-storage events append $job\n\
             echo '{{\"done\":1}}' | prodigy-storage checkpoint save $job --phase map --cursor $(prodigy-storage events end $job)\n\
             printf '%s\\n' 3 | prodigy-storage events append $job\n\
             echo '[7]' | prodigy-storage document put --repo here --kind notes --name n\n\
             for item in a b; do echo '{{\"item_id\":\"'$item'\",\"item_data\":1}}'; done | prodigy-storage dlq push $job\n\
             prodigy-storage dlq remove $job a"
        ),
    );
    assert_eq!(filled.code, Some(0), "{}", filled.err);
    is_fixed(&bench, "warning  unused local storage: ");
    let job = ["--repo", "here", "--job", "job"];
    let of = |command: &[&str]| bench.run(&[command, &job].concat()).code(0);
    assert_eq!(of(&["events", "cat", "--payload"]).out, "1\n2\n3\n");
    let state = of(&["checkpoint", "show"]).json();
    assert_eq!(state["data"]["done"], 1);
    let cursor = state["cursor"].as_str().unwrap();
    assert_eq!(
        of(&["events", "follow", "--for", "0s", "--cursor", cursor]).jsonl()[0]["event"],
        3
    );
    let items = of(&["dlq", "export"]).jsonl();
    assert_eq!(
        (items.len(), &items[0]["item_id"]),
        (1, &"b".into()),
        "an item that was removed stays so"
    );
    let note = [
        "document",
        "show",
        "--repo",
        "here",
        "--kind",
        "notes",
        "--name",
        "n",
        "--payload",
    ];
    assert_eq!(bench.run(&note).code(0).out.trim(), "[7]");
    assert!(bench.path("here/.prodigy/migrated/events").is_dir());
    let again = format!("{local}echo 4 | prodigy-storage events append --repo here --job job");
    shell(&bench, &again).code(0);
    is_fixed(&bench, "warning  unused local storage: ");
    assert!(bench.path("here/.prodigy/migrated-2/events").is_dir());
    assert_eq!(of(&["events", "cat", "--payload"]).out, "1\n2\n3\n4\n");
}

#[test]
fn migrate_finds_the_folder_from_below_and_stores_nothing_twice() {
    let bench = Bench::new();
    bench.write(
        "here/.prodigy/events/job/events-1.jsonl",
        "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n",
    );
    let below = bench.path("here/src/deep");
    fs::create_dir_all(&below).unwrap();
    let migrate = |more: &str| {
        shell(
            &bench,
            &format!("cd src/deep && prodigy-storage --json migrate --repo shop{more}"),
        )
    };
    let stored = |run: Run| run.code(0).jsonl()[0]["stored"].as_u64().unwrap();
    assert_eq!(stored(migrate(" --dry-run")), 1);
    assert!(!bench.root().exists(), "a dry run stores nothing");
    let said = migrate("");
    assert_eq!(said.err, "", "no warning of the folder that it imports");
    assert_eq!((stored(said), stored(migrate(""))), (1, 0));
    let elsewhere = Bench::new();
    elsewhere
        .run(&["migrate"])
        .code(2)
        .says("there is no folder `.prodigy`");
}

#[test]
fn jobs_whose_names_differ_by_case_are_told_apart_by_a_rename() {
    let bench = bench();
    let job = ["--repo", "shop", "--job", "Job"];
    bench
        .feed(&[&["events", "append"][..], &job].concat(), "2\n")
        .code(0);
    bench
        .feed(
            &[&["checkpoint", "save", "--phase", "map"][..], &job].concat(),
            "7",
        )
        .code(0);
    let left = is_fixed(&bench, "note     name collision: ");
    assert!(left.out.contains(" 0 notes"), "{}", left.out);
    let cat = |job: &str| {
        bench
            .run(&["events", "cat", "--payload", "--repo", "shop", "--job", job])
            .code(0)
            .out
    };
    assert_eq!(
        (cat("job-2"), cat("Job")),
        ("{\"n\":1}\n".to_owned(), "2\n".to_owned())
    );
}

#[test]
fn repositories_whose_names_differ_by_case_are_noted_once() {
    let bench = bench();
    for command in [
        &["events", "append"][..],
        &["checkpoint", "save", "--phase", "map"],
    ] {
        let command = [command, &["--repo", "Shop", "--job", "other"]].concat();
        bench.feed(&command, "1\n").code(0);
    }
    let run = bench.run(&["doctor"]).code(0);
    let found = run
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("note     name collision: "));
    assert_eq!(found.count(), 1, "{}", run.out);
    run.prints("also: it removes its own copy; ");
    // Whichever of the two is moved has a registry entry and a document of its own.
    for repo in ["shop", "Shop"] {
        let at = bench.path(repo);
        fs::create_dir(&at).unwrap();
        bench.run(&["repo", "relink", repo, at.to_str().unwrap()]).code(0);
        let put = [
            "document", "put", "--repo", repo, "--kind", "plans", "--name", "one",
        ];
        bench.feed(&put, "7").code(0);
    }
    let left = is_fixed(&bench, "note     name collision: ");
    assert!(left.out.contains(" 0 notes"), "{}", left.out);
    let repos = bench.run(&["repo", "list", "--json"]).code(0).jsonl();
    let jobs = |name: &str| {
        let of_name = repos.iter().find(|repo| repo["repo"] == name);
        of_name.map_or(0, |repo| repo["jobs"].as_u64().unwrap())
    };
    for (repo, job, event) in [("shop", "job", "{\"n\":1}\n"), ("Shop", "other", "1\n")] {
        let moved = format!("{repo}-2");
        let (there, gone) = match jobs(&moved) {
            1 => (moved.as_str(), repo),
            _ => (repo, moved.as_str()),
        };
        assert_eq!((jobs(there), jobs(gone)), (1, 0), "{repos:?}");
        let cat = ["events", "cat", "--payload", "--repo", there, "--job", job];
        assert_eq!(bench.run(&cat).code(0).out, event);
        let show = [
            "document",
            "show",
            "--payload",
            "--repo",
            there,
            "--kind",
            "plans",
            "--name",
            "one",
        ];
        assert_eq!(bench.run(&show).code(0).out, "7\n");
        let at = bench.path(repo).display().to_string();
        let identify = bench.run(&["repo", "identify", &at]).code(0);
        identify.prints(&format!("name      {there}\n"));
    }
    assert_eq!(jobs("shop-2") + jobs("Shop-2"), 1, "{repos:?}");
}

/// The path of the library that replaces a program's clock. If it is not installed, prints a notice and returns
/// `None`.
fn clock_library() -> Option<String> {
    let asked = Command::new("faketime")
        .args(["-f", "+0", "printenv", "LD_PRELOAD"])
        .output();
    let found = asked
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let found = found
        .map(|text| text.trim().to_owned())
        .filter(|text| Path::new(text).exists());
    if found.is_none() {
        eprintln!("SKIPPED: this machine has no `faketime`, which gives a program another clock");
    }
    found
}

#[test]
fn a_wrong_clock_is_set() {
    let Some(library) = clock_library() else {
        return;
    };
    for (wrong, title) in [
        ("-2d", "warning  ahead of clock: "),
        ("@1960-01-01 00:00:00", "failure  clock: "),
    ] {
        // Replacements of `sudo` and `timedatectl`, which set the clock by a file.
        let bench = bench();
        let clock = bench.write("clock", wrong);
        program(&bench, "sudo", "#!/bin/sh\nexec \"$@\"\n");
        let set = format!(
            "#!/bin/sh\n[ \"$*\" = 'set-ntp true' ] && echo +0 > '{}'\n",
            clock.display()
        );
        program(&bench, "timedatectl", &set);
        let before = format!(
            "PATH='{}':$PATH\nexport FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1\n\
             prodigy-storage() {{ LD_PRELOAD='{library}' command prodigy-storage \"$@\"; }}",
            bench.path("bin").display(),
            clock.display()
        );
        is_fixed_in(&bench, title, &before);
    }
}

#[test]
fn a_newest_write_in_the_future_is_a_problem_of_status_and_health() {
    let bench = bench();
    for look in ["status", "health"] {
        let shown = bench.run(&[look]).code(0).out;
        assert!(!shown.contains("warning  clock: "), "{look}: {shown}");
    }
    let touch = format!(
        "find '{}/events' -exec touch -d '400 days' {{}} +",
        bench.root().display()
    );
    shell(&bench, &touch).code(0);
    for look in ["status", "health", "doctor"] {
        let run = bench.run(&[look]).code(0);
        let run = run.prints("warning  clock: the newest write, of shop/job, is dated 20");
        run.prints("         run: sudo timedatectl set-ntp true\n");
    }
    // The clock is right, and the date of the file is wrong.
    let doctor = bench.run(&["doctor"]).out;
    let command = doctor.split('`').find(|text| text.starts_with("find ")).unwrap();
    shell(&bench, command).code(0);
    for look in ["status", "health", "doctor"] {
        assert!(!bench.run(&[look]).code(0).out.contains("clock"), "{look}");
    }
}

#[test]
fn a_log_that_was_cut_behind_its_newest_checkpoint_is_damage_for_every_look_and_ends_by_the_named_commands() {
    let bench = Bench::new();
    bench.append("1\n2\n3\n");
    let of_job = "--repo shop --job job";
    let save = format!(
        "echo 7 | prodigy-storage checkpoint save {of_job} --phase map --cursor \"$(prodigy-storage events end {of_job})\""
    );
    shell(&bench, &save).code(0);
    let log = bench.only_file("events/shop/job", "events-", ".jsonl");
    let whole = std::fs::read_to_string(&log).unwrap();
    let first = whole.find('\n').unwrap() + 1;
    for look in ["status", "health", "doctor"] {
        bench.run(&[look]).code(0);
    }
    std::fs::write(&log, &whole[..first]).unwrap();
    for (look, code) in [("status", 5), ("health", 1), ("doctor", 5)] {
        bench.run(&[look]).code(code).prints("is ahead of its log");
    }
    let doctor = bench.run(&["doctor"]).out;
    let commands: Vec<_> = doctor
        .split('`')
        .filter(|text| text.starts_with("prodigy-storage "))
        .collect();
    let [show, end, save, prune] = &commands[..] else {
        panic!("{doctor}");
    };
    let save = save.replace("POSITION FILE", &format!("\"$({end})\" state.json"));
    shell(&bench, &format!("{show} > state.json && {save} && {prune}")).code(0);
    for look in ["status", "health", "doctor"] {
        bench.run(&[look]).code(0);
    }
    let shown = [
        &["checkpoint", "show", "--payload"][..],
        &of_job.split(' ').collect::<Vec<_>>(),
    ]
    .concat();
    assert_eq!(bench.run(&shown).code(0).out, "7\n");
}

/// Runs a script with the bench's root on a file system with this number of inodes. `None` if the machine does not allow
/// the mount.
fn with_inodes(bench: &Bench, inodes: u32, script: &str) -> Option<Run> {
    let run = on_tmpfs(bench, &format!("nr_inodes={inodes}"), script)?;
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    Some(run)
}

/// Fails unless the output (a list of the jobs, then the log of removals) shows that these jobs were removed, and no
/// other ones.
fn are_removed(run: &Run, names: [&str; 2]) {
    let lines = run.jsonl();
    let jobs: Vec<_> = lines.iter().map(|line| &line["removal"]["job"]["job"]).collect();
    assert!(
        names.iter().all(|name| jobs.contains(&&(*name).into())),
        "{}",
        run.out
    );
    assert!(lines.iter().all(|line| line["job"].is_null()), "{}", run.out);
}

#[test]
fn a_file_system_without_inodes_is_cleaned() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    // Runs the doctor, the command that it prints, and the doctor again.
    let script = format!(
        "echo 1 | prodigy-storage events append --repo shop --job job >&2\n\
         mkdir -m 700 '{root}/quarantine' && cd '{root}/quarantine'\n\
         seq 1000 | xargs touch -d '40 days ago'\nchmod 600 *\ncd /\n\
         prodigy-storage doctor > '{root}/../found'\n\
         line=$(grep -A2 '^warning  inodes: ' '{root}/../found' | sed -n 's/^ *run: //p')\n\
         echo \"$line\"\neval \"$line\" >&2\nprodigy-storage doctor"
    );
    let Some(run) = with_inodes(&bench, 1600, &script) else {
        return;
    };
    let (command, left) = run.out.split_once('\n').unwrap();
    assert_eq!(
        command, "prodigy-storage clean --finished-jobs 30d --quarantine 30d --yes",
        "{}",
        run.err
    );
    assert!(!left.contains("inodes"), "{left}{}", run.err);
}

/// A job with one segment can be deleted without creating a file, so no free inode is needed.
#[test]
fn jobs_of_one_segment_are_deleted_where_no_inode_is_free() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    let script = format!(
        "for job in one two; do echo 1 | prodigy-storage events append --repo shop --job $job >&2; done\n\
         prodigy-storage job finish two --repo shop >&2\n\
         n=0; while touch '{root}'/file-$n 2>/dev/null; do n=$((n + 1)); done\n\
         prodigy-storage clean --idle-jobs 1ns --finished-jobs 1ns --yes >&2 || exit 91\n\
         prodigy-storage job list --repo shop --json\nprodigy-storage clean --log --json\n\
         rm '{root}'/file-*\n\
         echo 2 | prodigy-storage events append --repo shop --job one >&2 || exit 92\nprodigy-storage doctor >&2 || exit 93"
    );
    let Some(run) = with_inodes(&bench, 400, &script) else {
        return;
    };
    are_removed(&run, ["one", "two"]);
}

/// A deletion creates lock files, a tombstone and the audit log, each of which needs an inode.
#[test]
fn jobs_are_deleted_where_no_inode_is_free() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    let script = format!(
        "for job in log whole; do echo 1 | prodigy-storage events append --repo shop --job $job >&2; done\n\
         for state in 1 2 3 4 5 6 7 8 9 10 11 12; do\n\
         echo $state | prodigy-storage checkpoint save --repo shop --job whole --phase map >&2\ndone\n\
         n=0; while touch '{root}'/file-$n 2>/dev/null; do n=$((n + 1)); done\n\
         echo 2 | prodigy-storage events append --repo shop --job more && exit 90\n\
         prodigy-storage clean --idle-jobs 1ns --yes >&2 || exit 91\n\
         prodigy-storage job list --repo shop --json\nprodigy-storage clean --log --json"
    );
    let Some(run) = with_inodes(&bench, 400, &script) else {
        return;
    };
    assert!(run.err.contains("no inode is free"), "{}", run.err);
    are_removed(&run, ["log", "whole"]);
}

#[test]
fn what_the_doctor_knows_and_is_cheap_to_see_is_a_problem_of_status_and_health() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.append("1\n");
    bench.feed(&crate::support::SAVE, "{}").code(0);
    bench.run(&["status"]).code(0).prints("no problems seen");
    let looks = ["status", "health", "doctor"];
    // A repository whose folder is gone.
    std::fs::create_dir(bench.path("yard")).unwrap();
    let yard = bench.path("yard").display().to_string();
    bench.run(&["repo", "register", "--as", "yard", &yard]).code(0);
    std::fs::remove_dir(bench.path("yard")).unwrap();
    for look in looks {
        bench
            .run(&[look])
            .code(0)
            .prints("the path that `yard` is registered for is gone: /");
    }
    std::fs::create_dir(bench.path("yard")).unwrap();
    // A folder that other users reach.
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o755, 0o700] {
        set(&bench.root(), mode);
        set(&bench.root().join("events"), 0o755);
        for look in looks {
            let shown = bench.run(&[look]).code(0).out;
            assert_eq!(
                shown.contains("other users may reach into"),
                mode == 0o755,
                "{shown}"
            );
        }
    }
    // The only checkpoint, and the newest of two.
    for _ in 0..2 {
        let folder = bench.root().join("state/shop/mapreduce/jobs/job");
        let mut all: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        all.retain(|path| path.to_str().unwrap().contains("map-checkpoint-"));
        all.sort();
        let newest = all.last().unwrap();
        let whole = std::fs::read(newest).unwrap();
        std::fs::write(newest, &whole[..whole.len() - 9]).unwrap();
        let name = newest.file_name().unwrap().to_str().unwrap();
        for (look, code) in [("status", 5), ("health", 1), ("doctor", 5)] {
            bench.run(&[look]).code(code).prints(name);
        }
        std::fs::write(newest, whole).unwrap();
        bench.feed(&crate::support::SAVE, "{}").code(0);
    }
}

#[test]
fn the_log_of_a_deleted_job_that_a_copy_brought_back_beside_the_new_one_is_a_warning() {
    let bench = Bench::new();
    let of_job = "--repo shop --job job";
    let begin = format!(
        "echo 7 | prodigy-storage events append {of_job} &&
         echo 7 | prodigy-storage checkpoint save {of_job} --phase map --cursor \"$(prodigy-storage events end {of_job})\""
    );
    let root = bench.root().display().to_string();
    // A backup by a program that keeps what was deleted.
    let back_up = format!("mkdir -p '{root}.bak' && cp -a '{root}/.' '{root}.bak'");
    for step in [
        &*begin,
        &*back_up,
        "prodigy-storage job delete job --repo shop --yes",
        &*begin,
        &*back_up,
    ] {
        shell(&bench, step).code(0);
        bench.run(&["doctor"]).code(0);
    }
    let doctor = bench
        .run(&["--base-dir", &format!("{root}.bak"), "doctor"])
        .code(0)
        .prints("is older than the first one was when state/shop/");
    assert!(doctor.out.contains("warning"), "{}", doctor.out);
}
