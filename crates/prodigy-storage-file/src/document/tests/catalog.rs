//! Listings: repositories, jobs, worktrees.

use super::*;

#[test]
fn repositories_jobs_and_sessions_are_told_by_what_is_there() {
    let place = Place::new();
    let store = place.writer();
    let make = |folder: &str| std::fs::create_dir_all(place.root().join(folder)).unwrap();
    for folder in [
        "events/a/job-e",
        "dlq/b/job-d",
        "state/c/mapreduce/jobs/job-s",
        "worktrees/d/session-1",
        "worktrees/d/other",
        "events/.hidden",
        "locks/state/z",
    ] {
        make(folder);
    }
    std::fs::write(place.root().join("events/file"), "").unwrap();
    std::fs::write(place.root().join("worktrees/d/session-2"), "").unwrap();
    let e = JobAddress::new(RepoName::new("e").unwrap(), JobId::new("job-o").unwrap());
    put(&store, &Document::Orphans(e.clone()), "{}", Expected::Any).unwrap();
    put(&store, &Document::Repository(e.repo.clone()), "{}", Expected::Any).unwrap();
    let repos = store.repositories(never()).unwrap();
    let names: Vec<_> = repos.iter().map(RepoName::as_str).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    for (repo, job) in repos
        .iter()
        .zip([Some("job-e"), Some("job-d"), Some("job-s"), None, Some("job-o")])
    {
        let jobs = store.jobs(repo, never()).unwrap();
        assert_eq!(jobs.first().map(JobId::as_str), job);
        assert!(jobs.len() <= 1);
    }
    let listed = store.list(&DocumentScope::Repositories, never()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].document, Document::Repository(e.repo.clone()));
    assert_eq!(
        listed[0].bytes,
        std::fs::metadata(place.path(&listed[0].document)).unwrap().len()
    );
    let orphans = store
        .list(&DocumentScope::Orphans(e.repo.clone()), never())
        .unwrap();
    assert_eq!(orphans[0].document, Document::Orphans(e));
}
