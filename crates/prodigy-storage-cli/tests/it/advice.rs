//! Tests that each problem of `status` and `health` names a command, and that the command solves it when it is pasted into a shell.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::planted::{on_tmpfs, shell};
use crate::support::{Bench, Run, commands, run, started_by};

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The command below the problem that begins with `title`.
fn command(shown: &str, title: &str) -> Option<String> {
    let mut lines = shown.lines().skip_while(|line| !line.starts_with(title)).skip(1);
    let found = lines.find(|line| !line.starts_with("         why"))?;
    found.strip_prefix("         run: ").map(str::to_owned)
}

/// Runs the command that `status`, `health` and `doctor` name for a problem, one after the other, and each time plants the problem
/// again. Fails unless the problem is gone after each.
fn is_solved(bench: &Bench, root: &Path, title: &str, plant: impl Fn()) {
    for look in ["status", "health", "doctor"] {
        plant();
        let arguments = ["--base-dir", root.to_str().unwrap(), look];
        let shown = bench.run(&arguments).out;
        let command = command(&shown, title);
        let command = command.unwrap_or_else(|| panic!("{look}: no {title} with a command in\n{shown}"));
        let pasted = shell(bench, &command);
        assert_eq!(pasted.code, Some(0), "{command}: {}", pasted.err);
        let left = bench.run(&arguments).out;
        assert!(!left.contains(title), "{look}: after {command}\n{left}");
    }
}

/// A store in a folder whose name needs quotes.
fn store(bench: &Bench) -> PathBuf {
    let root = bench.path("it's here/a store");
    let append = ["--base-dir", root.to_str().unwrap(), "events", "append"];
    let job = ["--repo", "shop", "--job", "job"];
    bench.feed(&[&append[..], &job].concat(), "1\n").code(0);
    let push = ["--base-dir", root.to_str().unwrap(), "dlq", "push"];
    let item = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench.feed(&[&push[..], &job].concat(), item).code(0);
    root
}

#[test]
fn modes_are_restored() {
    let bench = Bench::new();
    let root = store(&bench);
    is_solved(&bench, &root, "warning  mode: ", || set(&root, 0o720));
    let above = root.parent().unwrap();
    let folder = bench.path("");
    is_solved(&bench, &root, "warning  way to the root: ", || {
        // Other users have to be able to reach it.
        set(&folder, 0o755);
        set(above, 0o777);
    });
}

#[test]
fn a_file_of_another_user_is_given_to_the_owner_of_the_root() {
    let bench = Bench::new();
    let root = store(&bench);
    let file = root.join("dlq/shop/job/items.json");
    if chown(&file, Some(4242), None).is_err() {
        eprintln!("SKIPPED: this process may not give files away");
        return;
    }
    is_solved(&bench, &root, "warning  below the root: ", || {
        chown(&file, Some(4242), None).unwrap();
    });
}

#[test]
fn a_root_whose_folder_alone_was_given_away_gets_it_back() {
    let bench = Bench::new();
    let root = store(&bench);
    if chown(&root, Some(4242), None).is_err() {
        eprintln!("SKIPPED: this process may not give files away");
        return;
    }
    let arguments = ["--base-dir", root.to_str().unwrap(), "doctor"];
    let shown = bench.run(&arguments).code(1).out;
    let owner = command(&shown, "failure  owner: ").unwrap();
    assert!(owner.starts_with("chown -h 0 '"), "{owner}");
    assert!(
        !shown.contains("chown -hR") && !shown.contains("setpriv"),
        "{shown}"
    );
    chown(&root, Some(0), None).unwrap();
    is_solved(&bench, &root, "failure  owner: ", || {
        chown(&root, Some(4242), None).unwrap();
    });
}

#[test]
fn a_root_that_its_owner_may_not_write_to_is_opened() {
    let bench = Bench::new();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let user = |program: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]);
        command.args(program);
        command
    };
    if !user(&["test", "-x", tool])
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("SKIPPED: this machine lets no other user run the tool");
        return;
    }
    set(&bench.path(""), 0o755);
    let root = store(&bench);
    let mut give = Command::new("chown");
    give.args(["-R", "4242", "."]).current_dir(root.parent().unwrap());
    run(give, "").code(0);
    for (place, mode) in [("", 0o500), ("dlq", 0o500), ("dlq/shop/job/items.json", 0o000)] {
        let place = root.join(place);
        let before = fs::metadata(&place).unwrap().permissions();
        set(&place, mode);
        let arguments = ["--base-dir", root.to_str().unwrap(), "health"];
        let health = |of: &Bench| -> Run { run(started_by(user(&[]), &of.std(arguments)), "") };
        let shown = health(&bench).code(1).out;
        let command = command(&shown, "failure  ").unwrap_or_else(|| panic!("no command in\n{shown}"));
        let mut shell = user(&["sh", "-c", &command]);
        shell.current_dir(bench.path("here"));
        run(shell, "").code(0);
        let left = health(&bench);
        assert_eq!(left.code, Some(0), "after {command}\n{}", left.out);
        fs::set_permissions(&place, before).unwrap();
    }
}

#[test]
fn what_may_not_be_changed_is_made_changeable() {
    let bench = Bench::new();
    let root = store(&bench);
    for attribute in ["+i", "+a"] {
        let make = || Command::new("chattr").arg(attribute).arg(&root).output();
        if !make().is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED: this file system, or this user, has no attributes of files (`chattr`)");
            return;
        }
        let arguments = ["--base-dir", root.to_str().unwrap(), "health"];
        let shown = bench.run(&arguments).code(1).out;
        let command = command(&shown, "failure  ");
        let command = command.unwrap_or_else(|| "no command".to_owned());
        let solved = shell(&bench, &command);
        // Otherwise the folder can't be removed.
        let undone = Command::new("chattr").args(["-i", "-a"]).arg(&root).status();
        assert!(undone.unwrap().success());
        assert_eq!(solved.code, Some(0), "{attribute}: {command}\n{shown}");
        assert!(command.contains("chattr"), "{attribute}: {command}");
        bench.run(&arguments).code(0);
    }
}

/// The notices of the configuration are problems of `status`, too.
#[test]
fn a_setting_has_a_command_in_status_and_health() {
    let old = Bench::new();
    let root = old.root();
    let old = old.with("PRODIGY_STORAGE_DIR", root.to_str().unwrap());
    let local = Bench::new();
    local.write(
        "home/.prodigy/config.yml",
        "storage:\n  backend_config:\n    use_global: false\n",
    );
    for (bench, title, part) in [
        (
            &old,
            "warning  deprecated setting: variable PRODIGY_STORAGE_DIR",
            "export PRODIGY_STORAGE_BASE_PATH=",
        ),
        (
            &local,
            "warning  deprecated setting: `backend_config.use_global",
            "sed -i ",
        ),
    ] {
        for look in ["status", "health"] {
            let shown = bench.run(&[look]).out;
            let command = command(&shown, title).unwrap_or_else(|| panic!("{look}: no {title} in\n{shown}"));
            assert!(command.starts_with(part), "{look}: {command}");
        }
    }
}

/// No problem is without a command, or a text that says what to do.
#[test]
fn every_problem_of_a_full_disk_has_a_command() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    let script = format!(
        "echo 1 | prodigy-storage events append --repo shop --job job >&2\n\
         head -c 2M /dev/zero > '{root}'/old-copy.tar\n\
         for look in status health; do prodigy-storage $look; done"
    );
    let Some(shown) = on_tmpfs(&bench, "size=1m", &script) else {
        return;
    };
    for title in ["failure  space: ", "failure  writable: "] {
        let command = command(&shown.out, title).unwrap_or_else(|| panic!("no {title} in\n{}", shown.out));
        // No rule would remove anything: a file that the store did not write fills the disk.
        assert_eq!(command, "prodigy-storage doctor");
    }
    let lines: Vec<_> = shown.out.lines().collect();
    for pair in lines.windows(2) {
        let is_problem = pair[0].starts_with("failure ") || pair[0].starts_with("warning ");
        let is_remedy = pair[1].starts_with("         run: ") || pair[1].starts_with("         to do: ");
        assert_eq!(is_problem, is_remedy, "{pair:?} in\n{}", shown.out);
    }
}

/// A name that begins with `-` looks like a flag.
#[test]
fn advice_about_names_that_look_like_flags_runs_as_it_is_printed() {
    let bench = Bench::new();
    let of = |command: &[&str], input: &str| {
        let named = [command, &["--repo=-x", "--job=-j"]].concat();
        bench.feed(&named, input).code(0);
    };
    of(&["events", "append"], "1\n");
    of(&["dlq", "push"], "{\"item_id\":\"a\",\"item_data\":1}\n");
    bench.write("-yard/x", "");
    let register = ["repo", "register", "--as=-yard", "--", "../-yard"];
    bench.run(&register).code(0);
    fs::remove_dir_all(bench.path("-yard")).unwrap();
    bench.write(
        "home/.prodigy/deletions/-x/gone.json",
        "{\"deleted_at\":\"2026-11-28T15:00:00Z\"}\n",
    );
    let mut pasted = Vec::new();
    for look in [&["status"][..], &["health"], &["doctor"], &["repo", "list"]] {
        let shown = bench.run(look);
        for command in commands(&shown) {
            // The new path of what was moved.
            let command = command.replace(" PATH", " .");
            let run = shell(&bench, &command);
            assert_ne!(run.code, Some(2), "{command}: {}", run.err);
            pasted.push(command);
        }
    }
    for command in [
        "prodigy-storage dlq analyze --repo=-x --job=-j",
        "prodigy-storage clean --repo=-x --job gone --yes",
        "prodigy-storage repo relink -- -yard .",
        "prodigy-storage repo unregister --yes -- -yard",
    ] {
        assert!(
            pasted.iter().any(|pasted| pasted == command),
            "{command}: {pasted:?}"
        );
    }
    let named = ["dlq", "analyze", "--repo", "-x", "--job", "-j"];
    bench.run(&named).code(2).says("use '--repo=-x'");
    let unregister = ["repo", "unregister", "-x", "--yes"];
    bench.run(&unregister).code(2).says("put '-- -x' at the end");
}

#[test]
fn the_command_for_a_full_disk_frees_something_or_names_what_takes_the_space() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    let script = format!(
        "echo 1 | prodigy-storage events append --repo shop --job small >&2\n\
         yes '\"0123456789\"' | head -c 600k | prodigy-storage events append --repo shop --job large >&2\n\
         yes '\"0123456789\"' | prodigy-storage events append --repo shop --job large 2>'{root}/../full' >&2\n\
         prodigy-storage health\nprodigy-storage status >/dev/null; echo \"code $?\"\n\
         find '{root}' -exec touch -d '40 days ago' {{}} +\n\
         for look in status health doctor; do prodigy-storage $look | grep -A3 '^failure  space'; done\n"
    );
    let Some(shown) = on_tmpfs(&bench, "size=2m", &script) else {
        return;
    };
    let (now, old) = shown
        .out
        .split_once("code 1\n")
        .unwrap_or_else(|| panic!("{}", shown.out));
    assert_eq!(
        command(now, "failure  space: ").unwrap(),
        "prodigy-storage usage --jobs --top 10"
    );
    let named = now.contains("events ") && now.contains("the largest jobs: shop/large ");
    assert!(named && now.contains("prodigy-storage job delete"), "{now}");
    let asked = "         run: prodigy-storage clean --idle-jobs 30d\n         also: this prints the plan, and `--yes` removes; ";
    assert_eq!(old.matches(asked).count(), 3, "{old}");
    let full = fs::read_to_string(bench.root().join("../full")).unwrap();
    let sizes = full.contains("(0 B of 2.0 MiB are free); used by area: events 2.0 MiB, other ");
    assert!(sizes, "{full}");
    assert!(full.contains("other "), "format.json is in no area: {full}");
}

#[test]
fn what_a_full_disk_cuts_short_leaves_no_job_or_says_that_it_has_not_ended() {
    let bench = Bench::new();
    let path = |name: &str| bench.path(name).display().to_string();
    let (root, old, archive, lines) = (bench.root(), path("old"), path("job.tar.zst"), path("job.jsonl"));
    let root = root.display();
    let text = "x".repeat(2_000);
    let events = format!("{{\"text\":\"{text}\"}}\n").repeat(300);
    let of_old = |arguments: &[&str], input: String| {
        let job = ["--repo", "shop", "--job", "job"];
        let all = [&["--base-dir", &*old], arguments, &job].concat();
        bench.feed(&all, input).code(0);
    };
    of_old(&["events", "append"], events);
    of_old(&["backup", &archive], String::new());
    of_old(&["export", &lines], String::new());
    let script = format!(
        "echo 1 | prodigy-storage events append --repo shop --job other\n\
         for left in 0 4096 8192 12288 16384; do\n\
         dd if=/dev/zero of='{root}/fill' bs=4096 2>/dev/null\n\
         truncate -s -$left '{root}/fill'\n\
         prodigy-storage restore '{archive}' 2>/dev/null; echo \"code $?\"\n\
         prodigy-storage job list --repo shop --json\n\
         rm '{root}/fill'\n\
         prodigy-storage clean --repo shop --job job --yes >/dev/null 2>&1\n\
         done\n\
         prodigy-storage import '{lines}'; echo \"code $?\"\n\
         prodigy-storage --base-dir '{old}' copy --to '{root}' --keep-source; echo \"code $?\"\n"
    );
    let Some(shown) = on_tmpfs(&bench, "size=400k", &script) else {
        return;
    };
    assert_eq!(
        shown.out.matches("code 1\n").count(),
        7,
        "{}{}",
        shown.out,
        shown.err
    );
    let restored = shown.out.matches("\"job\":\"job\"").count();
    assert_eq!(restored, 0, "{}", shown.out);
    let shown = shown
        .says("the import has not ended")
        .says("the same command again");
    let usage = format!("`prodigy-storage --base-dir {root} usage --jobs --top 10`");
    assert!(shown.err.contains(&usage), "{}", shown.err);
}
