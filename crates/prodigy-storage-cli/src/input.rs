//! The input of a command: lines of JSON, or one document.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::console::ready;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::new_file::is_standard;
use crate::progress::Progress;
use crate::signals::Stop;

/// The size of the input buffer, in bytes.
const BUFFER: usize = 64 << 10;
/// If no input arrives for this time, the events or items that were read so far are stored.
const IDLE: Duration = Duration::from_millis(100);
/// The longest time between two stores of a producer that never pauses but sends little.
const BETWEEN: Duration = Duration::from_secs(1);

/// Returns whether an input has bytes, or has ended, within a time.
type Ready = Box<dyn Fn(Duration) -> bool>;

/// The source of input.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct InputArgs {
    /// The file to read; standard input if it is `-` or missing.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// An input that is open.
struct Source<'c> {
    reader: Box<dyn Read + 'c>,
    ready: Ready,
    name: String,
    bytes: Option<u64>,
}

impl InputArgs {
    /// Input that is read from this file.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self { file: Some(file) }
    }

    fn open<'c>(&self, app: &mut App<'c>) -> Result<Source<'c>> {
        let Some(path) = self.file.as_deref().filter(|path| !is_standard(path)) else {
            return Ok(Source {
                reader: std::mem::replace(&mut app.input, Box::new(std::io::empty())),
                ready: Box::new(app.ready),
                name: "standard input".to_owned(),
                bytes: None,
            });
        };
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        let bytes = file
            .metadata()
            .ok()
            .filter(|found| found.is_file())
            .map(|found| found.len());
        let ready: Ready = match file.try_clone() {
            Ok(same) => Box::new(move |wait| ready(&same, wait)),
            Err(_) => Box::new(|_| true),
        };
        Ok(Source {
            reader: Box::new(file),
            ready,
            name,
            bytes,
        })
    }

    /// The lines of the input, each of at most `longest` bytes. From this call on, SIGHUP, SIGINT or SIGTERM ends the
    /// input instead of the process.
    pub(crate) fn lines<'c>(&self, app: &mut App<'c>, longest: usize) -> Result<Lines<'c>> {
        let source = self.open(app)?;
        Ok(Lines {
            progress: Progress::over(source.bytes.unwrap_or_default(), app.terminal),
            reader: BufReader::with_capacity(BUFFER, source.reader),
            ready: source.ready,
            stop: Stop::on_request().ends_waits(),
            paused: Instant::now(),
            begun: false,
            too_long: false,
            name: source.name,
            line: Vec::new(),
            number: 0,
            read: 0,
            longest,
        })
    }

    /// The whole input as one JSON value, byte for byte. At most `longest` bytes and one more are read.
    pub(crate) fn document(&self, app: &mut App<'_>, longest: u64) -> Result<Box<RawValue>> {
        let mut source = self.open(app)?;
        let mut bytes = Vec::new();
        source
            .reader
            .by_ref()
            .take(longest.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&source.name, &error))?;
        let name = &source.name;
        if bytes.len() as u64 > longest {
            let what = format!(
                "read {name}: the state is larger than `max_document_size`, which is {longest} bytes"
            );
            return Err(Failure::new(Exit::Failed, what).hint(
                "keep large data in files of its own and their paths in the state, or raise \
                 `backend_config.max_document_size`",
            ));
        }
        if bytes.len() as u64 > longest / 10 {
            app.warn(&format!(
                "{name} is larger than a tenth of `max_document_size`, which is {longest} bytes: keep large data in files of its own \
                 and their paths in the document"
            ));
        }
        let text = String::from_utf8(without_mark(&bytes).to_vec()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::new(Exit::Failed, format!("read {name}: it is not UTF-8 at byte {at}"))
        })?;
        RawValue::from_string(text).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("read {name}: it is not a JSON value: {error}"),
            )
        })
    }
}

/// The bytes after a byte order mark, which some programs write (RFC 8259, 8.1: a parser may ignore it).
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// The failure for an input that can't be read.
pub(crate) fn unreadable(name: impl std::fmt::Display, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("read {name}: {error}"))
}

/// The lines of an input, one at a time, in bounded memory.
pub(crate) struct Lines<'c> {
    reader: BufReader<Box<dyn Read + 'c>>,
    ready: Ready,
    stop: Stop,
    paused: Instant,
    /// True if `line` holds the beginning of a line whose end was not read yet.
    begun: bool,
    /// True if the current line is too long: its remaining bytes are skipped.
    too_long: bool,
    name: String,
    line: Vec<u8>,
    number: u64,
    read: u64,
    longest: usize,
    progress: Progress,
}

/// A line that is not blank.
pub(crate) struct Line<'a> {
    text: &'a [u8],
    name: &'a str,
    number: u64,
}

/// The next element of an input.
pub(crate) enum Next<'a> {
    /// A line.
    Line(Line<'a>),
    /// A line above the size limit. Reading continues after it.
    TooLong(Failure),
    /// No line has arrived for a while: the caller stores the lines that it has.
    Pause,
    /// The end of the input, or a signal arrived after the last returned line.
    End,
}

/// The result of filling the line buffer.
enum Filled {
    Line,
    TooLong,
    Pause,
    End,
}

impl Lines<'_> {
    /// The next line that is not blank.
    pub(crate) fn next(&mut self) -> Result<Next<'_>> {
        loop {
            match self.fill()? {
                Filled::Line if self.line.trim_ascii().is_empty() => {}
                Filled::Line => break,
                Filled::TooLong => return Ok(Next::TooLong(self.too_long())),
                Filled::Pause => return Ok(Next::Pause),
                Filled::End => return Ok(Next::End),
            }
        }
        if self.number == 1 {
            let mark = self.line.len() - without_mark(&self.line).len();
            self.line.drain(..mark);
        }
        self.progress.at(self.read);
        Ok(Next::Line(Line {
            text: &self.line,
            name: &self.name,
            number: self.number,
        }))
    }

    /// Fills the buffer with the next line, without its line end.
    fn fill(&mut self) -> Result<Filled> {
        loop {
            if self.reader.buffer().is_empty() {
                if self.stop.asked() {
                    self.stop.heard();
                    return Ok(Filled::End);
                }
                if self.paused.elapsed() >= BETWEEN || !(self.ready)(IDLE) {
                    self.paused = Instant::now();
                    return Ok(Filled::Pause);
                }
            }
            let read = match self.reader.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.name, &error)),
            };
            if read.is_empty() {
                self.too_long = false;
                let line = std::mem::take(&mut self.begun);
                return Ok(if line { Filled::Line } else { Filled::End });
            }
            if !self.begun && !self.too_long {
                self.begun = true;
                self.line.clear();
                self.number += 1;
            }
            let end = memchr::memchr(b'\n', read);
            let piece = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
            let is_too_long = self.begun && self.line.len() + piece.len() > self.longest;
            if self.begun && !is_too_long {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.read += used as u64;
            if is_too_long {
                self.begun = false;
                self.too_long = end.is_none();
                return Ok(Filled::TooLong);
            }
            if end.is_some() {
                self.too_long = false;
                if std::mem::take(&mut self.begun) {
                    return Ok(Filled::Line);
                }
            }
        }
    }

    fn too_long(&self) -> Failure {
        let what = format!(
            "{} is longer than {} bytes",
            self.place(self.number),
            self.longest
        );
        Failure::new(Exit::Failed, what).hint(
            "raise `backend_config.max_record_size`, or keep large data in a file and its path in the line",
        )
    }

    /// The place of a line in the input, for a message.
    pub(crate) fn place(&self, number: u64) -> String {
        format!("read {}: line {number}", self.name)
    }

    /// Returns the exit code for the input that was read. Reports a line that a signal cut off.
    pub(crate) fn ended(&self, app: &mut App<'_>) -> Exit {
        let Some(signal) = self.stop.signal() else {
            return Exit::Done;
        };
        if self.begun {
            app.warn(&format!(
                "read {}: line {} had not ended when the signal came, and is not stored",
                self.name, self.number
            ));
        }
        Exit::Signal(signal)
    }
}

impl<'a> Line<'a> {
    /// The bytes of the line, without its line end.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The line number, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The file and the line number, for a message.
    pub(crate) fn place(&self) -> String {
        format!("read {}: line {}", self.name, self.number)
    }

    /// Parses the line.
    pub(crate) fn parse<T: Deserialize<'a>>(&self, wanted: &str) -> Result<T> {
        let text = std::str::from_utf8(self.text).map_err(|error| {
            let what = format!("{} is not UTF-8 at byte {}", self.place(), error.valid_up_to());
            Failure::new(Exit::Failed, what)
        })?;
        serde_json::from_str(text).map_err(|error| {
            let said = error.to_string();
            // The parser counts lines within this one line. For a value of the wrong type its message shows the value,
            // which is stored data and must not be shown; names of fields may be shown.
            let named = ["missing field `", "unknown field `", "duplicate field `"];
            let said = match said.split(" at line ").next() {
                Some(said) if !error.is_data() || named.iter().any(|start| said.starts_with(start)) => said,
                _ => "it has another shape",
            };
            let what = format!(
                "{} is not {wanted}: {said} at column {}",
                self.place(),
                error.column()
            );
            Failure::new(Exit::Failed, what)
        })
    }
}
