//! Parses the parts of git's configuration format that are needed to identify a repository.
//!
//! Sections, subsections, quotes, escapes, comments and continued lines are read as git reads them. `include` and
//! `includeIf` are not followed. A line that git would refuse is skipped.

/// A setting: `key = value` below `[section "subsection"]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The name of the section, in lower case.
    pub(crate) section: Vec<u8>,
    pub(crate) subsection: Option<Vec<u8>>,
    /// The name of the key, in lower case.
    pub(crate) key: Vec<u8>,
    /// The value; `None` for a key without `=`, which means true.
    pub(crate) value: Option<Vec<u8>>,
}

impl Setting {
    /// True if this setting has this section, subsection and key.
    pub(crate) fn is(&self, section: &str, subsection: Option<&str>, key: &str) -> bool {
        self.section == section.as_bytes()
            && self.subsection.as_deref() == subsection.map(str::as_bytes)
            && self.key == key.as_bytes()
    }
}

/// All settings in the contents of a file, in their order.
pub(crate) fn settings(content: &[u8]) -> Vec<Setting> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut reader = Reader { content, at: 0 };
    let mut found = Vec::new();
    let mut section = None;
    while let Some(byte) = reader.peek() {
        match byte {
            _ if byte.is_ascii_whitespace() => reader.at += 1,
            b'#' | b';' => reader.skip_line(),
            b'[' => {
                reader.at += 1;
                section = reader.section();
                if section.is_none() {
                    reader.skip_line();
                }
            }
            _ => match (reader.setting(), &section) {
                (Some((key, value)), Some((section, subsection))) => found.push(Setting {
                    section: Vec::clone(section),
                    subsection: Option::clone(subsection),
                    key,
                    value,
                }),
                (Some(_), None) => {}
                (None, _) => reader.skip_line(),
            },
        }
    }
    found
}

struct Reader<'a> {
    content: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte. A line end `\r\n` in the file is returned as `\n`.
    fn peek(&self) -> Option<u8> {
        match self.content.get(self.at)? {
            b'\r' if self.content.get(self.at + 1) == Some(&b'\n') => Some(b'\n'),
            byte => Some(*byte),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        let is_pair = byte == b'\n' && self.content.get(self.at) == Some(&b'\r');
        self.at += if is_pair { 2 } else { 1 };
        Some(byte)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| byte != b'\n') {}
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn word(&mut self, allowed: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut word = Vec::new();
        while let Some(byte) = self.peek().filter(|byte| allowed(*byte)) {
            word.push(byte.to_ascii_lowercase());
            self.at += 1;
        }
        word
    }

    /// Parses a section's name after `[`: `section]`, `section "subsection"]`, or the older form `section.subsection]`, whose
    /// subsection is in lower case.
    fn section(&mut self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let name = self.word(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if self.peek()? == b']' {
            self.at += 1;
            let mut halves = name.splitn(2, |byte| *byte == b'.');
            let section = halves.next()?.to_vec();
            return Some((section, halves.next().map(<[u8]>::to_vec)));
        }
        self.skip_blanks();
        if self.next()? != b'"' {
            return None;
        }
        let mut subsection = Vec::new();
        loop {
            match self.next()? {
                b'\n' => return None,
                b'"' => break,
                b'\\' => match self.next()? {
                    b'\n' => return None,
                    byte => subsection.push(byte),
                },
                byte => subsection.push(byte),
            }
        }
        (self.next()? == b']').then_some((name, Some(subsection)))
    }

    fn setting(&mut self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        if !self.peek()?.is_ascii_alphabetic() {
            return None;
        }
        let key = self.word(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n') => Some((key, None)),
            Some(b'#' | b';') => {
                self.skip_line();
                Some((key, None))
            }
            Some(b'=') => {
                self.at += 1;
                Some((key, Some(self.value()?)))
            }
            Some(_) => None,
        }
    }

    /// Parses a value. Quotes, escapes, a comment, and the spaces around the value are removed.
    fn value(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let (mut quoted, mut kept) = (false, 0);
        self.skip_blanks();
        loop {
            let byte = match self.peek() {
                None | Some(b'\n') => break,
                Some(b'#' | b';') if !quoted => {
                    self.skip_line();
                    break;
                }
                Some(byte) => byte,
            };
            self.next();
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => match self.next()? {
                    // A backslash at the end of a line: the value continues in the next line.
                    b'\n' => continue,
                    b'n' => value.push(b'\n'),
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    other @ (b'\\' | b'"') => value.push(other),
                    _ => return None,
                },
                _ => value.push(byte),
            }
            if quoted || !byte.is_ascii_whitespace() {
                kept = value.len();
            }
        }
        value.truncate(kept);
        (!quoted).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Vec<(String, String)> {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        settings(text.as_bytes())
            .into_iter()
            .map(|setting| {
                let mut name = text_of(&setting.section);
                for part in setting.subsection.iter().chain([&setting.key]) {
                    name.push('.');
                    name.push_str(&text_of(part));
                }
                (
                    name,
                    setting.value.map_or("(none)".into(), |value| text_of(&value)),
                )
            })
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn sections_and_subsections() {
        let read = one(
            "a = before any section\n[Core]\n\tBare = false\n[remote \"Ori\\\"gin\\\\\"]\nurl = x\n[Remote.Origin] url = y\n\
             [remote \"a b\"]push=z\n",
        );
        assert_eq!(
            read,
            [
                pair("core.bare", "false"),
                pair("remote.Ori\"gin\\.url", "x"),
                pair("remote.origin.url", "y"),
                pair("remote.a b.push", "z"),
            ]
        );
    }

    #[test]
    fn quotes_escapes_comments_and_continued_lines() {
        let read = one(
            "[s]\na = one # two\nb = \"one # two\" ; three\nc =  in  between  \nd = \"  kept  \"\ne = a\\\n  b\n\
             f = x\\ty\\\\z\\\"\ng\nh # comment\ni =\n# j = 1\n; k = 1\nl = 1\r\nm = 2",
        );
        assert_eq!(
            read,
            [
                pair("s.a", "one"),
                pair("s.b", "one # two"),
                pair("s.c", "in  between"),
                pair("s.d", "  kept  "),
                pair("s.e", "a  b"),
                pair("s.f", "x\ty\\z\""),
                pair("s.g", "(none)"),
                pair("s.h", "(none)"),
                pair("s.i", ""),
                pair("s.l", "1"),
                pair("s.m", "2"),
            ]
        );
    }

    #[test]
    fn what_git_refuses_is_skipped() {
        let read =
            one("[s]\n1a = x\na b = x\nc = \\q\nd = \"open\n[broken\ne = 1\n[s \"open]\nf = 1\n[t]\ng = 1\n");
        assert_eq!(read, [pair("t.g", "1")]);
        assert_eq!(one("\u{feff}[s]a = 1"), [pair("s.a", "1")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"[]\"\\=#;\n\r ab.="[..])], 0..200,
        )) {
            for setting in settings(&bytes) {
                prop_assert!(!setting.key.is_empty());
            }
        }
    }
}
