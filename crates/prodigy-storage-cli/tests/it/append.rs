//! Tests of `events append`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::support::{Bench, SAVE, close_for_all, run, started_by};

const APPEND: [&str; 6] = ["events", "append", "--repo", "shop", "--job", "job"];

fn append<'a>(more: &[&'a str]) -> Vec<&'a str> {
    APPEND.iter().chain(more).copied().collect()
}

fn payloads(bench: &Bench) -> String {
    bench
        .run(&["events", "cat", "--repo", "shop", "--job", "job", "--payload"])
        .code(0)
        .out
}

#[test]
fn payload_bytes_pass_through_untouched() {
    let bench = Bench::new();
    let lines =
        "{\"a\" :  1e2,\"b\":\"\\u00e9\"}\n[1.0, 100000000000000000000000000001]\n\"text\"\nnull\n0.10\n";
    bench.feed(&append(&[]), lines).code(0).says("5 events stored");
    assert_eq!(payloads(&bench), lines);
}

#[test]
fn a_byte_order_mark_before_the_input_is_passed_over() {
    let bench = Bench::new();
    bench.feed(&append(&[]), "\u{feff}{\"a\":1}\n2\n").code(0);
    assert_eq!(payloads(&bench), "{\"a\":1}\n2\n");
    // A byte order mark in the middle of the input is not JSON.
    let stopped = bench.feed(&append(&[]), "1\n\u{feff}2\n").code(1);
    stopped
        .says("line 2")
        .says("append from it on, as with `tail -n +2 FILE`");
    bench.feed(&SAVE, "\u{feff}{\"n\":1}").code(0);
}

#[test]
fn a_file_and_a_dash_name_the_input_and_blank_lines_pass() {
    let bench = Bench::new();
    let file = bench.write("in.jsonl", "1\n\n  \t\n2\r\n3");
    bench
        .run(&append(&[file.to_str().unwrap()]))
        .code(0)
        .says("3 events stored");
    bench.feed(&append(&["-"]), "4\n").code(0);
    assert_eq!(payloads(&bench), "1\n2\n3\n4\n");
    bench.run(&append(&["no-such-file"])).code(1).says("no-such-file");
}

#[test]
fn acknowledgements_come_in_input_order_and_are_what_is_stored() {
    let bench = Bench::new();
    let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
    let acked = bench
        .feed(&append(&["--ack", "--batch", "7"]), lines.as_str())
        .code(0);
    assert!(acked.err.is_empty(), "{}", acked.err);
    let stored = bench
        .run(&["events", "cat", "--repo", "shop", "--job", "job"])
        .code(0)
        .jsonl();
    let ids: Vec<&str> = stored.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(acked.lines(), ids);
    assert_eq!(payloads(&bench), lines);
    let json = bench.feed(&append(&["--ack", "--json"]), "1\n").code(0).json();
    assert_eq!(json["id"].as_str().unwrap().len(), 36);
}

#[test]
fn an_acknowledgement_is_there_before_the_next_line_is_sent() {
    let bench = Bench::new();
    let mut child = bench
        .std(append(&["--ack"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap());
    for number in 0..3 {
        writeln!(input, "{number}").unwrap();
        let mut ack = String::new();
        acks.read_line(&mut ack).unwrap();
        assert_eq!(ack.trim().len(), 36);
        assert_eq!(payloads(&bench).lines().count(), number + 1);
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_line_that_is_refused_stops_and_what_came_before_is_stored_and_acknowledged() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (bad, why) in [
        ("{\"n\":".as_bytes(), "not JSON"),
        (b"1 2", "not JSON"),
        (b"\"\xff\"", "not UTF-8"),
        (b"\"\\ud800\"", "surrogate"),
        (deep.as_bytes(), "nesting"),
    ] {
        let bench = Bench::new();
        let mut input = b"1\n\n2\n".to_vec();
        input.extend_from_slice(bad);
        input.extend_from_slice(b"\n3\n");
        let run = bench.feed(&append(&["--batch", "10", "--ack"]), input).code(1);
        let run = run.says("line 4").says(why);
        assert_eq!(run.lines().len(), 2);
        assert_eq!(payloads(&bench), "1\n2\n");
    }
}

#[test]
fn an_event_over_the_limit_is_named_and_what_came_before_is_stored() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_RECORD_SIZE", "2000");
    for size in [1990, 2400, 100_000] {
        let line = format!("\"{}\"", "x".repeat(size));
        let run = bench.feed(&append(&["--batch", "10"]), format!("1\n{line}\n2\n"));
        run.code(1)
            .says("line 2")
            .says("max_record_size")
            .says("1 event stored");
    }
    assert_eq!(payloads(&bench), "1\n1\n1\n");
}

#[test]
fn an_id_that_is_stored_is_acknowledged_and_not_stored_again() {
    let bench = Bench::new();
    let acked = bench.feed(&append(&["--ack"]), "1\n2\n").code(0);
    let ids = acked.lines();
    let again = format!(
        "{{\"id\":\"{}\",\"event\":1}}\n{{\"event\":2,\"id\":\"{}\"}}\n",
        ids[0], ids[1]
    );
    let second = bench
        .feed(&append(&["--ack", "--with-ids", "--batch", "2"]), again.as_str())
        .code(0);
    assert_eq!(second.out, acked.out);
    bench
        .feed(&append(&["--with-ids"]), again)
        .code(0)
        .says("0 events stored, 2 were stored before");
    assert_eq!(payloads(&bench), "1\n2\n");
}

#[test]
fn a_line_of_with_ids_has_an_id_an_event_and_nothing_else() {
    let id = "0198f2a0-0000-7000-8000-000000000001";
    for (bad, why) in [
        (
            format!("{{\"id\":\"{id}\",\"event\":1,\"metadata\":{{}}}}"),
            "metadata",
        ),
        (format!("{{\"id\":\"{id}\"}}"), "event"),
        ("{\"id\":\"x\",\"event\":1}".to_owned(), "line 2"),
        ("7".to_owned(), "line 2"),
    ] {
        let bench = Bench::new();
        let input = format!("{{\"id\":\"{id}\",\"event\":\"first\"}}\n{bad}\n");
        bench
            .feed(&append(&["--with-ids", "--batch", "9"]), input)
            .code(1)
            .says("line 2")
            .says(why);
        assert_eq!(payloads(&bench), "\"first\"\n");
    }
}

#[test]
fn two_processes_that_send_the_same_batch_store_each_event_once() {
    let bench = Bench::new();
    let lines: String = (0..200)
        .map(|number| format!("{{\"id\":\"0198f2a0-0000-7000-8000-{number:012x}\",\"event\":{number}}}\n"))
        .collect();
    let file = bench.write("in.jsonl", lines);
    let arguments = append(&["--with-ids", "--ack", "--batch", "8", file.to_str().unwrap()]);
    let runs = std::thread::scope(|scope| {
        let one = scope.spawn(|| run(bench.std(&arguments), ""));
        let other = scope.spawn(|| run(bench.std(&arguments), ""));
        [one.join().unwrap(), other.join().unwrap()]
    });
    for run in runs {
        assert_eq!(run.code(0).lines().len(), 200);
    }
    let expected: String = (0..200).map(|number| format!("{number}\n")).collect();
    assert_eq!(payloads(&bench), expected);
}

#[test]
fn sealed_segments_are_compressed_when_it_ends() {
    let bench = Bench::new()
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "1000")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    let lines: String = (0..60)
        .map(|number| format!("{{\"number\":{number}}}\n"))
        .collect();
    bench.feed(&append(&[]), lines.as_str()).code(0);
    let stats = bench
        .run(&["events", "stats", "--repo", "shop", "--job", "job", "--json"])
        .code(0)
        .json();
    assert!(stats["compressed"].as_u64().unwrap() > 2, "{stats}");
    assert_eq!(stats["events"], 60);
    assert_eq!(payloads(&bench), lines);
}

#[test]
fn a_payload_of_the_deepest_nesting_comes_back() {
    let bench = Bench::new();
    let deep = format!("{}{}\n", "[".repeat(127), "]".repeat(127));
    bench.feed(&append(&[]), deep.as_str()).code(0);
    assert_eq!(payloads(&bench), deep);
    bench
        .run(&[
            "events", "cat", "--repo", "shop", "--job", "job", "--filter", "x=1",
        ])
        .code(0);
}

#[cfg(unix)]
fn signal(name: &str, child: &std::process::Child) {
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Starts the tool with an input that stays open.
fn fed(bench: &Bench, more: &[&str]) -> (std::process::Child, std::process::ChildStdin) {
    let mut child = bench
        .std(append(more))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

#[test]
fn lines_of_an_idle_producer_are_stored_while_its_end_of_the_pipe_is_open() {
    let bench = Bench::new();
    let (mut child, mut input) = fed(&bench, &["--batch", "1000", "--ack"]);
    let mut acks = BufReader::new(child.stdout.take().unwrap());
    // If the acknowledgements did not arrive before the next input is sent, this would hang.
    for round in 0..3 {
        write!(input, "{round}\n[{round}]\n{{\"begun\":").unwrap();
        for _ in 0..2 {
            let mut ack = String::new();
            acks.read_line(&mut ack).unwrap();
            assert_eq!(ack.trim().len(), 36);
        }
        writeln!(input, "{round}}}").unwrap();
        let mut ack = String::new();
        acks.read_line(&mut ack).unwrap();
        assert_eq!(ack.trim().len(), 36);
    }
    assert_eq!(payloads(&bench).lines().count(), 9);
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_signal_stores_all_that_was_read_and_the_status_tells_it() {
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let bench = Bench::new();
        // More lines than a batch has: the first acknowledgement shows that the following lines are read as well.
        let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let (mut child, mut input) = fed(&bench, &["--batch", "7", "--ack"]);
        // One atomic write to the pipe, so the tool reads all of it at once.
        input.write_all(format!("{lines}{{\"cut\":").as_bytes()).unwrap();
        let mut acks = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        acks.read_line(&mut first).unwrap();
        signal(name, &child);
        let rest = acks.lines().map(Result::unwrap).count();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains("line 1001 had not ended"), "{said}");
        assert_eq!(rest, 999);
        assert_eq!(payloads(&bench), lines);
        drop(input);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_that_was_ignored_at_the_start_ends_nothing() {
    let bench = Bench::new();
    let tool = bench.std(append(&["--ack"]));
    let script = "trap '' HUP; exec \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, "sh"]);
    let mut child = started_by(shell, &tool)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap());
    for number in 0..2 {
        writeln!(input, "{number}").unwrap();
        let mut ack = String::new();
        acks.read_line(&mut ack).unwrap();
        assert_eq!(ack.trim().len(), 36);
        signal("HUP", &child);
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(payloads(&bench), "0\n1\n");
}

#[test]
fn a_reader_of_acknowledgements_that_goes_does_not_make_the_rest_of_the_input_stored() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::Stdio;

    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = bench
        .std(append(&["--ack", "--batch", "1"]))
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(reader);
    input.write_all(b"1\n").unwrap();
    let mut id = String::new();
    output.read_line(&mut id).unwrap();
    close_for_all(output.into_inner(), &writer);
    // The tool may or may not read the rest.
    let _ = input.write_all(&b"2\n".repeat(100));
    drop(input);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(
        said.contains("standard output was closed") && said.contains("2 events stored"),
        "{said}"
    );
}
