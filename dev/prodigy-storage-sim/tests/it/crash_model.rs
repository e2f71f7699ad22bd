//! Tests of the crash model: the data that it keeps and loses, call by call.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_file::fs::{FileSystem, OpenMode};
use prodigy_storage_sim::{CallOutcome, Disk, Effort, Loss, Moment, Process, SimFs, crashes};

const FULL: Effort = Effort {
    subsets: 4,
    thorough: true,
};

/// The moment after `act` ran on a disk with a durable folder `a`.
fn after(act: impl FnOnce(&Process)) -> Moment {
    let mut disk = Disk::default();
    disk.make_folder("a");
    let sim = SimFs::new(disk.clone());
    act(&sim.process());
    let mut moment = Moment::new(disk);
    for entry in sim.journal() {
        moment.step(&Arc::new(entry));
    }
    moment
}

fn disks(moment: &Moment, fresh: bool, loss: Loss) -> Vec<Disk> {
    let mut random = fastrand::Rng::with_seed(1);
    let (found, _) = crashes(moment, fresh, FULL, &mut random);
    let of_loss = found.iter().filter(|crash| crash.loss == loss);
    of_loss.map(|crash| crash.disk().clone()).collect()
}

fn contents(disks: &[Disk], path: &str) -> std::collections::BTreeSet<Option<Vec<u8>>> {
    let read = |disk: &Disk| disk.read(path).map(|bytes| bytes.to_vec());
    disks.iter().map(read).collect()
}

fn create(process: &Process, bytes: &[u8], sync: bool) {
    let file = process.open(Path::new("a/x"), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone_and_is_never_half() {
    let moment = after(|process| create(process, b"text", true));
    assert_eq!(moment.pending().len(), 1);
    let found = contents(&disks(&moment, false, Loss::Power), "a/x");
    assert_eq!(found, [None, Some(b"text".to_vec())].into());
}

#[test]
fn a_synced_name_without_synced_data_may_be_empty_zeros_or_cut() {
    let moment = after(|process| {
        process.sync_dir(Path::new("a")).unwrap();
        create(process, b"text", false);
        process.sync_dir(Path::new("a")).unwrap();
    });
    let found = contents(&disks(&moment, false, Loss::Power), "a/x");
    for expected in [&b""[..], b"\0\0\0\0", b"text"] {
        assert!(
            found.contains(&Some(expected.to_vec())),
            "{expected:?} in {found:?}"
        );
    }
    assert!(!found.contains(&None));
}

#[test]
fn what_is_synced_with_its_name_stays() {
    let moment = after(|process| {
        create(process, b"text", true);
        process.sync_dir(Path::new("a")).unwrap();
    });
    assert!(moment.pending().is_empty());
    let found = contents(&disks(&moment, false, Loss::Power), "a/x");
    assert_eq!(found, [Some(b"text".to_vec())].into());
}

#[test]
fn a_write_that_is_left_out_below_another_leaves_zeros() {
    let moment = after(|process| {
        create(process, b"", true);
        process.sync_dir(Path::new("a")).unwrap();
        let file = process.open(Path::new("a/x"), OpenMode::Write).unwrap();
        file.write_all_at(b"one", 0).unwrap();
        file.write_all_at(b"two", 3).unwrap();
    });
    let holes = moment.after(&[CallOutcome::Gone, CallOutcome::There]);
    assert_eq!(holes.read("a/x").unwrap().as_slice(), b"\0\0\0two");
    let found = contents(&disks(&moment, true, Loss::Power), "a/x");
    assert!(found.contains(&Some(b"\0\0\0two".to_vec())), "{found:?}");
}

#[test]
fn the_last_write_is_cut_at_every_edge_of_a_sector() {
    let moment = after(|process| {
        create(process, b"", true);
        process.sync_dir(Path::new("a")).unwrap();
        let file = process.open(Path::new("a/x"), OpenMode::Write).unwrap();
        file.write_all_at(&[b'x'; 100], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[b'y'; 1200], 100).unwrap();
    });
    for loss in [Loss::Death, Loss::Power] {
        let found = contents(&disks(&moment, true, loss), "a/x");
        let lengths: Vec<usize> = found.iter().flatten().map(Vec::len).collect();
        for expected in [100, 101, 512, 1024, 1299, 1300] {
            assert!(lengths.contains(&expected), "{loss:?}: {expected} in {lengths:?}");
        }
        let bytes = found.iter().flatten();
        assert!(bytes.into_iter().all(|bytes| bytes.starts_with(&[b'x'; 100])));
    }
}

#[test]
fn a_write_over_stored_bytes_keeps_any_of_its_sectors() {
    let moment = after(|process| {
        create(process, b"", true);
        process.sync_dir(Path::new("a")).unwrap();
        let file = process.open(Path::new("a/x"), OpenMode::Write).unwrap();
        file.write_all_at(&[b'x'; 2_000], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[b'y'; 1_800], 500).unwrap();
    });
    let state = |bits| moment.after(&[CallOutcome::Sectors(bits)]).read("a/x").unwrap();
    // Sectors end at 512, 1024, 1536 and 2048. Bytes that extend the file are kept.
    let ends = [500, 512, 1024, 1536];
    for bits in 0..16 {
        let found = state(bits);
        assert_eq!(
            (found.len(), found[1_999], found[2_000]),
            (2_300, b'y', b'y'),
            "{bits:b}"
        );
        for (bit, from) in ends.iter().enumerate() {
            let expected = if bit == 3 || bits >> bit & 1 == 1 {
                b'y'
            } else {
                b'x'
            };
            assert_eq!(found[*from], expected, "{bits:b} at {from}");
        }
    }
    let found = contents(&disks(&moment, true, Loss::Power), "a/x");
    for bits in [0b101, 0b010] {
        assert!(found.contains(&Some(state(bits).to_vec())), "{bits:b}");
    }
}

#[test]
fn a_death_keeps_everything_but_the_end_of_the_write_under_way() {
    let moment = after(|process| {
        create(process, b"text", false);
        process.rename(Path::new("a/x"), Path::new("a/y")).unwrap();
    });
    let found = disks(&moment, true, Loss::Death);
    assert_eq!(contents(&found, "a/y"), [Some(b"text".to_vec())].into());
    assert_eq!(contents(&found, "a/x"), [None].into());
}

#[test]
fn a_rename_is_there_or_not() {
    let moment = after(|process| {
        create(process, b"new", true);
        let old = process.open(Path::new("a/y"), OpenMode::CreateNew).unwrap();
        old.write_all_at(b"old", 0).unwrap();
        old.sync().unwrap();
        process.sync_dir(Path::new("a")).unwrap();
        process.rename(Path::new("a/x"), Path::new("a/y")).unwrap();
    });
    let found = disks(&moment, true, Loss::Power);
    let both: std::collections::BTreeSet<_> = found
        .iter()
        .map(|disk| {
            let read = |path: &str| {
                disk.read(path)
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            (read("a/x"), read("a/y"))
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(both, [(None, text("new")), (text("new"), text("old"))].into());
}

#[test]
fn an_unlink_comes_back_until_its_folder_is_synced() {
    let gone = |sync: bool| {
        let moment = after(|process| {
            create(process, b"text", true);
            process.sync_dir(Path::new("a")).unwrap();
            process.unlink(Path::new("a/x")).unwrap();
            if sync {
                process.sync_dir(Path::new("a")).unwrap();
            }
        });
        contents(&disks(&moment, false, Loss::Power), "a/x")
    };
    assert_eq!(gone(false), [None, Some(b"text".to_vec())].into());
    assert_eq!(gone(true), [None].into());
}

#[test]
fn a_mode_is_durable_only_when_all_is_synced() {
    let modes = |all: bool| {
        let moment = after(|process| {
            create(process, b"text", true);
            process.sync_dir(Path::new("a")).unwrap();
            let file = process.open(Path::new("a/x"), OpenMode::Write).unwrap();
            file.set_mode(0o400).unwrap();
            if all {
                file.sync_all().unwrap();
            } else {
                file.sync().unwrap();
            }
        });
        let found = disks(&moment, false, Loss::Power);
        let modes = found.iter().map(|disk| disk.metadata("a/x").unwrap().mode);
        modes.collect::<std::collections::BTreeSet<u32>>()
    };
    assert_eq!(modes(true), [0o400].into());
    assert_eq!(modes(false), [0o400, 0o600].into());
}

#[test]
fn a_root_is_there_when_the_folders_above_it_are_synced() {
    let sim = SimFs::new(Disk::default());
    let process = sim.process();
    process.create_root().unwrap();
    process.sync_dir(Path::new("")).unwrap();
    let mut moment = Moment::new(Disk::default());
    for entry in sim.journal() {
        moment.step(&Arc::new(entry));
    }
    let rooted = |moment: &Moment| {
        let found = disks(moment, false, Loss::Power);
        let there = found.iter().map(|disk| disk.metadata("").is_some());
        there.collect::<std::collections::BTreeSet<bool>>()
    };
    assert_eq!(rooted(&moment), [false, true].into());
    process.sync_above_root().unwrap();
    moment.step(&Arc::new(sim.journal().pop().unwrap()));
    assert_eq!(rooted(&moment), [true].into());
}
