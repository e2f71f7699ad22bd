//! Reads and writes TOML. It is parsed to a table with positions, and written with serde.

mod places;

use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::places::KeyPositions;
use crate::config::StorageConfig;
use crate::tree::{Entry, Fault, Key, Kind, Lines, Map, Node, Parsed};
use crate::write::{Document, NotWritable};

/// Writes the configuration as a TOML file.
pub(crate) fn write(config: &StorageConfig) -> Result<String, NotWritable> {
    let document = Document::new(config)?;
    toml::to_string(&document).map_err(|error| NotWritable::new(error.to_string()))
}

/// Parses a TOML file.
pub(crate) fn parse(text: &str) -> Parsed {
    let lines = Lines::new(text);
    let places = KeyPositions::of(text);
    // This is checked before the table is built, since the parser does not limit the nesting of dotted keys.
    if let Some(offset) = places.too_deep() {
        return Parsed {
            root: None,
            faults: vec![Fault::too_deep(lines.position(offset))],
        };
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let faults = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(text.len(), |span| span.start);
            let position = lines.position(offset);
            match (error.message(), places.name(offset)) {
                ("duplicate key", Some(name)) => {
                    let fault = Fault::new(position, format!("`{}` is set twice", crate::text::shown(&name)));
                    match places.first(offset) {
                        Some(first) => fault.first(lines.position(first)).hint("remove one of them"),
                        None => fault
                            .why("a key is either a value or a table, and a table is written in one place"),
                    }
                }
                (message, _) => Fault::new(position, "not valid TOML").why(message.to_owned()),
            }
        })
        .collect();
    let position = lines.position(0);
    let root = Rc::new(Node {
        position,
        kind: Kind::Map(map(table.get_ref(), &lines)),
    });
    Parsed {
        root: Some(root),
        faults,
    }
}

fn map(table: &DeTable<'_>, lines: &Lines<'_>) -> Map {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: Key {
                text: key.get_ref().to_string(),
                position: lines.position(key.span().start),
            },
            value: Rc::new(node(value, lines)),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key.position);
    // This list is empty, since the parser itself reports repeated keys.
    Map {
        entries,
        repeated: Vec::new(),
    }
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => match u128::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if number.radix() != 10 => Kind::Integer(value.to_string()),
            _ => Kind::Integer(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Kind::Float(number.as_str().to_owned()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Datetime(_) => Kind::Date,
        DeValue::Array(_) => Kind::List(Vec::new()),
        DeValue::Table(table) => Kind::Map(map(table, lines)),
    };
    Node {
        position: lines.position(value.span().start),
        kind,
    }
}
