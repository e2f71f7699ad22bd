//! Tests of the tool with `backend: postgres`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::import_turns::{exported, imports_at_once};
use crate::server::Server;
use crate::support::Bench;

/// A made-up password: the private server accepts every connection.
const PASSWORD: &str = "s3cret";

pub fn bench(server: &Server) -> Bench {
    let url = server.url().replace("app@", &format!("app:{PASSWORD}@"));
    Bench::new()
        .with("PRODIGY_STORAGE_TYPE", "postgres")
        .with("PRODIGY_STORAGE_URL", &url)
}

#[test]
fn the_schema_is_shown_and_migrated() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    let before = bench.run(&["schema", "show"]).code(1).out;
    assert!(
        before.starts_with("version 0, and this program needs "),
        "{before}"
    );
    bench.run(&["usage"]).code(4).says("schema migrate");
    bench.run(&["schema", "migrate"]).code(0);
    bench.run(&["schema", "migrate"]).code(0);
    let after = bench.run(&["schema", "show", "--json"]).code(0).json();
    assert!(after["found"].as_i64() > Some(0));
    assert_eq!(after["found"], after["wanted"]);
    bench.run(&["usage"]).code(0);
    let other = Bench::of_memory();
    other
        .run(&["schema", "show"])
        .code(1)
        .says("only the `postgres` backend has a schema");
}

#[test]
fn a_schema_of_a_later_version_is_refused_and_left_as_it_is() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.append("1\n");
    // A later version adds a column that this one does not know.
    server.psql("alter table prodigy.event add column later text; update prodigy.store set version = 999");
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    let backup = bench.path("job.tar.zst");
    let backup = [
        "backup",
        backup.to_str().unwrap(),
        "--repo",
        "shop",
        "--job",
        "job",
    ];
    let copy = bench.path("copy");
    let copy = ["copy", "--to", copy.to_str().unwrap(), "--yes"];
    for command in [
        &append[..],
        &["events", "cat", "--repo", "shop", "--job", "job"],
        &["status"],
        &["schema", "migrate"],
        &["schema", "renew"],
        &backup,
        &copy,
    ] {
        let refused = bench.feed(command, "2\n");
        assert!(refused.code != Some(0), "{command:?}: {}", refused.out);
        refused
            .says("the schema has version 999")
            .says("use the program that migrated it, or a newer one");
    }
    assert_eq!(
        bench.run(&["schema", "show", "--json"]).code(1).json()["found"],
        999
    );
    let left = server
        .psql("select version || ' ' || count(e.*) from prodigy.store, prodigy.event e group by version");
    assert_eq!(left.trim(), "999 1");
}

#[test]
fn everything_is_stored_and_read_and_no_password_is_shown() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let run = |command: &[&str], input: &str| {
        let arguments: Vec<&str> = command.iter().chain(&job).copied().collect();
        bench.feed(&arguments, input).code(0)
    };
    assert_eq!(run(&["events", "cat"], "").lines().len(), 2);
    run(&["checkpoint", "save", "--phase", "map"], "{\"done\":2}");
    assert!(
        run(&["checkpoint", "show", "--phase", "map"], "")
            .out
            .contains("\"done\"")
    );
    run(&["dlq", "push"], "{\"item_id\":\"a\",\"item_data\":1}\n");
    assert!(run(&["dlq", "list"], "").out.contains('a'));
    bench
        .run(&["lock", "run", "shop/job/resume", "--", "true"])
        .code(0);
    assert!(
        bench
            .run(&["lock", "list"])
            .code(0)
            .out
            .contains("shop/job/resume")
    );
    bench.run(&["health"]).code(0);
    assert!(
        bench
            .run(&["job", "list", "--repo", "shop"])
            .code(0)
            .out
            .contains("job")
    );

    let shown = bench.run(&["config", "show", "--origin"]).code(0);
    assert!(shown.out.contains("postgresql://app:***@"), "{}", shown.out);
    let broken = bench.with(
        "PRODIGY_STORAGE_URL",
        &format!("postgresql://app:{PASSWORD}@127.0.0.1:1/jobs"),
    );
    let failed = broken.run(&["usage"]).code(1);
    for run in [shown, failed] {
        assert!(
            !run.out.contains(PASSWORD) && !run.err.contains(PASSWORD),
            "{}{}",
            run.out,
            run.err
        );
    }
}

#[test]
fn a_job_is_copied_from_files_to_the_database_and_back() {
    let Some(server) = Server::start() else { return };
    let files = Bench::new().with("PGPASSWORD", PASSWORD);
    let job = ["--repo", "shop", "--job", "job"];
    files.append("{\"n\":1}\n{\"n\":2}\n");
    let end = ["events", "end"];
    let cursor = files.run(&[&end[..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    files.feed(&[&save[..], &job].concat(), "2").code(0);
    files.append("{\"n\":3}\n");
    files
        .feed(
            &[&["dlq", "push"][..], &job].concat(),
            "{\"item_id\":\"a\",\"item_data\":1}\n",
        )
        .code(0);
    let there = files
        .run(&["copy", "--to", &server.url(), "--yes", "--json"])
        .code(0)
        .json();
    assert_eq!((&there["events"], &there["letters"]), (&3.into(), &1.into()));

    let database = bench(&server);
    let behind = |bench: &Bench, more: &[&str]| {
        let shown = bench.run(&[more, &["checkpoint", "show"], &job].concat()).code(0);
        let cursor = shown.json()["cursor"].as_str().unwrap().to_owned();
        let follow = ["events", "follow", "--for", "0s", "--cursor", &cursor];
        let found = bench.run(&[more, &follow[..], &job].concat()).code(0).jsonl();
        found
            .iter()
            .map(|event| event["event"]["n"].as_i64())
            .collect::<Vec<_>>()
    };
    assert_eq!(behind(&database, &[]), [Some(3)]);
    let folder = database.path("back");
    let folder = folder.to_str().unwrap();
    let keep = ["copy", "--to", folder, "--json", "--keep-source"];
    let back = database.run(&keep).code(0).json();
    assert_eq!(back["checksum"], there["checksum"]);
    assert_eq!(behind(&files, &["--base-dir", folder]), [Some(3)]);
    // A second copy goes into another schema of the same server.
    let other = [
        "copy",
        "--to",
        &server.url(),
        "--schema",
        "other",
        "--json",
        "--keep-source",
    ];
    let second = database.run(&other).code(0).json();
    assert_eq!(second["checksum"], there["checksum"]);
    let itself = database.run(&["copy", "--to", &server.url(), "--yes"]).code(1);
    itself.says("the same store");
}

#[test]
fn what_was_moved_takes_no_writes_in_either_place_and_no_password_is_kept() {
    let Some(server) = Server::start() else { return };
    let (files, database) = (Bench::new(), bench(&server));
    files.append("{\"n\":1}\n");
    let url = server.url().replace("app@", &format!("app:{PASSWORD}@"));
    let warning = "every user of this machine can read the password";
    let plan = files.run(&["copy", "--to", &url]).code(0);
    let plan = plan.says("nothing was copied").says(warning);
    assert!(!plan.err.contains(PASSWORD), "{}", plan.err);
    let files = files.with("TARGET", &url);
    for (name, why) in [
        ("NOT_SET", "`NOT_SET` is set"),
        (&url, "app:***@"),
        ("", "is set"),
    ] {
        let refused = files.run(&["copy", "--to-env", name]).code(2).says(why);
        assert!(!refused.err.contains(PASSWORD), "{}", refused.err);
    }
    files
        .run(&["copy", "--to-env", "TARGET", "--to", "folder"])
        .code(2);
    let moved = files.run(&["copy", "--to-env", "TARGET", "--yes"]).code(0);
    assert!(
        !moved.err.contains(warning) && !moved.err.contains(PASSWORD),
        "{}",
        moved.err
    );
    let mistyped = url.replace("postgresql://", "postgers://");
    let refused = files
        .run(&["copy", "--to", &mistyped])
        .code(2)
        .says("no connection string");
    assert!(!refused.err.contains(PASSWORD), "{}", refused.err);
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    let refused = files.feed(&append, "2\n").code(1).says("postgresql://app:***@");
    assert!(!refused.err.contains(PASSWORD), "{}", refused.err);
    database.append("{\"n\":2}\n");

    // Another copy goes from the database into a folder.
    let folder = database.path("new");
    let folder = folder.to_str().unwrap();
    database.run(&["copy", "--to", folder, "--yes"]).code(0);
    database.feed(&append, "3\n").code(1).says(folder);
    let new = ["events", "append", "--repo", "shop", "--job", "new"];
    database
        .feed(&new, "1\n")
        .code(1)
        .says("the whole store was moved to");
    let push = ["dlq", "push", "--repo", "shop", "--job", "job"];
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    database.feed(&push, letter).code(1).says(folder);
    let cat = ["events", "cat", "--repo", "shop", "--job", "job"];
    let read = database.run(&cat).code(0);
    assert_eq!(
        (read.lines().len(), read.err.matches("was moved to").count()),
        (2, 1)
    );
    let listed = database
        .run(&["job", "list", "--repo", "shop", "--json"])
        .code(0)
        .json();
    assert_eq!(listed["moved_to"], folder);
    assert!(
        database
            .run(&["status"])
            .code(0)
            .out
            .contains("the whole store, to ")
    );
    database
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    database.feed(&append, "3\n").code(1).says(folder);
    assert_eq!(
        database.run(&["copy", "--reopen"]).code(0).out,
        "2 marks taken away\n"
    );
    database.feed(&append, "3\n").code(0);
}

#[test]
fn an_archive_of_a_job_is_made_from_the_database_and_restored_there_and_in_a_folder() {
    let Some(server) = Server::start() else { return };
    let database = bench(&server);
    let temporary = database.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let database = database.with("TMPDIR", temporary.to_str().unwrap());
    database.append("{\"n\":1}\n{\"n\":2}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let cursor = database.run(&[&["events", "end"][..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    database.feed(&[&save[..], &job].concat(), "2").code(0);
    database.append("{\"n\":3}\n");
    let file = database.path("job.tar.zst");
    let file = file.to_str().unwrap();
    database.run(&["backup", file]).code(1).says("pg_dump");
    database
        .run(&["backup", file, "--repo", "shop", "--job", "none"])
        .code(4);
    let backup = [&["backup", file, "--json"][..], &job].concat();
    assert_eq!(database.run(&backup).code(0).json()["jobs"], 1);
    database.run(&["restore", "--check", file]).code(0);

    let files = Bench::new();
    files.run(&["restore", file]).code(0);
    // A restore over a job with the same data succeeds. A restore over other data is refused.
    database.run(&["restore", file]).code(0);
    database.append("{\"n\":4}\n");
    database
        .run(&["restore", file])
        .code(1)
        .says("only the target has event");
    database
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    database.run(&[&["restore", file][..], &job].concat()).code(0);
    for bench in [&files, &database] {
        let shown = bench.run(&[&["checkpoint", "show"][..], &job].concat()).code(0);
        let cursor = shown.json()["cursor"].as_str().unwrap().to_owned();
        let follow = ["events", "follow", "--for", "0s", "--cursor", &cursor];
        let behind = bench.run(&[&follow[..], &job].concat()).code(0).jsonl();
        assert_eq!(behind.len(), 1);
        assert_eq!(behind[0]["event"]["n"], 3);
        assert_eq!(
            bench
                .run(&[&["events", "cat"][..], &job].concat())
                .code(0)
                .lines()
                .len(),
            3
        );
    }
    assert_eq!(
        std::fs::read_dir(temporary).unwrap().count(),
        0,
        "temporary folders are left"
    );
}

#[test]
fn an_archive_of_a_job_that_was_moved_out_of_the_database_brings_its_mark() {
    let Some(server) = Server::start() else { return };
    let database = bench(&server);
    database.append("{\"n\":1}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let new = database.path("new");
    let new = new.to_str().unwrap();
    database
        .run(&[&["copy", "--to", new, "--yes"][..], &job].concat())
        .code(0);
    let file = database.path("job.tar.zst");
    let file = file.to_str().unwrap();
    let backup = [&["backup", file, "--json"][..], &job].concat();
    assert_eq!(database.run(&backup).code(0).json()["moved"], 1);

    let append = [&["events", "append"][..], &job].concat();
    let elsewhere = bench(&server).with("PRODIGY__STORAGE__BACKEND_CONFIG__SCHEMA", "elsewhere");
    elsewhere.run(&["schema", "migrate"]).code(0);
    for other in [Bench::new(), elsewhere] {
        other.run(&["restore", file]).code(0).says("1 mark of moves");
        other.feed(&append, "2\n").code(1).says(new);
        let cat = [&["events", "cat"][..], &job].concat();
        assert_eq!(other.run(&cat).code(0).lines().len(), 1);
        other.run(&["copy", "--reopen"]).code(0);
        other.feed(&append, "2\n").code(0);
    }
}

#[test]
fn a_renewed_store_refuses_cursors_of_readers_and_keeps_those_of_checkpoints() {
    let Some(server) = Server::start() else { return };
    let database = bench(&server);
    database.append("{\"n\":1}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let cursor = database.run(&[&["events", "end"][..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    // The checkpoint's data holds the cursor as well. It belongs to the caller, so `schema renew` does not change it.
    let data = format!("{{\"at\":\"{}\"}}", cursor.trim());
    database.feed(&[&save[..], &job].concat(), data.clone()).code(0);
    database.append("{\"n\":2}\n");
    let renewed = database.run(&["schema", "renew", "--json"]).code(0).json();
    assert_eq!(renewed["checkpoints"], 1);
    let behind = |cursor: &str| {
        let follow = ["events", "follow", "--for", "0s", "--cursor", cursor];
        database.run(&[&follow[..], &job].concat())
    };
    let gap = behind(cursor.trim());
    assert!(gap.code != Some(0), "{}", gap.out);
    let shown = database
        .run(&[&["checkpoint", "show"][..], &job].concat())
        .code(0)
        .json();
    assert_eq!(shown["data"]["at"], cursor.trim());
    let found = behind(shown["cursor"].as_str().unwrap()).code(0).jsonl();
    assert_eq!((found.len(), &found[0]["event"]["n"]), (1, &2.into()));
}

#[test]
fn an_imported_event_is_found_by_both_of_its_times() {
    let Some(server) = Server::start() else { return };
    crate::import::times_of_an_imported_event(&bench(&server));
}

#[test]
fn a_problem_of_a_database_names_no_doctor() {
    let Some(server) = Server::start() else { return };
    let database = bench(&server);
    database.append("{\"n\":1}\n");
    assert!(!database.run(&["health"]).code(0).out.contains("doctor"));
    server.psql("update prodigy.event set line = 'x'");
    for look in ["status", "health"] {
        let shown = database.run(&[look]);
        assert!(shown.out.contains("failure  "), "{look}: {}", shown.out);
        assert!(!shown.out.contains("doctor"), "{look}: {}", shown.out);
    }
}

#[test]
fn readers_under_way_outlive_their_connections() {
    const EVENTS: usize = 3_000;
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.run(&["schema", "migrate"]).code(0);
    let events: Vec<String> = (0..EVENTS).map(|number| format!("\"{number:0300}\"\n")).collect();
    bench.append(&events.concat());
    for command in ["cat", "follow"] {
        let mut tool = bench.std([
            "events", command, "--repo", "shop", "--job", "job", "-o", "payload",
        ]);
        if command == "follow" {
            tool.args(["--for", "0s"]);
        }
        let mut running = tool.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let mut read: Vec<String> = Vec::new();
        // It has read a page and can't write all of it. Its connections end before it reads the next one.
        read.extend(lines.by_ref().take(10).map(Result::unwrap));
        server.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' and pid <> pg_backend_pid()");
        read.extend(lines.map(Result::unwrap));
        assert_eq!(running.wait().unwrap().code(), Some(0), "{command}");
        let all: Vec<&str> = events.iter().map(|event| event.trim_end()).collect();
        assert!(read == all, "{command}: {} of {EVENTS}", read.len());
    }
}

/// Follows all jobs, and appends an event to another one after `disturb`. A follower looks at all jobs every 30 seconds in
/// any case, so it ends before that if no event comes.
fn assert_all_jobs_are_followed(bench: &Bench, direct: &Bench, before: Option<&str>, disturb: impl FnOnce()) {
    let append = |job: &str| {
        let append = ["events", "append", "--repo", "shop", "--job", job];
        direct.feed(&append, "1\n").code(0);
    };
    if let Some(job) = before {
        append(job);
    }
    let mut child = bench
        .std(["events", "follow", "--all-repos", "--for", "20s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if let Some(job) = before {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(job), "{line}");
    }
    disturb();
    append("later");
    let line = lines.next().expect("a line").unwrap();
    assert!(line.contains("later"), "{line}");
    drop(lines);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_follow_of_all_jobs_notices_that_its_notifications_ended() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.run(&["schema", "migrate"]).code(0);
    assert_all_jobs_are_followed(&bench, &bench, Some("first"), || {
        // The follow listens from before its first line on.
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where backend_type = 'client backend' and (query like 'listen%' or query = '')";
        assert_ne!(server.psql(end).trim(), "0");
    });
}

#[test]
fn a_follow_of_all_jobs_without_notifications_finds_the_first_job() {
    let Some(server) = Server::start() else { return };
    let Some(pooler) = server.pooler() else { return };
    let direct = bench(&server);
    direct.run(&["schema", "migrate"]).code(0);
    let url = pooler.url();
    let pooled = bench(&server).with("PRODIGY_STORAGE_URL", &url);
    server.set("log_statement", "all");
    let before = server.log().len();
    assert_all_jobs_are_followed(&pooled, &direct, None, || {
        // The follow has listed the repositories.
        while !server.log()[before..].contains("with recursive n as") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}

#[test]
fn imports_of_the_same_thing_at_once_store_it_once() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.run(&["schema", "migrate"]).code(0);
    let file = exported(&bench);
    imports_at_once(&bench, &file);
}

#[test]
fn a_wait_for_a_lock_after_a_failover_says_why_and_for_how_long() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.run(&["schema", "migrate"]).code(0);
    // As if a branch of the server's history were noticed now.
    server.psql("update prodigy.branch set seen = clock_timestamp(), written_by = txid_current()");
    let why = "the database had a failover or was restored, so it may have lost locks that are held: it gives out none for ";
    bench
        .run(&["lock", "run", "l", "--wait", "2s", "--", "true"])
        .code(3)
        .says(&format!("note: waiting for the lock `l`: {why}"))
        .says(" more seconds; waited ");
    server.psql("update prodigy.branch set seen = 'epoch', written_by = txid_current()");
    bench.run(&["lock", "run", "l", "--", "true"]).code(0);
}
