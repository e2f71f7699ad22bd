//! Tests of the identities of repositories that git made. They are skipped if `git` is not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prodigy_storage_layout::{Ceilings, Identity, IdentityError, IdentityKind};

struct Git {
    _temp: tempfile::TempDir,
    root: PathBuf,
}

impl Git {
    /// Creates a temporary folder; `None` if git is not installed.
    fn fresh() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("no git: nothing checked");
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        Some(Self { _temp: temp, root })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Runs git in a folder and returns its output.
    fn run(&self, folder: &str, args: &[&str]) -> String {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        let output = command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", &self.root)
            .args([
                "-c",
                "user.name=A",
                "-c",
                "user.email=a@example.com",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(args)
            .current_dir(self.path(folder))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Creates a repository with one commit, so that worktrees can be added to it.
    fn repository(&self, folder: &str) {
        self.run(".", &["init", "--quiet", folder]);
        self.run(folder, &["commit", "--quiet", "--allow-empty", "-m", "first"]);
    }

    fn at(&self, path: &str) -> Identity {
        Identity::at(&self.path(path)).unwrap()
    }
}

fn same_repository(one: &Identity, other: &Identity) {
    let (one, other) = (
        Identity {
            worktree: None,
            ..one.clone()
        },
        Identity {
            worktree: None,
            ..other.clone()
        },
    );
    assert_eq!(one, other);
}

#[test]
fn worktrees_in_any_folder() {
    let Some(git) = Git::fresh() else { return };
    git.repository("shop");
    fs::create_dir(git.path("far")).unwrap();
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "../far/one"]);
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "inner/two"]);
    let main = git.at("shop");
    assert_eq!(
        (main.kind, main.folder_name.to_str()),
        (IdentityKind::Repository, Some("shop"))
    );
    assert_eq!(main.common_dir, git.path("shop/.git"));
    for worktree in ["far/one", "shop/inner/two"] {
        fs::create_dir(git.path(worktree).join("src")).unwrap();
        let identity = git.at(&format!("{worktree}/src"));
        same_repository(&identity, &main);
        assert_eq!(identity.worktree, Some(git.path(worktree)));
    }
    // The folder within the git directory in which git describes the worktree leads to the same repository.
    same_repository(&git.at("shop/.git/worktrees/one"), &main);
    assert_eq!(git.at("shop/.git/worktrees/one").worktree, None);
}

#[test]
fn worktrees_with_relative_pointers() {
    let Some(git) = Git::fresh() else { return };
    git.repository("shop");
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "../one"]);
    fs::write(git.path("one/.git"), "gitdir: ../shop/.git/worktrees/one\n").unwrap();
    same_repository(&git.at("one"), &git.at("shop"));
}

#[test]
fn a_worktree_that_was_pruned() {
    let Some(git) = Git::fresh() else { return };
    git.repository("shop");
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "../one"]);
    fs::remove_dir_all(git.path("shop/.git/worktrees/one")).unwrap();
    let error = Identity::at(&git.path("one")).unwrap_err();
    assert!(matches!(error, IdentityError::NoGitDir { .. }), "{error}");
}

#[test]
fn bare_repositories_and_their_worktrees() {
    let Some(git) = Git::fresh() else { return };
    git.repository("source");
    git.run(".", &["clone", "--quiet", "--bare", "source", "shop.git"]);
    git.run("shop.git", &["worktree", "add", "--quiet", "--detach", "../one"]);
    let bare = git.at("shop.git");
    assert_eq!(bare.kind, IdentityKind::BareRepository);
    assert_eq!(bare.common_dir, git.path("shop.git"));
    assert_eq!(bare.folder_name, "shop");
    assert_eq!(bare.worktree, None);
    same_repository(&git.at("one"), &bare);
    assert_eq!(git.at("one").worktree, Some(git.path("one")));
    same_repository(&git.at("shop.git/refs/heads"), &bare);
}

#[test]
fn a_bare_repository_named_dot_git() {
    let Some(git) = Git::fresh() else { return };
    git.repository("source");
    git.run(".", &["clone", "--quiet", "--bare", "source", "shop/.git"]);
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "one"]);
    let bare = git.at("shop");
    assert_eq!(
        (bare.kind, bare.folder_name.to_str()),
        (IdentityKind::BareRepository, Some("shop"))
    );
    assert_eq!(bare.worktree, None);
    same_repository(&git.at("shop/one"), &bare);
}

#[test]
fn a_git_directory_in_another_place() {
    let Some(git) = Git::fresh() else { return };
    fs::create_dir(git.path("store")).unwrap();
    git.run(
        ".",
        &[
            "init",
            "--quiet",
            "--separate-git-dir",
            "store/shop.git",
            "checkout",
        ],
    );
    git.run("checkout", &["commit", "--quiet", "--allow-empty", "-m", "first"]);
    git.run("checkout", &["worktree", "add", "--quiet", "--detach", "../one"]);
    let identity = git.at("checkout");
    assert_eq!(identity.kind, IdentityKind::Repository);
    assert_eq!(identity.common_dir, git.path("store/shop.git"));
    assert_eq!(identity.worktree, Some(git.path("checkout")));
    assert_eq!(identity.folder_name, "shop");
    same_repository(&git.at("one"), &identity);
}

#[test]
fn submodules_and_their_worktrees() {
    let Some(git) = Git::fresh() else { return };
    git.repository("library");
    git.repository("shop");
    git.run(
        "shop",
        &[
            "submodule",
            "--quiet",
            "add",
            "--name",
            "deep/name",
            "../library",
            "libs/lib",
        ],
    );
    let shop = git.at("shop");
    let module = git.at("shop/libs/lib");
    assert_eq!(module.kind, IdentityKind::Submodule);
    assert_eq!(module.common_dir, git.path("shop/.git/modules/deep/name"));
    assert_eq!(module.worktree, Some(git.path("shop/libs/lib")));
    assert_eq!(module.folder_name, "lib");
    assert_ne!(module.common_dir, shop.common_dir);
    assert_eq!(git.at("shop/libs").common_dir, shop.common_dir);
    same_repository(&git.at("shop/.git/modules/deep/name"), &module);

    git.run(
        "shop/libs/lib",
        &["worktree", "add", "--quiet", "--detach", "../../../lib-two"],
    );
    same_repository(&git.at("lib-two"), &module);

    // With settings per worktree, git moves `core.worktree` to another file.
    git.run("shop/libs/lib", &["sparse-checkout", "set", "--cone", "src"]);
    same_repository(&git.at("lib-two"), &module);
}

#[test]
fn git_agrees_on_the_common_directory() {
    let Some(git) = Git::fresh() else { return };
    git.repository("library");
    git.repository("shop");
    git.run("shop", &["submodule", "--quiet", "add", "../library", "lib"]);
    git.run("shop", &["commit", "--quiet", "-m", "second"]);
    git.run("shop", &["worktree", "add", "--quiet", "--detach", "../one"]);
    git.run("one", &["submodule", "--quiet", "update", "--init"]);
    git.run(".", &["clone", "--quiet", "--bare", "shop", "bare.git"]);
    for folder in [
        "shop",
        "shop/lib",
        "one",
        "one/lib",
        "bare.git",
        "shop/.git",
        "shop/.git/modules/lib",
    ] {
        let answer = git.run(
            folder,
            &["rev-parse", "--path-format=absolute", "--git-common-dir"],
        );
        assert_eq!(
            git.at(folder).common_dir,
            Path::new(answer.trim_end()),
            "{folder}"
        );
    }
    assert_eq!(git.at("one/lib").kind, IdentityKind::Submodule);
    assert_eq!(git.at("one/lib").folder_name, "lib");
}

#[cfg(unix)]
#[test]
fn ceilings_end_the_search_where_git_ends_it() {
    let Some(git) = Git::fresh() else { return };
    git.repository("a");
    git.run(".", &["init", "--quiet", "a/b/inner"]);
    fs::create_dir_all(git.path("a/b/c")).unwrap();
    fs::create_dir_all(git.path("a/b/inner/d")).unwrap();
    std::os::unix::fs::symlink(git.path("a"), git.path("link")).unwrap();
    let ceilings = [
        "",
        "~",
        "/",
        "~/a",
        "~/a/",
        "~/a/b",
        "~/a/b/c",
        "~/link",
        ":~/link",
        ":~/a",
        "~/x:~/a",
        "~/a:",
        "a",
        "~/a/b/inner",
        "~/a/./b",
        ":~/a/b",
        "~/missing",
    ];
    for ceiling in ceilings {
        let ceiling = ceiling.replace('~', git.root.to_str().unwrap());
        for folder in ["a", "a/b", "a/b/c", "a/b/inner", "a/b/inner/d", "link/b/c"] {
            let output = Command::new("git")
                .args(["rev-parse", "--absolute-git-dir"])
                .env("GIT_CEILING_DIRECTORIES", &ceiling)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env_remove("GIT_DIR")
                .current_dir(git.path(folder))
                .output()
                .unwrap();
            let theirs = output
                .status
                .success()
                .then(|| PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()));
            let ceilings = Ceilings::parse(std::ffi::OsStr::new(&ceiling));
            let ours = Identity::below(&git.path(folder), &ceilings).unwrap();
            let ours = (ours.kind != IdentityKind::Folder).then_some(ours.common_dir);
            assert_eq!(ours, theirs, "{ceiling:?} from {folder}");
        }
    }
}

#[test]
fn the_origin_is_what_git_says() {
    let Some(git) = Git::fresh() else { return };
    git.repository("shop");
    for address in ["/srv/a b/#1;x\\y\"z", "host:a\tb", " /srv/blank ", "../x"] {
        git.run("shop", &["config", "remote.origin.url", address]);
        let theirs = git.run("shop", &["config", "--get", "remote.origin.url"]);
        assert_eq!(
            git.at("shop").origin.as_deref(),
            Some(theirs.trim()),
            "{address:?}"
        );
    }
    git.run(".", &["clone", "--quiet", "shop", "copy"]);
    let origin = git.path("shop").to_str().unwrap().to_owned();
    assert_eq!(git.at("copy").origin, Some(origin));
    assert_eq!(git.at("shop").born.is_some(), git.at("copy").born.is_some());
}
