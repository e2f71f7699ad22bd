//! Reads and writes YAML. It is parsed from the events of a parser, which have positions, and written with serde.
//!
//! Plain scalars are resolved by the core schema of YAML 1.2. An alias shares the value that it refers to, so that
//! a small file can't use much memory. The merge keys (`<<`) of YAML 1.1 are supported, but the number of entries
//! that they copy is limited.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::config::StorageConfig;
use crate::tree::{Entry, Fault, Key, Kind, MAX_DEPTH, Map, Node, Parsed, Position};
use crate::write::{Document, NotWritable};

/// The largest number of entries that all merge keys of a file together may copy.
const MAX_MERGED: usize = 10_000;

/// Writes the configuration as a YAML file.
pub(crate) fn write(config: &StorageConfig) -> Result<String, NotWritable> {
    let document = Document::new(config)?;
    serde_yaml::to_string(&document).map_err(|error| NotWritable::new(error.to_string()))
}

/// Parses a YAML file with one document.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                Err(Fault::new(position(*error.marker()), "not valid YAML").why(error.info().to_owned()))
            }
        };
        if let Err(fault) = step {
            builder.give_up(fault);
            break;
        }
    }
    Parsed {
        root: builder.root,
        faults: builder.faults,
    }
}

fn position(marker: Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Rc<Node>>,
    faults: Vec<Fault>,
    documents: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    merged: usize,
}

/// A list or map that is being read, since its end has not come yet.
struct Open {
    anchor: usize,
    position: Position,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { map: Building, key: Option<PendingKey> },
}

enum PendingKey {
    Key(Key),
    Merge(Position),
}

/// A map with an index of its keys, so that repeated keys are found in constant time.
#[derive(Default)]
struct Building {
    map: Map,
    places: HashMap<String, Position>,
    merges: Vec<Rc<Node>>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = position(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(at, "more than one YAML document in one file")
                        .why("a second one starts here")
                        .hint("keep the settings in one document, without `---` between them"));
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Fault::new(at, "an alias refers to the value that contains it"));
                };
                return self.node(node, at, None);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let kind = resolve(&text, plain, tag.as_deref(), at)?;
                let node = self.anchored(anchor, Node { position: at, kind });
                let key = KeyText {
                    merge: plain && tag.is_none() && text == "<<",
                    text,
                };
                return self.node(node, at, Some(key));
            }
            Event::SequenceStart(anchor, tag) => {
                known_collection(tag.as_deref(), "seq", at)?;
                self.start(anchor, at, Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                known_collection(tag.as_deref(), "map", at)?;
                self.start(
                    anchor,
                    at,
                    Content::Map {
                        map: Building::default(),
                        key: None,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(node) = self.end()? {
                    return self.node(node, at, None);
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Rc<Node> {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        node
    }

    fn start(&mut self, anchor: usize, position: Position, content: Content) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::too_deep(position));
        }
        self.open.push(Open {
            anchor,
            position,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<Option<Rc<Node>>, Fault> {
        let Some(Open {
            anchor,
            position,
            content,
        }) = self.open.pop()
        else {
            return Ok(None);
        };
        let kind = match content {
            Content::List(items) => Kind::List(items),
            Content::Map { map, .. } => Kind::Map(self.merge(map)),
        };
        Ok(Some(self.anchored(anchor, Node { position, kind })))
    }

    /// Adds the entries of the maps that the merge keys refer to. A key of the map itself takes precedence, and
    /// then a key of an earlier merged map.
    fn merge(&mut self, building: Building) -> Map {
        let Building {
            mut map,
            mut places,
            merges,
        } = building;
        for node in merges {
            let Kind::Map(from) = &node.kind else { continue };
            for entry in &from.entries {
                if self.merged >= MAX_MERGED {
                    return map;
                }
                self.merged += 1;
                if !places.contains_key(&entry.key.text) {
                    places.insert(entry.key.text.clone(), entry.key.position);
                    map.entries.push(entry.clone());
                }
            }
        }
        map
    }

    /// Adds a value that was read to the list or map around it. Without one, it becomes the root.
    fn node(&mut self, node: Rc<Node>, at: Position, key: Option<KeyText<'_>>) -> Result<(), Fault> {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        let (map, pending) = match &mut open.content {
            Content::List(items) => {
                items.push(node);
                return Ok(());
            }
            Content::Map { map, key } => (map, key),
        };
        match pending.take() {
            None => {
                *pending = Some(match key {
                    Some(KeyText { merge: true, .. }) => PendingKey::Merge(at),
                    Some(KeyText { text, .. }) => PendingKey::Key(Key {
                        text: text.into_owned(),
                        position: at,
                    }),
                    // The key is an alias, a list or a map.
                    None => PendingKey::Key(Key {
                        text: key_of(&node)?,
                        position: at,
                    }),
                });
            }
            Some(PendingKey::Key(key)) => match map.places.get(&key.text) {
                Some(first) => map.map.repeated.push((Entry { key, value: node }, *first)),
                None => {
                    map.places.insert(key.text.clone(), key.position);
                    map.map.entries.push(Entry { key, value: node });
                }
            },
            Some(PendingKey::Merge(at)) => {
                let wrong = || Fault::new(at, "the merge key `<<` takes a map, or a list of maps");
                match &node.kind {
                    Kind::Map(_) => map.merges.push(node),
                    Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_))) => {
                        self.merged += items.len();
                        map.merges.extend(items.iter().take(MAX_MERGED).cloned());
                    }
                    _ => return Err(wrong()),
                }
            }
        }
        if self.merged >= MAX_MERGED {
            return Err(Fault::new(
                at,
                format!("merge keys take over more than {MAX_MERGED} entries"),
            ));
        }
        Ok(())
    }

    /// Stops reading at a syntax error. The values before it are kept, except the last one, which may be
    /// incomplete.
    fn give_up(&mut self, fault: Fault) {
        self.faults.push(fault);
        let mut last = true;
        while let Some(open) = self.open.last_mut() {
            if let Content::Map { map, key } = &mut open.content {
                if last && key.is_none() {
                    map.map.entries.pop();
                }
                last = false;
            }
            match self.end() {
                Ok(Some(node)) if self.node(Rc::clone(&node), node.position, None).is_ok() => {}
                _ => break,
            }
        }
    }
}

/// The text of a scalar, in case that the scalar is a key.
struct KeyText<'t> {
    text: Cow<'t, str>,
    merge: bool,
}

fn key_of(node: &Node) -> Result<String, Fault> {
    match &node.kind {
        Kind::Text(text) | Kind::Integer(text) | Kind::Float(text) => Ok(text.clone()),
        Kind::Bool(value) => Ok(value.to_string()),
        Kind::Null => Ok(String::new()),
        Kind::List(_) | Kind::Map(_) | Kind::Date => Err(Fault::new(
            node.position,
            "a key must be a word, not a list or a map",
        )),
    }
}

/// The value of a scalar. Its type is given by its tag, if it has one; a quoted scalar is text; any other is
/// resolved by the core schema.
fn resolve(text: &str, plain: bool, tag: Option<&Tag>, at: Position) -> Result<Kind, Fault> {
    let as_text = || Kind::Text(text.to_owned());
    let by_rules = || core(text);
    let Some(tag) = tag else {
        return Ok(if plain { by_rules() } else { as_text() });
    };
    if tag.handle == "!" && tag.suffix.is_empty() || tag.handle.is_empty() && tag.suffix == "!" {
        return Ok(as_text());
    }
    if tag.is_yaml_core_schema() {
        let kind = by_rules();
        match (tag.suffix.as_str(), &kind) {
            ("str", _) => return Ok(as_text()),
            ("int", Kind::Integer(_))
            | ("float", Kind::Float(_))
            | ("bool", Kind::Bool(_))
            | ("null", Kind::Null) => return Ok(kind),
            ("float", Kind::Integer(text)) => return Ok(Kind::Float(text.clone())),
            ("int" | "float" | "bool" | "null", _) => {
                return Err(Fault::new(at, format!("the value is no `!!{}`", tag.suffix)));
            }
            _ => {}
        }
    }
    Err(unknown_tag(tag, at))
}

fn unknown_tag(tag: &Tag, at: Position) -> Fault {
    Fault::new(at, "a YAML tag that is not known")
        .why(format!("`{}`", crate::text::shown(&tag.to_string())))
        .hint("remove the tag: no key needs one")
}

fn known_collection(tag: Option<&Tag>, kind: &str, at: Position) -> Result<(), Fault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) => Err(unknown_tag(tag, at)),
        _ => Ok(()),
    }
}

/// Resolves a plain scalar by the core schema of YAML 1.2.
fn core(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float("NaN".to_owned()),
        _ => {}
    }
    let (sign, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.get(..1).unwrap_or_default(), rest),
        None => ("", text),
    };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Kind::Float(format!("{sign}inf"));
    }
    if sign.is_empty() {
        for (prefix, radix) in [("0o", 8), ("0x", 16)] {
            if let Some(Ok(value)) = text
                .strip_prefix(prefix)
                .filter(|d| !d.starts_with(['+', '-']))
                .map(|d| u128::from_str_radix(d, radix))
            {
                return Kind::Integer(value.to_string());
            }
        }
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unsigned.is_empty() && digits(unsigned) {
        return Kind::Integer(text.to_owned());
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let number = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    if number {
        Kind::Float(text.to_owned())
    } else {
        Kind::Text(text.to_owned())
    }
}
