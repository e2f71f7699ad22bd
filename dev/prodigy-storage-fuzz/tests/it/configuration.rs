//! Refused configuration files: the message has a line number, and no input overflows the stack.

use prodigy_storage_config::StorageConfig;

fn why(yaml: &str) -> String {
    StorageConfig::from_yaml(yaml).unwrap_err().to_string()
}

fn why_toml(toml: &str) -> String {
    StorageConfig::from_toml(toml).unwrap_err().to_string()
}

#[test]
fn nesting_ends_at_64() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        // Each parser also has a nesting limit of its own, which this text exceeds before the limit of the
        // configuration.
        let shown = why(&format!("storage:\n  {text}"));
        assert!(
            shown.contains("nested") || shown.contains("recursion limit"),
            "{shown}"
        );
    }
    for text in ["[".repeat(100_000), "{a=".repeat(100_000)] {
        let shown = why_toml(&format!("storage = {text}"));
        assert!(shown.contains("nested") || shown.contains("recurs"), "{shown}");
    }
    assert!(why_toml(&format!("{} = 1", vec!["a"; 100_000].join("."))).contains("nested"));
}

#[test]
fn numbers_that_nothing_holds_are_refused() {
    for number in ["1e999", &"9".repeat(400), "-1", ".inf", ".nan", "0x1p9"] {
        for key in ["connection_pool_size", "timeout"] {
            assert!(
                why(&format!("storage:\n  {key}: {number}\n")).contains(key),
                "{number}"
            );
        }
    }
    assert!(
        why_toml(&format!(
            "[storage]\nconnection_pool_size = {}\n",
            "9".repeat(400)
        ))
        .contains("connection_pool_size")
    );
}

#[test]
fn a_key_that_stands_twice_is_refused_with_both_places() {
    let shown = why("storage:\n  timeout: 1s\n  timeout: 2s\n");
    assert!(
        shown.contains("`timeout` is set twice") && shown.contains(":2:"),
        "{shown}"
    );
    let shown = why_toml("[storage]\ntimeout = \"1s\"\ntimeout = \"2s\"\n");
    assert!(shown.contains("set twice") && shown.contains(":2:"), "{shown}");
}

#[test]
fn marks_line_ends_and_bytes_of_other_systems() {
    let timeout = |text: &str| StorageConfig::from_yaml(text).map(|config| config.timeout.as_secs());
    assert_eq!(timeout("\u{feff}storage:\n  timeout: 7s\n").ok(), Some(7));
    assert_eq!(timeout("storage:\r\n  timeout: 7s\r\n").ok(), Some(7));
    let toml = |text: &str| StorageConfig::from_toml(text).map(|config| config.timeout.as_secs());
    assert_eq!(toml("\u{feff}[storage]\ntimeout = \"7s\"\n").ok(), Some(7));
    assert_eq!(toml("[storage]\r\ntimeout = \"7s\"\r\n").ok(), Some(7));
    assert!(timeout("storage:\n  timeout: \0\n").is_err());
    assert!(toml("[storage]\ntimeout = \"\0\"\n").is_err());
    for empty in ["", "\n\n\n", "# nothing\n"] {
        assert_eq!(StorageConfig::from_yaml(empty).unwrap(), StorageConfig::default());
        assert_eq!(StorageConfig::from_toml(empty).unwrap(), StorageConfig::default());
    }
}

#[test]
fn anchors_share_and_merges_are_counted() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(", "));
    }
    assert!(why(&format!("{text}storage: *a39\n")).contains("`storage` is not a section"));
    let keys: String = (0..5000).map(|key| format!("k{key}: 1, ")).collect();
    let merges = "  - {<<: *m}\n".repeat(20_000);
    assert!(why(&format!("m: &m {{{keys}}}\nlist:\n{merges}")).contains("merge keys"));
}
