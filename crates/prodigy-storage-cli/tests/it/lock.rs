//! `lock`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::support::Bench;

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
        run.out.trim().parse::<u64>().unwrap()
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
    // The command ends with its input.
    let mut tool = bench
        .std(held_by("l", &[], "echo held; read line; echo over"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = tool.stdin.take().unwrap();
    let mut output = BufReader::new(tool.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    tool.kill().unwrap();
    tool.wait().unwrap();
    bench.run(&held_by("l", &["--wait", "0s"], "true")).code(3);
    assert_eq!(
        bench.run(&["lock", "list", "--json"]).code(0).json()["held"],
        true
    );
    drop(input);
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "held\nover\n");
    bench.run(&held_by("l", &["--wait", "60s"], "true")).code(0);
}

#[test]
fn without_locking_it_warns_and_runs() {
    let bench = Bench::new().with("PRODIGY__STORAGE__ENABLE_LOCKING", "false");
    let run = bench
        .run(&held_by("l", &[], "echo \"[$PRODIGY_LOCK_FENCING]\""))
        .code(0);
    assert_eq!(run.says("warning: ").says("without a lock").out, "[]\n");
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_the_commands_to_decide_on() {
    let bench = Bench::new();
    let script = "trap 'echo interrupted; exit 9' INT; echo ready; kill -INT $PPID; kill -INT $$; sleep 60";
    let run = bench.run(&held_by("l", &[], script)).code(9);
    assert_eq!(run.out, "ready\ninterrupted\n");
}
