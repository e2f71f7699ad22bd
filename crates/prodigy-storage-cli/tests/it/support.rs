//! A test bench: a folder for each test, and the tool in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};
use tempfile::TempDir;

/// Longer than any command takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The arguments that save a checkpoint of `shop/job` from standard input.
pub const SAVE: [&str; 8] = [
    "checkpoint",
    "save",
    "--repo",
    "shop",
    "--job",
    "job",
    "--phase",
    "map",
];

pub struct Bench {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// The result of a run.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A shell starts background jobs with some signals ignored, and the tool leaves an ignored signal ignored, so such a
/// signal would never end it. Ignored signals are inherited by a program; handlers are not.
fn let_signals_through() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0);
        for signal in [SIGHUP, SIGINT, SIGQUIT] {
            if ignored & (1 << (signal - 1)) != 0 {
                signal_hook::flag::register(signal, std::sync::Arc::default()).unwrap();
            }
        }
    });
}

/// A command for a shell script to start as `"$0" "$@"`.
pub fn within(script: &str, command: &std::process::Command) -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script])
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    shell
}

impl Bench {
    pub fn new() -> Self {
        let_signals_through();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("here")).unwrap();
        Self {
            folder,
            variables: Vec::new(),
        }
    }

    /// A bench with the memory backend and its snapshot in `store.jsonl`.
    pub fn of_memory() -> Self {
        let bench = Self::new();
        let file = bench.write(
            "memory.yaml",
            format!(
                "storage:\n  backend: memory\n  backend_config:\n    persist_to_disk: true\n    persistence_path: {}\n",
                bench.path("store.jsonl").display()
            ),
        );
        bench.with("PRODIGY_CONFIG", file.to_str().unwrap())
    }

    /// Sets an environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The root of the store.
    pub fn root(&self) -> PathBuf {
        self.path("home/.prodigy")
    }

    pub fn write(&self, below: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The tool with these arguments, in the folder `here`, with only `PATH` of the real environment.
    pub fn std(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_prodigy-storage"));
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PRODIGY_HOME", self.root())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.path("here"))
            .args(arguments);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.feed(arguments, "")
    }

    pub fn feed(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Run {
        run(self.std(arguments), input)
    }

    /// The tool on a terminal of 80 columns; if the machine lacks `script`, prints a notice and returns `None`.
    #[cfg(target_os = "linux")]
    pub fn on_terminal(&self, arguments: &[&str]) -> Option<std::process::Command> {
        self.on_terminal_of(80, 24, arguments)
    }

    /// The same for a terminal of another size.
    #[cfg(target_os = "linux")]
    pub fn on_terminal_of(
        &self,
        columns: usize,
        rows: usize,
        arguments: &[&str],
    ) -> Option<std::process::Command> {
        // `script` takes a shell command.
        let tool = self.std(arguments);
        let words: Vec<String> = std::iter::once(tool.get_program())
            .chain(tool.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")))
            .collect();
        self.in_a_terminal(&format!(
            "stty columns {columns} rows {rows}; exec {}",
            words.join(" ")
        ))
    }

    /// A line of a shell on a terminal, with the tool's variables; `None` as above.
    #[cfg(target_os = "linux")]
    pub fn in_a_terminal(&self, line: &str) -> Option<std::process::Command> {
        use std::process::Command;
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!("SKIPPED: this machine has no `script`, which gives a command a terminal");
            return None;
        }
        let tool = self.std([] as [&str; 0]);
        let mut script = Command::new("script");
        script.env_clear().current_dir(self.path("here"));
        let variables = tool.get_envs().filter_map(|(name, value)| Some((name, value?)));
        script.envs(variables).env("TERM", "xterm");
        script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        script.stdin(std::process::Stdio::null());
        Some(script)
    }

    /// Appends these lines to `shop/job`.
    pub fn append(&self, lines: &str) {
        self.feed(&["events", "append", "--repo", "shop", "--job", "job"], lines)
            .code(0);
    }

    /// The only file below a folder whose name has this beginning and this end.
    pub fn only_file(&self, folder: &str, start: &str, end: &str) -> PathBuf {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.root().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with(start) && name.ends_with(end)
            })
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.pop().unwrap()
    }
}

/// Starts the tool by another program: the tool's command follows the program's own arguments, with the tool's
/// variables and folder.
pub fn started_by(mut program: std::process::Command, tool: &std::process::Command) -> std::process::Command {
    program.arg(tool.get_program()).args(tool.get_args());
    let variables = tool.get_envs().filter_map(|(name, value)| Some((name, value?)));
    program.env_clear().envs(variables);
    if let Some(folder) = tool.get_current_dir() {
        program.current_dir(folder);
    }
    program
}

pub fn run(command: std::process::Command, input: impl Into<Vec<u8>>) -> Run {
    let shown = format!("{command:?}");
    let output: Output = assert_cmd::Command::from_std(command)
        .timeout(PATIENCE)
        .write_stdin(input)
        .output()
        .unwrap();
    let run = Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    println!("{shown}\n{:?}\n{}", run.code, run.err);
    for command in commands(&run) {
        assert_eq!(misfit(command), None, "`{command}`, which {shown} advises");
    }
    run
}

/// The commands of the tool that a run advises: quoted in a message, or below a problem.
pub fn commands(run: &Run) -> Vec<&str> {
    const LABELS: [&str; 6] = [
        "error: ",
        "hint: ",
        "note: ",
        "warning: ",
        "skipped: ",
        "damaged: ",
    ];
    let is_message = |line: &&str| LABELS.iter().any(|label| line.starts_with(label));
    let said = run.err.lines().filter(is_message);
    let advised = run
        .out
        .lines()
        .filter(|line| line.starts_with("         to do: "));
    let quoted = said
        .chain(advised)
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let below = run
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("         run: "));
    quoted
        .chain(below.flat_map(|line| line.split(" && ")))
        .filter(|command| command.starts_with("prodigy-storage "))
        .collect()
}

/// The reason why a command does not run as it is printed; `None` if its command line is complete.
fn misfit(command: &str) -> Option<String> {
    let mut table = prodigy_storage_cli::command();
    let matches = match table.try_get_matches_from_mut(words(command)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => return None,
        Err(error) => return Some(error.to_string()),
    };
    // A command that needs a job says so itself, after it has looked for the jobs that there are.
    let (mut below, mut matches) = (&table, &matches);
    while let Some((name, of)) = matches.subcommand() {
        (below, matches) = (below.find_subcommand(name).unwrap(), of);
    }
    let needs_job = |argument: &&clap::Arg| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        argument.get_long() == Some("job") && help.contains("The command needs it")
    };
    let is_given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    let job = below.get_arguments().find(needs_job)?;
    let others = ["all_jobs", "all_repos"];
    let others = others
        .iter()
        .filter(|id| below.get_arguments().any(|known| known.get_id() == **id));
    let is_named = is_given(job.get_id().as_str()) || others.into_iter().any(|id| is_given(id));
    (!is_named).then(|| "it names no job".to_owned())
}

/// The words of a shell command.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            (char, Some(open)) if char == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            ('\\', None) => word.get_or_insert_default().extend(chars.next()),
            (' ', None) => words.extend(word.take()),
            (char, _) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

impl Run {
    /// Asserts the exit code; returns the run.
    pub fn code(self, wanted: i32) -> Self {
        assert_eq!(self.code, Some(wanted), "{}", self.err);
        self
    }

    /// Asserts that standard error contains a text; returns the run.
    pub fn says(self, wanted: &str) -> Self {
        assert!(self.err.contains(wanted), "no {wanted:?} in: {}", self.err);
        self
    }

    pub fn prints(self, wanted: &str) -> Self {
        assert!(self.out.contains(wanted), "{wanted:?} in {}", self.out);
        self
    }

    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }

    /// The lines of output, parsed as JSON.
    pub fn jsonl(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Sends a signal to a process.
#[cfg(unix)]
pub fn send(signal: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Closes the reading end of a pipe, and waits until no process has it open: a process that another test has just
/// forked has a copy until its exec.
pub fn close_for_all(reader: std::io::PipeReader, writer: &std::io::PipeWriter) {
    use std::io::Write;
    drop(reader);
    let mut writer = writer;
    while writer.write(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every file and folder below a folder.
pub fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
