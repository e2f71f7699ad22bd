//! A run of the tool: its streams, the global flags, and opening storage.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::ops::Range;
use std::time::Duration;

use clap::builder::styling::Style;
#[cfg(feature = "file")]
use prodigy_storage::Backup;
use prodigy_storage::config::Notice;
#[cfg(feature = "file")]
use prodigy_storage::doctor::Doctor;
use prodigy_storage::{
    ErrorKind, ForeignKind, IdentityKind, Job, Repo, RepoName, Storage, StorageBuilder, StorageError,
    StorageNotice, Timestamp, TooLarge, escape,
};

use crate::cli::{Command, Global};
use crate::console::Console;
use crate::errors::{Failure, Result, say};
use crate::exit::Exit;
use crate::job::not_reserved;
use crate::json::on_one_line;
use crate::output::{style_of, wrapped};
use crate::shell::{as_word, in_this_store, tool};
use crate::table::{Line, shortened};
use crate::terminal::{Output, Terminal};
use crate::time;
#[cfg(feature = "file")]
use crate::{backup, doctor};
use crate::{
    checkpoint, clean, config, copy, dlq, document, events, export, health, import, jobs, lock, repo, report,
    status, usage, worktree,
};

/// The size of the buffer of standard output, in bytes.
const BUFFER: usize = 64 << 10;

/// Whether a command writes. A command that only reads creates and registers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// How much of the stored data a command reads, which decides how skipped data is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// It returns all stored data, so what it skips is part of its result: an error.
    All,
    /// It uses some of the stored data: a note names what it skips.
    Some,
    /// It only stores, locks or configures: skipped data is not reported.
    Nothing,
}

/// Data that a command met and could not read.
pub(crate) struct Met {
    /// `damaged` or `skipped`.
    pub(crate) word: &'static str,
    pub(crate) what: String,
}

/// The state of a run.
pub(crate) struct App<'c> {
    pub(crate) global: Global,
    pub(crate) input: Box<dyn std::io::Read + 'c>,
    pub(crate) ready: fn(Duration) -> bool,
    pub(crate) out: BufWriter<Output<Box<dyn Write + 'c>>>,
    pub(crate) err: Box<dyn Write + 'c>,
    pub(crate) terminal: bool,
    /// The width of the terminal that the output goes to.
    pub(crate) width: Option<usize>,
    size: fn() -> Option<(usize, usize)>,
    colour: bool,
    /// The columns of the events that were printed.
    pub(crate) columns: events::Columns,
    pub(crate) closed: fn() -> bool,
    closed_from_start: bool,
    opened: Option<Storage>,
    damaged: bool,
    /// How much of the stored data the command reads.
    reads: Reads,
    /// True once the command has opened storage for writing.
    writes: bool,
    skipped: bool,
    /// True if a check failed whose result the command printed.
    failed: bool,
    /// If not `None`, collects reports of damaged and of skipped data, which a command prints as its result, instead of
    /// printing them.
    collected: Option<Vec<Met>>,
    /// The kinds of other programs' data that were reported as skipped.
    foreign: Vec<ForeignKind>,
    /// The storage counter `log.rewound` when it was last reported: how often a cursor was moved back because its
    /// event was gone.
    rewound: u64,
}

impl<'c> App<'c> {
    pub(crate) fn new(global: Global, console: Console<'c>) -> Self {
        let size = (console.size)();
        let output = match size {
            Some(_) => Output::Terminal(Terminal::new(console.output)),
            None => Output::Plain(console.output),
        };
        Self {
            global,
            input: console.input,
            ready: console.ready,
            out: BufWriter::with_capacity(BUFFER, output),
            err: console.errors,
            terminal: console.terminal,
            width: size.map(|(columns, _)| columns),
            size: console.size,
            colour: console.colour,
            columns: events::Columns::default(),
            closed: console.closed,
            closed_from_start: console.closed_from_start,
            opened: None,
            damaged: false,
            reads: Reads::Nothing,
            writes: false,
            skipped: false,
            failed: false,
            collected: None,
            foreign: Vec::new(),
            rewound: 0,
        }
    }

    /// Runs a command, and reports the failure that ends it.
    pub(crate) fn run(mut self, command: Command) -> Exit {
        self.reads = command.reads();
        let ended = match self.closed_from_start && command.prints() {
            true => Err(Failure::closed_from_start()),
            false => self.dispatch(command),
        };
        // Writes the output that was produced before a failure, too.
        let flushed = self.out.flush().map_err(Failure::output);
        self.print_foreign();
        self.print_stats();
        match ended.and_then(|exit| flushed.map(|()| exit)) {
            Ok(Exit::Done) if self.damaged => Exit::Damaged,
            Ok(Exit::Done) if self.skipped => Exit::Skipped,
            Ok(Exit::Done) if self.failed => Exit::Failed,
            Ok(exit) => exit,
            // A user of a command that changes something has to see the result, so a closed output is a failure.
            Err(Failure::Closed) if self.writes => {
                self.error(
                    "standard output was closed before the command had printed everything: its changes so far are stored",
                );
                Exit::Failed
            }
            Err(failure) => {
                self.print_failure(&failure);
                failure.exit()
            }
        }
    }

    fn print_failure(&mut self, failure: &Failure) {
        let mut said = Vec::new();
        failure.print(&mut said);
        let said = String::from_utf8_lossy(&said);
        let said = in_this_store(&said, &self.global);
        // Write failures are ignored, as for every message.
        let _ = self.err.write_all(said.as_bytes());
    }

    /// Reports the failure for one of several things that a command was given, so that it continues with the others, and returns the
    /// exit code of the failure. A closed output and a signal end the command.
    pub(crate) fn one_failed(&mut self, failure: Failure) -> Result<Exit> {
        let is_about_all = match &failure {
            Failure::Closed => true,
            Failure::Storage(error) => error.kind() == ErrorKind::Interrupted,
            Failure::Told(_) => false,
        };
        if is_about_all {
            return Err(failure);
        }
        self.flush()?;
        self.print_failure(&failure);
        Ok(failure.exit())
    }

    fn dispatch(&mut self, command: Command) -> Result<Exit> {
        match command {
            Command::Events(command) => events::run(self, command),
            Command::Checkpoint(command) => checkpoint::run(self, command),
            Command::Document(command) => document::run(self, command),
            Command::Dlq(command) => dlq::run(self, command),
            Command::Worktree(command) => worktree::run(self, command),
            Command::Lock(command) => lock::run(self, command),
            Command::Config(command) => config::run(self, command),
            Command::Status(arguments) => status::run(self, &arguments),
            Command::Job(command) => jobs::run(self, command),
            Command::Repo(command) => repo::run(self, command),
            Command::Health => health::run(self),
            Command::Export(arguments) => export::run(self, &arguments),
            Command::Import(arguments) => import::run(self, &arguments),
            Command::Migrate(arguments) => import::migrate(self, &arguments),
            Command::Report(arguments) => report::run(self, &arguments),
            Command::Copy(arguments) => copy::run(self, &arguments),
            #[cfg(feature = "file")]
            Command::Backup(arguments) => backup::run(self, &arguments),
            #[cfg(feature = "file")]
            Command::Restore(arguments) => backup::restore(self, &arguments),
            #[cfg(feature = "file")]
            Command::Doctor(arguments) => doctor::run(self, &arguments),
            #[cfg(feature = "postgres")]
            Command::Schema(command) => crate::schema::run(self, &command),
            Command::Usage(arguments) => usage::run(self, &arguments),
            Command::Clean(arguments) => clean::run(self, &arguments),
        }
    }

    /// Access to the tables of the database.
    #[cfg(feature = "postgres")]
    pub(crate) fn schema(&mut self) -> Result<prodigy_storage::Schema> {
        Ok(self.builder(Access::Read).schema()?)
    }

    fn builder(&self, access: Access) -> StorageBuilder {
        let mut builder = Storage::builder()
            .read_only(access == Access::Read)
            .interrupt(crate::signals::ends_waits());
        if self.terminal {
            builder = builder.on_wait(|text| say(&mut std::io::stderr(), "note", text));
        }
        if let Some(file) = &self.global.config {
            builder = builder.config_file(file);
        }
        if let Some(folder) = &self.global.base_dir {
            builder = builder.flag("backend_config.base_dir", folder);
        }
        builder
    }

    /// The doctor of the configured storage. It works even if the storage can't be opened.
    #[cfg(feature = "file")]
    pub(crate) fn doctor(&mut self, access: Access) -> Result<Doctor> {
        self.writes |= access == Access::Write;
        Ok(self.builder(access).doctor()?)
    }

    /// The backups of the configured storage.
    #[cfg(feature = "file")]
    pub(crate) fn backup(&mut self, access: Access) -> Result<Backup> {
        self.writes |= access == Access::Write;
        Ok(self.builder(access).backup()?)
    }

    /// Opens storage with the configuration and the global flags, and prints its warnings.
    pub(crate) fn open(&mut self, access: Access) -> Result<Storage> {
        self.open_without(access, |_| false)
    }

    /// The same without the warnings that the command itself makes pointless.
    pub(crate) fn open_without(
        &mut self,
        access: Access,
        is_pointless: impl Fn(&StorageNotice) -> bool,
    ) -> Result<Storage> {
        let storage = self.open_quietly(access)?;
        for notice in storage.notices().iter().filter(|notice| !is_pointless(notice)) {
            // Disabled locks matter only to a command that takes a lock, which reports them itself.
            if !matches!(notice, StorageNotice::LockingDisabled) {
                self.warn(&notice.to_string());
            }
        }
        if self.global.verbose {
            let capabilities = storage.capabilities();
            let root = capabilities.root.map(|root| format!(" in {}", root.display()));
            self.note(&format!(
                "the {} backend{}",
                capabilities.backend,
                root.unwrap_or_default()
            ));
        }
        Ok(storage)
    }

    /// Opens storage without warnings, for a command that prints them as its result.
    pub(crate) fn open_quietly(&mut self, access: Access) -> Result<Storage> {
        self.writes |= access == Access::Write;
        let storage = self.builder(access).open()?;
        self.opened = Some(storage.clone());
        Ok(storage)
    }

    /// Registers the repository of the current folder, for a command that is about to store something.
    pub(crate) fn register_here(&mut self, storage: &Storage) -> Result<Repo> {
        let repo = storage.repo_at(".")?;
        self.repo_notices(&repo);
        Ok(repo)
    }

    /// The named repository, or otherwise the repository of the current folder. Registers nothing.
    pub(crate) fn repo(&mut self, storage: &Storage, name: Option<&RepoName>) -> Result<Repo> {
        if let Some(name) = name.filter(|_| self.writes) {
            not_reserved(name)?;
        }
        let repo = match name {
            Some(name) => storage.repo(name.as_str())?,
            None => storage.find_repo_at(".")?,
        };
        // The notice about the registration that a first write would make is for `repo identify`.
        let is_beforehand = |notice: &StorageNotice| {
            matches!(
                notice,
                StorageNotice::HasData {
                    registered: false,
                    ..
                }
            )
        };
        if !repo.notices().iter().any(is_beforehand) {
            self.repo_notices(&repo);
        }
        let is_here = name.is_none();
        let is_plain = repo
            .identity()
            .is_none_or(|found| found.kind == IdentityKind::Folder);
        if is_here && is_plain && (self.terminal || self.global.verbose) {
            self.note(&format!(
                "no git repository here: the repository has the name of the folder, `{}`; `--repo` names another",
                repo.name()
            ));
        } else if is_here && self.global.verbose {
            self.note(&format!("the repository here is `{}`", repo.name()));
        }
        Ok(repo)
    }

    /// Prints the notices about how a repository was identified.
    pub(crate) fn repo_notices(&mut self, repo: &Repo) {
        for notice in repo.notices() {
            self.note(&notice.to_string());
        }
    }

    /// True if a person at a terminal can answer a question.
    pub(crate) fn may_ask(&self) -> bool {
        self.terminal && self.width.is_some() && !self.json()
    }

    /// Asks on the terminal. Anything but `y` or `yes` is a no.
    pub(crate) fn agreed(&mut self, question: &str) -> Result<bool> {
        let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("ask for consent: {error}"));
        write!(self.err, "{question}")
            .and_then(|()| self.err.flush())
            .map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(&mut self.input)
            .read_line(&mut answer)
            .map_err(failed)?;
        Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }

    /// Prints a note if a job was moved to another store: its data here is as old as the move.
    pub(crate) fn note_moved(&mut self, job: &Job) -> Result<()> {
        let moved = match job.moved() {
            // The data of a moved job is still read.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                self.damaged_by(&error);
                return Ok(());
            }
            moved => moved?,
        };
        if let Some(moved) = moved {
            self.note(&escape(&format!(
                "{} was moved to {} at {}: what is read here is as it was then",
                moved.part,
                moved.to,
                self.message_time(moved.at)
            )));
        }
        Ok(())
    }

    /// Whether machine-readable output is asked for.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Writes a line of output.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>) -> Result<()> {
        self.out
            .write_all(line.as_ref())
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(Failure::output)
    }

    /// Writes a line of output. On a terminal, it is cut to the terminal's width.
    pub(crate) fn cut_line(&mut self, line: &str) -> Result<()> {
        match self.width {
            Some(width) => self.line(shortened(&escape(line), width)),
            None => self.line(line),
        }
    }

    /// Writes a line with its styles.
    pub(crate) fn print_line(&mut self, line: &Line) -> Result<()> {
        self.styled_line(&line.text, &line.styles)
    }

    /// Writes a line of output in which some ranges have a style, if the output takes styles.
    pub(crate) fn styled_line(&mut self, line: &str, styles: &[(Range<usize>, Style)]) -> Result<()> {
        if !self.colour || styles.is_empty() {
            return self.line(line);
        }
        // Written past the buffer: buffered text is escaped later, and this line is escaped already.
        self.flush()?;
        self.out.get_mut().styled(line, styles).map_err(Failure::output)
    }

    /// Writes a line that begins with a word for a severity or an outcome. On a terminal, it is broken between its words.
    pub(crate) fn finding(&mut self, word: &str, what: &str) -> Result<()> {
        let lines = finding(word, what, self.width);
        lines.iter().try_for_each(|line| self.print_line(line))
    }

    /// Writes a line about the finding above it. On a terminal, it is broken between its words.
    pub(crate) fn detail(&mut self, label: &str, text: &str) -> Result<()> {
        let lines = detail(label, text, self.width);
        lines.iter().try_for_each(|line| self.print_line(line))
    }

    /// Asks the terminal for its size, which may have changed.
    pub(crate) fn measure(&mut self) -> Option<(usize, usize)> {
        let size = (self.size)();
        self.width = size.map(|(columns, _)| columns).or(self.width);
        size
    }

    /// A time, as people and scripts read it: on a terminal in the local zone, elsewhere in UTC.
    pub(crate) fn time(&self, time: Timestamp) -> String {
        time::shown(time, self.width.is_some())
    }

    /// The same for a message on standard error.
    pub(crate) fn message_time(&self, time: Timestamp) -> String {
        time::shown(time, self.terminal)
    }

    /// Writes a value as a line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Failure::new(Exit::Failed, format!("write JSON: {error}")))?;
        on_one_line(&mut line);
        self.line(line)
    }

    /// Writes the buffered output to standard output.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Failure::output)
    }

    /// Discards the buffered output.
    pub(crate) fn discard(&mut self) {
        let sink: Box<dyn Write + 'c> = Box::new(std::io::sink());
        let out = std::mem::replace(&mut self.out, BufWriter::with_capacity(0, Output::Plain(sink)));
        let (output, _) = out.into_parts();
        self.out = BufWriter::with_capacity(BUFFER, output);
    }

    fn say(&mut self, label: &str, text: &str) {
        let text = in_this_store(text, &self.global).into_owned();
        say(&mut self.err, label, &text);
    }

    /// Prints a note to the user; it is no failure.
    pub(crate) fn note(&mut self, text: &str) {
        self.say("note", text);
    }

    /// Prints a warning.
    pub(crate) fn warn(&mut self, text: &str) {
        self.say("warning", text);
    }

    /// Says what to do about something that was reported.
    pub(crate) fn hint(&mut self, text: &str) {
        if let Some(collected) = &mut self.collected {
            if let Some(last) = collected.last_mut() {
                last.what.push_str(&format!("; {text}"));
            }
            return;
        }
        self.say("hint", text);
    }

    /// Reports a failure that does not end the command.
    pub(crate) fn error(&mut self, text: &str) {
        self.say("error", text);
    }

    /// Warns of something about the configuration.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        self.warn(&notice.to_string());
    }

    /// Collects reports of damaged and of skipped data from now on, instead of printing them.
    pub(crate) fn collect_reports(&mut self) {
        self.collected = Some(Vec::new());
    }

    /// The reports that were collected.
    pub(crate) fn collected_reports(&mut self) -> Vec<Met> {
        self.collected.take().unwrap_or_default()
    }

    /// Reports damage. A run without another failure then ends with exit code 5.
    pub(crate) fn damaged(&mut self, what: &str) {
        self.damaged = true;
        self.met("damaged", what);
    }

    /// Reports something that was met. The text is of one line: names in it may have line breaks.
    fn met(&mut self, word: &'static str, what: &str) {
        let what = escape(what);
        match &mut self.collected {
            Some(collected) => collected.push(Met {
                word,
                what: what.into_owned(),
            }),
            None => self.say(word, &what),
        }
    }

    /// Reports the damage that an error of storage describes. A run without another failure then ends with exit code
    /// 5.
    pub(crate) fn damaged_by(&mut self, error: &StorageError) {
        self.damaged(&format!("{}: {}", error.target(), error.why()));
    }

    /// Reports that data was skipped. A run without damage or another failure then ends with exit code 6.
    pub(crate) fn skipped(&mut self, what: &str) {
        self.skipped = true;
        self.met("skipped", what);
    }

    /// Notes that the command printed a failure. A run without damage and without skipped data then ends with exit code 1.
    pub(crate) fn fails_at_end(&mut self) {
        self.failed = true;
    }

    /// True if a read began at a cursor whose event no longer exists, since this was last asked.
    pub(crate) fn has_rewound(&mut self, storage: &Storage) -> bool {
        let rewound = storage.stats().get("log.rewound");
        rewound > std::mem::replace(&mut self.rewound, rewound)
    }

    /// Reports data of another program that was skipped, once per kind. For a command that prints all data, this
    /// counts as skipped data; for others it is a note.
    pub(crate) fn print_foreign(&mut self) {
        let Some(storage) = self.opened.clone().filter(|_| self.reads != Reads::Nothing) else {
            return;
        };
        let stats = storage.stats();
        if self.has_rewound(&storage) {
            self.warn(
                "the event at the cursor no longer exists, after a restored backup or a power loss: its segment was read from its beginning, so events may be printed twice",
            );
        }
        for kind in ForeignKind::ALL {
            let count = stats.get(kind.counter());
            if count > 0 && !self.foreign.contains(&kind) {
                self.foreign.push(kind);
                let root = storage.capabilities().root.unwrap_or_default();
                let remedy = match kind {
                    ForeignKind::EventFiles | ForeignKind::Checkpoints | ForeignKind::DeadLetters => format!(
                        "; `{0} import {1}` stores the contents of those that it knows, which are then not reported again; `{0} doctor` says what to do \
                         about the others",
                        tool(&self.global),
                        as_word(&root)
                    ),
                    ForeignKind::Worktrees => String::new(),
                    ForeignKind::OtherThings => {
                        format!("; `{} doctor` says what to do about each", tool(&self.global))
                    }
                    _ => format!("; `{} doctor --verbose` names them", tool(&self.global)),
                };
                let what = format!("{}: not read, and left untouched{remedy}", kind.describe(count));
                match self.reads {
                    Reads::All => self.skipped(&what),
                    // A thing of another kind at the path of the store's data may hide data from the list.
                    Reads::Some if kind == ForeignKind::OtherThings && !self.writes => self.skipped(&what),
                    _ => self.note(&what),
                }
            }
        }
    }

    /// Reports that an event was skipped because it is larger than this reader's limit.
    pub(crate) fn too_large(&mut self, record: &TooLarge) {
        self.skipped(&record.to_string());
        self.hint(&record.hint());
    }

    /// Reports data that was skipped because of an error of storage.
    pub(crate) fn skipped_by(&mut self, error: &StorageError) {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        self.skipped(&format!("{}: {}{cause}", error.target(), error.why()));
        if let Some(hint) = error.hint() {
            self.hint(hint);
        }
    }

    /// Reports data that can't be read, so that a listing continues with the rest: damage, another thing in the way, and data that
    /// the system refuses to this process. Any other error is about more than this data, and is returned.
    pub(crate) fn pass_over(&mut self, error: StorageError) -> Result<()> {
        match error.kind() {
            ErrorKind::Damaged => self.damaged_by(&error),
            ErrorKind::Refused => self.skipped_by(&error),
            ErrorKind::Io if !error.is_transient() => self.skipped_by(&error),
            _ => return Err(error.into()),
        }
        Ok(())
    }

    /// The same for a failure of a part of the command.
    pub(crate) fn pass_over_failure(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::Storage(error) => self.pass_over(error),
            failure => Err(failure),
        }
    }

    fn print_stats(&mut self) {
        if !self.global.verbose {
            return;
        }
        let Some(storage) = self.opened.take() else { return };
        let counters: Vec<String> = storage
            .stats()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !counters.is_empty() {
            self.note(&counters.join(", "));
        }
    }
}

/// The indentation of what is about a finding.
const INDENT: usize = 9;

/// The lines of a finding: a word for its severity or outcome, and a text that is broken to fit this width.
pub(crate) fn finding(word: &str, what: &str, width: Option<usize>) -> Vec<Line> {
    let styles = style_of(word).map(|style| (0..word.len(), style));
    let text = format!("{word:<8} {what}");
    let mut lines: Vec<Line> = (wrapped(&text, width, INDENT).into_iter().map(Line::from)).collect();
    if let Some(first) = lines.first_mut() {
        first.styles.extend(styles);
    }
    lines
}

/// The lines of a text about a finding. A command is never broken, so that it can be pasted.
pub(crate) fn detail(label: &str, text: &str, width: Option<usize>) -> Vec<Line> {
    let text = format!("{:INDENT$}{label}: {text}", "");
    let width = width.filter(|_| label != RUN);
    wrapped(&text, width, INDENT)
        .into_iter()
        .map(Line::from)
        .collect()
}

/// The label of a command.
pub(crate) const RUN: &str = "run";
