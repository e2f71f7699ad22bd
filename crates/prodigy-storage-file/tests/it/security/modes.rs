//! Tests that only the owner has access to folders and files, whatever the umask is.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use prodigy_storage_file::fs::FileSystem;

use super::hooked::Hooked;
use super::world::{Run, World, mode, options, paths};

const ROOT: &str = "PRODIGY_TEST_ROOT";

/// The paths of the root, and of everything below it, whose mode gives other users access.
fn too_open(root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in paths(root) {
        let whole = root.join(&path);
        // A temporary file may have been removed since its name was read.
        let Ok(seen) = std::fs::symlink_metadata(&whole) else {
            continue;
        };
        let mode = seen.mode() & 0o7777;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let fine = if seen.is_dir() {
            mode == 0o700
        } else if name.ends_with(".jsonl.zst") {
            mode == 0o400
        } else if name.ends_with(".jsonl") {
            mode == 0o600 || mode == 0o400
        } else {
            mode == 0o600 || (mode == 0o400 && name.starts_with(".tmp-"))
        };
        if !fine {
            wrong.push(format!("{} {mode:04o}", path.display()));
        }
    }
    wrong
}

/// Runs [`the_process_with_the_umask`] in a new process of this program, with a umask and possibly as another user.
fn under(umask: &str, user: Option<u32>, root: &Path) {
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask \"$0\" && exec \"$@\"", umask])
        .arg(std::env::current_exe().unwrap())
        .args([
            "security::modes::the_process_with_the_umask",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(ROOT, root)
        .current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umask {umask}, user {user:?}: {said}");
}

#[test]
#[ignore = "the other process of the tests beside it; alone it has nothing to do"]
fn the_process_with_the_umask() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    // Checks all modes before each call, so that lock files and temporary files are included.
    let looked = root.clone();
    let fs = Hooked::new(&root, move |_, _| {
        if looked.exists() {
            let wrong = too_open(&looked);
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    });
    let fs: Arc<dyn FileSystem> = Arc::new(fs);
    let run = Run::on_file_system(fs, options(&root).compression(false));
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    // Compression runs in the background, so with it the modes are checked only at the end.
    let run = Run::on(options(&root));
    assert!(run.errors.is_empty(), "{:?}", run.errors);
}

fn hold(umask: &str, user: Option<u32>) {
    let world = World::new();
    if let Some(user) = user {
        chown(world.top(), Some(user), Some(user)).unwrap();
    }
    // The folders above the root do not exist, so they are created, too.
    let root = world.top().join("a/b/root");
    under(umask, user, &root);
    assert_eq!(too_open(&root), [] as [String; 0], "umask {umask}");
    for above in ["a", "a/b"] {
        assert_eq!(mode(&world.top().join(above)), 0o700, "umask {umask}");
    }
    let all = paths(&root);
    for wanted in [
        "format.json",
        "items.json",
        "items.journal",
        "items.lock",
        "repository.json",
        "registry.lock",
        "resume.lock",
    ] {
        assert!(all.iter().any(|path| path.ends_with(wanted)), "{wanted}");
    }
    let sealed = all.iter().filter(|path| path.to_string_lossy().ends_with(".zst"));
    assert!(sealed.count() > 0);
}

#[test]
fn modes_hold_under_an_open_umask() {
    hold("0000", None);
}

#[test]
fn modes_hold_under_a_strict_umask() {
    hold("0077", None);
}

#[test]
fn modes_hold_under_a_umask_that_takes_everything() {
    hold("0777", None);
}

#[test]
fn a_user_like_any_other_can_work_under_a_umask_that_takes_everything() {
    let world = World::new();
    if std::fs::metadata(world.top()).unwrap().uid() != 0 {
        // Without the superuser's rights, the test above already ran as an ordinary user.
        return;
    }
    let program = std::env::current_exe().unwrap();
    if program
        .ancestors()
        .skip(1)
        .any(|folder| mode(folder) & 0o001 == 0)
    {
        eprintln!("SKIPPED: another user may not run {}", program.display());
        return;
    }
    for umask in ["0777", "0000", "0277"] {
        hold(umask, Some(65534));
    }
}

#[test]
fn what_goes_to_the_quarantine_is_the_owners_alone() {
    let world = World::new();
    assert!(Run::on(world.options().compression(false)).errors.is_empty());
    let setup = world
        .root()
        .join("state/shop/mapreduce/jobs/mapreduce-7/setup-checkpoint.json");
    let map = std::fs::read_dir(setup.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("map-checkpoint-"))
        .unwrap();
    let mut bytes = std::fs::read(&map).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    std::fs::write(&map, bytes).unwrap();
    let items = world.root().join("dlq/shop/mapreduce-7/items.json");
    let mut text = std::fs::read(&items).unwrap();
    text.extend_from_slice(b"{\"item_id\":\"torn");
    std::fs::write(&items, text).unwrap();
    let _ = Run::on(world.options());
    assert!(
        std::fs::read_dir(world.root().join("quarantine"))
            .unwrap()
            .count()
            > 0
    );
    assert_eq!(too_open(&world.root()), [] as [String; 0]);
}
