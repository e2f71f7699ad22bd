//! Tests of files that another user puts into the root: no operation follows them out of the root or hangs, and they
//! are reported.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{Catalog, ErrorKind};
use prodigy_storage_file::{Doctor, DoctorScope, FileBackend};

use super::hooked::Hooked;
use super::world::{NEVER, Plant, Run, World, job, paths};

fn full() -> World {
    let world = World::new();
    let run = Run::on(world.options());
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    world
}

/// All paths below the root.
fn places(world: &World) -> Vec<PathBuf> {
    paths(&world.root()).into_iter().skip(1).collect()
}

fn repair(world: &World) {
    let Ok(doctor) = Doctor::new(world.options()) else {
        return;
    };
    // The result of the repair does not matter here.
    let _ = doctor.repair(&DoctorScope::all(), Duration::ZERO, &mut |_| {});
}

#[test]
fn no_link_in_the_root_is_followed_and_each_is_told() {
    let full = full();
    for path in places(&full) {
        for plant in Plant::LINKS {
            let world = full.copy();
            plant.at(&world, &path);
            let what = format!("{plant:?} at {}", path.display());
            let before = world.seen_outside();
            let run = Run::on(world.options());
            assert_eq!(world.seen_outside(), before, "{what}");
            let told = run.errors.iter().any(|error| {
                error.kind() == ErrorKind::Refused
                    && error.to_string().contains("link")
                    && error.hint().is_some()
            });
            assert!(told, "{what}: {:?}", run.errors);
            let reader = Run::on(world.options().read_only(true));
            assert_eq!(world.seen_outside(), before, "{what}, after a reader");
            if path.starts_with("events") {
                assert_eq!(reader.events, 0, "{what}: nothing is read through it");
            }
            repair(&world);
            assert_eq!(world.seen_outside(), before, "{what}, after a repair");
        }
    }
}

#[test]
fn what_is_no_file_or_no_folder_is_told_and_hangs_nothing() {
    let full = full();
    for path in places(&full) {
        for plant in [Plant::Fifo, Plant::Wrong] {
            let world = full.copy();
            plant.at(&world, &path);
            let run = Run::on(world.options());
            let told = run
                .errors
                .iter()
                .any(|error| matches!(error.kind(), ErrorKind::Refused | ErrorKind::Damaged));
            assert!(told, "{plant:?} at {}: {:?}", path.display(), run.errors);
            repair(&world);
        }
    }
}

#[test]
fn a_file_that_has_a_second_name_outside_is_not_written_to() {
    let full = full();
    for path in places(&full) {
        if full.root().join(&path).is_dir() {
            continue;
        }
        let world = full.copy();
        Plant::HardLink.at(&world, &path);
        let before = world.seen_outside();
        let run = Run::on(world.options());
        assert_eq!(world.seen_outside(), before, "{}", path.display());
        repair(&world);
        assert_eq!(world.seen_outside(), before, "{}, after a repair", path.display());
        if path.starts_with("locks/2") {
            // A token of this lock can't be written, since it would be written to the other user's file.
            assert_eq!(run.errors.len(), 1, "{:?}", run.errors);
            assert_eq!(run.errors[0].kind(), ErrorKind::Refused);
            assert!(run.errors[0].hint().unwrap().contains("find -samefile"));
        } else {
            assert!(run.errors.is_empty(), "{}: {:?}", path.display(), run.errors);
            assert_eq!(run.events, 16, "{}", path.display());
        }
    }
}

#[test]
fn links_that_come_between_the_calls_are_not_followed() {
    let full = full();
    // Collects the distinct calls of a run, by kind and path; below, each of them is intercepted once. Compression runs
    // in the background, so it is off: then every run makes the same calls.
    let calls = Arc::new(Mutex::new(Vec::new()));
    let world = full.copy();
    let noted = Arc::clone(&calls);
    let fs = Hooked::new(&world.root(), move |what, path| {
        noted.lock().push((what, path.to_owned()));
    });
    assert!(
        Run::on_file_system(Arc::new(fs), world.options().compression(false))
            .errors
            .is_empty()
    );
    let mut met = HashSet::new();
    let numbers: Vec<usize> = (0..)
        .zip(calls.lock().iter())
        .filter(|(_, (what, path))| {
            let shape: String = path
                .to_string_lossy()
                .chars()
                .filter(|c| !c.is_ascii_hexdigit())
                .collect();
            met.insert((*what, shape))
        })
        .map(|(number, _)| number)
        .collect();
    assert!(numbers.len() > 40, "{}", numbers.len());
    for number in numbers {
        for above in [false, true] {
            let world = Arc::new(full.copy());
            let count = AtomicUsize::new(0);
            let planted = Arc::new(Mutex::new(None));
            let (place, seen) = (Arc::clone(&world), Arc::clone(&planted));
            let fs = Hooked::new(&world.root(), move |what, path| {
                if count.fetch_add(1, Ordering::SeqCst) != number {
                    return;
                }
                let target = if above { path.parent() } else { Some(path) };
                let Some(target) = target.filter(|target| !target.as_os_str().is_empty()) else {
                    return;
                };
                if place.root().join(target).parent().is_some_and(Path::exists) {
                    Plant::LinkToCopy.at(&place, target);
                    *seen.lock() = Some((what, target.to_owned(), place.seen_outside()));
                }
            });
            let _ = Run::on_file_system(Arc::new(fs), world.options().compression(false));
            let planted = planted.lock().take();
            if let Some((what, target, before)) = planted {
                let when = format!("before call {number}: {what} at {}", target.display());
                assert_eq!(world.seen_outside(), before, "{when}");
            }
        }
    }
}

#[test]
fn a_root_that_becomes_a_link_is_not_followed() {
    for existed in [false, true] {
        let world = World::new();
        if existed {
            std::fs::create_dir(world.root()).unwrap();
        }
        let backend = FileBackend::open(world.options()).unwrap();
        if existed {
            std::fs::remove_dir(world.root()).unwrap();
        }
        symlink(world.outside().join("folder"), world.root()).unwrap();
        let before = world.seen_outside();
        let mut run = Run::default();
        run.all(&backend);
        assert_eq!(world.seen_outside(), before);
        assert!(
            run.errors.iter().any(|error| error.kind() == ErrorKind::Refused),
            "{:?}",
            run.errors
        );
    }
}

#[test]
fn a_root_that_is_a_link_when_it_is_opened_is_the_users_choice() {
    let world = World::new();
    let target = world.top().join("elsewhere");
    std::fs::create_dir(&target).unwrap();
    symlink(&target, world.root()).unwrap();
    assert!(Run::on(world.options()).errors.is_empty());
    assert!(target.join("format.json").is_file());
    // A dangling link at the path of the root is refused, and its target is not created.
    let world = World::new();
    symlink(world.outside().join("new"), world.root()).unwrap();
    let error = FileBackend::open(world.options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(!world.outside().join("new").exists());
}

#[test]
fn a_quarantine_that_is_a_link_takes_nothing_in() {
    let world = full();
    std::fs::create_dir_all(world.root().join("quarantine")).unwrap();
    Plant::LinkToFolder.at(&world, Path::new("quarantine"));
    tear(&world);
    let before = world.seen_outside();
    let run = Run::on(world.options());
    repair(&world);
    assert_eq!(world.seen_outside(), before);
    assert!(run.errors.iter().any(|error| error.kind() == ErrorKind::Refused));
}

/// Appends a torn record to the log's plain segments, which the next writer or a repair moves to the quarantine.
fn tear(world: &World) {
    let events = world.root().join("events/shop").join(job().job.as_str());
    for entry in std::fs::read_dir(events).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            let mut text = std::fs::read(&path).unwrap();
            text.extend_from_slice(b"{\"id\":\"torn");
            std::fs::write(path, text).unwrap();
        }
    }
}

#[test]
fn temporary_names_can_not_be_guessed_and_what_has_one_is_not_used() {
    let world = World::new();
    let names = Arc::new(Mutex::new(HashSet::new()));
    let planted = Arc::new(AtomicUsize::new(0));
    let (seen, count, root) = (Arc::clone(&names), Arc::clone(&planted), world.root());
    let target = world.outside().join("file");
    // An attacker who knows the name of a temporary file creates it first.
    let fs = Hooked::new(&world.root(), move |what, path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if what == "open" && name.starts_with(".tmp-") && seen.lock().insert(name) {
            let whole = root.join(path);
            if whole.parent().is_some_and(Path::exists) && symlink(&target, whole).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let before = world.seen_outside();
    let _ = Run::on_file_system(Arc::new(fs), world.options());
    assert_eq!(world.seen_outside(), before);
    assert!(planted.load(Ordering::SeqCst) > 0);
    let names = names.lock();
    let mut seen = HashSet::new();
    for name in names.iter() {
        // A UUID of version 4 has 122 random bits from the operating system. So two names never have the same first or
        // last digits.
        let digits = name.strip_prefix(".tmp-").unwrap();
        let id = uuid::Uuid::try_parse(digits).unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert!(seen.insert(digits[..8].to_owned()) && seen.insert(digits[20..].to_owned()));
    }
}

#[test]
fn a_device_in_the_place_of_a_file_is_told() {
    let full = full();
    for path in [
        "format.json",
        "dlq/shop/mapreduce-7/items.json",
        "locks/2/shop/resume.lock",
    ] {
        let world = full.copy();
        let whole = world.root().join(path);
        std::fs::remove_file(&whole).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        // The device number of `/dev/zero`, from which a reader would read forever.
        let device = rustix::fs::makedev(1, 5);
        let kind = rustix::fs::FileType::CharacterDevice;
        if rustix::fs::mknodat(rustix::fs::CWD, &whole, kind, mode, device).is_err() {
            eprintln!("SKIPPED: only the superuser may make a device");
            return;
        }
        let run = Run::on(world.options());
        assert!(
            run.errors.iter().any(|error| error.kind() == ErrorKind::Refused),
            "{:?}",
            run.errors
        );
        assert_eq!(std::fs::symlink_metadata(&whole).unwrap().rdev(), device);
    }
}

#[test]
fn capabilities_and_health_of_a_planted_root_do_not_fail() {
    let world = full();
    Plant::LinkToFolder.at(&world, Path::new("locks"));
    let backend = FileBackend::open(world.options()).unwrap();
    assert!(backend.health(NEVER).is_ok() && backend.usage(NEVER).is_ok());
    assert_eq!(
        backend.capabilities().root.as_deref(),
        Some(&*world.root().canonicalize().unwrap())
    );
}
