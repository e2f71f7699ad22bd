//! Stored text on a terminal, and in a pipe.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, run};

/// Raw in JSON: a control sequence introducer, an override of direction, a space without width, delete.
const HOSTILE: &str = "a\u{9b}31m\u{202e}b\u{200b}c\u{7f}";
const HARMLESS: &str = "ä€";

const OF: [&str; 4] = ["--repo", "shop", "--job", "job"];

fn is_hostile(char: char) -> bool {
    HOSTILE.contains(char) && !char.is_ascii_alphanumeric()
}

/// A bench with the hostile text in each store.
fn stored() -> Bench {
    let bench = Bench::new();
    bench.append(&format!("\"{HOSTILE}{HARMLESS}\"\n"));
    let item = format!(
        "{{\"item_id\":\"i\",\"item_data\":\"{HOSTILE}{HARMLESS}\",\"error_signature\":\"{HOSTILE}{HARMLESS}\"}}\n"
    );
    bench.feed(&[&["dlq", "push"], &OF[..]].concat(), item).code(0);
    let state = format!("\"{HOSTILE}{HARMLESS}\"");
    bench
        .feed(
            &[&["checkpoint", "save", "--phase", "map"], &OF[..]].concat(),
            state,
        )
        .code(0);
    bench
}

/// The commands that print stored text.
fn printing() -> Vec<Vec<&'static str>> {
    let commands: [&[&str]; 8] = [
        &["events", "cat"],
        &["events", "cat", "--payload"],
        &["events", "follow", "--for", "1ms"],
        &["dlq", "list"],
        &["dlq", "list", "--json"],
        &["dlq", "show", "i"],
        &["checkpoint", "show"],
        &["checkpoint", "show", "--payload"],
    ];
    commands
        .iter()
        .map(|command| [command, &OF[..]].concat())
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_stored_text_is_escaped_by_every_command() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: this machine has no `script`, which gives a command a terminal");
        return;
    }
    let bench = stored();
    for arguments in printing() {
        // `script` runs a line of a shell with a terminal as its standard streams.
        let tool = bench.std(&arguments);
        let line: Vec<String> = std::iter::once(tool.get_program())
            .chain(tool.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = bench.std([""; 0]);
        script = on_terminal(&script, &line.join(" "), &bench.path("here"));
        let shown = run(script, "").code(0);
        assert!(!shown.out.contains(is_hostile), "{arguments:?}: {:?}", shown.out);
        assert!(
            shown.out.contains("a\\u{9b}31m\\u{202e}b\\u{200b}c\\u{7f}ä€"),
            "{arguments:?}: {:?}",
            shown.out
        );
    }
}

#[cfg(target_os = "linux")]
fn on_terminal(tool: &Command, line: &str, folder: &Path) -> Command {
    let mut script = Command::new("script");
    script.env_clear().current_dir(folder);
    for (name, value) in tool.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    script
}

#[test]
fn in_a_pipe_stored_text_passes_byte_for_byte() {
    let bench = stored();
    for arguments in printing() {
        let shown = bench.run(&arguments).code(0);
        let text = format!("{HOSTILE}{HARMLESS}");
        assert!(shown.out.contains(&text), "{arguments:?}: {:?}", shown.out);
        assert!(!shown.out.contains("\\u{"), "{arguments:?}: {:?}", shown.out);
    }
}
