//! The cases of the table in `docs/explanation/identity.md`, with folders that are moved, replaced and cloned.
//!
//! A renamed folder keeps its inode and birth time. So two containers that have different folders at the same path
//! are simulated by renaming two folders to that path in turn.

use std::fs;
use std::path::{Path, PathBuf};

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{ErrorKind, IdentityKind, Storage, StorageError, StorageNotice};
use serde_json::Value;

use crate::registry::{git, plain, repository};
use crate::support::{Fixture, builder, file_with, on_each};

/// Makes a folder look like a git repository, without calling git.
fn fake(folder: &Path, origin: Option<&str>) {
    for name in ["objects", "refs"] {
        fs::create_dir_all(folder.join(".git").join(name)).unwrap();
    }
    fs::write(folder.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    if let Some(origin) = origin {
        let config = format!("[remote \"origin\"]\n\turl = {origin}\n");
        fs::write(folder.join(".git/config"), config).unwrap();
    }
}

fn name(storage: &Storage, path: &Path) -> String {
    storage.repo_at(path).unwrap().name().to_string()
}

fn path(fixture: &Fixture, below: &str) -> PathBuf {
    fixture.folder.path().canonicalize().unwrap().join(below)
}

fn entry_path(fixture: &Fixture, name: &str) -> PathBuf {
    path(fixture, &format!("root/state/{name}/repository.json"))
}

fn entry(fixture: &Fixture, name: &str) -> Value {
    serde_json::from_slice(&fs::read(entry_path(fixture, name)).unwrap()).unwrap()
}

/// Writes a registry entry as another program would: without the fields for the checksum.
fn write_entry(fixture: &Fixture, name: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let Value::Object(mut fields) = entry(fixture, name) else {
        panic!("no object")
    };
    for field in ["format", "revision", "checksum"] {
        fields.remove(field);
    }
    change(&mut fields);
    fs::write(entry_path(fixture, name), serde_json::to_vec(&fields).unwrap()).unwrap();
}

fn reader(fixture: &Fixture) -> Storage {
    let root = fixture.folder.path().join("root");
    let builder = builder(&fixture.folder).base_dir(root).read_only(true);
    builder.open().unwrap()
}

/// Asserts that the error is a conflict, and that its hint has a command for each of the two solutions, with this
/// path.
fn conflict(error: &StorageError, name: &str, place: &Path) {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let hint = error.hint().unwrap();
    for command in [
        format!("`prodigy-storage repo relink {name} {}`", place.display()),
        "`prodigy-storage repo register --as ".to_owned(),
        format!(" {}`", place.display()),
    ] {
        assert!(hint.contains(&command), "{command} in {hint}");
    }
}

#[test]
fn a_moved_repository_continues_and_only_a_command_that_writes_records_its_path() {
    let fixture = file_with(|b| b);
    let (old, new) = (path(&fixture, "a/shop"), path(&fixture, "store"));
    fake(&old, None);
    assert_eq!(name(&fixture.storage, &old), "shop");
    fs::rename(&old, &new).unwrap();
    let before = fs::read(entry_path(&fixture, "shop")).unwrap();
    assert_eq!(name(&reader(&fixture), &new), "shop");
    assert_eq!(fs::read(entry_path(&fixture, "shop")).unwrap(), before);
    assert_eq!(name(&fixture.storage, &new), "shop");
    assert_eq!(
        entry(&fixture, "shop")["identity"],
        new.join(".git").to_str().unwrap()
    );
    assert_eq!(
        entry(&fixture, "shop")["registered_at"],
        serde_json::from_slice::<Value>(&before).unwrap()["registered_at"]
    );
    // The repository that was moved still owns the name of the old folder. So another repository at the old place
    // gets a different name.
    fake(&old, None);
    assert!(name(&fixture.storage, &old).starts_with("shop-"));
    assert_eq!(name(&fixture.storage, &new), "shop");
}

#[test]
fn a_repository_in_the_place_of_one_that_was_renamed_does_not_get_its_data() {
    on_each(|fixture| {
        let Some(api) = repository(fixture, "api") else {
            return;
        };
        let job = |at: &Path| fixture.storage.repo_at(at).map(|repo| repo.job("j").unwrap());
        job(&api).unwrap().events().append(&1).unwrap();
        let old = fixture.folder.path().join("api-old");
        fs::rename(&api, &old).unwrap();
        fs::create_dir(&api).unwrap();
        git(&api, &["init", "-q"]);
        // The new folder is used before the renamed one, so the store does not know yet where the old repository
        // is.
        let error = job(&api).unwrap_err();
        conflict(&error, "api", &api.canonicalize().unwrap());
        let events = job(&old).unwrap().events();
        assert_eq!(events.read::<u32>().unwrap().count(), 1);
        // After the relink, the store knows that the repository of this name is at another place.
        let new = job(&api).unwrap();
        assert_eq!(new.events().read::<u32>().unwrap().count(), 0);
        assert_eq!(name(&fixture.storage, &old), "api");
        assert!(name(&fixture.storage, &api).starts_with("api-"));
    });
}

#[test]
fn two_repositories_that_take_turns_at_one_path_share_nothing() {
    on_each(|fixture| {
        let workspace = path(fixture, "workspace");
        let (one, two) = (path(fixture, "one"), path(fixture, "two"));
        fake(&one, Some("host:one"));
        fake(&two, Some("host:two"));
        let at = |folder: &Path, run: &dyn Fn()| {
            fs::rename(folder, &workspace).unwrap();
            run();
            fs::rename(&workspace, folder).unwrap();
        };
        at(&one, &|| {
            assert_eq!(name(&fixture.storage, &workspace), "workspace");
        });
        at(&two, &|| {
            let error = fixture.storage.repo_at(&workspace).unwrap_err();
            conflict(&error, "workspace", &workspace);
            let repo = fixture.storage.register(&workspace, "second").unwrap();
            assert_eq!(repo.name().as_str(), "second");
        });
        for _ in 0..2 {
            at(&one, &|| {
                assert_eq!(name(&fixture.storage, &workspace), "workspace");
            });
            at(&two, &|| assert_eq!(name(&fixture.storage, &workspace), "second"));
        }
    });
    // It is not damage if two entries have the same path.
    let fixture = file_with(|b| b);
    let workspace = path(&fixture, "workspace");
    fake(&workspace, None);
    name(&fixture.storage, &workspace);
    fs::rename(&workspace, path(&fixture, "one")).unwrap();
    fake(&workspace, None);
    fixture.storage.register(&workspace, "second").unwrap();
    let scope = prodigy_storage::doctor::DoctorScope::all();
    let mut findings = Vec::new();
    let doctor = fixture.storage.doctor().unwrap();
    doctor
        .examine(&scope, &mut |finding| findings.push(format!("{finding:?}")))
        .unwrap();
    assert_eq!(findings, Vec::<String>::new());
}

#[test]
fn a_fresh_clone_of_the_same_project_continues_and_says_so_once() {
    let fixture = file_with(|b| b);
    let shop = path(&fixture, "shop");
    fake(&shop, Some("https://me:secret@host/shop.git"));
    assert!(fixture.storage.repo_at(&shop).unwrap().notices().is_empty());
    let stored = fs::read_to_string(entry_path(&fixture, "shop")).unwrap();
    assert!(
        stored.contains("https://host/shop.git") && !stored.contains("secret"),
        "{stored}"
    );
    fs::rename(&shop, path(&fixture, "away")).unwrap();
    fake(&shop, Some("https://you:other@host/shop.git"));
    let repo = fixture.storage.repo_at(&shop).unwrap();
    assert_eq!(repo.name().as_str(), "shop");
    assert!(
        matches!(repo.notices(), [StorageNotice::FreshClone { repo, .. }] if repo.as_str() == "shop"),
        "{:?}",
        repo.notices()
    );
    let again = fixture.storage.repo_at(&shop).unwrap();
    assert_eq!(again.name().as_str(), "shop");
    assert!(again.notices().is_empty());
}

#[test]
fn a_fresh_clone_is_a_conflict_while_a_job_is_active() {
    let fixture = file_with(|b| b);
    let shop = path(&fixture, "shop");
    let replace = |turn: &str| {
        if shop.exists() {
            fs::rename(&shop, path(&fixture, turn)).unwrap();
        }
        fake(&shop, Some("host:shop"));
    };
    replace("0");
    let job = fixture.storage.repo_at(&shop).unwrap().job("j").unwrap();
    // The process has an unsealed segment until the segment is closed.
    job.events().append(&1).unwrap();
    replace("1");
    let error = fixture.storage.repo_at(&shop).unwrap_err();
    conflict(&error, "shop", &shop);
    assert!(error.to_string().contains("works on a job"), "{error}");
    // A read-only handle decides as a handle that can write does.
    let reader = builder(&fixture.folder)
        .base_dir(fixture.folder.path().join("root"))
        .read_only(true)
        .open()
        .unwrap();
    conflict(&reader.repo_at(&shop).unwrap_err(), "shop", &shop);
    job.finish().unwrap();
    assert_eq!(name(&reader, &shop), "shop");
    assert_eq!(name(&fixture.storage, &shop), "shop");
    // A lock is held whose name begins with the repository's name.
    replace("2");
    let other = fixture.storage.lock("shop-2/j/resume").unwrap();
    let lock = fixture.storage.lock("shop/j/resume").unwrap();
    assert_eq!(
        fixture.storage.repo_at(&shop).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    drop(lock);
    assert_eq!(name(&fixture.storage, &shop), "shop");
    drop(other);
}

#[test]
fn another_directory_at_the_same_path_is_a_conflict_with_both_ways_out() {
    on_each(|fixture| {
        for (number, (before, after)) in [
            (None, None),
            (Some("host:a"), Some("host:b")),
            (Some("host:a"), None),
        ]
        .into_iter()
        .enumerate()
        {
            let folder = format!("shop {number}");
            let shop = path(fixture, &folder);
            fake(&shop, before);
            let first = name(&fixture.storage, &shop);
            fs::rename(&shop, path(fixture, &format!("away {number}"))).unwrap();
            fake(&shop, after);
            let error = fixture.storage.repo_at(&shop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            let hint = error.hint().unwrap().to_owned();
            let quoted = format!("'{}'`", shop.display());
            assert!(hint.contains(&quoted), "{hint}");
            // The proposed name is free. Once it is registered, it belongs to the repository.
            let proposed = hint.split("--as ").nth(1).unwrap().split(' ').next().unwrap();
            fixture.storage.register(&shop, proposed).unwrap();
            assert_eq!(name(&fixture.storage, &shop), proposed);
            // If the folder is the same repository after all, a relink gives it the old name and removes the other
            // one.
            fixture.storage.relink(&shop, &first).unwrap();
            assert_eq!(name(&fixture.storage, &shop), first);
        }
    });
}

#[test]
fn every_message_for_a_path_proposes_the_same_name_until_it_is_taken() {
    on_each(|fixture| {
        let shop = path(fixture, "shop");
        fake(&shop, None);
        let first = name(&fixture.storage, &shop);
        let mut away = 0;
        let mut proposal = || {
            fs::rename(&shop, path(fixture, &format!("away {away}"))).unwrap();
            away += 1;
            fake(&shop, None);
            let error = fixture.storage.repo_at(&shop).unwrap_err();
            let hint = error.hint().unwrap().to_owned();
            hint.split("--as ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        let proposed = proposal();
        assert_ne!(proposed, first);
        for _ in 0..3 {
            assert_eq!(proposal(), proposed);
        }
        fixture.storage.register(&shop, &proposed).unwrap();
        // Another repository has taken the proposed name, so a different name is proposed.
        let other = proposal();
        assert_ne!(other, proposed);
        fixture.storage.register(&shop, &other).unwrap();
    });
}

#[test]
fn a_new_repository_with_the_inode_of_a_deleted_one_is_another_one() {
    let fixture = file_with(|b| b);
    let old = path(&fixture, "old");
    for turn in 0..20 {
        fake(&old, None);
        let before = fixture.storage.repo_at(&old).unwrap().identity().unwrap().clone();
        fs::remove_dir_all(&old).unwrap();
        let new = path(&fixture, &format!("new-{turn}"));
        fake(&new, None);
        // The repository is registered, whatever its inode is.
        let repo = fixture.storage.repo_at(&new).unwrap();
        assert_eq!(repo.name().as_str(), format!("new-{turn}"));
        let after = repo.identity().unwrap();
        if before.file_id == after.file_id {
            assert_ne!(before.born, after.born);
            // A new folder elsewhere that has the name of the deleted one does not get its data either.
            let same = path(&fixture, "elsewhere/old");
            fs::remove_dir_all(&new).unwrap();
            fake(&same, None);
            match fixture.storage.repo_at(&same) {
                Ok(repo) => assert!(repo.name().as_str().starts_with("old-"), "{}", repo.name()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
            return;
        }
        fs::remove_dir_all(&new).unwrap();
        // The next repository at the path gets the name without a conflict.
        fs::remove_file(entry_path(&fixture, "old")).unwrap();
    }
    eprintln!("SKIPPED: this file system gave no inode of a deleted folder to a new one");
}

#[test]
fn a_name_whose_repository_is_gone_is_not_taken_by_another_one() {
    let fixture = file_with(|b| b);
    let (one, two) = (path(&fixture, "a/shop"), path(&fixture, "b/shop"));
    fake(&one, None);
    fake(&two, None);
    name(&fixture.storage, &one);
    fs::remove_dir_all(&one).unwrap();
    let error = fixture.storage.repo_at(&two).unwrap_err();
    conflict(&error, "shop", &two);
    assert!(error.to_string().contains("is gone"), "{error}");
    fixture.storage.register(&two, "outlet").unwrap();
    assert_eq!(name(&fixture.storage, &two), "outlet");
}

#[test]
fn an_entry_without_a_birth_time_is_read_and_completed_by_the_next_writer() {
    let fixture = file_with(|b| b);
    let (shop, moved) = (path(&fixture, "shop"), path(&fixture, "moved"));
    fake(&shop, Some("host:shop"));
    name(&fixture.storage, &shop);
    let strip = || {
        write_entry(&fixture, "shop", |fields| {
            fields.remove("born");
            fields.remove("origin");
        });
    };
    let full = entry(&fixture, "shop");
    strip();
    assert_eq!(name(&reader(&fixture), &shop), "shop");
    assert_eq!(entry(&fixture, "shop").get("origin"), None);
    assert_eq!(name(&fixture.storage, &shop), "shop");
    for field in ["born", "origin", "file_id", "identity", "registered_at"] {
        assert_eq!(entry(&fixture, "shop")[field], full[field], "{field}");
    }
    assert!(
        entry(&fixture, "shop").get("checksum").is_some(),
        "it has its envelope"
    );
    // The folder was moved before the entry got its birth time: the inode alone does not prove that it is the
    // same.
    strip();
    fs::rename(&shop, &moved).unwrap();
    let error = fixture.storage.repo_at(&moved).unwrap_err();
    conflict(&error, "shop", &moved);
    fixture.storage.relink(&moved, "shop").unwrap();
    assert_eq!(name(&fixture.storage, &moved), "shop");
}

#[test]
fn a_name_is_registered_for_one_repository_only() {
    on_each(|fixture| {
        let (one, two) = (path(fixture, "a/shop"), path(fixture, "b/shop"));
        fake(&one, None);
        fake(&two, None);
        let repo = fixture.storage.register(&one, "first").unwrap();
        assert_eq!(repo.name().as_str(), "first");
        fixture.storage.register(&one, "first").unwrap();
        let taken = fixture.storage.register(&two, "first").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Conflict);
        let second = fixture.storage.register(&one, "second").unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Conflict);
        assert!(
            second.hint().unwrap().contains("repo relink --new second "),
            "{second:?}"
        );
        assert_eq!(fixture.storage.repositories().all().unwrap().len(), 1);
        // The name of a repository that no longer exists is not given to another one without a relink.
        fs::remove_dir_all(&one).unwrap();
        let gone = fixture.storage.register(&two, "first").unwrap_err();
        assert!(gone.hint().unwrap().contains("repo relink first "), "{gone:?}");
        fixture.storage.relink(&two, "first").unwrap();
        assert_eq!(name(&fixture.storage, &two), "first");
    });
}

#[cfg(unix)]
#[test]
fn a_git_directory_that_cannot_be_read_is_an_error() {
    on_each(|fixture| {
        let shop = plain(fixture, "shop");
        std::os::unix::fs::symlink(shop.join(".git"), shop.join(".git")).unwrap();
        let error = fixture.storage.repo_at(&shop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(fixture.storage.repositories().all().unwrap().is_empty());
    });
}

#[test]
fn the_environments_ceilings_end_the_search_for_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().canonicalize().unwrap().join("shop");
    fake(&shop, None);
    fs::create_dir_all(shop.join("src/deep")).unwrap();
    let open = |environment: MapEnvironment| {
        let builder = Storage::builder().environment(environment).home(folder.path());
        builder
            .project_dir(folder.path())
            .set("backend", "memory")
            .open()
            .unwrap()
    };
    let free = open(MapEnvironment::new());
    assert_eq!(name(&free, &shop.join("src/deep")), "shop");
    let ended = open(MapEnvironment::new().with("GIT_CEILING_DIRECTORIES", shop.to_str().unwrap()));
    let repo = ended.repo_at(shop.join("src/deep")).unwrap();
    assert_eq!(
        (repo.name().as_str(), repo.identity().unwrap().kind),
        ("deep", IdentityKind::Folder)
    );
    assert_eq!(name(&ended, &shop), "shop");
}
