//! Benchmarks of parts of the cache crate: a hit, a miss, an insertion that evicts.

use std::sync::Arc;

use divan::{Bencher, black_box};
use prodigy_storage_cache::{Cache, CacheSettings};

fn main() {
    divan::main();
}

const ENTRIES: u64 = 1_000;

fn full() -> Cache<u64, Arc<[u8]>> {
    let cache = Cache::new(&CacheSettings::default());
    for key in 0..ENTRIES {
        cache.insert(key, Arc::from([0u8; 64].as_slice()), 64);
    }
    cache
}

#[divan::bench(threads = [1, 2])]
fn hit(bencher: Bencher<'_, '_>) {
    let cache = full();
    bencher.bench(|| cache.get(black_box(&7)));
}

#[divan::bench(threads = [1, 2])]
fn miss(bencher: Bencher<'_, '_>) {
    let cache = full();
    bencher.bench(|| cache.get(black_box(&ENTRIES)));
}

#[divan::bench]
fn insert_that_evicts(bencher: Bencher<'_, '_>) {
    let cache = full();
    let value: Arc<[u8]> = Arc::from([0u8; 64].as_slice());
    let mut key = ENTRIES;
    bencher.bench_local(|| {
        key += 1;
        cache.insert(black_box(key), Arc::clone(&value), 64)
    });
}
