//! The names of repositories that git has created.

use std::path::Path;
use std::process::Command;

use prodigy_storage::{Deadline, ErrorKind, IdentityKind};

use crate::support::{Fixture, builder, file_with, on_each};

/// Runs git without any configuration of the user. Returns false if git is not installed.
pub fn git(folder: &Path, args: &[&str]) -> bool {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    let output = command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .output();
    match output {
        Ok(output) => {
            assert!(
                output.status.success(),
                "git {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            true
        }
        Err(_) => false,
    }
}

/// Creates a repository with one commit at a path below the test's folder. `None` if git is not installed.
pub fn repository(fixture: &Fixture, path: &str) -> Option<std::path::PathBuf> {
    let folder = fixture.folder.path().join(path);
    std::fs::create_dir_all(&folder).unwrap();
    (git(&folder, &["init", "-q"]) && git(&folder, &["commit", "-q", "--allow-empty", "-m", "one"]))
        .then_some(folder)
}

#[test]
fn every_worktree_of_a_repository_has_one_name() {
    on_each(|fixture| {
        let Some(shop) = repository(fixture, "a/shop") else {
            return;
        };
        for n in 1..=3 {
            let worktree = fixture.folder.path().join(format!("elsewhere-{n}"));
            git(
                &shop,
                &[
                    "worktree",
                    "add",
                    "-q",
                    worktree.to_str().unwrap(),
                    "-b",
                    &format!("b{n}"),
                ],
            );
            let repo = fixture.storage.repo_at(&worktree).unwrap();
            assert_eq!(repo.name().as_str(), "shop");
            assert_eq!(repo.identity().unwrap().kind, IdentityKind::Repository);
        }
        assert_eq!(fixture.storage.repo_at(&shop).unwrap().name().as_str(), "shop");
        assert!(fixture.storage.repo("shop").unwrap().identity().is_none());
    });
}

#[test]
fn another_repository_of_the_same_folder_name_gets_a_name_of_its_own() {
    on_each(|fixture| {
        let (Some(one), Some(two)) = (repository(fixture, "a/shop"), repository(fixture, "b/shop")) else {
            return;
        };
        assert_eq!(fixture.storage.repo_at(&one).unwrap().name().as_str(), "shop");
        let second = fixture.storage.repo_at(&two).unwrap();
        assert!(second.name().as_str().starts_with("shop-"), "{}", second.name());
        for _ in 0..2 {
            assert_eq!(fixture.storage.repo_at(&one).unwrap().name().as_str(), "shop");
            assert_eq!(fixture.storage.repo_at(&two).unwrap().name(), second.name());
        }
    });
}

#[test]
fn threads_that_meet_a_repository_at_once_agree() {
    on_each(|fixture| {
        let (Some(one), Some(two)) = (repository(fixture, "a/shop"), repository(fixture, "b/shop")) else {
            return;
        };
        let names: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let path = if n % 2 == 0 { &one } else { &two };
                    scope.spawn(move || fixture.storage.repo_at(path).unwrap().name().to_string())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(names.iter().step_by(2).all(|name| *name == names[0]), "{names:?}");
        assert!(
            names.iter().skip(1).step_by(2).all(|name| *name == names[1]),
            "{names:?}"
        );
        assert_ne!(names[0], names[1]);
    });
}

#[test]
fn a_name_in_use_is_not_relinked_and_a_relink_leaves_one_name() {
    on_each(|fixture| {
        let (Some(one), Some(two)) = (repository(fixture, "a/shop"), repository(fixture, "b/other")) else {
            return;
        };
        fixture.storage.repo_at(&one).unwrap();
        fixture.storage.repo_at(&two).unwrap();
        assert_eq!(
            fixture.storage.relink(&two, "shop").unwrap_err().kind(),
            ErrorKind::Conflict
        );
        fixture.storage.relink(&two, "outlet").unwrap();
        assert_eq!(fixture.storage.repo_at(&two).unwrap().name().as_str(), "outlet");
        // The name `other` is free again.
        fixture.storage.relink(&one, "other").unwrap();
        assert_eq!(fixture.storage.repo_at(&one).unwrap().name().as_str(), "other");
    });
}

#[test]
fn a_relink_that_fails_leaves_the_old_name() {
    let fixture = file_with(|b| b);
    let shop = plain(&fixture, "a/shop");
    fixture.storage.relink(&shop, "outlet").unwrap();
    // Nothing can be written under the new name.
    let annex =
        prodigy_storage_layout::Part::Repository(fixture.storage.repo("annex").unwrap().name().clone());
    let moved = prodigy_storage_backend::Moved::new(annex, "elsewhere", prodigy_storage::Timestamp::MIN);
    let backend = fixture.storage.backend();
    backend.mark_moved(&moved, None, Deadline::never()).unwrap();
    fixture.storage.relink(&shop, "annex").unwrap_err();
    assert_eq!(fixture.storage.repo_at(&shop).unwrap().name().as_str(), "outlet");
}

#[test]
fn a_folder_stands_for_itself_and_an_absent_one_for_nothing() {
    on_each(|fixture| {
        let folder = fixture.folder.path().join("plain");
        std::fs::create_dir(&folder).unwrap();
        let repo = fixture.storage.repo_at(&folder).unwrap();
        assert_eq!(
            (repo.name().as_str(), repo.identity().unwrap().kind),
            ("plain", IdentityKind::Folder)
        );
        let absent = fixture
            .storage
            .repo_at(fixture.folder.path().join("absent"))
            .unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_handle_for_reading_registers_nothing() {
    let fixture = file_with(|b| b);
    let folder = fixture.folder.path().join("plain");
    std::fs::create_dir(&folder).unwrap();
    let root = fixture.folder.path().join("root");
    let reader = builder(&fixture.folder)
        .base_dir(&root)
        .read_only(true)
        .open()
        .unwrap();
    assert_eq!(reader.repo_at(&folder).unwrap().name().as_str(), "plain");
    assert!(!root.exists());
    // A handle finds what another handle has registered.
    fixture.storage.relink(&folder, "chosen").unwrap();
    assert_eq!(reader.repo_at(&folder).unwrap().name().as_str(), "chosen");
}

#[test]
fn a_name_that_differs_only_by_case_is_another_ones() {
    on_each(|fixture| {
        let folder = fixture.folder.path().join("plain");
        std::fs::create_dir(&folder).unwrap();
        // On a case-insensitive file system, looking up `plain` returns this entry, which was registered as `Plain`.
        // Its repository is gone, so under exactly the same name it would be a conflict.
        let identity = fixture.folder.path().join("gone");
        let entry = serde_json::json!({
            "name": "Plain", "identity": identity.to_str().unwrap(), "registered_at": "2026-01-01T00:00:00Z",
        });
        let document = prodigy_storage_layout::Document::Repository(
            fixture.storage.repo("plain").unwrap().name().clone(),
        );
        let options = prodigy_storage_backend::PutOptions::default();
        let mut buffer = Vec::new();
        let body = prodigy_storage_backend::Body::write(&mut buffer, &entry).unwrap();
        let backend = fixture.storage.backend();
        backend.put(&document, body, &options, Deadline::never()).unwrap();
        let error_or_name = fixture
            .storage
            .repo_at(&folder)
            .map(|repo| repo.name().to_string());
        assert!(error_or_name.unwrap().starts_with("plain-"));
    });
}

/// Flips a byte of a registry entry.
fn damage(fixture: &Fixture, name: &str) {
    let path = fixture
        .folder
        .path()
        .join("root/state")
        .join(name)
        .join("repository.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

pub fn plain(fixture: &Fixture, path: &str) -> std::path::PathBuf {
    let folder = fixture.folder.path().join(path);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_damaged_entry_makes_no_second_namespace_and_a_relink_mends_it() {
    let fixture = file_with(|b| b);
    let shop = plain(&fixture, "a/shop");
    // The repository is registered under a name that differs from its folder's.
    fixture.storage.relink(&shop, "outlet").unwrap();
    damage(&fixture, "outlet");
    for _ in 0..2 {
        let error = fixture.storage.repo_at(&shop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(
            error
                .hint()
                .unwrap()
                .contains(&format!("repo relink outlet {}`", shop.display())),
            "{:?}",
            error.hint()
        );
    }
    assert_eq!(fixture.storage.repositories().all().unwrap().len(), 1);
    fixture.storage.relink(&shop, "outlet").unwrap();
    assert_eq!(fixture.storage.repo_at(&shop).unwrap().name().as_str(), "outlet");
    let kept = std::fs::read_dir(fixture.folder.path().join("root/quarantine")).unwrap();
    assert_eq!(kept.count(), 1, "what was damaged is kept");
}

#[test]
fn a_damaged_entry_costs_no_other_repository_its_name() {
    let fixture = file_with(|b| b);
    let (one, two) = (plain(&fixture, "a/shop"), plain(&fixture, "b/shop"));
    fixture.storage.repo_at(&one).unwrap();
    let second = fixture.storage.repo_at(&two).unwrap().name().clone();
    damage(&fixture, "shop");
    // The name of the second repository's folder is the name of the damaged entry, too.
    assert_eq!(*fixture.storage.repo_at(&two).unwrap().name(), second);
    assert_eq!(
        fixture.storage.repo_at(&one).unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

#[test]
fn after_a_repair_a_damaged_entrys_name_goes_to_no_other_repository() {
    let fixture = file_with(|b| b);
    let (one, two) = (plain(&fixture, "a/shop"), plain(&fixture, "b/shop"));
    let third = plain(&fixture, "third");
    fixture.storage.repo_at(&one).unwrap();
    fixture.storage.relink(&third, "outlet").unwrap();
    for name in ["shop", "outlet"] {
        damage(&fixture, name);
        let doctor = fixture.storage.doctor().unwrap();
        let scope = prodigy_storage::doctor::DoctorScope::all();
        let summary = doctor
            .repair(&scope, std::time::Duration::from_secs(10), &mut |_| {})
            .unwrap();
        assert_eq!((summary.damage, summary.left), (1, 0));
    }
    for folder in [&one, &two, &third] {
        let error = fixture.storage.repo_at(folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    }
    // A relink to the name that a repository had before replaces its damaged entry.
    fixture.storage.relink(&one, "shop").unwrap();
    fixture.storage.relink(&third, "outlet").unwrap();
    assert_eq!(fixture.storage.repo_at(&one).unwrap().name().as_str(), "shop");
    assert_eq!(fixture.storage.repo_at(&third).unwrap().name().as_str(), "outlet");
    let second = fixture.storage.repo_at(&two).unwrap();
    assert!(second.name().as_str().starts_with("shop-"), "{}", second.name());
}

#[test]
fn no_flipped_byte_of_an_entry_makes_a_second_namespace_or_gives_the_first_to_another() {
    let fixture = file_with(|b| b);
    let (one, two) = (plain(&fixture, "a/shop"), plain(&fixture, "b/shop"));
    let third = plain(&fixture, "third");
    fixture.storage.repo_at(&one).unwrap();
    let second = fixture.storage.repo_at(&two).unwrap().name().clone();
    fixture.storage.relink(&third, "outlet").unwrap();
    let names = fixture.storage.repositories().all().unwrap();
    for (folder, name) in [(&one, "shop"), (&two, second.as_str()), (&third, "outlet")] {
        let path = fixture
            .folder
            .path()
            .join("root/state")
            .join(name)
            .join("repository.json");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            for (other, known) in [(&one, "shop"), (&two, second.as_str()), (&third, "outlet")] {
                match fixture.storage.repo_at(other) {
                    Ok(repo) => assert_eq!(repo.name().as_str(), known, "byte {at} of {name}"),
                    Err(error) => {
                        let told = [ErrorKind::Damaged, ErrorKind::NewerFormat].contains(&error.kind());
                        assert!(told && other == folder, "byte {at} of {name}: {error}");
                    }
                }
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(fixture.storage.repositories().all().unwrap(), names);
}

/// The file of the entry of a name.
fn entry_of(fixture: &Fixture, name: &str) -> std::path::PathBuf {
    let state = fixture.folder.path().join("root/state").join(name);
    state.join("repository.json")
}

#[test]
fn entries_that_were_exchanged_are_refused_and_one_relink_puts_all_of_them_back() {
    let fixture = file_with(|b| b);
    let names = ["one", "two", "three"];
    // The folder of a repository need not have its name.
    let folders = names.map(|name| plain(&fixture, &format!("folder-of-{name}")));
    for (folder, name) in folders.iter().zip(names) {
        let repo = fixture.storage.register(folder, name).unwrap();
        repo.job("job").unwrap().events().append(&name).unwrap();
    }
    let whole = names.map(|name| std::fs::read(entry_of(&fixture, name)).unwrap());
    for relinked in 0..3 {
        for (at, name) in names.iter().enumerate() {
            std::fs::write(entry_of(&fixture, name), &whole[(at + 1) % 3]).unwrap();
        }
        for (folder, name) in folders.iter().zip(names) {
            let error = fixture.storage.repo_at(folder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            let hint = error.hint().unwrap().to_owned();
            let command = format!("prodigy-storage repo relink {name} {}", folder.display());
            assert!(hint.contains(&command), "{hint}");
            let entry = fixture
                .storage
                .repo(name)
                .unwrap()
                .registration()
                .unwrap()
                .unwrap();
            assert!(entry.misplaced.is_some());
        }
        fixture
            .storage
            .relink(&folders[relinked], names[relinked])
            .unwrap();
        for (folder, name) in folders.iter().zip(names) {
            assert_eq!(fixture.storage.repo_at(folder).unwrap().name().as_str(), name);
        }
    }
}

#[test]
fn an_entry_under_a_wrong_name_gives_its_data_to_no_other_repository() {
    let fixture = file_with(|b| b);
    let (shop, other) = (plain(&fixture, "shop"), plain(&fixture, "store"));
    fixture.storage.repo_at(&shop).unwrap();
    let state = fixture.folder.path().join("root/state");
    std::fs::rename(state.join("shop"), state.join("store")).unwrap();
    let refused = fixture.storage.relink(&other, "store").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    for folder in [&shop, &other] {
        fixture.storage.repo_at(folder).unwrap_err();
    }
    fixture.storage.relink(&shop, "store").unwrap();
    assert_eq!(fixture.storage.repo_at(&shop).unwrap().name().as_str(), "store");
    let other = fixture.storage.repo_at(&other).unwrap();
    assert!(other.name().as_str().starts_with("store-"), "{}", other.name());
}
