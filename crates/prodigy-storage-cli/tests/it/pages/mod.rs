//! Runs each shell command in the project's pages, and compares the output with the page.
//!
//! The blocks of a page run in one shell, in order, in a git repository with an empty store. HTML comments, which
//! readers do not see, describe what else the test needs:
//!
//! - `<!-- hidden` and lines of a shell up to `-->`: commands that run at this place in addition to the blocks;
//! - `<!-- file: PATH -->` before a block: its text is written to this file;
//! - `<!-- not run: REASON -->` before a block: nothing runs it.

mod page;

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use self::page::{Step, What, steps};
use crate::support::run;

/// Programs that the pages use.
const NEEDED: [&str; 4] = ["bash", "git", "jq", "zstd"];
/// The character that begins the number of a step in the shell's output.
const MARK: char = '\u{1e}';
/// Names of folders whose pages do not belong to this project.
const OTHERS: [&str; 5] = ["target", ".git", "fixtures", "corpus", "demo"];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Collects every page below the folder.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !OTHERS.iter().any(|name| path.ends_with(name)) {
                pages(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The script of a page, which prints the number of each step before it runs the step.
fn script(steps: &[Step]) -> String {
    let mut script = "exec 2>&1\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        script.push_str(&format!("printf '\\036{number}\\n'\n"));
        script.push_str(&match &step.what {
            What::Run(lines) => lines.clone(),
            What::Show { command, .. } => format!("set +e\n{command}\nset -e\n"),
            What::File { path, text } => {
                let mode = if text.starts_with("#!") { "700" } else { "600" };
                format!("mkdir -p \"$(dirname {path})\"\ncat > {path} <<'END OF FILE'\n{text}END OF FILE\nchmod {mode} {path}\n")
            }
        });
    }
    script.push_str(&format!("printf '\\036{}\\n'\n", steps.len()));
    script
}

/// The text with variable parts replaced: times, ids, checksums, cursors, ages.
fn masked(text: &str) -> String {
    let patterns = [
        (
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)",
            "TIME",
        ),
        (r"\d{8}T\d{6}(\.\d+)?Z", "STAMP"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "ID",
        ),
        (r"\b[0-9a-f]{16,}\b", "HEX"),
        (r"\bc1\.[A-Za-z0-9_.-]+", "CURSOR"),
        (r" *\b\d+s +", " AGE "),
    ];
    let mut text = text.to_owned();
    for (pattern, word) in patterns {
        text = Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text
}

/// True if a text matches a pattern, in which a line `…` matches any lines, and `…` in a line for any characters.
fn fits(text: &str, wanted: &str) -> bool {
    let pattern: String = masked(wanted)
        .lines()
        .map(|line| match line {
            "…" => "(?:.*\n)*?".to_owned(),
            line => format!("{}\n", regex::escape(line).replace('…', ".*")),
        })
        .collect();
    Regex::new(&format!("^{pattern}$"))
        .unwrap()
        .is_match(&masked(text))
}

/// Runs a page, and returns the differences.
fn faults(page: &str, steps: &[Step]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    let shop = home.join("src/shop");
    std::fs::create_dir_all(&shop).unwrap();
    let mut git = Command::new("git");
    git.args(["init", "--quiet"]).current_dir(&shop);
    run(git, "").code(0);
    let tool = Path::new(env!("CARGO_BIN_EXE_prodigy-storage")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell
        .env_clear()
        .env("HOME", &home)
        .env("TZ", "UTC")
        .env("PATH", format!("{}:{path}", tool.display()))
        .env(
            "FIXTURES",
            project().join("crates/prodigy-storage-file/tests/fixtures"),
        )
        .current_dir(&shop)
        .args(["--norc", "-eu", "-o", "pipefail", "-c", &script(steps)]);
    let ran = run(shell, "");
    let mut faults = Vec::new();
    let mut reached = None;
    // The page shows the home folder of its reader.
    let out = ran.out.replace(home.to_str().unwrap(), "/home/me");
    for part in out.split(MARK).skip(1) {
        let (number, printed) = part.split_once('\n').unwrap();
        let number: usize = number.parse().unwrap();
        reached = Some((number, printed));
        if let Some(Step {
            line,
            what: What::Show { command, wanted },
        }) = steps.get(number)
            && !fits(printed, wanted)
        {
            faults.push(format!(
                "{page}:{line}: `{command}` printed\n{printed}instead of\n{wanted}"
            ));
        }
    }
    if ran.code != Some(0) {
        let (number, printed) = reached.unwrap_or((0, ""));
        let line = steps.get(number).map_or(0, |step| step.line);
        faults.push(format!("{page}:{line}: failed after it printed\n{printed}"));
    }
    faults
}

#[test]
fn each_line_of_a_shell_in_a_page_runs_and_prints_what_the_page_says() {
    for needed in NEEDED {
        if Command::new(needed).arg("--version").output().is_err() {
            eprintln!("SKIPPED: this machine has no `{needed}`, which the pages use");
            return;
        }
    }
    let project = project();
    let mut files = Vec::new();
    pages(&project, &mut files);
    assert!(files.len() > 60, "the pages of the project are found");
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = files
            .iter()
            .map(|file| {
                let name = file.strip_prefix(&project).unwrap().display().to_string();
                scope.spawn(move || match steps(&std::fs::read_to_string(file).unwrap()) {
                    Ok(steps) if steps.is_empty() => Vec::new(),
                    Ok(steps) => faults(&name, &steps),
                    Err(fault) => vec![format!("{name}:{fault}")],
                })
            })
            .collect();
        for run in runs {
            wrong.extend(run.join().unwrap());
        }
    });
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_run_of_a_page_finds_what_is_wrong() {
    let of = |page: &str| faults("p.md", &steps(page).unwrap());
    assert_eq!(
        of("```sh\nx=1\n```\n\n```console\n$ echo $x; false\n1\n$ pwd | xargs basename\nshop\n```\n"),
        [""; 0]
    );
    let wrong = of("```console\n$ echo 2026-11-24T22:37:57Z a\n2001-01-01T00:00:00.5Z b\n```\n");
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with("p.md:2: `echo 2026-11-24T22:37:57Z a` printed"),
        "{wrong:?}"
    );
    let wrong = of("```sh\ntrue\n```\n```sh\nfalse | cat\necho more\n```\n");
    assert_eq!(wrong, ["p.md:5: failed after it printed\n"]);
    assert!(fits("a\nb\nc\n", "a\n…\nc\n") && !fits("a\nb\nd\n", "a\n…\nc\n"));
    assert!(fits("a b c\n", "a … c\n") && !fits("a\nc\n", "a…c\n"));
}

/// Cron and systemd look in few folders for a program, and `cargo install` puts it into none of these.
#[test]
fn timers_in_the_pages_name_the_path_of_the_tool() {
    let mut found = Vec::new();
    pages(&project(), &mut found);
    let timer =
        Regex::new(r"(?m)^(?:ExecStart=|(?:[0-9*/,-]+ ){5}|@(?:hourly|daily|weekly|monthly|reboot) )(.*)$")
            .unwrap();
    let mut timers = 0;
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in timer
            .captures_iter(&text)
            .filter(|line| line[1].contains("prodigy-storage"))
        {
            timers += 1;
            let program = line[1].split_whitespace().next().unwrap();
            assert!(
                program.ends_with("/prodigy-storage"),
                "{}: {}",
                page.display(),
                &line[0]
            );
        }
    }
    assert!(timers >= 2, "{timers}");
}
