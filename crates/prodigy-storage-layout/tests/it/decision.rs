//! Tests of `decide`: one for each row of the table in `docs/explanation/identity.md`, and properties for all evidence.

use std::path::PathBuf;

use prodigy_storage_layout::{Decision, Evidence, KnownRepo, NameRole, Present, Relation, Timestamp, decide};
use proptest::prelude::*;

fn evidence(path: &str, device: u64, inode: u64, born: i64) -> Evidence {
    Evidence {
        path: PathBuf::from(path),
        file_id: Some((device, inode)),
        born: (born > 0).then(|| Timestamp::from_nanos(born)),
        origin: None,
    }
}

fn with_origin(evidence: Evidence, origin: &str) -> Evidence {
    Evidence {
        origin: Some(origin.to_owned()),
        ..evidence
    }
}

fn known(role: NameRole, recorded: &Evidence, present: Present) -> KnownRepo {
    KnownRepo {
        role,
        recorded: recorded.clone(),
        present,
        active: false,
    }
}

fn at_home(role: NameRole, recorded: &Evidence) -> KnownRepo {
    known(role, recorded, Present::Found(recorded.clone()))
}

fn same(index: usize) -> Decision {
    Decision::Same { index, record: None }
}

fn recorded(index: usize, record: &Evidence) -> Decision {
    Decision::Same {
        index,
        record: Some(record.clone()),
    }
}

const SUGGESTED: NameRole = NameRole::Suggested;
const DISTINCT: NameRole = NameRole::Distinct;
const OTHER: NameRole = NameRole::Other;

#[test]
fn same_path_inode_and_birth_time_on_any_device_is_the_same_repository() {
    let entry = evidence("/a", 1, 10, 100);
    assert_eq!(decide(&entry, &[at_home(OTHER, &entry)]), same(0));
    let other_device = evidence("/a", 2, 10, 100);
    assert_eq!(
        decide(&other_device, &[known(SUGGESTED, &entry, Present::Nothing)]),
        recorded(0, &other_device)
    );
    // The new origin is recorded.
    let with_remote = with_origin(entry.clone(), "host:a");
    assert_eq!(
        decide(&with_remote, &[at_home(SUGGESTED, &entry)]),
        recorded(0, &with_remote)
    );
}

#[test]
fn same_path_and_inode_with_an_unknown_birth_time_is_the_same_and_completed() {
    let (full, bare) = (evidence("/a", 1, 10, 100), evidence("/a", 1, 10, 0));
    assert_eq!(decide(&full, &[at_home(SUGGESTED, &bare)]), recorded(0, &full));
    // Facts that can't be read now are kept as they were recorded.
    assert_eq!(decide(&bare, &[at_home(SUGGESTED, &full)]), same(0));
    let nothing = Evidence {
        file_id: None,
        ..bare.clone()
    };
    assert_eq!(decide(&full, &[at_home(SUGGESTED, &nothing)]), recorded(0, &full));
    assert_eq!(decide(&nothing, &[at_home(SUGGESTED, &full)]), same(0));
}

#[test]
fn the_same_directory_at_another_path_was_moved_and_its_new_path_is_recorded() {
    let (old, new) = (evidence("/old", 1, 10, 100), evidence("/new", 1, 10, 100));
    for present in [Present::Nothing, Present::Found(evidence("/old", 1, 11, 200))] {
        let entry = known(OTHER, &old, present);
        assert_eq!(decide(&new, &[entry]), recorded(0, &new));
    }
}

#[test]
fn a_directory_that_is_mounted_twice_keeps_the_recorded_path() {
    let (one, two) = (evidence("/one", 1, 10, 100), evidence("/two", 1, 10, 100));
    assert_eq!(decide(&two, &[at_home(SUGGESTED, &one)]), same(0));
    // Both paths exist at the same time, so the equal inode shows that they lead to the same directory. No creation
    // time is needed.
    let unborn = evidence("/one", 1, 10, 0);
    let completed = known(SUGGESTED, &unborn, Present::Found(one.clone()));
    assert_eq!(decide(&two, &[completed]), recorded(0, &one));
}

#[test]
fn a_name_whose_repository_is_still_there_goes_to_no_other_one() {
    let (one, two) = (evidence("/a/shop", 1, 10, 100), evidence("/b/shop", 1, 20, 200));
    assert_eq!(
        decide(&two, &[at_home(SUGGESTED, &one)]),
        Decision::Register(DISTINCT)
    );
    // A recorded path that can't be read counts as still in use.
    assert_eq!(
        decide(&two, &[known(SUGGESTED, &one, Present::Unreadable)]),
        Decision::Register(DISTINCT)
    );
    let third = evidence("/c/shop", 1, 30, 300);
    assert_eq!(
        decide(&two, &[at_home(SUGGESTED, &one), at_home(DISTINCT, &third)]),
        Decision::NoName
    );
}

#[test]
fn a_fresh_clone_of_the_same_project_continues_unless_a_job_is_active() {
    let old = with_origin(evidence("/a", 1, 10, 100), "host:a");
    let new = with_origin(evidence("/a", 1, 20, 200), "host:a");
    let mut entry = known(OTHER, &old, Present::Found(new.clone()));
    let clone = Decision::FreshClone {
        index: 0,
        record: new.clone(),
    };
    assert_eq!(decide(&new, std::slice::from_ref(&entry)), clone);
    // The new directory has the inode of the deleted one.
    let reused = with_origin(evidence("/a", 1, 10, 200), "host:a");
    assert!(matches!(
        decide(&reused, std::slice::from_ref(&entry)),
        Decision::FreshClone { index: 0, .. }
    ));
    // Two such entries match, so it is unknown which one is the repository's.
    assert_eq!(
        decide(&new, &[entry.clone(), entry.clone()]),
        Decision::Conflict { index: 0 }
    );
    entry.active = true;
    assert_eq!(decide(&new, &[entry]), Decision::Conflict { index: 0 });
}

#[test]
fn anything_else_at_the_same_path_is_a_conflict() {
    let old = evidence("/a", 1, 10, 100);
    let new = evidence("/a", 1, 20, 200);
    for (old_origin, new_origin) in [
        (None, None),
        (Some("host:a"), None),
        (None, Some("host:a")),
        (Some("host:a"), Some("host:b")),
        (Some(""), Some("")),
    ] {
        let set = |evidence: &Evidence, origin: Option<&str>| Evidence {
            origin: origin.map(str::to_owned),
            ..evidence.clone()
        };
        let new = set(&new, new_origin);
        for role in [SUGGESTED, DISTINCT, OTHER] {
            let entry = known(role, &set(&old, old_origin), Present::Found(new.clone()));
            assert_eq!(decide(&new, &[entry]), Decision::Conflict { index: 0 });
        }
    }
    // Another inode, or another creation time, means another directory.
    for new in [
        evidence("/a", 1, 20, 100),
        evidence("/a", 1, 10, 200),
        evidence("/a", 2, 20, 0),
    ] {
        let entry = known(SUGGESTED, &old, Present::Found(new.clone()));
        assert_eq!(decide(&new, &[entry]), Decision::Conflict { index: 0 });
    }
}

#[test]
fn a_reused_inode_number_is_a_different_repository() {
    let (deleted, new) = (evidence("/old", 1, 10, 100), evidence("/new", 1, 10, 200));
    assert_eq!(
        decide(&new, &[known(OTHER, &deleted, Present::Nothing)]),
        Decision::Register(SUGGESTED)
    );
    // A repository with the same folder name is registered under a distinct name.
    assert_eq!(
        decide(&new, &[known(SUGGESTED, &deleted, Present::Nothing)]),
        Decision::Register(DISTINCT)
    );
}

#[test]
fn an_inode_without_a_birth_time_whose_path_is_gone_is_a_conflict() {
    let (old, new) = (evidence("/old", 1, 10, 0), evidence("/new", 1, 10, 200));
    assert_eq!(
        decide(&new, &[known(OTHER, &old, Present::Nothing)]),
        Decision::Conflict { index: 0 }
    );
}

#[test]
fn a_name_whose_repository_is_gone_is_a_conflict() {
    let (old, new) = (evidence("/a/shop", 1, 10, 100), evidence("/b/shop", 2, 20, 200));
    assert_eq!(
        decide(&new, &[known(SUGGESTED, &old, Present::Nothing)]),
        Decision::Conflict { index: 0 }
    );
    let there = at_home(SUGGESTED, &evidence("/c/shop", 1, 30, 300));
    assert_eq!(
        decide(&new, &[there, known(DISTINCT, &old, Present::Nothing)]),
        Decision::Conflict { index: 1 }
    );
    // An entry with an unrelated name has no effect.
    assert_eq!(
        decide(&new, &[known(OTHER, &old, Present::Nothing)]),
        Decision::Register(SUGGESTED)
    );
}

#[test]
fn the_first_row_that_applies_decides() {
    let found = with_origin(evidence("/a", 1, 10, 100), "host:a");
    let elsewhere = evidence("/b", 1, 10, 100);
    let incomplete = evidence("/a", 1, 10, 0);
    let replaced = with_origin(evidence("/a", 1, 99, 999), "host:a");
    let entries: Vec<KnownRepo> = [&replaced, &elsewhere, &incomplete, &found]
        .map(|evidence| known(OTHER, evidence, Present::Nothing))
        .into();
    assert_eq!(decide(&found, &entries), same(3));
    assert_eq!(decide(&found, &entries[..3]), recorded(2, &found));
    assert_eq!(decide(&found, &entries[..2]), recorded(1, &found));
    assert!(matches!(
        decide(&found, &entries[..1]),
        Decision::FreshClone { index: 0, .. }
    ));
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    (
        prop::sample::select(&["/a", "/b", "/c"][..]),
        prop::option::of((0..2u64, 0..3u64)),
        prop::option::of(0..2i64),
        prop::option::of(prop::sample::select(&["", "host:a", "host:b"][..])),
    )
        .prop_map(|(path, file_id, born, origin)| Evidence {
            path: path.into(),
            file_id,
            born: born.map(|born| Timestamp::from_nanos(born + 1)),
            origin: origin.map(str::to_owned),
        })
}

fn any_known() -> impl Strategy<Value = KnownRepo> {
    (
        prop::sample::select(&[SUGGESTED, DISTINCT, OTHER, OTHER][..]),
        any_evidence(),
        prop_oneof![
            Just(Present::Nothing),
            Just(Present::Unreadable),
            any_evidence().prop_map(Present::Found)
        ],
        any::<bool>(),
    )
        .prop_map(|(role, recorded, present, active)| KnownRepo {
            role,
            recorded,
            present,
            active,
        })
}

proptest! {
    /// Two repositories never get the same name, unless evidence shows that they are the same or a fresh clone.
    #[test]
    fn repositories_are_never_merged_silently(
        found in any_evidence(),
        known in prop::collection::vec(any_known(), 0..5),
    ) {
        let differs = |one: &Option<u64>, other: &Option<u64>| one.is_some() && other.is_some() && one != other;
        match decide(&found, &known) {
            Decision::Same { index, record } => {
                let recorded = &known[index].recorded;
                let inode = |evidence: &Evidence| evidence.file_id.map(|id| id.1);
                prop_assert!(!differs(&inode(recorded), &inode(&found)));
                prop_assert!(recorded.born.is_none() || found.born.is_none() || recorded.born == found.born);
                if recorded.path != found.path {
                    prop_assert!(recorded.file_id.is_some() && recorded.file_id == found.file_id);
                }
                // The recorded evidence matches the repository at its path, or at another path as the same directory.
                if let Some(record) = record {
                    prop_assert!(matches!(
                        record.relation(&found),
                        Relation::Same | Relation::Incomplete | Relation::Elsewhere | Relation::PerhapsElsewhere
                    ));
                }
            }
            Decision::FreshClone { index, record } => {
                let entry = &known[index];
                prop_assert_eq!(&entry.recorded.path, &found.path);
                prop_assert!(!entry.active);
                prop_assert!(entry.recorded.origin.as_deref().is_some_and(|origin| !origin.is_empty()));
                prop_assert_eq!(&entry.recorded.origin, &found.origin);
                prop_assert_eq!(record, found);
            }
            Decision::Register(role) => {
                prop_assert_ne!(role, OTHER);
                prop_assert!(known.iter().all(|known| known.role != role));
            }
            Decision::Conflict { index } => prop_assert!(index < known.len()),
            Decision::NoName => prop_assert!(known.len() >= 2),
        }
    }

    /// After the evidence of a decision is recorded, the next decision finds the same directory again, whatever else is
    /// registered.
    #[test]
    fn a_decision_is_stable(found in any_evidence(), mut known in prop::collection::vec(any_known(), 0..5)) {
        let (index, record) = match decide(&found, &known) {
            Decision::Same { index, record: Some(record) } | Decision::FreshClone { index, record } => (index, record),
            _ => return Ok(()),
        };
        known[index].recorded = record;
        match decide(&found, &known) {
            Decision::Same { index: again, .. } if known[index].recorded.path == found.path => {
                let first = known.iter().position(|entry| entry.recorded == known[index].recorded);
                prop_assert!(again <= index && (Some(again) == first || again < index));
            }
            Decision::Same { .. } => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
