//! Tests of the identities of repositories that are made by hand, including ones that git would not make.

use std::fs;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{Ceilings, Identity, IdentityError, IdentityKind};
#[cfg(unix)]
use {crate::strategy, prodigy_storage_layout::RepoName, proptest::prelude::*, std::ffi::OsString};

/// Turns a folder into a git directory.
fn make_git_dir(folder: &Path) {
    fs::create_dir_all(folder.join("objects")).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("HEAD"), "ref: refs/heads/main\n").unwrap();
}

/// A new temporary folder and its canonical path, since the temporary folder may be behind a link.
fn fresh() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(temp.path()).unwrap();
    (temp, root)
}

#[test]
fn a_plain_folder_stands_for_itself() {
    let (_temp, root) = fresh();
    let folder = root.join("notes");
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    let identity = Identity::at(&folder).unwrap();
    assert_eq!(identity.kind, IdentityKind::Folder);
    assert_eq!(identity.common_dir, folder);
    assert_eq!(identity.worktree, None);
    assert_eq!(identity.folder_name, "notes");
    assert_eq!(identity.suggested_name().as_str(), "notes");
    assert_eq!(Identity::at(&folder.join("file")).unwrap(), identity);
    assert_ne!(
        Identity::at(&folder.join("inner")).unwrap().common_dir,
        identity.common_dir
    );
}

#[test]
fn a_path_that_does_not_exist() {
    let (_temp, root) = fresh();
    fs::write(root.join("file"), "").unwrap();
    for path in ["missing", "file/below"] {
        let error = Identity::at(&root.join(path)).unwrap_err();
        assert!(
            matches!(&error, IdentityError::NotFound { path: found } if found.ends_with(path)),
            "{error}"
        );
    }
}

#[test]
fn from_any_folder_and_file_of_a_repository() {
    let (_temp, root) = fresh();
    let shop = root.join("shop");
    make_git_dir(&shop.join(".git"));
    fs::create_dir_all(shop.join("src/deep")).unwrap();
    fs::write(shop.join("src/main.rs"), "").unwrap();
    let identity = Identity::at(&shop).unwrap();
    assert_eq!(identity.kind, IdentityKind::Repository);
    assert_eq!(identity.common_dir, shop.join(".git"));
    assert_eq!(identity.worktree.as_deref(), Some(shop.as_path()));
    for path in ["src", "src/deep", "src/main.rs", "src/../src"] {
        assert_eq!(Identity::at(&shop.join(path)).unwrap(), identity, "{path}");
    }
    let inside = Identity::at(&shop.join(".git/refs")).unwrap();
    assert_eq!(
        inside,
        Identity {
            worktree: None,
            ..identity
        }
    );
}

#[test]
fn a_git_folder_that_is_no_repository_is_passed_over() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    let inner = root.join("shop/inner");
    fs::create_dir_all(inner.join(".git")).unwrap();
    assert_eq!(Identity::at(&inner).unwrap().common_dir, root.join("shop/.git"));
    // A folder with an invalid `HEAD` is no git directory.
    make_git_dir(&inner.join(".git"));
    for head in ["", "main", "ref: heads/main", "0123"] {
        fs::write(inner.join(".git/HEAD"), head).unwrap();
        assert_eq!(Identity::at(&inner).unwrap().folder_name, "shop", "{head}");
    }
    for head in [
        "ref:  refs/heads/x\n",
        &"0".repeat(40),
        &format!("{}\n", "ab".repeat(32)),
    ] {
        fs::write(inner.join(".git/HEAD"), head).unwrap();
        assert_eq!(Identity::at(&inner).unwrap().folder_name, "inner", "{head}");
    }
}

#[test]
fn a_broken_git_file_is_an_error_also_inside_another_repository() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    let inner = root.join("shop/inner");
    fs::create_dir_all(inner.join("src")).unwrap();
    let file = inner.join(".git");
    for content in [
        &b""[..],
        b"gitdir:",
        b"gitdir: ",
        b"gitdir: \n",
        b"gitdir: a\0b",
        b"worktree: x",
        b"\xff",
    ] {
        fs::write(&file, content).unwrap();
        let error = Identity::at(&inner.join("src")).unwrap_err();
        assert!(
            matches!(&error, IdentityError::BrokenGitFile { file: found, .. } if *found == file),
            "{error}"
        );
        assert!(error.hint().contains("repair"));
    }
    for content in [
        "gitdir: /nowhere/at/all\n",
        "gitdir: ..\n",
        "gitdir: ../.git/HEAD\n",
        "gitdir: .git/x\n",
    ] {
        fs::write(&file, content).unwrap();
        let error = Identity::at(&inner).unwrap_err();
        assert!(
            matches!(&error, IdentityError::NoGitDir { file: found, .. } if *found == file),
            "{error}"
        );
    }
}

#[test]
fn a_worktree_whose_common_directory_is_gone() {
    let (_temp, root) = fresh();
    let git_dir = root.join("store/worktrees/wt");
    make_git_dir(&git_dir);
    fs::create_dir(root.join("wt")).unwrap();
    fs::write(root.join("wt/.git"), format!("gitdir: {}\n", git_dir.display())).unwrap();
    for content in ["../../../gone\n", ""] {
        fs::write(git_dir.join("commondir"), content).unwrap();
        let error = Identity::at(&root.join("wt")).unwrap_err();
        assert!(matches!(error, IdentityError::BrokenCommonDir { .. }), "{error}");
    }
    fs::write(git_dir.join("commondir"), "../..\n").unwrap();
    make_git_dir(&root.join("store"));
    assert_eq!(
        Identity::at(&root.join("wt")).unwrap().common_dir,
        root.join("store")
    );
}

#[test]
fn a_hidden_bare_repository_is_named_by_the_folder_it_lies_in() {
    let (_temp, root) = fresh();
    let shop = root.join("shop");
    make_git_dir(&shop.join(".bare"));
    fs::write(shop.join(".bare/config"), "[core]\n\tbare = true\n").unwrap();
    fs::write(shop.join(".git"), "gitdir: ./.bare\n").unwrap();
    let identity = Identity::at(&shop).unwrap();
    assert_eq!(identity.kind, IdentityKind::BareRepository);
    assert_eq!(identity.common_dir, shop.join(".bare"));
    assert_eq!(
        identity.worktree, None,
        "a bare repository has no worktree of its own"
    );
    assert_eq!(identity.suggested_name().as_str(), "shop");
}

#[test]
fn folders_of_one_name_get_names_apart() {
    let (_temp, root) = fresh();
    for parent in ["a", "b"] {
        make_git_dir(&root.join(parent).join("shop/.git"));
    }
    let [one, other] = ["a", "b"].map(|parent| Identity::at(&root.join(parent).join("shop")).unwrap());
    assert_eq!(one.suggested_name(), other.suggested_name());
    assert_ne!(one.distinct_name(), other.distinct_name());
    assert_eq!(one.distinct_name(), one.distinct_name());
    let name = one.distinct_name();
    let (base, hash) = name.as_str().rsplit_once('-').unwrap();
    assert_eq!((base, hash.len()), ("shop", 8));
    assert!(one.file_id != other.file_id || one.file_id.is_none());
}

#[test]
fn a_distinct_name_of_a_long_name_fits() {
    let (_temp, root) = fresh();
    let folder = root.join("x".repeat(128));
    fs::create_dir(&folder).unwrap();
    let identity = Identity::at(&folder).unwrap();
    assert_eq!(identity.suggested_name().as_str().len(), 128);
    assert_eq!(identity.distinct_name().as_str().len(), 128);
    assert_ne!(identity.distinct_name(), identity.suggested_name());
}

#[cfg(unix)]
#[test]
fn links_lead_to_one_identity() {
    use std::os::unix::fs::symlink;
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    fs::create_dir(root.join("shop/src")).unwrap();
    symlink(root.join("shop"), root.join("linked")).unwrap();
    symlink(root.join("shop/src"), root.join("src")).unwrap();
    let identity = Identity::at(&root.join("shop")).unwrap();
    assert_eq!(Identity::at(&root.join("linked")).unwrap(), identity);
    assert_eq!(Identity::at(&root.join("src")).unwrap(), identity);

    // `.git` is a link to the git directory of another folder.
    fs::create_dir(root.join("other")).unwrap();
    symlink(root.join("shop/.git"), root.join("other/.git")).unwrap();
    let other = Identity::at(&root.join("other")).unwrap();
    assert_eq!(other.common_dir, identity.common_dir);
    assert_eq!(other.folder_name, "shop");
    assert_eq!(other.worktree, Some(root.join("other")));
}

#[cfg(unix)]
#[test]
fn what_tells_a_moved_repository() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    let before = Identity::at(&root.join("shop")).unwrap();
    fs::rename(root.join("shop"), root.join("store")).unwrap();
    let after = Identity::at(&root.join("store")).unwrap();
    assert!(before.file_id.is_some());
    assert_eq!(before.file_id, after.file_id);
    assert_eq!(before.born, after.born);
    assert_ne!(before.common_dir, after.common_dir);
}

#[cfg(unix)]
#[test]
fn paths_that_are_no_unicode() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let (_temp, root) = fresh();
    let odd = root.join(OsStr::from_bytes(b"sh\xffop"));
    // Some file systems accept only Unicode names. There, the test is skipped.
    if fs::create_dir(&odd).is_err() {
        return;
    }
    make_git_dir(&odd.join(".git"));
    make_git_dir(&odd.join(".git/worktrees/wt"));
    fs::write(odd.join(".git/worktrees/wt/commondir"), "../..\n").unwrap();
    fs::create_dir(root.join("wt")).unwrap();
    let mut pointer = b"gitdir: ".to_vec();
    pointer.extend(odd.join(".git/worktrees/wt").as_os_str().as_bytes());
    fs::write(root.join("wt/.git"), pointer).unwrap();
    let identity = Identity::at(&root.join("wt")).unwrap();
    assert_eq!(identity.common_dir, odd.join(".git"));
    assert!(identity.suggested_name().as_str().starts_with("sh-op-"));
}

#[cfg(unix)]
proptest! {
    #[test]
    fn any_folder_name_gives_a_name(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 1..200), strategy::text().prop_map(String::into_bytes)],
    ) {
        use std::os::unix::ffi::OsStringExt;
        let folder_name = OsString::from_vec(bytes.clone());
        let identity = Identity {
            kind: IdentityKind::Folder,
            common_dir: Path::new("/srv").join("x"),
            worktree: None,
            folder_name,
            file_id: None,
            born: None,
            origin: None,
        };
        let name = identity.suggested_name();
        match std::str::from_utf8(&bytes).ok().filter(|text| RepoName::new(text).is_ok()) {
            Some(text) => prop_assert_eq!(name.as_str(), text),
            None if bytes.is_empty() => prop_assert_eq!(name.as_str(), "repository"),
            None => {
                let (base, hash) = name.as_str().rsplit_once('-').unwrap();
                prop_assert!(!base.is_empty());
                // The hash has eight digits. The replacement for a name that came out invalid would have sixteen.
                prop_assert!(hash.len() == 8 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{}", name);
            }
        }
        prop_assert_eq!(identity.distinct_name().as_str().rsplit_once('-').unwrap().1.len(), 8);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_is_born_once() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    let before = Identity::at(&root.join("shop")).unwrap();
    if before.born.is_none() {
        eprintln!(
            "SKIPPED: the file system of {} keeps no birth times",
            root.display()
        );
        return;
    }
    fs::write(root.join("shop/.git/index"), "").unwrap();
    assert_eq!(Identity::at(&root.join("shop")).unwrap(), before);
    fs::remove_dir_all(root.join("shop")).unwrap();
    make_git_dir(&root.join("shop/.git"));
    let after = Identity::at(&root.join("shop")).unwrap();
    assert_ne!(before.born, after.born);
    assert_ne!(before.proposed_name(), after.proposed_name());
    assert_eq!(before.distinct_name(), after.distinct_name());
}

#[test]
fn the_origin_is_read_from_the_common_directory_without_credentials() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("shop/.git"));
    let origin = |config: &str| {
        fs::write(root.join("shop/.git/config"), config).unwrap();
        Identity::at(&root.join("shop")).unwrap().origin
    };
    assert_eq!(origin(""), None);
    assert_eq!(
        origin("[remote \"origin\"] ; x\n\tURL = \"https://me:secret@host/shop.git\" # y\n\turl = second\n"),
        Some("https://host/shop.git".into())
    );
    assert_eq!(
        origin("[remote \"up\"]\nurl = a\n[remote \"Origin\"]\nurl = b\n[remote.ORIGIN]\nurl = c\n"),
        Some("c".into())
    );
    assert_eq!(
        origin("[remote \"origin\"]\nurl = a\nurl =\nurl = b\n"),
        Some("b".into())
    );
    fs::write(root.join("more"), "[remote \"origin\"]\nurl = a\n").unwrap();
    assert_eq!(
        origin("[include]\npath = ../../more\n"),
        None,
        "includes are not followed"
    );
    // A linked worktree has the origin that the common directory states.
    let git_dir = root.join("shop/.git/worktrees/wt");
    make_git_dir(&git_dir);
    fs::write(git_dir.join("commondir"), "../..\n").unwrap();
    fs::create_dir(root.join("wt")).unwrap();
    fs::write(root.join("wt/.git"), format!("gitdir: {}\n", git_dir.display())).unwrap();
    origin("[remote \"origin\"]\nurl = d\n");
    assert_eq!(Identity::at(&root.join("wt")).unwrap().origin, Some("d".into()));
}

#[cfg(unix)]
#[test]
fn a_git_directory_that_cannot_be_resolved_is_an_error_and_no_plain_folder() {
    use std::os::unix::fs::symlink;
    let (_temp, root) = fresh();
    for name in [".git", ".git/HEAD/../objects", ".git/refs"] {
        let shop = root.join(name.replace(['/', '.'], "_"));
        make_git_dir(&shop.join(".git"));
        let broken = shop.join(name.replace("HEAD/../", ""));
        fs::remove_dir_all(&broken).unwrap();
        symlink(&broken, &broken).unwrap();
        let error = Identity::at(&shop).unwrap_err();
        assert!(matches!(error, IdentityError::Io { .. }), "{name}: {error}");
    }
}

/// The environment variable that is set when a test runs again as a user other than root.
#[cfg(target_os = "linux")]
const AS_OTHER: &str = "LAYOUT_TEST_FOLDER";

#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_git_directory_is_an_error_and_no_plain_folder() {
    use std::os::unix::fs::PermissionsExt;
    if let Some(folder) = std::env::var_os(AS_OTHER) {
        let error = Identity::at(Path::new(&folder)).unwrap_err();
        assert!(
            matches!(&error, IdentityError::Io { path, .. } if path.ends_with(".git/HEAD")),
            "{error}"
        );
        return;
    }
    let (_temp, root) = fresh();
    let shop = root.join("shop");
    make_git_dir(&shop.join(".git"));
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&root, 0o755);
    mode(&shop.join(".git"), 0o000);
    match fs::read_dir(shop.join(".git")) {
        Err(_) => {
            let error = Identity::at(&shop).unwrap_err();
            assert!(matches!(error, IdentityError::Io { .. }), "{error}");
        }
        // Root can read everything, so the test runs again as another user.
        Ok(_) => {
            let test = "identity::an_unreadable_git_directory_is_an_error_and_no_plain_folder";
            let run = std::process::Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(AS_OTHER, &shop)
                .output();
            match run {
                Ok(run) if String::from_utf8_lossy(&run.stdout).contains("1 passed") => {}
                Ok(run) if String::from_utf8_lossy(&run.stdout).contains("running 1 test") => {
                    panic!("{}", String::from_utf8_lossy(&run.stdout))
                }
                run => eprintln!("SKIPPED: root reads everything, and can't become another user: {run:?}"),
            }
        }
    }
    mode(&shop.join(".git"), 0o700);
}

#[cfg(unix)]
#[test]
fn a_git_entry_that_is_no_folder_and_no_file_is_an_error() {
    use std::os::unix::fs::symlink;
    type Make = fn(&Path);
    let ways: [(&str, Make); 5] = [
        ("a FIFO", |at| {
            let made = std::process::Command::new("mkfifo").arg(at).status();
            assert!(made.unwrap().success());
        }),
        ("a link to a device", |at| symlink("/dev/null", at).unwrap()),
        ("a socket", |at| {
            std::os::unix::net::UnixListener::bind(at).unwrap();
        }),
        ("a link that leads to nothing", |at| symlink("gone", at).unwrap()),
        ("a link below a file", |at| symlink("/dev/null/gone", at).unwrap()),
    ];
    for (what, make) in ways {
        let (_temp, root) = fresh();
        // The search must not continue to a repository further up, whose name would be the wrong one.
        make_git_dir(&root.join("above/.git"));
        for folder in ["shop", "above/shop"] {
            let shop = root.join(folder);
            fs::create_dir_all(shop.join("deep")).unwrap();
            make(&shop.join(".git"));
            for path in [shop.clone(), shop.join("deep")] {
                let error = Identity::at(&path).unwrap_err();
                assert!(
                    matches!(&error, IdentityError::BrokenGitFile { file, .. } if *file == shop.join(".git")),
                    "{what}: {error}"
                );
            }
        }
    }
}

#[test]
fn the_search_ends_below_a_ceiling() {
    let (_temp, root) = fresh();
    make_git_dir(&root.join("a/.git"));
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    let kind = |ceilings: &str, path: &str| {
        let ceilings = ceilings.replace('~', root.to_str().unwrap());
        let ceilings = Ceilings::parse(std::ffi::OsStr::new(&ceilings));
        Identity::below(&root.join(path), &ceilings).unwrap().kind
    };
    assert_eq!(kind("", "a/b/c"), IdentityKind::Repository);
    for ceiling in ["~/a", "~/a/b", "~/x:~/a/b", ":~/a", "~:~/a"] {
        assert_eq!(kind(ceiling, "a/b/c"), IdentityKind::Folder, "{ceiling}");
    }
    // The folder where the search begins is always searched. A ceiling that is not above it has no effect.
    for ceiling in [
        "~",
        "/",
        "~/a/b/c",
        "~/a/b/c/d",
        "a",
        "~/a/bb",
        "~/a/b/c/../..:",
        "x:y",
    ] {
        let expected = if ceiling.contains("..") {
            IdentityKind::Folder
        } else {
            IdentityKind::Repository
        };
        assert_eq!(kind(ceiling, "a/b/c"), expected, "{ceiling}");
    }
    assert_eq!(kind("~/a", "a"), IdentityKind::Repository);
}
