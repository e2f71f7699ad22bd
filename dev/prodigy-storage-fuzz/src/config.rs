//! Configuration files: each is refused with a position, or read, written, and read back as the same.

use prodigy_storage_config::{ConfigErrors, StorageConfig};

/// The longest description of an error in a file.
const LONGEST_LINE: usize = 4096;

/// Input: a YAML file.
pub fn config_yaml(bytes: &[u8]) {
    check(bytes, StorageConfig::from_yaml);
}

/// Input: a TOML file.
pub fn config_toml(bytes: &[u8]) {
    check(bytes, StorageConfig::from_toml);
}

fn check(bytes: &[u8], parse: fn(&str) -> Result<StorageConfig, ConfigErrors>) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse(text) {
        Ok(config) => reads_back(&config),
        Err(errors) => points_at(text, &errors),
    }
    assert_eq!(parse(text).ok(), parse(text).ok(), "the same text says the same");
}

fn reads_back(config: &StorageConfig) {
    let yaml = config.to_yaml().unwrap();
    assert_eq!(
        StorageConfig::from_yaml(&yaml).as_ref().unwrap(),
        config,
        "{yaml}"
    );
    let toml = config.to_toml().unwrap();
    assert_eq!(
        StorageConfig::from_toml(&toml).as_ref().unwrap(),
        config,
        "{toml}"
    );
}

fn points_at(text: &str, errors: &ConfigErrors) {
    assert!(errors.len() > 0);
    // In YAML, a carriage return alone ends a line.
    let lines = text.split(['\n', '\r']).count();
    for error in errors {
        let line = error.line().unwrap();
        assert!((1..=lines + 1).contains(&line), "{error}: line {line} of {lines}");
        let shown = error.to_string();
        assert!(
            shown.len() < LONGEST_LINE,
            "{} bytes say what is wrong",
            shown.len()
        );
        let plain = |char: char| char == '\n' || !char.is_control();
        assert!(
            shown.chars().all(plain),
            "control characters are not shown: {shown:?}"
        );
    }
}
