use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::{
    AppendOptions, Batch, Clock, Durability, ErrorKind, Event, EventFilter, EventId, FollowOptions,
    ReadOptions, ScanItem, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{TestClock, file_with, memory_with, on_each};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub agent: u32,
    text: String,
}

pub fn step(agent: u32) -> Step {
    Step {
        agent,
        text: format!("line\n\"{agent}\" é"),
    }
}

pub fn seconds(time: Timestamp) -> i64 {
    time.as_nanos() / 1_000_000_000
}

#[test]
fn what_is_appended_is_read_in_order_and_typed() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let first = events.append(&step(1)).unwrap();
        let rest = events.append_batch((2..5).map(step)).unwrap();
        let read: Vec<Event<Step>> = events.read().unwrap().collect::<Result<_, _>>().unwrap();
        let ids: Vec<_> = std::iter::once(first).chain(rest).collect();
        assert_eq!(read.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
        assert!(ids.is_sorted());
        assert_eq!(
            read.iter().map(|event| &event.event).collect::<Vec<_>>(),
            (1..5).map(step).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        assert!(
            read.iter()
                .all(|event| event.verified
                    && seconds(event.timestamp).abs_diff(seconds(event.id.time())) <= 1)
        );
        assert!(events.summary().unwrap().bytes > 0);
    });
}

#[test]
fn what_stands_beside_an_event_comes_back() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let metadata = json!({"zone": "eu", "n": [1, 2]});
        let options = AppendOptions::new()
            .correlation_id("run \"7\"")
            .metadata(&metadata)
            .durability(Durability::Relaxed);
        events.append_with(&step(1), options).unwrap();
        events.append(&step(2)).unwrap();
        let read: Vec<Event<Step>> = events.read().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0].correlation_id.as_deref(), Some("run \"7\""));
        assert_eq!(read[0].metadata.as_ref().unwrap().get(), metadata.to_string());
        assert!(read[1].correlation_id.is_none() && read[1].metadata.is_none());
    });
}

#[test]
fn raw_payloads_pass_byte_for_byte() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let texts = [
            r#"{"a" : 1e2, "b":[ ]}"#,
            "1.0000000000000000000001",
            r#""\u00e9""#,
        ];
        let raws: Vec<Box<RawValue>> = texts
            .iter()
            .map(|text| RawValue::from_string((*text).to_owned()).unwrap())
            .collect();
        events.append_batch(&raws).unwrap();
        let read: Vec<Event<Box<RawValue>>> = events.read().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            read.iter().map(|event| event.event.get()).collect::<Vec<_>>(),
            texts
        );
    });
}

#[test]
fn an_id_is_stored_once() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let id = events.append(&step(1)).unwrap();
        let again = AppendOptions::new().id(id).correlation_id("again");
        assert_eq!(events.append_with(&step(1), again).unwrap(), id);
        assert_eq!(events.read::<Step>().unwrap().count(), 1);
        let error = events.append_batch_with([step(1)], again).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let mut batch = Batch::new();
        batch.push(&step(2)).unwrap();
        events.append_prepared(&mut batch, None).unwrap();
        let same = events
            .append_prepared(&mut batch, Some(Durability::Relaxed))
            .unwrap();
        assert_eq!((same.stored, same.duplicates), (0, 1));
        assert_eq!(events.read::<Step>().unwrap().count(), 2);
        let empty = events.append_prepared(&mut Batch::new(), None).unwrap();
        assert_eq!((empty.stored, empty.duplicates), (0, 0));
    });
}

#[test]
fn an_event_whose_serialisation_appends_another_one_is_no_deadlock() {
    struct Nested(prodigy_storage::Events);
    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.append("inner").map_err(serde::ser::Error::custom)?;
            serializer.serialize_str("outer")
        }
    }
    let fixture = memory_with(|b| b);
    let events = fixture.job().events();
    events.append(&Nested(events.clone())).unwrap();
    let read: Vec<String> = events.read().unwrap().map(|event| event.unwrap().event).collect();
    assert_eq!(read, ["inner", "outer"]);
}

#[test]
fn a_refused_event_of_a_batch_stores_none() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        let raws = ["1".to_owned(), deep].map(|text| RawValue::from_string(text).unwrap());
        let refused = events.append_batch(&raws).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(events.read::<Value>().unwrap().count(), 0);
        // The refused event leaves nothing in the thread's buffer.
        events.append(&2).unwrap();
        let read: Vec<u32> = events.read().unwrap().map(|event| event.unwrap().event).collect();
        assert_eq!(read, [2]);
    });
}

#[test]
fn a_payload_of_another_type_is_an_item_and_reading_goes_on() {
    on_each(|fixture| {
        let events = fixture.job().events();
        events.append(&step(1)).unwrap();
        events.append("no step").unwrap();
        events.append(&step(3)).unwrap();
        let mut read = events.read::<Step>().unwrap();
        assert_eq!(read.next().unwrap().unwrap().event, step(1));
        assert_eq!(read.next().unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read.next().unwrap().unwrap().event, step(3));
        assert!(read.next().is_none() && read.next().is_none());
    });
}

#[test]
fn reading_goes_on_exactly_at_a_cursor() {
    on_each(|fixture| {
        let events = fixture.job().events();
        events.append_batch((0..10).map(step)).unwrap();
        let mut read = events.read::<Step>().unwrap();
        assert_eq!(read.by_ref().take(4).count(), 4);
        let cursor = read.cursor();
        events.append(&step(10)).unwrap();
        let rest: Vec<u32> = events
            .read_with::<Step>(ReadOptions::after(cursor))
            .unwrap()
            .map(|event| event.unwrap().event.agent)
            .collect();
        assert_eq!(rest, (4..11).collect::<Vec<_>>());
    });
}

#[test]
fn a_time_range_is_half_open_and_goes_by_the_clock_of_the_append() {
    let clock = TestClock::new();
    for fixture in [
        file_with(|b| b.clock(Arc::clone(&clock) as _)),
        memory_with(|b| b.clock(Arc::clone(&clock) as _)),
    ] {
        let events = fixture.job().events();
        let mut times = Vec::new();
        // The clock steps back by an hour, but ids still ascend.
        for (agent, step_secs) in [(0, 0), (1, -3600), (2, 60)] {
            clock.advance_secs(step_secs);
            times.push(clock.now());
            events.append(&step(agent)).unwrap();
        }
        let agents = |since: Option<Timestamp>, until: Option<Timestamp>| -> Vec<u32> {
            let options = ReadOptions::new().since(since).until(until);
            let read = events.read_with::<Step>(options).unwrap();
            read.map(|event| event.unwrap().event.agent).collect()
        };
        assert_eq!(agents(None, None), [0, 1, 2]);
        assert_eq!(agents(Some(times[2]), None), [0, 2]);
        assert_eq!(agents(None, Some(times[0])), [1, 2]);
        assert_eq!(agents(Some(times[1]), Some(times[2])), [1]);
        assert_eq!(agents(None, Some(times[1])), [] as [u32; 0]);
        clock.advance_secs(3600 - 60);
    }
}

#[test]
fn lines_are_lent_as_they_are_stored() {
    on_each(|fixture| {
        let events = fixture.job().events();
        let id = events.append(&step(1)).unwrap();
        let mut lines = events.read_lines(ReadOptions::default()).unwrap();
        let Some(ScanItem::Record(record)) = lines.next().unwrap() else {
            panic!("a line is stored")
        };
        assert!(record.line.starts_with(&format!("{{\"id\":\"{id}\"")) && record.verified);
        assert!(lines.next().unwrap().is_none());
        let cursor = lines.cursor();
        assert_eq!(
            events
                .read_with::<Step>(ReadOptions::after(cursor))
                .unwrap()
                .count(),
            0
        );
    });
}

#[test]
fn filters_hold_all_at_once_and_beside_times_cursors_and_follows() {
    on_each(|fixture| {
        let events = fixture.job().events();
        for agent in 0..6u8 {
            let request = AppendOptions::new().correlation_id(if agent < 3 { "run-1" } else { "run-2" });
            let payload = json!({"agent_id": format!("a-{}", agent % 2), "n": agent});
            events.append_with(&payload, request).unwrap();
        }
        let numbers = |options: ReadOptions| -> Vec<u64> {
            let read = events.read_with::<Value>(options).unwrap();
            read.map(|event| event.unwrap().event["n"].as_u64().unwrap())
                .collect()
        };
        let second = ReadOptions::new().filter(EventFilter::correlation_id("run-2"));
        assert_eq!(numbers(second.clone()), [3, 4, 5]);
        assert_eq!(numbers(second.clone().filter(EventFilter::agent("a-1"))), [3, 5]);
        assert_eq!(
            numbers(second.clone().filter(EventFilter::equals("n", "4.0"))),
            [4]
        );
        assert!(numbers(second.clone().filter(EventFilter::exists("none"))).is_empty());
        assert!(numbers(second.clone().until(Timestamp::MIN)).is_empty());
        // The cursor also covers the events that the filter left out.
        let mut first = events
            .read_with::<Value>(ReadOptions::new().filter(EventFilter::equals("n", "1")))
            .unwrap();
        assert_eq!(first.by_ref().count(), 1);
        assert_eq!(first.cursor(), events.end().unwrap());
        let follow = FollowOptions::new()
            .filter(EventFilter::agent("a-0"))
            .wait(Duration::ZERO);
        assert_eq!(events.follow_with::<Value>(follow).unwrap().count(), 3);
        let mut lines = events.read_lines(second).unwrap();
        let mut count = 0;
        while let Some(item) = lines.next().unwrap() {
            let ScanItem::Record(record) = item else {
                panic!("an event that is no record")
            };
            assert!(record.line.contains("run-2"));
            count += 1;
        }
        assert_eq!(count, 3);
    });
}

#[test]
fn events_are_counted_without_being_parsed() {
    on_each(|fixture| {
        let events = fixture.job().events();
        assert_eq!(events.count(ReadOptions::new()).unwrap(), Default::default());
        let ids = events.append_batch((0..5).map(step)).unwrap();
        let counts = events.count(ReadOptions::new()).unwrap();
        assert_eq!((counts.events, counts.unverified, counts.damaged), (5, 0, 0));
        assert_eq!(counts.newest, ids.last().copied());
        assert!(counts.first.is_some() && counts.first <= counts.last);
        let mut lines = events.read_lines(ReadOptions::new()).unwrap();
        let mut bytes = 0;
        while let Some(ScanItem::Record(record)) = lines.next().unwrap() {
            bytes += record.line.len() as u64 + 1;
        }
        assert_eq!(counts.line_bytes, bytes);
        let filtered = ReadOptions::new().filter(EventFilter::equals("agent", "3"));
        assert_eq!(events.count(filtered).unwrap().events, 1);
        let mut last = events.tail_lines(2).unwrap();
        let mut count = 0;
        while last.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 2);
    });
}

#[test]
fn damage_is_an_item_and_reading_goes_on_behind_it() {
    let fixture = file_with(|b| b);
    let events = fixture.job().events();
    events.append_batch((0..3).map(step)).unwrap();
    let folder = fixture.folder.path().join("root/events/shop/job-1");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    bytes[second + 100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut read = events.read::<Step>().unwrap();
    assert_eq!(read.next().unwrap().unwrap().event, step(0));
    let damage = read.next().unwrap().unwrap_err();
    assert_eq!(damage.kind(), ErrorKind::Damaged);
    assert!(
        damage.to_string().contains(&format!("offset {second}")),
        "{damage}"
    );
    assert_eq!(read.next().unwrap().unwrap().event, step(2));
    assert!(read.next().is_none());
}

#[test]
fn lines_of_another_program_are_read_unverified() {
    let fixture = file_with(|b| b);
    let folder = fixture.folder.path().join("root/events/shop/job-1");
    std::fs::create_dir_all(&folder).unwrap();
    let line = r#"{"event":{"agent":5,"text":"x"},"id":"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f","timestamp":"2025-07-25T11:01:04-07:00"}"#;
    std::fs::write(folder.join("events-20250725110104.jsonl"), format!("{line}\n")).unwrap();
    let read: Vec<Event<Step>> = fixture
        .job()
        .events()
        .read()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(read[0].timestamp.to_rfc3339(), "2025-07-25T18:01:04.000000Z");
    assert_eq!(
        read[0].id,
        "6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f".parse::<EventId>().unwrap()
    );
    assert!(!read[0].verified && read[0].event.agent == 5);
}
