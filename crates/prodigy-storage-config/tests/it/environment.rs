//! Tests of values from environment variables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_config::{BackendKind, KEYS, Loader, MapEnvironment, Notice, Origin};

use crate::fixture::Fixture;

#[test]
fn every_key_has_a_variable() {
    for spec in KEYS {
        let mut value = match spec.kind() {
            "bool" => "TRUE",
            "integer" | "integer, at least 1" => "7",
            "bytes" => "3MiB",
            "duration" | "duration, above zero" => "20s",
            "float, at least 1" => "3.5",
            "path" => "/somewhere",
            "connection string" => "postgresql://app@db/jobs",
            _ => spec.default,
        }
        .to_owned();
        let mut environment = MapEnvironment::new()
            .with("HOME", "/home/ada")
            .with(spec.variable(), value.clone());
        if let Some(backend) = spec.backend {
            environment = environment.with("PRODIGY_STORAGE_TYPE", backend.as_str());
            if backend == BackendKind::Postgres && spec.name() != "url" {
                environment = environment.with("PRODIGY_STORAGE_URL", "postgresql://app@db/jobs");
            }
        }
        if spec.name() == "persist_to_disk" {
            environment = environment.with("PRODIGY__STORAGE__BACKEND_CONFIG__PERSISTENCE_PATH", "/x");
        }
        let loaded = Loader::new(environment).load().unwrap();
        let (_, text, origin) = loaded
            .effective()
            .find(|(found, ..)| found.path == spec.path)
            .unwrap();
        assert_eq!(*origin, Origin::Variable(spec.variable()), "{}", spec.path);
        match value.as_str() {
            "TRUE" => value = "true".to_owned(),
            "3MiB" => value = "3145728".to_owned(),
            _ => {}
        }
        assert_eq!(text, value, "{}", spec.path);
    }
}

#[test]
fn the_type_is_in_any_case_and_works_on_any_file() {
    let fixture = Fixture::new().variable("PRODIGY_STORAGE_TYPE", "MeMoRy");
    fixture.write(
        "home/.prodigy/config.yaml",
        "storage:\n  backend: file\n  backend_config: {base_dir: /srv, max_file_size: 1MB}\n",
    );
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.backend, BackendKind::Memory);
    assert_eq!(
        loaded.config.file,
        prodigy_storage_config::FileSettings::default()
    );
    let keys: Vec<_> = loaded
        .notices
        .iter()
        .map(|notice| match notice {
            Notice::OtherBackend {
                key,
                chosen: BackendKind::Memory,
                ..
            } => *key,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(keys, ["backend_config.base_dir", "backend_config.max_file_size"]);
    assert_eq!(
        fixture.notices()[0],
        "`backend_config.base_dir` (home/.prodigy/config.yaml:3:20) is ignored: the backend is `memory` (variable PRODIGY_STORAGE_TYPE)"
    );

    let fixture = Fixture::new().variable("PRODIGY_STORAGE_TYPE", "flie");
    assert!(
        fixture.errors().contains("did you mean `file`?"),
        "{}",
        fixture.errors()
    );
    let fixture = Fixture::new()
        .variable("PRODIGY_STORAGE_TYPE", "Postgres")
        .variable("PRODIGY_STORAGE_URL", "postgresql://app@db/jobs");
    assert_eq!(fixture.load().unwrap().config.backend, BackendKind::Postgres);
}

#[test]
fn the_first_of_the_base_path_names_counts() {
    let names = [
        "PRODIGY_STORAGE_BASE_PATH",
        "PRODIGY_STORAGE_DIR",
        "PRODIGY_STORAGE_PATH",
    ];
    for first in 0..3 {
        let mut fixture = Fixture::new();
        for name in &names[first..] {
            fixture = fixture.variable(name, format!("/{name}"));
        }
        let loaded = fixture.load().unwrap();
        assert_eq!(
            loaded.config.file.base_dir,
            PathBuf::from(format!("/{}", names[first]))
        );
        assert_eq!(
            *loaded.origin("backend_config.base_dir"),
            Origin::Variable(names[first].to_owned())
        );
        let deprecated: Vec<_> = loaded
            .notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::DeprecatedVariable { name, instead } => Some((name.as_str(), *instead)),
                _ => None,
            })
            .collect();
        let shadowed = loaded
            .notices
            .iter()
            .filter(|notice| matches!(notice, Notice::ShadowedVariable { .. }));
        assert_eq!(shadowed.count(), 2 - first);
        let expected = if first == 0 {
            vec![]
        } else {
            vec![(names[first], names[0])]
        };
        assert_eq!(deprecated, expected);
    }
}

#[test]
fn an_empty_variable_is_unset() {
    let fixture = Fixture::new()
        .variable("PRODIGY_STORAGE_TYPE", "")
        .variable("PRODIGY_STORAGE_BASE_PATH", "")
        .variable("PRODIGY_STORAGE_DIR", "/old")
        .variable("PRODIGY_HOME", "")
        .variable("PRODIGY_CONFIG", "")
        .variable("PRODIGY_STORAGE_NONSENSE", "")
        .variable("PRODIGY__STORAGE__TIMEOUT", "");
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.file.base_dir, PathBuf::from("/old"));
    assert_eq!(loaded.config.timeout, Duration::from_secs(30));
}

#[test]
fn unknown_names_are_errors_with_the_nearest() {
    for (name, meant) in [
        ("PRODIGY_STORAGE_BASEPATH", "PRODIGY_STORAGE_BASE_PATH"),
        ("PRODIGY_STORAGE_TYP", "PRODIGY_STORAGE_TYPE"),
        ("PRODIGY_STORAGE_TIMEOUT", "PRODIGY__STORAGE__TIMEOUT"),
        (
            "PRODIGY_STORAGE_MAX_RETRIES",
            "PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES",
        ),
        (
            "PRODIGY__STORAGE__RETRY_POLICY_MAX_RETRIES",
            "PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES",
        ),
        (
            "PRODIGY__STORAGE__retry_policy__jitter",
            "PRODIGY__STORAGE__RETRY_POLICY__JITTER",
        ),
        (
            "PRODIGY__STORAGE__CACHE_CONFIG__TTTL",
            "PRODIGY__STORAGE__CACHE_CONFIG__TTL",
        ),
    ] {
        let fixture = Fixture::new().variable(name, "x");
        let errors = fixture.load().unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
        let error = errors.iter().next().unwrap();
        assert_eq!(error.what(), format!("unknown variable {name}"));
        assert_eq!(
            error.suggestion(),
            Some(format!("did you mean {meant}?").as_str())
        );
        assert_eq!(*error.origin(), Origin::Variable(name.to_owned()));
    }
    let errors = Fixture::new()
        .variable("PRODIGY_STORAGE_COLOUR_OF_THE_SKY", "x")
        .errors();
    assert!(errors.contains("unset it"), "{errors}");
}

#[test]
fn other_names_are_none_of_ours() {
    let fixture = Fixture::new()
        .variable("PRODIGY_LOG", "debug")
        .variable("PRODIGY__AGENT__NAME", "x")
        .variable("PRODIGY_STORAGES", "x")
        .variable("STORAGE_TYPE", "x");
    let loaded = fixture.load().unwrap();
    assert!(loaded.notices.is_empty());
}

#[test]
fn two_names_of_one_key_may_only_agree() {
    let both = |long: &str, short: &str| {
        Fixture::new()
            .variable("PRODIGY__STORAGE__BACKEND", long)
            .variable("PRODIGY_STORAGE_TYPE", short)
    };
    assert_eq!(
        both("memory", "memory").load().unwrap().config.backend,
        BackendKind::Memory
    );
    let errors = both("memory", "file").errors();
    assert!(errors.contains("`backend` is set twice"), "{errors}");
    assert!(
        errors.contains("unset PRODIGY__STORAGE__BACKEND or PRODIGY_STORAGE_TYPE"),
        "{errors}"
    );
}

#[test]
fn the_environment_is_one_source() {
    let fixture = Fixture::new()
        .variable("PRODIGY_STORAGE_TYPE", "memory")
        .variable("PRODIGY_STORAGE_BASE_PATH", "/srv");
    let errors = fixture.errors();
    assert!(
        errors.contains("`backend_config.base_dir` can't be combined with `backend: memory`"),
        "{errors}"
    );
}

#[test]
fn values_of_the_wrong_kind_name_the_variable() {
    for (key, value, part) in [
        ("TIMEOUT", "30", "for seconds write `30s`"),
        ("ENABLE_CACHE", "yes", "`true` or `false` (or `1` or `0`)"),
        ("CONNECTION_POOL_SIZE", "1.5", "a whole number is wanted"),
        ("RETRY_POLICY__MAX_RETRIES", "-1", "must not be negative"),
        ("RETRY_POLICY__BACKOFF_MULTIPLIER", "inf", "finite"),
        ("BACKEND_CONFIG__MAX_FILE_SIZE", "100M", "`100MB` or `100MiB`"),
        ("BACKEND_CONFIG__BASE_DIR", "~bob", "another user's home"),
        ("DURABILITY", "strikt", "did you mean `strict`?"),
    ] {
        let name = format!("PRODIGY__STORAGE__{key}");
        let errors = Fixture::new().variable(&name, value).errors();
        assert!(
            errors.contains(part) && errors.contains(&format!("where: variable {name}")),
            "{errors}"
        );
    }
    for (value, expected) in [("1", true), ("False", false), ("0", false), ("tRUE", true)] {
        let fixture = Fixture::new().variable("PRODIGY__STORAGE__ENABLE_CACHE", value);
        assert_eq!(fixture.load().unwrap().config.enable_cache, expected);
    }
}

#[cfg(unix)]
#[test]
fn only_a_path_may_be_other_than_unicode() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(b"/srv/\xff".to_vec());
    let environment = MapEnvironment::new().with("PRODIGY_STORAGE_BASE_PATH", odd());
    let loaded = Loader::new(environment).load().unwrap();
    assert_eq!(loaded.config.file.base_dir, PathBuf::from(odd()));
    assert!(
        loaded
            .config
            .to_yaml()
            .unwrap_err()
            .to_string()
            .contains("backend_config.base_dir")
    );
    let environment = MapEnvironment::new()
        .with("HOME", "/h")
        .with("PRODIGY_STORAGE_TYPE", odd());
    let errors = Loader::new(environment).load().unwrap_err();
    assert!(errors.to_string().contains("not valid Unicode"), "{errors}");
}

#[test]
fn home_is_needed_only_where_it_is_used() {
    let load = |environment: MapEnvironment| Loader::new(environment).load();
    let errors = load(MapEnvironment::new()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors.to_string().contains("`HOME` is not set"), "{errors}");
    for (name, value) in [
        ("PRODIGY_HOME", "/p"),
        ("PRODIGY_STORAGE_BASE_PATH", "/p"),
        ("PRODIGY_STORAGE_TYPE", "memory"),
        ("PRODIGY__STORAGE__BACKEND_CONFIG__USE_GLOBAL", "false"),
    ] {
        assert!(load(MapEnvironment::new().with(name, value)).is_ok(), "{name}");
    }
    for name in ["PRODIGY_HOME", "PRODIGY_CONFIG", "PRODIGY_STORAGE_BASE_PATH"] {
        assert!(load(MapEnvironment::new().with(name, "~/p")).is_err(), "{name}");
    }
}

#[test]
fn prodigy_home_stands_for_the_folder_in_the_home() {
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.toml", "[storage]\ntimeout = \"1s\"\n");
    fixture.write("home/moved/config.toml", "[storage]\ntimeout = \"2s\"\n");
    let fixture = fixture.variable("PRODIGY_HOME", "~/moved");
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.timeout, Duration::from_secs(2));
    assert_eq!(loaded.config.file.base_dir, fixture.path("home/moved"));
    assert_eq!(
        *loaded.origin("backend_config.base_dir"),
        Origin::Variable("PRODIGY_HOME".to_owned())
    );
}

/// Prodigy itself reads a variable of this name, so it has to be accepted.
#[test]
fn the_variable_that_prodigy_reads_sets_the_backend_with_a_notice() {
    let environment = MapEnvironment::new()
        .with("HOME", "/home/ada")
        .with("PRODIGY_STORAGE_BACKEND", "memory");
    let loaded = Loader::new(environment.clone()).load().unwrap();
    assert_eq!(loaded.config.backend, BackendKind::Memory);
    assert!(matches!(
        &loaded.notices[..],
        [Notice::DeprecatedVariable { name, .. }] if name == "PRODIGY_STORAGE_BACKEND"
    ));
    let both = environment.with("PRODIGY_STORAGE_TYPE", "file");
    assert_eq!(
        Loader::new(both).load().unwrap().config.backend,
        BackendKind::File
    );
}

/// A relative path would mean another root in each folder, so two processes could hold the same lock.
#[test]
fn a_relative_home_is_no_home() {
    for home in ["rel", "./rel", "~"] {
        let error = Loader::new(MapEnvironment::new().with("HOME", home))
            .load()
            .unwrap_err();
        assert!(error.to_string().contains("not an absolute path"), "{error}");
        let environment = MapEnvironment::new()
            .with("HOME", home)
            .with("PRODIGY_STORAGE_BASE_PATH", "/srv/x");
        assert!(Loader::new(environment).load().is_ok(), "{home}");
    }
}
