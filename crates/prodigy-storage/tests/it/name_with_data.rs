//! Names under which data is stored although no repository is registered, and names that the store reserves for
//! itself.

use std::fs;
use std::path::Path;

use prodigy_storage::{DocumentOptions, ErrorKind, Repo, StorageNotice};

use crate::support::{Fixture, builder, file_with, on_each};

/// Creates a plain folder, outside of any git repository.
fn folder(fixture: &Fixture, below: &str) -> std::path::PathBuf {
    let folder = fixture.folder.path().canonicalize().unwrap().join(below);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// True if the only warning says that the name has data, and that the repository was registered or, if
/// `was_registered` is false, was not.
fn says_data(repo: &Repo, name: &str, was_registered: bool) -> bool {
    matches!(repo.notices(), [StorageNotice::HasData { repo, registered, .. }]
        if repo.as_str() == name && *registered == was_registered)
}

fn count(repo: &Repo) -> usize {
    repo.job("j").unwrap().events().read::<u32>().unwrap().count()
}

#[test]
fn a_first_registration_under_a_name_with_data_continues_and_says_so_once() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        let data = storage.repo("shop").unwrap().job("j").unwrap();
        data.events().append(&1).unwrap();
        let shop = folder(fixture, "shop");
        let repo = storage.repo_at(&shop).unwrap();
        assert!(says_data(&repo, "shop", true), "{:?}", repo.notices());
        assert_eq!(count(&repo), 1);
        let text = repo.notices()[0].to_string();
        for command in [
            "`prodigy-storage repo unregister --yes shop`".to_owned(),
            format!(" {}`", shop.display()),
        ] {
            assert!(text.contains(&command), "{command} in {text}");
        }
        assert_eq!(storage.repo_at(&shop).unwrap().notices(), []);
    });
}

#[test]
fn a_name_without_data_is_registered_without_a_notice() {
    on_each(|fixture| {
        let shop = folder(fixture, "shop");
        let storage = &fixture.storage;
        assert_eq!(storage.repo_at(&shop).unwrap().notices(), []);
        // A deleted repository has no data left with which a new one could continue.
        let repo = storage.repo_at(&shop).unwrap();
        let job = repo.job("j").unwrap();
        job.events().append(&1).unwrap();
        job.finish().unwrap();
        repo.documents("plans")
            .unwrap()
            .put("one", &1, DocumentOptions::new())
            .unwrap();
        assert_eq!(repo.delete().unwrap(), 1);
        assert_eq!(storage.repo_at(&shop).unwrap().notices(), []);
    });
}

#[test]
fn data_of_every_kind_is_noticed() {
    type Store = fn(&Fixture, &Repo);
    let kinds: [(&str, Store); 5] = [
        ("events", |_, repo| {
            repo.job("j").unwrap().events().append(&1).unwrap();
        }),
        ("state", |_, repo| {
            let checkpoints = repo.job("j").unwrap().checkpoints();
            checkpoints
                .save_map(&serde_json::json!({}), Default::default())
                .unwrap();
        }),
        ("dead letters", |_, repo| {
            let id = prodigy_storage::ItemId::new("a").unwrap();
            let letter = prodigy_storage::DeadLetter::new(id, 1);
            repo.job("j").unwrap().dlq().push(&letter).unwrap();
        }),
        ("documents", |_, repo| {
            let documents = repo.documents("plans").unwrap();
            documents.put("one", &1, DocumentOptions::new()).unwrap();
        }),
        ("worktrees", |fixture, _| {
            fs::create_dir_all(fixture.folder.path().join("root/worktrees/shop/other")).unwrap();
        }),
    ];
    for (kind, store) in kinds {
        let fixture = file_with(|b| b);
        fs::create_dir_all(fixture.folder.path().join("root")).unwrap();
        store(&fixture, &fixture.storage.repo("shop").unwrap());
        let shop = folder(&fixture, "shop");
        let repo = fixture.storage.repo_at(&shop).unwrap();
        assert!(says_data(&repo, "shop", true), "{kind}: {:?}", repo.notices());
    }
}

#[test]
fn a_handle_for_reading_says_beforehand_that_the_name_has_data_and_registers_nothing() {
    let fixture = file_with(|b| b);
    let data = fixture.storage.repo("shop").unwrap().job("j").unwrap();
    data.events().append(&1).unwrap();
    let shop = folder(&fixture, "shop");
    let root = fixture.folder.path().join("root");
    let reader = builder(&fixture.folder)
        .base_dir(&root)
        .read_only(true)
        .open()
        .unwrap();
    let repo = reader.repo_at(&shop).unwrap();
    assert!(says_data(&repo, "shop", false), "{:?}", repo.notices());
    assert!(!root.join("state/shop/repository.json").exists());
    assert_eq!(repo.registration().unwrap(), None);
    let refused = reader.unregister("shop").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
}

#[test]
fn a_registration_by_hand_under_a_name_with_data_is_noticed() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        let data = storage.repo("imported").unwrap().job("j").unwrap();
        data.events().append(&1).unwrap();
        data.finish().unwrap();
        let shop = folder(fixture, "shop");
        let repo = storage.register(&shop, "imported").unwrap();
        assert!(says_data(&repo, "imported", true), "{:?}", repo.notices());
        assert_eq!(storage.register(&shop, "imported").unwrap().notices(), []);
        // A person who relinks a name wants its data, so there is no warning.
        assert!(storage.unregister("imported").unwrap());
        assert_eq!(storage.relink(&shop, "imported").unwrap().notices(), []);
    });
}

#[test]
fn a_freed_name_keeps_its_data_and_both_repositories_continue() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        let data = storage.repo("shop").unwrap().job("j").unwrap();
        data.events().append(&1).unwrap();
        data.finish().unwrap();
        let (wrong, right) = (folder(fixture, "shop"), folder(fixture, "srv/shop-of-others"));
        let taken = storage.repo_at(&wrong).unwrap();
        let found = taken.registration().unwrap().unwrap();
        assert_eq!(found.path.as_deref(), Some(Path::new(&wrong)));
        assert!(storage.unregister("shop").unwrap());
        assert!(!storage.unregister("shop").unwrap());
        assert_eq!(taken.registration().unwrap(), None);
        // The repository that had the name gets another name. Then the other repository gets the name with its
        // data.
        let other = storage.register(&wrong, "shop-2").unwrap();
        assert_eq!((other.notices(), count(&other)), (&[][..], 0));
        let owner = storage.relink(&right, "shop").unwrap();
        assert_eq!(count(&owner), 1);
        assert_eq!(storage.repo_at(&wrong).unwrap().name().as_str(), "shop-2");
        assert_eq!(storage.repo_at(&right).unwrap().name().as_str(), "shop");
    });
}

#[test]
fn a_name_is_not_freed_while_a_process_works_under_it() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        let shop = folder(fixture, "shop");
        let job = storage.repo_at(&shop).unwrap().job("j").unwrap();
        // The process has an unsealed segment until it closes it.
        job.events().append(&1).unwrap();
        let refused = storage.unregister("shop").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LockUnavailable, "{refused}");
        job.finish().unwrap();
        let lock = storage.lock("shop/j/resume").unwrap();
        let refused = storage.unregister("shop").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LockUnavailable, "{refused}");
        drop(lock);
        assert!(storage.unregister("shop").unwrap());
    });
}

#[test]
fn a_damaged_entry_can_be_removed() {
    let fixture = file_with(|b| b);
    let shop = folder(&fixture, "shop");
    fixture.storage.repo_at(&shop).unwrap();
    let entry = fixture.folder.path().join("root/state/shop/repository.json");
    let text = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, text.replace("registered_at", "registered_ut")).unwrap();
    let repo = fixture.storage.repo("shop").unwrap();
    assert_eq!(repo.registration().unwrap_err().kind(), ErrorKind::Damaged);
    assert!(fixture.storage.unregister("shop").unwrap());
    assert_eq!(repo.registration().unwrap(), None);
}

#[test]
fn no_repository_gets_a_name_of_the_store_itself() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        for own in ["_audit", "_copy", "_AUDIT"] {
            let place = folder(fixture, own);
            let repo = storage.repo_at(&place).unwrap();
            assert!(
                repo.name().as_str().starts_with(&format!("{own}-")),
                "{}",
                repo.name()
            );
            assert_eq!(repo.notices(), []);
            let other = folder(fixture, "other");
            for refused in [storage.register(&other, own), storage.relink(&other, own)] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
            }
        }
    });
}

/// The file of the deleted logs of `a` would be the folder of the tombstones of `a.json`.
#[test]
fn deletions_in_a_repository_whose_name_looks_like_a_file_disturb_no_other() {
    on_each(|fixture| {
        let job = |repo: &str| fixture.storage.repo(repo).unwrap().job("j").unwrap();
        for round in 0..2 {
            for repo in ["a", "a.json", "a.json.json", "b.json", "b"] {
                let job = job(repo);
                job.events().append(&round).unwrap();
                job.finish().unwrap();
                assert!(job.delete().unwrap(), "{repo}");
                assert_eq!(job.events().read::<u32>().unwrap().count(), 0, "{repo}");
            }
        }
        job("a.json").events().append(&7).unwrap();
        assert_eq!(fixture.storage.repo("a.json").unwrap().jobs().count(), 1);
        assert_eq!(fixture.storage.repo("a").unwrap().jobs().count(), 0);
    });
}
