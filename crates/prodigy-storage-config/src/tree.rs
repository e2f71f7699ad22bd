//! A parsed configuration file: values with positions.

use std::rc::Rc;

use crate::raw::Raw;

/// The largest depth of nesting that is accepted; the keys need only three levels.
pub(crate) const MAX_DEPTH: usize = 64;

/// A position in a file. Line and column are counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and its position.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Integer(String),
    Float(String),
    Text(String),
    /// A list. Its items are kept only for merge keys, which can refer to a list of maps.
    List(Vec<Rc<Node>>),
    Map(Map),
    Date,
}

#[derive(Debug, Default)]
pub(crate) struct Map {
    pub(crate) entries: Vec<Entry>,
    /// Repeated keys, each with the position of its first occurrence.
    pub(crate) repeated: Vec<(Entry, Position)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Rc<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) position: Position,
}

/// The result of parsing a file: the part that could be parsed, and the errors.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The root of the file; `None` if the file is empty.
    pub(crate) root: Option<Rc<Node>>,
    pub(crate) faults: Vec<Fault>,
}

/// A syntax error in a file.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) position: Position,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    /// For the error of a repeated key: the position of its first occurrence.
    pub(crate) first: Option<Position>,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(position: Position, what: impl Into<String>) -> Self {
        Self {
            position,
            what: what.into(),
            why: None,
            first: None,
            hint: None,
        }
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    #[cfg(feature = "toml")]
    pub(crate) fn first(mut self, first: Position) -> Self {
        self.first = Some(first);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn too_deep(position: Position) -> Self {
        Self::new(position, format!("nested more than {MAX_DEPTH} levels deep"))
    }
}

impl Map {
    /// All entries, including repeated keys, so that errors in their values are found too.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .chain(self.repeated.iter().map(|(again, _)| again))
    }
}

impl Entry {
    /// The entry with its dotted key converted to sections, where `is_section` is true: `a.b: 1` becomes `a: {b:
    /// 1}`.
    pub(crate) fn undotted(&self, is_section: impl Fn(&str) -> bool) -> Self {
        match self.key.text.split_once('.') {
            Some((section, rest)) if !rest.is_empty() && is_section(section) => {
                let key = |text: &str| Key {
                    text: text.to_owned(),
                    position: self.key.position,
                };
                let below = Self {
                    key: key(rest),
                    value: Rc::clone(&self.value),
                };
                let map = Map {
                    entries: vec![below],
                    repeated: Vec::new(),
                };
                Self {
                    key: key(section),
                    value: Rc::new(Node {
                        position: self.value.position,
                        kind: Kind::Map(map),
                    }),
                }
            }
            _ => self.clone(),
        }
    }

    /// Adds the keys of another entry with the same name to this one. Returns false, and adds nothing, unless both
    /// are sections.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        let (one, other_map) = match (&self.value.kind, &other.value.kind) {
            (Kind::Map(_), Kind::Null) => return true,
            // The section has no keys so far.
            (Kind::Null, Kind::Map(_)) => {
                self.value = Rc::clone(&other.value);
                return true;
            }
            (Kind::Map(one), Kind::Map(other)) => (one, other),
            _ => return false,
        };
        let map = Map {
            entries: [&one.entries[..], &other_map.entries].concat(),
            repeated: [&one.repeated[..], &other_map.repeated].concat(),
        };
        self.value = Rc::new(Node {
            position: self.value.position,
            kind: Kind::Map(map),
        });
        true
    }
}

impl Node {
    pub(crate) fn raw(&self) -> Raw<'_> {
        match &self.kind {
            Kind::Null => Raw::Null,
            Kind::Bool(value) => Raw::Bool(*value),
            Kind::Integer(text) => Raw::Integer(text),
            Kind::Float(text) => Raw::Float(text),
            Kind::Text(text) => Raw::Text(text),
            Kind::List(_) => Raw::List,
            Kind::Map(_) => Raw::Map,
            Kind::Date => Raw::Date,
        }
    }
}

/// Converts byte offsets to lines and columns.
#[derive(Debug)]
#[cfg(feature = "toml")]
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

#[cfg(feature = "toml")]
impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|line| self.starts.get(line))
            .copied()
            .unwrap_or(0);
        let before = self
            .text
            .get(start..offset.min(self.text.len()))
            .unwrap_or_default();
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }
}

#[cfg(all(test, feature = "toml"))]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let lines = Lines::new("a\r\nöü = 1\n");
        assert_eq!(lines.position(0), Position { line: 1, column: 1 });
        assert_eq!(lines.position(3), Position { line: 2, column: 1 });
        assert_eq!(lines.position(7), Position { line: 2, column: 3 });
        assert_eq!(lines.position(100), Position { line: 3, column: 1 });
    }
}
