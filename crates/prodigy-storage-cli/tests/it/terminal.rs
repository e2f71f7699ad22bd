//! Tests of stored text that is printed to a terminal and to a pipe.

use crate::support::{Bench, run};

/// Characters that JSON does not escape: a control sequence introducer, a direction override, a zero-width space, a
/// delete character.
const HOSTILE: &str = "a\u{9b}31m\u{202e}b\u{200b}c\u{7f}";
const HARMLESS: &str = "ä€";

const OF: [&str; 4] = ["--repo", "shop", "--job", "job"];

fn is_hostile(char: char) -> bool {
    HOSTILE.contains(char) && !char.is_ascii_alphanumeric()
}

/// A bench with the hostile text in each kind of data.
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
    let bench = stored();
    for arguments in printing() {
        let Some(script) = bench.on_terminal(&arguments) else {
            return;
        };
        let shown = run(script, "").code(0);
        assert!(!shown.out.contains(is_hostile), "{arguments:?}: {:?}", shown.out);
        assert!(
            shown.out.contains("a\\u{9b}31m\\u{202e}b\\u{200b}c\\u{7f}ä€"),
            "{arguments:?}: {:?}",
            shown.out
        );
    }
}

#[test]
fn in_a_pipe_stored_text_passes_byte_for_byte_except_in_the_cells_of_a_table() {
    let bench = stored();
    for table in [&["dlq", "list"][..], &["dlq", "analyze"]] {
        let shown = bench.run(&[table, &OF[..]].concat()).code(0);
        assert!(!shown.out.contains(is_hostile), "{table:?}: {:?}", shown.out);
        assert!(shown.out.contains("a\\u{9b}31m"), "{table:?}: {:?}", shown.out);
    }
    let is_table = |arguments: &Vec<&str>| arguments.starts_with(&["dlq", "list", "--repo"]);
    for arguments in printing().into_iter().filter(|arguments| !is_table(arguments)) {
        let shown = bench.run(&arguments).code(0);
        let text = format!("{HOSTILE}{HARMLESS}");
        assert!(shown.out.contains(&text), "{arguments:?}: {:?}", shown.out);
        assert!(!shown.out.contains("\\u{"), "{arguments:?}: {:?}", shown.out);
    }
}
