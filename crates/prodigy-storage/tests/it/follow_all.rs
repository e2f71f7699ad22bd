//! Follows of many jobs, and how they continue after errors.

use std::time::Duration;

use prodigy_storage::{ErrorKind, FollowAll, FollowOptions, Job, JobId, StorageError};

use crate::support::{Fixture, file_with, on_each};

fn job(fixture: &Fixture, id: &str) -> Job {
    fixture.storage.repo("shop").unwrap().job(id).unwrap()
}

/// A follow of two jobs that has returned their first events.
fn follow(fixture: &Fixture) -> FollowAll<u32> {
    for id in ["a", "b"] {
        job(fixture, id).events().append(&0).unwrap();
    }
    let options = FollowOptions::new().wait(Duration::ZERO);
    let mut follow = fixture.storage.follow::<u32>(options).unwrap();
    assert_eq!(follow.by_ref().map(Result::unwrap).count(), 2);
    follow
}

#[test]
fn after_a_deletion_the_next_log_of_the_job_is_followed_at_once_and_so_are_the_others() {
    on_each(|fixture| {
        let mut follow = follow(fixture);
        job(fixture, "a").finish().unwrap();
        job(fixture, "a").delete().unwrap();
        for id in ["a", "b"] {
            job(fixture, id).events().append(&1).unwrap();
        }
        let (mut events, mut errors) = (Vec::new(), Vec::new());
        for item in follow.by_ref() {
            match item {
                Ok((job, event)) => events.push((job.job.to_string(), event.event)),
                Err(error) => errors.push(error.kind()),
            }
        }
        events.sort();
        assert_eq!(events, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!(errors, [ErrorKind::CursorGap]);
    });
}

#[test]
fn a_follow_of_many_jobs_ends_when_they_cannot_be_listed() {
    let fixture = file_with(|builder| builder);
    job(&fixture, "a").events().append(&0).unwrap();
    let mut follow = fixture.storage.follow::<u32>(FollowOptions::new()).unwrap();
    assert!(follow.next().unwrap().is_ok());
    let queues = fixture.folder.path().join("root/dlq");
    std::fs::create_dir_all(&queues).unwrap();
    std::fs::write(queues.join("shop"), "this is no folder").unwrap();
    job(&fixture, "later").events().append(&2).unwrap();
    // This process reports the append, and the kernel reports the new folder, after which the jobs are listed
    // again. Whichever comes first, the follow fails.
    assert!(follow.any(|item| item.is_err()));
    assert!(follow.next().is_none());
}

#[test]
fn a_choice_of_no_job_follows_none_and_the_follow_of_one_job_refuses_a_choice() {
    fn id() -> Result<JobId, StorageError> {
        Ok(JobId::new("a")?)
    }
    on_each(|fixture| {
        let events = job(fixture, "a").events();
        events.append(&0).unwrap();
        let options = FollowOptions::new().wait(Duration::ZERO);
        let repo = fixture.storage.repo("shop").unwrap();
        let none = options.clone().jobs([]);
        assert_eq!(repo.follow::<u32>(none.clone()).unwrap().count(), 0);
        assert_eq!(repo.follow::<u32>(none.jobs([id().unwrap()])).unwrap().count(), 1);
        let address = job(fixture, "a").address().clone();
        for refused in [
            options.clone().jobs([id().unwrap()]),
            options.clone().positions([(address, events.end().unwrap())]),
        ] {
            let error = events.follow_with::<u32>(refused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}
