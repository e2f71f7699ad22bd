//! The failures that stop a command, and their messages.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, Write};

use clap::error::ErrorKind as ParseErrorKind;
use prodigy_storage::config::ConfigErrors;
use prodigy_storage::{ErrorKind, NameError, StorageError, escape};

use crate::console::Console;
use crate::exit::Exit;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The failure that stops a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output is gone, which is no failure of a command that only reads.
    Closed,
    /// An error of storage.
    Storage(StorageError),
    /// An error of the tool itself.
    Told(Box<Message>),
}

/// The message of an error of the tool.
#[derive(Debug)]
pub(crate) struct Message {
    exit: Exit,
    what: String,
    hint: Option<Cow<'static, str>>,
}

impl Failure {
    /// An error with this exit code and message.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::Told(Box::new(Message {
            exit,
            what: what.into(),
            hint: None,
        }))
    }

    /// The failure for a refused command line.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Adds a hint to an error of the tool.
    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        if let Self::Told(message) = &mut self {
            message.hint = Some(hint.into());
        }
        self
    }

    /// The failure if standard output can't be written.
    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::new(Exit::Failed, format!("write to standard output: {error}"))
    }

    /// The failure if standard output was closed from the start, so that the result of the command would be lost.
    pub(crate) fn closed_from_start() -> Self {
        Self::new(Exit::Failed, "write to standard output: it is closed; nothing was done").hint(
            "give the command a standard output; if nobody wants it, `> /dev/null`, which opens that for writing only: open \
             for reading and writing, it looks like a closed output",
        )
    }

    /// An error of storage about a place in the input.
    pub(crate) fn at(place: impl Display, error: &StorageError) -> Self {
        let mut failure = Self::new(exit_of(error), format!("{place}: {error:#}"));
        if let (Self::Told(message), Some(hint)) = (&mut failure, error.hint()) {
            message.hint = Some(hint.to_owned().into());
        }
        failure
    }

    /// The message: the failed operation, and the reason.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Closed => "write to standard output: its reader is gone".to_owned(),
            Self::Storage(error) => format!("{error:#}"),
            Self::Told(message) => message.what.clone(),
        }
    }

    /// The exit code of the process.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed => Exit::Done,
            Self::Storage(error) => exit_of(error),
            Self::Told(message) => message.exit,
        }
    }

    /// Prints the message.
    pub(crate) fn print(&self, to: &mut dyn Write) {
        match self {
            Self::Closed => {}
            Self::Storage(error) => print_storage(error, to),
            Self::Told(message) => {
                say(to, "error", &message.what);
                if let Some(hint) = &message.hint {
                    say(to, "hint", hint);
                }
            }
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A name on the command line is invalid.
impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        let hint = error.hint();
        Self::usage(error.to_string()).hint(hint)
    }
}

/// True if an error is about this value only, so that other values can be stored.
pub(crate) fn is_about_the_value(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
}

fn exit_of(error: &StorageError) -> Exit {
    match error.kind() {
        ErrorKind::InvalidConfig => Exit::Usage,
        ErrorKind::LockUnavailable => Exit::Locked,
        ErrorKind::NotFound => Exit::Missing,
        ErrorKind::Damaged => Exit::Damaged,
        ErrorKind::Foreign => Exit::Skipped,
        ErrorKind::Interrupted => crate::signals::last().map_or(Exit::Failed, Exit::Signal),
        _ => Exit::Failed,
    }
}

fn print_storage(error: &StorageError, to: &mut dyn Write) {
    if let Some(errors) = error
        .source()
        .and_then(|cause| cause.downcast_ref::<ConfigErrors>())
    {
        print_config(errors, to);
        return;
    }
    say(to, "error", &format!("{error:#}"));
    if let Some(hint) = error.hint() {
        say(to, "hint", hint);
    }
}

/// Prints every error of a configuration.
pub(crate) fn print_config(errors: &ConfigErrors, to: &mut dyn Write) {
    for error in errors {
        say(to, "error", &error.to_string());
    }
}

/// Writes `label: text`, with control characters escaped except line ends. Write failures are ignored.
pub(crate) fn say(to: &mut dyn Write, label: &str, text: &str) {
    let mut said = format!("{label}: ");
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            said.push('\n');
        }
        said.push_str(&escape(line));
    }
    said.push('\n');
    let _ = to.write_all(said.as_bytes());
}

/// Prints the errors of a command line, or the requested help or version.
pub(crate) fn command_line(error: &clap::Error, console: &mut Console<'_>) -> Exit {
    if matches!(
        error.kind(),
        ParseErrorKind::DisplayHelp | ParseErrorKind::DisplayVersion
    ) {
        let written = console
            .output
            .write_all(error.render().to_string().as_bytes())
            .and_then(|()| console.output.flush());
        return match written.map_err(Failure::output) {
            Ok(()) | Err(Failure::Closed) => Exit::Done,
            Err(failure) => {
                failure.print(&mut console.errors);
                failure.exit()
            }
        };
    }
    // Rendered without styles, and escaped: the message repeats the user's text.
    let text = error.render().to_string();
    let said: String = text
        .lines()
        .map(|line| format!("{}\n", escape(&cut(line))))
        .collect();
    let _ = console.errors.write_all(said.as_bytes());
    Exit::Usage
}

/// Cuts an overlong line.
fn cut(line: &str) -> Cow<'_, str> {
    const LONGEST: usize = 400;
    match line.char_indices().nth(LONGEST) {
        None => Cow::Borrowed(line),
        Some((at, _)) => Cow::Owned(format!("{}...", line.get(..at).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_lines_kept() {
        let mut printed = Vec::new();
        say(&mut printed, "error", "what \u{1b}[31m\n  where: x\r");
        assert_eq!(printed, b"error: what \\u{1b}[31m\n  where: x\\u{d}\n");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.exit(), Exit::Done);
        let mut printed = Vec::new();
        closed.print(&mut printed);
        assert!(printed.is_empty());
        assert_eq!(
            Failure::output(io::ErrorKind::StorageFull.into()).exit(),
            Exit::Failed
        );
    }
}
