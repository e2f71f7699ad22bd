//! The error for a text that is not a valid name.

use std::fmt;

use crate::name_rule::{MAX_NAME_BYTES, is_unprintable};

/// The largest number of characters of a refused name that a message shows.
const SHOWN: usize = 48;

/// The error for a text that is not a valid name.
///
/// The message is safe to print on a terminal: the name in it is escaped and truncated.
///
/// ```
/// use prodigy_storage_layout::{JobId, NameProblem};
///
/// let error = JobId::new(".hidden").unwrap_err();
/// assert_eq!((error.kind(), error.reason()), ("job id", NameProblem::LeadingDot));
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown} is refused: {problem}")]
pub struct NameError {
    kind: &'static str,
    shown: String,
    problem: NameProblem,
}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NameError {
    pub(crate) fn new(kind: &'static str, name: &str, problem: NameProblem) -> Self {
        Self {
            kind,
            shown: show(name),
            problem,
        }
    }

    /// The kind of name that was expected: `"repository name"`, `"job id"`, `"session id"`, `"agent id"`, `"lock name"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The name as it appears in the message: quoted, escaped and truncated.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The rule that the text breaks. If it breaks several, the first one that was checked.
    #[must_use]
    pub fn reason(&self) -> NameProblem {
        self.problem
    }

    /// A hint for the user.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.problem {
            NameProblem::Empty => "give a name of 1 to 128 bytes",
            NameProblem::EmptyPart => "leave out doubled slashes and those at the start and the end",
            NameProblem::TooLong { .. } => {
                "shorten it to at most 128 bytes (a letter outside ASCII takes 2 to 4)"
            }
            NameProblem::Dots => "`.` and `..` stand for folders; choose another name",
            NameProblem::LeadingDot => {
                "names that start with a dot are reserved for temporary files; leave the dot out"
            }
            NameProblem::Separator { .. } => {
                "a name is one part of a path: use `-` or `_` in place of `/` and `\\`"
            }
            NameProblem::Control { .. } => "leave out control, invisible and unassigned characters",
            NameProblem::Space { .. } => "use plain spaces only, and only between other characters",
            NameProblem::NotNfc => "write it in Unicode normalisation form C, with composed letters",
            NameProblem::ReservedOnWindows => "Windows keeps this name for a device; add a letter to it",
            NameProblem::TooManyParts { .. } => "join at most 4 names by `/`",
        }
    }
}

/// The rule that a refused name breaks.
///
/// ```
/// use prodigy_storage_layout::{JobId, NameProblem};
///
/// assert_eq!(JobId::new("").unwrap_err().reason(), NameProblem::Empty);
/// assert_eq!(JobId::new("con").unwrap_err().reason(), NameProblem::ReservedOnWindows);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameProblem {
    /// The name is empty.
    Empty,
    /// A part of a lock name is empty.
    EmptyPart,
    /// The name is longer than 128 bytes.
    TooLong {
        /// The length of the name in bytes.
        bytes: usize,
    },
    /// The name is `.` or `..`.
    Dots,
    /// The name starts with a dot.
    LeadingDot,
    /// The name contains a slash or a backslash.
    Separator {
        /// The character.
        char: char,
        /// The offset of the character in the name, in bytes.
        at: usize,
    },
    /// The name contains a control, format, private-use or unassigned character, or a line or paragraph separator.
    Control {
        /// The character.
        char: char,
        /// The offset of the character in the name, in bytes.
        at: usize,
    },
    /// The name contains white space other than U+0020, or starts or ends with a space.
    Space {
        /// The character.
        char: char,
        /// The offset of the character in the name, in bytes.
        at: usize,
    },
    /// The name is not in Unicode normalisation form C.
    NotNfc,
    /// Windows treats the name as a device (`CON`, `LPT1.txt`, ...).
    ReservedOnWindows,
    /// The lock name has more than 4 parts.
    TooManyParts {
        /// The number of parts in the name.
        parts: usize,
    },
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::EmptyPart => f.write_str("one of its parts is empty"),
            Self::TooLong { bytes } => {
                write!(f, "it is {bytes} bytes long, and {MAX_NAME_BYTES} is the most")
            }
            Self::Dots => f.write_str("`.` and `..` are not names"),
            Self::LeadingDot => f.write_str("it starts with a dot"),
            Self::Separator { char, at } => write!(f, "it holds the path separator `{char}` at byte {at}"),
            Self::Control { char, at } => write!(
                f,
                "it holds the control or invisible character U+{:04X} at byte {at}",
                u32::from(*char)
            ),
            Self::Space { char, at } => {
                write!(
                    f,
                    "it holds the white space U+{:04X} at byte {at}",
                    u32::from(*char)
                )
            }
            Self::NotNfc => f.write_str("it is not in Unicode normalisation form C"),
            Self::ReservedOnWindows => f.write_str("it is reserved on Windows"),
            Self::TooManyParts { parts } => write!(f, "it has {parts} parts, and 4 is the most"),
        }
    }
}

/// Quotes a name for a message, and escapes every character that is not plainly printable. The escapes of `str` would
/// leave some invisible characters unchanged.
fn show(name: &str) -> String {
    let mut out = String::from("\"");
    for c in name.chars().take(SHOWN) {
        if c == '"' || c == '\\' {
            out.push('\\');
            out.push(c);
        } else if c == ' ' || !is_unprintable(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out.push('"');
    if name.chars().nth(SHOWN).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_no_raw_control_or_bidi_character() {
        let error = NameError::new("job id", "a\u{1b}[2J\u{202e}\"\\é", NameProblem::Empty);
        assert_eq!(error.shown(), r#""a\u{1b}[2J\u{202e}\"\\é""#);
    }

    #[test]
    fn a_long_name_is_cut_in_the_message() {
        let error = NameError::new("job id", &"x".repeat(4096), NameProblem::TooLong { bytes: 4096 });
        let text = error.to_string();
        assert!(text.len() < 160, "{text}");
        assert!(text.contains("4096 bytes") && text.contains("x\"..."), "{text}");
        let error = NameError::new("job id", &"x".repeat(SHOWN), NameProblem::Empty);
        assert!(!error.shown().contains("..."));
    }
}
