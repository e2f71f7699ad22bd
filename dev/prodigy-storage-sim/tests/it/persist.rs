//! Tests that a power loss loses no event before a persisted cursor.

use std::sync::Arc;

use prodigy_storage_backend::{
    AppendOptions, Batch, Cursor, Deadline, Durability, LogStore, ScanItem, ScanOptions,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_sim::{Disk, Effort, Loss, Moment, SimFs, crashes, job};

const NEVER: Deadline = Deadline::never();

fn relaxed(backend: &FileBackend, payload: &str) {
    let mut batch = Batch::new();
    batch.push(payload).unwrap();
    let options = AppendOptions::new(Durability::Relaxed);
    backend
        .append(&job("one").unwrap(), &mut batch, &options, NEVER)
        .unwrap();
}

fn read(backend: &FileBackend) -> (usize, Cursor) {
    let mut scan = backend
        .scan(&job("one").unwrap(), &ScanOptions::all(), NEVER)
        .unwrap();
    let mut count = 0;
    while let Some(item) = scan.next().unwrap() {
        assert!(matches!(item, ScanItem::Record(_)), "{item:?}");
        count += 1;
    }
    (count, scan.cursor())
}

#[test]
fn events_of_every_process_before_a_persisted_cursor_survive_a_power_loss() {
    for persists in [true, false] {
        let sim = SimFs::new(Disk::default());
        let open = || sim.open(sim.options()).unwrap().0;
        let (one, two, reader) = (open(), open(), open());
        relaxed(&one, "a");
        relaxed(&two, "b");
        let (count, cursor) = read(&reader);
        assert_eq!(count, 2);
        if persists {
            reader.persist(&job("one").unwrap(), &cursor, NEVER).unwrap();
        }
        let mut moment = Moment::new(Disk::default());
        for entry in sim.journal() {
            moment.step(&Arc::new(entry));
        }
        let effort = Effort {
            subsets: 16,
            thorough: true,
        };
        let (found, _) = crashes(&moment, false, effort, &mut fastrand::Rng::with_seed(7));
        let mut lost = 0;
        for crash in found.iter().filter(|crash| crash.loss == Loss::Power) {
            let after = SimFs::new(crash.disk().clone());
            let (backend, _) = after.open(after.options()).unwrap();
            lost += usize::from(read(&backend).0 < 2);
        }
        assert_eq!(
            lost == 0,
            persists,
            "{lost} disks of {} lost an event",
            found.len()
        );
    }
}
