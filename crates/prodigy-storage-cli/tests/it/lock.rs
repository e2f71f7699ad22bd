//! Tests of `lock`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::support::{Bench, send, started_by};

fn held_by<'a>(name: &'a str, more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let before = ["lock", "run", name];
    let command = ["--", "sh", "-c", script];
    before
        .into_iter()
        .chain(more.iter().copied())
        .chain(command)
        .collect()
}

#[test]
fn the_code_is_that_of_the_command() {
    let bench = Bench::new();
    bench.run(&held_by("l", &[], "exit 0")).code(0);
    bench.run(&held_by("l", &[], "exit 42")).code(42);
    bench.run(&held_by("l", &[], "kill -9 $$")).code(137);
    bench
        .run(&["lock", "run", "l", "--", "no-such-command-here"])
        .code(127)
        .says("no-such-command-here");
    bench.run(&["lock", "run", "l", "--", "/"]).code(126);
    bench.run(&["lock", "run", "l"]).code(2);
}

#[test]
fn the_fencing_token_rises_and_the_listing_knows_it() {
    let bench = Bench::new();
    let token = || {
        let run = bench
            .run(&held_by("shop/resume", &[], "echo $PRODIGY_LOCK_FENCING"))
            .code(0);
        run.out.split('@').next().unwrap().parse::<u64>().unwrap()
    };
    let (first, second) = (token(), token());
    assert!(second > first);
    let listed = bench.run(&["lock", "list", "--json"]).code(0).json();
    assert_eq!(listed["name"], "shop/resume");
    assert_eq!(
        (&listed["held"], &listed["fencing"]),
        (&false.into(), &second.into())
    );
    assert!(listed["holder"].is_null(), "{listed}");
    let table = bench.run(&["lock", "list"]).code(0);
    assert!(!table.out.contains("process"), "{}", table.out);
    assert!(
        listed["last_holder"]["purpose"]
            .as_str()
            .unwrap()
            .starts_with("sh -c echo"),
        "{listed}"
    );
}

#[test]
fn a_held_lock_is_refused_with_its_holder_and_another_is_not() {
    let bench = Bench::new();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script =
        format!("{tool} lock run l --wait 0s -- true; echo $?; {tool} lock run other -- true; echo $?");
    let run = bench.run(&held_by("l", &[], &script)).code(0);
    assert_eq!(run.out, "3\n0\n");
    run.says("failed to acquire storage lock").says("held by process");
    let configured = Bench::new().with("PRODIGY__STORAGE__TIMEOUT", "10ms");
    let script = format!("{tool} lock run l -- true");
    configured.run(&held_by("l", &[], &script)).code(3);
}

#[test]
fn the_lock_is_held_while_the_command_lives_also_when_the_tool_is_killed() {
    let bench = Bench::new();
    // The command ends when its standard input ends.
    let mut tool = bench
        .std(held_by("l", &[], "echo $$; echo held; read line; echo over"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = tool.stdin.take().unwrap();
    let mut output = BufReader::new(tool.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    let command = std::mem::take(&mut said).trim().to_owned();
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let dead = tool.id();
    tool.kill().unwrap();
    tool.wait().unwrap();
    let refused = bench.run(&held_by("l", &["--wait", "0s"], "true")).code(3);
    // The command holds the lock, although the process that took it has ended.
    #[cfg(target_os = "linux")]
    {
        let refused = refused.says(&format!("held by process {command}, which did not sign"));
        refused.says(&format!("last known holder: process {dead} "));
    }
    let listed = bench.run(&["lock", "list", "--json"]).code(0).json();
    assert_eq!(listed["held"], true);
    #[cfg(target_os = "linux")]
    {
        assert_eq!(listed["pid"].to_string(), command);
        let listed = bench.run(&["lock", "list"]).code(0);
        let named = format!("process {command}, which did not sign; last known: process {dead} ");
        assert!(listed.out.contains(&named), "{}", listed.out);
    }
    // The tool reports what it waits for.
    let mut waiter = bench
        .std(held_by("l", &["--wait", "60s"], "true"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut waited = BufReader::new(waiter.stderr.take().unwrap());
    let mut note = String::new();
    waited.read_line(&mut note).unwrap();
    assert!(
        note.starts_with("note: waiting for the lock `l`: it is held by "),
        "{note}"
    );
    drop(input);
    assert!(waiter.wait().unwrap().success());
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "held\nover\n");
    bench.run(&held_by("l", &["--wait", "60s"], "true")).code(0);
}

#[test]
fn a_listing_of_a_damaged_lock_file_is_no_success() {
    let bench = Bench::new();
    bench.run(&held_by("l", &[], "true")).code(0);
    let file = bench.root().join("locks/1/l.lock");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[12] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    bench
        .run(&["lock", "list"])
        .code(5)
        .says("damaged: a part of the file of lock l");
}

#[test]
fn a_command_under_a_lock_writes_under_its_token() {
    let bench = Bench::new();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let job = "--repo shop --job job";
    let writes = [
        format!("echo 1 | {tool} events append {job}"),
        format!("echo '{{\"item_id\":\"a\",\"item_data\":1}}' | {tool} dlq push {job}"),
        format!("echo 1 | {tool} checkpoint save {job} --phase map"),
        format!("echo 1 | {tool} document put {job} --kind notes --name n"),
    ];
    let all = writes.join(" && ");
    let old = bench
        .run(&held_by("shop/resume", &[], "echo $PRODIGY_STORAGE_FENCE"))
        .code(0);
    let old = old.out.trim();
    assert!(old.starts_with("shop/resume=1@"), "{old}");
    bench.run(&held_by("shop/resume", &[], &all)).code(0);
    let event = bench
        .run(&["events", "cat", "--repo", "shop", "--job", "job"])
        .json();
    assert!(
        event["fence"].as_str().unwrap().starts_with("shop/resume=2@"),
        "{event}"
    );
    let shown = bench
        .run(&["checkpoint", "show", "--repo", "shop", "--job", "job"])
        .json();
    assert_eq!(
        (&shown["fencing"], &shown["fencing_lock"]),
        (&2.into(), &"shop/resume".into())
    );
    for write in writes {
        let script = format!("PRODIGY_STORAGE_FENCE='{old}'; export PRODIGY_STORAGE_FENCE; {write}");
        bench
            .run(&held_by("other", &[], &script))
            .code(1)
            .says("fenced off");
    }
}

#[test]
fn without_locking_it_warns_and_runs() {
    let bench = Bench::new().with("PRODIGY__STORAGE__ENABLE_LOCKING", "false");
    let run = bench
        .run(&held_by(
            "l",
            &[],
            "echo \"[$PRODIGY_LOCK_FENCING$PRODIGY_STORAGE_FENCE]\"",
        ))
        .code(0);
    assert_eq!(run.says("warning: ").says("without a lock").out, "[]\n");
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_the_commands_to_decide_on() {
    let bench = Bench::new();
    let script = "trap 'kill $!; echo interrupted; exit 9' INT; sleep 600 & kill -INT $PPID; wait";
    let run = bench.run(&held_by("l", &[], script)).code(9);
    assert_eq!(run.out, "interrupted\n");
}

/// A running `lock run`. Its command has started, which is known from the first line of output.
#[cfg(unix)]
struct Running {
    tool: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

#[cfg(unix)]
impl Running {
    fn start(mut command: std::process::Command) -> Self {
        let mut tool = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(tool.stdout.take().unwrap());
        let mut ready = String::new();
        output.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self { tool, output }
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.tool.wait().unwrap().code(), rest)
    }
}

#[cfg(unix)]
#[test]
fn signals_are_passed_on_to_the_command_and_its_code_is_returned() {
    let bench = Bench::new();
    for signal in ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM"] {
        let script = format!("trap 'kill $!; echo got it; exit 7' {signal}; sleep 600 & echo ready; wait");
        let running = Running::start(bench.std(held_by("l", &[], &script)));
        send(signal, running.tool.id());
        assert_eq!(running.end(), (Some(7), "got it\n".to_owned()), "{signal}");
        bench.run(&held_by("l", &["--wait", "0s"], "true")).code(0);
    }
}

#[cfg(unix)]
#[test]
fn a_command_that_a_signal_ended_gives_128_and_its_number_and_frees_the_lock() {
    let bench = Bench::new();
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let running = Running::start(bench.std(held_by("l", &[], "echo ready; exec sleep 30")));
        send(signal, running.tool.id());
        assert_eq!(running.end(), (Some(code), String::new()), "{signal}");
        bench.run(&held_by("l", &["--wait", "0s"], "true")).code(0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_tool_was_told_to_ignore_its_command_ignores() {
    let bench = Bench::new();
    let tool = bench.std(held_by("l", &[], "kill -HUP $$; echo alive"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    let run = crate::support::run(started_by(shell, &tool), "");
    assert_eq!(run.code(0).out, "alive\n");
}

/// A command as process 1 of a PID namespace; if the machine does not allow that, prints a notice and returns `None`.
#[cfg(target_os = "linux")]
fn as_process_1(tool: &std::process::Command) -> Option<std::process::Command> {
    let allowed = std::process::Command::new("unshare")
        .args(["-p", "-f", "true"])
        .output()
        .is_ok_and(|done| done.status.success());
    if !allowed {
        eprintln!("SKIPPED: this machine allows no process namespace of its own (`unshare -p`)");
        return None;
    }
    let mut outer = std::process::Command::new("unshare");
    outer.args(["-p", "-f", "--kill-child", "--"]);
    Some(started_by(outer, tool))
}

/// Waits for the only child of a process.
#[cfg(target_os = "linux")]
fn child_of(id: u32) -> u32 {
    loop {
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        if let Ok(child) = children.trim().parse() {
            return child;
        }
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn as_process_1_signals_are_passed_on_as_well() {
    let bench = Bench::new();
    let script = "trap 'kill $!; echo got it; exit 7' TERM; sleep 600 & echo ready; wait";
    let Some(outer) = as_process_1(&bench.std(held_by("l", &[], script))) else {
        return;
    };
    let running = Running::start(outer);
    send("TERM", child_of(running.tool.id()));
    assert_eq!(running.end(), (Some(7), "got it\n".to_owned()));
}

/// Waits until a process has a file open.
#[cfg(target_os = "linux")]
fn wait_until_open(process: u32, file: &std::path::Path) {
    let is_open = || {
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"));
        descriptors
            .into_iter()
            .flatten()
            .flatten()
            .any(|descriptor| std::fs::read_link(descriptor.path()).is_ok_and(|to| to == file))
    };
    while !is_open() {
        let entry = format!("/proc/{process}/fd");
        assert!(
            std::fs::read_dir(entry).is_ok_and(|mut open| open.next().is_some()),
            "it ended"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_the_wait_for_a_lock_and_nothing_is_done() {
    use std::os::unix::process::ExitStatusExt;
    let bench = Bench::new().with("PRODIGY__STORAGE__TIMEOUT", "10min");
    let job = ["--repo", "shop", "--job", "job"];
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench.feed(&[&["dlq", "push"][..], &job].concat(), letter).code(0);
    bench.run(&held_by("l", &[], "true")).code(0);
    bench
        .feed(
            &[&["checkpoint", "save", "--phase", "map"][..], &job].concat(),
            "{}",
        )
        .code(0);
    let state = bench.write("state.json", "{}");
    let input = || Stdio::from(std::fs::File::open(&state).unwrap());
    let ran = bench.path("ran");
    let touch = format!("touch {}", ran.display());
    let take = [&["dlq", "take", "--all"][..], &job].concat();
    let save = [&["checkpoint", "save", "--phase", "map"][..], &job].concat();
    for (arguments, lock) in [
        (held_by("l", &[], &touch), "locks/1/l.lock"),
        (take, "dlq/shop/job/items.lock"),
        (save, "locks/state/shop/job.lock"),
    ] {
        let lock = bench.root().join(lock);
        let hold = || {
            let held = std::fs::File::open(&lock).unwrap();
            held.lock().unwrap();
            held
        };
        let tool = bench.std(&arguments);
        for (signal, number) in [("TERM", 15), ("HUP", 1), ("INT", 2)] {
            let Some(mut outer) = as_process_1(&tool) else {
                break;
            };
            let held = hold();
            let mut outer = outer.stdin(input()).stdout(Stdio::null()).spawn().unwrap();
            let inner = child_of(outer.id());
            wait_until_open(inner, &lock);
            send(signal, inner);
            // A tool that had missed the signal would run its command now.
            drop(held);
            assert_eq!(outer.wait().unwrap().code(), Some(128 + number), "{arguments:?}");
        }
        // If the tool is not process 1, the kernel ends it, and a shell reports 143.
        let held = hold();
        let mut tool = bench.std(&arguments);
        let mut tool = tool.stdin(input()).stdout(Stdio::null()).spawn().unwrap();
        wait_until_open(tool.id(), &lock);
        send("TERM", tool.id());
        drop(held);
        assert_eq!(tool.wait().unwrap().signal(), Some(15), "{arguments:?}");
    }
    assert!(!ran.exists());
    let letters = bench
        .run(&[&["dlq", "list", "--json"][..], &job].concat())
        .code(0);
    assert!(letters.json()["lease"].is_null(), "{}", letters.out);
    assert_eq!(
        bench
            .run(&[&["checkpoint", "list"][..], &job].concat())
            .out
            .lines()
            .count(),
        2
    );
}

#[cfg(unix)]
#[test]
fn a_lock_that_is_lost_ends_the_command_and_is_reported() {
    type Lose = fn(&Bench);
    let ways: [(&str, Lose); 5] = [
        ("the root is moved", |bench| {
            std::fs::rename(bench.root(), bench.path("old")).unwrap();
        }),
        ("the root is restored from a copy", |bench| {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([bench.root(), bench.path("copy")])
                .status();
            assert!(copied.unwrap().success());
            std::fs::rename(bench.root(), bench.path("old")).unwrap();
            std::fs::rename(bench.path("copy"), bench.root()).unwrap();
        }),
        ("the locks are moved", |bench| {
            std::fs::rename(bench.root().join("locks"), bench.path("old")).unwrap();
        }),
        ("a file takes the place of their folder", |bench| {
            std::fs::rename(bench.root().join("locks/1"), bench.path("old")).unwrap();
            std::fs::write(bench.root().join("locks/1"), "").unwrap();
        }),
        ("the lock file is removed", |bench| {
            std::fs::remove_file(bench.root().join("locks/1/l.lock")).unwrap();
        }),
    ];
    for (what, lose) in ways {
        let bench = Bench::new();
        let script = "trap 'kill $!; echo asked to end; exit 0' TERM; sleep 600 & echo ready; wait";
        let mut tool = bench.std(held_by("l", &[], script));
        tool.stderr(Stdio::piped());
        let mut running = Running::start(tool);
        lose(&bench);
        let mut errors = running.tool.stderr.take().unwrap();
        assert_eq!(running.end(), (Some(7), "asked to end\n".to_owned()), "{what}");
        let mut said = String::new();
        errors.read_to_string(&mut said).unwrap();
        assert!(
            said.contains("error: the lock is lost, so the command gets SIGTERM"),
            "{what}: {said}"
        );
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_lock_that_is_lost_in_a_database_ends_the_command_and_is_reported() {
    let Some(server) = crate::server::Server::start() else {
        return;
    };
    let bench = crate::postgres::bench(&server);
    bench.run(&["schema", "migrate"]).code(0);
    let script = "trap 'kill $!; echo asked to end; exit 0' TERM; sleep 600 & echo ready; wait";
    let running = Running::start(bench.std(held_by("l", &[], script)));
    server.psql("delete from prodigy.lock where name = 'l'");
    assert_eq!(running.end(), (Some(7), "asked to end\n".to_owned()));
    // The release notices what no renewal did before the end of the command.
    let ends = bench.path("ends");
    let mut tool = bench.std(held_by(
        "l",
        &[],
        "echo ready; while [ ! -e \"$0\" ]; do sleep 0.1; done",
    ));
    tool.arg(&ends);
    let running = Running::start(tool);
    server.psql("update prodigy.lock set lease = gen_random_uuid()");
    std::fs::write(&ends, "").unwrap();
    assert_eq!(running.end(), (Some(7), String::new()));
}

#[test]
fn a_lock_that_was_lost_before_the_command_ended_is_no_success() {
    let bench = Bench::new();
    let script = format!("rm {}", bench.root().join("locks/1/l.lock").display());
    let run = bench.run(&held_by("l", &[], &script)).code(7);
    run.says("error: ").says("lost").says("locks/1/l.lock");
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_the_wait_of_a_command_that_stores_its_input() {
    let bench = Bench::new().with("PRODIGY__STORAGE__TIMEOUT", "10min");
    let job = ["--repo", "shop", "--job", "job"];
    bench.append("1\n");
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    let push = [&["dlq", "push"][..], &job].concat();
    bench.feed(&push, letter).code(0);
    // Another process has locked the folder of the log, so the first append has to wait.
    let append = vec!["events", "append", "--repo", "shop", "--job", "new"];
    std::fs::create_dir(bench.root().join("events/shop/new")).unwrap();
    for (arguments, input, lock) in [
        (append, "2\n", "events/shop/new"),
        (
            push,
            "{\"item_id\":\"b\",\"item_data\":1}\n",
            "dlq/shop/job/items.lock",
        ),
    ] {
        let lock = bench.root().join(lock);
        let held = std::fs::File::open(&lock).unwrap();
        held.lock().unwrap();
        for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
            let file = bench.write("input", input);
            let mut tool = bench.std(&arguments);
            tool.stdin(std::fs::File::open(file).unwrap());
            tool.stdout(Stdio::null()).stderr(Stdio::piped());
            let mut tool = tool.spawn().unwrap();
            wait_until_open(tool.id(), &lock);
            send(signal, tool.id());
            let mut said = String::new();
            tool.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(tool.wait().unwrap().code(), Some(128 + number), "{said}");
            assert!(said.contains("error: interrupted: "), "{said}");
        }
        drop(held);
    }
    assert!(
        bench
            .run(&["events", "cat", "--repo", "shop", "--job", "new"])
            .out
            .is_empty()
    );
    let listed = bench.run(&[&["dlq", "list", "--json"][..], &job].concat());
    assert_eq!(listed.lines().len(), 1);
}
