//! Removing old data by the rules of retention.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::config::RetentionSettings;
use prodigy_storage::{
    CleanOptions, CleanReport, DeadLetter, ErrorKind, Failure, ItemId, Job, JobState, OrphanedWorktree,
    Phase, ReadOptions, Removal, RemovalHistory, RemovalKind, RemovalOutcome, SaveOptions, Select, Storage,
};

use crate::support::{Fixture, TestClock, file_with, memory_with, on_each, on_each_with_clock};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn clean(storage: &Storage, rules: &RetentionSettings) -> CleanReport {
    let options = CleanOptions::new().rules(rules.clone());
    let plan = storage.clean(options.clone().dry_run(true)).unwrap();
    let report = storage.clean(options).unwrap();
    let what = |report: &CleanReport| -> Vec<_> {
        let removals = report.removals.iter();
        removals
            .map(|removal| (removal.kind, removal.job.clone(), removal.count))
            .collect()
    };
    assert_eq!(what(&plan), what(&report));
    assert!(
        plan.removals
            .iter()
            .all(|removal| removal.outcome == RemovalOutcome::Due)
    );
    assert_eq!(report.unrecorded, 0);
    report
}

fn kinds(report: &CleanReport) -> Vec<RemovalKind> {
    report.removals.iter().map(|removal| removal.kind).collect()
}

fn audit(storage: &Storage) -> Vec<Removal> {
    let history = RemovalHistory::new(&storage.audit_log().unwrap()).unwrap();
    history.map(|entry| entry.unwrap().event).collect()
}

fn job(fixture: &Fixture, name: &str) -> Job {
    fixture.storage.repo("shop").unwrap().job(name).unwrap()
}

/// An inactive job with data of every kind.
fn fill(job: &Job) {
    job.events().append(&"started").unwrap();
    for state in 0..4 {
        job.checkpoints().save_map(&state, SaveOptions::new()).unwrap();
    }
    let letter = DeadLetter::new(ItemId::new("a").unwrap(), 1).failure(Failure::new("Odd", "it is odd"));
    job.dlq().push(&letter).unwrap();
    job.dlq().park([ItemId::new("a").unwrap()], None).unwrap();
    job.dlq()
        .push(&DeadLetter::new(ItemId::new("b").unwrap(), 2))
        .unwrap();
    job.finish().unwrap();
}

#[test]
fn without_a_rule_nothing_is_due() {
    on_each_with_clock(|fixture, clock| {
        fill(&fixture.job());
        clock.advance(1_000 * DAY);
        assert!(
            clean(&fixture.storage, &RetentionSettings::default())
                .removals
                .is_empty()
        );
        assert_eq!(
            fixture.job().events().count(ReadOptions::new()).unwrap().events,
            1
        );
        assert!(audit(&fixture.storage).is_empty());
    });
}

#[test]
fn a_finished_job_is_deleted_at_its_age_and_an_open_one_by_its_own_rule() {
    on_each(|fixture| {
        let (finished, open) = (job(fixture, "finished"), job(fixture, "open"));
        fill(&finished);
        fill(&open);
        open.checkpoints().save_map(&9, SaveOptions::new()).unwrap();
        assert_eq!(open.status().unwrap().state, JobState::Open);
        let rules = RetentionSettings::default()
            .finished_jobs(Some(DAY))
            .idle_jobs(Some(2 * DAY));
        assert!(clean(&fixture.storage, &rules).removals.is_empty());
        let now = Duration::from_nanos(1);
        let report = clean(
            &fixture.storage,
            &RetentionSettings::default().finished_jobs(Some(now)),
        );
        assert_eq!(kinds(&report), [RemovalKind::Job]);
        let removal = &report.removals[0];
        assert_eq!(removal.job.as_ref(), Some(finished.address()));
        assert_eq!(
            (removal.rule.as_str(), &removal.outcome),
            ("retention.finished_jobs", &RemovalOutcome::Removed)
        );
        assert!(removal.bytes > 0 && report.bytes() == removal.bytes);
        assert_eq!(finished.checkpoints().list().count(), 0);
        assert_eq!(open.checkpoints().list().count(), 5);
        clean(
            &fixture.storage,
            &RetentionSettings::default().idle_jobs(Some(now)),
        );
        assert_eq!(open.status().unwrap().last_activity, None);
        // The removal is recorded in the audit log, and the audit log itself is not removed.
        let log = audit(&fixture.storage);
        assert_eq!(log.len(), 2);
        assert!(
            log.iter()
                .all(|removal| removal.outcome == RemovalOutcome::Removed)
        );
    });
}

#[test]
fn a_job_that_was_finished_under_a_clock_that_was_ahead_is_deleted_by_its_last_write() {
    on_each_with_clock(|fixture, clock| {
        let job = fixture.job();
        job.events().append(&"started").unwrap();
        clock.advance(400 * DAY);
        job.finish().unwrap();
        clock.advance_secs(-390 * 24 * 60 * 60);
        let status = job.status().unwrap();
        assert_eq!(status.state, JobState::Finished);
        assert!(status.finished_at.unwrap() > fixture_time(clock, 0));
        let rules = |days| RetentionSettings::default().finished_jobs(Some(days * DAY));
        assert!(clean(&fixture.storage, &rules(100)).removals.is_empty());
        assert_eq!(kinds(&clean(&fixture.storage, &rules(5))), [RemovalKind::Job]);
        assert_eq!(job.status().unwrap().last_activity, None);
    });
}

#[test]
fn an_active_job_is_left_alone() {
    on_each(|fixture| {
        let busy = job(fixture, "busy");
        busy.events().append(&"started").unwrap();
        let now = Some(Duration::from_nanos(1));
        let rules = RetentionSettings::default()
            .finished_jobs(now)
            .idle_jobs(now)
            .events(now);
        assert!(clean(&fixture.storage, &rules).removals.is_empty());
        assert_eq!(busy.events().count(ReadOptions::new()).unwrap().events, 1);
    });
}

#[test]
fn old_events_parts_and_records_of_a_job_that_stays_are_removed() {
    on_each_with_clock(|fixture, clock| {
        let job = fixture.job();
        fill(&job);
        job.events().append(&"more").unwrap();
        job.finish().unwrap();
        let orphan = |name: &str| OrphanedWorktree::new("agent", "item", format!("/src/{name}"), "busy");
        let mut old = orphan("old");
        old.timestamp = fixture_time(clock, -9);
        let mut young = orphan("young");
        young.timestamp = fixture_time(clock, 9);
        for orphan in [&old, &young] {
            job.orphans().record(orphan).unwrap();
        }
        clock.advance(10 * DAY);
        let age = Some(5 * DAY);
        let rules = RetentionSettings::default()
            .events(age)
            .dead_letters(age)
            .orphans(age);
        let report = clean(&fixture.storage, &rules);
        assert_eq!(
            kinds(&report),
            [
                RemovalKind::Events,
                RemovalKind::DeadLetters,
                RemovalKind::Orphans
            ]
        );
        assert!(report.removals.iter().all(|removal| removal.count == 1));
        let events: Vec<String> = job
            .events()
            .read()
            .unwrap()
            .map(|event| event.unwrap().event)
            .collect();
        assert_eq!(events, ["more"], "the newest segment stays");
        let left: Vec<_> = job
            .dlq()
            .scan(&Select::any())
            .unwrap()
            .map(|item| item.unwrap().id)
            .collect();
        assert_eq!(left, [ItemId::new("b").unwrap()], "one that is not parked stays");
        assert_eq!(job.orphans().list().unwrap(), [young]);
        assert!(clean(&fixture.storage, &rules).removals.is_empty());
        assert_eq!(audit(&fixture.storage).len(), 3);
    });
}

#[test]
fn an_unattended_clean_refuses_a_store_without_a_recent_write() {
    let clock = TestClock::new();
    let fixture = memory_with(|builder| builder.clock(Arc::clone(&clock) as _));
    let old = job(&fixture, "old");
    fill(&old);
    let rules = RetentionSettings::default().finished_jobs(Some(5 * DAY));
    let options = CleanOptions::new().rules(rules).unattended(true);
    clock.advance(CleanOptions::RECENT + Duration::from_nanos(1));
    let plan = fixture.storage.clean(options.clone().dry_run(true)).unwrap();
    assert_eq!(kinds(&plan), [RemovalKind::Job]);
    let refused = fixture.storage.clean(options.clone()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(old.checkpoints().list().count(), 4);
    assert!(audit(&fixture.storage).is_empty());
    // A new write shows that the clock runs, but not that it did not step before. So the span without a write
    // counts as half of the five days.
    let young = job(&fixture, "young");
    for removed in [false, false, false, true] {
        young.events().append(&"now").unwrap();
        let report = fixture.storage.clean(options.clone()).unwrap();
        assert_eq!(
            (report.removals.len(), report.held_back),
            (usize::from(removed), u64::from(!removed))
        );
        let (from, to) = report.silence.unwrap();
        assert!(to.as_nanos() - from.as_nanos() >= CleanOptions::RECENT.as_nanos() as i64);
        clock.advance(DAY);
    }
    assert_eq!(old.checkpoints().list().count(), 0);
    // Nothing is due, so the clean is not refused.
    clock.advance(3 * DAY);
    assert!(fixture.storage.clean(options).unwrap().removals.is_empty());
}

#[test]
fn a_job_that_can_not_be_read_is_no_job_without_writes() {
    let clock = TestClock::new();
    let fixture = file_with(|builder| builder.clock(Arc::clone(&clock) as _));
    fill(&job(&fixture, "old"));
    fill(&job(&fixture, "young"));
    let folder = fixture.folder.path().join("root/events/shop/young");
    std::fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("elsewhere", &folder).unwrap();
    clock.advance(10 * DAY);
    let rules = RetentionSettings::default().finished_jobs(Some(DAY));
    let options = CleanOptions::new().rules(rules).unattended(true);
    let refused = fixture.storage.clean(options).unwrap_err();
    let told = format!("{refused:#}");
    assert!(told.contains("can't be read") && told.contains("young"), "{told}");
}

#[test]
fn a_clock_that_is_ahead_removes_nothing_by_a_timer_although_programs_write_under_it() {
    let clock = TestClock::new();
    let fixture = memory_with(|builder| builder.clock(Arc::clone(&clock) as _));
    for name in ["one", "two"] {
        fill(&job(&fixture, name));
    }
    clock.advance(800 * DAY);
    for _ in 0..3 {
        job(&fixture, "late").events().append(&"now").unwrap();
        let rules = RetentionSettings::default()
            .finished_jobs(Some(DAY))
            .idle_jobs(Some(30 * DAY));
        let options = CleanOptions::new().rules(rules).unattended(true);
        let report = fixture.storage.clean(options.clone()).unwrap();
        assert_eq!((report.removals.len(), report.held_back), (0, 2));
        // A dry run is not refused: a person decides by its plan.
        let plan = fixture.storage.clean(options.dry_run(true)).unwrap();
        assert_eq!(plan.removals.len(), 2);
        clock.advance(DAY / 10);
    }
    for name in ["one", "two"] {
        assert_eq!(job(&fixture, name).checkpoints().list().count(), 4);
    }
}

#[test]
fn a_store_that_a_timer_cleans_each_day_goes_by_the_clock() {
    let clock = TestClock::new();
    let fixture = memory_with(|builder| builder.clock(Arc::clone(&clock) as _));
    // For a job that is written to, only the time of its last write is known.
    let busy = job(&fixture, "busy");
    fill(&job(&fixture, "done"));
    let rules = RetentionSettings::default().finished_jobs(Some(10 * DAY));
    let options = CleanOptions::new().rules(rules).unattended(true);
    let mut removed = Vec::new();
    for day in 0..14 {
        busy.events().append(&day).unwrap();
        if !fixture
            .storage
            .clean(options.clone())
            .unwrap()
            .removals
            .is_empty()
        {
            removed.push(day);
        }
        clock.advance(DAY);
    }
    assert_eq!(removed, [11]);
}

/// The time that is `days` days after the present time of the clock.
fn fixture_time(clock: &Arc<TestClock>, days: i64) -> prodigy_storage::Timestamp {
    use prodigy_storage::Clock;

    prodigy_storage::Timestamp::from_nanos(clock.now().as_nanos() + days * DAY.as_nanos() as i64)
}

#[test]
fn checkpoints_beyond_the_number_and_the_age_are_removed_and_the_newest_valid_one_never() {
    on_each(|fixture| {
        let job = fixture.job();
        fill(&job);
        let young = RetentionSettings::default()
            .checkpoints(Some(DAY))
            .checkpoints_keep(Some(1));
        assert!(clean(&fixture.storage, &young).removals.is_empty());
        let keep = RetentionSettings::default().checkpoints_keep(Some(3));
        assert_eq!(clean(&fixture.storage, &keep).removals[0].count, 1);
        let old = RetentionSettings::default().checkpoints(Some(Duration::from_nanos(1)));
        assert_eq!(clean(&fixture.storage, &old).removals[0].count, 2);
        let newest = job.checkpoints().latest::<u32>(Phase::Map).unwrap().unwrap();
        assert_eq!(newest.data, 3);
    });
}

#[test]
fn a_clean_of_one_job_leaves_the_others() {
    on_each(|fixture| {
        for name in ["one", "two"] {
            fill(&job(fixture, name));
        }
        let rules = RetentionSettings::default().finished_jobs(Some(Duration::from_nanos(1)));
        let options = CleanOptions::new()
            .rules(rules)
            .job(job(fixture, "one").address().job.clone());
        assert_eq!(fixture.storage.clean(options).unwrap().removals.len(), 1);
        assert_eq!(job(fixture, "one").checkpoints().list().count(), 0);
        assert_eq!(job(fixture, "two").checkpoints().list().count(), 4);
    });
}

#[test]
fn what_can_not_be_removed_is_reported_and_the_others_go() {
    let fixture = file_with(|builder| builder);
    for name in ["bad", "good"] {
        fill(&job(&fixture, name));
    }
    let mark = fixture
        .folder
        .path()
        .join("root/state/shop/mapreduce/jobs/bad/finished.json");
    std::fs::write(&mark, "{}").unwrap();
    let rules = RetentionSettings::default().finished_jobs(Some(Duration::from_nanos(1)));
    let report = fixture.storage.clean(CleanOptions::new().rules(rules)).unwrap();
    assert_eq!(report.removals.len(), 2);
    assert!(matches!(report.removals[0].outcome, RemovalOutcome::Kept { .. }));
    assert_eq!(report.removals[1].outcome, RemovalOutcome::Removed);
    assert_eq!(report.bytes(), report.removals[1].bytes);
    assert_eq!(job(&fixture, "bad").checkpoints().list().count(), 4);
}

#[test]
fn the_quarantine_is_cleared_by_the_time_at_which_files_came_there() {
    let fixture = file_with(|builder| builder);
    fixture.job().finish().unwrap();
    let folder = fixture.folder.path().join("root/quarantine");
    std::fs::create_dir(&folder).unwrap();
    let files = [
        "20200101T000000.000000000Z-0a1b2c3d-0-events.jsonl",
        "29990101T000000.000000000Z-0a1b2c3d-0-events.jsonl",
    ];
    for file in files {
        std::fs::write(folder.join(file), "damage").unwrap();
    }
    let rules = RetentionSettings::default().quarantine(Some(DAY));
    let report = clean(&fixture.storage, &rules);
    assert_eq!(kinds(&report), [RemovalKind::Quarantine]);
    assert_eq!((report.removals[0].count, report.removals[0].bytes), (1, 6));
    assert!(!folder.join(files[0]).exists() && folder.join(files[1]).exists());
}

#[test]
fn a_reader_of_storage_plans_and_does_not_clean() {
    let fixture = file_with(|builder| builder);
    fill(&fixture.job());
    let rules = RetentionSettings::default().finished_jobs(Some(Duration::from_nanos(1)));
    let reader = crate::support::builder(&fixture.folder)
        .base_dir(fixture.folder.path().join("root"))
        .read_only(true)
        .open()
        .unwrap();
    let options = CleanOptions::new().rules(rules);
    assert_eq!(
        reader
            .clean(options.clone().dry_run(true))
            .unwrap()
            .removals
            .len(),
        1
    );
    assert_eq!(reader.clean(options).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(fixture.job().checkpoints().list().count(), 4);
}

#[test]
fn the_configured_rules_count_without_others() {
    let fixture = file_with(|builder| builder.set("retention.finished_jobs", "1ns"));
    fill(&fixture.job());
    let report = fixture.storage.clean(CleanOptions::new()).unwrap();
    assert_eq!(kinds(&report), [RemovalKind::Job]);
}

/// The entry that a process writes before a removal; it dies in the middle of it.
fn begin(storage: &Storage, removal: &Removal) {
    let mut begun = removal.clone().outcome(RemovalOutcome::Begun);
    begun.begun = None;
    storage.audit_log().unwrap().append(&begun).unwrap();
}

fn counts(storage: &Storage) -> Vec<(RemovalKind, u64, RemovalOutcome)> {
    let log = audit(storage).into_iter();
    log.map(|removal| (removal.kind, removal.count, removal.outcome))
        .collect()
}

#[test]
fn a_removal_that_died_is_begun_until_a_clean_ends_it_and_is_counted_once() {
    on_each_with_clock(|fixture, clock| {
        let (storage, job) = (&fixture.storage, fixture.job());
        fill(&job);
        clock.advance(10 * DAY);
        let rules = RetentionSettings::default().finished_jobs(Some(DAY));
        let options = CleanOptions::new().rules(rules.clone());
        let plan = storage.clean(options.dry_run(true)).unwrap().removals;
        // Twice a process died before it had deleted anything of the job.
        for _ in 0..2 {
            begin(storage, &plan[0]);
        }
        let begun = (RemovalKind::Job, 1, RemovalOutcome::Begun);
        assert_eq!(counts(storage), [begun.clone(), begun.clone()]);
        clock.advance(Duration::from_nanos(1));
        clean(storage, &rules);
        assert_eq!(counts(storage), [(RemovalKind::Job, 1, RemovalOutcome::Removed)]);
        // Of a job that was written to since, nothing shows that it is the same one.
        begin(storage, &plan[0]);
        clock.advance(Duration::from_nanos(1));
        fill(&job);
        clock.advance(10 * DAY);
        clean(storage, &rules);
        let removed = (RemovalKind::Job, 1, RemovalOutcome::Removed);
        assert_eq!(counts(storage), [removed.clone(), begun, removed]);
    });
}

#[test]
fn what_a_process_removed_before_it_died_is_counted_by_the_next_clean() {
    on_each_with_clock(|fixture, clock| {
        let (storage, job) = (&fixture.storage, fixture.job());
        fill(&job);
        let letter = DeadLetter::new(ItemId::new("c").unwrap(), 3).failure(Failure::new("Odd", "odd"));
        job.dlq().push(&letter).unwrap();
        job.dlq().park([ItemId::new("c").unwrap()], None).unwrap();
        job.finish().unwrap();
        clock.advance(10 * DAY);
        let rules = RetentionSettings::default()
            .checkpoints(Some(DAY))
            .checkpoints_keep(Some(2))
            .dead_letters(Some(DAY));
        let options = CleanOptions::new().rules(rules.clone());
        let plan = storage.clean(options.dry_run(true)).unwrap().removals;
        assert_eq!(plan.len(), 2);
        for removal in &plan {
            assert_eq!(removal.count, 2, "{removal:?}");
            begin(storage, removal);
        }
        // The dead process removed a dead letter of two, and no checkpoint.
        job.dlq().remove(&[ItemId::new("a").unwrap()]).unwrap();
        clean(storage, &rules);
        let removed = |kind, count| (kind, count, RemovalOutcome::Removed);
        assert_eq!(
            counts(storage),
            [
                removed(RemovalKind::DeadLetters, 1),
                removed(RemovalKind::Checkpoints, 2),
                removed(RemovalKind::DeadLetters, 1),
            ]
        );
    });
}

#[test]
fn a_deletion_whose_process_died_before_its_last_entry_is_ended_by_the_next_clean_that_removes_anything() {
    on_each_with_clock(|fixture, clock| {
        let storage = &fixture.storage;
        let (gone, other) = (job(fixture, "gone"), job(fixture, "other"));
        fill(&gone);
        fill(&other);
        clock.advance(10 * DAY);
        let rules = RetentionSettings::default().finished_jobs(Some(DAY));
        let options = CleanOptions::new().rules(rules.clone());
        let plan = storage.clean(options.job(Some(gone.address().job.clone())).dry_run(true));
        let removal = plan.unwrap().removals.remove(0);
        // One process died in the middle of the deletion, and the one that ended it before its last entry.
        begin(storage, &removal);
        begin(storage, &removal.clone().size(1, 1));
        assert!(gone.delete().unwrap());
        // A clean that removes nothing writes nothing.
        clean(
            storage,
            &RetentionSettings::default().dead_letters(Some(100 * DAY)),
        );
        let begun = (RemovalKind::Job, 1, RemovalOutcome::Begun);
        assert_eq!(counts(storage), [begun.clone(), begun]);
        clean(storage, &rules);
        let log = audit(storage);
        assert!(
            log.iter()
                .all(|entry| entry.outcome == RemovalOutcome::Removed && entry.count == 1)
        );
        let jobs: Vec<_> = log
            .iter()
            .map(|entry| (entry.job.as_ref(), entry.bytes))
            .collect();
        assert_eq!(jobs.len(), 2, "{log:?}");
        assert_eq!(jobs[0], (Some(gone.address()), removal.bytes));
        assert_eq!(jobs[1].0, Some(other.address()));
    });
}
