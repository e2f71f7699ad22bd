//! Runs commands whose output is shown at once, and repeated at the end of the run if they fail.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::show;

/// The number of last lines of a failed command that are repeated.
const LAST: usize = 30;
/// The largest number of lines of a failed command that are repeated.
const MOST: usize = 120;

/// Prints a command, runs it, and shows its output. If it fails, the error has the command in its first line, then
/// the lines of output about the failure.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn();
    // Closes the writing ends of the pipe in this process: the reader below ends when no process has one open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.with_context(|| format!("can't start `{shown}`"))?;
    let mut kept = Kept::default();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        kept.add(&text);
        line.clear();
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{shown}` failed: {status}{}", kept.text());
    }
    Ok(())
}

/// The lines of a command's output that are repeated if it fails: lines about failures, and the last lines.
#[derive(Debug, Default)]
struct Kept {
    failures: Vec<String>,
    /// True between the line `failures:` of a test program and its result.
    within: bool,
    last: VecDeque<String>,
}

impl Kept {
    fn add(&mut self, line: &str) {
        let line = line.trim_end();
        match line {
            "failures:" => self.within = true,
            _ if line.starts_with("test result:") => self.within = false,
            _ => {}
        }
        let told = self.within || line.contains("FAILED") || line.starts_with("error");
        if told && self.failures.len() < MOST - LAST {
            self.failures.push(line.to_owned());
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    /// The kept lines, each after a line break: failures first, then the last lines.
    fn text(&self) -> String {
        let rows = self.failures.iter().chain(&self.last);
        rows.map(|row| format!("\n{row}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_says_which_tests_failed_and_its_last_lines() {
        let script = "echo before; echo failures:; echo '---- a::b stdout ----'; echo 'test result: FAILED. 1 failed'; \
                      seq 100; echo 'the end' >&2; exit 3";
        let error = run(Command::new("sh").args(["-c", script]))
            .unwrap_err()
            .to_string();
        let lines: Vec<_> = error.lines().collect();
        assert!(
            lines[0].starts_with("`sh -c ") && lines[0].ends_with("failed: exit status: 3"),
            "{error}"
        );
        assert_eq!(
            lines[1..4],
            [
                "failures:",
                "---- a::b stdout ----",
                "test result: FAILED. 1 failed"
            ]
        );
        assert_eq!(lines[4..].len(), LAST);
        assert_eq!((lines[4], *lines.last().unwrap()), ("72", "the end"));
    }

    #[test]
    fn a_command_that_passes_is_no_error() {
        run(&mut Command::new("true")).unwrap();
    }
}
