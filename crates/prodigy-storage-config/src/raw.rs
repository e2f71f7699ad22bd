//! Values as the sources give them, and their conversion to the types of keys.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::duration::parse_duration;
use crate::kind::BackendKind;
use crate::paths;
use crate::size;
use crate::text::{nearest, shown};

/// A value from a source, before it is parsed in the type of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    Null,
    Bool(bool),
    /// Decimal digits with an optional sign, of any length.
    Integer(&'a str),
    /// A number with a fraction or an exponent, or an infinity or NaN.
    Float(&'a str),
    Text(&'a str),
    List,
    Map,
    /// A date or a time.
    Date,
    /// A text of unknown type, from a flag or from the program.
    Untyped(&'a OsStr),
    /// A text of unknown type, from a variable. If it is a path, the path must be absolute.
    Variable(&'a OsStr),
}

/// The reason why a value is refused, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) why: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Raw<'_> {
    /// The value as it is shown in a message.
    fn shown(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the bool `{value}`"),
            Self::Integer(text) => format!("the integer `{}`", shown(text)),
            Self::Float(text) => format!("the number `{}`", shown(text)),
            Self::Text(text) => format!("the text `{}`", shown(text)),
            Self::List => "a list".to_owned(),
            Self::Map => "a section".to_owned(),
            Self::Date => "a date or time".to_owned(),
            Self::Untyped(text) | Self::Variable(text) => format!("`{}`", shown(&text.to_string_lossy())),
        }
    }

    fn wrong(&self, wanted: &str) -> Problem {
        let problem = Problem::new(format!("{wanted} is wanted, and this is {}", self.shown()));
        match self {
            Self::Null => problem.hint("give it a value, or remove the line to have the default"),
            _ => problem,
        }
    }

    /// The value as text, if it is a text or of unknown type.
    pub(crate) fn text(&self, wanted: &str) -> Result<&str, Problem> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Untyped(text) | Self::Variable(text) => text
                .to_str()
                .ok_or_else(|| Problem::new("it is not valid Unicode")),
            _ => Err(self.wrong(wanted)),
        }
    }

    /// The value as text, like [`text`](Self::text), but an error must not show it.
    pub(crate) fn secret(&self, wanted: &str) -> Result<&str, Problem> {
        self.text(wanted)
            .map_err(|_| Problem::new(format!("{wanted} is expected")).hint("put it between quotes"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, Problem> {
        let wanted = "`true` or `false`";
        let text = match self {
            Self::Bool(value) => return Ok(*value),
            Self::Untyped(_) | Self::Variable(_) => self.text(wanted)?.trim().to_ascii_lowercase(),
            Self::Text(text) => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" | "y" => "write `true`, without quotes",
                    "false" | "no" | "off" | "n" => "write `false`, without quotes",
                    _ => return Err(self.wrong(wanted)),
                };
                return Err(self.wrong(wanted).hint(hint));
            }
            _ => return Err(self.wrong(wanted)),
        };
        match text.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.wrong("`true` or `false` (or `1` or `0`)")),
        }
    }

    pub(crate) fn integer<T: TryFrom<u64>>(&self, max: u64) -> Result<T, Problem> {
        let wanted = "a whole number";
        let text = match self {
            Self::Integer(text) => text,
            Self::Untyped(_) | Self::Variable(_) => self.text(wanted)?.trim(),
            Self::Text(text) if is_integer(text) => {
                return Err(self
                    .wrong(wanted)
                    .hint(format!("write `{}`, without quotes", shown(text))));
            }
            _ => return Err(self.wrong(wanted)),
        };
        if !is_integer(text) {
            return Err(self.wrong(wanted));
        }
        let negative = text.starts_with('-') && text.bytes().any(|b| matches!(b, b'1'..=b'9'));
        if negative {
            return Err(Problem::new("it must not be negative"));
        }
        let too_large = || Problem::new(format!("it is too large: at most {max} is possible"));
        let value = u64::from_str(text.trim_start_matches(['-', '+'])).map_err(|_| too_large())?;
        if value > max {
            return Err(too_large());
        }
        T::try_from(value).map_err(|_| too_large())
    }

    /// True if the value means "not set": `null`, or the word `none`.
    pub(crate) fn is_none(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim() == "none",
            Self::Untyped(text) | Self::Variable(text) => {
                text.to_str().is_some_and(|text| text.trim() == "none")
            }
            _ => false,
        }
    }

    pub(crate) fn bytes(&self, max: u64) -> Result<u64, Problem> {
        match self {
            Self::Integer(_) => self.integer(max),
            Self::Text(text) => size::parse(text, max),
            Self::Untyped(_) | Self::Variable(_) => size::parse(self.text("a size in bytes")?, max),
            Self::Float(_) => Err(self.wrong("a whole number of bytes")),
            _ => Err(self
                .wrong("a size in bytes")
                .hint("write a whole number, or a size such as `100MB` or `100MiB`")),
        }
    }

    pub(crate) fn duration(&self) -> Result<Duration, Problem> {
        let wanted = "a duration with its unit";
        let text = match self {
            Self::Integer(text) | Self::Float(text) => text,
            _ => self.text(wanted)?.trim(),
        };
        if text.starts_with('-') {
            return Err(Problem::new("it must not be negative"));
        }
        if let Ok(seconds) = text.parse::<f64>() {
            let hint = if is_integer(text) {
                format!("for seconds write `{}s`", shown(text))
            } else {
                format!("for seconds write `{}ms`", (seconds * 1000.0).round())
            };
            return Err(self.wrong(wanted).hint(hint));
        }
        parse_duration(text)
            .map_err(|error| Problem::new(error.to_string()).hint("write it as `30s`, `500ms` or `1h 30m`"))
    }

    pub(crate) fn float(&self) -> Result<f64, Problem> {
        let wanted = "a number";
        let text = match self {
            Self::Integer(text) | Self::Float(text) => text,
            Self::Untyped(_) | Self::Variable(_) => self.text(wanted)?.trim(),
            Self::Text(text) if text.parse::<f64>().is_ok() => {
                return Err(self
                    .wrong(wanted)
                    .hint(format!("write `{}`, without quotes", shown(text))));
            }
            _ => return Err(self.wrong(wanted)),
        };
        text.parse().map_err(|_| self.wrong(wanted))
    }

    pub(crate) fn path(&self) -> Result<PathBuf, Problem> {
        match self {
            Self::Untyped(text) => Ok(PathBuf::from(text)),
            Self::Variable(text) => {
                let path = PathBuf::from(text);
                paths::check_whole(&path)?;
                Ok(path)
            }
            Self::Text(text) => Ok(PathBuf::from(text)),
            Self::Null => Err(self
                .wrong("a path")
                .hint("put a path between quotes: a bare `~` is nothing in YAML")),
            Self::Integer(text) | Self::Float(text) => Err(self
                .wrong("a path")
                .hint(format!("put it between quotes: \"{}\"", shown(text)))),
            _ => Err(self.wrong("a path")),
        }
    }

    pub(crate) fn backend(&self) -> Result<BackendKind, Problem> {
        let wanted = "`file`, `memory` or `postgres`";
        let alias = |text: &str| match self {
            Self::Untyped(_) | Self::Variable(_) => text.trim().eq_ignore_ascii_case(BackendKind::FILE_ALIAS),
            _ => text == BackendKind::FILE_ALIAS,
        };
        if alias(self.text(wanted)?) {
            return Ok(BackendKind::File);
        }
        let words: Vec<_> = BackendKind::ALL
            .iter()
            .map(|kind| (kind.as_str(), *kind))
            .collect();
        self.choice(&words)
    }

    /// The meaning of a value that has to be one of several words. Upper and lower case are distinguished only in
    /// a file.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Problem> {
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let mut wanted = String::new();
        for (at, word) in known.iter().enumerate() {
            let between = match at {
                0 => "",
                at if at + 1 == known.len() => " or ",
                _ => ", ",
            };
            wanted.push_str(&format!("{between}`{word}`"));
        }
        let text = self.text(&wanted)?;
        let lower = text.trim().to_ascii_lowercase();
        let same = |word: &str| match self {
            Self::Untyped(_) | Self::Variable(_) => word == lower,
            _ => word == text,
        };
        words
            .iter()
            .find(|(word, _)| same(word))
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let problem = self.wrong(&wanted);
                match nearest(text, known.iter().copied()) {
                    Some(word) => problem.hint(format!("did you mean `{word}`?")),
                    None => problem,
                }
            })
    }
}

/// True if the text consists of decimal digits, perhaps with a sign.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
