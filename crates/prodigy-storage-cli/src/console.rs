//! The streams that a run reads and writes.

use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::terminal::Terminal;

/// The columns and rows of a terminal that does not report them.
const USUAL: (usize, usize) = (80, 24);

/// The streams of a run. A test, or another program, can pass its own.
pub struct Console<'a> {
    /// Standard input.
    pub input: Box<dyn Read + 'a>,
    /// Returns whether `input` has bytes, or has ended, within a time. Called before each read of lines.
    pub ready: fn(Duration) -> bool,
    /// Standard output, for data only. It need not be buffered. Output to a terminal is escaped before it is written.
    pub output: Box<dyn Write + 'a>,
    /// Standard error, for errors, warnings and counts.
    pub errors: Box<dyn Write + 'a>,
    /// True if `errors` is a terminal, on which progress bars may be drawn.
    pub terminal: bool,
    /// Returns the columns and rows of `output` if it is a terminal; `None` for a pipe or a file.
    pub size: fn() -> Option<(usize, usize)>,
    /// True if words and headings have colours and styles.
    pub colour: bool,
    /// Returns whether the reader of `output` is gone. Called while a following command waits.
    pub closed: fn() -> bool,
    /// True if `output` was closed when the process started. A command whose result is its output is then refused.
    pub closed_from_start: bool,
}

impl Console<'static> {
    /// The streams of this process. Output to a terminal is escaped; output to a pipe or a file is unchanged.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            input: Box::new(io::stdin()),
            ready: |wait| ready(io::stdin(), wait),
            output: output(),
            errors: if io::stderr().is_terminal() {
                Box::new(Terminal::new(io::stderr()))
            } else {
                Box::new(io::stderr())
            },
            terminal: io::stderr().is_terminal(),
            size,
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never && !is_dumb(),
            closed,
            closed_from_start: closed_from_start(),
        }
    }
}

impl<'a> Console<'a> {
    /// Streams without a terminal, and with an empty input.
    #[must_use]
    pub fn of_pipes(output: impl Write + 'a, errors: impl Write + 'a) -> Self {
        Self {
            input: Box::new(io::empty()),
            ready: |_| true,
            output: Box::new(output),
            errors: Box::new(errors),
            terminal: false,
            size: || None,
            colour: false,
            closed: || false,
            closed_from_start: false,
        }
    }
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

/// True for a terminal without colours, unless the environment forces them: `CLICOLOR` and `CI` alone do not.
fn is_dumb() -> bool {
    let is = |name: &str, wanted: fn(&str) -> bool| {
        std::env::var_os(name).is_some_and(|value| value.to_str().is_some_and(wanted))
    };
    is("TERM", |term| term == "dumb") && !is("CLICOLOR_FORCE", |force| force != "0")
}

/// Standard output without the line buffer of the standard library: the tool buffers its output itself.
fn output() -> Box<dyn Write> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// Moves the cursor of the terminal behind standard output to its first line, and clears what is below it. No terminal mode is
/// changed, so nothing has to be restored when the process ends.
pub(crate) fn clear_screen() -> io::Result<()> {
    output().write_all(b"\x1b[H\x1b[J")
}

/// The columns and rows of the terminal behind standard output.
fn size() -> Option<(usize, usize)> {
    let known = |count: u16, usual| match count {
        0 => usual,
        count => usize::from(count),
    };
    io::stdout().is_terminal().then(|| {
        rustix::termios::tcgetwinsize(io::stdout()).map_or(USUAL, |size| {
            (known(size.ws_col, USUAL.0), known(size.ws_row, USUAL.1))
        })
    })
}

/// Waits until a stream can be read without blocking, at most for this time. True if it can. A signal ends the wait.
pub(crate) fn ready(stream: impl AsFd, wait: Duration) -> bool {
    let mut polled = [PollFd::new(&stream, PollFlags::IN)];
    match poll(&mut polled, Timespec::try_from(wait).ok().as_ref()) {
        Ok(count) => count > 0,
        Err(error) => error != rustix::io::Errno::INTR,
    }
}

/// True if the reader of a pipe is gone, which the system reports without a write.
fn closed() -> bool {
    let output = io::stdout();
    let mut polled = [PollFd::new(&output, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut polled, Some(&at_once)) {
        Ok(_) => polled.iter().any(|of| {
            of.revents()
                .intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
        }),
        Err(_) => false,
    }
}

/// True if standard output was closed when the process started. The Rust runtime then opens `/dev/null` for reading
/// and writing, while a shell's `> /dev/null` opens it for writing only.
fn closed_from_start() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let output = io::stdout();
    let is_open_for_both = fcntl_getfl(&output).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    let is_null = |found: &rustix::fs::Stat| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && stat("/dev/null").is_ok_and(|null| null.st_rdev == found.st_rdev)
    };
    is_open_for_both && fstat(&output).is_ok_and(|found| is_null(&found))
}
