//! The order of files, and the errors for files that can't be read.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_config::{Notice, Origin};

use crate::fixture::Fixture;

fn timeout(seconds: u32) -> String {
    format!("storage:\n  timeout: {seconds}s\n")
}

#[test]
fn the_later_source_wins_key_by_key() {
    let fixture = Fixture::new();
    assert_eq!(fixture.load().unwrap().config.timeout, Duration::from_secs(30));
    let step = |fixture: &Fixture, seconds: u64, origin: &str| {
        let named = fixture.path("named.yaml");
        let mut loader = fixture.loader();
        if named.exists() {
            loader = loader.file(named);
        }
        let loaded = loader.load().unwrap();
        assert_eq!(loaded.config.timeout, Duration::from_secs(seconds));
        assert_eq!(fixture.stripped(&loaded.origin("timeout").to_string()), origin);
    };
    fixture.write(
        "home/.prodigy/config.yml",
        "storage:\n  timeout: 1s\n  enable_cache: true\n",
    );
    step(&fixture, 1, "home/.prodigy/config.yml:2:3");
    fixture.write("project/.prodigy/config.toml", "[storage]\ntimeout = \"2s\"\n");
    step(&fixture, 2, "project/.prodigy/config.toml:2:1");
    let path = fixture.write("variable.yaml", &timeout(3));
    let fixture = fixture.variable("PRODIGY_CONFIG", path);
    step(&fixture, 3, "variable.yaml:2:3");
    fixture.write("named.yaml", &timeout(4));
    step(&fixture, 4, "named.yaml:2:3");
    let fixture = fixture.variable("PRODIGY__STORAGE__TIMEOUT", "5s");
    step(&fixture, 5, "variable PRODIGY__STORAGE__TIMEOUT");
    let loaded = fixture.loader().flag("timeout", "6s").load().unwrap();
    assert_eq!(*loaded.origin("timeout"), Origin::Flag("--timeout".to_owned()));
    let loaded = fixture
        .loader()
        .flag("timeout", "6s")
        .set("timeout", "7s")
        .load()
        .unwrap();
    assert_eq!(loaded.config.timeout, Duration::from_secs(7));
    assert_eq!(*loaded.origin("timeout"), Origin::Code);
    // A key that only the first source sets keeps its value.
    assert!(loaded.config.enable_cache);
    let files: Vec<_> = loaded
        .files()
        .map(|file| fixture.stripped(&file.to_string_lossy()))
        .collect();
    assert_eq!(
        files,
        [
            "home/.prodigy/config.yml",
            "project/.prodigy/config.toml",
            "variable.yaml"
        ]
    );
}

#[test]
fn errors_of_all_sources_come_together() {
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.yaml", "storage:\n  timeuot: 1s\n");
    fixture.write(
        "project/.prodigy/config.toml",
        "[storage]\nenable_cache = 3\n[storage.retry_policy]\ninitial_delay = \"2m\"\n",
    );
    let fixture = fixture
        .variable("PRODIGY_CONFIG", "/nowhere/at/all.yaml")
        .variable("PRODIGY_STORAGE_TYPO", "x")
        .variable("PRODIGY__STORAGE__DURABILITY", "none");
    let errors = fixture
        .loader()
        .flag("backend_config.base_dirr", "x")
        .load()
        .unwrap_err();
    let places: Vec<_> = errors
        .iter()
        .map(|error| fixture.stripped(&error.origin().to_string()))
        .collect();
    assert_eq!(
        places,
        [
            "home/.prodigy/config.yaml:2:3",
            "project/.prodigy/config.toml:2:1",
            "/nowhere/at/all.yaml",
            "variable PRODIGY__STORAGE__DURABILITY",
            "variable PRODIGY_STORAGE_TYPO",
            "flag backend_config.base_dirr",
            "project/.prodigy/config.toml:4:1",
        ]
    );
    let text = errors.to_string();
    assert!(text.contains("did you mean `backend_config.base_dir`?"), "{text}");
    assert!(text.contains("it is named by PRODIGY_CONFIG"), "{text}");
    assert!(
        text.contains("`initial_delay` is 2m") && text.contains("`max_delay` is 30s (default)"),
        "{text}"
    );
}

#[test]
fn an_error_of_one_value_makes_no_second_one() {
    for text in [
        "storage:\n  retry_policy: {initial_delay: 1m, max_delay: 120}\n",
        "storage:\n  retry_policy: {initial_delay: 1m, max_dealy: 2m}\n",
        "storage:\n  backend: memory\n  backend_config: {persist_to_disk: true, persistence_pth: /x}\n",
        "storage:\n  backend: memory\n  backend_config: {persist_to_disk: true, persistence_path: \"\"}\n",
    ] {
        let fixture = Fixture::new();
        fixture.write("home/.prodigy/config.yaml", text);
        let errors = fixture.load().unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
    }
}

#[test]
fn delays_of_two_sources_are_compared_and_both_are_named() {
    let fixture = Fixture::new();
    fixture.write(
        "home/.prodigy/config.yaml",
        "storage:\n  retry_policy:\n    initial_delay: 20s\n",
    );
    fixture.write(
        "project/.prodigy/config.yaml",
        "storage:\n  retry_policy:\n    max_delay: 5s\n",
    );
    let errors = fixture.errors();
    assert!(
        errors.contains("`initial_delay` is 20s (home/.prodigy/config.yaml:3:5)"),
        "{errors}"
    );
    assert!(
        errors.contains("`max_delay` is 5s (project/.prodigy/config.yaml:3:5)"),
        "{errors}"
    );
    assert!(
        errors.contains("where: project/.prodigy/config.yaml:3:5"),
        "{errors}"
    );
}

#[test]
fn two_files_of_one_place_are_an_error() {
    for folder in ["home", "project"] {
        let fixture = Fixture::new();
        fixture.write(&format!("{folder}/.prodigy/config.yml"), "");
        fixture.write(&format!("{folder}/.prodigy/config.toml"), "");
        let errors = fixture.errors();
        assert!(
            errors.starts_with("more than one configuration file in one folder"),
            "{errors}"
        );
        assert!(errors.contains("`config.yml` and `config.toml`"), "{errors}");
    }
}

#[test]
fn a_named_file_must_be_there_and_be_a_file() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("folder.yaml")).unwrap();
    fixture.write("settings.json", "{}");
    fixture.write("huge.toml", &"#\n".repeat(600_000));
    for (name, what) in [
        ("missing.yaml", "the configuration file does not exist"),
        ("missing", "the configuration file does not exist"),
        (
            "folder.yaml",
            "the path leads to a folder, not to a configuration file",
        ),
        ("settings.json", "the configuration file's format is not known"),
        ("huge.toml", "the configuration file is too large"),
    ] {
        let path = fixture.path(name);
        let errors = fixture.loader().file(&path).load().unwrap_err();
        let error = errors.iter().next().unwrap();
        assert_eq!(
            (error.what(), error.file(), error.line()),
            (what, Some(path.as_path()), None)
        );
        assert_eq!(errors.len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn what_is_found_but_can_not_be_read_is_an_error() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("home/.prodigy/config.yaml")).unwrap();
    assert!(
        fixture
            .errors()
            .starts_with("the path leads to a folder, not to a configuration file"),
        "{}",
        fixture.errors()
    );

    let fixture = Fixture::new();
    fs::create_dir(fixture.path("home/.prodigy")).unwrap();
    std::os::unix::fs::symlink("nowhere", fixture.path("home/.prodigy/config.yaml")).unwrap();
    assert!(
        fixture
            .errors()
            .starts_with("the configuration file can't be read"),
        "{}",
        fixture.errors()
    );

    // The folder `.prodigy` in the home folder is a file, so it can't contain a configuration.
    let fixture = Fixture::new();
    fs::write(fixture.path("home/.prodigy"), "").unwrap();
    assert!(fixture.load().is_ok());
}

#[test]
fn relative_paths_in_a_linked_file_start_at_the_place_of_the_link() {
    let fixture = Fixture::new();
    let file = fixture.write(
        "shared/prodigy.yaml",
        "storage:\n  backend_config:\n    base_dir: data\n",
    );
    fs::create_dir(fixture.path("project/.prodigy")).unwrap();
    std::os::unix::fs::symlink(file, fixture.path("project/.prodigy/config.yaml")).unwrap();
    assert_eq!(
        fixture.load().unwrap().config.file.base_dir,
        fixture.path("project/.prodigy/data")
    );
}

#[test]
fn relative_paths_start_at_the_file_or_stay() {
    let fixture = Fixture::new();
    fixture.write(
        "project/.prodigy/config.yaml",
        "storage:\n  backend_config:\n    base_dir: ../data\n",
    );
    assert_eq!(
        fixture.load().unwrap().config.file.base_dir,
        fixture.path("project/.prodigy/../data")
    );
    let loaded = fixture
        .loader()
        .flag("backend_config.base_dir", "data")
        .load()
        .unwrap();
    assert_eq!(loaded.config.file.base_dir, PathBuf::from("data"));
    assert_eq!(
        *loaded.origin("backend_config.base_dir"),
        Origin::Flag("--base-dir".to_owned())
    );
    let fixture = Fixture::new().variable("PRODIGY_STORAGE_BASE_PATH", "~/data");
    assert_eq!(
        fixture.load().unwrap().config.file.base_dir,
        fixture.path("home/data")
    );
    let fixture = Fixture::new();
    assert_eq!(
        fixture.load().unwrap().config.file.base_dir,
        fixture.path("home/.prodigy")
    );
    let loaded = fixture
        .loader()
        .home(Some(PathBuf::from("/other")))
        .load()
        .unwrap();
    assert_eq!(loaded.config.file.base_dir, PathBuf::from("/other/.prodigy"));
}

#[test]
fn the_later_of_base_dir_and_local_storage_counts() {
    let local = "storage:\n  backend_config:\n    use_global: false\n";
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.yaml", local);
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.file.base_dir, fixture.path("project/.prodigy"));
    assert!(!loaded.config.file.use_global);
    assert_eq!(
        loaded.origin("backend_config.base_dir"),
        loaded.origin("backend_config.use_global")
    );
    assert!(matches!(loaded.notices.as_slice(), [Notice::LocalStorage { .. }]));

    let later = fixture.variable("PRODIGY_STORAGE_BASE_PATH", "/srv");
    let loaded = later.load().unwrap();
    assert_eq!(loaded.config.file.base_dir, PathBuf::from("/srv"));
    assert!(loaded.config.file.use_global);
    assert!(matches!(
        loaded.notices.as_slice(),
        [Notice::Overruled {
            key: "backend_config.use_global",
            ..
        }]
    ));

    let fixture = Fixture::new();
    fixture.write(
        "home/.prodigy/config.yaml",
        "storage:\n  backend_config: {base_dir: /srv}\n",
    );
    fixture.write("project/.prodigy/config.yaml", local);
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.file.base_dir, fixture.path("project/.prodigy"));
    assert!(matches!(
        loaded.notices.as_slice(),
        [
            Notice::Overruled {
                key: "backend_config.base_dir",
                ..
            },
            Notice::LocalStorage { .. }
        ]
    ));
}

#[test]
fn local_data_that_is_left_alone_is_noticed() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("project/.prodigy/commands")).unwrap();
    assert!(fixture.notices().is_empty());
    fs::create_dir_all(fixture.path("project/.prodigy/events")).unwrap();
    assert_eq!(
        fixture.notices(),
        [
            "project/.prodigy holds data of local storage, which is neither read nor changed while global storage is in use"
        ]
    );
    let here = fixture.path("project/.prodigy");
    let fixture = fixture.variable("PRODIGY_STORAGE_BASE_PATH", here);
    assert!(fixture.notices().is_empty());
}

#[test]
fn a_file_that_two_sources_name_is_read_once() {
    let fixture = Fixture::new();
    let path = fixture.write("project/.prodigy/config.yaml", "storage:\n  timeuot: 1s\n");
    let fixture = fixture.variable("PRODIGY_CONFIG", &path);
    assert_eq!(fixture.loader().file(&path).load().unwrap_err().len(), 1);
    // The home folder may also be the project.
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.yaml", "storage:\n  timeuot: 1s\n");
    assert_eq!(
        fixture
            .loader()
            .project_dir(fixture.path("home"))
            .load()
            .unwrap_err()
            .len(),
        1
    );
}

#[test]
fn messages_show_no_control_characters() {
    let fixture = Fixture::new();
    let path = fixture.path("a\u{1b}[31m\n.yaml");
    let errors = fixture
        .loader()
        .file(path)
        .flag("x\u{202e}y", "1")
        .load()
        .unwrap_err()
        .to_string();
    assert!(
        !errors.contains('\u{1b}') && !errors.contains('\u{202e}'),
        "{errors}"
    );
}

#[test]
fn a_key_that_exists_at_another_level_is_named_with_its_level() {
    let fixture = Fixture::new();
    for (key, hint) in [
        (
            "max_document_size",
            "did you mean `backend_config.max_document_size`?",
        ),
        ("cache_config.timeout", "did you mean `timeout`?"),
        ("retry_policy.base_dir", "did you mean `backend_config.base_dir`?"),
    ] {
        let errors = fixture.loader().set(key, "1").load().unwrap_err();
        assert!(errors.to_string().contains(hint), "{key}: {errors}");
    }
}
