use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    Clock, Deadline, ErrorKind, LockGuard, LockOptions, Result, SystemClock, Uptime,
};
use prodigy_storage_layout::{Entry, LockName, Timestamp};

use super::Locks;
use super::slots::{SLOT, Slots};
use crate::fs::faulty::{Faulty, Switches};
use crate::fs::{FileSystem, OpenMode, RealFs};
use crate::kernel::KernelLocks;
use crate::root::holder::this_process;
use crate::root::{FileOptions, LockedFile, Root};

fn store(dir: &tempfile::TempDir, change: impl FnOnce(FileOptions) -> FileOptions) -> Arc<Locks> {
    let root = dir.path().join("root");
    let options = change(FileOptions::new(&root));
    Arc::new(Locks::new(Root::new(Arc::new(RealFs::new(root)), options)))
}

fn writer(dir: &tempfile::TempDir) -> Arc<Locks> {
    store(dir, |options| options)
}

fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

fn path(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    dir.path().join("root").join(Entry::Lock(name(text)).path())
}

fn try_take(store: &Arc<Locks>, text: &str) -> Result<Box<dyn LockGuard>> {
    store.lock(
        &name(text),
        &LockOptions::new("a test"),
        Deadline::after(Duration::ZERO),
    )
}

/// Takes a lock that is free.
fn take(store: &Arc<Locks>, text: &str) -> Box<dyn LockGuard> {
    try_take(store, text).unwrap()
}

fn held(store: &Locks, text: &str) -> bool {
    let locks = store
        .list(&Default::default(), Deadline::never())
        .unwrap()
        .entries;
    locks.iter().find(|lock| lock.name.as_str() == text).unwrap().held
}

#[test]
fn a_lock_excludes_every_other_handle_and_says_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (writer(&dir), writer(&dir));
    let guard = take(&one, "shop/job/resume");
    assert_eq!(guard.name(), &name("shop/job/resume"));
    assert!(!guard.is_inert());
    for store in [&one, &other] {
        let deadline = Deadline::after(Duration::from_millis(30));
        let error = store
            .lock(&name("shop/job/resume"), &LockOptions::default(), deadline)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable);
        let pid = format!("process {} on {}", std::process::id(), crate::kernel::host());
        assert!(
            error.why().contains(&pid) && error.why().contains("(a test)"),
            "{error}"
        );
        assert!(error.why().contains("since 20"), "{error}");
        let waited = error.why().rsplit(' ').nth(1).unwrap();
        assert!(waited.parse::<u64>().is_ok(), "how long it waited: {error}");
    }
    // These names share parts with the name of the held lock, but each is the name of another lock.
    for text in ["shop", "shop/job", "shop/job/resume/x", "shop/job/other"] {
        drop(take(&other, text));
    }
    guard.release().unwrap();
    drop(take(&other, "shop/job/resume"));
}

#[test]
fn threads_that_race_hold_it_one_at_a_time_with_rising_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [writer(&dir), writer(&dir)];
    let inside = AtomicU64::new(0);
    let last = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for index in [0, 0, 1, 1] {
            let (store, inside, last) = (&stores[index], &inside, &last);
            scope.spawn(move || {
                for _ in 0..10 {
                    let guard = store
                        .lock(&name("race"), &LockOptions::default(), Deadline::never())
                        .unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    assert!(guard.fencing() > last.swap(guard.fencing(), Ordering::SeqCst));
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(last.load(Ordering::SeqCst), 40);
}

#[test]
fn the_token_rises_by_one_over_every_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for token in 1..=5 {
        assert_eq!(take(&writer(&dir), "a").fencing(), token);
    }
    let text = std::fs::read_to_string(path(&dir, "a")).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["pid"], std::process::id());
    }
}

#[test]
fn a_torn_or_damaged_file_never_gives_a_token_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let mut last = 0;
    let mut spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let token = take(&store, "a").fencing();
        assert!(token > last, "{token} after {last}");
        last = token;
        let mut bytes = std::fs::read(path(&dir, "a")).unwrap();
        change(&mut bytes);
        std::fs::write(path(&dir, "a"), bytes).unwrap();
    };
    spoil(&|bytes| bytes[..SLOT].fill(0));
    spoil(&|bytes| bytes[SLOT..2 * SLOT].fill(0));
    spoil(&|bytes| bytes.truncate(SLOT + 100));
    spoil(&|bytes| bytes[100..SLOT + 100].fill(b'x'));
    spoil(&|bytes| bytes.truncate(1));
    spoil(&|bytes| bytes.fill(0));
    spoil(&|bytes| *bytes = b"1234 other program".to_vec());
    spoil(&|_| {});
    drop(store);
    let after = take(&writer(&dir), "a").fencing();
    assert_eq!(after, last + 1);
}

#[test]
fn a_file_that_says_nothing_goes_on_above_all_tokens_whatever_the_clock_says() {
    use prodigy_storage_backend::conformance::ManualClock;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = store(&dir, |options| options.clock(clock.clone()));
    let mut last = take(&store, "a").fencing();
    // Each lock is taken after the clock was set back.
    for year in [2100, 2026, 1970] {
        clock.set(Timestamp::from_millis((year - 1970) * 31_556_952_000));
        std::fs::write(path(&dir, "a"), [0; SLOT]).unwrap();
        for _ in 0..3 {
            let token = take(&store, "a").fencing();
            assert!(token > last, "{token} after {last}");
            last = token;
        }
        // Damages a second lock: it gets another range of tokens.
        take(&store, "b").release().unwrap();
        std::fs::write(path(&dir, "b"), "x").unwrap();
        assert!(take(&store, "b").fencing() > last);
    }
    assert!(
        last < (1 << 53),
        "a program that reads JSON numbers as floats loses no token"
    );
    // Damages the lock that numbers the ranges: its tokens continue above the greatest one that can be read.
    let counter = path(&dir, "prodigy-storage/token-ranges");
    let text = String::from_utf8_lossy(&std::fs::read(&counter).unwrap()).replace("checksum", "checksim");
    std::fs::write(&counter, text).unwrap();
    std::fs::write(path(&dir, "a"), [0; SLOT]).unwrap();
    assert!(take(&store, "a").fencing() > last);
}

#[test]
fn the_listing_says_what_is_held_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let reader = self::store(&dir, |options| options.read_only(true));
    assert!(
        reader
            .list(&Default::default(), Deadline::never())
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(!dir.path().join("root").exists());
    drop(take(&store, "b/c"));
    let guard = take(&store, "a/b/c/d");
    take(&store, "b").release().unwrap();
    std::fs::write(dir.path().join("root/locks/1/stray"), "").unwrap();
    std::fs::write(path(&dir, "empty"), "").unwrap();
    let before = std::fs::read(path(&dir, "a/b/c/d")).unwrap();
    let locks = reader
        .list(&Default::default(), Deadline::never())
        .unwrap()
        .entries;
    let seen: Vec<_> = locks
        .iter()
        .map(|lock| (lock.name.as_str(), lock.held, lock.fencing))
        .collect();
    assert_eq!(seen, [("a/b/c/d", true, 1), ("b", false, 1), ("b/c", false, 1)]);
    for lock in &locks {
        assert_eq!(lock.holder.is_some(), lock.held, "{lock:?}");
        let holder = lock.last_holder.as_ref().unwrap();
        assert_eq!(
            (holder.pid, holder.purpose.as_str()),
            (std::process::id(), "a test")
        );
    }
    assert_eq!(std::fs::read(path(&dir, "a/b/c/d")).unwrap(), before);
    assert_eq!(
        reader
            .lock(&name("x"), &LockOptions::default(), Deadline::never())
            .unwrap_err()
            .kind(),
        ErrorKind::ReadOnly
    );
    drop(guard);
    assert!(!held(&reader, "a/b/c/d"));
}

/// Writes a lock file that names a process which took the lock and did not release it.
fn sign_as(dir: &tempfile::TempDir, text: &str, pid: u32) {
    let root = RealFs::new(dir.path().join("root"));
    let file = root
        .open(&Entry::Lock(name(text)).path(), OpenMode::Create)
        .unwrap();
    let slots = Slots::read(&*file).unwrap();
    let mut holder = this_process(Timestamp::MIN, "a test".into());
    holder.pid = pid;
    slots.sign(&*file, slots.fencing() + 1, &holder).unwrap();
}

/// Starts a process that inherits the lock's descriptor as its standard input, and keeps it open until it is killed.
fn keeper(guard: &dyn LockGuard) -> std::process::Child {
    let descriptor = guard.descriptor().unwrap().try_clone_to_owned().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "echo ready; exec sleep 600"])
        .stdin(Stdio::from(descriptor))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn a_process_that_inherited_it_keeps_it_until_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let guard = take(&store, "run");
    let mut child = keeper(&*guard);
    drop(guard);
    assert_eq!(
        try_take(&store, "run").unwrap_err().kind(),
        ErrorKind::LockUnavailable
    );
    if cfg!(target_os = "linux") {
        assert!(held(&store, "run"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(take(&store, "run").fencing(), 2);
}

#[test]
fn a_holder_that_died_without_a_note_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let guard = take(&store, "a");
    let signed = std::fs::read(path(&dir, "a")).unwrap();
    drop(guard);
    // Restores the file that a killed holder leaves: it names the holder, and has no note of a release.
    std::fs::write(path(&dir, "a"), signed).unwrap();
    if cfg!(target_os = "linux") {
        assert!(!held(&store, "a"));
    }
    assert_eq!(take(&store, "a").fencing(), 2);
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    drop(take(&store, "a"));
    let outside = dir.path().join("outside");
    std::fs::File::create(&outside)
        .unwrap()
        .write_all(b"keep")
        .unwrap();
    std::os::unix::fs::symlink(&outside, path(&dir, "b")).unwrap();
    assert_eq!(try_take(&store, "b").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(
        store
            .list(&Default::default(), Deadline::never())
            .unwrap()
            .entries
            .len(),
        1
    );
    assert_eq!(std::fs::read(outside).unwrap(), b"keep");
}

#[test]
fn without_file_locks_it_excludes_the_threads_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = self::store(&dir, |options| options.file_locks(false));
    let guard = take(&store, "a");
    assert_eq!(
        try_take(&store, "a").unwrap_err().kind(),
        ErrorKind::LockUnavailable
    );
    let first = guard.fencing();
    drop(guard);
    assert!(take(&store, "a").fencing() > first);
}

#[test]
fn a_lock_file_that_is_removed_by_hand_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let guard = take(&store, "a");
    std::fs::remove_file(path(&dir, "a")).unwrap();
    drop(guard);
    let guard = take(&store, "a");
    assert!(try_take(&store, "a").is_err());
    drop(guard);
}

#[test]
fn a_token_that_could_not_be_synced_is_not_handed_out_and_its_slot_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let switches = Arc::new(Switches::default());
    let fs = Faulty::new(RealFs::new(&root), Arc::clone(&switches));
    let store = Arc::new(Locks::new(Root::new(Arc::new(fs), FileOptions::new(&root))));
    assert_eq!(take(&store, "a").fencing(), 1);
    let kept = std::fs::read(path(&dir, "a")).unwrap();
    for switch in [&switches.files, &switches.folders] {
        switch.store(true, Ordering::Relaxed);
        assert!(try_take(&store, "a").is_err());
        switch.store(false, Ordering::Relaxed);
        let after = std::fs::read(path(&dir, "a")).unwrap();
        assert_eq!(after[..SLOT], kept[..SLOT], "the slot with the greatest token");
        assert_eq!(after[SLOT..2 * SLOT], [b' '; SLOT]);
    }
    // The lock is free, and the next tokens follow without a gap.
    assert_eq!(take(&store, "a").fencing(), 3);
    assert_eq!(take(&store, "a").fencing(), 4);
}

#[test]
fn a_lock_whose_name_cant_be_looked_at_is_told_as_that_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let switches = Arc::new(Switches::default());
    let fs = Faulty::new(RealFs::new(&root), Arc::clone(&switches));
    let store = Arc::new(Locks::new(Root::new(Arc::new(fs), FileOptions::new(&root))));
    assert_eq!(take(&store, "a").fencing(), 1);
    let file = Path::new("locks/registry.lock");
    let lock = |deadline| LockedFile::take(&store.root, file, "test", "", deadline).map(drop);
    lock(Deadline::never()).unwrap();
    switches.names.store(true, Ordering::Relaxed);
    assert_eq!(try_take(&store, "a").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(
        lock(Deadline::after(Duration::ZERO)).unwrap_err().kind(),
        ErrorKind::Io
    );
    switches.names.store(false, Ordering::Relaxed);
    lock(Deadline::never()).unwrap();
    assert_eq!(take(&store, "a").fencing(), 2);
}

#[test]
#[cfg(target_os = "linux")]
fn a_held_lock_that_a_reading_of_the_kernels_table_left_out_is_listed_as_held() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    let guard = take(&store, "a/b");
    drop(take(&store, "c"));
    let inode = std::fs::metadata(path(&dir, "a/b")).unwrap().ino();
    for left_out in 0..3 {
        let mut kernel = KernelLocks::torn(inode, left_out);
        let locks = store
            .list_by(&mut kernel, &Default::default(), Deadline::never())
            .unwrap()
            .entries;
        let held: Vec<_> = locks.iter().map(|lock| (lock.name.as_str(), lock.held)).collect();
        assert_eq!(held, [("a/b", true), ("c", false)], "left out {left_out} times");
    }
    drop(guard);
}

#[test]
fn a_lock_file_held_by_another_program_has_an_unknown_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    // The file that a killed holder leaves: it names the holder, and has no note of a release.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    for released in [true, false] {
        drop(take(&store, "a"));
        if !released {
            sign_as(&dir, "a", child.id());
        }
        let file = std::fs::File::open(path(&dir, "a")).unwrap();
        file.lock().unwrap();
        let error = try_take(&store, "a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable);
        assert!(
            error.why().starts_with("it is held by ") && error.why().contains("(last known holder: process "),
            "{error}"
        );
        if cfg!(target_os = "linux") {
            let listed = format!(
                "by process {}, which did not sign the lock file",
                std::process::id()
            );
            assert!(error.why().contains(&listed), "{error}");
            let lock = &store
                .list(&Default::default(), Deadline::never())
                .unwrap()
                .entries[0];
            let pid = if released { std::process::id() } else { child.id() };
            assert!(lock.held && lock.holder.is_none(), "{lock:?}");
            assert_eq!(lock.last_holder.as_ref().unwrap().pid, pid);
        }
    }
}

#[test]
fn every_lock_file_names_a_holder_only_while_it_lives_and_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (writer(&dir), writer(&dir));
    let file = Path::new("locks/registry.lock");
    let lock = |store: &Locks| {
        let deadline = Deadline::after(Duration::ZERO);
        LockedFile::take(&store.root, file, "test", "to test", deadline).map(drop)
    };
    {
        let _held = LockedFile::take(&store.root, file, "test", "to test", Deadline::never()).unwrap();
        let error = lock(&other).unwrap_err();
        let named = format!("it is held by process {} on ", std::process::id());
        assert!(error.why().starts_with(&named), "{error}");
        let same_root = lock(&store).unwrap_err();
        assert!(
            same_root
                .why()
                .starts_with("it is held by another thread of this process"),
            "{same_root}"
        );
        for error in [error, same_root] {
            assert!(
                error.hint().unwrap().contains("begin fewer calls at once"),
                "{error:#}"
            );
        }
    }
    // Another program takes the lock without writing its name, so the file still names a process that has ended.
    let at = dir.path().join("root").join(file);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = std::fs::read_to_string(&at).unwrap();
    let own = format!("\"pid\":{}", std::process::id());
    std::fs::write(&at, text.replace(&own, &format!("\"pid\":{}", child.id()))).unwrap();
    let foreign = std::fs::File::open(&at).unwrap();
    foreign.lock().unwrap();
    let error = lock(&other).unwrap_err();
    let last = format!("(last known holder: process {} on ", child.id());
    assert!(
        error.why().starts_with("it is held by ") && error.why().contains(&last),
        "{error}"
    );
    assert!(
        error.hint().unwrap().starts_with("wait for the holder"),
        "{error:#}"
    );
}

/// Takes a lock of the kind whose file stays open after a release, to be reused.
fn often(root: &Root) -> Result<LockedFile<'_>> {
    let deadline = Deadline::after(Duration::ZERO);
    LockedFile::take_often(root, Path::new(OFTEN), "test", "to test", deadline, &mut |_| {})
}

const OFTEN: &str = "locks/registry.lock";

#[test]
fn a_lock_file_that_stays_open_excludes_others_only_while_its_lock_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (writer(&dir), writer(&dir));
    for _ in 0..3 {
        for (holder, waiter) in [(&one, &other), (&other, &one)] {
            let held = often(&holder.root).unwrap();
            assert_eq!(
                often(&waiter.root).unwrap_err().kind(),
                ErrorKind::LockUnavailable
            );
            drop(held);
        }
    }
}

#[test]
fn a_lock_file_that_stays_open_and_was_replaced_is_not_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (writer(&dir), writer(&dir));
    drop(often(&one.root).unwrap());
    std::fs::remove_file(dir.path().join("root").join(OFTEN)).unwrap();
    let held = often(&other.root).unwrap();
    assert_eq!(often(&one.root).unwrap_err().kind(), ErrorKind::LockUnavailable);
    drop(held);
    drop(often(&one.root).unwrap());
}

#[test]
fn a_lock_file_that_stays_open_is_signed_again_after_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = writer(&dir);
    drop(often(&store.root).unwrap());
    let at = dir.path().join("root").join(OFTEN);
    let own = format!("\"pid\":{}", std::process::id());
    let text = std::fs::read_to_string(&at).unwrap();
    let others = text.replace(&own, "\"pid\":1") + "and more";
    std::fs::write(&at, others).unwrap();
    // Sets the mtime by hand, since the clock of the file system may be too coarse to show a change.
    let file = std::fs::File::options().write(true).open(&at).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    file.set_modified(later).unwrap();
    drop(often(&store.root).unwrap());
    let text = std::fs::read_to_string(&at).unwrap();
    assert!(text.contains(&own) && text.ends_with("}\n"), "{text}");
}

/// A clock whose monotonic time the test sets, in milliseconds.
#[derive(Debug, Default)]
struct Monotonic(AtomicU64);

impl Clock for Monotonic {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn the_whole_path_of_a_lock_file_that_stays_open_is_walked_again_after_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Monotonic::default());
    let store = store(&dir, |options| options.clock(clock.clone()));
    drop(often(&store.root).unwrap());
    let root = dir.path().join("root");
    std::fs::rename(root.join("locks"), root.join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", root.join("locks")).unwrap();
    clock.0.store(1_000, Ordering::SeqCst);
    assert!(often(&store.root).is_err(), "a link is followed");
}
