//! `backend: postgres` through the tool.

use crate::server::Server;
use crate::support::Bench;

/// A made-up password: the private server accepts every connection.
const PASSWORD: &str = "s3cret";

fn bench(server: &Server) -> Bench {
    let url = server.url().replace("app@", &format!("app:{PASSWORD}@"));
    Bench::new()
        .with("PRODIGY_STORAGE_TYPE", "postgres")
        .with("PRODIGY_STORAGE_URL", &url)
}

#[test]
fn the_schema_is_shown_and_migrated() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    let before = bench.run(&["schema", "show"]).code(1).out;
    assert!(
        before.starts_with("version 0, and this program needs "),
        "{before}"
    );
    bench.run(&["usage"]).code(4).says("schema migrate");
    bench.run(&["schema", "migrate"]).code(0);
    bench.run(&["schema", "migrate"]).code(0);
    let after = bench.run(&["schema", "show", "--json"]).code(0).json();
    assert!(after["found"].as_i64() > Some(0));
    assert_eq!(after["found"], after["wanted"]);
    bench.run(&["usage"]).code(0);
    let other = Bench::of_memory();
    other
        .run(&["schema", "show"])
        .code(1)
        .says("only the `postgres` backend has a schema");
}

#[test]
fn everything_is_stored_and_read_and_no_password_is_shown() {
    let Some(server) = Server::start() else { return };
    let bench = bench(&server);
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let run = |command: &[&str], input: &str| {
        let arguments: Vec<&str> = command.iter().chain(&job).copied().collect();
        bench.feed(&arguments, input).code(0)
    };
    assert_eq!(run(&["events", "cat"], "").lines().len(), 2);
    run(&["checkpoint", "save", "--phase", "map"], "{\"done\":2}");
    assert!(
        run(&["checkpoint", "show", "--phase", "map"], "")
            .out
            .contains("\"done\"")
    );
    run(&["dlq", "push"], "{\"item_id\":\"a\",\"item_data\":1}\n");
    assert!(run(&["dlq", "list"], "").out.contains('a'));
    bench
        .run(&["lock", "run", "shop/job/resume", "--", "true"])
        .code(0);
    assert!(
        bench
            .run(&["lock", "list"])
            .code(0)
            .out
            .contains("shop/job/resume")
    );
    bench.run(&["health"]).code(0);
    assert!(
        bench
            .run(&["job", "list", "--repo", "shop"])
            .code(0)
            .out
            .contains("job")
    );

    let shown = bench.run(&["config", "show", "--origin"]).code(0);
    assert!(shown.out.contains("postgresql://app:***@"), "{}", shown.out);
    let broken = bench.with(
        "PRODIGY_STORAGE_URL",
        &format!("postgresql://app:{PASSWORD}@127.0.0.1:1/jobs"),
    );
    let failed = broken.run(&["usage"]).code(1);
    for run in [shown, failed] {
        assert!(
            !run.out.contains(PASSWORD) && !run.err.contains(PASSWORD),
            "{}{}",
            run.out,
            run.err
        );
    }
}

#[test]
fn a_job_is_copied_from_files_to_the_database_and_back() {
    let Some(server) = Server::start() else { return };
    let files = Bench::new().with("PGPASSWORD", PASSWORD);
    let job = ["--repo", "shop", "--job", "job"];
    files.append("{\"n\":1}\n{\"n\":2}\n");
    let end = ["events", "end"];
    let cursor = files.run(&[&end[..], &job].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    files.feed(&[&save[..], &job].concat(), "2").code(0);
    files.append("{\"n\":3}\n");
    files
        .feed(
            &[&["dlq", "push"][..], &job].concat(),
            "{\"item_id\":\"a\",\"item_data\":1}\n",
        )
        .code(0);
    let there = files
        .run(&["copy", "--to", &server.url(), "--json"])
        .code(0)
        .json();
    assert_eq!((&there["events"], &there["letters"]), (&3.into(), &1.into()));

    let database = bench(&server);
    let behind = |bench: &Bench, more: &[&str]| {
        let shown = bench.run(&[more, &["checkpoint", "show"], &job].concat()).code(0);
        let cursor = shown.json()["cursor"].as_str().unwrap().to_owned();
        let follow = ["events", "follow", "--for", "0s", "--cursor", &cursor];
        let found = bench.run(&[more, &follow[..], &job].concat()).code(0).jsonl();
        found
            .iter()
            .map(|event| event["event"]["n"].as_i64())
            .collect::<Vec<_>>()
    };
    assert_eq!(behind(&database, &[]), [Some(3)]);
    let folder = database.path("back");
    let folder = folder.to_str().unwrap();
    let back = database.run(&["copy", "--to", folder, "--json"]).code(0).json();
    assert_eq!(back["checksum"], there["checksum"]);
    assert_eq!(behind(&files, &["--base-dir", folder]), [Some(3)]);
    // A second copy goes into another schema of the same server.
    let other = ["copy", "--to", &server.url(), "--schema", "other", "--json"];
    let second = database.run(&other).code(0).json();
    assert_eq!(second["checksum"], there["checksum"]);
    let itself = database.run(&["copy", "--to", &server.url()]).code(1);
    itself.says("the same store");
}
