//! Escapes characters that are not safe to print on a terminal.

use std::io::{self, Write};
use std::ops::Range;

use clap::builder::styling::Style;
use prodigy_storage::escape;

/// The number of bytes that are escaped at once.
const CHUNK: usize = 64 << 10;

/// A terminal. Control and format characters are escaped, except line ends and tabs, so that stored text can neither
/// control the terminal nor be hidden on it. Invalid UTF-8 is escaped, too.
pub(crate) struct Terminal<W> {
    inner: W,
    /// The beginning of a character whose other bytes were not written yet.
    begun: Vec<u8>,
}

impl<W: Write> Terminal<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            begun: Vec::new(),
        }
    }

    /// The underlying stream. For text of the tool itself, which is escaped already.
    fn inner(&mut self) -> &mut W {
        &mut self.inner
    }
}

/// Standard output: a terminal, or a stream that gets every byte unchanged.
pub(crate) enum Output<W> {
    Terminal(Terminal<W>),
    Plain(W),
}

impl<W: Write> Output<W> {
    /// Writes a line in which some ranges have a style. On a terminal, the text is escaped.
    pub(crate) fn styled(&mut self, line: &str, styles: &[(Range<usize>, Style)]) -> io::Result<()> {
        let shows = |text: &str| match self {
            Self::Terminal(_) => {
                let mut shown = String::new();
                show(text, &mut shown);
                shown
            }
            Self::Plain(_) => text.to_owned(),
        };
        let (mut styled, mut at) = (String::new(), 0);
        for (range, style) in styles {
            // The line may have been cut before the range.
            let range = range.start..range.end.min(line.len());
            let Some(text) = line.get(range.clone()) else {
                break;
            };
            styled.push_str(&shows(line.get(at..range.start).unwrap_or_default()));
            styled.push_str(&format!("{style}{}{style:#}", shows(text)));
            at = range.end;
        }
        styled.push_str(&shows(line.get(at..).unwrap_or_default()));
        styled.push('\n');
        let inner = match self {
            Self::Terminal(terminal) => terminal.inner(),
            Self::Plain(inner) => inner,
        };
        inner.write_all(styled.as_bytes())
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(terminal) => terminal.write(bytes),
            Self::Plain(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.flush(),
            Self::Plain(inner) => inner.flush(),
        }
    }
}

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..CHUNK).unwrap_or(bytes);
        let mut whole = std::mem::take(&mut self.begun);
        whole.extend_from_slice(taken);
        let mut shown = String::with_capacity(whole.len());
        let mut chunks = whole.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            show(chunk.valid(), &mut shown);
            let invalid = chunk.invalid();
            let cut = chunks.peek().is_none()
                && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if cut {
                self.begun = invalid.to_vec();
            } else {
                show_bytes(invalid, &mut shown);
            }
        }
        self.inner.write_all(shown.as_bytes())?;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut shown = String::new();
        show_bytes(&std::mem::take(&mut self.begun), &mut shown);
        self.inner.write_all(shown.as_bytes())?;
        self.inner.flush()
    }
}

fn show(text: &str, shown: &mut String) {
    for piece in text.split_inclusive(['\n', '\t']) {
        let plain = piece.trim_end_matches(['\n', '\t']);
        shown.push_str(&escape(plain));
        shown.push_str(piece.get(plain.len()..).unwrap_or_default());
    }
}

fn show_bytes(bytes: &[u8], shown: &mut String) {
    for byte in bytes {
        shown.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(writes: &[&[u8]]) -> String {
        let mut output = Vec::new();
        let mut terminal = Terminal::new(&mut output);
        for bytes in writes {
            terminal.write_all(bytes).unwrap();
        }
        terminal.flush().unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn what_drives_or_hides_is_escaped_and_the_rest_passes() {
        for hidden in "\u{1b}\u{7f}\u{9b}\r\u{202e}\u{2066}\u{200b}\u{feff}\u{61c}\u{ad}\u{e0041}".chars() {
            let text = format!("a{hidden}b\tc\n");
            let wanted = format!("a{}b\tc\n", hidden.escape_unicode());
            assert_eq!(shown(&[text.as_bytes()]), wanted);
        }
        assert_eq!(
            shown(&["\n\nä\t€ \u{1f600}\n".as_bytes()]),
            "\n\nä\t€ \u{1f600}\n"
        );
    }

    #[test]
    fn a_style_goes_around_its_range_and_what_drives_a_terminal_is_escaped_on_one() {
        let style = Style::new().bold();
        let styled = |mut output: Output<Vec<u8>>, line: &str| {
            output.styled(line, &[(2..4, style), (7..9, style)]).unwrap();
            let inner = match output {
                Output::Terminal(terminal) => terminal.inner,
                Output::Plain(inner) => inner,
            };
            String::from_utf8(inner).unwrap()
        };
        let terminal = || Output::Terminal(Terminal::new(Vec::new()));
        assert_eq!(
            styled(terminal(), "a ok \u{1b} no"),
            "a \u{1b}[1mok\u{1b}[0m \\u{1b} \u{1b}[1mno\u{1b}[0m\n"
        );
        assert_eq!(styled(terminal(), "a ok"), "a \u{1b}[1mok\u{1b}[0m\n");
        assert_eq!(styled(terminal(), "a o"), "a \u{1b}[1mo\u{1b}[0m\n");
        assert_eq!(styled(terminal(), "a"), "a\n");
        assert_eq!(
            styled(Output::Plain(Vec::new()), "a ok \r"),
            "a \u{1b}[1mok\u{1b}[0m \r\n"
        );
    }

    #[test]
    fn a_character_may_come_in_pieces_and_bytes_that_are_no_text_are_escaped() {
        let text = "ä\u{9b}\u{1f600}\u{202e}".as_bytes();
        let pieces: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(shown(&pieces), "ä\\u{9b}\u{1f600}\\u{202e}");
        assert_eq!(shown(&[b"a\x9bb\xe2\x80"]), "a\\x9bb\\xe2\\x80");
        let long = "€".repeat(CHUNK);
        assert_eq!(shown(&[long.as_bytes()]), long);
    }
}
