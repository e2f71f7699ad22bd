//! Tests of what commands print on terminals of different widths.

use crate::support::{Bench, run};

/// Names as programs make them, too long for a narrow terminal.
const REPO: &str = "acme-billing-service-of-the-payments-team";
const JOB: &str = "mapreduce-20261124-nightly-recalculation-0042";

/// A store with long names in everything that is listed.
fn filled() -> Bench {
    let bench = Bench::new().with("NO_COLOR", "1").with("TZ", "XYZ-4:30");
    let job = ["--repo", REPO, "--job", JOB];
    for number in 1..4 {
        let job = ["--repo", REPO, "--job", &format!("{JOB}{number}")];
        bench
            .feed(&[&["events", "append"][..], &job].concat(), "1\n2\n")
            .code(0);
    }
    let error = "the agent did not answer within the ten minutes that the workflow gives it, and was ended";
    let item = format!(
        "{{\"item_id\":\"{JOB}-item-7\",\"item_data\":1,\"failure_history\":[{{\"error_type\":\"Timeout\",\
         \"error_message\":\"{error}\"}}]}}\n"
    );
    bench.feed(&[&["dlq", "push"][..], &job].concat(), item).code(0);
    let phase = "recalculation-of-the-quarter";
    bench
        .feed(
            &[&["checkpoint", "save", "--phase", phase][..], &job].concat(),
            "1",
        )
        .code(0);
    let put = ["document", "put", "--kind", "workflow-definitions", "--name", JOB];
    bench.feed(&[&put[..], &job].concat(), "1").code(0);
    let lock = format!("{REPO}/{JOB}/resume");
    bench.run(&["lock", "run", &lock, "--", "true"]).code(0);
    let session = format!("worktrees/{REPO}/session-{JOB}-{JOB}");
    std::fs::create_dir_all(bench.root().join(session)).unwrap();
    let here = bench.path("here");
    bench
        .run(&[
            "repo",
            "register",
            "--as",
            "registered-elsewhere",
            here.to_str().unwrap(),
        ])
        .code(0);
    bench
}

/// The commands that print lists, and a heading that only a wide terminal has room for.
fn lists() -> Vec<(Vec<&'static str>, &'static str)> {
    let of_job = |words: &[&'static str]| [words, &["--repo", REPO, "--job", JOB]].concat();
    let of_repo = |words: &[&'static str]| [words, &["--repo", REPO]].concat();
    vec![
        (of_repo(&["job", "list"]), "DEAD LETTERS"),
        (vec!["job", "list", "--all-repos"], "DEAD LETTERS"),
        (vec!["usage"], "REPOSITORY"),
        (vec!["usage", "--jobs"], "DOCUMENTS"),
        (of_job(&["dlq", "list"]), "ATTEMPTS"),
        (vec!["repo", "list"], "REGISTERED FOR"),
        (of_job(&["checkpoint", "list"]), "PHASE"),
        (of_job(&["document", "list"]), "KIND"),
        (vec!["lock", "list"], "PURPOSE"),
        (of_repo(&["worktree", "list"]), ""),
        (vec!["clean", "--log"], ""),
        (vec!["clean", "--idle-jobs", "1ns"], "OLDER THAN"),
    ]
}

/// The lines that a command prints on a terminal of this width.
fn shown(bench: &Bench, columns: usize, arguments: &[&str]) -> Option<Vec<String>> {
    let script = bench.on_terminal_of(columns, 24, arguments)?;
    let out = run(script, "").code(0).out;
    let lines = out.lines().map(|line| line.trim_end_matches('\r').to_owned());
    // Notes are sentences, and wrap.
    Some(lines.filter(|line| !line.starts_with("note: ")).collect())
}

#[cfg(target_os = "linux")]
#[test]
fn no_list_wraps_and_a_wide_terminal_has_all_columns() {
    let bench = filled();
    for (arguments, heading) in lists() {
        for columns in [60, 80, 200] {
            let Some(lines) = shown(&bench, columns, &arguments) else {
                return;
            };
            for line in &lines {
                assert!(
                    line.chars().count() <= columns,
                    "{arguments:?} on {columns}: {line}"
                );
            }
            if columns == 200 {
                assert!(
                    lines.is_empty() || lines[0].contains(heading),
                    "{arguments:?}: {lines:?}"
                );
            }
        }
        let piped = bench.run(&arguments).code(0).out;
        assert!(!piped.contains('\u{2026}'), "{arguments:?}: {piped}");
        assert!(
            piped.is_empty() || piped.contains(heading),
            "{arguments:?}: {piped}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_lines_of_a_status_do_not_wrap_except_commands() {
    let bench = filled();
    for columns in [60, 80, 200] {
        let Some(lines) = shown(&bench, columns, &["status"]) else {
            return;
        };
        for line in lines {
            let is_command = line.starts_with("         run: ");
            assert!(is_command || line.chars().count() <= columns, "{columns}: {line}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_are_shortened_in_the_middle_and_numbers_end_together() {
    let bench = filled();
    let arguments = ["job", "list", "--repo", REPO];
    let Some(lines) = shown(&bench, 60, &arguments) else {
        return;
    };
    let ends: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{lines:?}");
    assert!(
        lines[1].starts_with("mapreduce") && lines[1].contains('\u{2026}'),
        "{lines:?}"
    );
    assert!(lines[2].contains("0042") && lines[2] != lines[3], "{lines:?}");
}

/// Each place where a person sees a time: on a terminal it is local, in a pipe UTC.
#[cfg(target_os = "linux")]
#[test]
fn times_are_local_on_a_terminal_and_utc_in_a_pipe() {
    let bench = filled();
    let job = ["--repo", REPO, "--job", JOB];
    let prune = [&["checkpoint", "prune", "--keep", "1", "--dry-run"][..], &job].concat();
    bench
        .feed(
            &[
                &["checkpoint", "save", "--phase", "recalculation-of-the-quarter"][..],
                &job,
            ]
            .concat(),
            "2",
        )
        .code(0);
    bench
        .run(&["job", "delete", &format!("{JOB}3"), "--repo", REPO, "--yes"])
        .code(0);
    let show = ["job", "show", JOB, "--repo", REPO];
    let list = [&["document", "list"][..], &job].concat();
    for (arguments, heading) in [
        (&prune[..], "(UTC+04:30)"),
        (&list, "(UTC+04:30)"),
        (&["clean", "--log"], "(UTC+04:30)"),
        (&["lock", "list"], "(UTC+04:30)"),
        (&show, "+04:30"),
    ] {
        let Some(lines) = shown(&bench, 200, arguments) else {
            return;
        };
        let local = lines.join("\n");
        assert_eq!(local.matches(heading).count(), 1, "{arguments:?}: {local}");
        let piped = bench.run(arguments).code(0).out;
        assert!(!piped.contains("04:30"), "{arguments:?}: {piped}");
        assert!(
            piped.contains('Z') || arguments[0] == "lock",
            "{arguments:?}: {piped}"
        );
    }
}
