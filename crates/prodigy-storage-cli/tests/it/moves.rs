//! Moves of jobs into a database and out of it. The tool is killed at each message to the server, and other processes
//! write meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::postgres::bench;
use crate::server::Server;
use crate::support::Bench;

/// A proxy between a client and the PostgreSQL server. Calls `strike` before it passes on the client's message with
/// this number. A drop waits until all threads, and so `strike`, have ended.
struct Wire {
    port: u16,
    sent: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    listens: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

impl Wire {
    fn to(server: &Server, number: usize, strike: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, of_server) = (listener.local_addr().unwrap().port(), server.port());
        let (sent, strike) = (Arc::new(AtomicUsize::new(0)), Arc::new(strike));
        let is_over = Arc::new(AtomicBool::new(false));
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
        let (counted, ends) = (Arc::clone(&sent), Arc::clone(&is_over));
        let listens = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for client in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(there) = TcpStream::connect(("127.0.0.1", of_server)) else {
                    break;
                };
                let (counted, strike) = (Arc::clone(&counted), Arc::clone(&strike));
                let each = move || {
                    if counted.fetch_add(1, Ordering::SeqCst) + 1 == number {
                        strike();
                    }
                };
                let (from, to) = (client.try_clone().unwrap(), there.try_clone().unwrap());
                threads.push(pass(from, to, Box::new(each)));
                threads.push(pass(there, client, Box::new(|| ())));
            }
            threads
        });
        Self {
            port,
            sent,
            is_over,
            listens: Some(listens),
        }
    }

    fn url(&self, server: &Server) -> String {
        server
            .url()
            .replace(&server.port().to_string(), &self.port.to_string())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // A connection ends the thread's wait in `accept`.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(Ok(threads)) = self.listens.take().map(JoinHandle::join) {
            // The client's process has ended, so its connections are closed.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

/// Runs a command, and kills it before its message with this number reaches the server. True if it was killed. Later
/// messages pass, so that the same address can be used again.
fn killed_at(
    server: &Server,
    number: usize,
    command: impl FnOnce(&str) -> std::process::Command,
) -> (bool, Wire) {
    let victim = Arc::new(Mutex::new(0));
    let of_wire = Arc::clone(&victim);
    let wire = Wire::to(server, number, move || {
        // No process once the command has ended.
        if let Some(pid) = rustix::process::Pid::from_raw(*of_wire.lock().unwrap()) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
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
    *victim.lock().unwrap() = 0;
    (!is_whole, wire)
}

/// A server for thousands of commits, none of which has to survive a loss of power.
fn server() -> Option<Server> {
    let server = Server::start()?;
    server.set("fsync", "off");
    Some(server)
}

/// A job with two events before a checkpoint, and an event and a dead letter after it.
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

/// Makes a copy again that was killed. Returns the checksum that it reports, and the events after the target's
/// checkpoint.
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

/// Kills a copy of the source at its first message, makes it again, and repeats this for each later message until a
/// copy is not killed. `copy` makes both copies, and returns true if the first was killed.
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
    let Some(server) = server() else { return };
    let source = Bench::new();
    kill_at_each_message(&source, |number| {
        let schema = format!("s{number}");
        let target = Bench::new()
            .with("PRODIGY_STORAGE_TYPE", "postgres")
            .with("PRODIGY_STORAGE_URL", &server.url())
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__SCHEMA", &schema);
        let (is_killed, wire) = killed_at(&server, number, |url| {
            source.std(["copy", "--to", url, "--schema", &schema, "--yes"])
        });
        let url = wire.url(&server);
        let copy = ["copy", "--to", &url, "--schema", &schema, "--yes", "--json"];
        (is_killed, whole_again(&source, &copy, &target, &[]))
    });
}

#[test]
fn a_move_out_of_the_database_that_is_killed_at_any_message_is_made_whole_by_the_next() {
    let Some(server) = server() else { return };
    let source = bench(&server);
    kill_at_each_message(&source, |number| {
        let folder = source.path(&format!("copy-{number}"));
        let folder = folder.to_str().unwrap();
        let (is_killed, _) = killed_at(&server, number, |url| {
            let mut command = source.std(["copy", "--to", folder, "--yes"]);
            command.env("PRODIGY_STORAGE_URL", url);
            command
        });
        let copy = ["copy", "--to", folder, "--yes", "--json"];
        let again = whole_again(&source, &copy, &Bench::new(), &["--base-dir", folder]);
        (is_killed, again)
    });
}

/// Holds up a copy before its message with this number, while two other processes acknowledge the dead letter of the
/// job and append an event. If they wait for a lock of the copy, the copy continues. `copy` copies the job to the
/// store that `target` reads. Returns true if the copy was held up.
fn overtaken_at(
    server: &Arc<Server>,
    (source, job): (&Arc<Bench>, &str),
    number: usize,
    copy: impl FnOnce(&str) -> std::process::Command,
    target: impl Fn(&[&str]) -> crate::support::Run,
) -> bool {
    let of = ["--repo", "shop", "--job", job];
    let append = [&["events", "append"][..], &of].concat();
    source.feed(&append, "1\n").code(0);
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    source.feed(&[&["dlq", "push"][..], &of].concat(), letter).code(0);

    let others = Arc::new(Mutex::new(Vec::new()));
    let strike = {
        let (server, source, others) = (Arc::clone(server), Arc::clone(source), Arc::clone(&others));
        let command =
            |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        let append = command(&append);
        let redrive = command(&[&["dlq", "redrive"][..], &of, &["--", "true"]].concat());
        move || {
            for (command, input) in [(&redrive, ""), (&append, "2\n")] {
                let (source, command) = (Arc::clone(&source), command.clone());
                let other = std::thread::spawn(move || {
                    let words: Vec<&str> = command.iter().map(String::as_str).collect();
                    source.feed(&words, input)
                });
                let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
                while !other.is_finished() && server.psql(waits).trim() == "0" {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                others.lock().unwrap().push(other);
            }
        }
    };
    let wire = Wire::to(server, number, strike);
    let done = copy(&wire.url(server)).output().unwrap();
    let is_held_up = wire.sent.load(Ordering::SeqCst) >= number;
    // After the last message of a connection, the copy may end before both processes have started, so this waits for
    // them.
    while is_held_up && others.lock().unwrap().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let others = std::mem::take(&mut *others.lock().unwrap());
    let others: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    let case = format!(
        "message {number}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    let left = |bench: &dyn Fn(&[&str]) -> crate::support::Run| {
        let read = |words: &[&str]| bench(&[words, &of].concat()).code(0).lines().len();
        (read(&["events", "cat"]), read(&["dlq", "list", "--json"]))
    };
    let of_source = left(&|words| source.run(words));
    if is_held_up {
        // An accepted write is stored, and the error of a refused write names the new place of the job.
        let accepted: Vec<bool> = others.iter().map(|run| run.code == Some(0)).collect();
        for refused in others.iter().filter(|run| run.code != Some(0)) {
            assert!(refused.err.contains("was moved to"), "{case}\n{}", refused.err);
        }
        let wanted = (1 + usize::from(accepted[1]), 1 - usize::from(accepted[0]));
        assert_eq!(of_source, wanted, "{case}");
    }
    if done.status.success() {
        assert_eq!(left(&target), of_source, "{case}");
        source.feed(&append, "3\n").code(1).says("was moved to");
    } else {
        source.feed(&append, "3\n").code(0);
    }
    is_held_up
}

#[test]
fn a_write_at_any_message_of_a_move_into_the_database_is_in_the_copy_or_refused_or_ends_the_copy() {
    let Some(server) = server() else { return };
    let (server, source) = (Arc::new(server), Arc::new(Bench::new()));
    let target = bench(&server);
    target.run(&["schema", "migrate"]).code(0);
    for number in 1.. {
        let job = format!("job-{number}");
        let copy = |url: &str| source.std(["copy", "--to", url, "--repo", "shop", "--job", &job, "--yes"]);
        let read = |words: &[&str]| target.run(words);
        if !overtaken_at(&server, (&source, &job), number, copy, read) {
            assert!(number > 20, "the copy sent only {number} messages");
            break;
        }
    }
}

#[test]
fn a_write_at_any_message_of_a_move_out_of_the_database_is_in_the_copy_or_refused_or_ends_the_copy() {
    let Some(server) = server() else { return };
    let source = Arc::new(bench(&server));
    let server = Arc::new(server);
    let files = Bench::new();
    for number in 1.. {
        let job = format!("job-{number}");
        let folder = files.path(&job);
        let folder = folder.to_str().unwrap();
        let copy = |url: &str| {
            let mut command = source.std(["copy", "--to", folder, "--repo", "shop", "--job", &job, "--yes"]);
            command.env("PRODIGY_STORAGE_URL", url);
            command
        };
        let read = |words: &[&str]| files.run(&[&["--base-dir", folder], words].concat());
        if !overtaken_at(&server, (&source, &job), number, copy, read) {
            assert!(number > 20, "the copy sent only {number} messages");
            break;
        }
    }
}
