//! Tests that no message contains input data, and that a message about an unsafe root has a hint.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::Bench;

const SECRET: &str = "canary-f00d";

#[test]
fn no_message_shows_what_was_read_or_stored() {
    let bench = Bench::new();
    let job = ["--repo", "shop", "--job", "job"];
    let with = |arguments: &[&'static str]| [arguments, &job[..]].concat();
    bench.append(&format!("\"{SECRET}\"\n{{\"{SECRET}\":1}}\n"));
    let quoted = format!("\"{SECRET}\"");
    let mut failed = 0;
    for (arguments, input) in [
        (vec!["events", "append"], format!("{quoted}\n{SECRET}\n")),
        (vec!["events", "append", "--with-ids"], format!("{quoted}\n")),
        (
            vec!["events", "append", "--with-ids"],
            format!("{{\"id\":[{quoted}]}}\n"),
        ),
        (
            vec!["events", "append", "--with-ids"],
            format!("{{\"event\":{quoted}}}\n"),
        ),
        (vec!["dlq", "push"], format!("{quoted}\n")),
        (
            vec!["dlq", "push"],
            format!("{{\"item_id\":\"a\",\"item_data\":1,\"first_attempt\":{quoted}}}\n"),
        ),
        (vec!["dlq", "push"], format!("{{\"item_data\":{quoted}}}\n")),
        (vec!["checkpoint", "save", "--phase", "map"], SECRET.to_owned()),
    ] {
        let run = bench.feed(&with(&arguments), input.clone());
        assert!(!run.err.contains(SECRET), "{arguments:?} {input}: {}", run.err);
        failed += usize::from(run.code != Some(0));
    }
    assert_eq!(failed, 8);
    // The message about damage names the file and the offset.
    let segment = bench.only_file("events/shop/job", "events-", ".jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[120] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let run = bench.run(&with(&["events", "cat"]));
    assert!(
        run.err.contains("offset") || run.err.contains("byte"),
        "{}",
        run.err
    );
    assert!(!run.err.contains(SECRET), "{}", run.err);
}

#[test]
fn a_root_that_any_user_may_write_to_is_refused_with_the_command_that_mends_it() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.root()).unwrap();
    std::fs::set_permissions(bench.root(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let run = bench.feed(&["events", "append", "--repo", "shop", "--job", "job"], "1\n");
    assert_ne!(run.code, Some(0));
    run.says("any user may write to it")
        .says("chmod o-w")
        .says("allow_shared_root");
    assert_eq!(std::fs::read_dir(bench.root()).unwrap().count(), 0);
}

#[test]
fn a_link_in_the_root_is_told_and_not_followed() {
    let bench = Bench::new();
    bench.append("1\n");
    let outside = bench.write("outside/file", "keep");
    std::fs::rename(bench.root().join("events/shop/job"), bench.path("outside/job")).unwrap();
    symlink(bench.path("outside/job"), bench.root().join("events/shop/job")).unwrap();
    for arguments in [
        ["events", "cat", "--repo", "shop", "--job", "job"],
        ["events", "append", "--repo", "shop", "--job", "job"],
    ] {
        let run = bench.feed(&arguments, "2\n");
        assert_ne!(run.code, Some(0));
        run.says("link");
    }
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "keep");
    assert_eq!(std::fs::read_dir(bench.path("outside/job")).unwrap().count(), 1);
}
