//! Unknown names: each command that reads says what there is instead of printing nothing.

use crate::support::{Bench, SAVE};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "nightly"];

/// A store with data of every kind in the job `shop/nightly`.
fn filled() -> Bench {
    let bench = Bench::new();
    let run = |words: &[&str], input: &str| {
        bench.feed(&[words, &JOB].concat(), input).code(0);
    };
    run(
        &["events", "append"],
        "{\"worktree\":\"session-1\",\"agent_id\":\"agent-1\"}\n",
    );
    run(&["checkpoint", "save", "--phase", "review"], "{}");
    run(&["document", "put", "--kind", "plans", "--name", "one"], "{}");
    bench
        .feed(
            &[
                "document", "put", "--repo", "shop", "--kind", "flows", "--name", "one",
            ],
            "{}",
        )
        .code(0);
    bench
}

#[test]
fn a_mistyped_name_is_an_error_that_names_the_nearest() {
    let bench = filled();
    let of_job = [
        "checkpoint list --phase reviw => review",
        "checkpoint verify --phase reviw => review",
        "checkpoint show --phase reviw => review",
        "checkpoint prune --keep 1 --phase reviw => review",
        "document list --kind plan => plans",
        "events cat --worktree sesion-1 => session-1",
        "events tail --worktree sesion-1 => session-1",
        "events stats --worktree sesion-1 => session-1",
        "events search . --worktree sesion-1 => session-1",
        "events tail --agent agnt-1 => agent-1",
    ];
    for line in of_job {
        let (words, meant) = line.split_once(" => ").unwrap();
        let words: Vec<&str> = words.split(' ').chain(JOB).collect();
        bench
            .run(&words)
            .code(4)
            .says(&format!("did you mean `{meant}`?"));
    }
    let of_store = [
        "document list --repo shop --kind flow => flows",
        "document list --repo shop --job nigtly => nightly",
        "document list --repo shp => shop",
        "document show --repo shop --job nigtly --kind plans --name one => nightly",
        "worktree list --repo shp => shop",
        "worktree orphans --repo shp => shop",
        "worktree orphans --repo shop --job nigtly => nightly",
        "events end --repo shop --job nigtly => nightly",
        "clean --finished-jobs 1d --repo shp => shop",
        "clean --finished-jobs 1d --job nigtly --all-repos => shop/nightly",
        "clean --repo shop --job nigtly => nightly",
        "copy --reopen --repo shp => shop",
        "copy --reopen --repo shop --job nigtly => nightly",
        "dlq compact --repo shop --job nigtly => nightly",
        "dlq list --repo shop --job nigtly => nightly",
        "dlq park --repo shop --job nigtly --any --reason x => nightly",
        "dlq release --repo shop --job nigtly x => nightly",
        "dlq ack --repo shop --job nigtly x => nightly",
        "dlq remove --repo shop --job nigtly x => nightly",
        "dlq edit --repo shop --job nigtly x --patch {} => nightly",
        "checkpoint prune --keep 1 --repo shop --job nigtly => nightly",
        "checkpoint delete --repo shop --job nigtly x => nightly",
        "checkpoint diff --repo shop --job nigtly a b => nightly",
        "job show --repo shop nigtly => nightly",
        "job finish --repo shop nigtly => nightly",
        "job delete --repo shop nigtly => nightly",
        "export --repo shop --job nigtly => nightly",
    ];
    for line in of_store {
        let (words, meant) = line.split_once(" => ").unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        let run = bench.run(&words);
        assert!(
            run.code == Some(4) && run.err.contains(&format!("did you mean `{meant}`?")),
            "{line}: {:?} {}",
            run.code,
            run.err
        );
    }
}

#[test]
fn a_filter_that_selects_none_of_existing_names_stays_silent() {
    let bench = filled();
    for words in [
        &[
            "events",
            "cat",
            "--worktree",
            "session-1",
            "--until",
            "2020-01-01",
        ][..],
        &["events", "cat", "--agent", "agent-1", "--filter", "a=b"],
        &["events", "tail", "--filter", "worktree=sesion-1"],
        &["events", "search", "nothing"],
        &["worktree", "orphans"],
        &["checkpoint", "prune", "--keep", "1", "--phase", "review"],
        &["document", "list", "--kind", "plans"],
        &["dlq", "list"],
    ] {
        let run = bench.run(&[words, &JOB].concat()).code(0);
        assert!(!run.err.contains("error"), "{words:?}: {}", run.err);
    }
    bench.run(&["worktree", "list", "--repo", "shop"]).code(0);
    // A command that creates accepts a new name.
    let save = SAVE.map(|word| if word == "job" { "new" } else { word });
    bench.feed(&save, "{}").code(0);
    let follow = [
        "events", "follow", "--repo", "shop", "--job", "new", "--for", "0s",
    ];
    bench.run(&follow).code(0);
}

#[test]
fn a_clean_by_a_timer_passes_over_a_job_that_is_gone() {
    let bench = Bench::new();
    bench.append("1\n");
    let clean = ["clean", "--idle-jobs", "1ns", "--repo", "shop", "--job", "gone"];
    bench.run(&clean).code(4).says("no job `gone`");
    bench.run(&[&clean[..], &["--auto"]].concat()).code(0);
}
