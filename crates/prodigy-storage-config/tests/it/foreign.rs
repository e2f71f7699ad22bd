//! Files of other users and programs, relative paths, and hostile text.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prodigy_storage_config::{BackendKind, Notice, StorageConfig};

use crate::fixture::Fixture;

/// A duration whose sum overflows inside `humantime`.
const OVERFLOW: &str = "18446744073709551615s 999999999ns 1ns";

/// Creates a main worktree at `project` and a linked one at `linked`, with the files that git writes.
fn repository(fixture: &Fixture) {
    fixture.write("project/.git/HEAD", "ref: refs/heads/main\n");
    for folder in ["objects", "refs", "worktrees/linked"] {
        fs::create_dir_all(fixture.path("project/.git").join(folder)).unwrap();
    }
    fixture.write("project/.git/worktrees/linked/HEAD", "ref: refs/heads/x\n");
    fixture.write("project/.git/worktrees/linked/commondir", "../..\n");
    let git_dir = fixture.path("project/.git/worktrees/linked");
    fixture.write("linked/.git", &format!("gitdir: {}\n", git_dir.display()));
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap()
}

#[test]
fn a_duration_that_overflows_is_an_error_in_every_source() {
    for text in [OVERFLOW, "1000y"] {
        for (name, content) in [
            (
                "config.yaml",
                format!("storage:\n  timeout: {text}\n  cache_config: {{ttl: {text}}}\n"),
            ),
            (
                "config.toml",
                format!("[storage]\ntimeout = \"{text}\"\ncache_config = {{ttl = \"{text}\"}}\n"),
            ),
        ] {
            let fixture = Fixture::new();
            fixture.write(&format!("home/.prodigy/{name}"), &content);
            let errors = fixture.load().unwrap_err();
            assert_eq!(errors.len(), 2, "{errors}");
            assert!(
                errors
                    .iter()
                    .all(|error| error.reason().unwrap().contains("at most 100y")),
                "{errors}"
            );
        }
        let errors = Fixture::new()
            .variable("PRODIGY__STORAGE__TIMEOUT", text)
            .errors();
        assert!(
            errors.contains("at most 100y") && errors.contains(text),
            "{errors}"
        );
    }
    let config = StorageConfig::default().timeout(Duration::MAX);
    let errors = config.resolved(&Fixture::new().environment, None).unwrap_err();
    assert!(errors.to_string().contains("at most 100y"), "{errors}");
}

#[test]
fn a_relative_base_dir_is_the_same_for_every_worktree() {
    let fixture = Fixture::new();
    repository(&fixture);
    let text = "storage:\n  backend_config:\n    base_dir: data\n";
    fixture.write("project/.prodigy/config.yml", text);
    fixture.write("linked/.prodigy/config.yml", text);
    let root = |worktree: &str| {
        let loader = fixture.loader().project_dir(fixture.path(worktree));
        loader.load().unwrap().config.file.base_dir
    };
    assert_eq!(root("project"), real(&fixture.path("project")).join("data"));
    assert_eq!(root("linked"), root("project"));
    // A worktree without a file uses the file of the main worktree.
    fs::remove_dir_all(fixture.path("linked/.prodigy")).unwrap();
    assert_eq!(root("linked"), root("project"));
    // A named file outside of `.prodigy` also belongs to the project that contains it.
    let named = fixture.write("linked/deep/settings.yml", text);
    let loaded = fixture.loader().file(named).load().unwrap();
    assert_eq!(loaded.config.file.base_dir, root("project"));
}

#[test]
fn a_bare_repository_has_one_place_for_all_worktrees() {
    let fixture = Fixture::new();
    repository(&fixture);
    fixture.write("project/.git/config", "[core]\n\tbare = true\n");
    let text = "storage:\n  backend_config:\n    base_dir: data\n";
    fixture.write("linked/.prodigy/config.yml", text);
    let loader = fixture.loader().project_dir(fixture.path("linked"));
    assert_eq!(
        loader.load().unwrap().config.file.base_dir,
        real(&fixture.path("project")).join("data")
    );
}

#[test]
fn a_relative_path_in_a_broken_repository_is_an_error() {
    let fixture = Fixture::new();
    fixture.write("project/.git", "gitdir: /nowhere/at/all\n");
    fixture.write(
        "project/.prodigy/config.yml",
        "storage:\n  backend_config:\n    base_dir: data\n",
    );
    let errors = fixture.errors();
    assert!(
        errors.contains("project that the file belongs to is not known"),
        "{errors}"
    );
}

#[test]
fn a_relative_path_in_a_variable_is_an_error() {
    for name in [
        "PRODIGY_STORAGE_BASE_PATH",
        "PRODIGY_STORAGE_DIR",
        "PRODIGY_STORAGE_PATH",
        "PRODIGY__STORAGE__BACKEND_CONFIG__BASE_DIR",
        "PRODIGY_HOME",
        "PRODIGY_CONFIG",
    ] {
        for value in ["data", "./data.yml", "../data.yml"] {
            let errors = Fixture::new().variable(name, value).errors();
            assert!(
                errors.contains("is a relative path") && errors.contains(name),
                "{errors}"
            );
        }
    }
}

#[test]
fn what_a_shell_would_have_replaced_is_an_error_in_every_source() {
    for path in ["$HOME/data", "/srv/${USER}", "file:///srv/data", "%HOME%/x"] {
        let fixture = Fixture::new();
        fixture.write(
            "home/.prodigy/config.yaml",
            &format!("storage:\n  backend_config:\n    base_dir: \"{path}\"\n"),
        );
        assert!(
            fixture.errors().contains("is not expanded"),
            "{}",
            fixture.errors()
        );
        let fixture = Fixture::new().variable("PRODIGY_HOME", path);
        assert!(
            fixture.errors().contains("is not expanded"),
            "{}",
            fixture.errors()
        );
        let flag = Fixture::new()
            .loader()
            .flag("backend_config.base_dir", path)
            .load();
        assert!(flag.unwrap_err().to_string().contains("is not expanded"));
    }
}

#[cfg(unix)]
#[test]
fn a_projects_file_of_another_user_is_refused_unless_it_is_named() {
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture::new();
    let path = fixture.write("project/.prodigy/config.yml", "storage:\n  timeout: 9s\n");
    // Root can give the file to another user. Any other user instead pretends to be a different user.
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    let fixture = if is_root {
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        fixture
    } else {
        let environment = fixture.environment.clone().with_user(4321);
        Fixture {
            environment,
            ..fixture
        }
    };
    let errors = fixture.errors();
    assert!(
        errors.contains("belongs to another user") && errors.contains("PRODIGY_CONFIG"),
        "{errors}"
    );
    let owner = fs::metadata(&path).unwrap().uid();
    let environment = fixture.environment.clone().with_user(owner);
    let own = Fixture {
        environment,
        ..fixture
    };
    assert!(own.load().is_ok());
    let environment = own.environment.clone().with_user(owner + 1);
    let named = Fixture { environment, ..own }.variable("PRODIGY_CONFIG", &path);
    assert_eq!(named.load().unwrap().config.timeout, Duration::from_secs(9));
}

#[cfg(unix)]
#[test]
fn a_projects_file_that_everybody_may_write_is_refused_unless_it_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let path = fixture.write("project/.prodigy/config.yml", "storage:\n  timeout: 9s\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap());
    let environment = fixture.environment.clone().with_user(owner);
    let own = Fixture {
        environment,
        ..fixture
    };
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    set(0o664);
    assert!(own.load().is_ok(), "a group is of the user's choice");
    set(0o646);
    let errors = own.errors();
    assert!(
        errors.contains("every user may write") && errors.contains("chmod o-w"),
        "{errors}"
    );
    let named = own.variable("PRODIGY_CONFIG", &path);
    assert_eq!(named.load().unwrap().config.timeout, Duration::from_secs(9));
}

/// Gives a symbolic link or a folder to another user, and checks that the file behind it is not read.
#[cfg(unix)]
fn assert_of_another_user_is_refused(fixture: &Fixture, link: &Path) {
    if std::os::unix::fs::lchown(link, Some(4321), None).is_err() {
        eprintln!("SKIPPED: only root can give a link or a folder to another user");
        return;
    }
    assert!(
        fixture.errors().contains("belongs to another user"),
        "{}",
        fixture.errors()
    );
}

#[cfg(unix)]
#[test]
fn a_link_of_another_user_in_place_of_the_folder_is_refused_too() {
    let fixture = Fixture::new();
    fixture.write("own/config.yml", "storage:\n  timeout: 9s\n");
    fs::create_dir_all(fixture.path("project")).unwrap();
    let link = fixture.path("project/.prodigy");
    std::os::unix::fs::symlink(fixture.path("own"), &link).unwrap();
    assert!(fixture.load().is_ok(), "a link of one's own is followed");
    assert_of_another_user_is_refused(&fixture, &link);
}

#[cfg(unix)]
#[test]
fn a_file_of_ones_own_in_a_folder_of_another_user_is_refused_too() {
    let fixture = Fixture::new();
    let path = fixture.write("project/.prodigy/config.yml", "storage:\n  timeout: 9s\n");
    assert!(fixture.load().is_ok());
    assert_of_another_user_is_refused(&fixture, path.parent().unwrap());
}

#[cfg(unix)]
#[test]
fn a_link_of_another_user_is_refused_too() {
    let fixture = Fixture::new();
    let target = fixture.write("own.yml", "storage:\n  timeout: 9s\n");
    fs::create_dir_all(fixture.path("project/.prodigy")).unwrap();
    let link = fixture.path("project/.prodigy/config.yml");
    std::os::unix::fs::symlink(target, &link).unwrap();
    assert_of_another_user_is_refused(&fixture, &link);
}

#[test]
fn a_projects_file_that_weakens_durability_or_locking_is_noticed() {
    let text = "storage:\n  enable_locking: false\n  durability: relaxed\n  backend_config:\n    enable_file_locks: false\n    allow_shared_root: true\n    allow_network_fs: true\n    allow_foreign_owner: true\n";
    let fixture = Fixture::new();
    fixture.write("project/.prodigy/config.yml", text);
    let keys: Vec<_> = fixture
        .load()
        .unwrap()
        .notices
        .iter()
        .map(|notice| match notice {
            Notice::WeakenedByProject { key, .. } => *key,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        keys,
        [
            "enable_locking",
            "durability",
            "backend_config.enable_file_locks",
            "backend_config.allow_shared_root",
            "backend_config.allow_network_fs",
            "backend_config.allow_foreign_owner"
        ]
    );
    assert!(fixture.notices()[0].contains("project/.prodigy/config.yml:2:3"));
    // The user's own file may weaken them without a notice. There is also no notice if a later source overrides
    // the project's value.
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.yml", text);
    assert!(fixture.notices().is_empty());
    let fixture = Fixture::new().variable("PRODIGY__STORAGE__DURABILITY", "strict");
    fixture.write("project/.prodigy/config.yml", "storage:\n  durability: relaxed\n");
    assert!(fixture.notices().is_empty());
    let fixture = Fixture::new();
    fixture.write("project/.prodigy/config.yml", "storage:\n  backend: memory\n");
    assert!(fixture.notices()[0].contains("`backend: memory` is set by the project"));
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_does_not_hang() {
    for folder in ["home", "project"] {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path(folder).join(".prodigy")).unwrap();
        let pipe = fixture.path(folder).join(".prodigy/config.yml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(
            fixture.errors().contains("is not a regular file"),
            "{}",
            fixture.errors()
        );
        fs::remove_file(&pipe).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &pipe).unwrap();
        let errors = fixture.errors();
        assert!(errors.contains("is not a regular file"), "{errors}");
    }
}

#[test]
fn a_file_of_more_than_a_mebibyte_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.write("home/.prodigy/config.yml", "");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(fixture.errors().contains("too large"), "{}", fixture.errors());
    let full = format!("storage:\n  timeout: 9s\n#{}", "x".repeat((1 << 20) - 24));
    fixture.write("home/.prodigy/config.yml", &full);
    assert_eq!(full.len(), 1 << 20);
    assert_eq!(fixture.load().unwrap().config.timeout, Duration::from_secs(9));
}

#[test]
fn variables_of_a_container_platform_are_ignored() {
    let fixture = Fixture::new()
        .variable("PRODIGY_STORAGE_SERVICE_HOST", "10.0.0.1")
        .variable("PRODIGY_STORAGE_SERVICE_PORT", "80")
        .variable("PRODIGY_STORAGE_SERVICE_PORT_HTTP", "80")
        .variable("PRODIGY_STORAGE_PORT", "tcp://10.0.0.1:80")
        .variable("PRODIGY_STORAGE_PORT_80_TCP", "tcp://10.0.0.1:80")
        .variable("PRODIGY_STORAGE_PORT_80_TCP_ADDR", "10.0.0.1")
        .variable("PRODIGY_STORAGE_DB_SERVICE_HOST", "10.0.0.2")
        .variable("PRODIGY_STORAGE_DB_SERVICE_PORT", "5432")
        .variable("PRODIGY_STORAGE_DB_SERVICE_PORT_SQL", "5432")
        .variable("PRODIGY_STORAGE_DB_PORT", "tcp://10.0.0.2:5432")
        .variable("PRODIGY_STORAGE_DB_PORT_5432_TCP_PROTO", "tcp");
    assert!(fixture.notices().is_empty());
    assert_eq!(
        fixture.load().unwrap().config,
        Fixture::new()
            .variable("HOME", fixture.path("home"))
            .load()
            .unwrap()
            .config
    );
}

#[test]
fn filesystem_is_another_word_for_file() {
    let fixture = Fixture::new();
    fixture.write("home/.prodigy/config.yml", "storage:\n  backend: filesystem\n");
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.backend, BackendKind::File);
    assert!(loaded.config.to_yaml().unwrap().contains("backend: file\n"));
    let fixture = Fixture::new().variable("PRODIGY_STORAGE_TYPE", "FileSystem");
    assert_eq!(fixture.load().unwrap().config.backend, BackendKind::File);
}

#[cfg(unix)]
#[test]
fn a_variable_whose_name_is_not_unicode_is_reported_if_it_begins_as_ours() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    for name in [&b"PRODIGY_STORAGE_TYPE\xff"[..], b"PRODIGY__STORAGE__\xff"] {
        let fixture = Fixture::new();
        let set = |value: &str| Fixture {
            environment: fixture
                .environment
                .clone()
                .with(OsString::from_vec(name.to_vec()), value),
            folder: tempfile::tempdir().unwrap(),
        };
        let errors = set("file").errors();
        assert!(
            errors.contains("unknown variable PRODIGY_") && errors.contains("not valid Unicode"),
            "{errors}"
        );
        assert!(set("").load().is_ok(), "an empty variable counts as unset");
    }
    let fixture = Fixture::new();
    let environment = fixture
        .environment
        .clone()
        .with(OsString::from_vec(b"OTHER\xff".to_vec()), "x");
    assert!(
        Fixture {
            environment,
            ..fixture
        }
        .load()
        .is_ok()
    );
}

#[test]
fn the_places_of_a_loaded_configuration_are_absolute() {
    let fixture = Fixture::new();
    fixture.write(
        "home/.prodigy/config.yml",
        "storage:\n  backend: memory\n  backend_config: {persist_to_disk: true, persistence_path: x.jsonl}\n",
    );
    let loaded = fixture.load().unwrap();
    let path = loaded.config.memory.persistence_path.unwrap();
    assert!(
        path.is_absolute() && path.starts_with(Path::new(&fixture.path("home"))),
        "{path:?}"
    );
}

#[test]
fn dotted_keys_are_read_as_sections_are() {
    let nested = "storage:\n  timeout: 9s\n  backend_config:\n    base_dir: /srv/data\n    file:\n      base_dir: /other\n  retry_policy: {max_retries: 7}\n";
    let dotted = [
        "storage:\n  timeout: 9s\n  backend_config:\n    base_dir: /srv/data\n    file.base_dir: /other\n  retry_policy.max_retries: 7\n",
        "storage:\n  timeout: 9s\n  backend_config.base_dir: /srv/data\n  backend_config.file.base_dir: /other\n  retry_policy.max_retries: 7\n",
        "storage.timeout: 9s\nstorage.backend_config.base_dir: /srv/data\nstorage.retry_policy:\n  max_retries: 7\nstorage.backend_config.file.base_dir: /other\n",
        "storage:\n  timeout: 9s\n  backend_config:\nstorage.backend_config.base_dir: /srv/data\nstorage.backend_config:\n  file: {base_dir: /other}\nstorage.retry_policy.max_retries: 7\n",
    ];
    let load = |name: &str, text: &str| {
        let fixture = Fixture::new();
        fixture.write(&format!("home/.prodigy/{name}"), text);
        let loaded = fixture.load().unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        let passed_over = loaded.notices.len();
        (loaded.config, passed_over)
    };
    let (wanted, passed_over) = load("config.yml", nested);
    assert_eq!((wanted.timeout, passed_over), (Duration::from_secs(9), 1));
    assert_eq!(wanted.file.base_dir, Path::new("/srv/data"));
    assert_eq!(wanted.retry_policy.max_retries, 7);
    for text in dotted {
        assert_eq!(load("config.yml", text), (wanted.clone(), 1), "{text}");
    }
    let toml = "[storage]\ntimeout = \"9s\"\n\"backend_config.base_dir\" = \"/srv/data\"\nbackend_config.file.base_dir = \"/other\"\nretry_policy.max_retries = 7\n";
    assert_eq!(load("config.toml", toml), (wanted, 1));
}

#[test]
fn a_dotted_key_that_is_wrong_is_reported_as_a_nested_one_is() {
    for (text, told) in [
        (
            "storage:\n  retry_policy.max_retires: 7\n",
            "did you mean `max_retries`?",
        ),
        (
            "storage:\n  retry_policy.max_retries: x\n",
            "a whole number is wanted",
        ),
        ("storage.timeot: 9s\n", "did you mean `timeout`?"),
        (
            "storage:\n  timeout: 9s\nstorage.timeout: 8s\n",
            "`timeout` is set twice",
        ),
        (
            "storage:\n  backend_config: {base_dir: /a}\n  backend_config.base_dir: /b\n",
            "`backend_config.base_dir` is set twice",
        ),
        (
            "storage:\n  cache_config.file.x: 1\n",
            "unknown key `cache_config.file",
        ),
        (
            "storage:\n  nothing.like.it: 1\n",
            "unknown key `nothing.like.it`",
        ),
    ] {
        let fixture = Fixture::new();
        fixture.write("home/.prodigy/config.yml", text);
        let errors = fixture.load().unwrap_err();
        assert_eq!(errors.len(), 1, "{text}\n{errors}");
        assert!(errors.to_string().contains(told), "{text}\n{errors}");
    }
}
