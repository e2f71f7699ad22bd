//! Tests of a root whose path contains a link that is changed to another target.

use super::*;

/// Options for a root behind the link `link`, whose first target is `to`.
fn linked(place: &Place, to: &str) -> FileOptions {
    point(place, to);
    FileOptions::new(place.path("link")).clock(place.clock.clone())
}

/// Changes the target of the link atomically.
fn point(place: &Place, to: &str) {
    let (link, new) = (place.path("link"), place.path("new link"));
    std::os::unix::fs::symlink(place.path(to), &new).unwrap();
    std::fs::rename(new, link).unwrap();
}

/// A root at `v1`; and at `v2`, a copy of it or a different root.
fn two(copy: bool) -> Place {
    let place = Place::filled();
    std::fs::rename(place.root(), place.path("v1")).unwrap();
    if copy {
        let (from, to) = (place.path("v1"), place.path("v2"));
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(from)
                .arg(to)
                .status()
                .unwrap()
                .success()
        );
    } else {
        let other = FileBackend::open(FileOptions::new(place.path("v2"))).unwrap();
        lock(&other).unwrap().release().unwrap();
    }
    place
}

#[test]
fn a_link_that_is_pointed_at_another_store_ends_the_work_on_the_old_one() {
    let place = two(false);
    let backend = FileBackend::open(linked(&place, "v1")).unwrap();
    for (what, found) in reads(&backend) {
        assert_ne!(found.unwrap(), 0, "{what}");
    }
    point(&place, "v2");
    let new = files(&place.path("v2"));
    place.second_passes();
    for (what, found) in reads(&backend) {
        let error = found.unwrap_err();
        assert!(
            is_lost(&error) || error.to_string().contains("link"),
            "{what}: {error}"
        );
        assert_eq!(error.kind(), ErrorKind::Replaced, "{what}");
    }
    assert_eq!(
        save(&backend, Durability::Strict).unwrap_err().kind(),
        ErrorKind::Replaced
    );
    assert_eq!(files(&place.path("v2")), new);
    assert_eq!(
        events(&FileBackend::open(linked(&place, "v1")).unwrap()).unwrap(),
        1
    );
}

#[test]
fn a_link_that_is_pointed_at_a_copy_takes_a_process_that_holds_nothing_with_it() {
    let place = two(true);
    let backend = FileBackend::open(linked(&place, "v1")).unwrap();
    assert_eq!(events(&backend).unwrap(), 1);
    point(&place, "v2");
    let old = files(&place.path("v1"));
    append(&backend, Durability::Strict).unwrap();
    assert_eq!(events(&backend).unwrap(), 2);
    assert_eq!(files(&place.path("v1")), old);
    let copy = FileBackend::open(FileOptions::new(place.path("v2"))).unwrap();
    assert_eq!(events(&copy).unwrap(), 2);
    assert_eq!(backend.capabilities().root, copy.capabilities().root);
}

#[test]
fn a_link_that_is_pointed_elsewhere_takes_a_lock_a_lease_and_a_writer_away() {
    type Hold = fn(&FileBackend) -> Option<Box<dyn prodigy_storage_backend::LockGuard>>;
    let holds: [(&str, Hold); 3] = [
        ("named lock", |backend| Some(lock(backend).unwrap())),
        ("a lease", |backend| {
            let lease = Duration::from_secs(10);
            assert_eq!(
                backend
                    .queue_take(&job(), &Select::eligible(), 1, lease, None, NEVER)
                    .unwrap()
                    .len(),
                1
            );
            None
        }),
        ("open for writing", |backend| {
            append(backend, Durability::Strict).unwrap();
            None
        }),
    ];
    for copy in [true, false] {
        for (what, hold) in holds {
            let place = two(copy);
            let backend = FileBackend::open(linked(&place, "v1")).unwrap();
            let guard = hold(&backend);
            point(&place, "v2");
            if let Some(guard) = guard {
                assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Replaced);
            }
            let error = save(&backend, Durability::Strict).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Replaced, "{what}: {error}");
            assert!(error.why().contains(what), "{error}");
            assert!(error.target().contains("link"), "{error}");
        }
    }
}

#[test]
fn a_link_above_a_root_that_never_was_is_followed_where_it_leads_when_the_store_begins() {
    let place = two(true);
    std::fs::create_dir(place.path("empty")).unwrap();
    point(&place, "empty");
    let options = FileOptions::new(place.path("link/v2")).clock(place.clock.clone());
    let backend = FileBackend::open(options).unwrap();
    assert_eq!(events(&backend).unwrap(), 0);
    point(&place, ".");
    assert_eq!(events(&backend).unwrap(), 1, "not reported as empty");
    append(&backend, Durability::Strict).unwrap();
    assert_eq!(events(&backend).unwrap(), 2);
    assert_eq!(
        files(&place.path("empty")),
        [PathBuf::new()],
        "nothing was written there"
    );
}

#[test]
fn a_link_that_leads_to_the_same_folder_another_way_changes_nothing() {
    let place = two(true);
    let backend = FileBackend::open(linked(&place, "v1")).unwrap();
    let guard = lock(&backend).unwrap();
    append(&backend, Durability::Strict).unwrap();
    std::fs::rename(place.path("v1"), place.path("v3")).unwrap();
    point(&place, "v3");
    guard.check().unwrap();
    append(&backend, Durability::Strict).unwrap();
    assert_eq!(events(&backend).unwrap(), 3);
    point(&place, "gone");
    assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Replaced);
}
