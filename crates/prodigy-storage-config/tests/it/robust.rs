//! Property tests: parsing of any text ends, with a result or with a useful error.

use prodigy_storage_config::StorageConfig;
use proptest::prelude::*;

/// A text that is similar to a configuration, so that it reaches most code of the parsers.
fn near_miss() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "storage",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "retry_policy",
        "timeout",
        "max_retries",
        " ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ",",
        "- ",
        "&a ",
        "*a",
        "<<",
        "!!str ",
        "!x ",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "---\n",
        "...",
        "?",
        "%",
        "1",
        "30s",
        "=",
        ".",
        "\r\n",
        "\u{feff}",
        "é",
        "~",
        "[[",
        "]]",
        "'''",
        "\"\"\"",
        "\\",
        "\0",
        "0x",
        "true",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_is_too_strange(text in prop_oneof![near_miss(), any::<String>()]) {
        for result in [StorageConfig::from_yaml(&text), StorageConfig::from_toml(&text)] {
            if let Err(errors) = result {
                prop_assert!(errors.len() > 0);
                let lines = text.split('\n').count();
                for error in &errors {
                    prop_assert!(error.line().is_some_and(|line| (1..=lines + 1).contains(&line)), "{} of {}", error, lines);
                    prop_assert!(!error.to_string().contains('\0'));
                }
            }
        }
    }
}

/// Parsing takes time and memory in proportion to the length of the text. If aliases or nesting were expanded, it
/// would take hours, or overflow the stack.
#[test]
fn bombs_do_not_go_off() {
    let mut bombs = Vec::new();
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(", "));
    }
    bombs.push((text + "storage: *a39\n", true));
    let keys: String = (0..5000).map(|key| format!("k{key}: 1, ")).collect();
    let merges = "  - {<<: *m}\n".repeat(20_000);
    bombs.push((format!("m: &m {{{keys}}}\nlist:\n{merges}"), true));
    let many = vec!["*m"; 50_000].join(", ");
    bombs.push((
        format!("m: &m {{a: 1}}\nl: &l [{many}]\nstorage: {{<<: *l}}\n"),
        true,
    ));
    bombs.push(("[".repeat(500_000), true));
    bombs.push(("- ".repeat(300_000), true));
    bombs.push((format!("storage: {}", "{a: ".repeat(100_000)), true));
    bombs.push((format!("{} = 1", vec!["a"; 400_000].join(".")), false));
    bombs.push((format!("[{}]", vec!["a"; 400_000].join(".")), false));
    bombs.push((format!("a = {}", "[".repeat(500_000)), false));
    bombs.push((format!("a = {}", "{a=".repeat(300_000)), false));
    for (text, yaml) in bombs {
        let result = if yaml {
            StorageConfig::from_yaml(&text)
        } else {
            StorageConfig::from_toml(&text)
        };
        let error = result.map(|_| ()).unwrap_err().to_string();
        assert!(error.len() < 2000, "{} bytes", error.len());
    }
}

/// A file with thousands of unknown keys is probably the wrong file. It is read in time proportional to its
/// length, and only its first unknown keys are reported one by one.
#[test]
fn very_many_unknown_keys_are_counted_and_the_first_are_named() {
    let keys = |line: fn(usize) -> String| (0..60_000).map(line).collect::<String>();
    let yaml = format!("storage:\n{}", keys(|key| format!("  key{key}: 1\n")));
    let toml = format!("[storage]\n{}", keys(|key| format!("key{key} = 1\n")));
    for errors in [
        StorageConfig::from_yaml(&yaml).unwrap_err(),
        StorageConfig::from_toml(&toml).unwrap_err(),
    ] {
        assert_eq!(errors.iter().count(), 51);
        let text = errors.to_string();
        assert!(
            text.contains("unknown key `storage.key0`") || text.contains("unknown key `key0`"),
            "{text}"
        );
        assert!(text.contains("59950 more unknown keys, from here on"), "{text}");
    }
    // Keys of other programs at the top level are not errors.
    let yaml = keys(|key| format!("key{key}: 1\n")) + "storage:\n  timeout: 7s\n";
    let config = StorageConfig::from_yaml(&yaml).unwrap();
    assert_eq!(config.timeout, std::time::Duration::from_secs(7));
}
