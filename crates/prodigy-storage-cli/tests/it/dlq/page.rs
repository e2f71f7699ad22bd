//! The how-to page on dead letters: its commands print what it says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use prodigy_storage::Timestamp;

use crate::support::{Bench, run};

const JOB: &str = "mapreduce-7";

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The items of the page: the id and the file, the type and the message of the failure, and its age in hours.
const ITEMS: [(&str, &str, &str, u64); 5] = [
    ("src/cart.rs", "Timeout", "no answer after 30 s", 5),
    ("src/pay.rs", "Timeout", "no answer after 31 s", 5),
    ("src/tax.rs", "Timeout", "no answer after 30 s", 4),
    ("src/crat.rs", "NotFound", "no file 'src/crat.rs'", 4),
    ("vendor/zlib.c", "Access", "denied: vendor is read-only", 3),
];

fn push(bench: &Bench) {
    let lines: String = (1..)
        .zip(ITEMS)
        .map(|(number, (id, kind, message, hours))| {
            let at = Timestamp::from(SystemTime::now() - Duration::from_secs(hours * 3600)).to_rfc3339();
            let at = format!("{}Z", &at[..19]);
            format!(
                "{{\"item_id\":\"{id}\",\"item_data\":{{\"file\":\"{id}\",\"task\":\"review\"}},\"first_attempt\":\"{at}\",\
                 \"last_attempt\":\"{at}\",\"failure_history\":[{{\"timestamp\":\"{at}\",\"error_type\":\"{kind}\",\
                 \"error_message\":\"{message}\",\"agent_id\":\"agent-{number}\"}}]}}\n"
            )
        })
        .collect();
    bench.feed(&["dlq", "push", "--job", JOB], lines).code(0);
}

/// The blocks of a page in one language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    page.split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// The text with each time replaced.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("20") {
        let (before, time) = rest.split_at(at);
        out.push_str(before);
        match time.get(..20).and_then(Timestamp::parse) {
            Some(_) => {
                out.push_str("TIME");
                rest = &time[20..];
            }
            None => {
                out.push_str("20");
                rest = &time[2..];
            }
        }
    }
    out + rest
}

#[cfg(unix)]
#[test]
fn the_commands_of_the_page_print_what_it_says() {
    use std::os::unix::fs::PermissionsExt;
    for needed in ["git", "jq"] {
        if Command::new(needed).arg("--version").output().is_err() {
            eprintln!("SKIPPED: this machine has no `{needed}`, which the page uses");
            return;
        }
    }
    let page = std::fs::read_to_string(folder("../../docs/how-to/dead-letters.md")).unwrap();
    let bench = Bench::new();
    for file in [
        "src/cart.rs",
        "src/pay.rs",
        "src/tax.rs",
        "src/tax.rs.lock",
        "src/crate.rs",
    ] {
        bench.write(&format!("here/{file}"), "");
    }
    let review = blocks(&page, "sh")
        .into_iter()
        .find(|block| block.starts_with("#!"))
        .unwrap();
    for (name, script) in [("here/review.sh", review), ("here/agent", "#!/bin/sh\n")] {
        let path = bench.write(name, script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let items = "dlq/shop/mapreduce-1001/mapreduce/dlq/mapreduce-1001/items";
    let fixture = folder("../prodigy-storage-file/tests/fixtures/prodigy-0.4.4").join(items);
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        let name = format!("here/{items}/{}", entry.file_name().to_str().unwrap());
        bench.write(&name, std::fs::read(entry.path()).unwrap());
    }
    let mut git = Command::new("git");
    git.args(["init", "--quiet"]).current_dir(bench.path("here"));
    run(git, "").code(0);
    push(&bench);
    let path = format!(
        "{}:{}",
        Path::new(env!("CARGO_BIN_EXE_prodigy-storage"))
            .parent()
            .unwrap()
            .display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut commands = 0;
    for block in blocks(&page, "console") {
        for command in block.split("$ ").skip(1) {
            let (line, wanted) = command.split_once('\n').unwrap();
            if line.contains("dlq unpark") {
                // The colleague who worked on the file is done.
                std::fs::remove_file(bench.path("here/src/tax.rs.lock")).unwrap();
            }
            let mut shell = Command::new("sh");
            shell
                .env_clear()
                .env("HOME", bench.path("home"))
                .env("PRODIGY_HOME", bench.root())
                .env("PATH", &path)
                .current_dir(bench.path("here"))
                .args(["-c", &format!("{{ {line}\n}} 2>&1")]);
            let shown = run(shell, "");
            assert_eq!(without_times(&shown.out), without_times(wanted), "{line}");
            commands += 1;
        }
    }
    assert_eq!(commands, 17, "each command of the page runs");
    bench.run(&["dlq", "list", "--job", JOB]).code(0);
}
