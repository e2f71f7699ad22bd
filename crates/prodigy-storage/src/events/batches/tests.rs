use super::*;
use prodigy_storage_backend::Damage;
use prodigy_storage_backend::record::{RecordEncoder, read_line};
use prodigy_storage_layout::Timestamp;
use serde_json::Value;

enum Step {
    Line(Vec<u8>),
    Damage,
    Error,
}

/// Steps one after another; its cursor is how many were given.
struct Steps {
    steps: Vec<Step>,
    given: usize,
}

impl Scan for Steps {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        let Some(step) = self.steps.get(self.given) else {
            return Ok(None);
        };
        if !matches!(step, Step::Error) {
            self.given += 1;
        }
        match step {
            Step::Line(line) => Ok(Some(ScanItem::Record(read_line(line).unwrap()))),
            Step::Damage => Ok(Some(ScanItem::Damage(Damage {
                place: "here".into(),
                offset: self.given as u64,
                len: 1,
                why: "a test".into(),
            }))),
            Step::Error => Err(StorageError::new(ErrorKind::Io, "scan", "test", "on purpose")),
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor::new(format!("v1.{}", self.given)).unwrap()
    }
}

fn line(number: usize) -> Step {
    let mut out = Vec::new();
    let id = EventId::floor(Timestamp::from_nanos(
        1_764_018_118_000_000_000 + number as i64 * 1_000_000,
    ));
    RecordEncoder::new().encode(&mut out, id, id.time(), format!(",\"event\":{number}").as_bytes());
    Step::Line(out)
}

fn batches<T: DeserializeOwned + Send + 'static>(steps: Vec<Step>, threads: usize) -> EventBatches<T> {
    let job = JobAddress::new("shop".parse().unwrap(), "job".parse().unwrap());
    let full = Full {
        lines: 7,
        bytes: 2000,
    };
    let scan = Box::new(Steps { steps, given: 0 });
    EventBatches::new(scan, &job, NonZeroUsize::new(threads).unwrap(), full).unwrap()
}

fn told<T: fmt::Debug>(event: Result<Event<T>>) -> String {
    match event {
        Ok(event) => format!("{:?}", event.event),
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn everything_comes_once_in_order_on_any_number_of_threads() {
    for threads in [1, 2, 3, 8] {
        for count in [0, 1, 6, 7, 8, 500] {
            let steps = (0..count).map(|n| if n % 50 == 49 { Step::Damage } else { line(n) });
            let mut reader = batches::<u64>(steps.collect(), threads);
            let (mut found, mut cursors) = (Vec::new(), Vec::new());
            for batch in &mut reader {
                let cursor = batch.cursor();
                found.extend(batch.map(told));
                cursors.push((cursor, found.len()));
            }
            let expected: Vec<String> = (0..count)
                .map(|n| {
                    if n % 50 == 49 {
                        ErrorKind::Damaged.to_string()
                    } else {
                        n.to_string()
                    }
                })
                .collect();
            assert_eq!(found, expected);
            for (cursor, given) in &cursors {
                assert_eq!(cursor.as_str(), format!("v1.{given}"), "behind what was given");
            }
            assert_eq!(reader.cursor().as_str(), format!("v1.{count}"));
            assert!(reader.next().is_none());
        }
    }
}

#[test]
fn a_failure_comes_last_and_what_was_read_before_it_first() {
    for threads in [1, 2, 5] {
        let steps = (0..20).map(line).chain([Step::Error, line(21)]);
        let found: Vec<String> = batches::<u64>(steps.collect(), threads)
            .flatten()
            .map(told)
            .collect();
        assert_eq!(found.len(), 21);
        assert_eq!(found.last(), Some(&ErrorKind::Io.to_string()));
    }
}

#[test]
fn a_payload_of_another_shape_costs_only_itself() {
    let found: Vec<bool> = batches::<Odd>((0..10).map(line).collect(), 2)
        .flatten()
        .map(|event| event.is_ok())
        .collect();
    assert_eq!(found, (0..10).map(|n| n % 2 == 1).collect::<Vec<_>>());
}

#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "u64")]
struct Odd;

impl TryFrom<u64> for Odd {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number % 2 == 1 {
            Ok(Self)
        } else {
            Err("it is even".into())
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(from = "u64")]
struct Panics;

impl From<u64> for Panics {
    fn from(number: u64) -> Self {
        assert!(number != 30, "on purpose");
        Self
    }
}

#[test]
fn a_panic_in_a_payload_reaches_the_caller_and_no_thread_hangs() {
    for threads in [1, 2, 4] {
        let mut reader = batches::<Panics>((0..200).map(line).collect(), threads);
        let panicked = catch_unwind(AssertUnwindSafe(|| reader.by_ref().flatten().count()));
        assert!(panicked.is_err());
        drop(reader);
    }
}

#[test]
fn a_panic_in_another_thread_ends_the_reading() {
    // All of the first batches are read, and so their last ones parsed, while the caller waits.
    let mut reader = batches::<Panics>((0..41).map(line).collect(), 2);
    let first = reader.next().map(|batch| batch.len());
    assert_eq!(first, Some(7));
    while reader.shared.state.lock().panic.is_none() {
        std::thread::yield_now();
    }
    assert!(catch_unwind(AssertUnwindSafe(|| reader.next())).is_err());
    assert!(reader.next().is_none());
}

#[test]
fn what_the_caller_does_not_get_to_is_parsed_by_the_others_and_comes_in_order() {
    let mut reader = batches::<u64>((0..500).map(line).collect(), 2);
    let mut found: Vec<String> = reader.next().unwrap().map(told).collect();
    while reader.shared.state.lock().parsed.is_empty() {
        std::thread::yield_now();
    }
    found.extend(reader.flatten().map(told));
    assert_eq!(found, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn one_that_is_dropped_early_ends_its_threads() {
    for threads in [1, 2, 4] {
        let mut reader = batches::<Value>((0..2000).map(line).collect(), threads);
        assert_eq!(reader.next().map(|batch| batch.len()), Some(7));
        let shared = Arc::clone(&reader.shared);
        drop(reader);
        assert_eq!(Arc::strong_count(&shared), 1);
        let read = shared.state.lock().read;
        assert!(read <= 1 + shared.ahead, "{read} batches were read");
    }
}
