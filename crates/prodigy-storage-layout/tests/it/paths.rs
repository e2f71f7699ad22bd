use std::path::{Component, Path};

use prodigy_storage_layout::{
    CheckpointKey, Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, Entry, JobAddress,
    JobId, LockName, Phase, PhaseName, RepoName, SegmentForm, SegmentName, SessionId, Stamp, Timestamp,
    checkpoints_folder, documents_folder, events_folder, jobs_folder, locks_folder, orphans_folder,
    quarantine_folder, queue_folder, repo_events_folder, repo_queues_folder, state_folder, worktrees_folder,
};
use proptest::prelude::*;

use crate::strategy;

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job-1").unwrap())
}

fn own_phase(name: &str) -> Phase {
    Phase::Own(PhaseName::new(name).unwrap())
}

/// A caller-defined document.
fn own(owner: DocumentOwner, kind: &str, name: &str) -> Document {
    Document::Own(
        owner,
        DocumentKind::new(kind).unwrap(),
        DocumentName::new(name).unwrap(),
    )
}

/// Each of these paths is part of the on-disk format.
#[test]
fn the_path_of_everything() {
    let (job, repo) = (job(), job().repo);
    let time = Timestamp::from_millis(1_763_192_166_123);
    let stamp = Stamp::from(time);
    let segment = SegmentName::new(time, time);
    for (entry, path) in [
        (
            Entry::Segment(job.clone(), segment.clone(), SegmentForm::Plain),
            "events/shop/job-1/events-20251115T073606.123000000Z.jsonl",
        ),
        (
            Entry::Segment(job.clone(), segment, SegmentForm::Zstd),
            "events/shop/job-1/events-20251115T073606.123000000Z.jsonl.zst",
        ),
        (Entry::Queue(job.clone()), "dlq/shop/job-1/items.json"),
        (Entry::QueueJournal(job.clone()), "dlq/shop/job-1/items.journal"),
        (Entry::QueueLock(job.clone()), "dlq/shop/job-1/items.lock"),
        (
            Entry::Document(Document::Setup(job.clone())),
            "state/shop/mapreduce/jobs/job-1/setup-checkpoint.json",
        ),
        (
            Entry::Document(Document::Map(job.clone(), stamp.clone())),
            "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115T073606.123000000Z.json",
        ),
        (
            Entry::Document(Document::Reduce(job.clone(), stamp)),
            "state/shop/mapreduce/jobs/job-1/reduce-checkpoint-v1-20251115T073606.123000000Z.json",
        ),
        (
            Entry::Document(Document::Reduce(
                job.clone(),
                Stamp::parse("20251115_073606").unwrap(),
            )),
            "state/shop/mapreduce/jobs/job-1/reduce-checkpoint-v1-20251115_073606.json",
        ),
        (
            Entry::Document(Document::checkpoint(
                &job,
                Phase::Map,
                Stamp::from(time).with_key(Some(CheckpointKey::new("nightly.1").unwrap())),
            )),
            "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115T073606.123000000Z.nightly.1.json",
        ),
        (
            Entry::Document(Document::checkpoint(&job, own_phase("plan"), Stamp::from(time))),
            "state/shop/mapreduce/jobs/job-1/plan-checkpoint-20251115T073606.123000000Z.json",
        ),
        (
            Entry::Compressed(Document::Map(job.clone(), Stamp::from(time))),
            "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115T073606.123000000Z.json.zst",
        ),
        (
            Entry::Document(Document::Finished(job.clone())),
            "state/shop/mapreduce/jobs/job-1/finished.json",
        ),
        (
            Entry::Document(Document::Orphans(job.clone())),
            "orphaned_worktrees/shop/job-1.json",
        ),
        (
            Entry::Document(Document::Repository(repo.clone())),
            "state/shop/repository.json",
        ),
        (
            Entry::Document(own(DocumentOwner::Job(job.clone()), "sessions", "s.1")),
            "state/shop/mapreduce/jobs/job-1/documents/sessions/s.1.json",
        ),
        (
            Entry::Document(own(DocumentOwner::Repo(repo.clone()), "workflows", "ci.json")),
            "state/shop/documents/workflows/ci.json.json",
        ),
        (Entry::DocumentsLock(repo.clone()), "locks/documents/shop.lock"),
        (
            Entry::Worktree(repo, SessionId::new("session-7").unwrap()),
            "worktrees/shop/session-7",
        ),
        (
            Entry::Lock(LockName::new("resume").unwrap()),
            "locks/1/resume.lock",
        ),
        (
            Entry::Lock(LockName::new("shop/job-1/resume").unwrap()),
            "locks/3/shop/job-1/resume.lock",
        ),
        (Entry::StateLock(job), "locks/state/shop/job-1.lock"),
        (Entry::RegistryLock, "locks/registry.lock"),
        (Entry::Format, "format.json"),
    ] {
        assert_eq!(entry.path(), Path::new(path));
        assert_eq!(Entry::parse(Path::new(path)), Some(entry), "{path}");
    }
}

#[test]
fn the_folders() {
    let (job, repo) = (job(), job().repo);
    for (folder, path) in [
        (repo_events_folder(&repo), "events/shop"),
        (events_folder(&job), "events/shop/job-1"),
        (repo_queues_folder(&repo), "dlq/shop"),
        (queue_folder(&job), "dlq/shop/job-1"),
        (state_folder(&repo), "state/shop"),
        (jobs_folder(&repo), "state/shop/mapreduce/jobs"),
        (checkpoints_folder(&job), "state/shop/mapreduce/jobs/job-1"),
        (
            documents_folder(&DocumentOwner::Job(job.clone())),
            "state/shop/mapreduce/jobs/job-1/documents",
        ),
        (
            documents_folder(&DocumentOwner::Repo(repo.clone())),
            "state/shop/documents",
        ),
        (orphans_folder(&repo), "orphaned_worktrees/shop"),
        (worktrees_folder(&repo), "worktrees/shop"),
        (locks_folder(), "locks"),
        (quarantine_folder(), "quarantine"),
    ] {
        assert_eq!(folder, Path::new(path));
        assert_eq!(Entry::parse(&folder), None, "a folder is no entry: {path}");
    }
}

#[test]
fn what_is_no_entry() {
    for path in [
        "",
        "/",
        ".",
        "..",
        "/format.json",
        "./format.json",
        "format.json/",
        "x/../format.json",
        "Format.json",
        "dlq//shop/job-1/items.json",
        "dlq/shop/./job-1/items.json",
        "dlq/shop/job-1/items.json/x",
        "dlq/shop/job-1/.items.json.tmp",
        "dlq/../job-1/items.json",
        "dlq/.shop/job-1/items.json",
        "dlq/CON/job-1/items.json",
        "dlq/shop/items.json",
        "events/shop/job-1/notes.txt",
        "events/shop/job-1/events-20251115_073606.jsonl.tmp",
        "state/shop/mapreduce/jobs/job-1/map-checkpoint-.json",
        "state/shop/mapreduce/jobs/job-1/map-checkpoint-latest.json",
        "state/shop/mapreduce/jobs/job-1/reduce-checkpoint-v2-20251115_073606.json",
        "state/shop/mapreduce/jobs/job-1/job-state.json",
        "state/shop/mapreduce/jobs/job-1/setup-checkpoint-20251115T073606.123000000Z.json",
        "state/shop/mapreduce/jobs/job-1/Plan-checkpoint-20251115T073606.123000000Z.json",
        "state/shop/mapreduce/jobs/job-1/plan-checkpoint-latest.json",
        "state/shop/mapreduce/jobs/job-1/setup-checkpoint.json.zst",
        "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115_073606.json.zst",
        "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115T073606.123000000Z..json",
        "state/shop/mapreduce/jobs/job-1/map-checkpoint-20251115_073606.nightly.json",
        "events/shop/job-1/events-20251115T073606.123000000Z.nightly.jsonl",
        "state/shop/documents/workflows",
        "state/shop/documents/ci.json",
        "state/shop/documents/workflows/ci",
        "state/shop/documents/workflows/.json",
        "state/shop/documents/workflows/.ci.json",
        "state/shop/documents/CON/ci.json",
        "state/shop/documents/workflows/deep/ci.json",
        "state/shop/mapreduce/jobs/documents/workflows/ci.json",
        "locks/documents/shop/job-1.lock",
        "orphaned_worktrees/shop/.json",
        "orphaned_worktrees/shop/job-1",
        "worktrees/shop/session-",
        "worktrees/shop/7",
        "locks/1/a/b.lock",
        "locks/2/a.lock",
        "locks/01/a.lock",
        "locks/0",
        "locks/5/a/b/c/d/e.lock",
        "locks/1/.lock",
        "locks/1/a",
        "locks/other.lock",
        "quarantine/x",
    ] {
        assert_eq!(Entry::parse(Path::new(path)), None, "{path:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_unicode_is_no_entry() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    assert_eq!(
        Entry::parse(Path::new(OsStr::from_bytes(b"dlq/sh\xffop/job/items.json"))),
        None
    );
}

#[test]
fn what_the_scopes_cover() {
    let (job, repo) = (job(), job().repo);
    let other = JobAddress::new(repo.clone(), JobId::new("job-2").unwrap());
    let stamp = Stamp::from(Timestamp::MIN);
    let key = CheckpointKey::new("nightly").unwrap();
    let keyed = stamp.clone().with_key(Some(key.clone()));
    let documents = [
        Document::Setup(job.clone()),
        Document::Map(job.clone(), stamp.clone()),
        Document::Reduce(job.clone(), stamp.clone()),
        Document::Finished(job.clone()),
        Document::Orphans(job.clone()),
        Document::Repository(repo.clone()),
        Document::Map(other.clone(), stamp),
        Document::Orphans(other.clone()),
        Document::Orphans(JobAddress::new(RepoName::new("else").unwrap(), job.job.clone())),
        own(DocumentOwner::Job(job.clone()), "sessions", "a"),
        own(DocumentOwner::Job(job.clone()), "plans", "a"),
        own(DocumentOwner::Repo(repo.clone()), "sessions", "a"),
        Document::checkpoint(&job, own_phase("plan"), keyed.clone()),
        Document::checkpoint(&other, Phase::Map, keyed),
    ];
    let held = |scope: DocumentScope| -> Vec<usize> {
        (0..documents.len())
            .filter(|index| scope.contains(&documents[*index]))
            .collect()
    };
    assert_eq!(held(DocumentScope::Checkpoints(job.clone(), Phase::Setup)), [0]);
    assert_eq!(held(DocumentScope::Checkpoints(job.clone(), Phase::Map)), [1]);
    assert_eq!(held(DocumentScope::Checkpoints(job.clone(), Phase::Reduce)), [2]);
    assert_eq!(
        held(DocumentScope::Checkpoints(job.clone(), own_phase("plan"))),
        [12]
    );
    assert_eq!(held(DocumentScope::Keyed(job.clone(), key)), [12]);
    assert_eq!(held(DocumentScope::Job(job.clone())), [0, 1, 2, 12]);
    let (of_job, of_repo) = (DocumentOwner::Job(job), DocumentOwner::Repo(repo.clone()));
    let sessions = Some(DocumentKind::new("sessions").unwrap());
    assert_eq!(held(DocumentScope::Own(of_job.clone(), sessions.clone())), [9]);
    assert_eq!(held(DocumentScope::Own(of_job, None)), [9, 10]);
    assert_eq!(held(DocumentScope::Own(of_repo, sessions)), [11]);
    assert_eq!(held(DocumentScope::Orphans(repo)), [4, 7]);
    assert_eq!(held(DocumentScope::Repositories), [5]);
}

#[test]
fn phases_are_read_and_written() {
    for phase in Phase::ALL {
        assert_eq!(phase.to_string().parse::<Phase>(), Ok(phase));
        let json = serde_json::to_string(&phase).unwrap();
        assert_eq!(json, format!("\"{phase}\""));
        assert_eq!(serde_json::from_str::<Phase>(&json).unwrap(), phase);
        let document = Document::checkpoint(&job(), phase, Stamp::from(Timestamp::MIN));
        assert_eq!(document.phase(), Some(phase));
        assert_eq!(document.stamp().is_some(), phase != Phase::Setup);
        assert_eq!(document.job(), Some(&job()));
    }
    let plan = "plan".parse::<Phase>().unwrap();
    assert_eq!(plan, own_phase("plan"));
    assert_eq!(serde_json::from_str::<Phase>("\"plan\"").unwrap(), plan);
    assert_eq!(serde_json::to_string(&plan).unwrap(), "\"plan\"");
    let longest = "p".repeat(PhaseName::MAX_BYTES);
    assert_eq!(longest.parse::<Phase>().unwrap().as_str(), longest);
    for wrong in [
        "",
        "Map",
        "1st",
        "-a",
        "a b",
        "a/b",
        "a.b",
        "plán",
        "a-checkpoint",
        "a-checkpoint-b",
    ] {
        assert!(wrong.parse::<Phase>().is_err(), "{wrong}");
    }
    assert!(format!("{longest}p").parse::<Phase>().is_err());
    for taken in Phase::ALL {
        assert!(PhaseName::new(taken.as_str()).is_err(), "{taken}");
    }
}

/// Paths that resemble those of entries.
fn near_path() -> BoxedStrategy<String> {
    let fragment = prop_oneof![
        strategy::text(),
        proptest::sample::select(vec![
            "events",
            "dlq",
            "state",
            "worktrees",
            "orphaned_worktrees",
            "locks",
            "quarantine",
            "mapreduce",
            "jobs",
            "1",
            "2",
            "3",
            "shop",
            "items.json",
            "items.lock",
            "registry.lock",
            "a.lock",
            "session-x",
            "a.json",
            "repository.json",
            "finished.json",
            "documents",
            "setup-checkpoint.json",
            "map-checkpoint-20251115.json",
            ".",
            "..",
            "",
            "events-20251115.jsonl",
            "events-20251115.jsonl.gz",
        ])
        .prop_map(str::to_owned),
    ]
    .boxed();
    let joined = prop::collection::vec(fragment.clone(), 0..7).prop_map(|parts| parts.join("/"));
    let changed = (strategy::entry(), any::<prop::sample::Index>(), fragment, 0..4).prop_map(
        |(entry, index, fragment, change)| {
            let path = entry.path().to_str().unwrap().to_owned();
            let mut parts: Vec<&str> = path.split('/').collect();
            let at = index.index(parts.len());
            match change {
                0 => parts[at] = &fragment,
                1 => parts.insert(at, &fragment),
                2 => drop(parts.remove(at)),
                _ => parts.push(&fragment),
            }
            parts.join("/")
        },
    );
    prop_oneof![joined, changed, any::<String>()].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn an_entry_is_read_back_from_its_path(entry in strategy::entry()) {
        prop_assert_eq!(Entry::parse(&entry.path()), Some(entry));
    }

    #[test]
    fn a_file_name_stands_for_what_its_whole_path_does(entry in strategy::entry(), file in near_path()) {
        let job = job();
        let names = [entry.path(), std::path::PathBuf::from(file)];
        for name in names.iter().filter_map(|path| path.file_name()?.to_str()) {
            let path = checkpoints_folder(&job).join(name);
            let whole = Entry::parse(&path);
            let (plain, packed) = match whole {
                Some(Entry::Document(document)) => (Some(document), None),
                Some(Entry::Compressed(document)) => (None, Some(document)),
                _ => (None, None),
            };
            prop_assert_eq!(&Document::in_checkpoints(&job, name), &plain);
            prop_assert_eq!(Document::in_checkpoints_or_packed(&job, name), plain.or(packed));
        }
    }

    #[test]
    fn no_entry_leaves_the_root(entry in strategy::entry()) {
        let path = entry.path();
        prop_assert!(path.components().all(|component| matches!(component, Component::Normal(_))));
        prop_assert!(path.components().all(|component| component.as_os_str().len() <= 255));
        // Only the name of the folder for tombstones may begin with a dot, to distinguish it from a file next to it.
        let may_have_dot = matches!(entry, Entry::Tombstone(_));
        prop_assert!(may_have_dot || path.components().all(|c| !c.as_os_str().to_str().unwrap().starts_with('.')));
    }

    #[test]
    fn two_entries_never_share_a_path_nor_need_one_as_a_folder(
        one in strategy::entry(), other in strategy::entry()
    ) {
        prop_assert_eq!(one == other, one.path() == other.path());
        prop_assert!(one == other || !one.path().starts_with(other.path()));
    }

    #[test]
    fn a_path_that_is_an_entry_is_given_back(path in near_path()) {
        if let Some(entry) = Entry::parse(Path::new(&path)) {
            let back = entry.path();
            prop_assert_eq!(back.to_str(), Some(path.as_str()));
        }
    }
}
