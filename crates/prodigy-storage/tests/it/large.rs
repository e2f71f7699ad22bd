//! Events and checkpoints that are larger than the limits of the handle that reads them.

use std::time::Duration;

use prodigy_storage::{Checkpoint, Event, FollowOptions, Phase, Result, SaveOptions};
use prodigy_storage::{ErrorKind, StorageBuilder};

use crate::support::{Fixture, builder, file_with};

/// More than any buffer that a reader uses, whatever its limits.
const LARGE: usize = 65 << 20;

/// Opens the store again with default limits, except for those that `set` changes.
fn limited(fixture: &Fixture, set: impl FnOnce(StorageBuilder) -> StorageBuilder) -> prodigy_storage::Job {
    let builder = builder(&fixture.folder).base_dir(fixture.folder.path().join("root"));
    set(builder)
        .open()
        .unwrap()
        .repo("shop")
        .unwrap()
        .job("job-1")
        .unwrap()
}

#[test]
fn a_typed_reader_gets_an_error_for_an_event_over_the_limit_and_goes_on() {
    let fixture = file_with(|b| b.set("backend_config.max_record_size", "200000000"));
    let events = fixture.job().events();
    events.append("a").unwrap();
    events.append(&"x".repeat(LARGE)).unwrap();
    events.append("c").unwrap();
    let limited = limited(&fixture, |b| b);
    let check = |read: Vec<Result<Event<String>>>| {
        let read: Vec<_> = read
            .into_iter()
            .map(|event| event.map(|event| event.event).map_err(|error| error.kind()))
            .collect();
        assert_eq!(
            read,
            [Ok("a".to_owned()), Err(ErrorKind::TooLarge), Ok("c".to_owned())]
        );
    };
    check(limited.events().read().unwrap().collect());
    let follow = FollowOptions::new().wait(Duration::ZERO);
    check(limited.events().follow_with(follow).unwrap().collect());
}

#[test]
fn of_a_newest_checkpoint_over_the_limit_the_older_one_is_not_used() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    checkpoints.save_map(&"old", SaveOptions::default()).unwrap();
    checkpoints
        .save_map(&"x".repeat(3 << 20), SaveOptions::default())
        .unwrap();
    let limited = limited(&fixture, |b| b.set("backend_config.max_document_size", "2000000"));
    let latest: Result<Option<Checkpoint<String>>> = limited.checkpoints().latest(Phase::Map);
    let error = latest.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let hint = error.hint().unwrap();
    assert!(hint.contains("backend_config.max_document_size"), "{hint}");
}
