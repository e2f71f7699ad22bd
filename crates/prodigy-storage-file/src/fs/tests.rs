//! Tests of the real file system: no path, and no link in the root, leads out of the root.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::real::open_stepwise;
use super::*;
use rustix::fs::{Mode, OFlags};

fn place() -> (tempfile::TempDir, RealFs) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("outside/deep")).unwrap();
    std::fs::write(dir.path().join("outside/file"), "keep").unwrap();
    std::fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
    symlink(dir.path().join("outside"), dir.path().join("root/a/out")).unwrap();
    symlink(dir.path().join("outside/file"), dir.path().join("root/a/b/file")).unwrap();
    symlink("nowhere", dir.path().join("root/a/b/dangling")).unwrap();
    let fs = RealFs::new(dir.path().join("root"));
    (dir, fs)
}

fn is_link<T>(result: io::Result<T>) -> bool {
    let Err(error) = result else { return false };
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[test]
fn step_by_step_a_link_is_refused_as_such_at_every_level() {
    let (dir, _) = place();
    let root = std::fs::File::open(dir.path().join("root")).unwrap();
    let root = std::os::fd::AsFd::as_fd(&root);
    let open = |path: &str, flags| open_stepwise(root, Path::new(path), flags, Mode::from_raw_mode(0o600));
    let folder = OFlags::RDONLY | OFlags::DIRECTORY;
    let create = OFlags::RDWR | OFlags::CREATE;
    for path in [
        "a/out/file",
        "a/out/deep/x",
        "a/out/new",
        "a/b/file",
        "a/b/dangling",
    ] {
        assert!(is_link(open(path, OFlags::RDONLY)), "{path}");
        assert!(is_link(open(path, create)), "{path}");
    }
    for path in ["a/out", "a/out/deep", "a/b/dangling"] {
        assert!(is_link(open(path, folder)), "{path}");
    }
    for path in ["../outside/file", "a/../../outside/file", "/etc/passwd", ""] {
        let error = open(path, OFlags::RDONLY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
    }
    assert_eq!(
        open("a/b/x/y", folder).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    open("a/b", folder).unwrap();
    open("a/b/new", create).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 2);
    assert!(!dir.path().join("root/a/b/nowhere").exists());
}

#[test]
fn no_call_follows_a_link_out_of_the_root() {
    let (dir, fs) = place();
    for path in ["a/out/file", "a/out/new", "a/b/file", "a/b/dangling"].map(Path::new) {
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
            assert!(is_link(fs.open(path, mode)), "{mode:?} {}", path.display());
        }
    }
    let out = Path::new("a/out/file");
    std::fs::write(dir.path().join("root/a/mine"), "mine").unwrap();
    let mine = Path::new("a/mine");
    assert!(is_link(fs.open(Path::new("a/out/new"), OpenMode::CreateNew)));
    assert!(is_link(fs.create_dir(Path::new("a/out/new"))));
    assert!(is_link(fs.sync_dir(Path::new("a/out"))));
    assert!(is_link(fs.list(Path::new("a/out"))));
    assert!(is_link(fs.unlink(out)));
    assert!(is_link(fs.rename(out, mine)));
    assert!(is_link(fs.rename(mine, Path::new("a/out/new"))));
    assert!(is_link(fs.rename_new(mine, Path::new("a/out/new"))));
    assert!(is_link(fs.metadata(out)));
    assert_eq!(fs.metadata(Path::new("a/out")).unwrap().kind, FileKind::Other);
    // Renaming and removing act on the link itself, not on its target.
    fs.rename(mine, Path::new("a/b/file")).unwrap();
    fs.unlink(Path::new("a/b/dangling")).unwrap();
    assert_eq!(std::fs::read(dir.path().join("outside/file")).unwrap(), b"keep");
    assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 2);
}

#[test]
fn a_link_in_the_place_of_the_root_is_not_followed() {
    let (dir, _) = place();
    for (name, target) in [("link", "outside"), ("dangling", "nowhere")] {
        let root = dir.path().join(name);
        symlink(target, &root).unwrap();
        let fs = RealFs::new(&root);
        assert!(is_link(fs.metadata(Path::new(""))), "{name}");
        assert!(is_link(fs.list(Path::new(""))), "{name}");
        assert!(is_link(fs.create_root()), "{name}");
        assert!(is_link(fs.open(Path::new("file"), OpenMode::Create)), "{name}");
    }
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_folder_that_its_own_umask_closed_gets_its_mode() {
    let (dir, fs) = place();
    let made = dir.path().join("root/closed");
    std::fs::create_dir(&made).unwrap();
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o000)).unwrap();
    let parent = std::fs::File::open(dir.path().join("root")).unwrap();
    let parent = std::os::fd::AsFd::as_fd(&parent);
    let chmod = |name: &str| {
        let mode = Mode::from_raw_mode(FOLDER_MODE as _);
        real::chmod_unread(parent, Path::new(name), mode)
    };
    chmod("closed").unwrap();
    assert_eq!(fs.metadata(Path::new("closed")).unwrap().mode, FOLDER_MODE);
    let outside = dir.path().join("outside");
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&outside, dir.path().join("root/link")).unwrap();
    if cfg!(target_os = "linux") {
        chmod("link").unwrap_err();
    }
    let mode = std::fs::metadata(&outside).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn an_open_folder_that_was_removed_has_no_names() {
    let (dir, fs) = place();
    std::fs::create_dir(dir.path().join("root/a/c")).unwrap();
    let opened = fs.folder(Path::new("a/c")).unwrap();
    std::fs::remove_dir(dir.path().join("root/a/c")).unwrap();
    let mut names = Vec::new();
    opened.names(&mut |name, _| names.push(name.to_owned())).unwrap();
    assert!(names.is_empty());
    // A folder that never existed is an error.
    assert!(fs.list(Path::new("a/c")).is_err());
}

#[test]
fn a_file_with_a_second_name_keeps_its_mode() {
    let (dir, fs) = place();
    let outside = dir.path().join("outside/file");
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::hard_link(&outside, dir.path().join("root/x.lock")).unwrap();
    // The result does not matter: without the rights of the superuser, this open may fail.
    let _ = fs.open(Path::new("x.lock"), OpenMode::Create);
    let mode = std::fs::metadata(&outside).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
}

#[test]
fn what_is_no_file_is_told_and_does_not_hang() {
    let (dir, fs) = place();
    let fifo = dir.path().join("root/fifo");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("root/socket")).unwrap();
    for name in ["fifo", "a"] {
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
            let error = fs.open(Path::new(name), mode).unwrap_err();
            let told = error
                .get_ref()
                .is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotRegular>);
            assert!(
                told || error.kind() == io::ErrorKind::IsADirectory,
                "{name} {mode:?}: {error}"
            );
        }
    }
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
        fs.open(Path::new("socket"), mode).unwrap_err();
    }
}

#[test]
fn the_lock_on_a_folder_is_shared_or_exclusive_and_makes_nothing() {
    let (dir, fs) = place();
    let root = dir.path().join("root");
    let before = std::fs::read_dir(&root).unwrap().count();
    let open = || fs.folder(Path::new("")).unwrap();
    let (one, two) = (open(), open());
    assert!(one.try_lock_shared().unwrap() && two.try_lock_shared().unwrap());
    assert!(!open().try_lock().unwrap());
    drop((one, two));
    let alone = open();
    assert!(alone.try_lock().unwrap());
    assert!(!open().try_lock_shared().unwrap());
    assert_eq!(alone.lock_holder(), Some(std::process::id()));
    drop(alone);
    std::fs::File::open(&root).unwrap().try_lock().unwrap();
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), before);
}

/// A watched folder of a new root, with a channel that receives a message for each report.
#[cfg(target_os = "linux")]
fn watched(folder: &str) -> (tempfile::TempDir, Box<dyn FsWatch>, std::sync::mpsc::Receiver<()>) {
    let (dir, fs) = place();
    let (reports, reported) = std::sync::mpsc::channel();
    let wake: Wake = Arc::new(move || {
        let _ = reports.send(());
    });
    let watch = fs.watch(Path::new(folder), wake).unwrap().unwrap();
    (dir, watch, reported)
}

#[cfg(target_os = "linux")]
const REPORT: std::time::Duration = std::time::Duration::from_secs(60);

#[cfg(target_os = "linux")]
#[test]
fn a_watch_reports_names_and_writes_and_no_temporary_file() {
    let (dir, watch, reported) = watched("a/b");
    let folder = dir.path().join("root/a/b");
    std::fs::write(folder.join(".tmp-0"), "x").unwrap();
    std::fs::write(dir.path().join("root/a/other"), "x").unwrap();
    std::fs::remove_file(folder.join(".tmp-0")).unwrap();
    // The reports of a folder arrive in the order of its changes, so the first one is about this file.
    let file = std::fs::File::create(folder.join("new")).unwrap();
    reported.recv_timeout(REPORT).unwrap();
    assert!(
        reported.try_recv().is_err(),
        "a temporary file or another folder was reported"
    );
    std::io::Write::write_all(&mut &file, b"x").unwrap();
    reported.recv_timeout(REPORT).unwrap();
    std::fs::rename(folder.join("new"), folder.join("renamed")).unwrap();
    reported.recv_timeout(REPORT).unwrap();
    assert!(watch.is_live());
}

#[cfg(target_os = "linux")]
#[test]
fn a_watch_ends_with_its_folder_and_reports_that() {
    let (dir, watch, reported) = watched("a/b");
    std::fs::rename(dir.path().join("root/a/b"), dir.path().join("root/c")).unwrap();
    reported.recv_timeout(REPORT).unwrap();
    assert!(!watch.is_live());
}

#[cfg(target_os = "linux")]
#[test]
fn two_watches_on_a_folder_end_each_by_itself() {
    let (dir, fs) = place();
    let watch = |reports: &std::sync::mpsc::Sender<u8>, number: u8| {
        let reports = reports.clone();
        let wake: Wake = Arc::new(move || {
            let _ = reports.send(number);
        });
        fs.watch(Path::new("a"), wake).unwrap().unwrap()
    };
    let (reports, reported) = std::sync::mpsc::channel();
    let (first, second) = (watch(&reports, 1), watch(&reports, 2));
    drop(first);
    std::fs::create_dir(dir.path().join("root/a/new")).unwrap();
    assert_eq!(reported.recv_timeout(REPORT), Ok(2));
    drop(second);
    std::fs::create_dir(dir.path().join("root/a/newer")).unwrap();
    let third = watch(&reports, 3);
    std::fs::create_dir(dir.path().join("root/a/newest")).unwrap();
    assert_eq!(reported.recv_timeout(REPORT), Ok(3));
    assert!(third.is_live());
}

#[cfg(target_os = "linux")]
#[test]
fn a_watch_on_nothing_is_not_found_and_no_link_is_followed() {
    let (_dir, fs) = place();
    let watch = |folder: &str| fs.watch(Path::new(folder), Arc::new(|| {}));
    assert_eq!(watch("a/none").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(is_link(watch("a/out")));
}

#[test]
fn a_folder_that_changed_just_now_has_no_mark() {
    let (dir, fs) = place();
    std::fs::write(dir.path().join("root/new"), "").unwrap();
    assert_eq!(fs.folder(Path::new("")).unwrap().mark().unwrap(), None);
    // The names in `/usr` change only when software is installed, which is assumed not to happen during the tests.
    let mark = || RealFs::new("/usr").folder(Path::new("")).unwrap().mark().unwrap();
    assert!(mark().is_some());
    assert_eq!(mark(), mark());
}
