//! Tests that each problem of `status` and `health` names a command, and that the command solves it when it is pasted into a shell.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::planted::shell;
use crate::support::{Bench, Run, run, started_by};

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
        "mkdir -p '{root}' && mount -t tmpfs -o size=1m,mode=700 none '{root}' || exit 77\n\
         echo 1 | prodigy-storage events append --repo shop --job job >&2\n\
         head -c 2M /dev/zero > '{root}'/old-copy.tar\n\
         for look in status health; do prodigy-storage $look; done"
    );
    let file = bench.write("script", script);
    let shown = shell(&bench, &format!("unshare -rm sh '{}'", file.display()));
    if shown.out.is_empty() {
        eprintln!("SKIPPED: this machine allows no mount namespace of its own (`unshare -rm`)");
        return;
    }
    for title in ["failure  space: ", "failure  writable: "] {
        let command = command(&shown.out, title).unwrap_or_else(|| panic!("no {title} in\n{}", shown.out));
        assert_eq!(
            command,
            "prodigy-storage clean --finished-jobs 30d --quarantine 30d --yes"
        );
    }
    let lines: Vec<_> = shown.out.lines().collect();
    for pair in lines.windows(2) {
        let is_problem = pair[0].starts_with("failure ") || pair[0].starts_with("warning ");
        let is_remedy = pair[1].starts_with("         run: ") || pair[1].starts_with("         to do: ");
        assert_eq!(is_problem, is_remedy, "{pair:?} in\n{}", shown.out);
    }
}
