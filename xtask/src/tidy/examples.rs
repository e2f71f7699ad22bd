//! Checks that the page of every public type of a library has an example.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, TextFile};

/// Public modules for tests and developer tools, whose types need no example.
const FOR_TESTS: &[&str] = &["conformance", "fs", "reference"];

/// The exports of a library.
#[derive(Debug, Default)]
struct Public<'a> {
    names: BTreeSet<&'a str>,
    modules: BTreeSet<&'a str>,
}

/// Checks every source of the libraries.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    let mut libraries = BTreeMap::new();
    for file in texts {
        if let Some((library, "lib.rs")) = source(file) {
            libraries.insert(library, public(&file.text));
        }
    }
    for file in texts {
        let Some((library, path)) = source(file) else {
            continue;
        };
        let Some(public) = libraries.get(library) else {
            continue;
        };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        if FOR_TESTS.contains(&module) {
            continue;
        }
        for (line, name) in without_example(&file.text) {
            if public.names.contains(name) || public.modules.contains(module) {
                findings.fault(
                    format_args!("{}:{line}", file.path),
                    format_args!("the page of `{name}` shows no example"),
                );
            }
        }
    }
}

/// The library of a source, and the path of the source in it.
fn source(file: &TextFile) -> Option<(&str, &str)> {
    let (library, path) = file.path.strip_prefix("crates/")?.split_once("/src/")?;
    (file.is_rust() && library != "prodigy-storage-cli").then_some((library, path))
}

fn public(lib: &str) -> Public<'_> {
    let mut public = Public::default();
    for statement in lib.split(';') {
        let statement = statement.lines().filter(|line| !line.starts_with("//"));
        for line in statement.clone() {
            if let Some(module) = line.strip_prefix("pub mod ") {
                public.modules.insert(module);
            }
        }
        let is_use = statement.clone().any(|line| line.starts_with("pub use "));
        if is_use {
            let words = statement
                .flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'));
            public
                .names
                .extend(words.filter(|word| word.starts_with(char::is_uppercase)));
        }
    }
    public
}

/// The types whose documentation has no example, each with its line number.
fn without_example(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut has_example = false;
    for (number, line) in code.lines().enumerate() {
        if let Some(name) = type_name(line)
            && !has_example
        {
            found.push((number + 1, name));
        }
        if line.starts_with("/// ```") {
            has_example = true;
        } else if line.is_empty() || line.starts_with('}') {
            has_example = false;
        }
    }
    found
}

fn type_name(line: &str) -> Option<&str> {
    let rest = ["pub struct ", "pub enum ", "pub trait ", "pub type "]
        .iter()
        .find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()
}

#[cfg(test)]
mod tests {
    use super::{public, without_example};

    #[test]
    fn a_public_type_without_an_example_is_found() {
        let code = "/// A.\n///\n/// ```\n/// A::new();\n/// ```\n#[derive(Debug)]\npub struct A;\n\n/// B.\npub enum B<T> {\n}\n";
        assert_eq!(without_example(code), [(10, "B")]);
    }

    #[test]
    fn the_exports_of_a_library_are_found() {
        let lib = "mod a;\npub mod record;\npub mod fs;\n// Not Found.\npub use a::{One, call,\n    Two};\npub use b::Three;\n";
        let public = public(lib);
        assert_eq!(Vec::from_iter(public.names), ["One", "Three", "Two"]);
        assert_eq!(Vec::from_iter(public.modules), ["fs", "record"]);
    }
}
