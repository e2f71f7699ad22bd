//! Checks that the modules of a crate depend in one direction: a module names only modules below it.

use super::{Findings, TextFile};

/// The modules at the root of the file backend, from the lowest level to the highest. Modules of one level do not name
/// each other.
const FILE: (&str, &[&[&str]]) = (
    "crates/prodigy-storage-file/src/",
    &[
        &["kernel"],
        &["fs"],
        &["root"],
        &["log", "document", "queue", "lock"],
        &["backend", "doctor"],
        &["backup"],
    ],
);

/// Checks every source of the crate except its tests.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    let (folder, order) = FILE;
    let level = |module: &str| order.iter().position(|level| level.contains(&module));
    let library = format!("{folder}lib.rs");
    let exports = texts
        .iter()
        .find(|file| file.path == library)
        .map_or_else(Vec::new, |file| exports(&file.text));
    for file in texts {
        let Some(path) = file.path.strip_prefix(folder).filter(|_| file.is_rust()) else {
            continue;
        };
        let module: Vec<&str> = path
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .split('/')
            .collect();
        let Some(&top) = module.first() else { continue };
        if top == "lib" || module.contains(&"tests") {
            continue;
        }
        let Some(here) = level(top) else {
            findings.fault(
                &file.path,
                "the module has no level in the order of this crate's modules",
            );
            continue;
        };
        for (line, name) in named(&file.text, module.len()) {
            let target = exports
                .iter()
                .find(|(item, _)| *item == name)
                .map_or(name, |(_, module)| *module);
            if target != top && level(target).is_some_and(|there| there >= here) {
                findings.fault(
                    format_args!("{}:{line}", file.path),
                    format_args!("`{top}` names `{target}`, which is not below it"),
                );
            }
        }
    }
}

/// The items that `lib.rs` exports, each with its module.
fn exports(library: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in library.split(';') {
        let Some((_, path)) = line.split_once("pub use ") else {
            continue;
        };
        let Some((module, items)) = path.split_once("::") else {
            continue;
        };
        let items = items.split(|c: char| !c.is_alphanumeric() && c != '_');
        found.extend(items.filter(|item| !item.is_empty()).map(|item| (item, module)));
    }
    found
}

/// The items of the crate's root that a source names, each with its line. `depth` is the number of levels from the
/// root to the source's module.
fn named(source: &str, depth: usize) -> Vec<(usize, &str)> {
    let (crates, supers) = ("crate::", "super::".repeat(depth));
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices(crates).filter(|(at, _)| begins(code, *at)) {
            found.extend(heads(&code[at + crates.len()..]).map(|name| (index + 1, name)));
        }
        // In a module within the file, `super` is the file's own module.
        for (at, _) in code.match_indices(&supers).filter(|(at, _)| begins(code, *at)) {
            let rest = code[at + supers.len()..].trim_start_matches("super::");
            found.extend(heads(rest).map(|name| (index + 1, name)));
        }
    }
    found
}

/// True if a path begins at this position.
fn begins(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$'))
}

/// The first name after `crate::`, or the first name of each path in braces.
fn heads(rest: &str) -> impl Iterator<Item = &str> {
    let group = rest.strip_prefix('{').map_or(rest, |group| {
        group.rsplit_once('}').map_or(group, |(group, _)| group)
    });
    let paths = if group.len() == rest.len() { 1 } else { usize::MAX };
    let mut nested = 0i32;
    group
        .split(move |c: char| {
            nested += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && nested == 0
        })
        .take(paths)
        .map(|path| {
            let path = path.trim();
            path.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or(path)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let file = |path: &str, text: &str| TextFile {
            path: format!("{}{path}", FILE.0),
            text: text.to_owned(),
        };
        let library =
            "mod fs;\npub use backend::{FileBackend};\npub use root::{\n    FileOptions,\n    Foreign,\n};\n";
        let mut findings = Findings::default();
        check(&[file("lib.rs", library), file(path, text)], &mut findings);
        findings.faults
    }

    #[test]
    fn a_module_that_names_one_beside_or_above_it_is_a_fault() {
        for (path, text) in [
            ("root/mod.rs", "use crate::log::Logs;"),
            ("fs/real/rights.rs", "use super::super::super::root::Root;"),
            ("kernel/process.rs", "fn f() { crate::fs::open() }"),
            ("log/merge.rs", "use crate::document::Documents;"),
            ("queue/put.rs", "use crate::{fs::{FsFile, OpenMode}, backend};"),
            ("lock/mod.rs", "use super::queue;"),
            ("doctor/mod.rs", "use crate::FileBackend;"),
            ("backend.rs", "use crate::doctor;"),
            ("new.rs", ""),
        ] {
            assert_eq!(faults(path, text).len(), 1, "{path}: {text}");
        }
    }

    #[test]
    fn a_module_may_name_itself_and_those_below_it() {
        for (path, text) in [
            (
                "log/merge.rs",
                "use crate::root::{self, Root};\nuse super::search;\nuse crate::log::source;",
            ),
            (
                "root/options.rs",
                "/// [`FileBackend`](crate::FileBackend)\nuse crate::fs::canonical;",
            ),
            ("document/mod.rs", "use crate::{FileOptions, Foreign};"),
            ("fs/real/rights.rs", "use super::super::FILE_MODE;"),
            ("log/tests/large.rs", "use crate::FileBackend;"),
            (
                "backend/stores.rs",
                "use crate::lock::{self, Locks};\nuse super::catalog;",
            ),
        ] {
            assert_eq!(faults(path, text), [] as [String; 0], "{path}: {text}");
        }
    }
}
