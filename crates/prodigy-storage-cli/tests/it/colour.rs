//! Tests of colours: they are printed on a terminal only, and as the environment asks.

use crate::support::{Bench, run};

/// A store with a parked item, and a warning.
fn filled() -> Bench {
    let bench = Bench::new();
    let of = ["--repo", "shop", "--job", "job"];
    let push = [&["dlq", "push"], &of[..]].concat();
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    bench.run(&[&["dlq", "park", "a"], &of[..]].concat()).code(0);
    bench
}

const LIST: [&str; 7] = ["dlq", "list", "--any", "--repo", "shop", "--job", "job"];

fn is_coloured(text: &str) -> bool {
    text.contains("\u{1b}[31mparked\u{1b}[0m") && text.starts_with("\u{1b}[1m")
}

#[test]
fn a_pipe_has_no_colour_unless_it_is_forced() {
    let bench = filled();
    let plain = bench.run(&LIST).code(0).out;
    assert!(plain.contains("parked") && !plain.contains('\u{1b}'), "{plain:?}");
    let forced = |name: &str, value: &str, more: Option<&str>| {
        let mut tool = bench.std(LIST);
        tool.env("CLICOLOR_FORCE", "1").env(name, value);
        tool.args(more);
        run(tool, "").code(0).out
    };
    let coloured = forced("X", "1", None);
    assert!(is_coloured(&coloured), "{coloured:?}");
    // Without the styles, the output is the same.
    let stripped = coloured
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[1m", "")
        .replace("\u{1b}[0m", "");
    assert_eq!(stripped, plain);
    assert_eq!(forced("NO_COLOR", "1", None), plain);
    assert!(!forced("X", "1", Some("--json")).contains('\u{1b}'));
    for command in ["status", "doctor", "health"] {
        let mut tool = bench.std([command]);
        tool.env("CLICOLOR_FORCE", "1");
        let shown = run(tool, "").out;
        assert_eq!(
            shown.contains("\u{1b}["),
            command != "doctor",
            "{command}: {shown:?}"
        );
        assert!(!bench.run(&[command]).out.contains('\u{1b}'), "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colours_unless_it_is_dumb_or_they_are_unwanted() {
    let bench = filled();
    let shown = |name: &str, value: &str| {
        let mut script = bench.on_terminal(&LIST)?;
        script.env(name, value);
        if name == "TERM" {
            script.env("CI", "1").env("CLICOLOR", "1");
        }
        Some(run(script, "").code(0).out)
    };
    let Some(coloured) = shown("X", "1") else { return };
    assert!(is_coloured(&coloured), "{coloured:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("CLICOLOR", "0")] {
        let plain = shown(name, value).unwrap();
        assert!(
            plain.contains("parked") && !plain.contains('\u{1b}'),
            "{name}: {plain:?}"
        );
    }
}
