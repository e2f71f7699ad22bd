//! Follows of one log, and of the logs of many jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use prodigy_storage::{ErrorKind, FollowOptions, SaveOptions, Timestamp};

use crate::events::{Step, step};
use crate::support::{file_with, on_each};

#[test]
fn a_follow_gives_what_is_stored_and_ends_when_nothing_is_new() {
    on_each(|fixture| {
        let events = fixture.job().events();
        events.append_batch((0..3).map(step)).unwrap();
        let options = || FollowOptions::new().wait(Duration::ZERO);
        let mut follow = events.follow_with::<Step>(options()).unwrap();
        assert_eq!(
            follow
                .by_ref()
                .map(|event| event.unwrap().event.agent)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
        // The follow continues after the events that it has returned.
        events.append(&step(3)).unwrap();
        assert_eq!(follow.next().unwrap().unwrap().event.agent, 3);
        assert!(follow.next().is_none());
        let from = Some(follow.cursor());
        events.append(&step(4)).unwrap();
        let later = events.follow_with::<Step>(options().from(from)).unwrap();
        assert_eq!(
            later.map(|event| event.unwrap().event.agent).collect::<Vec<_>>(),
            [4]
        );
    });
}

#[test]
fn a_follow_is_woken_and_stopped_from_another_thread() {
    on_each(|fixture| {
        let events = fixture.job().events();
        // The pause is longer than the test, so only the handle can wake the follow.
        let options = FollowOptions::new().poll(Duration::from_secs(3600));
        let mut follow = events.follow_with::<Step>(options).unwrap();
        let handle = follow.handle();
        let (given, got) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                for event in follow.by_ref() {
                    given.send(event.unwrap().event.agent).unwrap();
                }
            });
            for agent in 7..9 {
                events.append(&step(agent)).unwrap();
                handle.wake();
                assert_eq!(got.recv_timeout(Duration::from_secs(60)), Ok(agent));
            }
            handle.stop();
            reader.join().unwrap();
        });
        assert!(got.recv().is_err(), "nothing is given after a stop");
    });
}

#[test]
fn an_append_of_the_same_process_wakes_a_follow() {
    on_each(|fixture| {
        let events = fixture.job().events();
        // The pause is longer than the test, so only the append can wake the follow.
        let options = FollowOptions::new().poll(Duration::from_secs(3600));
        let mut follow = events.follow_with::<Step>(options).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for agent in 0..50 {
                    events.append(&step(agent)).unwrap();
                }
            });
            for agent in 0..50 {
                assert_eq!(follow.next().unwrap().unwrap().event.agent, agent);
            }
        });
    });
}

#[test]
fn a_follow_from_now_gives_nothing_that_was_stored_before_it_began() {
    on_each(|fixture| {
        let events = fixture.job().events();
        events.append_batch((0..3).map(step)).unwrap();
        let mut follow = events
            .follow_with::<Step>(FollowOptions::new().from_now().wait(Duration::ZERO))
            .unwrap();
        assert!(follow.next().is_none());
        events.append(&step(3)).unwrap();
        assert_eq!(follow.next().unwrap().unwrap().event.agent, 3);
        // `from_now` has no effect if there is a cursor.
        let from = events.tail::<Step>(0).unwrap().cursor();
        events.append(&step(4)).unwrap();
        let options = FollowOptions::new().from_now().from(from).wait(Duration::ZERO);
        assert_eq!(events.follow_with::<Step>(options).unwrap().count(), 1);
    });
}

#[test]
fn a_job_that_is_reopened_by_an_event_is_followed_until_it_is_finished_again() {
    on_each(|fixture| {
        let job = fixture.job();
        let events = job.events();
        events.append(&step(0)).unwrap();
        job.finish().unwrap();
        events.append(&step(1)).unwrap();
        let options = FollowOptions::new()
            .poll(Duration::from_secs(3600))
            .until_finished();
        let mut follow = events.follow_with::<Step>(options.clone()).unwrap();
        for agent in 0..2 {
            assert_eq!(follow.next().unwrap().unwrap().event.agent, agent);
        }
        std::thread::scope(|scope| {
            let reader =
                scope.spawn(move || follow.map(|event| event.unwrap().event.agent).collect::<Vec<_>>());
            events.append(&step(2)).unwrap();
            job.finish().unwrap();
            assert_eq!(reader.join().unwrap(), [2]);
        });
        // A program that follows the job may save its cursor in a checkpoint after the end of the job.
        job.checkpoints().save_map(&1, SaveOptions::default()).unwrap();
        assert_eq!(events.follow_with::<Step>(options).unwrap().count(), 3);
    });
}

#[test]
fn an_event_after_a_mark_without_the_end_of_the_log_is_followed() {
    let fixture = file_with(|builder| builder);
    let job = fixture.job();
    let events = job.events();
    events.append(&step(0)).unwrap();
    let options = FollowOptions::new()
        .poll(Duration::from_secs(3600))
        .until_finished();
    let mark = fixture
        .folder
        .path()
        .join("root/state/shop/mapreduce/jobs/job-1/finished.json");
    std::fs::create_dir_all(mark.parent().unwrap()).unwrap();
    let last = job.status().unwrap().last_activity.unwrap();
    let finished_at = Timestamp::from_millis(last.as_millis() + 1).to_rfc3339();
    std::fs::write(&mark, format!("{{\"finished_at\":\"{finished_at}\"}}")).unwrap();
    assert_eq!(events.follow_with::<Step>(options.clone()).unwrap().count(), 1);
    // Two writes to files within one tick have the same time.
    std::thread::sleep(Duration::from_millis(30));
    events.append(&step(1)).unwrap();
    let mut follow = events.follow_with::<Step>(options).unwrap();
    for agent in 0..2 {
        assert_eq!(follow.next().unwrap().unwrap().event.agent, agent);
    }
    job.finish().unwrap();
    assert!(follow.next().is_none());
}

#[test]
fn a_follow_until_the_job_is_finished_gives_every_event_and_ends() {
    on_each(|fixture| {
        let job = fixture.job();
        let events = job.events();
        // The pause is longer than the test, so only the end of the job can wake the follow.
        let options = FollowOptions::new()
            .poll(Duration::from_secs(3600))
            .until_finished();
        let follow = events.follow_with::<Step>(options.clone()).unwrap();
        std::thread::scope(|scope| {
            let reader =
                scope.spawn(move || follow.map(|event| event.unwrap().event.agent).collect::<Vec<_>>());
            for agent in 0..20 {
                events.append(&step(agent)).unwrap();
            }
            job.finish().unwrap();
            assert_eq!(reader.join().unwrap(), (0..20).collect::<Vec<_>>());
        });
        // If the job is finished already, a new follow reads it to its end.
        let mut again = events.follow_lines(options).unwrap();
        let mut count = 0;
        while again.next().unwrap().is_some() {
            assert!(!again.is_finished());
            count += 1;
        }
        assert_eq!((count, again.is_finished()), (20, true));
        assert!(again.wait(None).unwrap(), "nothing is left to wait for");
        let unasked = FollowOptions::new().wait(Duration::ZERO);
        let mut unasked = events.follow_lines(unasked).unwrap();
        while unasked.next().unwrap().is_some() {}
        assert!(!unasked.is_finished());
    });
}

#[test]
fn a_caller_can_wait_for_a_line_by_itself() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let options = FollowOptions::new()
            .poll(Duration::from_secs(3600))
            .wait(Duration::ZERO);
        let mut follow = events.follow_lines(options).unwrap();
        assert!(follow.next().unwrap().is_none());
        assert!(!follow.wait(Some(Duration::from_millis(1))).unwrap());
        events.append(&step(1)).unwrap();
        assert!(follow.wait(None).unwrap());
        assert!(follow.next().unwrap().is_some());
        assert!(follow.wait(None).unwrap(), "the scan has not come to its end");
        assert!(follow.next().unwrap().is_none());
        follow.handle().wake();
        assert!(!follow.wait(None).unwrap(), "the handle ends the wait");
        follow.handle().stop();
        assert!(!follow.wait(None).unwrap());
    });
}

#[test]
fn a_tail_gives_the_newest_events_and_a_follow_goes_on_behind_it() {
    on_each(|fixture| {
        let events = fixture.job().events();
        for agent in 0..9 {
            events.append(&step(agent)).unwrap();
        }
        let mut tail = events.tail::<Step>(3).unwrap();
        let newest: Vec<u64> = tail
            .by_ref()
            .map(|event| u64::from(event.unwrap().event.agent))
            .collect();
        assert_eq!(newest, [6, 7, 8]);
        assert_eq!(tail.cursor(), events.end().unwrap());
        let mut follow = events.follow::<Step>(Some(tail.cursor())).unwrap();
        events.append(&step(9)).unwrap();
        assert_eq!(follow.next().unwrap().unwrap().event.agent, 9);
    });
}

#[test]
fn a_follow_of_many_jobs_continues_behind_the_positions_of_an_earlier_one() {
    on_each(|fixture| {
        let repo = fixture.storage.repo("shop").unwrap();
        let events = |job: &str| repo.job(job).unwrap().events();
        for (job, agent) in [("a", 0), ("b", 1), ("a", 2)] {
            events(job).append(&step(agent)).unwrap();
        }
        let options = FollowOptions::new().wait(Duration::ZERO);
        let (mut follow, mut reached) = (repo.follow::<Step>(options.clone()).unwrap(), BTreeMap::new());
        assert!(follow.cursor().is_none());
        // Reads the first event of each job, and keeps its cursor.
        while let Some(event) = follow.next() {
            let (job, _) = event.unwrap();
            reached.entry(job).or_insert(follow.cursor().unwrap());
        }
        events("b").append(&step(3)).unwrap();
        events("c").append(&step(4)).unwrap();
        // A given cursor is used instead of the beginning, and instead of the end.
        for (options, wanted) in [
            (options.clone(), vec![2, 3, 4]),
            (options.clone().from_now(), vec![2, 3]),
        ] {
            let later = repo.follow::<Step>(options.positions(reached.clone())).unwrap();
            let mut found: Vec<u32> = later.map(|event| event.unwrap().1.event.agent).collect();
            found.sort();
            assert_eq!(found, wanted);
        }
    });
}

#[test]
fn a_follow_of_many_jobs_gives_each_event_once_with_its_job_also_of_jobs_that_come_later() {
    on_each(|fixture| {
        let storage = &fixture.storage;
        let events = |repo: &str, job: &str| storage.repo(repo).unwrap().job(job).unwrap().events();
        for (repo, job, agent) in [("shop", "a", 0), ("shop", "b", 1), ("store", "a", 2)] {
            events(repo, job).append(&step(agent)).unwrap();
        }
        let follow = |options: FollowOptions| storage.repo("shop").unwrap().follow::<Step>(options).unwrap();
        let agents = |follow: &mut prodigy_storage::FollowAll<Step>| -> Vec<u32> {
            follow.map(|event| event.unwrap().1.event.agent).collect()
        };
        let now = || FollowOptions::new().wait(Duration::ZERO);
        let (mut all, mut later) = (follow(now()), follow(now().from_now()));
        let mut store = storage.follow::<Step>(now()).unwrap();
        assert_eq!(agents(&mut all), [0, 1]);
        assert!(agents(&mut later).is_empty());
        assert_eq!(agents(&mut store), [0, 1, 2]);
        events("shop", "c").append(&step(3)).unwrap();
        events("shop", "a").append(&step(4)).unwrap();
        events("store", "z").append(&step(5)).unwrap();
        for follow in [&mut all, &mut later] {
            let mut found = agents(follow);
            found.sort();
            assert_eq!(found, [3, 4]);
            assert!(agents(follow).is_empty());
        }
        let mut found = agents(&mut store);
        found.sort();
        assert_eq!(found, [3, 4, 5]);
        let from = events("shop", "a").end().unwrap();
        for refused in [now().from(from), now().until_finished()] {
            let error = storage.follow::<Step>(refused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn an_append_wakes_a_follow_of_many_jobs_and_its_handle_stops_it() {
    on_each(|fixture| {
        let storage = fixture.storage.clone();
        // The pauses are longer than the test, so only a report of an append can wake the follow.
        let options = FollowOptions::new().poll(Duration::from_secs(3600));
        let mut follow = storage.follow::<Step>(options).unwrap();
        let handle = follow.handle();
        let (given, got) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                for event in follow.by_ref() {
                    given.send(event.unwrap().1.event.agent).unwrap();
                }
            });
            for agent in 0..20 {
                let job = storage
                    .repo("shop")
                    .unwrap()
                    .job(format!("job-{}", agent % 7))
                    .unwrap();
                job.events().append(&step(agent)).unwrap();
                assert_eq!(got.recv_timeout(Duration::from_secs(60)), Ok(agent));
            }
            handle.stop();
            reader.join().unwrap();
        });
        assert!(got.recv().is_err(), "nothing is given after a stop");
    });
}

#[test]
fn a_follow_crosses_rotation_and_compression() {
    let fixture = file_with(|b| {
        b.set("backend_config.max_file_size", "300")
            .set("backend_config.enable_compression", "true")
    });
    let events = fixture.job().events();
    let options = FollowOptions::new().wait(Duration::ZERO);
    let mut follow = events.follow_with::<Step>(options).unwrap();
    for agent in 0..20 {
        events.append(&step(agent)).unwrap();
        assert_eq!(follow.next().unwrap().unwrap().event, step(agent));
    }
    fixture.storage.flush().unwrap();
    assert!(events.summary().unwrap().segments > 3);
    assert!(follow.next().is_none());
    assert_eq!(events.read::<Step>().unwrap().count(), 20);
}
