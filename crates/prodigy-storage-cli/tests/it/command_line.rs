//! Tests of the command line: help, version, refused names.

use crate::support::{Bench, tree};

#[test]
fn help_and_version_touch_no_file_and_need_no_configuration() {
    let bench = Bench::new().with("PRODIGY_CONFIG", "/no/such/file.yaml");
    assert_eq!(
        bench.run(&["--version"]).code(0).out,
        format!("prodigy-storage {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = bench.run(&["--help"]).code(0).out;
    for word in [
        "events",
        "checkpoint",
        "dlq",
        "worktree",
        "lock",
        "config",
        "health",
        "usage",
        "repo",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
    bench.run(&["events", "append", "--help"]).code(0);
    bench.run(&[]).code(2).says("Usage");
    bench.run(&["events", "append"]).code(2).says("--job");
    bench.run(&["usage"]).code(2).says("/no/such/file.yaml");
    assert!(!bench.path("home").exists());
}

#[test]
fn names_that_want_out_are_refused_and_nothing_is_created() {
    let bench = Bench::new();
    let before = tree(&bench.path(""));
    let long = "n".repeat(4096);
    for name in [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "/abs",
        "a\\b",
        ".hidden",
        "a\u{1b}[31mred",
        "a\nb",
        "a\u{202e}b",
        &long,
    ] {
        for arguments in [
            &["events", "append", "--repo", name, "--job", "j"][..],
            &["events", "append", "--repo", "r", "--job", name],
            &["events", "cat", "--repo", name, "--job", "j"],
            &[
                "checkpoint",
                "save",
                "--repo",
                "r",
                "--job",
                name,
                "--phase",
                "map",
            ],
            &["dlq", "push", "--repo", "r", "--job", name],
            &["worktree", "path", "--repo", "r", name],
            &["repo", "relink", name],
        ] {
            let run = bench
                .feed(arguments, "{\"item_id\":\"i\",\"item_data\":1}\n")
                .code(2);
            let raw = run
                .err
                .chars()
                .any(|char| (char.is_control() && char != '\n') || char == '\u{202e}');
            assert!(
                !raw && run.err.len() < 1000 && run.err.starts_with("error: "),
                "{:?}",
                run.err
            );
        }
    }
    bench.run(&["lock", "run", "a//b", "--", "true"]).code(2);
    assert_eq!(tree(&bench.path("")), before);
}

#[test]
fn a_mistyped_command_or_flag_gets_the_nearest_name() {
    let bench = Bench::new();
    for (words, meant) in [
        (&["jbo", "list"][..], "job"),
        (&["stauts"], "status"),
        (&["evnts", "tail"], "events"),
        (&["chekpoint", "list"], "checkpoint"),
        (&["dql", "list"], "dlq"),
        (&["docter"], "doctor"),
        (&["bakup", "a"], "backup"),
        (&["restor", "a"], "restore"),
        (&["reprot"], "report"),
        (&["clen"], "clean"),
        (&["imprt", "a"], "import"),
        (&["lock", "rnu", "l", "--", "true"], "run"),
        (&["repo", "lits"], "list"),
        (&["events", "serch", "x"], "search"),
    ] {
        let run = bench.run(words).code(2);
        let tip = format!("tip: a similar subcommand exists: '{meant}'");
        assert!(run.err.contains(&tip), "{words:?}: {}", run.err);
        assert!(run.err.contains("the commands are "), "{words:?}: {}", run.err);
    }
    for (words, meant) in [
        (&["events", "cat", "--jbo", "j"][..], "--job"),
        (&["events", "cat", "--job", "j", "--sicne=1h"], "--since"),
        (&["job", "list", "--stat", "open"], "--state"),
        (&["status", "--jsno"], "--json"),
        (&["usage", "--base-dri", "x"], "--base-dir"),
    ] {
        let tip = format!("tip: a similar argument exists: '{meant}'");
        bench.run(words).code(2).says(&tip);
    }
    bench.run(&["help", "jbo"]).code(2).says("'job'");
    for words in [&["qqqqqq"][..], &["help", "nope"], &["nope"]] {
        let run = bench.run(words).code(2);
        assert!(!run.err.contains("similar"), "{}", run.err);
    }
    let run = bench.run(&["qqqqqq"]);
    run.says("the commands are status, job, ");
}

#[test]
fn an_argument_that_drives_a_terminal_is_shown_escaped() {
    let bench = Bench::new();
    for argument in ["--x\u{1b}[2J", "\u{202e}", "a\nb\rc"] {
        let run = bench.run(&["events", argument]).code(2);
        let raw = run
            .err
            .chars()
            .any(|char| (char.is_control() && char != '\n') || char == '\u{202e}');
        assert!(!raw, "{:?}", run.err);
    }
}

#[cfg(unix)]
#[test]
fn reading_works_where_nothing_can_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.append("1\n");
    let folder = bench.root().join("events/shop/job");
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    let before = tree(&bench.root());
    mode(0o500);
    let run = bench.run(&["events", "cat", "--repo", "shop", "--job", "job", "--payload"]);
    mode(0o700);
    assert_eq!(run.code(0).out, "1\n");
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn verbose_tells_what_was_opened() {
    let bench = Bench::new();
    let root = bench.root();
    bench
        .feed(&["-v", "events", "append", "--repo", "r", "--job", "j"], "1\n")
        .code(0)
        .says(&format!("the file backend in {}", root.display()));
}

#[test]
fn a_refused_number_says_what_may_be_written_and_a_tip_repeats_the_whole_word() {
    let bench = Bench::new();
    let of = ["--repo", "shop", "--job", "job"];
    for command in [
        &["checkpoint", "prune", "--keep", "0"][..],
        &["events", "append", "--batch", "0"],
        &["clean", "--keep-checkpoints", "0"],
    ] {
        let run = bench.run(&[command, &of].concat()).code(2);
        run.says("it has to be at least 1");
    }
    bench
        .run(&["clean", "--finished-jobs", "-5d"])
        .code(2)
        .says("use '--finished-jobs=-5d'");
    bench.append("1\n");
    bench.run(&["doctor", "--deep"]).code(0).prints("1 event ");
}
