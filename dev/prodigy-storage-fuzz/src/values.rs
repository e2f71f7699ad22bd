//! Single values as a person types them: durations, and values of configuration keys in environment variables.

use std::ffi::OsString;

use prodigy_storage_config::{KEYS, Loader, MAX_DURATION, MapEnvironment, parse_duration};

/// The longest part of a value that a message shows, in characters.
const REPEATED: usize = 200;

/// Input: a value. It is parsed and printed back, or refused with its name and text.
pub fn values(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    duration(text);
    for spec in KEYS {
        variable(&spec.variable(), spec.path, text);
    }
}

fn duration(text: &str) {
    match parse_duration(text) {
        Ok(read) => {
            assert!(read <= MAX_DURATION, "{text:?} is {read:?}");
            let seconds = format!("{}s {}ns", read.as_secs(), read.subsec_nanos());
            assert_eq!(parse_duration(&seconds), Ok(read), "{text:?}");
        }
        Err(error) => {
            let shown = error.to_string();
            let plain = |c: &char| c.is_ascii_alphanumeric() || *c == ' ';
            if text.trim().chars().all(|c| plain(&c)) && text.len() < REPEATED {
                assert!(shown.contains(text.trim()), "{shown:?} does not name {text:?}");
            }
        }
    }
}

fn variable(name: &str, key: &str, text: &str) {
    let load = |value: OsString| {
        let environment = MapEnvironment::new().with("HOME", "/home/ada").with(name, value);
        Loader::new(environment).load()
    };
    match load(text.into()) {
        Ok(loaded) => {
            let read = loaded.effective().find(|(spec, ..)| spec.path == key);
            let Some((_, read, origin)) = read.map(|(spec, read, origin)| (spec, read, origin.to_string()))
            else {
                return;
            };
            if origin.contains(name) {
                let again = load(read.clone().into()).unwrap();
                assert_eq!(again.config, loaded.config, "{key}: {text:?} is read as {read:?}");
            }
        }
        Err(errors) => {
            let names =
                |error: &prodigy_storage_config::ConfigError| error.origin().to_string().contains(name);
            assert!(errors.iter().all(names), "{errors}");
            assert!(
                !errors.to_string().chars().any(|c| c.is_control() && c != '\n'),
                "{errors:?}"
            );
        }
    }
}
