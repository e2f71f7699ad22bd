//! Tests of `checkpoint`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{BootId, Clock, Phase, SaveOptions, Storage, Timestamp, Uptime};

use crate::support::Bench;

fn of<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["checkpoint", command, "--repo", "shop", "--job", "job"];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

fn save(bench: &Bench, phase: &str, state: &str) -> serde_json::Value {
    bench
        .feed(&of("save", &["--phase", phase, "--json"]), state)
        .code(0)
        .json()
}

/// Flips a byte of the state in a checkpoint's file.
fn damage(bench: &Bench, saved: &serde_json::Value) -> String {
    let name = saved["document"].as_str().unwrap().to_owned();
    let path = bench.root().join("state/shop/mapreduce/jobs/job").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"\"data\"").unwrap() + 8;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
    name
}

#[test]
fn any_value_comes_back_byte_for_byte() {
    let bench = Bench::new();
    for state in [
        "{\"a\": [1.0, 1e300, 123456789012345678901234567890],\"b\":\"\\u00e9\"}",
        "7",
        "null",
        "\"text\"",
        "[]",
    ] {
        save(&bench, "map", state);
        let shown = bench.run(&of("show", &["--phase", "map", "--payload"])).code(0);
        assert_eq!(shown.out, format!("{state}\n"));
    }
    bench
        .feed(&of("save", &["--phase", "map"]), "{\"a\":")
        .code(1)
        .says("not a JSON value");
    bench
        .feed(&of("save", &["--phase", "map"]), b"\"\xff\"".to_vec())
        .code(1)
        .says("UTF-8");
}

#[test]
fn without_a_phase_the_newest_of_all_is_shown() {
    let bench = Bench::new();
    for phase in ["reduce", "setup", "map"] {
        let saved = save(&bench, phase, &format!("\"{phase}\""));
        let shown = bench.run(&of("show", &[])).code(0).json();
        assert_eq!(shown["phase"], phase);
        assert_eq!(shown["data"], phase);
        assert_eq!(shown["revision"], saved["revision"]);
        assert_eq!(shown["document"], saved["document"]);
    }
}

/// A clock that goes back by an hour each time it is read.
#[derive(Debug)]
struct Backwards(AtomicI64);

impl Clock for Backwards {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.fetch_sub(3_600_000_000_000, Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime {
            boot: BootId::from_u128(1),
            since: Duration::from_secs(1),
        }
    }
}

#[test]
fn without_a_phase_the_one_that_was_saved_last_is_shown_whatever_the_clock_said() {
    let bench = Bench::new();
    let clock = Arc::new(Backwards(AtomicI64::new(1_800_000_000_000_000_000)));
    let open = || {
        let builder = Storage::builder().environment(MapEnvironment::new());
        let builder = builder
            .home(bench.path("home"))
            .project_dir(bench.path("project"));
        builder
            .base_dir(bench.root())
            .clock(Arc::clone(&clock) as _)
            .open()
    };
    let handles = [open().unwrap(), open().unwrap()];
    let (setup, map, reduce) = (Phase::Setup, Phase::Map, Phase::Reduce);
    let phases = [setup, map, setup, reduce, map, reduce, setup];
    for (phase, storage) in phases.into_iter().zip(handles.iter().cycle()) {
        let checkpoints = storage.repo("shop").unwrap().job("job").unwrap().checkpoints();
        let saved = checkpoints
            .save(phase, &phase.to_string(), SaveOptions::default())
            .unwrap();
        let shown = bench.run(&of("show", &[])).code(0).json();
        assert_eq!(shown["data"], phase.to_string());
        assert_eq!(shown["revision"], saved.revision.to_string());
    }
}

#[test]
fn a_damaged_one_is_passed_over_with_a_warning_and_strict_says_so() {
    let bench = Bench::new();
    save(&bench, "map", "[\"older\"]");
    let newer = save(&bench, "map", "[\"newer\"]");
    let name = damage(&bench, &newer);
    for phase in [&["--phase", "map"][..], &[]] {
        let arguments = of("show", &[phase, &["--payload"]].concat());
        let shown = bench.run(&arguments).code(0).says("warning: ").says(&name);
        assert_eq!(shown.out, "[\"older\"]\n");
        let strict = bench.run(&[&arguments[..], &["--strict"]].concat()).code(5);
        assert_eq!(strict.out, shown.out);
    }
}

#[test]
fn none_valid_is_damage_and_none_at_all_is_missing() {
    let bench = Bench::new();
    bench.run(&of("show", &[])).code(4).says("no job `job`");
    bench.run(&of("list", &[])).code(4);
    assert!(!bench.root().exists());
    let saved = save(&bench, "map", "[1]");
    bench
        .run(&of("show", &["--phase", "reduce"]))
        .code(4)
        .says("no reduce checkpoint");
    let name = damage(&bench, &saved);
    let run = bench.run(&of("show", &[])).code(5).says(&name);
    assert!(run.out.is_empty());
    // A valid checkpoint of another phase is printed, and the damage is reported.
    save(&bench, "setup", "{}");
    bench.run(&of("show", &["--payload"])).code(0).says(&name);
    bench.run(&of("show", &["--payload", "--strict"])).code(5);
}

#[test]
fn a_revision_that_is_not_the_latest_is_a_conflict() {
    let bench = Bench::new();
    let with = |expected: &str, state: &str| {
        bench.feed(
            &of(
                "save",
                &["--phase", "map", "--json", "--expected-revision", expected],
            ),
            state,
        )
    };
    let first = with("absent", "1").code(0).json();
    let revision = first["revision"].as_str().unwrap();
    with("absent", "2").code(1).says("conflict");
    with(revision, "2").code(0);
    with(revision, "3").code(1).says("conflict");
    with("latest", "3").code(2).says("absent");
    assert_eq!(bench.run(&of("show", &["--payload"])).out, "2\n");
}

#[test]
fn cursor_and_fencing_token_are_kept() {
    let bench = Bench::new();
    bench.append("1\n");
    let followed = bench.run(&[
        "events", "follow", "--repo", "shop", "--job", "job", "--for", "0s",
    ]);
    let cursor = followed.err.trim().strip_prefix("cursor: ").unwrap().to_owned();
    bench
        .feed(
            &of("save", &["--phase", "map", "--cursor", &cursor, "--fencing", "7"]),
            "1",
        )
        .code(0);
    let shown = bench.run(&of("show", &[])).code(0).json();
    assert_eq!(
        (&shown["cursor"], &shown["fencing"]),
        (&cursor.as_str().into(), &7.into())
    );
    bench
        .feed(&of("save", &["--phase", "map", "--fencing", "6"]), "2")
        .code(1)
        .says("fenced off");
}

#[test]
fn a_save_without_a_token_does_not_remove_the_protection() {
    let bench = Bench::new();
    let save = |more: &[&str]| bench.feed(&of("save", more), "1");
    save(&["--phase", "map", "--fencing", "5"]).code(0);
    save(&["--phase", "map"]).code(0);
    save(&["--phase", "map", "--fencing", "3"])
        .code(1)
        .says("fenced off");
    save(&["--phase", "reduce", "--fencing", "3"])
        .code(1)
        .says("fenced off");
    bench.run(&of("prune", &["--keep", "1"])).code(0);
    save(&["--phase", "map", "--fencing", "3"])
        .code(1)
        .says("fenced off");
    // Another lock has its own tokens.
    save(&["--phase", "map", "--fencing", "shop/other=1"]).code(0);
    let shown = bench.run(&of("show", &["--phase", "map"])).code(0).json();
    assert_eq!(
        (&shown["fencing"], &shown["fencing_lock"]),
        (&1.into(), &"shop/other".into())
    );
    for wrong in ["0", "", "a=", "x"] {
        save(&["--phase", "map", "--fencing", wrong]).code(2);
    }
}

#[test]
fn a_token_with_its_origin_needs_the_name_of_its_lock() {
    let bench = Bench::new();
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = |token: &str| {
        format!("echo 1 | {tool} checkpoint save --repo shop --job job --phase map --fencing {token}")
    };
    let save = |token: &str| bench.run(&["lock", "run", "l", "--", "sh", "-c", &script(token)]);
    save("\"$PRODIGY_LOCK_FENCING\"")
        .code(2)
        .says("\"$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING\"");
    save("\"$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING\"").code(0);
}

#[test]
fn a_number_that_would_fence_off_every_later_holder_is_refused() {
    let bench = Bench::new();
    bench
        .feed(
            &of("save", &["--phase", "map", "--fencing", "l=18446744073709551615"]),
            "1",
        )
        .code(2)
        .says("fence off every later holder");
}

#[test]
fn a_state_past_the_limit_is_refused_and_no_more_than_the_limit_is_read() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "200000");
    let state = format!("\"{}\"", "x".repeat(190_000));
    save(&bench, "map", &state);
    // The input is endless: a reader of the whole input would never return.
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let refused = bench
        .std(of("save", &["--phase", "map"]))
        .stdin(zeros)
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("`backend_config.max_document_size`"), "{said}");
    let shown = bench.run(&of("show", &["--phase", "map", "--payload"])).code(0);
    assert_eq!(shown.out, format!("{state}\n"));
}

#[test]
fn a_checkpoint_past_the_readers_limit_is_no_damage_and_is_read_with_a_higher_one() {
    let bench = Bench::new();
    let state = format!("\"{}\"", "x".repeat(3 << 20));
    save(&bench, "map", &state);
    let mut low = bench.std(of("show", &["--phase", "map"]));
    low.env("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "2000000");
    crate::support::run(low, "")
        .code(1)
        .says("larger than `max_document_size`")
        .says("raise `backend_config.max_document_size`");
    let mut repair = bench.std(["doctor", "--repair"]);
    repair.env("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "2000000");
    let run = crate::support::run(repair, "");
    assert!(run.err.contains("max_document_size") || run.out.contains("max_document_size"));
    let shown = bench.run(&of("show", &["--phase", "map", "--payload"])).code(0);
    assert_eq!(shown.out, format!("{state}\n"));
}

#[test]
fn one_checkpoint_is_deleted_by_its_name() {
    let bench = Bench::new();
    let names: Vec<String> = ["1", "2", "3"]
        .map(|state| {
            save(&bench, "map", state)["document"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .into();
    bench.run(&of("delete", &[&names[2]])).code(0);
    bench
        .run(&of("delete", &[&names[2]]))
        .code(4)
        .says("no checkpoint");
    bench.run(&of("delete", &["../map"])).code(4);
    assert_eq!(bench.run(&of("show", &[])).code(0).json()["data"], 2);
    let listed = bench.run(&of("list", &["--json"])).code(0).jsonl();
    assert_eq!(listed.len(), 2, "{listed:?}");
}

#[test]
fn a_state_over_a_tenth_of_the_limit_is_a_warning() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_DOCUMENT_SIZE", "10000");
    let save = |bytes: usize| {
        let state = serde_json::json!("x".repeat(bytes)).to_string();
        bench.feed(&of("save", &["--phase", "map"]), state)
    };
    assert!(!save(500).code(0).err.contains("a tenth"));
    save(1_500)
        .code(0)
        .says("warning: ")
        .says("a tenth of `max_document_size`");
    save(10_500).code(1).says("max_document_size");
}

#[test]
fn a_phase_of_your_own_is_saved_shown_listed_and_pruned() {
    let bench = Bench::new();
    for (phase, state) in [
        ("map", "1"),
        ("review", "2"),
        ("review", "3"),
        ("setup", "4"),
        ("ship-it", "5"),
    ] {
        let saved = save(&bench, phase, state);
        assert_eq!(saved["phase"], phase);
        let shown = bench.run(&of("show", &[])).code(0).json();
        assert_eq!(
            (&shown["phase"], shown["data"].to_string()),
            (&saved["phase"], state.to_owned())
        );
    }
    let shown = bench.run(&of("show", &["--phase", "review"])).code(0).json();
    assert_eq!(shown["data"], 3);
    let listed = bench
        .run(&of("list", &["--phase", "review", "--json"]))
        .code(0)
        .jsonl();
    assert_eq!(listed.len(), 2, "{listed:?}");
    bench.run(&of("prune", &["--keep", "1"])).code(0);
    assert_eq!(bench.run(&of("list", &["--json"])).code(0).jsonl().len(), 4);
    bench.run(&of("show", &["--phase", "none"])).code(4);
}

#[test]
fn a_checkpoint_is_found_by_a_name_of_your_own() {
    let bench = Bench::new();
    for (phase, state) in [("map", "1"), ("setup", "2"), ("review", "3")] {
        bench
            .feed(&of("save", &["--phase", phase, "--key", phase]), state)
            .code(0);
        save(&bench, phase, "0");
    }
    for (key, state) in [("map", 1), ("review", 3)] {
        let shown = bench.run(&of("show", &["--key", key])).code(0).json();
        assert_eq!(shown["data"], state);
    }
    // The setup phase keeps only its last checkpoint, which was saved without a name.
    bench
        .run(&of("show", &["--key", "setup"]))
        .code(4)
        .says("under the name `setup`");
    bench.run(&of("show", &["--key", "a/b"])).code(2);
}

#[test]
fn list_and_verify_read_each_checkpoint_and_end_with_5_if_one_is_damaged() {
    let bench = Bench::new();
    save(&bench, "setup", "1");
    let damaged = save(&bench, "map", "{\"a\":2}");
    let checksums = |command, code| -> Vec<String> {
        let found = bench.run(&of(command, &["--json"])).code(code).jsonl();
        found
            .iter()
            .map(|one| one["checksum"].as_str().unwrap().to_owned())
            .collect()
    };
    for command in ["list", "verify"] {
        assert_eq!(checksums(command, 0), ["valid", "valid"]);
    }
    let name = damage(&bench, &damaged);
    for command in ["list", "verify"] {
        let mut found = checksums(command, 5);
        found.sort();
        assert_eq!(found, ["mismatch", "valid"]);
        let table = bench
            .run(&of(command, &["--phase", "map"]))
            .code(5)
            .says(&name)
            .out;
        assert!(table.contains("mismatch  map-checkpoint-"), "{table}");
        Bench::new().run(&of(command, &[])).code(4).says("no job `job`");
    }
}

#[test]
fn diff_prints_what_differs_and_a_wrong_name_gets_the_nearest() {
    let bench = Bench::new();
    let name = |saved: serde_json::Value| saved["document"].as_str().unwrap().to_owned();
    let one = name(save(&bench, "map", "{\"done\":1,\"left\":[1,2],\"same\":0}"));
    let other = name(save(&bench, "map", "{\"done\":2,\"left\":[1],\"same\":0}"));
    let text = bench.run(&of("diff", &[&one, &other])).code(0).out;
    assert_eq!(text, "- done: 1\n+ done: 2\n- left.1: 2\n");
    let json = bench.run(&of("diff", &[&one, &other, "--json"])).code(0).jsonl();
    assert_eq!(json.len(), 2);
    assert_eq!(
        (&json[0]["path"], &json[0]["a"], &json[0]["b"]),
        (&"done".into(), &1.into(), &2.into())
    );
    assert_eq!(bench.run(&of("diff", &[&one, &one])).code(0).out, "");
    let wrong = one.replace("map", "mep");
    bench
        .run(&of("diff", &[&wrong, &other]))
        .code(4)
        .says("did you mean `map-checkpoint-");
    bench
        .run(&of("delete", &[&wrong]))
        .code(4)
        .says("the checkpoints are `map-checkpoint-");
}

#[test]
fn prune_may_keep_what_is_young() {
    let bench = Bench::new();
    for state in ["1", "2", "3"] {
        save(&bench, "map", state);
    }
    let prune = |more: &[&str]| {
        let arguments = [&["--keep", "1", "--json"], more].concat();
        bench.run(&of("prune", &arguments)).code(0).jsonl().len()
    };
    assert_eq!(prune(&["--older-than", "1h"]), 0);
    assert_eq!(prune(&["--older-than", "0s", "--dry-run"]), 2);
    assert_eq!(bench.run(&of("list", &["--json"])).jsonl().len(), 3);
    assert_eq!(prune(&["--older-than", "0s"]), 2);
    let left = bench.run(&of("show", &["--payload"])).code(0).out;
    assert_eq!(
        (left.as_str(), bench.run(&of("list", &["--json"])).jsonl().len()),
        ("3\n", 1)
    );
}

#[test]
fn an_unknown_name_of_a_checkpoint_is_answered_with_the_names_that_there_are() {
    let bench = Bench::new();
    let of = ["--repo", "shop", "--job", "job"];
    for key in ["before-merge", "after-merge"] {
        let save = [&["checkpoint", "save", "--phase", "map", "--key", key][..], &of].concat();
        bench.feed(&save, "1").code(0);
    }
    bench
        .run(&[&["checkpoint", "show", "--key", "before-mrege"][..], &of].concat())
        .code(4)
        .says("did you mean `before-merge`?")
        .says("`after-merge`");
}
