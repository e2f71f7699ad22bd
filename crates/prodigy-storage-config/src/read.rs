//! Reads the keys that a parsed file sets.

use std::collections::HashMap;
use std::path::Path;

use crate::error::ConfigError;
use crate::key::KeySpec;
use crate::keys::{KEYS, sections, sections_of};
use crate::layer::Layer;
use crate::notice::Notice;
use crate::origin::Origin;
use crate::paths;
use crate::text::{nearest, nearest_by, shown};
use crate::tree::{Entry, Kind, Map, Node, Parsed, Position};

/// The top-level key of a file that contains all keys of the configuration.
pub(crate) const ROOT: &str = "storage";

/// Keys below `storage` or `backend_config` that Prodigy itself reads. It keeps the settings of its backends in
/// `backend_config.file.*` and `backend_config.memory.*`.
const OTHER_PROGRAMS: [&str; 5] = [
    "repository_grouping",
    "base_path",
    "compression_level",
    "file",
    "memory",
];

/// Reads the keys below `storage`. `file` is `None` for a text that is not from a file.
pub(crate) fn read(parsed: &Parsed, file: Option<&Path>) -> Layer {
    let mut reader = Reader {
        file,
        layer: Layer::default(),
        unknown: Vec::new(),
    };
    for fault in &parsed.faults {
        let mut error = ConfigError::new(reader.origin(fault.position), fault.what.clone());
        if let Some(why) = &fault.why {
            error = error.why(why.clone());
        }
        if let Some(first) = fault.first {
            error = error.why(format!("it is set first at {}", reader.origin(first)));
        }
        if let Some(hint) = &fault.hint {
            error = error.hint(hint.clone());
        }
        reader.layer.errors.push(error);
    }
    if let Some(root) = &parsed.root {
        reader.root(root);
    }
    reader.report_unknown();
    reader.layer.check_clashes();
    if !parsed.faults.is_empty() {
        // A key that is not set may be in the part of the file that could not be parsed.
        reader.layer.suspect_unset();
    }
    reader.layer.sort_errors();
    reader.layer
}

/// True if a key is in a section, directly or in a section within it.
pub(crate) fn is_below(spec: &KeySpec, section: &str) -> bool {
    spec.path
        .strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

struct Reader<'f> {
    file: Option<&'f Path>,
    layer: Layer,
    /// The positions of the unknown keys that are only counted.
    unknown: Vec<Position>,
}

/// The largest number of unknown keys that are reported one by one; further ones are only counted. A file with
/// more of them is probably the wrong file.
const MOST_UNKNOWN: usize = 50;

impl Reader<'_> {
    fn origin(&self, position: Position) -> Origin {
        Origin::File {
            path: self.file.unwrap_or(Path::new("<text>")).to_owned(),
            line: position.line,
            column: position.column,
        }
    }

    fn root(&mut self, root: &Node) {
        let map = match &root.kind {
            Kind::Null => return,
            Kind::Map(map) => map,
            _ => {
                let error = ConfigError::new(self.origin(root.position), "the file is not a set of keys")
                    .why(format!("the key `{ROOT}` is wanted at the top level"));
                self.layer.errors.push(error);
                return;
            }
        };
        for (again, first) in map.repeated.iter().filter(|(again, _)| again.key.text == ROOT) {
            self.repeated(ROOT, again.key.position, *first);
        }
        let entries = self.undotted(None, map, |key| key == ROOT);
        for entry in entries.iter().filter(|entry| entry.key.text == ROOT) {
            self.storage(entry);
        }
        for entry in map.all() {
            let text = entry.key.text.as_str();
            let ours = KEYS.iter().any(|spec| spec.path == text) || sections().any(|section| section == text);
            if ours {
                let origin = self.origin(entry.key.position);
                let key = entry.key.text.clone();
                self.layer.notices.push(Notice::AtTopLevel { key, origin });
            }
        }
        if entries.iter().any(|entry| entry.key.text == ROOT) {
            return;
        }
        for entry in &map.entries {
            if nearest(&entry.key.text, [ROOT]).is_some() {
                let origin = self.origin(entry.key.position);
                self.layer.notices.push(Notice::LooksLikeStorage {
                    key: entry.key.text.clone(),
                    origin,
                });
            }
        }
    }

    fn storage(&mut self, storage: &Entry) {
        let Some(map) = self.section(ROOT, storage) else {
            return;
        };
        for (again, first) in &map.repeated {
            self.repeated(&again.key.text, again.key.position, *first);
        }
        let is_section =
            |key: &str| sections_of(None).any(|(name, _)| name == key) || OTHER_PROGRAMS.contains(&key);
        for entry in &self.undotted(None, map, is_section) {
            let name = entry.key.text.as_str();
            if let Some(spec) = KEYS
                .iter()
                .find(|spec| spec.section().is_none() && spec.name() == name)
            {
                self.layer
                    .set(spec, &entry.value.raw(), Self::origin(self, entry.key.position));
            } else if let Some((_, section)) = sections_of(None).find(|(section, _)| *section == name) {
                self.keys(section, entry);
            } else if !self.of_another_program(None, entry) {
                self.unknown(None, entry);
            }
        }
    }

    /// The entries of a map, with dotted keys converted to sections. If a key occurs in both forms, it is a
    /// repeated key.
    fn undotted(
        &mut self,
        section: Option<&'static str>,
        map: &Map,
        is_section: impl Fn(&str) -> bool,
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(map.entries.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        for entry in &map.entries {
            let entry = entry.undotted(&is_section);
            let place = *places.entry(entry.key.text.clone()).or_insert(entries.len());
            if let Some(known) = entries.get_mut(place) {
                if known.merge(&entry) {
                    continue;
                }
                let first = known.key.position;
                let name = &entry.key.text;
                let path = section.map_or_else(|| name.clone(), |section| format!("{section}.{name}"));
                self.repeated(&path, entry.key.position, first);
            }
            entries.push(entry);
        }
        entries.extend(map.repeated.iter().map(|(again, _)| again.undotted(&is_section)));
        entries
    }

    fn keys(&mut self, section: &'static str, entry: &Entry) {
        let Some(map) = self.section(section, entry) else {
            return;
        };
        for (again, first) in &map.repeated {
            self.repeated(
                &format!("{section}.{}", again.key.text),
                again.key.position,
                *first,
            );
        }
        let below = |key: &str| sections_of(Some(section)).find(|(name, _)| *name == key);
        let is_section = |key: &str| below(key).is_some() || OTHER_PROGRAMS.contains(&key);
        for entry in &self.undotted(Some(section), map, is_section) {
            if let Some((_, path)) = below(&entry.key.text) {
                self.keys(path, entry);
                continue;
            }
            let found = KEYS
                .iter()
                .find(|spec| spec.section() == Some(section) && spec.name() == entry.key.text);
            let Some(spec) = found else {
                if !self.of_another_program(Some(section), entry) {
                    self.unknown(Some(section), entry);
                }
                continue;
            };
            let origin = self.origin(entry.key.position);
            self.layer.set(spec, &entry.value.raw(), origin.clone());
            let (Some(file), Some(path)) = (self.file, spec.field.path_mut(&mut self.layer.values)) else {
                continue;
            };
            if !paths::is_relative(path) || self.layer.suspect.contains(spec.path) {
                continue;
            }
            match paths::base_of(file) {
                Ok(base) => *path = base.join(&*path),
                Err(problem) => self.layer.refuse(spec, problem, origin),
            }
        }
    }

    /// True for a key that another program reads from the same file. A notice is added for it.
    fn of_another_program(&mut self, section: Option<&'static str>, entry: &Entry) -> bool {
        let name = entry.key.text.as_str();
        if section.is_some_and(|section| section != "backend_config") || !OTHER_PROGRAMS.contains(&name) {
            return false;
        }
        let key = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
        let origin = self.origin(entry.key.position);
        self.layer.notices.push(Notice::OtherProgram { key, origin });
        true
    }

    /// The map of a section. An empty section, for example one with only comments, has no keys.
    fn section<'e>(&mut self, name: &str, entry: &'e Entry) -> Option<&'e Map> {
        match &entry.value.kind {
            Kind::Map(map) => return Some(map),
            Kind::Null => return None,
            _ => {}
        }
        let error = ConfigError::new(
            self.origin(entry.key.position),
            format!("`{name}` is not a section"),
        )
        .key(name)
        .why("it holds keys of its own, and this is a single value or a list");
        self.layer.errors.push(error);
        self.layer.suspect.extend(
            KEYS.iter()
                .filter(|spec| name == ROOT || is_below(spec, name))
                .map(|spec| spec.path),
        );
        None
    }

    fn repeated(&mut self, path: &str, again: Position, first: Position) {
        let path = shown(path);
        let error = ConfigError::new(self.origin(again), format!("`{path}` is set twice"))
            .why(format!("it is set first at {}", self.origin(first)))
            .key(path)
            .hint("remove one of them");
        self.layer.errors.push(error);
    }

    /// Reports the number of unknown keys that were not reported one by one.
    fn report_unknown(&mut self) {
        if let Some(&first) = self.unknown.first() {
            let count = self.unknown.len();
            let error = ConfigError::new(
                self.origin(first),
                format!("{count} more unknown keys, from here on"),
            )
            .hint("see whether this is the file that you meant");
            self.layer.errors.push(error);
        }
    }

    fn unknown(&mut self, section: Option<&'static str>, entry: &Entry) {
        if self.layer.errors.len() >= MOST_UNKNOWN {
            self.unknown.push(entry.key.position);
            return;
        }
        let name = &entry.key.text;
        let path = section.map_or_else(|| name.clone(), |section| format!("{section}.{name}"));
        let mut error = ConfigError::new(
            self.origin(entry.key.position),
            format!("unknown key `{}`", shown(&path)),
        )
        .key(&path);
        let place = |section: Option<&str>| {
            section.map_or_else(
                || format!("directly below `{ROOT}`"),
                |section| format!("below `{section}`"),
            )
        };
        // The names in this section come first: among equally similar names, the first one is suggested.
        let here = || {
            let names = KEYS
                .iter()
                .filter(|spec| spec.section() == section)
                .map(KeySpec::name);
            names.chain(sections_of(section).map(|(name, _)| name))
        };
        let elsewhere = KEYS.iter().filter(|spec| spec.section() != section);
        let candidates = here()
            .map(|name| (name, section))
            .chain(elsewhere.map(|spec| (spec.name(), spec.section())));
        error = match nearest_by(name, candidates, |(name, _)| name) {
            Some((near, of)) => {
                let meant = KEYS.iter().filter(|spec| {
                    (spec.section() == of && spec.name() == near)
                        || sections_of(of).any(|(name, path)| name == near && is_below(spec, path))
                });
                self.layer.suspect.extend(meant.map(|spec| spec.path));
                if of == section {
                    error.hint(format!("did you mean `{near}`?"))
                } else if near == name {
                    error.hint(format!("`{near}` belongs {}", place(of)))
                } else {
                    error.hint(format!("did you mean `{near}`, {}?", place(of)))
                }
            }
            None => error.hint(format!(
                "known {} are {}",
                place(section),
                here().collect::<Vec<_>>().join(", ")
            )),
        };
        self.layer.errors.push(error);
    }
}
