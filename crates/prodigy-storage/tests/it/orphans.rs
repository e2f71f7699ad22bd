use prodigy_storage::{ErrorKind, OrphanedWorktree, SessionId};

use crate::support::{file_with, memory_with, on_each};

fn orphan(n: usize) -> OrphanedWorktree {
    OrphanedWorktree::new(
        format!("agent-{n}"),
        format!("item-{n}"),
        format!("/srv/worktrees/{n}"),
        "busy",
    )
}

#[test]
fn orphans_are_recorded_listed_and_removed() {
    on_each(|fixture| {
        let (job, orphans) = (fixture.job(), fixture.job().orphans());
        assert!(orphans.list().unwrap().is_empty());
        assert!(!orphans.remove("/srv/worktrees/1").unwrap());
        orphans.record(&orphan(1)).unwrap();
        orphans.record(&orphan(2)).unwrap();
        let mut again = orphan(1);
        again.error = "still busy".into();
        orphans.record(&again).unwrap();
        let list = orphans.list().unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(
            (list[0].agent_id.as_str(), list[0].error.as_str()),
            ("agent-1", "still busy")
        );
        let all: Vec<_> = fixture
            .storage
            .repo("shop")
            .unwrap()
            .orphans()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            (all.len(), all[0].orphans.len(), &all[0].job),
            (1, 2, &job.address().job)
        );
        assert!(orphans.remove("/srv/worktrees/1").unwrap());
        assert!(orphans.remove("/srv/worktrees/2").unwrap());
        assert!(orphans.list().unwrap().is_empty());
        assert_eq!(fixture.storage.repo("shop").unwrap().orphans().count(), 0);
    });
}

#[test]
fn threads_that_record_at_once_lose_nothing() {
    on_each(|fixture| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let orphans = fixture.job().orphans();
                scope.spawn(move || (0..5).for_each(|n| orphans.record(&orphan(thread * 5 + n)).unwrap()));
            }
        });
        let mut agents: Vec<_> = fixture
            .job()
            .orphans()
            .list()
            .unwrap()
            .into_iter()
            .map(|o| o.agent_id)
            .collect();
        agents.sort();
        agents.dedup();
        assert_eq!(agents.len(), 20);
    });
}

#[test]
fn a_document_of_another_program_is_read_with_all_its_fields_and_not_changed() {
    let fixture = file_with(|b| b);
    let folder = fixture.folder.path().join("root/orphaned_worktrees/shop");
    std::fs::create_dir_all(&folder).unwrap();
    let text = r#"{"job_id":"job-1","by":"x","orphaned_worktrees":[{"agent_id":"a","item_id":"i","worktree_path":"/w","timestamp":"2025-11-15T07:36:06Z","error":"e","note":1}]}"#;
    std::fs::write(folder.join("job-1.json"), text).unwrap();
    let orphans = fixture.job().orphans();
    let list = orphans.list().unwrap();
    assert_eq!((list.len(), list[0].extra["note"].as_u64()), (1, Some(1)));
    for refused in [
        orphans.record(&orphan(1)).unwrap_err(),
        orphans.remove("/w").unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
    let stored = std::fs::read_to_string(folder.join("job-1.json")).unwrap();
    assert_eq!(stored, text);
}

#[test]
fn a_worktree_has_a_place_and_is_listed_when_it_is_there() {
    let fixture = file_with(|b| b);
    let worktrees = fixture.storage.repo("shop").unwrap().worktrees();
    let session = SessionId::new("session-7").unwrap();
    let path = worktrees.path(&session).unwrap();
    assert!(
        path.is_absolute() && path.ends_with("worktrees/shop/session-7"),
        "{path:?}"
    );
    assert!(worktrees.list().unwrap().is_empty());
    std::fs::create_dir_all(&path).unwrap();
    assert_eq!(worktrees.list().unwrap(), std::slice::from_ref(&session));
    // A link is not a worktree, and links are not followed.
    let folder = path.parent().unwrap();
    std::os::unix::fs::symlink(&path, folder.join("session-8")).unwrap();
    assert_eq!(worktrees.list().unwrap(), [session]);
    std::os::unix::fs::symlink(folder, folder.with_file_name("other")).unwrap();
    let linked = fixture.storage.repo("other").unwrap().worktrees();
    assert_eq!(
        linked.list().unwrap_err().kind(),
        prodigy_storage::ErrorKind::Refused
    );
    let memory = memory_with(|b| b);
    let refused = memory
        .storage
        .repo("shop")
        .unwrap()
        .worktrees()
        .path(&SessionId::new("7").unwrap());
    assert_eq!(
        refused.unwrap_err().kind(),
        prodigy_storage::ErrorKind::Unsupported
    );
}

#[test]
fn the_list_of_another_program_is_read_and_a_change_of_it_is_refused() {
    let fixture = file_with(|builder| builder);
    let orphans = fixture.job().orphans();
    orphans.record(&orphan(1)).unwrap();
    let path = fixture
        .folder
        .path()
        .join("root/orphaned_worktrees/shop/job-1.json");
    let text = r#"[{"path":"/w/1","agent_id":"a","item_id":"i","failed_at":"2026-11-28T13:04:46.279964992Z","error":"denied"}]"#;
    std::fs::write(&path, text).unwrap();
    let listed = orphans.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].worktree_path, std::path::Path::new("/w/1"));
    assert_eq!(
        (listed[0].agent_id.as_str(), listed[0].error.as_str()),
        ("a", "denied")
    );
    let refused = [
        orphans.record(&orphan(2)).unwrap_err(),
        orphans.remove("/w/1").unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(!orphans.remove("/w/other").unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
