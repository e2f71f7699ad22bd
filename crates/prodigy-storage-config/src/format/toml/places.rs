//! Finds the positions of all keys in a TOML file. If a key is repeated, the parser's table has only one of its
//! positions.

use std::collections::HashMap;

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, RecursionGuard, parse_document};
use toml_parser::{ErrorSink, Source, Span};

use crate::tree::MAX_DEPTH;

/// The number of a table or value in the file; 0 is the file itself.
type Node = usize;

/// The keys of a file, by their byte offset.
#[derive(Debug)]
pub(super) struct KeyPositions<'t> {
    source: Source<'t>,
    numbers: HashMap<(Node, String), Node>,
    /// For each table or value, the first offset of its key.
    first: Vec<usize>,
    /// For each offset of a key, its name, and the number of its table or value.
    keys: HashMap<usize, (String, Node)>,
    header: Context,
    inline: Vec<Context>,
    /// The key that is being read. Its parts, which are separated by dots, are added one by one.
    current: Context,
    too_deep: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Context {
    place: Node,
    depth: usize,
}

impl<'t> KeyPositions<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let source = Source::new(text);
        let mut places = Self {
            source,
            numbers: HashMap::new(),
            first: vec![0],
            keys: HashMap::new(),
            header: Context::default(),
            inline: Vec::new(),
            current: Context::default(),
            too_deep: None,
        };
        let tokens = source.lex().into_vec();
        // Errors are ignored here: the parser that builds the table reports them.
        parse_document(
            &tokens,
            &mut RecursionGuard::new(&mut places, MAX_DEPTH as u32),
            &mut (),
        );
        places
    }

    /// The offset of the first key that is nested too deeply.
    pub(super) fn too_deep(&self) -> Option<usize> {
        self.too_deep
    }

    /// The name of the key at an offset.
    pub(super) fn name(&self, offset: usize) -> Option<String> {
        self.keys.get(&offset).map(|(name, _)| name.clone())
    }

    /// The offset of the first occurrence of the key at `offset`; `None` if the key is not repeated.
    pub(super) fn first(&self, offset: usize) -> Option<usize> {
        let (_, place) = self.keys.get(&offset)?;
        self.first.get(*place).copied().filter(|first| *first < offset)
    }

    fn outer(&self) -> Context {
        self.inline.last().copied().unwrap_or(self.header)
    }

    fn new_place(&mut self, offset: usize) -> Node {
        self.first.push(offset);
        self.first.len() - 1
    }
}

impl EventReceiver for KeyPositions<'_> {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.current = Context::default();
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.header = self.current;
    }

    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.current = Context::default();
    }

    fn array_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        // Each table in an array of tables gets a number of its own.
        let place = self.new_place(span.start());
        self.header = Context {
            place,
            depth: self.current.depth,
        };
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        let mut name = String::new();
        if let Some(raw) = self.source.input().get(span.start()..span.end()) {
            toml_parser::Raw::new_unchecked(raw, encoding, span).decode_key(&mut name, &mut ());
        }
        let known = self.numbers.get(&(self.current.place, name.clone())).copied();
        let place = known.unwrap_or_else(|| self.new_place(span.start()));
        self.numbers.insert((self.current.place, name.clone()), place);
        self.keys.insert(span.start(), (name, place));
        self.current = Context {
            place,
            depth: self.current.depth + 1,
        };
        if self.current.depth > MAX_DEPTH {
            self.too_deep.get_or_insert(span.start());
        }
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        let place = self.new_place(span.start());
        self.current = Context {
            place,
            depth: self.current.depth,
        };
        self.inline.push(self.current);
        true
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.inline.pop();
    }

    fn value_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.current = self.outer();
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.current = self.outer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_told_from_one_of_the_same_name() {
        let text = "a = 1\n[t]\na = 2\nb = { a = 3, 'a' = 4 }\n\"a\" = 5\n[t.a]\n[u]\na = 6\n";
        let places = KeyPositions::of(text);
        let at = |part: &str| text.find(part).unwrap();
        assert_eq!(places.first(at("a = 1")), None);
        assert_eq!(places.first(at("a = 2")), None);
        assert_eq!(places.first(at("a = 3")), None);
        assert_eq!(places.first(at("'a' = 4")), Some(at("a = 3")));
        assert_eq!(places.first(at("\"a\" = 5")), Some(at("a = 2")));
        assert_eq!(places.first(at("a]\n[u]")), Some(at("a = 2")));
        assert_eq!(places.first(at("a = 6")), None);
        assert_eq!(places.name(at("\"a\" = 5")).as_deref(), Some("a"));
    }

    #[test]
    fn depth_counts_headers_dots_and_braces_together() {
        let deep = |n: usize| vec!["k"; n].join(".");
        assert_eq!(
            KeyPositions::of(&format!("{} = 1", deep(MAX_DEPTH))).too_deep(),
            None
        );
        assert!(
            KeyPositions::of(&format!("{} = 1", deep(MAX_DEPTH + 1)))
                .too_deep()
                .is_some()
        );
        let mixed = format!("[{}]\nx = {{ {} = 1 }}\n", deep(40), deep(40));
        assert!(KeyPositions::of(&mixed).too_deep().is_some());
    }
}
