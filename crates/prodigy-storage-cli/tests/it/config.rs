//! Tests of `config`.

use crate::support::Bench;

#[test]
fn what_is_shown_can_be_read_back() {
    let bench = Bench::new()
        .with("PRODIGY__STORAGE__TIMEOUT", "1m 30s")
        .with("PRODIGY__STORAGE__CACHE_CONFIG__MAX_ENTRIES", "7");
    let shown = bench
        .run(&["config", "show", "--base-dir", "/srv/a: b # c"])
        .code(0)
        .out;
    let file = bench.write("shown.yaml", &shown);
    let again = Bench::new()
        .run(&["config", "show", "--config", file.to_str().unwrap()])
        .code(0)
        .out;
    assert_eq!(again, shown);
    assert!(
        shown.contains("timeout: \"1m 30s\"") && shown.contains("max_entries: 7"),
        "{shown}"
    );
}

#[test]
fn origins_are_told() {
    let bench = Bench::new().with("PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES", "5");
    bench.write("home/.prodigy/config.toml", "[storage]\ntimeout = \"9s\"\n");
    let told = bench
        .run(&["config", "show", "--origin", "--json", "--base-dir", "/srv/x"])
        .code(0)
        .json();
    assert_eq!(told["timeout"]["value"], "9s");
    assert!(
        told["timeout"]["origin"]
            .as_str()
            .unwrap()
            .ends_with("config.toml:2:1"),
        "{told}"
    );
    assert_eq!(told["retry_policy.max_retries"]["value"], 5);
    let origin = told["retry_policy.max_retries"]["origin"].as_str().unwrap();
    assert_eq!(origin, "variable PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES");
    assert!(
        told["backend_config.base_dir"]["origin"]
            .as_str()
            .unwrap()
            .starts_with("flag")
    );
    assert_eq!(told["enable_cache"]["origin"], "default");
    let text = bench.run(&["config", "show", "--origin"]).code(0).out;
    assert!(
        text.contains("# variable PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES"),
        "{text}"
    );
    let nested = bench.run(&["config", "show", "--json"]).code(0).json();
    assert_eq!(nested["storage"]["retry_policy"]["max_retries"], 5);
    assert_eq!(nested["storage"]["enable_locking"], true);
}

#[test]
fn a_valid_one_is_said_to_be_and_deprecations_are_warned_of() {
    let bench = Bench::new().with("PRODIGY_STORAGE_DIR", "/srv/old");
    bench
        .run(&["config", "check"])
        .code(0)
        .says("warning: variable PRODIGY_STORAGE_DIR is deprecated");
    let told = bench.run(&["config", "check", "--json"]).code(0).json();
    assert_eq!(told["valid"], true);
    assert_eq!(told["notices"].as_array().unwrap().len(), 1);
}

#[test]
fn base_dir_wins_over_everything() {
    let bench = Bench::new().with("PRODIGY_STORAGE_BASE_PATH", "/nowhere/at/all");
    let root = bench.path("elsewhere");
    let root = root.to_str().unwrap();
    bench
        .feed(
            &[
                "events",
                "append",
                "--repo",
                "r",
                "--job",
                "j",
                "--base-dir",
                root,
            ],
            "1\n",
        )
        .code(0);
    assert!(bench.path("elsewhere/events/r/j").is_dir());
}

#[test]
fn a_key_of_storage_at_the_top_level_is_an_error_of_a_check() {
    let bench = Bench::new();
    let file = bench.write(
        "config.yaml",
        "backend_config:\n  base_dir: /srv/x\ntimeout: 9s\n",
    );
    let file = file.to_str().unwrap();
    let run = bench.run(&["config", "check", file]).code(1);
    assert!(run.out.contains("2 keys set nothing"), "{}", run.out);
    run.says("error: `backend_config`").says("error: `timeout`");
    let told = bench.run(&["config", "check", file, "--json"]).code(1).json();
    assert_eq!(told["valid"], false);
    // These keys may belong to another program that uses the same file, so other commands only warn.
    bench
        .run(&["config", "show", "--config", file])
        .code(0)
        .says("warning: `timeout`");
    let misspelt = bench.write("misspelt.yaml", "storag:\n  timeout: 9s\n");
    bench
        .run(&["config", "check", misspelt.to_str().unwrap()])
        .code(1)
        .says("error: ");
}

#[test]
fn a_configuration_is_checked_from_standard_input() {
    let bench = Bench::new();
    let check = ["config", "check", "-"];
    for text in [
        "storage:\n  durability: relaxed\n",
        "[storage]\ndurability = \"relaxed\"\n",
        "# none\n",
        "",
    ] {
        bench
            .feed(&check, text)
            .code(0)
            .prints("the configuration is valid (1 file read)");
    }
    for text in [
        "storage:\n  durabilty: relaxed\n",
        "[storage]\ndurabilty = \"relaxed\"\n",
    ] {
        bench.feed(&check, text).code(2).says("durabilty");
    }
}
