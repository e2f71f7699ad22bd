//! Tests of `status`.

use crate::support::{Bench, run, send};

fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let push = ["dlq", "push", "--repo", "mill", "--job", "job"];
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    bench
}

#[test]
fn the_screen_has_the_root_the_repositories_the_jobs_and_the_problems() {
    let bench = filled();
    let shown = bench.run(&["status"]).code(0).out;
    let root = format!("root      {} (file backend)\n", bench.root().display());
    assert!(shown.starts_with(&root), "{shown}");
    for part in [
        "space     ",
        "REPOSITORY\n",
        "  mill\n",
        "  shop\n",
        "shop/job\n",
        "mill/job\n",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    let space = shown.lines().find(|line| line.starts_with("space ")).unwrap();
    assert!(space.ends_with("iB are free"), "{space}");
    let problem = "warning  dead letters in 1 job; mill/job has 1\n         run: prodigy-storage dlq analyze --repo mill --job job\n";
    assert!(shown.contains(problem), "{shown}");
}

#[test]
fn json_is_one_object_with_the_same() {
    let status = filled().run(&["status", "--json"]).code(0).json();
    assert_eq!(status["backend"], "file");
    assert_eq!(status["repositories"].as_array().unwrap().len(), 2);
    assert_eq!(status["recent_jobs"].as_array().unwrap().len(), 2);
    let fixes: Vec<&str> = status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|problem| problem["fix"].as_str())
        .collect();
    assert!(
        fixes.contains(&"prodigy-storage dlq analyze --repo mill --job job"),
        "{fixes:?}"
    );
}

#[test]
fn settings_that_differ_from_the_defaults_are_shown_with_their_origin() {
    let bench = filled()
        .with("PRODIGY__STORAGE__DURABILITY", "relaxed")
        .with("PRODIGY__STORAGE__CONNECTION_POOL_SIZE", "10");
    let status = bench.run(&["status", "--json"]).code(0).json();
    let settings = status["settings"].as_array().unwrap();
    let keys: Vec<&str> = settings
        .iter()
        .map(|setting| setting["key"].as_str().unwrap())
        .collect();
    assert!(
        keys.contains(&"durability") && !keys.contains(&"connection_pool_size"),
        "{keys:?}"
    );
    let shown = bench.run(&["status"]).code(0).out;
    assert!(shown.contains("setting   durability: \"relaxed\"  # "), "{shown}");
    assert!(shown.contains("PRODIGY__STORAGE__DURABILITY"), "{shown}");
}

#[test]
fn held_locks_are_shown_with_their_holder() {
    let bench = filled();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let status = ["lock", "run", "shop/job/resume", "--", tool, "status"];
    let shown = bench.run(&status).code(0).out;
    assert!(
        shown.contains("lock      shop/job/resume, held by process "),
        "{shown}"
    );
    assert!(!bench.run(&["status"]).code(0).out.contains("shop/job/resume"));
}

#[test]
fn a_root_that_is_not_there_yet_has_nothing_and_is_not_made() {
    let bench = Bench::new();
    let shown = bench.run(&["status"]).code(0).out;
    assert!(
        shown.contains("nothing is stored yet\n")
            && shown
                .contains("\nthe root does not exist: the first write creates it. If it should have data, "),
        "{shown}"
    );
    assert!(!shown.contains("no problems"), "{shown}");
    assert!(!bench.root().exists());
}

#[test]
fn the_memory_backend_has_a_status() {
    let bench = Bench::of_memory();
    bench.append("1\n");
    let status = bench.run(&["status", "--json"]).code(0).json();
    assert_eq!(
        (&status["backend"], &status["repositories"][0]["jobs"]),
        (&"memory".into(), &1.into())
    );
}

#[test]
fn many_jobs_and_repositories_are_counted_and_the_last_ones_shown() {
    let bench = Bench::new();
    for repo in 0..13 {
        let repo = format!("repo-{repo:02}");
        bench
            .feed(
                &[
                    "checkpoint",
                    "save",
                    "--repo",
                    &repo,
                    "--job",
                    "job",
                    "--phase",
                    "map",
                ],
                "1",
            )
            .code(0);
    }
    let shown = bench.run(&["status"]).code(0).out;
    assert!(
        shown.contains("and 3 more: `prodigy-storage repo list`"),
        "{shown}"
    );
    assert!(
        shown.contains("and 3 more: `prodigy-storage job list --all-repos`"),
        "{shown}"
    );
    assert!(
        shown.contains("repo-12/job\n") && !shown.contains("repo-02/job\n"),
        "{shown}"
    );
}

#[test]
fn watch_prints_an_object_each_second_or_needs_a_terminal() {
    let bench = filled();
    let objects = bench
        .run(&["status", "--watch", "--json", "--for", "0s"])
        .code(0)
        .jsonl();
    assert_eq!(objects.len(), 1);
    bench
        .run(&["status", "--watch"])
        .code(2)
        .says("standard output is no terminal")
        .says("add `--json`");
    bench.run(&["status", "--for", "1s"]).code(2);
}

#[test]
fn a_watch_ends_in_order_by_a_signal() {
    use std::io::BufRead;
    let bench = filled();
    for signal in ["INT", "TERM", "HUP"] {
        let mut command = bench.std(["status", "--watch", "--json"]);
        let mut watch = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with('{'));
        send(signal, watch.id());
        assert_eq!(watch.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_watch_ends_when_its_output_is_closed() {
    use std::io::BufRead;
    let bench = filled();
    let mut command = bench.std(["status", "--watch", "--json"]);
    let mut watch = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some());
    drop(lines);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_it_is_redrawn_fits_its_width_and_changes_no_mode() {
    let bench = filled().with("NO_COLOR", "1");
    let long = "j".repeat(120);
    bench
        .feed(
            &[
                "checkpoint",
                "save",
                "--repo",
                "shop",
                "--job",
                &long,
                "--phase",
                "map",
            ],
            "1",
        )
        .code(0);
    let Some(script) = bench.on_terminal(&["status", "--watch", "--for", "0s"]) else {
        return;
    };
    let shown = run(script, "").code(0).out;
    assert!(shown.contains("\u{1b}[H\u{1b}[J"), "{shown:?}");
    assert!(!shown.contains("\u{1b}[?"), "{shown:?}");
    assert!(
        shown.contains("shop/jjj") && shown.contains("jj\u{2026}jj"),
        "{shown}"
    );
    // Without a command, the tool prints the status on a terminal, and its usage in a pipe.
    let Some(script) = bench.on_terminal(&[]) else {
        return;
    };
    assert!(run(script, "").code(0).out.contains("REPOSITORY"));
    bench.run(&[]).code(2).says("Usage");
}

/// The text on a terminal after this output, and the number of lines that have scrolled out of it.
fn screen(output: &str, columns: usize, rows: usize) -> (Vec<String>, usize) {
    let (mut lines, mut row, mut column, mut scrolled) = (vec![String::new(); rows], 0, 0, 0);
    let mut chars = output.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                let sequence: String = chars
                    .by_ref()
                    .skip(1)
                    .take_while(|char| !char.is_ascii_alphabetic())
                    .collect();
                assert_eq!(
                    sequence, "",
                    "only the cursor moves home, and what is below it is cleared"
                );
            }
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == rows {
                    row -= 1;
                    scrolled += 1;
                }
            }
            char => {
                if column == columns {
                    column = 0;
                    row += 1;
                    if row == rows {
                        row -= 1;
                        scrolled += 1;
                    }
                }
                column += 1;
                lines[row].push(char);
            }
        }
    }
    (lines, scrolled)
}

/// A repeated status fits terminals that are too small for it, and says how much is left out.
#[cfg(target_os = "linux")]
#[test]
fn on_a_small_terminal_nothing_scrolls_and_what_is_left_out_is_counted() {
    let bench = filled().with("NO_COLOR", "1");
    for (columns, rows) in [(80, 8), (20, 5), (200, 12), (10, 2)] {
        let arguments = ["status", "--watch", "--for", "0s"];
        let Some(script) = bench.on_terminal_of(columns, rows, &arguments) else {
            return;
        };
        let shown = run(script, "").code(0).out;
        let drawn = shown.split("\u{1b}[H\u{1b}[J").nth(1).unwrap();
        let (lines, scrolled) = screen(drawn, columns, rows);
        assert_eq!(scrolled, 0, "{columns}x{rows}: {lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains(" more lin") || line.contains('\u{2026}')),
            "{columns}x{rows}: {lines:?}"
        );
    }
}

/// A signal ends a repeated status on a terminal in order, and the modes of the terminal are as before.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_a_watch_on_a_terminal_and_the_terminal_is_as_before() {
    use std::io::BufRead;
    let bench = filled().with("NO_COLOR", "1");
    for signal in ["INT", "TERM", "HUP"] {
        let tool = env!("CARGO_BIN_EXE_prodigy-storage");
        let line = format!(
            "echo modes $(stty -g); sh -c 'echo pid $$; exec \"{tool}\" status --watch'; echo code $?; echo modes $(stty -g)"
        );
        let Some(mut script) = bench.in_a_terminal(&line) else {
            return;
        };
        let mut script = script.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufReader::new(script.stdout.take().unwrap()).lines();
        let (mut modes, mut pid, mut code) = (Vec::new(), None, None);
        for line in lines.map(Result::unwrap) {
            let line = line.trim_end_matches('\r');
            match line.split_once(' ') {
                Some(("modes", found)) => modes.push(found.to_owned()),
                Some(("pid", found)) => pid = found.parse().ok(),
                Some(("code", found)) => code = Some(found.to_owned()),
                // The screen is drawn.
                _ if line.contains("root  ") => send(signal, pid.unwrap()),
                _ => {}
            }
        }
        script.wait().unwrap();
        assert_eq!(code.as_deref(), Some("0"), "{signal}");
        assert!(modes.len() == 2 && modes[0] == modes[1], "{signal}: {modes:?}");
    }
}

/// Changes a byte within an event of `shop/job`, so that its checksum is wrong.
fn damage_an_event(bench: &Bench) {
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"event\":2", "\"event\":7", 1)).unwrap();
}

#[test]
fn damage_that_was_met_is_a_problem_and_the_rest_is_shown() {
    let bench = filled();
    bench
        .run(&["health"])
        .code(0)
        .prints("ok       data: 2 jobs examined");
    damage_an_event(&bench);
    let status = bench.run(&["status"]).code(5).out;
    assert!(
        status.contains("damaged, and not in the counts above: shop/job: 1 damaged place in the events"),
        "{status}"
    );
    assert!(
        status.contains("run: prodigy-storage doctor\n") && !status.contains("no problems"),
        "{status}"
    );
    assert!(
        status.contains("mill/job\n") && status.contains("shop/job\n"),
        "{status}"
    );
    let health = bench.run(&["health"]).code(1).out;
    assert!(
        health.contains("failure  data: shop/job: 1 damaged place in the events"),
        "{health}"
    );
    assert!(health.contains("prodigy-storage doctor"), "{health}");
}

#[test]
fn a_document_of_the_store_with_wrong_contents_is_named_and_the_rest_is_shown() {
    for (path, of, lost) in [
        (
            "state/mill/mapreduce/jobs/job/finished.json",
            "status",
            "the time at which the job was finished",
        ),
        (
            "state/mill/repository.json",
            "health",
            "it does not name its repository",
        ),
        (
            "state/mill/mapreduce/jobs/job/fencing.json",
            "health",
            "it does not hold fencing marks",
        ),
    ] {
        for text in ["{}", "{\"finished_at\":3,\"identity\":3,\"marks\":3}", "[]"] {
            let bench = filled();
            bench.write(&format!("home/.prodigy/{path}"), text);
            let named = match text {
                "[]" => "it does not begin as a JSON object",
                _ => lost,
            };
            let run = bench.run(&[of]);
            assert!(run.code != Some(0), "{path} {text}: {}", run.out);
            assert!(run.out.contains(named), "{path} {text}: {}", run.out);
            // Both jobs are listed with their counts.
            let jobs = bench.run(&["job", "list", "--all-repos", "--json"]).jsonl();
            let letters: Vec<_> = jobs
                .iter()
                .map(|job| job["dead_letters"]["items"].as_u64())
                .collect();
            assert_eq!(letters, [Some(1), Some(0)], "{path} {text}");
            let status = bench.run(&["status", "--json"]).json();
            assert_eq!(
                status["recent_jobs"].as_array().unwrap().len(),
                2,
                "{path} {text}"
            );
            let doctor = bench.run(&["doctor"]).code(5).out;
            assert!(
                doctor.contains(named) && doctor.contains("run: prodigy-storage doctor --repair"),
                "{doctor}"
            );
            bench.run(&["doctor", "--repair"]);
            if path.ends_with("repository.json") {
                bench.run(&["repo", "relink", "mill", "."]).code(0);
            }
            let left = bench.run(&["doctor"]).code(0).out;
            assert!(left.contains("damage: 0 found"), "{left}");
            bench.run(&["job", "list", "--all-repos"]).code(0);
        }
    }
}

/// A file at the path of an area hides its data. What else there is is printed, with the problem and its command.
#[test]
fn a_file_in_the_way_of_an_area_ends_no_listing() {
    for area in [
        "events",
        "dlq",
        "state",
        "locks",
        "orphaned_worktrees",
        "deletions",
        "moved",
    ] {
        let bench = Bench::new();
        bench.append("1\n");
        let other = ["dlq", "push", "--repo", "mill", "--job", "job"];
        bench
            .feed(&other, "{\"item_id\":\"a\",\"item_data\":1}\n")
            .code(0);
        let at = bench.root().join(area);
        if at.exists() {
            std::fs::rename(&at, bench.path("away")).unwrap();
        }
        std::fs::write(&at, "").unwrap();
        let status = bench.run(&["status"]).code(6).out;
        assert!(
            status.contains("REPOSITORY") && status.contains("failure "),
            "{area}: {status}"
        );
        assert!(
            status.contains("run: prodigy-storage doctor\n"),
            "{area}: {status}"
        );
        let json = bench.run(&["status", "--json"]).code(6).json();
        let left = if ["events", "dlq"].contains(&area) { 1 } else { 2 };
        assert_eq!(json["repositories"].as_array().unwrap().len(), left, "{area}");
        assert_eq!(
            bench.run(&["repo", "list"]).code(6).lines().len(),
            1 + left,
            "{area}"
        );
        bench.run(&["job", "list", "--all-repos"]).code(6);
        // It reads no marks of moves.
        let usage = if area == "moved" { 0 } else { 6 };
        bench.run(&["usage", "--jobs"]).code(usage);
    }
}

/// On a terminal the lists are as long as it has room for, and the problems are whole.
#[cfg(target_os = "linux")]
#[test]
fn a_status_fits_the_terminal() {
    let bench = Bench::new().with("NO_COLOR", "1");
    for number in 0..12 {
        let (repo, item) = (format!("repo-{number}"), "{\"item_id\":\"a\",\"item_data\":1}\n");
        bench
            .feed(&["dlq", "push", "--repo", &repo, "--job", "job"], item)
            .code(0);
    }
    let piped = bench.run(&["status"]).code(0);
    assert!(piped.lines().len() > 24, "{}", piped.out);
    for rows in [24, 30, 60] {
        let Some(script) = bench.on_terminal_of(80, rows, &["status"]) else {
            return;
        };
        let shown = run(script, "").code(0).out;
        let (_, scrolled) = screen(&shown, 80, rows);
        assert_eq!(scrolled, 0, "{rows}: {shown}");
        let is_cut = shown.contains(" more: `prodigy-storage job list --all-repos`");
        assert!(is_cut, "{rows}: {shown}");
        assert!(shown.contains("run: prodigy-storage dlq analyze"), "{shown}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_q_ends_a_watch() {
    let bench = filled();
    if let Some(script) = bench.on_terminal(&["status", "--watch"]) {
        run(script, "q\n").code(0);
    }
}
