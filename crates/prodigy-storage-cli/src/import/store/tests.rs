//! Tests of the comparison after an import: a stored value that was changed or removed is reported.

use prodigy_storage::{Change, Claim, ItemId, Settlement};

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn settle(job: &Job, id: &str, change: Change) {
    let claim = Claim::Item(ItemId::new(id).unwrap());
    job.dlq().settle(&[Settlement::new(claim, change)]).unwrap();
}

/// Pushes two dead letters, changes the queue with `change`, and returns the refusals of the comparison.
fn refused_letters(change: impl FnOnce(&Job)) -> Vec<Refusal> {
    let storage = Storage::in_memory().unwrap();
    let job = storage.repo("shop").unwrap().job("job").unwrap();
    let mut importer = Importer::new(&storage, storage.lock("_import").unwrap().into());
    for id in ["a", "b"] {
        let item = raw(&format!("{{\"item_id\":\"{id}\",\"item_data\":{{\"n\":1}}}}"));
        importer.letter(&job, "a file", &item).unwrap();
    }
    change(&job);
    importer.verify_letters(&job).unwrap();
    importer.refusals
}

#[test]
fn a_dead_letter_that_is_not_read_back_as_it_was_imported_is_reported() {
    assert_eq!(refused_letters(|_| {}), [""; 0]);
    let lost = refused_letters(|job| settle(job, "b", Change::Remove));
    let changed = refused_letters(|job| {
        let other = raw("{\"item_id\":\"b\",\"item_data\":{\"n\":2}}");
        settle(job, "b", Change::Edit(other));
    });
    let why = "shop/job: 1 dead letters differ from the imported ones, the first is b";
    assert_eq!(
        (lost.as_slice(), changed.as_slice()),
        (&[why.to_owned()][..], &[why.to_owned()][..])
    );
}

/// Appends an event, changes the log with `change`, and returns the refusals of the comparison.
fn refused_events(change: impl FnOnce(&Job, EventId)) -> (Vec<Refusal>, EventId) {
    let storage = Storage::in_memory().unwrap();
    let job = storage.repo("shop").unwrap().job("job").unwrap();
    let mut importer = Importer::new(&storage, storage.lock("_import").unwrap().into());
    let mut events = Events::default();
    let line = b"{\"timestamp\":\"2026-01-01T00:00:00Z\",\"event\":1}";
    importer
        .event_line(&job, "a file line 1", line, &mut events)
        .unwrap();
    let id = events.ids[0];
    importer.append(&job, &mut events).unwrap();
    change(&job, id);
    importer.verify_events(&job).unwrap();
    (importer.refusals, id)
}

/// Deletes a job that this process appended to.
fn delete(job: &Job) {
    job.finish().unwrap();
    assert!(job.delete().unwrap());
}

#[test]
fn an_event_that_is_not_read_back_as_it_was_imported_is_reported() {
    assert_eq!(refused_events(|_, _| {}).0, [""; 0]);
    let (lost, id) = refused_events(|job, _| delete(job));
    let why = |id| format!("shop/job: 1 events differ from the imported ones, the first is {id}");
    assert_eq!(lost, [why(id)]);
    let (changed, id) = refused_events(|job, id| {
        delete(job);
        let mut batch = Batch::new();
        batch.push("2").unwrap();
        batch.set_ids([id]);
        job.events().append_prepared(&mut batch, None).unwrap();
    });
    assert_eq!(changed, [why(id)]);
}
