//! Parses a page of documentation into the steps that a test runs.

/// Languages of code blocks whose lines are run by a shell.
const SHELLS: [&str; 5] = ["sh", "bash", "shell", "zsh", "console"];

#[derive(Debug, PartialEq)]
pub struct Step {
    /// The line number in the page, from 1.
    pub line: usize,
    pub what: What,
}

#[derive(Debug, PartialEq)]
pub enum What {
    /// Lines for a shell, which have to succeed.
    Run(String),
    /// A command, and its expected output.
    Show { command: String, wanted: String },
    /// A file with this text.
    File { path: String, text: String },
}

/// The instruction that an HTML comment before a code block gives.
enum Mark {
    NotRun,
    File(String),
}

/// The steps of a page, or a line number with an error.
pub fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut mark = None;
    let mut lines = (1..).zip(page.lines());
    while let Some((at, line)) = lines.next() {
        if let Some(reason) = comment(line, "not run:") {
            if reason.is_empty() {
                return Err(format!("{at}: a block that is not run needs a reason"));
            }
            mark = Some(Mark::NotRun);
        } else if let Some(path) = comment(line, "file:") {
            mark = Some(Mark::File(path.to_owned()));
        } else if line == "<!-- hidden" {
            let text = until(&mut lines, |line| line == "-->").ok_or(format!("{at}: no end"))?;
            let what = What::Run(text);
            steps.push(Step { line: at + 1, what });
        } else if let Some(language) = line.trim_start().strip_prefix("```") {
            let text = until(&mut lines, |line| line.trim_start().starts_with("```"));
            let text = text.ok_or(format!("{at}: no end"))?;
            let line = at + 1;
            match mark.take() {
                Some(Mark::NotRun) => {}
                Some(Mark::File(path)) => steps.push(Step {
                    line,
                    what: What::File { path, text },
                }),
                None if language == "console" => shown(line, &text, &mut steps)?,
                None if SHELLS.contains(&language) => steps.push(Step {
                    line,
                    what: What::Run(text),
                }),
                None if language.is_empty() => return Err(format!("{at}: a block without a language")),
                None => {}
            }
        } else if !line.is_empty() && mark.take().is_some() {
            return Err(format!("{at}: a block belongs after the comment"));
        }
    }
    Ok(steps)
}

/// The text of an HTML comment that begins with `kind`; `None` if the line is something else.
fn comment<'l>(line: &'l str, kind: &str) -> Option<&'l str> {
    let text = line.strip_prefix("<!-- ")?.strip_prefix(kind)?;
    Some(text.strip_suffix("-->")?.trim())
}

/// The text of the lines before the first one for which `end` is true; `None` if there is no such line.
fn until<'l>(
    lines: &mut impl Iterator<Item = (usize, &'l str)>,
    end: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut text = String::new();
    for (_, line) in lines {
        if end(line) {
            return Some(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    None
}

/// The commands of a block with their expected output.
fn shown(first: usize, text: &str, steps: &mut Vec<Step>) -> Result<(), String> {
    for (line, text) in (first..).zip(text.lines()) {
        if let Some(command) = text.strip_prefix("$ ") {
            let (command, wanted) = (command.to_owned(), String::new());
            steps.push(Step {
                line,
                what: What::Show { command, wanted },
            });
        } else if let Some(Step {
            line: start,
            what: What::Show { command, wanted },
        }) = steps.last_mut()
            && *start >= first
        {
            // A backslash or a pipe at its end continues a command.
            let continues = wanted.is_empty() && command.ends_with(['\\', '|']);
            let to = if continues { command } else { wanted };
            to.push_str(if continues { "\n" } else { "" });
            to.push_str(text);
            to.push_str(if continues { "" } else { "\n" });
        } else {
            return Err(format!("{line}: a block `console` begins with `$ `"));
        }
    }
    Ok(())
}

#[test]
fn a_block_is_run_or_has_a_reason() {
    let page = "# x\n\n<!-- hidden\nmkdir a\n-->\n\n```sh\nls\n```\n<!-- not run: needs a server -->\n\n```sh\nssh x\n```\n\
                <!-- file: a.yaml -->\n```yaml\na: 1\n```\n```rust\nfn\n```\n```console\n$ a |\n  b\nout\n$ c\n```\n";
    let step = |line, what| Step { line, what };
    let run = |text: &str| What::Run(text.to_owned());
    let show = |command: &str, wanted: &str| What::Show {
        command: command.to_owned(),
        wanted: wanted.to_owned(),
    };
    let file = What::File {
        path: "a.yaml".to_owned(),
        text: "a: 1\n".to_owned(),
    };
    let wanted = [
        step(4, run("mkdir a\n")),
        step(8, run("ls\n")),
        step(17, file),
        step(23, show("a |\n  b", "out\n")),
        step(26, show("c", "")),
    ];
    assert_eq!(steps(page).unwrap(), wanted);
    for (page, fault) in [
        ("```\nls\n```\n", "1: a block without a language"),
        (
            "<!-- not run: -->\n```sh\nls\n```\n",
            "1: a block that is not run needs a reason",
        ),
        (
            "<!-- not run: x -->\ntext\n",
            "2: a block belongs after the comment",
        ),
        ("```sh\nls\n", "1: no end"),
        ("```console\nls\n```\n", "2: a block `console` begins with `$ `"),
    ] {
        assert_eq!(steps(page).unwrap_err(), fault);
    }
}
