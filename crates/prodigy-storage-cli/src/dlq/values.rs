//! Splits a text into JSON objects: one per line, pretty-printed, or in arrays.

use serde_json::value::RawValue;

/// A part of the input.
#[derive(Debug)]
pub(super) enum Piece {
    /// An object, after the number of its first line.
    Object(u64, Box<RawValue>),
    /// Text that is no object: the number of its first line, and the reason.
    Refused(u64, String),
}

/// Splits lines into objects. Only one object is in memory.
///
/// An object without an end (the input was truncated, or a brace is missing) ends before the next line that begins with
/// `{` in its first column, and reading continues there: an object of JSON lines begins there, and so does a
/// pretty-printed one, whose inner objects are indented.
#[derive(Debug)]
pub(super) struct Objects {
    longest: usize,
    text: Vec<u8>,
    /// The line number at which the current object begins; 0 outside of an object.
    begun: u64,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// True after an object without an end, up to the next line that begins with `{`.
    lost: bool,
    /// The number of arrays around the current object.
    arrays: u64,
    /// The first line of the outermost array.
    array_begun: u64,
}

impl Objects {
    /// Limits objects to this number of bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            longest,
            text: Vec::new(),
            begun: 0,
            depth: 0,
            in_text: false,
            escaped: false,
            lost: false,
            arrays: 0,
            array_begun: 0,
        }
    }

    /// Reads a line without its line end.
    pub(super) fn line(&mut self, number: u64, line: &[u8], found: &mut Vec<Piece>) {
        if line.first() == Some(&b'{') {
            self.end_object(found);
            self.lost = false;
        }
        if self.lost {
            return;
        }
        for (at, &byte) in line.iter().enumerate() {
            if self.begun > 0 {
                self.within(byte, found);
            } else {
                match byte {
                    b'{' => {
                        self.begun = number;
                        self.within(byte, found);
                    }
                    b'[' => {
                        if self.arrays == 0 {
                            self.array_begun = number;
                        }
                        self.arrays += 1;
                    }
                    b']' => self.arrays = self.arrays.saturating_sub(1),
                    b',' => {}
                    byte if byte.is_ascii_whitespace() => {}
                    // Skips a byte order mark, which some programs write.
                    _ if number == 1 && at < 3 && line.starts_with(b"\xef\xbb\xbf") => {}
                    _ => {
                        found.push(Piece::Refused(number, "an item is a JSON object".to_owned()));
                        return;
                    }
                }
            }
            if self.lost {
                return;
            }
        }
        if self.begun > 0 {
            if self.in_text {
                self.give_up(found, "a text does not end on its line");
            } else {
                self.text.push(b'\n');
            }
        }
    }

    /// Ends the input.
    pub(super) fn end(&mut self, found: &mut Vec<Piece>) {
        let is_cut = self.begun > 0 || self.lost;
        self.end_object(found);
        // If an object in the array is truncated, that was reported already, and the array is not reported as well.
        if self.arrays > 0 && !is_cut {
            let why = "the array does not end: the file may have been cut off, and items may be missing";
            found.push(Piece::Refused(self.array_begun, why.to_owned()));
        }
        self.arrays = 0;
    }

    /// Reports the current object as unfinished, if there is one: the input that follows does not belong to it.
    pub(super) fn end_object(&mut self, found: &mut Vec<Piece>) {
        if self.begun > 0 {
            self.give_up(found, "the object does not end");
        }
    }

    /// Reads a byte of an object.
    fn within(&mut self, byte: u8, found: &mut Vec<Piece>) {
        if self.text.len() >= self.longest {
            let why = format!(
                "the object is larger than {} bytes: raise `backend_config.max_record_size`, or keep large data in a file \
                 and its path in the item",
                self.longest
            );
            self.give_up(found, &why);
            return;
        }
        self.text.push(byte);
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.complete(found);
                }
            }
            _ => {}
        }
    }

    /// Completes an object: its braces match.
    fn complete(&mut self, found: &mut Vec<Piece>) {
        let (begun, text) = self.reset();
        let parsed = String::from_utf8(text)
            .map_err(|error| format!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
            .and_then(|text| RawValue::from_string(text).map_err(|error| not_json(begun, &error)));
        found.push(match parsed {
            Ok(object) => Piece::Object(begun, object),
            Err(why) => Piece::Refused(begun, why),
        });
    }

    fn give_up(&mut self, found: &mut Vec<Piece>, why: &str) {
        let (begun, _) = self.reset();
        self.lost = true;
        found.push(Piece::Refused(begun, why.to_owned()));
    }

    fn reset(&mut self) -> (u64, Vec<u8>) {
        self.depth = 0;
        (self.in_text, self.escaped) = (false, false);
        (std::mem::take(&mut self.begun), std::mem::take(&mut self.text))
    }
}

/// The message of the parser, with the line in the input instead of the line in the object.
fn not_json(begun: u64, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let line = begun + (error.line() as u64).saturating_sub(1);
    format!("it is not JSON: {said} at line {line}, column {}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Vec<(u64, String)>;

    /// The compacted objects, and the refused lines.
    fn split(text: &str, longest: usize) -> (Lines, Lines) {
        let mut found = Vec::new();
        let mut objects = Objects::new(longest);
        for (number, line) in (1..).zip(text.split('\n')) {
            objects.line(number, line.as_bytes(), &mut found);
        }
        objects.end(&mut found);
        let (mut whole, mut refused) = (Vec::new(), Vec::new());
        for piece in found {
            match piece {
                Piece::Object(line, object) => whole.push((line, crate::json::compact(object.get()))),
                Piece::Refused(line, why) => refused.push((line, why)),
            }
        }
        (whole, refused)
    }

    fn of(lines: &[(u64, &str)]) -> Lines {
        lines
            .iter()
            .map(|&(line, text)| (line, text.to_owned()))
            .collect()
    }

    #[test]
    fn lines_arrays_and_pretty_printed_objects_are_read() {
        for text in [
            "{\"a\":1}\n{\"b\":[2,{}]}",
            "\u{feff}{\"a\":1}\r\n{\"b\":[2,{}]}\r\n",
            "[{\"a\":1},\n{\"b\":[2,{}]}]\n",
            "{\"a\":1}{\"b\":[2,{}]}",
        ] {
            let (whole, refused) = split(text, 100);
            let objects: Vec<&str> = whole.iter().map(|(_, object)| object.as_str()).collect();
            assert_eq!(objects, [r#"{"a":1}"#, r#"{"b":[2,{}]}"#], "{text}");
            assert!(refused.is_empty(), "{text}: {refused:?}");
        }
        let pretty = "{\n  \"a\": {\n    \"}\\\"\": 1\n  }\n}\n\n[\n  {\n    \"b\": 2\n  }\n]\n";
        assert_eq!(
            split(pretty, 100),
            (of(&[(1, r#"{"a":{"}\"":1}}"#), (8, r#"{"b":2}"#)]), vec![])
        );
    }

    #[test]
    fn a_broken_object_costs_itself_alone() {
        for broken in [
            "{\"a\":",
            "{\"a\":\"x",
            "{\"a\":1]]",
            "7",
            "{\"a\":}",
            "\"text\"",
            "{\"a\":{\n  \"b\":1",
        ] {
            let (whole, refused) = split(&format!("{{\"n\":1}}\n{broken}\n{{\"n\":2}}\n"), 100);
            let objects: Vec<&str> = whole.iter().map(|(_, object)| object.as_str()).collect();
            assert_eq!(objects, [r#"{"n":1}"#, r#"{"n":2}"#], "{broken}");
            assert_eq!(
                refused.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
                [2],
                "{broken}"
            );
        }
    }

    #[test]
    fn an_object_over_the_limit_is_refused_and_takes_no_more_memory() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(200));
        let (whole, refused) = split(&format!("{large}\n{{\"n\":2}}"), 100);
        assert_eq!(whole, of(&[(2, r#"{"n":2}"#)]));
        assert!(refused[0].1.contains("larger than 100 bytes"), "{refused:?}");
    }

    #[test]
    fn an_array_that_does_not_end_is_refused_and_its_objects_are_read() {
        for (text, line) in [
            ("[{\"n\":1},\n{\"n\":2}", 1),
            ("\n[\n  {\"n\":1},\n  {\"n\":2}\n", 2),
            ("[[{\"n\":1}],[{\"n\":2}]", 1),
            ("{\"n\":1}\n[{\"n\":2},", 2),
        ] {
            let (whole, refused) = split(text, 100);
            assert_eq!(whole.len(), 2, "{text}");
            assert_eq!(refused.len(), 1, "{text}: {refused:?}");
            assert_eq!(refused[0].0, line, "{text}");
            assert!(refused[0].1.contains("does not end"), "{refused:?}");
        }
        // An array that is truncated within an object is reported once.
        assert_eq!(split("[{\"n\":1},{\"n\":", 100).1.len(), 1);
        let (whole, refused) = split(&"[".repeat(1000), 100);
        assert_eq!((whole.len(), refused.len()), (0, 1));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[\\[\\]{}\",:\\\\ \n1a\u{e4}]{0,200}") {
            let (whole, _) = split(&text, 64);
            let all = whole.iter().all(|(_, object)| object.starts_with('{'));
            proptest::prop_assert!(all, "{:?}", whole);
        }
    }
}
