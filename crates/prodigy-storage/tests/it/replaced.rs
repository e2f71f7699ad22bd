//! Programs whose root is replaced while they run.

use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage::{ErrorKind, FollowOptions, SaveOptions, Storage};

use crate::support::{Fixture, builder, file_with};

fn root(fixture: &Fixture) -> PathBuf {
    fixture.folder.path().join("root")
}

/// Removes the root, and opens it again as another process would, which creates a new store.
fn begin_anew(fixture: &Fixture) -> Storage {
    std::fs::remove_dir_all(root(fixture)).unwrap();
    let other = builder(&fixture.folder)
        .base_dir(root(fixture))
        .set("backend_config.max_file_size", "7MB")
        .open()
        .unwrap();
    other.lock("shop/begin").unwrap().release().unwrap();
    other
}

/// Replaces the root by a copy of itself.
fn restore(fixture: &Fixture) {
    let copy = fixture.folder.path().join("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(root(fixture))
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    std::fs::rename(root(fixture), fixture.folder.path().join("old")).unwrap();
    std::fs::rename(copy, root(fixture)).unwrap();
}

/// Restores a copy of the root's contents into the same folder.
fn restore_contents(fixture: &Fixture) {
    let (root, copy) = (root(fixture), fixture.folder.path().join("copy"));
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&root, &copy])
        .status();
    assert!(copied.unwrap().success());
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    for entry in std::fs::read_dir(&copy).unwrap() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), root.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_orchestrator_does_not_start_over_on_a_root_that_was_created_again() {
    let fixture = file_with(|b| b);
    let job = fixture.job();
    job.checkpoints()
        .save_map(&"state", SaveOptions::default())
        .unwrap();
    let _other = begin_anew(&fixture);
    let error = job.checkpoints().latest_map::<String>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replaced);
    assert!(
        error.hint().unwrap().contains("open the storage again"),
        "{error}"
    );
    assert_eq!(
        job.checkpoints()
            .save_map(&"new", SaveOptions::default())
            .unwrap_err()
            .kind(),
        ErrorKind::Replaced
    );
    // A handle that is opened now uses the new store.
    let again = builder(&fixture.folder).base_dir(root(&fixture)).open().unwrap();
    let job = again.repo("shop").unwrap().job("job-1").unwrap();
    assert!(job.checkpoints().latest_map::<String>().unwrap().is_none());
    job.checkpoints()
        .save_map(&"new", SaveOptions::default())
        .unwrap();
}

#[test]
fn a_follower_that_is_running_ends_with_an_error() {
    for way in ["moved", "restored", "contents restored", "begun anew"] {
        let fixture = file_with(|b| b);
        fixture.job().events().append(&"an event").unwrap();
        // A separate handle, which has neither locks nor segments.
        let reader = builder(&fixture.folder)
            .base_dir(root(&fixture))
            .set("backend_config.max_file_size", "9MB")
            .open()
            .unwrap();
        let events = reader.repo("shop").unwrap().job("job-1").unwrap().events();
        let options = FollowOptions::new()
            .poll(Duration::from_millis(1))
            .wait(Duration::from_secs(60));
        let mut follow = events.follow_with::<String>(options).unwrap();
        assert_eq!(follow.next().unwrap().unwrap().event, "an event");
        match way {
            "begun anew" => drop(begin_anew(&fixture)),
            "moved" => std::fs::rename(root(&fixture), fixture.folder.path().join("old")).unwrap(),
            "contents restored" => restore_contents(&fixture),
            // Events that are written to the copy may be before the cursor of the follow.
            _ => restore(&fixture),
        }
        let error = follow.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced);
        assert!(follow.next().is_none());
    }
}

#[test]
fn a_scan_that_is_running_ends_with_an_error_when_the_contents_are_restored() {
    let fixture = file_with(|b| b);
    fixture.job().events().append(&"an event").unwrap();
    let reader = builder(&fixture.folder)
        .base_dir(root(&fixture))
        .set("backend_config.max_file_size", "9MB")
        .open()
        .unwrap();
    let events = reader.repo("shop").unwrap().job("job-1").unwrap().events();
    let mut scan = events.read::<String>().unwrap();
    assert_eq!(scan.next().unwrap().unwrap().event, "an event");
    restore_contents(&fixture);
    let error = scan.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replaced);
    // A new scan reads the copy.
    let again: Vec<_> = events.read::<String>().unwrap().collect();
    assert_eq!(again.len(), 1);
    // The process still has a segment of the old contents, so its append fails.
    let error = fixture.job().events().append(&"another").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replaced);
}

#[test]
fn a_lock_that_was_lost_says_so_and_gives_no_token() {
    let fixture = file_with(|b| b);
    let lock = fixture.storage.lock("shop/resume").unwrap();
    let before = lock.fencing().unwrap();
    let other = begin_anew(&fixture);
    let newer = other.lock("shop/resume").unwrap();
    let newer = newer.fencing().unwrap();
    assert_eq!(newer.token(), before.token(), "a new store counts afresh");
    assert_ne!(newer, before, "a token names its store");
    assert_eq!(lock.check().unwrap_err().kind(), ErrorKind::Replaced);
    assert_eq!(lock.fencing().unwrap_err().kind(), ErrorKind::Replaced);
    let fenced = fixture.job().with_fence(before);
    let saved = fenced.checkpoints().save_map(&"state", SaveOptions::new());
    assert_eq!(saved.unwrap_err().kind(), ErrorKind::Replaced);
    assert_eq!(lock.release().unwrap_err().kind(), ErrorKind::Replaced);
}

#[test]
fn a_repository_does_not_get_the_name_of_another_one_in_a_root_that_was_created_again() {
    let fixture = file_with(|b| b);
    let folder = fixture.folder.path().join("shop");
    std::fs::create_dir(&folder).unwrap();
    let repo = fixture.storage.repo_at(&folder).unwrap();
    begin_anew(&fixture);
    let job = repo.job("job-1").unwrap();
    assert_eq!(job.events().append(&1).unwrap_err().kind(), ErrorKind::Replaced);
    let error = fixture.storage.repo_at(&folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replaced);
}
