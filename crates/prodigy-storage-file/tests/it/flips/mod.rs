//! Tests that flip every byte of a store, one at a time.
//!
//! After each flip, a reader without earlier state reads everything. It must return only stored data, and report
//! missing data with its file. A flip must not affect data in other files, nor other records in the same file. Then a
//! writer writes data of every kind, and a doctor examines and repairs: neither may lose data that was readable before.

mod check;
mod store;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use check::{Baseline, Outcome};

/// A flip of one or more bits of one byte.
#[derive(Clone, Debug)]
struct Flip {
    file: PathBuf,
    offset: usize,
    mask: u8,
}

/// Which bits of the store's files are flipped, one at a time. A debug build tests at most a hundred per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Every fifth byte, with one bit flipped, and every line end.
    Sample,
    /// Every byte, with one bit flipped; each bit of the bytes that structure a file.
    Bytes,
    /// Each bit of every byte, and each other value for line ends.
    Bits,
}

/// The masks that are applied to the byte at `offset`, one after the other.
fn masks(bytes: &[u8], offset: usize, form: Form) -> Vec<u8> {
    let bits = (0..8).map(|bit| 1 << bit);
    let one = vec![1 << (offset % 8)];
    match (bytes[offset], form) {
        (b'\n', Form::Bits) => (1..=255).collect(),
        // Line ends are also replaced with white space.
        (b'\n', _) => bits
            .chain([b' ', b'\t', b'\r'].map(|byte| byte ^ b'\n'))
            .collect(),
        (_, Form::Bits) => bits.collect(),
        // Most of the padding in lock files is skipped.
        (b' ', _) if bytes.len() > 4096 && !offset.is_multiple_of(64) => Vec::new(),
        (_, Form::Sample) if !offset.is_multiple_of(5) => Vec::new(),
        (_, Form::Sample) => one,
        (b'{' | b'}' | b'[' | b']' | b'"' | b',' | b':', _) => bits.collect(),
        _ => one,
    }
}

fn flips(baseline: &Baseline, form: Form) -> Vec<Flip> {
    let mut flips = Vec::new();
    for file in baseline.sample.disk.files() {
        let bytes = baseline.sample.disk.read(&file).unwrap();
        for offset in 0..bytes.len() {
            for mask in masks(&bytes, offset, form) {
                flips.push(Flip {
                    file: file.clone(),
                    offset,
                    mask,
                });
            }
        }
    }
    flips
}

#[expect(clippy::print_stdout, reason = "a line that a report can take")]
fn run(form: Form) {
    let baseline = Baseline::new();
    let flips = flips(&baseline, form);
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(BTreeMap::<Outcome, usize>::new());
    let wrong = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(flip) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match baseline.check(flip) {
                        Ok(outcome) => *counts.lock().entry(outcome).or_default() += 1,
                        Err(why) => wrong.lock().push(format!(
                            "{} at {} by {:#04x}: {why}",
                            flip.file.display(),
                            flip.offset,
                            flip.mask
                        )),
                    }
                }
            });
        }
    });
    let (counts, wrong) = (counts.into_inner(), wrong.into_inner());
    let count = |outcome| counts.get(&outcome).copied().unwrap_or_default();
    println!(
        "flips: {} in {} files: {} harmless, {} reported, {} wrong",
        flips.len(),
        baseline.sample.disk.files().len(),
        count(Outcome::Harmless),
        count(Outcome::Reported),
        wrong.len(),
    );
    assert!(
        wrong.is_empty(),
        "{} wrong; the first are:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    assert!(count(Outcome::Reported) > count(Outcome::Harmless) / 4);
}

#[test]
fn no_flipped_byte_is_served_lost_unseen_or_costs_a_neighbour() {
    run(Form::Sample);
}

/// Takes a minute: `cargo test --release -p prodigy-storage-file --test it every_byte -- --ignored --nocapture`.
#[test]
#[ignore = "a minute of a release build"]
fn of_every_byte_a_flip_is_harmless_or_told() {
    run(Form::Bytes);
}

/// Takes several minutes: `cargo test --release -p prodigy-storage-file --test it every_bit -- --ignored --nocapture`.
#[test]
#[ignore = "minutes of a release build"]
fn of_every_bit_a_flip_is_harmless_or_told() {
    run(Form::Bits);
}
