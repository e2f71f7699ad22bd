//! `backend: postgres` through the tool.

use crate::server::Server;
use crate::support::Bench;

/// A made-up password: the private server accepts every connection.
const PASSWORD: &str = "s3cret";

fn bench(server: &Server) -> Bench {
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
        .run(&["copy", "--to", &server.url(), "--json"])
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
    let itself = database.run(&["copy", "--to", &server.url()]).code(1);
    itself.says("the same store");
}

#[test]
fn what_was_moved_takes_no_writes_in_either_place_and_no_password_is_kept() {
    let Some(server) = Server::start() else { return };
    let (files, database) = (Bench::new(), bench(&server));
    files.append("{\"n\":1}\n");
    let url = server.url().replace("app@", &format!("app:{PASSWORD}@"));
    files.run(&["copy", "--to", &url]).code(0);
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    let refused = files.feed(&append, "2\n").code(1).says("postgresql://app:***@");
    assert!(!refused.err.contains(PASSWORD), "{}", refused.err);
    database.append("{\"n\":2}\n");

    // And into another folder.
    let folder = database.path("new");
    let folder = folder.to_str().unwrap();
    database.run(&["copy", "--to", folder]).code(0);
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
    // A restore over the job finds it as it is, and one over other data is refused.
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
fn a_renewed_store_refuses_cursors_of_readers_and_keeps_those_of_checkpoints() {
    let Some(server) = Server::start() else { return };
    let database = bench(&server);
    database.append("{\"n\":1}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let cursor = database.run(&[&["events", "end"][..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    // The data may hold a cursor, too: it is the caller's.
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

/// Passes what a client and the server say to each other on, and calls `strike` before the message of this number that the client sends.
struct Wire {
    port: u16,
    sent: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Wire {
    fn to(server: &Server, number: usize, strike: impl Fn() + Send + Sync + 'static) -> Self {
        use std::io::{Read, Write};
        use std::net::{Shutdown, TcpListener, TcpStream};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, of_server) = (listener.local_addr().unwrap().port(), server.port());
        let (sent, strike) = (Arc::new(AtomicUsize::new(0)), Arc::new(strike));
        let pass = |mut from: TcpStream, mut to: TcpStream, each: Box<dyn Fn() + Send>| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    each();
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            })
        };
        let counted = Arc::clone(&sent);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(("127.0.0.1", of_server)) else {
                    return;
                };
                let (counted, strike) = (Arc::clone(&counted), Arc::clone(&strike));
                let each = move || {
                    if counted.fetch_add(1, Ordering::SeqCst) + 1 == number {
                        strike();
                    }
                };
                let (from, to) = (client.try_clone().unwrap(), there.try_clone().unwrap());
                pass(from, to, Box::new(each));
                pass(there, client, Box::new(|| ()));
            }
        });
        Self { port, sent }
    }

    fn url(&self, server: &Server) -> String {
        server
            .url()
            .replace(&server.port().to_string(), &self.port.to_string())
    }
}

/// Runs a command of the tool that is killed before its message of this number to the server. True if it was killed.
fn killed_at(server: &Server, number: usize, command: impl FnOnce(&str) -> std::process::Command) -> bool {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex};
    let victim = Arc::new(Mutex::new(0));
    let of_wire = Arc::clone(&victim);
    let wire = Wire::to(server, number, move || {
        let pid = *of_wire.lock().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    });
    let mut command = command(&wire.url(server));
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut guard = victim.lock().unwrap();
    let mut child = command.spawn().unwrap();
    *guard = i32::try_from(child.id()).unwrap();
    drop(guard);
    let code = child.wait().unwrap().code();
    let is_whole = wire.sent.load(Ordering::SeqCst) < number;
    assert_eq!(code == Some(0), is_whole, "message {number}: {code:?}");
    !is_whole
}

/// A job with events in front of and behind a checkpoint, and a dead letter; its cursor's events come behind the same number.
fn fill(bench: &Bench) {
    let job = ["--repo", "shop", "--job", "job"];
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let cursor = bench.run(&[&["events", "end"][..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    bench.feed(&[&save[..], &job].concat(), "2").code(0);
    bench.append("{\"n\":3}\n");
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench.feed(&[&["dlq", "push"][..], &job].concat(), letter).code(0);
    bench.run(&["job", "list", "--repo", "shop"]).code(0);
}

/// Runs a copy that was struck again. Returns the checksum of its events, and the events behind the checkpoint.
fn whole_again(source: &Bench, copy: &[&str], target: &Bench, more: &[&str]) -> (String, Vec<Option<i64>>) {
    let job = ["--repo", "shop", "--job", "job"];
    let again = source.run(copy).code(0).json();
    assert_eq!((&again["events"], &again["letters"]), (&3.into(), &1.into()));
    let shown = target
        .run(&[more, &["checkpoint", "show"], &job].concat())
        .code(0)
        .json();
    let follow = [
        "events",
        "follow",
        "--for",
        "0s",
        "--cursor",
        shown["cursor"].as_str().unwrap(),
    ];
    let behind = target.run(&[more, &follow[..], &job].concat()).code(0).jsonl();
    let late = source
        .feed(&[&["events", "append"][..], &job].concat(), "4\n")
        .code(1);
    late.says("was moved to");
    let behind = behind.iter().map(|event| event["event"]["n"].as_i64()).collect();
    (again["checksum"].as_str().unwrap().to_owned(), behind)
}

/// Has a copy of the source killed at each of its messages and made again, until one is not killed. `copy` makes both, and returns true if
/// the first was killed.
fn kill_at_each_message(source: &Bench, mut copy: impl FnMut(usize) -> (bool, (String, Vec<Option<i64>>))) {
    let mut sums = std::collections::BTreeSet::new();
    fill(source);
    for number in 1.. {
        source.run(&["copy", "--reopen"]).code(0);
        let (is_killed, (sum, behind)) = copy(number);
        assert_eq!(behind, [Some(3)], "message {number}");
        sums.insert(sum);
        if !is_killed {
            assert!(number > 20, "the copy sent only {number} messages");
            break;
        }
    }
    assert_eq!(sums.len(), 1, "{sums:?}");
}

#[test]
fn a_move_into_the_database_that_is_killed_at_any_message_is_made_whole_by_the_next() {
    let Some(server) = Server::start() else { return };
    let source = Bench::new();
    kill_at_each_message(&source, |number| {
        let schema = format!("s{number}");
        let target = Bench::new()
            .with("PRODIGY_STORAGE_TYPE", "postgres")
            .with("PRODIGY_STORAGE_URL", &server.url())
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__SCHEMA", &schema);
        let is_killed = killed_at(&server, number, |url| {
            source.std(["copy", "--to", url, "--schema", &schema])
        });
        let url = server.url();
        let copy = ["copy", "--to", &url, "--schema", &schema, "--json"];
        (is_killed, whole_again(&source, &copy, &target, &[]))
    });
}

#[test]
fn a_move_out_of_the_database_that_is_killed_at_any_message_is_made_whole_by_the_next() {
    let Some(server) = Server::start() else { return };
    let source = bench(&server);
    kill_at_each_message(&source, |number| {
        let folder = source.path(&format!("copy-{number}"));
        let folder = folder.to_str().unwrap();
        let is_killed = killed_at(&server, number, |url| {
            let mut command = source.std(["copy", "--to", folder]);
            command.env("PRODIGY_STORAGE_URL", url);
            command
        });
        let copy = ["copy", "--to", folder, "--json"];
        let again = whole_again(&source, &copy, &Bench::new(), &["--base-dir", folder]);
        (is_killed, again)
    });
}

#[test]
fn an_imported_event_is_found_by_both_of_its_times() {
    let Some(server) = Server::start() else { return };
    crate::import::times_of_an_imported_event(&bench(&server));
}
