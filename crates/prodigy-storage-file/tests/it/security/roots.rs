//! Tests of the rules for a root: its writers, its owner, and its file system.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Catalog, Check, ErrorKind, Severity};
use prodigy_storage_file::{FileBackend, FileOptions};

use super::hooked::Hooked;
use super::world::{NEVER, Run, World, options, paths};

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn health(options: FileOptions) -> Vec<Check> {
    FileBackend::open(options).unwrap().health(NEVER).unwrap().checks
}

fn named<'a>(checks: &'a [Check], name: &str) -> Option<&'a Check> {
    checks.iter().find(|check| check.name == name)
}

#[test]
fn a_root_that_any_user_may_write_to_is_refused_unless_it_is_allowed() {
    for mode in [0o777, 0o1777, 0o707, 0o702] {
        let world = World::new();
        std::fs::create_dir(world.root()).unwrap();
        set(&world.root(), mode);
        for options in [world.options(), world.options().read_only(true)] {
            let error = FileBackend::open(options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.why().contains("any user may write to it"), "{error}");
            assert!(error.why().contains(&format!("{mode:04o}")), "{error}");
            assert!(error.hint().unwrap().contains("allow_shared_root: true"));
        }
        assert_eq!(paths(&world.root()).len(), 1, "nothing was made");
        let run = Run::on(world.options().allow_shared_root(true));
        assert!(run.errors.is_empty(), "{:?}", run.errors);
        // The files below the root are closed to other users, although the root is not.
        for path in paths(&world.root()).into_iter().skip(1) {
            let mode = std::fs::metadata(world.root().join(&path)).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }
    for mode in [0o700, 0o750, 0o755, 0o770, 0o775] {
        let world = World::new();
        std::fs::create_dir(world.root()).unwrap();
        set(&world.root(), mode);
        let checks = health(world.options());
        assert_eq!(named(&checks, "mode").is_some(), mode & 0o020 != 0, "{mode:o}");
    }
}

#[test]
fn a_root_that_is_opened_to_all_later_is_refused_at_the_next_opening() {
    let world = World::new();
    let first = FileBackend::open(world.options()).unwrap();
    std::fs::create_dir(world.root()).unwrap();
    set(&world.root(), 0o777);
    // An open handle refuses such a root as well, even if the root was created after the handle was opened.
    assert_eq!(
        FileBackend::open(world.options()).unwrap_err().kind(),
        ErrorKind::Refused
    );
    let mut run = Run::default();
    run.all(&first);
    assert!(
        run.errors.iter().any(|error| error.kind() == ErrorKind::Refused),
        "{:?}",
        run.errors
    );
    assert_eq!(paths(&world.root()).len(), 1, "nothing was made");
}

#[test]
fn a_folder_above_from_which_the_root_may_be_taken_away_is_told() {
    let world = World::new();
    set(world.top(), 0o755);
    let shared = world.top().join("shared");
    std::fs::create_dir(&shared).unwrap();
    for (mode, told) in [(0o777, true), (0o1777, false), (0o755, false)] {
        set(&shared, mode);
        let checks = health(FileOptions::new(shared.join("root")));
        let check = named(&checks, "way to the root");
        assert_eq!(check.is_some(), told, "{mode:o}: {checks:?}");
        if let Some(check) = check {
            assert_eq!(check.severity, Severity::Warning);
            assert!(check.found.contains("shared") && check.command.as_ref().unwrap().contains("chmod +t"));
        }
    }
}

#[test]
fn a_root_of_another_user_is_told_and_one_where_anybody_could_plant_it_is_refused() {
    let world = World::new();
    std::fs::create_dir(world.root()).unwrap();
    let mine = health(world.options());
    assert!(named(&mine, "owner").is_none());
    if chown(world.root(), Some(4242), None).is_err() {
        eprintln!("SKIPPED: only the superuser may give a folder away");
        return;
    }
    let checks = health(world.options());
    let owner = named(&checks, "owner").unwrap();
    assert_eq!(owner.severity, Severity::Failure, "a write is refused");
    assert!(owner.found.contains("4242"), "{owner:?}");
    let checks = health(world.options().allow_foreign_owner(true));
    assert_eq!(named(&checks, "owner").unwrap().severity, Severity::Warning);

    // In a folder like `/tmp`, in which any user can create names, the root may be created.
    set(world.top(), 0o1777);
    for options in [world.options(), options(&world.root().join("deeper"))] {
        let error = FileBackend::open(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.why().contains("user 4242 made"), "{error}");
        assert!(error.hint().unwrap().contains("allow_shared_root"));
    }
    let checks = health(world.options().allow_shared_root(true));
    assert!(named(&checks, "way to the root").unwrap().found.contains("4242"));
}

fn open_with_locks(answer: fn() -> io::Result<()>, options: FileOptions) -> Option<ErrorKind> {
    let mut fs = Hooked::new(&options.root, |_, _| {});
    fs.locks = Some(answer);
    let opened = FileBackend::open_on(Arc::new(fs), options);
    let error = opened.err()?;
    assert!(
        error.hint().unwrap().contains("enable_file_locks: false"),
        "{error}"
    );
    Some(error.kind())
}

#[test]
fn a_file_system_without_locks_is_refused_at_open_with_what_to_set() {
    fn fails(errno: rustix::io::Errno) -> io::Result<()> {
        Err(errno.into())
    }
    use rustix::io::Errno;
    let world = World::new();
    std::fs::create_dir(world.root()).unwrap();
    let without: [fn() -> io::Result<()>; 6] = [
        || fails(Errno::NOTSUP),
        || fails(Errno::NOSYS),
        || fails(Errno::NOLCK),
        || fails(Errno::INVAL),
        || fails(Errno::BADF),
        || Err(io::ErrorKind::Unsupported.into()),
    ];
    for answer in without {
        assert_eq!(
            open_with_locks(answer, world.options()),
            Some(ErrorKind::Unsupported)
        );
        // A reader takes no locks, so it may open the root.
        assert_eq!(open_with_locks(answer, world.options().read_only(true)), None);
        assert_eq!(open_with_locks(answer, world.options().file_locks(false)), None);
    }
    // An error that does not mean that locks are missing is reported when the first lock is needed.
    assert_eq!(open_with_locks(|| fails(Errno::IO), world.options()), None);
    assert_eq!(paths(&world.root()).len(), 1, "nothing was made");
}

#[test]
fn a_root_that_comes_to_be_without_locks_is_refused_before_the_first_write() {
    let world = World::new();
    let mut fs = Hooked::new(&world.root(), |_, _| {});
    fs.locks = Some(|| Err(rustix::io::Errno::NOLCK.into()));
    let run = Run::on_file_system(Arc::new(fs), world.options());
    assert_eq!(run.events, 0);
    assert!(
        run.errors
            .iter()
            .any(|error| error.kind() == ErrorKind::Unsupported),
        "{:?}",
        run.errors
    );
    assert_eq!(paths(&world.root()).len(), 1, "nothing but the root");
}

#[test]
fn a_process_without_file_locks_opens_a_root_only_alone() {
    let world = World::new();
    assert!(Run::on(world.options()).errors.is_empty());
    let root = std::fs::File::open(world.root()).unwrap();
    let open = |locks: bool| FileBackend::open(world.options().file_locks(locks));
    let refused = |locks: bool| {
        let error = open(locks).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable, "{error}");
        assert!(error.why().contains("enable_file_locks"), "{error}");
        assert!(!error.is_transient() && error.hint().is_some());
        // Health reports that the root can't be used, although a reader may open it.
        let reader = FileBackend::open(world.options().file_locks(locks).read_only(true)).unwrap();
        let health = reader.health(NEVER).unwrap();
        assert_eq!(health.severity(), Severity::Failure);
    };
    // Locks the root as another process with file locks does, and then as one without file locks does.
    root.lock_shared().unwrap();
    drop(open(true).unwrap());
    refused(false);
    root.unlock().unwrap();
    root.lock().unwrap();
    refused(true);
    refused(false);
    root.unlock().unwrap();
    // The lock is held until the last handle of the process is dropped.
    let (one, two) = (open(true).unwrap(), open(true).unwrap());
    drop(one);
    assert!(root.try_lock().is_err());
    root.try_lock_shared().unwrap();
    root.unlock().unwrap();
    drop(two);
    let alone = open(false).unwrap();
    let again = open(false).unwrap();
    assert!(root.try_lock_shared().is_err(), "handles of one process share it");
    drop((alone, again));
    root.try_lock().unwrap();
}

#[test]
fn the_file_system_of_the_root_is_told() {
    let world = World::new();
    let checks = health(world.options().allow_network_fs(true));
    assert!(named(&checks, "file system").is_some());
}

#[test]
fn writing_as_another_user_than_the_owner_is_refused_and_reading_is_not() {
    let world = World::new();
    assert!(Run::on(world.options()).errors.is_empty());
    if chown(world.root(), Some(4242), Some(4242)).is_err() {
        eprintln!("SKIPPED: only the superuser may give a folder away");
        return;
    }
    let before = paths(&world.root());
    let run = Run::on(world.options().file_locks(true).max_file_size(701));
    assert!(run.events > 0, "reading is allowed");
    let refused: Vec<_> = run
        .errors
        .iter()
        .filter(|error| error.kind() == ErrorKind::Refused)
        .collect();
    assert!(
        !refused.is_empty() && refused.len() == run.errors.len(),
        "{:?}",
        run.errors
    );
    for error in refused {
        let root = world.root();
        assert!(error.why().contains(root.to_str().unwrap()), "{error}");
        assert!(
            error.why().contains("user 4242") && error.why().contains("mode 0700"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("allow_foreign_owner: true"));
    }
    assert_eq!(paths(&world.root()), before, "nothing was made");
    let doctor = prodigy_storage_file::Doctor::new(world.options()).unwrap();
    let scope = prodigy_storage_file::DoctorScope::default();
    let repaired = doctor.repair(&scope, std::time::Duration::ZERO, &mut |_| {});
    assert_eq!(repaired.unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn what_the_superuser_creates_gets_the_owner_of_the_root() {
    let world = World::new();
    if chown(world.top(), Some(4242), Some(4243)).is_err() {
        eprintln!("SKIPPED: only the superuser may give a folder away");
        return;
    }
    // A root that does not exist yet will belong to the owner of the nearest folder above it.
    let deep = world.root().join("deeper");
    let here = || options(&deep).allow_shared_root(true);
    let error = Run::on(here()).errors.remove(0);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.why().contains("belongs to user 4242"), "{error}");
    assert!(!world.root().exists(), "nothing was made");
    let run = Run::on(here().allow_foreign_owner(true));
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    for path in paths(&world.root()) {
        let found = std::fs::symlink_metadata(world.root().join(&path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (4242, 4243), "{}", path.display());
    }
}

#[test]
fn health_names_what_belongs_to_another_user_than_the_root() {
    let world = World::new();
    assert!(Run::on(world.options()).errors.is_empty());
    assert!(named(&health(world.options()), "below the root").is_none());
    let job = world.root().join("events/shop");
    if chown(&job, Some(4242), None).is_err() {
        eprintln!("SKIPPED: only the superuser may give a folder away");
        return;
    }
    let checks = health(world.options());
    let below = named(&checks, "below the root").unwrap();
    assert_eq!(below.severity, Severity::Warning, "the superuser can write there");
    let job = job.to_str().unwrap();
    assert!(
        below.found.contains(job) && below.found.contains("owner 4242, mode 0700"),
        "{below:?}"
    );
    assert!(below.command.as_ref().unwrap().contains("chown -hR"));
}

#[test]
fn health_leaves_nothing_behind_and_changes_no_time() {
    let world = World::new();
    assert!(Run::on(world.options()).errors.is_empty());
    let looks = |world: &World| -> Vec<_> {
        paths(&world.root())
            .into_iter()
            .map(|path| {
                let found = std::fs::symlink_metadata(world.root().join(&path)).unwrap();
                (path, found.mtime_nsec(), found.ctime_nsec(), found.len())
            })
            .collect()
    };
    let before = looks(&world);
    for options in [world.options(), world.options().read_only(true)] {
        let checks = health(options);
        assert!(
            checks.iter().all(|check| check.severity != Severity::Failure),
            "{checks:?}"
        );
    }
    assert_eq!(looks(&world), before);
}
