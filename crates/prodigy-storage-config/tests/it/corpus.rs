//! Compares the effective configuration, or the errors, of each file of a corpus with a stored result.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use prodigy_storage_config::{ConfigErrors, Loaded};

use crate::fixture::Fixture;

fn files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(kind);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Loads a file of the corpus as the configuration file of a new folder.
fn load(file: &Path) -> (Fixture, Result<Loaded, ConfigErrors>) {
    let fixture = Fixture::new();
    let copy = fixture.path(&name(file));
    fs::copy(file, &copy).unwrap();
    let result = fixture.loader().file(copy).load();
    (fixture, result)
}

fn check(kind: &str, file: &Path, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots/{kind}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name(file), text));
}

#[test]
fn good_files_give_their_configuration() {
    for file in files("good") {
        let (fixture, result) = load(&file);
        let loaded = result.unwrap_or_else(|errors| panic!("{}: {errors}", name(&file)));
        let mut text = String::new();
        for (spec, value, origin) in loaded.effective() {
            // A default is left out, since the tests of the table of keys check the defaults.
            let origin = origin.to_string();
            if origin == "default" && value == spec.default {
                continue;
            }
            writeln!(text, "{} = {value}  # {origin}", spec.path).unwrap();
        }
        for notice in &loaded.notices {
            writeln!(text, "notice: {notice}").unwrap();
        }
        check("good", &file, &fixture.stripped(&text));
    }
}

#[test]
fn bad_files_give_all_their_errors() {
    let files = files("bad");
    assert!(files.len() >= 40, "{}", files.len());
    for file in files {
        let (fixture, result) = load(&file);
        let errors = result.map(|_| ()).expect_err(&name(&file));
        for error in &errors {
            assert_eq!(error.file().map(name), Some(name(&file)), "{error}");
            assert!(error.line().is_some() && error.column().is_some(), "{error}");
        }
        check("bad", &file, &fixture.stripped(&errors.to_string()));
    }
}

#[test]
fn every_error_comes_in_one_run() {
    // If any one line is corrected, only the errors of the other lines are left.
    let wrong = [
        ("  timeout: 30", "  timeout: 30s"),
        ("  enable_cashe: true", "  enable_cache: true"),
        (
            "  retry_policy: {max_retries: -1}",
            "  retry_policy: {max_retries: 1}",
        ),
        (
            "  cache_config: {\"max_entries\": \"7\"}",
            "  cache_config: {\"max_entries\": 7}",
        ),
        (
            "  backend_config: {max_file_size: 0}",
            "  backend_config: {max_file_size: 1}",
        ),
    ];
    for repaired in 0..=wrong.len() {
        let mut text = "storage:\n".to_owned();
        let mut lines = BTreeSet::new();
        for (index, (bad, good)) in wrong.iter().enumerate() {
            if index == repaired {
                writeln!(text, "{good}").unwrap();
            } else {
                writeln!(text, "{bad}").unwrap();
                lines.insert(index + 2);
            }
        }
        let fixture = Fixture::new();
        fixture.write("project/.prodigy/config.yaml", &text);
        let errors = fixture.load().unwrap_err();
        assert_eq!(
            errors
                .iter()
                .filter_map(|error| error.line())
                .collect::<BTreeSet<_>>(),
            lines,
            "{errors}"
        );
        assert_eq!(errors.len(), lines.len(), "{errors}");
    }
}

#[test]
fn every_snapshot_is_of_a_file() {
    for kind in ["good", "bad"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/snapshots")
            .join(kind);
        let snapshots: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| name(&entry.unwrap().path()))
            .collect();
        let expected: BTreeSet<_> = files(kind)
            .iter()
            .map(|file| format!("{}.snap", name(file)))
            .collect();
        assert_eq!(snapshots, expected);
    }
}
