//! Benchmarks of parts of the backend crate: records, checksums, ids, dead letters.

use divan::{Bencher, black_box};
use prodigy_storage_backend::dead_letter::{merge, normalise, signature};
use prodigy_storage_backend::record::{RecordEncoder, checksum, read_line};
use prodigy_storage_backend::{Batch, EventId, IdSource};
use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

fn main() {
    divan::main();
}

#[derive(Debug, Serialize, Deserialize)]
struct Event<'a> {
    kind: &'a str,
    agent: u32,
    duration_ms: u64,
    output: &'a str,
}

#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Event<'a>,
}

const EVENT: Event<'static> = Event {
    kind: "agent_step_completed",
    agent: 7,
    duration_ms: 81_234,
    output: "commit 0011223344556677 on branch agent-worktree: tests pass, 3 files changed, nothing left to do, \
        and a line that makes it as long as an event is",
};

fn id() -> EventId {
    IdSource::above(EventId::from_u128(0)).next(Timestamp::now())
}

/// The body of a record: `,"event":{..}`.
fn body() -> Vec<u8> {
    let mut body = b",\"event\":".to_vec();
    // Serialising plain text and numbers can't fail. If it did, the lines below would not be valid records.
    let _ = serde_json::to_writer(&mut body, &EVENT);
    body
}

fn line() -> Vec<u8> {
    let mut line = Vec::new();
    RecordEncoder::new().encode(&mut line, id(), Timestamp::now(), &body());
    line
}

#[divan::bench]
fn serialise_into_a_batch(bencher: Bencher<'_, '_>) {
    let mut batch = Batch::new();
    bencher.bench_local(|| {
        batch.clear();
        batch.push(black_box(&EVENT)).is_ok()
    });
}

#[divan::bench]
fn encode_a_record(bencher: Bencher<'_, '_>) {
    let (id, time, body) = (id(), Timestamp::now(), body());
    let (mut encoder, mut out) = (RecordEncoder::new(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        encoder.encode(&mut out, black_box(id), black_box(time), black_box(&body));
    });
}

#[divan::bench(args = [360, 65_536])]
fn checksum_of_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
    let bytes = vec![b'x'; bytes];
    bencher
        .counter(divan::counter::BytesCount::of_slice(&bytes))
        .bench_local(|| checksum(black_box(&bytes)));
}

#[divan::bench]
fn read_a_record(bencher: Bencher<'_, '_>) {
    let line = line();
    bencher.bench_local(|| read_line(black_box(&line)).is_ok_and(|record| record.verified));
}

#[divan::bench]
fn read_and_parse_a_record(bencher: Bencher<'_, '_>) {
    let line = line();
    bencher.bench_local(|| {
        let record = read_line(black_box(&line)).ok()?;
        Some(record.parse::<Envelope<'_>>().ok()?.event.agent)
    });
}

#[divan::bench]
fn next_id(bencher: Bencher<'_, '_>) {
    let mut ids = IdSource::above(EventId::from_u128(0));
    let now = Timestamp::now();
    bencher.bench_local(|| ids.next(black_box(now)));
}

fn letter(failures: usize) -> Option<Box<RawValue>> {
    let history: Vec<_> = (0..failures)
        .map(|n| serde_json::json!({"error_type": "timeout", "error_message": format!("no answer after {n} s")}))
        .collect();
    let letter = serde_json::json!({
        "item_id": "item-0000007",
        "item_data": {"path": "src/file-7.rs", "prompt": "x".repeat(1_600)},
        "failure_history": history,
    });
    let raw = serde_json::value::to_raw_value(&letter).ok()?;
    Some(normalise(&raw).ok()?.body)
}

#[divan::bench(args = [1, 10, 100])]
fn merge_dead_letters(bencher: Bencher<'_, '_>, failures: usize) {
    let now = Timestamp::now();
    let letters = letter(failures).zip(letter(1));
    bencher.bench_local(|| {
        let (stored, pushed) = letters.as_ref()?;
        merge(black_box(stored), black_box(pushed), now).ok()
    });
}

#[divan::bench]
fn signature_of_a_failure() -> String {
    signature(
        black_box("timeout"),
        black_box("agent 7 gave up after 1234 s in /tmp/worktree-81/src/file-7.rs"),
    )
}
