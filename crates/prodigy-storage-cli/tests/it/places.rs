//! Tests of `worktree`, `repo`, `health` and `usage`.

use std::fs;

use crate::support::{Bench, SAVE, started_by, tree};

/// A folder that git treats as a repository.
fn repository(bench: &Bench, below: &str) -> String {
    for folder in ["objects", "refs"] {
        fs::create_dir_all(bench.path(below).join(".git").join(folder)).unwrap();
    }
    bench.write(&format!("{below}/.git/HEAD"), "ref: refs/heads/main\n");
    bench.path(below).to_str().unwrap().to_owned()
}

#[test]
fn identify_registers_nothing_and_a_write_does() {
    let bench = Bench::new();
    let shop = repository(&bench, "one/shop");
    let told = bench.run(&["repo", "identify", &shop, "--json"]).code(0).json();
    assert_eq!(
        (&told["name"], &told["kind"]),
        (&"shop".into(), &"repository".into())
    );
    let told = bench.run(&["repo", "identify"]).code(0);
    assert_eq!(told.lines()[..2], ["name      here", "kind      folder"]);
    assert!(!bench.root().exists());
    bench
        .run(&["repo", "identify", "no-such-folder"])
        .code(4)
        .says("no-such-folder");
    // Without `--repo`, the repository of the current folder is used.
    bench.feed(&["events", "append", "--job", "job"], "1\n").code(0);
    assert!(bench.root().join("state/here/repository.json").is_file());
    assert_eq!(
        bench
            .run(&["events", "cat", "--repo", "here", "--job", "job", "--payload"])
            .out,
        "1\n"
    );
}

#[test]
fn a_conflict_names_two_commands_that_both_lead_out_of_it() {
    let bench = Bench::new();
    let shop = repository(&bench, "it's/shop");
    let append = || {
        let mut command = bench.std(["events", "append", "--job", "job"]);
        command.current_dir(&shop);
        crate::support::run(command, "1\n")
    };
    let count = |name: &str| {
        let run = bench.run(&["events", "cat", "--repo", name, "--job", "job"]);
        run.code(0).lines().len()
    };
    append().code(0);
    for (way, expected) in [("repo relink ", 2), ("repo register ", 2)] {
        // A new folder at the same path has another birth time, by which the tool notices that it is another
        // repository.
        fs::rename(&shop, format!("{shop}-{}", way.len())).unwrap();
        repository(&bench, "it's/shop");
        let refused = append().code(1);
        let commands: Vec<&str> = refused.err.split('`').skip(1).step_by(2).collect();
        let command = commands.iter().find(|command| command.contains(way)).unwrap();
        let tool = env!("CARGO_BIN_EXE_prodigy-storage");
        let script = command.replacen("prodigy-storage", tool, 1);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env_clear();
        shell
            .env("HOME", bench.path("home"))
            .env("PRODIGY_HOME", bench.root());
        let told = crate::support::run(shell, "").code(0);
        let name = told.lines()[0].replace("name      ", "");
        append().code(0);
        assert_eq!(name == "shop", way == "repo relink ", "{name}");
        assert_eq!(count("shop"), expected);
        assert_eq!(count(&name), if name == "shop" { 2 } else { 1 });
    }
    bench
        .run(&["repo", "relink", &shop, "shop"])
        .code(2)
        .says("the name comes first");
    // An unknown name may be mistyped, so it is accepted only with `--new`.
    bench
        .run(&["repo", "relink", "shpo", &shop])
        .code(4)
        .says("did you mean `shop`?")
        .says("`--new`");
    let new = bench.run(&["repo", "relink", "--new", "other", &shop]).code(0);
    assert_eq!(new.lines()[0], "name      other");
}

/// Runs the tool in a mount namespace with one folder mounted at another. Returns `None` if the machine does not allow
/// that.
#[cfg(target_os = "linux")]
fn mounted(bench: &Bench, source: &str, target: &str, arguments: &[&str]) -> Option<crate::support::Run> {
    const MOUNT: &str = "mount --bind \"$1\" \"$2\" || exit 99; cd \"$2\" || exit 99; shift 2; exec \"$@\"";
    for flags in ["-m", "-rm"] {
        let mut command = std::process::Command::new("unshare");
        command
            .args([flags, "sh", "-c", MOUNT, "sh"])
            .args([bench.path(source), bench.path(target)]);
        let allowed = std::process::Command::new("unshare")
            .args([flags, "sh", "-c", "mount --bind / /mnt"])
            .output();
        if allowed.is_ok_and(|output| output.status.success()) {
            let command = started_by(command, &bench.std(arguments));
            return Some(crate::support::run(command, "1\n"));
        }
    }
    eprintln!("SKIPPED: this machine allows no bind mount in a namespace of its own (`unshare -m`)");
    None
}

#[cfg(target_os = "linux")]
#[test]
fn one_repository_that_is_mounted_at_two_paths_has_one_name() {
    let bench = Bench::new();
    repository(&bench, "shop");
    for target in ["mnt/one", "mnt/two", "mnt/one"] {
        fs::create_dir_all(bench.path(target)).unwrap();
        let Some(run) = mounted(&bench, "shop", target, &["events", "append", "--job", "job"]) else {
            return;
        };
        run.code(0);
    }
    let mut beside = bench.std(["events", "append", "--job", "job"]);
    beside.current_dir(bench.path("shop"));
    crate::support::run(beside, "1\n").code(0);
    // The repository keeps the name of the folder in which it was first found.
    let all = bench.run(&["events", "cat", "--repo", "one", "--job", "job"]);
    assert_eq!(all.code(0).lines().len(), 4);
    assert_eq!(fs::read_dir(bench.root().join("events")).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn two_containers_with_different_repositories_at_one_path_share_no_log() {
    let bench = Bench::new();
    repository(&bench, "one");
    repository(&bench, "two");
    fs::create_dir(bench.path("workspace")).unwrap();
    let run = |source: &str, arguments: &[&str]| mounted(&bench, source, "workspace", arguments);
    let append = ["events", "append", "--job", "job"];
    let Some(first) = run("one", &append) else { return };
    first.code(0);
    run("two", &append).unwrap().code(1).says("repo register --as ");
    run("two", &["repo", "register", "--as", "second"])
        .unwrap()
        .code(0);
    run("two", &append).unwrap().code(0);
    run("one", &append).unwrap().code(0);
    for (name, events) in [("workspace", 2), ("second", 1)] {
        let all = bench.run(&["events", "cat", "--repo", name, "--job", "job"]);
        assert_eq!(all.code(0).lines().len(), events, "{name}");
    }
}

#[test]
fn a_fresh_clone_is_reported_once() {
    let bench = Bench::new();
    let shop = repository(&bench, "shop");
    let config = "[remote \"origin\"]\nurl = host:shop\n";
    bench.write("shop/.git/config", config);
    let append = || {
        let mut command = bench.std(["events", "append", "--job", "job"]);
        command.current_dir(&shop);
        crate::support::run(command, "1\n").code(0)
    };
    append();
    fs::rename(&shop, bench.path("away")).unwrap();
    repository(&bench, "shop");
    bench.write("shop/.git/config", config);
    append().says("fresh clone");
    assert!(!append().err.contains("clone"));
    let all = bench.run(&["events", "cat", "--repo", "shop", "--job", "job"]);
    assert_eq!(all.code(0).lines().len(), 3);
}

#[test]
fn a_name_with_data_and_no_entry_is_noticed_freed_and_given_to_another_repository() {
    let bench = Bench::new();
    bench.append("1\n");
    let (here, other) = (repository(&bench, "shop"), repository(&bench, "srv/shop"));
    let append = || {
        let mut command = bench.std(["events", "append", "--job", "job"]);
        command.current_dir(&here);
        crate::support::run(command, "1\n").code(0)
    };
    let whose = |name: &str| {
        let rows = bench.run(&["repo", "list", "--json"]).code(0).jsonl();
        rows.iter().find(|row| row["repo"] == name).unwrap().clone()
    };
    assert_eq!(whose("shop")["registered"], false);
    bench.run(&["repo", "list"]).code(0).prints("(not registered)");
    // `repo identify` announces the registration, and only the first write reports it.
    let told = bench.run(&["repo", "identify", &here]).code(0);
    told.says("the first write registers it as `shop`, a name under which data is stored");
    append().says("continues with the data that is stored under this name");
    assert!(!append().err.contains("note: "));
    assert_eq!(whose("shop")["path"], format!("{here}/.git"));
    // Without `--yes` nothing is removed.
    bench
        .run(&["repo", "unregister", "shop"])
        .code(1)
        .prints(&here)
        .says("nothing was removed");
    let freed = bench
        .run(&["repo", "unregister", "shop", "--yes", "--json"])
        .code(0);
    assert_eq!(freed.json()["unregistered"], true);
    bench
        .run(&["repo", "unregister", "shop", "--yes"])
        .code(4)
        .says("no repository is registered");
    let log = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
    let removal = &log[0]["removal"];
    assert_eq!((log.len(), &removal["kind"]), (1, &"registry_entry".into()));
    assert_eq!(
        (&removal["repo"], &removal["rule"]),
        (&"shop".into(), &"repo unregister".into())
    );
    bench.run(&["clean", "--log"]).code(0).prints("registry entry");
    // The repository is registered under a new name, and another repository gets the old name with its data.
    bench.run(&["repo", "register", "--as", "shop-2", &here]).code(0);
    append();
    bench.run(&["repo", "relink", "shop", &other]).code(0);
    assert_eq!(whose("shop")["path"], format!("{other}/.git"));
    for (name, events) in [("shop", 3), ("shop-2", 1)] {
        let all = bench.run(&["events", "cat", "--repo", name, "--job", "job"]);
        assert_eq!(all.code(0).lines().len(), events, "{name}");
    }
}

#[test]
fn a_name_is_not_freed_while_its_job_is_active_and_the_refusal_is_in_the_audit_log() {
    let bench = Bench::new();
    let shop = repository(&bench, "shop");
    bench.run(&["repo", "register", "--as", "shop", &shop]).code(0);
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let free = ["repo", "unregister", "shop", "--yes"];
    let hold = ["lock", "run", "shop/job/mine", "--", tool];
    bench
        .run(&[&hold[..], &free].concat())
        .code(3)
        .says("a process works on a job of this name: process ")
        .says(" holds the lock `shop/job/mine`");
    let log = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
    assert!(log[0]["removal"]["outcome"]["kept"]["why"].is_string(), "{log:?}");
    bench.run(&free).code(0);
}

#[test]
fn no_command_writes_under_a_name_of_the_store_itself() {
    let bench = Bench::new();
    let job = ["--repo", "_audit", "--job", "clean"];
    for (command, input) in [
        (&["events", "append"][..], "1\n"),
        (&["checkpoint", "save", "--phase", "map"], "{}"),
        (&["dlq", "push"], "{\"item_id\":\"a\",\"item_data\":1}\n"),
    ] {
        bench
            .feed(&[command, &job].concat(), input)
            .code(2)
            .says("holds data of the store itself");
    }
    bench.run(&["import", ".", "--repo", "_audit"]).code(2);
    bench
        .run(&["repo", "register", "--as", "_copy"])
        .code(1)
        .says("choose another name");
    // The audit log can be read with the commands for any other log.
    bench.append("1\n");
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    let read = bench.run(&[&["events", "cat"], &job[..]].concat()).code(0);
    assert_eq!(read.lines().len(), 2);
    let doctor = bench.run(&["doctor"]).code(0);
    doctor.prints(": 0 events and ");
}

#[test]
fn worktrees_have_a_place_and_those_that_are_there_are_listed() {
    let bench = Bench::new();
    let path = bench
        .run(&["worktree", "path", "agent-1", "--repo", "shop"])
        .code(0)
        .out;
    let expected = bench.root().join("worktrees/shop/session-agent-1");
    assert_eq!(path, format!("{}\n", expected.display()));
    assert_eq!(
        bench
            .run(&["worktree", "path", "session-agent-1", "--repo", "shop"])
            .code(0)
            .out,
        path
    );
    assert!(!bench.root().exists());
    bench
        .run(&["worktree", "list", "--repo", "shop"])
        .code(4)
        .says("no repository `shop`");
    fs::create_dir_all(&expected).unwrap();
    assert_eq!(
        bench.run(&["worktree", "list", "--repo", "shop"]).code(0).out,
        "agent-1\n"
    );
    let listed = bench
        .run(&["worktree", "list", "--repo", "shop", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&listed["session"], &listed["exists"]),
        (&"agent-1".into(), &true.into())
    );
    bench.run(&["worktree", "path", "../x", "--repo", "shop"]).code(2);
}

#[test]
fn orphans_are_listed_by_job() {
    let bench = Bench::new();
    for job in ["a", "b"] {
        let record = serde_json::json!({"job_id": job, "orphaned_worktrees": [{
            "agent_id": "agent-1", "item_id": format!("item-{job}"), "worktree_path": "/srv/w",
            "timestamp": "2026-01-02T03:04:05Z", "error": "busy",
        }]});
        bench.write(
            &format!("home/.prodigy/orphaned_worktrees/shop/{job}.json"),
            record.to_string(),
        );
    }
    let all = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--json"])
        .code(0)
        .jsonl();
    assert_eq!(
        all.iter()
            .map(|orphan| orphan["item_id"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["item-a", "item-b"]
    );
    let one = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--job", "b"])
        .code(0);
    assert_eq!(one.lines().len(), 2);
    assert!(
        one.out.contains("item-b") && one.out.contains("/srv/w"),
        "{}",
        one.out
    );
}

#[test]
fn health_and_usage_create_nothing_and_tell_what_is_there() {
    let bench = Bench::new();
    bench.run(&["health"]).code(0);
    bench.run(&["usage"]).code(0);
    assert!(!bench.root().exists());
    bench.append("1\n");
    let before = tree(&bench.root());
    let health = bench.run(&["health", "--json"]).code(0).json();
    assert_eq!(health["severity"], "ok", "{health}");
    let usage = bench.run(&["usage", "--json"]).code(0).json();
    let events = usage["areas"]
        .as_array()
        .unwrap()
        .iter()
        .find(|area| area["area"] == "events")
        .unwrap()
        .clone();
    assert_eq!((&events["repo"], &events["files"]), (&"shop".into(), &1.into()));
    assert!(bench.run(&["usage"]).code(0).out.contains("in all"));
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn a_failing_check_is_a_failure() {
    let bench = Bench::new();
    bench.write("home/.prodigy", "a file stands where the root belongs");
    let bench = bench.with("PRODIGY_STORAGE_BASE_PATH", "");
    bench
        .run(&["health", "--base-dir", bench.root().to_str().unwrap()])
        .code(1);
}

#[test]
fn health_finds_what_is_in_the_way_of_a_write() {
    let bench = Bench::new();
    bench.append("1\n");
    let push = ["dlq", "push", "--repo", "shop", "--job", "job"];
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    bench.run(&["health"]).code(0);
    // A file whose name could be a repository's is harmless if no such repository exists.
    bench.write("home/.prodigy/events/README", "stray");
    bench.run(&["health"]).code(0);
    for (place, write, input) in [
        ("state/shop/mapreduce", &SAVE[..], "{}"),
        ("state/shop", &SAVE[..], "{}"),
        ("locks/1", &["lock", "run", "l", "--", "true"][..], ""),
        (
            "dlq/shop/job/items.lock",
            &push[..],
            "{\"item_id\":\"b\",\"item_data\":1}\n",
        ),
    ] {
        let path = bench.root().join(place);
        let aside = bench.path("aside");
        let was = fs::rename(&path, &aside).is_ok();
        match place.ends_with(".lock") {
            true => fs::create_dir(&path).unwrap(),
            false => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, "stray").unwrap();
            }
        }
        assert_ne!(bench.feed(write, input).code, Some(0), "{place}");
        let health = bench.run(&["health"]).code(1);
        assert!(
            health.out.contains(place) && health.out.contains("writes fail where"),
            "{place}: {}",
            health.out
        );
        match place.ends_with(".lock") {
            true => fs::remove_dir(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        if was {
            fs::rename(&aside, &path).unwrap();
        }
        bench.feed(write, input).code(0);
        bench.run(&["health"]).code(0);
    }
}

/// Processes in different time namespaces agree on the end of a lease.
#[cfg(target_os = "linux")]
#[test]
fn a_lease_counts_in_every_time_namespace() {
    let bench = Bench::new();
    let push = ["dlq", "push", "--repo", "shop", "--job", "job"];
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    let take = [
        "dlq", "take", "a", "--repo", "shop", "--job", "job", "--lease", "10m",
    ];
    let far = |arguments: &[&str]| {
        let tool = bench.std(arguments);
        let mut outer = std::process::Command::new("unshare");
        outer.args(["--time", "--boottime", "86400", "--fork", "--"]);
        started_by(outer, &tool)
    };
    if !far(&["--version"])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        eprintln!("SKIPPED: this machine allows no time namespace of its own (`unshare --time`)");
        return;
    }
    assert_eq!(bench.run(&take).code(0).lines().len(), 1);
    let again = crate::support::run(far(&take), "");
    assert_eq!(again.out, "", "the item is leased");
    let shown = ["dlq", "list", "--json", "--repo", "shop", "--job", "job"];
    let (here, there) = (
        bench.run(&shown).code(0),
        crate::support::run(far(&shown), "").code(0),
    );
    assert_eq!(here.json()["queue_state"], "leased", "{}", here.out);
    assert_eq!(there.json()["queue_state"], "leased", "{}", there.out);
}

#[test]
fn a_command_that_stores_nothing_registers_nothing() {
    let bench = Bench::new();
    bench.append("1\n");
    let job = ["--job", "nigtly"];
    let commands: [&[&str]; 14] = [
        &["job", "delete", "nigtly", "--yes"],
        &["job", "finish", "nigtly"],
        &["checkpoint", "prune", "--keep", "1"],
        &["checkpoint", "delete", "setup-checkpoint.json"],
        &["checkpoint", "save", "--phase", "map"],
        &["document", "put", "--kind", "notes", "--name", "a"],
        &["document", "delete", "--kind", "notes", "--name", "a"],
        &["dlq", "take", "--all"],
        &["dlq", "remove", "a"],
        &["dlq", "purge", "--any", "--yes"],
        &["dlq", "push"],
        &["dlq", "import"],
        &["dlq", "compact"],
        &["events", "append"],
    ];
    for command in commands {
        let of_job = if command[0] == "job" { &[][..] } else { &job[..] };
        let command = [command, of_job].concat();
        let run = bench.run(&command);
        assert!(
            !bench.root().join("state/here").exists(),
            "{command:?}: {}",
            run.err
        );
        if matches!(command[1], "finish" | "take" | "prune") {
            run.code(4).says("nothing is stored under that name").says("shop");
        }
    }
    for refused in ["dlq push", "dlq import"] {
        let command = [&refused.split(' ').collect::<Vec<_>>()[..], &job[..]].concat();
        bench.feed(&command, "{\"item_data\":1,\"item_id\":7}\n").code(1);
        assert!(!bench.root().join("state/here").exists(), "{refused}");
    }
    bench.run(&["job", "list"]).code(4).says("shop");
    // The first thing that is stored registers the repository.
    bench
        .feed(&["events", "append", "--job", "nightly"], "1\n")
        .code(0);
    assert!(bench.root().join("state/here/repository.json").exists());
}
