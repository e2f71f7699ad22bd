//! Words, sizes and lines for people.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use prodigy_storage::escape;

/// The style of the word for a state, a severity or an outcome.
pub(crate) fn style_of(word: &str) -> Option<Style> {
    let colour = match word {
        "active" | "held" | "ok" | "valid" => AnsiColor::Green,
        "delayed" | "leased" | "none" | "unread" | "warning" => AnsiColor::Yellow,
        "damage" | "failure" | "mismatch" | "parked" => AnsiColor::Red,
        _ => return None,
    };
    Some(colour.on_default())
}

/// The number of columns that a text takes on a terminal.
pub(crate) fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// The lines of a text that is broken between its words, so that it fits a terminal of this width. The lines after the first one
/// begin with an indentation.
pub(crate) fn wrapped(text: &str, width: Option<usize>, indent: usize) -> Vec<String> {
    let Some(width) = width.filter(|width| *width > 2 * indent) else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    let words = words(text).into_iter().flat_map(|word| match word.contains('`') {
        true => vec![word],
        false => pieces(word, width - indent),
    });
    for (number, word) in words.enumerate() {
        if width_of(&line) + 1 + width_of(word) > width && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent.saturating_sub(1))));
        }
        if number > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The words of a text. A command between backticks is one word, so that it can be pasted.
fn words(text: &str) -> Vec<&str> {
    if !text.matches('`').count().is_multiple_of(2) {
        return text.split(' ').collect();
    }
    let (mut words, mut start, mut is_command) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '`' => is_command = !is_command,
            ' ' if !is_command => {
                words.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    words.extend(text.get(start..));
    words
}

/// A word that is wider than `width`, in pieces; otherwise the word itself.
fn pieces(word: &str, width: usize) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), word);
    while width_of(rest) > width {
        let piece = beginning(rest, width);
        // A character that is wider than the width stays with the rest.
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
        rest = rest.get(piece.len()..).unwrap_or_default();
    }
    pieces.push(rest);
    pieces
}

/// The longest beginning that has at most this width.
pub(crate) fn beginning(text: &str, width: usize) -> &str {
    let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
    let fitting = ends.take_while(|&end| text.get(..end).is_some_and(|text| width_of(text) <= width));
    text.get(..fitting.last().unwrap_or(0)).unwrap_or_default()
}

/// A path in a message of one line: its control characters are escaped, also line breaks.
pub(crate) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

/// A number of bytes in readable units: `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    format!("{scaled:.1} {unit}")
}

/// A number with its noun: `1 event`, `2 events`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, of: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {of}{plural}")
}

/// Parses a number of at least one.
///
/// # Errors
/// The reason alone: clap adds the flag and its value.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    let number: usize = text
        .parse()
        .map_err(|_| "write a whole number, such as `10`".to_owned())?;
    NonZeroUsize::new(number).ok_or_else(|| "it has to be at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_its_words() {
        let text = "warning  inodes: 12 are free on the file system";
        assert_eq!(wrapped(text, None, 9), [text]);
        assert_eq!(wrapped(text, Some(80), 9), [text]);
        assert_eq!(
            wrapped(text, Some(30), 9),
            ["warning  inodes: 12 are free", "         on the file system"]
        );
        let command = "`prodigy-storage repo relink shop /srv/work/shop`,";
        assert_eq!(
            wrapped(&format!("to do: run {command} or wait"), Some(30), 4),
            ["to do: run", &format!("    {command}"), "    or wait"]
        );
        assert_eq!(
            wrapped("         lost: the events at this place", Some(30), 9),
            ["         lost: the events at", "         this place"]
        );
        let path = format!("root: /{} is not there", "a".repeat(40));
        let lines = wrapped(&path, Some(30), 4);
        assert!(lines.iter().all(|line| width_of(line) <= 30), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), path.replace(' ', ""));
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 40), "3.0 TiB");
        assert_eq!(counted(1_usize, "event"), "1 event");
        assert_eq!(counted(0_u64, "event"), "0 events");
    }
}
