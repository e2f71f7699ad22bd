//! Tests of `doctor` with planted problems, one at a time: each is found, and is gone after the command that the
//! doctor prints.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, run};

/// A way to damage a file of the store.
enum Harm {
    /// Changes the byte after this text.
    Flip(&'static str),
    /// Keeps this number of bytes.
    Cut(u64),
    /// Removes the first line.
    Behead,
    /// Puts the lines in reverse order.
    Reverse,
    Mode(u32),
    Remove,
    /// Writes a new file.
    Write(&'static str),
    Link,
    /// Gives other users access to the root and this folder.
    Open,
}

/// The planted problems: the path below the root, with `*` for a part of the name; the damage; the severity and kind of
/// the finding.
#[rustfmt::skip]
const PLANTED: [(&str, Harm, &str); 49] = [
    ("events/shop/job/events-*", Harm::Flip("\"event\":"), "damage   damaged events"),
    ("events/shop/job/events-*", Harm::Flip("\"crc\":\""), "damage   damaged events"),
    ("events/shop/job/events-*", Harm::Reverse, "damage   out of order"),
    ("events/shop/job/events-*", Harm::Mode(0o644), "warning  mode"),
    ("events/shop/job/notes.txt", Harm::Write("mine"), "note     stray"),
    ("events/shop/job/.tmp-0123", Harm::Write("half"), "note     temporary"),
    ("events/shop/other", Harm::Link, "damage   in the way"),
    ("events/shop", Harm::Open, "warning  mode"),
    ("state/shop/mapreduce/jobs/job/setup-checkpoint.json", Harm::Flip("\"data\":"), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/setup-checkpoint.json", Harm::Cut(60), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/setup-checkpoint.json", Harm::Mode(0o640), "warning  mode"),
    ("state/shop/mapreduce/jobs/job/map-checkpoint-*", Harm::Flip("\"data\":"), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/map-checkpoint-*", Harm::Cut(100), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/map-checkpoint-*", Harm::Mode(0o666), "warning  mode"),
    ("state/shop/mapreduce/jobs/job/reduce-checkpoint-*", Harm::Flip("\"data\":"), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/documents/sessions/one.json", Harm::Flip("\"data\":"), "damage   damaged document"),
    ("state/shop/mapreduce/jobs/job/documents/sessions/one.json", Harm::Mode(0o604), "warning  mode"),
    ("state/shop/.tmp-0123", Harm::Write("half"), "note     temporary"),
    ("state/yard/repository.json", Harm::Flip("\"identity\":\""), "damage   registry"),
    ("dlq/shop/job/items.json", Harm::Flip("\"item_data\":"), "damage   damaged items"),
    ("dlq/shop/job/items.json", Harm::Mode(0o644), "warning  mode"),
    ("dlq/shop/job/items.journal", Harm::Behead, "damage   damaged items"),
    ("dlq/shop/job/items.journal", Harm::Remove, "damage   damaged items"),
    ("dlq/shop/job/items.journal", Harm::Mode(0o644), "warning  mode"),
    ("dlq/shop/job/items.lock", Harm::Mode(0o644), "warning  mode"),
    ("dlq/shop/.tmp-9", Harm::Write("half"), "note     temporary"),
    ("locks/1/l.lock", Harm::Flip("\"fencing\":"), "warning  damaged lock"),
    ("locks/1/l.lock", Harm::Cut(100), "warning  damaged lock"),
    ("locks/1/l.lock", Harm::Mode(0o666), "warning  mode"),
    ("locks/state/shop/job.lock", Harm::Mode(0o644), "warning  mode"),
    ("locks/1/x", Harm::Link, "warning  link"),
    (
        "deletions/shop/job.json",
        Harm::Write("{\"deleted_at\":\"2026-11-28T15:00:00Z\"}\n"),
        "warning  unfinished deletion",
    ),
    ("deletions/shop/job.json", Harm::Write(""), "damage   damaged document"),
    ("format.json", Harm::Flip("\"format\""), "damage   damaged format"),
    ("format.json", Harm::Cut(60), "damage   damaged format"),
    ("format.json", Harm::Write("{"), "damage   damaged format"),
    ("format.json", Harm::Write("{\"format\":0}"), "damage   unknown format"),
    ("format.json", Harm::Write("another program's"), "damage   unknown format"),
    ("old-copy.tar", Harm::Write("mine"), "note     stray"),
    ("it's $HOME\n`x`.txt", Harm::Write("mine"), "note     stray"),
    ("events/shop/a\tb", Harm::Write("mine"), "note     stray"),
    ("queues/list.txt", Harm::Write("mine"), "note     stray"),
    ("state/shop/notes/todo.txt", Harm::Write("mine"), "note     stray"),
    ("state/shop/notes/todo.json", Harm::Write("{}"), "note     stray"),
    ("state/shop/mapreduce/jobs/job/job-state.json", Harm::Write("mine"), "note     stray"),
    ("dlq/shop/job/items/a.json", Harm::Write("mine"), "note     stray"),
    ("dlq/shop/job/mapreduce/todo.txt", Harm::Write("mine"), "note     stray"),
    ("events/shop/job/old.jsonl", Harm::Write("mine"), "note     stray"),
    ("", Harm::Mode(0o720), "warning  mode: others may write"),
];

/// A bench whose store has data of every kind.
fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let job = ["--repo", "shop", "--job", "job"];
    for phase in ["setup", "map", "reduce"] {
        let save = [&["checkpoint", "save", "--phase", phase][..], &job].concat();
        bench.feed(&save, "{\"done\":7}").code(0);
    }
    let put = [
        &["document", "put", "--kind", "sessions", "--name", "one"][..],
        &job,
    ]
    .concat();
    bench.feed(&put, "{\"open\":true}").code(0);
    let items = "{\"item_id\":\"a\",\"item_data\":1}\n{\"item_id\":\"b\",\"item_data\":2}\n";
    bench.feed(&[&["dlq", "push"][..], &job].concat(), items).code(0);
    bench.run(&[&["dlq", "park", "a"][..], &job].concat()).code(0);
    bench.run(&["lock", "run", "l", "--", "true"]).code(0);
    fs::create_dir(bench.path("yard")).unwrap();
    let yard = bench.path("yard");
    bench
        .run(&["repo", "register", "--as", "yard", yard.to_str().unwrap()])
        .code(0);
    bench
}

/// The files that match a pattern.
fn files(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some(start) = pattern.strip_suffix('*') else {
        return vec![root.join(pattern)];
    };
    let start = root.join(start);
    let entries = fs::read_dir(start.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().starts_with(start.to_str().unwrap()))
        .collect()
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn plant(root: &Path, pattern: &str, harm: &Harm) {
    let found = files(root, pattern);
    let [path] = &found[..] else {
        panic!("{pattern}: {found:?}");
    };
    let bytes = || fs::read(path).unwrap();
    match harm {
        Harm::Flip(text) => {
            let mut bytes = bytes();
            let at = bytes.windows(text.len()).position(|part| part == text.as_bytes());
            bytes[at.unwrap_or_else(|| panic!("no {text} in {pattern}")) + text.len()] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        Harm::Cut(len) => fs::write(path, &bytes()[..*len as usize]).unwrap(),
        Harm::Behead => {
            let bytes = bytes();
            let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
            fs::write(path, &bytes[end + 1..]).unwrap();
        }
        Harm::Reverse => {
            let text = fs::read_to_string(path).unwrap();
            let mut lines: Vec<_> = text.lines().map(|line| format!("{line}\n")).collect();
            lines.reverse();
            fs::write(path, lines.concat()).unwrap();
        }
        Harm::Mode(mode) => set(path, *mode),
        Harm::Remove => fs::remove_file(path).unwrap(),
        Harm::Write(text) => {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            set(path.parent().unwrap(), 0o700);
            set(path, 0o600);
        }
        Harm::Link => symlink("/nowhere", path).unwrap(),
        Harm::Open => {
            set(root, 0o755);
            set(path, 0o755);
        }
    }
}

/// Runs a shell command that calls the tool by its name.
pub fn shell(bench: &Bench, line: &str) -> crate::support::Run {
    let tool = bench.std([] as [&str; 0]);
    let folder = Path::new(tool.get_program()).parent().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell
        .env_clear()
        .current_dir(bench.path("here"))
        .args(["-c", line]);
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", folder.display()));
    run(shell, "")
}

/// Runs a script with the bench's root on a tmpfs with this option, such as `size=2m`. All commands of the script share
/// one mount namespace. `None` if the machine does not allow the mount.
pub fn on_tmpfs(bench: &Bench, option: &str, script: &str) -> Option<crate::support::Run> {
    let root = bench.root().display().to_string();
    let mount = format!("mkdir -p '{root}' && mount -t tmpfs -o {option},mode=700 none '{root}'");
    let may = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this machine allows no mount namespace of its own (`unshare -rm`)");
        return None;
    }
    let file = bench.write("script", format!("{mount}\n{script}"));
    Some(shell(bench, &format!("unshare -rm sh '{}'", file.display())))
}

#[test]
fn each_planted_problem_is_found_and_fixed_by_the_command_that_the_doctor_names() {
    let whole = filled();
    let healthy = whole.run(&["doctor"]).code(0).out;
    let mut wrong = Vec::new();
    for (pattern, harm, kind) in &PLANTED {
        assert!(!healthy.contains(kind), "before {pattern}: {healthy}");
        let bench = Bench::new();
        fs::create_dir(bench.path("home")).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(whole.root()).arg(bench.root());
        run(copy, "").code(0);
        plant(&bench.root(), pattern, harm);
        let found = bench.run(&["doctor"]).out;
        let mut lines = found.lines().skip_while(|line| !line.starts_with(kind));
        let command = lines.find_map(|line| line.strip_prefix("         run: "));
        let Some(command) = command else {
            wrong.push(format!("{pattern}: no {kind} with a command in\n{found}"));
            continue;
        };
        let fixed = shell(&bench, command);
        if pattern.ends_with("repository.json") {
            // The repair keeps the name, and can't know its repository.
            shell(&bench, "prodigy-storage repo relink yard .").code(0);
        }
        let left = bench.run(&["doctor"]);
        if left.out.contains(kind) || left.code != Some(0) {
            wrong.push(format!(
                "{pattern}: after {command}\n{}{}{}",
                fixed.out, fixed.err, left.out
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn names_that_are_not_unicode_are_found_and_fixed_by_the_command_that_the_doctor_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [
        &b"bad\xff"[..],
        b"events/shop/x\xfe",
        b"events/shop/job/y\xfe",
        b"dlq/\xe4",
    ] {
        let bench = filled();
        let path = bench.root().join(OsStr::from_bytes(name));
        fs::write(&path, "mine").unwrap();
        let found = bench.run(&["doctor"]).code(0).prints("note     stray: ");
        let shown = String::from_utf8_lossy(&name[..name.len() - 1]).into_owned();
        let shown = format!("{shown}\\x{:02x}: ", name[name.len() - 1]);
        let found = found.prints(&shown).out;
        let command = found.lines().find_map(|line| line.strip_prefix("         run: "));
        shell(&bench, command.unwrap()).code(0);
        assert!(!path.exists());
        assert!(!bench.run(&["doctor"]).code(0).out.contains("stray"));
        assert_eq!(fs::read_dir(bench.root().join("quarantine")).unwrap().count(), 1);
    }
}
