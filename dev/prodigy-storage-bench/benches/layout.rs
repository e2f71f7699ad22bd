//! Benchmarks of parts of the layout crate: names, timestamps.

use divan::black_box;
use prodigy_storage_layout::{JobId, LockName, RepoName, SegmentName, Timestamp};

fn main() {
    divan::main();
}

#[divan::bench(args = ["shop", "Ärger-mit-Namen", "a-name-as-long-as-a-branch-of-somebody-who-likes-long-ones"])]
fn repository_name(name: &str) -> bool {
    RepoName::new(black_box(name)).is_ok()
}

#[divan::bench]
fn job_name() -> bool {
    JobId::new(black_box("mapreduce-20251115-073606")).is_ok()
}

#[divan::bench]
fn lock_name() -> bool {
    LockName::new(black_box("shop/mapreduce-7/resume")).is_ok()
}

#[divan::bench]
fn segment_name() -> bool {
    SegmentName::parse(black_box("events-20251115T073606.123456789Z.jsonl")).is_some()
}

#[divan::bench]
fn timestamp_to_text() -> String {
    Timestamp::from_nanos(black_box(1_763_192_166_123_456_789)).to_rfc3339()
}

#[divan::bench]
fn timestamp_from_text() -> Option<Timestamp> {
    Timestamp::parse(black_box("2025-11-15T07:36:06.123456Z"))
}
