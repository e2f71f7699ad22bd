//! A configuration file after its format's parser: values with positions.

use std::rc::Rc;

use crate::raw::Raw;

/// Deeper nesting is refused: no file of ours has more than three levels.
pub(crate) const MAX_DEPTH: usize = 64;

/// A place in a file: line and column from 1, the column in characters.
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
    /// Its items, where the format's merge keys need them.
    List(Vec<Rc<Node>>),
    Map(Map),
    Date,
}

#[derive(Debug, Default)]
pub(crate) struct Map {
    pub(crate) entries: Vec<Entry>,
    /// Keys that were set again, with the place of the first.
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

/// The result of a format's parser: the readable part of the file, and the errors of the rest.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// `None` when the file holds nothing.
    pub(crate) root: Option<Rc<Node>>,
    pub(crate) faults: Vec<Fault>,
}

/// A syntax error in a file.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) position: Position,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    /// Where the key was set before, if it is set twice.
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
    /// Every entry, also of a key that was set again: what is wrong with its value is still wrong.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .chain(self.repeated.iter().map(|(again, _)| again))
    }
}

impl Entry {
    /// The entry with a dotted key written as sections: `a.b: 1` is `a: {b: 1}`. Only where `is_section` knows the first part.
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

    /// Takes the keys of another entry of the same name into this one; false unless both are sections.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        let (one, other_map) = match (&self.value.kind, &other.value.kind) {
            (Kind::Map(_), Kind::Null) => return true,
            // A section without keys.
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

/// Lines and columns of byte offsets.
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
