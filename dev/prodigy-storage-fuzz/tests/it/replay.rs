//! Runs every file of the corpus through its target.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prodigy_storage_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Reports all failing files together.
fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let folder = corpus().join(name);
    let mut failed = Vec::new();
    for file in names(&folder) {
        let bytes = fs::read(folder.join(&file)).unwrap();
        if std::panic::catch_unwind(|| target(&bytes)).is_err() {
            failed.push(file);
        }
    }
    assert!(failed.is_empty(), "{name}: {failed:?}");
}

macro_rules! replays {
    ($($test:ident $target:literal;)*) => {
        $(#[test] fn $test() { replay($target); })*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus() {
            let replayed = BTreeSet::from([$($target.to_owned()),*]);
            let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(replayed, known);
            assert_eq!(names(&corpus()), known);
            let fuzzed = names(&corpus().join("../fuzz_targets"));
            assert_eq!(fuzzed, known.iter().map(|name| format!("{name}.rs")).collect());
        }
    };
}

replays! {
    appends_hold "append";
    checkpoints_hold "checkpoint";
    compressed_segments_hold "compressed";
    configuration_in_toml_holds "config_toml";
    configuration_in_yaml_holds "config_yaml";
    cursors_hold "cursor";
    lines_hold "event_line";
    dead_letter_files_hold "items";
    names_and_paths_hold "names";
    segments_hold "segment";
    values_hold "values";
}
