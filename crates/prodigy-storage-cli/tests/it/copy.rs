//! Tests of `copy`.

use crate::support::{Bench, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

#[test]
fn a_store_is_copied_into_a_folder_and_compared() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let cursor = bench.run(&[&["events", "end"][..], &JOB].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    bench.feed(&[&save[..], &JOB].concat(), "2").code(0);
    bench.append("{\"n\":3}\n");
    let target = bench.path("copy");
    let target = target.to_str().unwrap();
    let keep = ["copy", "--to", target, "--keep-source", "--json"];
    let copied = bench.run(&keep).code(0).json();
    assert_eq!((&copied["events"], &copied["stored"]), (&3.into(), &3.into()));
    assert_eq!(copied["moved"], false);
    let again = bench.run(&keep).code(0).json();
    assert_eq!(
        (&again["stored"], &again["checksum"]),
        (&0.into(), &copied["checksum"])
    );

    let there = |command: &[&str]| {
        bench
            .run(&[&["--base-dir", target], command, &JOB].concat())
            .code(0)
    };
    let cursor = there(&["checkpoint", "show"]).json()["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let behind = there(&["events", "follow", "--for", "0s", "--cursor", &cursor]).jsonl();
    assert_eq!((behind.len(), &behind[0]["event"]["n"]), (1, &3.into()));

    bench.run(&["copy", "--to", target, "--schema", "other"]).code(2);
    let root = bench.root();
    bench
        .run(&["copy", "--to", root.to_str().unwrap(), "--yes"])
        .code(1)
        .says("the same store");
}

#[test]
fn a_job_that_was_moved_says_where_it_is_and_takes_no_writes() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n").code(0);
    let target = bench.path("new");
    let target = target.to_str().unwrap();
    bench.run(&["copy"]).code(2);
    bench.run(&["copy", "--to", target, "--reopen"]).code(2);
    let moved = [&["copy", "--to", target, "--yes", "--json"][..], &JOB].concat();
    assert_eq!(bench.run(&moved).code(0).json()["moved"], true);
    assert_eq!(bench.run(&moved).code(0).json()["stored"], 0);
    // Events are appended to the copy.
    let there = [&["--base-dir", target, "events", "append"][..], &JOB].concat();
    bench.feed(&there, "2\n").code(0);
    bench
        .run(&moved)
        .code(1)
        .says("source and target differ")
        .says("if it is in use there, there is nothing to copy");

    let append = [&["events", "append"][..], &JOB].concat();
    let refused = bench.feed(&append, "2\n").code(1);
    refused.says(target).says("--reopen");
    bench.feed(&other, "2\n").code(0);
    for command in [
        "events cat",
        "events tail",
        "job show job",
        "dlq list",
        "checkpoint list",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let of = match command {
            "job show job" => &JOB[..2],
            _ => &JOB[..],
        };
        let read = bench.run(&[&words[..], of].concat()).code(0);
        assert_eq!(
            read.err.matches("was moved to").count(),
            1,
            "{command}: {}",
            read.err
        );
    }
    let list = bench
        .run(&["job", "list", "--repo", "shop", "--json"])
        .code(0)
        .jsonl();
    let places: Vec<_> = list.iter().map(|job| job["moved_to"].as_str()).collect();
    assert_eq!(places, [Some(target), None]);
    let table = bench.run(&["job", "list", "--repo", "shop"]).code(0).out;
    assert!(table.contains(" moved "), "{table}");
    let status = bench.run(&["status"]).code(0).out;
    assert!(
        status.contains(&format!("the job shop/job, to {target}")),
        "{status}"
    );
    let examined = bench.run(&["doctor", "--verbose"]).code(0).out;
    assert!(examined.contains(&format!("was moved to {target}")), "{examined}");

    // `clean` removes no part of a moved job, and a deletion of the whole job leaves the mark that refuses writes.
    let events = [
        "clean",
        "--events",
        "1ns",
        "--dead-letters",
        "1ns",
        "--yes",
        "--json",
    ];
    bench.run(&events).code(0);
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    bench.feed(&append, "2\n").code(1).says(target);
    let reopen = ["copy", "--reopen", "--repo", "shop", "--job", "job"];
    assert_eq!(bench.run(&reopen).code(0).out, "1 mark taken away\n");
    bench.feed(&append, "2\n").code(0);
}

#[test]
fn a_store_that_was_moved_takes_no_new_job_and_is_opened_again_as_a_whole() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let target = bench.path("new");
    let target = target.to_str().unwrap();
    bench
        .run(&["copy", "--to", target, "--yes"])
        .code(0)
        .says("--reopen");
    let new = ["events", "append", "--repo", "mill", "--job", "new"];
    bench
        .feed(&new, "1\n")
        .code(1)
        .says("the whole store was moved to");
    bench
        .run(&["lock", "run", "any", "--", "true"])
        .code(1)
        .says(target);
    bench
        .run(&["copy", "--reopen", "--repo", "shop", "--job", "job"])
        .code(1)
        .says("the whole store has a mark");
    bench.run(&["copy", "--reopen"]).code(0);
    bench.feed(&new, "1\n").code(0);
}

#[test]
fn a_copy_of_a_name_without_data_names_the_existing_ones_and_makes_no_target() {
    let bench = Bench::new();
    bench.append("1\n");
    let target = bench.path("copy");
    let copy = ["copy", "--to", target.to_str().unwrap(), "--yes"];
    for (names, missing, known) in [
        (&["--repo", "shpo"][..], "no repository `shpo`", "`shop`"),
        (
            &["--job", "jbo", "--all-repos"],
            "no job `jbo` in any repository",
            "`shop/job`",
        ),
        (
            &["--repo", "shop", "--job", "jbo"],
            "no job `jbo` in the repository `shop`",
            "`job`",
        ),
        (
            &["--repo", "shpo", "--job", "job"],
            "no job `job` in the repository `shpo`",
            "`shop`",
        ),
    ] {
        let run = bench.run(&[&copy[..], names].concat()).code(4);
        run.says(missing).says(known);
        assert!(!target.exists(), "{names:?}");
    }
    bench
        .run(&[&copy[..], &["--job", "job", "--all-repos"]].concat())
        .code(0);
}

#[test]
fn a_mistyped_address_and_a_folder_within_the_root_are_no_targets() {
    let bench = Bench::new();
    bench.append("1\n");
    for address in ["postgress://ops@db/jobs", "nonsense://x", "postgresql:/db/jobs"] {
        let run = bench.run(&["copy", "--to", address]).code(2);
        run.says("no connection string").says(&format!("./{address}"));
    }
    let inside = bench.root().join("events/copy");
    let pairs = "host=127.0.0.1 user=app password=s3cret dbname=jobs";
    for command in [
        &["copy", "--to", pairs][..],
        &["copy", "--to", pairs, "--yes"],
        &["copy", "--to-env", "DB", "--yes"],
        &["copy", "--to", "app:s3cret@db/jobs", "--yes"],
        &["copy", "--to", " postgresql://app:s3cret@db/jobs", "--yes"],
        &["--base-dir", pairs, "job", "list"],
    ] {
        let mut command = bench.std(command);
        command.env("DB", pairs);
        let run = crate::support::run(command, "").says("postgresql://");
        assert!(run.code.is_some_and(|code| code > 0), "{:?}", run.code);
        assert!(
            !format!("{}{}", run.out, run.err).contains("s3cret"),
            "{}",
            run.err
        );
    }
    let made = tree(&bench.path("here"));
    assert!(
        !made.iter().any(|path| path.to_string_lossy().contains("host=")),
        "{made:?}"
    );
    let link = bench.path("link");
    std::os::unix::fs::symlink(bench.root(), &link).unwrap();
    for target in [inside.clone(), link.join("copy")] {
        let run = bench.run(&["copy", "--to", target.to_str().unwrap()]).code(1);
        run.says("within the folder of the source");
    }
    assert!(!inside.exists());
    // The source takes writes as before.
    bench.append("2\n");
}

#[test]
fn a_move_is_planned_first_and_nothing_is_written_before_yes() {
    let bench = Bench::new();
    bench.append("1\n");
    let letter = "{\"item_id\":\"a\",\"item_data\":1}\n";
    let other = ["--repo", "mill", "--job", "leased"];
    bench
        .feed(&[&["dlq", "push"][..], &other].concat(), letter)
        .code(0);
    bench
        .run(&[&["dlq", "take", "--any"][..], &other].concat())
        .code(0);
    let target = bench.path("new");
    let target = target.to_str().unwrap();
    let planned = bench
        .run(&["copy", "--to", target])
        .code(1)
        .says("not copied: mill/leased: ")
        .says("a worker holds its dead letter ")
        .says("`prodigy-storage dlq release --repo mill --job leased ")
        .says("nothing was copied; `--yes` moves 1 job to ");
    assert!(
        planned.out.contains("shop/job") && !planned.out.contains("_audit"),
        "{}",
        planned.out
    );
    let json = bench
        .run(&["copy", "--to", target, "--repo", "shop", "--json"])
        .code(0)
        .json();
    assert_eq!((&json["job"], &json["planned"]), (&"job".into(), &true.into()));
    assert!(!bench.path("new").exists());
    bench.append("2\n");
    assert_eq!(
        bench
            .run(&["copy", "--to", target, "--repo", "shop", "--yes"])
            .code(0)
            .lines()
            .len(),
        2
    );
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    bench.feed(&append, "3\n").code(1).says(target);
}

#[test]
fn what_was_moved_is_not_moved_to_a_second_place_and_continues_to_the_first() {
    let bench = Bench::new();
    bench.append("1\n");
    let (first, second) = (bench.path("first"), bench.path("second"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let to = |place: &str, more: &[&str]| bench.run(&[&["copy", "--to", place][..], more].concat());
    for of in [&["--repo", "shop", "--job", "job"][..], &["--repo", "shop"], &[]] {
        to(first, &[of, &["--yes"]].concat()).code(0);
        for yes in [&["--yes"][..], &[]] {
            let refused = to(second, &[of, yes].concat()).code(1);
            refused.says(&format!("was moved to {first}")).says("--reopen");
        }
        assert!(!bench.path("second/events").exists(), "{of:?}");
    }
    // The same folder under another path is the same place.
    let again = format!("{}/../first/", bench.path("here").display());
    to(&again, &["--yes"]).code(0);
    // A copy that is no move goes anywhere, and changes no mark.
    to(second, &["--keep-source"]).code(0);
    let append = ["events", "append", "--repo", "shop", "--job", "job"];
    bench.feed(&append, "2\n").code(1).says(first);
}

#[test]
fn moved_jobs_are_counted_and_listed_as_moved_and_a_damaged_mark_hides_nothing() {
    let bench = Bench::new();
    bench.append("1\n");
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n").code(0);
    let target = bench.path("new");
    let target = target.to_str().unwrap();
    bench
        .run(&[&["copy", "--to", target, "--yes"][..], &JOB].concat())
        .code(0);
    let check = |code: i32| {
        let repos = bench.run(&["repo", "list", "--json"]).code(code).jsonl();
        assert_eq!(repos.len(), 1, "the audit log is no repository");
        assert_eq!((&repos[0]["open"], &repos[0]["moved"]), (&1.into(), &1.into()));
        let status = bench.run(&["status", "--json"]).code(code).json();
        assert_eq!(
            (
                &status["repositories"][0]["open"],
                &status["repositories"][0]["moved"]
            ),
            (&1.into(), &1.into())
        );
        let shown = bench.run(&["status"]).code(code).out;
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("moved ") && line.ends_with("shop/job")),
            "{shown}"
        );
        for (state, job) in [("open", "other"), ("moved", "job")] {
            let list = ["job", "list", "--repo", "shop", "--json", "--state", state];
            let jobs = bench.run(&list).code(code).jsonl();
            assert_eq!(jobs.len(), 1, "{state}");
            assert_eq!(jobs[0]["job"], job, "{state}");
        }
    };
    check(0);
    bench.write("home/.prodigy/moved/jobs/shop/job.json", "{}");
    check(5);
    let status = bench.run(&["status"]).code(5).out;
    assert!(
        status.contains("it does not say where the data was moved to"),
        "{status}"
    );
    // Reads still work.
    let cat = bench.run(&[&["events", "cat"][..], &JOB].concat()).code(5);
    assert_eq!(cat.lines().len(), 1);
    bench.run(&["job", "show", "job", "--repo", "shop"]).code(5);
}

#[test]
fn a_store_is_not_spread_among_files_of_something_else() {
    let bench = Bench::new();
    bench.append("1\n");
    bench.write("project/README", "mine");
    // A copy that was killed in its first step leaves a temporary file.
    bench.write("empty/.tmp-0123456789abcdef0123456789abcdef", "");
    let project = bench.path("project");
    let project = project.to_str().unwrap();
    for how in [&[][..], &["--yes"], &["--keep-source"]] {
        let refused = bench.run(&[&["copy", "--to", project][..], how].concat()).code(1);
        refused.says("the folder has files, and none of a store");
    }
    assert_eq!(std::fs::read_dir(project).unwrap().count(), 1);
    let empty = bench.path("empty");
    bench
        .run(&["copy", "--to", empty.to_str().unwrap(), "--yes"])
        .code(0);
    bench.run(&["copy", "--to", ""]).code(2);
}

#[test]
fn a_copy_that_has_not_ended_is_a_problem_of_its_target_with_the_command_that_continues() {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let push = ["dlq", "push", "--repo", "shop", "--job", "leased"];
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    let take = ["dlq", "take", "--repo", "shop", "--job", "leased", "--limit", "1"];
    bench.run(&take).code(0);
    let target = bench.path("it's a copy").display().to_string();
    bench.run(&["copy", "--to", &target, "--keep-source"]).code(1);
    let at = |arguments: &[&str]| bench.run(&[&["--base-dir", &target], arguments].concat());
    let source = bench.root().display().to_string();
    let command = format!(
        "prodigy-storage --base-dir {source} copy --to '{}' --keep-source",
        target.replace('\'', r"'\''")
    );
    for look in ["status", "health", "doctor"] {
        let shown = at(&[look]).code(0).prints("warning  copy: a copy of the store ");
        let shown = shown.prints("data may be missing here");
        assert!(shown.out.contains(&format!("run: {command}\n")), "{}", shown.out);
    }
    bench
        .run(&["dlq", "release", "a", "--repo", "shop", "--job", "leased"])
        .code(0);
    crate::planted::shell(&bench, &command).code(0);
    for look in ["status", "health", "doctor"] {
        assert!(!at(&[look]).code(0).out.contains("copy: "));
    }
    // The mark can be taken away without the source.
    bench.run(&take).code(0);
    bench.run(&["copy", "--to", &target, "--keep-source"]).code(1);
    at(&["copy", "--reopen"]).code(0).prints("1 mark taken away");
    assert!(!at(&["health"]).code(0).out.contains("copy: "));
}

#[test]
fn a_plan_of_a_copy_to_the_store_itself_is_refused() {
    let bench = Bench::new();
    bench.append("1\n");
    let root = bench.root();
    for way in [&[][..], &["--yes"]] {
        let copy = ["copy", "--to", root.to_str().unwrap()];
        bench
            .run(&[&copy[..], way].concat())
            .code(1)
            .says("source and target are the same store");
    }
}

#[test]
fn what_was_moved_is_no_problem_here_and_no_command_that_deletes_it_is_named() {
    let bench = Bench::new();
    bench.append("1\n");
    let item = "{\"item_id\":\"a\",\"item_data\":1}\n";
    bench.feed(&[&["dlq", "push"][..], &JOB].concat(), item).code(0);
    let mill = ["events", "append", "--repo", "mill", "--job", "m"];
    bench.feed(&mill, "1\n").code(0);
    bench
        .run(&["status"])
        .code(0)
        .prints("dlq analyze --repo shop --job job");
    let target = bench.path("new").to_str().unwrap().to_owned();
    bench
        .run(&[&["copy", "--to", &target, "--yes"][..], &JOB].concat())
        .code(0);
    bench
        .run(&["copy", "--to", &target, "--yes", "--repo", "mill"])
        .code(0);
    let status = bench.run(&["status"]).code(0).out;
    assert!(!status.contains("dlq analyze"), "{status}");
    assert_eq!(
        status.matches("\nmoved     the ").count(),
        2,
        "a repository and a job: {status}"
    );
    let json = bench.run(&["status", "--json"]).code(0).json();
    assert_eq!(json["repositories"][0]["dead_letters"], 0);
    let doctor = bench.run(&["doctor", "--verbose"]).code(0).out;
    assert_eq!(doctor.matches("only then delete it here").count(), 3, "{doctor}");
    assert!(!doctor.contains("run: "), "{doctor}");
    for (repo, job) in [("mill", "m"), ("shop", "job")] {
        bench
            .run(&["job", "delete", "--repo", repo, "--yes", job])
            .code(0);
    }
    let status = bench.run(&["status"]).code(0).out;
    assert!(!status.contains("the job shop/job"), "{status}");
    let doctor = bench.run(&["doctor"]).code(0).out;
    assert!(!doctor.contains("shop/job"), "{doctor}");
    bench
        .feed(&[&["events", "append"][..], &JOB].concat(), "2\n")
        .code(1)
        .says("was moved to");
}

#[test]
fn the_way_out_of_a_refused_copy_leads_to_a_move_of_the_whole_store() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n").code(0);
    let delete = ["job", "delete", "--repo", "shop", "--yes"];
    bench.run(&[&delete[..], &["other"]].concat()).code(0);
    let target = bench.path("copy");
    let target = target.to_str().unwrap();
    bench.run(&["copy", "--to", target, "--keep-source"]).code(0);
    let push = [&["dlq", "push"][..], &JOB].concat();
    let there = [&["--base-dir", target], &push[..]].concat();
    let letter = r#"{"item_id":"x","item_data":1}"#;
    bench.feed(&there, letter).code(0);
    bench
        .run(&["copy", "--to", target, "--keep-source"])
        .code(1)
        .says("only the target has dead letter x")
        .says(&format!(
            "prodigy-storage --base-dir {target} job delete job --repo shop --yes"
        ));
    bench
        .run(&[&["--base-dir", target], &delete[..], &["job"]].concat())
        .code(0);
    bench.feed(&push, letter).code(0);
    bench.run(&["copy", "--to", target, "--keep-source"]).code(0);
    bench.run(&[&["dlq", "remove", "x"][..], &JOB].concat()).code(0);
    bench.run(&["copy", "--to", target, "--yes"]).code(1);
    bench
        .run(&[&["--base-dir", target], &delete[..], &["job"]].concat())
        .code(0);
    bench
        .run(&["copy", "--to", target, "--yes"])
        .code(0)
        .says("moved: the whole store");
    let status = bench.run(&["--base-dir", target, "status"]).code(0).out;
    assert!(status.contains("no problems seen"), "{status}");
}
