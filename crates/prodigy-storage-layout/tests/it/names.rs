use std::collections::HashSet;

use prodigy_storage_layout::{AgentId, JobId, LockName, NameProblem, RepoName, SessionId};
use proptest::prelude::*;

use crate::strategy;

fn problem(name: &str) -> NameProblem {
    RepoName::new(name).unwrap_err().reason()
}

#[test]
fn every_rule_has_its_own_reason() {
    assert_eq!(problem(""), NameProblem::Empty);
    assert_eq!(problem("."), NameProblem::Dots);
    assert_eq!(problem(".."), NameProblem::Dots);
    assert_eq!(problem("..."), NameProblem::LeadingDot);
    assert_eq!(problem(".git"), NameProblem::LeadingDot);
    assert_eq!(problem("é/b"), NameProblem::Separator { char: '/', at: 2 });
    assert_eq!(problem("a\\b"), NameProblem::Separator { char: '\\', at: 1 });
    assert_eq!(problem("e\u{301}"), NameProblem::NotNfc);
    assert_eq!(problem("LPT1.log"), NameProblem::ReservedOnWindows);
    for space in ['\u{a0}', '\u{2003}', '\u{3000}', '\u{2028}', '\u{2029}'] {
        assert_eq!(
            problem(&format!("a{space}b")),
            NameProblem::Space { char: space, at: 1 }
        );
    }
    assert_eq!(problem(" a"), NameProblem::Space { char: ' ', at: 0 });
    assert_eq!(problem("a "), NameProblem::Space { char: ' ', at: 1 });
    assert_eq!(problem(" "), NameProblem::Space { char: ' ', at: 0 });
    // In order: NUL, tab, escape, delete, a C1 control; soft hyphen, zero-width space, bidirectional override and
    // isolate, byte order mark, tag; a private-use character; an unassigned one.
    for control in [
        '\0',
        '\t',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{200b}',
        '\u{200d}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
        '\u{e000}',
        '\u{378}',
        '\u{10ffff}',
    ] {
        assert_eq!(
            problem(&format!("a{control}b")),
            NameProblem::Control { char: control, at: 1 }
        );
    }
}

#[test]
fn the_length_counts_bytes() {
    assert!(RepoName::new("x".repeat(128)).is_ok());
    assert_eq!(problem(&"x".repeat(129)), NameProblem::TooLong { bytes: 129 });
    assert!(RepoName::new("é".repeat(64)).is_ok());
    assert_eq!(problem(&"é".repeat(65)), NameProblem::TooLong { bytes: 130 });
    assert_eq!(problem(&"/".repeat(4096)), NameProblem::TooLong { bytes: 4096 });
}

#[test]
fn names_of_many_languages_and_shapes() {
    for name in [
        "shop",
        "Shop 2.0",
        "a..b",
        "a.",
        "-rf",
        "größe",
        "数据",
        "данные",
        "a:b*?\"<>|",
        "🦀",
        "com10",
    ] {
        assert_eq!(RepoName::new(name).unwrap().as_str(), name);
    }
}

#[test]
fn a_message_names_the_kind_and_the_rule() {
    assert_eq!(
        JobId::new("a\u{1b}[2Jb").unwrap_err().to_string(),
        r#"job id "a\u{1b}[2Jb" is refused: it holds the control or invisible character U+001B at byte 1"#
    );
    assert_eq!(
        AgentId::new("").unwrap_err().to_string(),
        r#"agent id "" is refused: it is empty"#
    );
    assert_eq!(SessionId::new("..").unwrap_err().kind(), "session id");
    let error = LockName::new("a/b/c/d/e").unwrap_err();
    assert_eq!(error.kind(), "lock name");
    assert_eq!(error.reason(), NameProblem::TooManyParts { parts: 5 });
}

#[test]
fn each_reason_has_a_hint() {
    let hints: HashSet<_> = [
        "",
        "..",
        ".a",
        "a/b",
        "\0",
        " a",
        "e\u{301}",
        "CON",
        &"x".repeat(200),
    ]
    .iter()
    .map(|name| RepoName::new(name).unwrap_err().hint())
    .chain(
        ["a//b", "a/b/c/d/e"]
            .iter()
            .map(|name| LockName::new(name).unwrap_err().hint()),
    )
    .collect();
    assert_eq!(hints.len(), 11);
}

#[test]
fn a_session_loses_its_prefix_once() {
    assert_eq!(SessionId::new("session-7").unwrap().as_str(), "7");
    assert_eq!(SessionId::new("7").unwrap().folder_name(), "session-7");
    assert_eq!(SessionId::new("session-session-7").unwrap().as_str(), "session-7");
    assert_eq!(
        SessionId::new("session-").unwrap_err().reason(),
        NameProblem::Empty
    );
    assert_eq!(
        SessionId::new("session-..").unwrap_err().reason(),
        NameProblem::Dots
    );
    assert_eq!(SessionId::new("session").unwrap().as_str(), "session");
    assert!(SessionId::new(format!("session-{}", "x".repeat(128))).is_ok());
}

#[test]
fn the_parts_of_a_lock_name() {
    let name = LockName::new("shop/mapreduce-7/resume").unwrap();
    assert_eq!(
        name.parts().collect::<Vec<_>>(),
        ["shop", "mapreduce-7", "resume"]
    );
    assert_eq!(LockName::new("one").unwrap().parts().count(), 1);
    for name in ["/a", "a/", "a//b", "/"] {
        assert_eq!(
            LockName::new(name).unwrap_err().reason(),
            NameProblem::EmptyPart,
            "{name}"
        );
    }
    assert_eq!(LockName::new("").unwrap_err().reason(), NameProblem::Empty);
    assert_eq!(LockName::new("a/../b").unwrap_err().reason(), NameProblem::Dots);
    let error = LockName::new("ab/c\0").unwrap_err();
    assert_eq!(error.reason(), NameProblem::Control { char: '\0', at: 4 });
}

#[test]
fn serde_checks_what_it_reads() {
    let name: RepoName = serde_json::from_str("\"my shop\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"my shop\"");
    let error = serde_json::from_str::<RepoName>("\"../x\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("path separator"), "{error}");
    assert!(serde_json::from_str::<LockName>("\"a//b\"").is_err());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_one_plain_path_component(text in strategy::text()) {
        if let Ok(name) = RepoName::new(&text) {
            prop_assert_eq!(name.as_str(), &text);
            let path = std::path::Path::new(name.as_str());
            let parts: Vec<_> = path.components().collect();
            prop_assert_eq!(parts, [std::path::Component::Normal(text.as_ref())]);
            prop_assert!((1..=128).contains(&text.len()) && !text.starts_with('.'));
            let refused = ['/', '\\', '\u{202e}', '\u{200b}'];
            prop_assert!(!text.chars().any(|c| c.is_control() || refused.contains(&c)));
        }
    }

    #[test]
    fn a_refusal_is_safe_to_print(text in any::<String>()) {
        if let Err(error) = RepoName::new(&text) {
            let message = error.to_string();
            prop_assert!(!message.chars().any(char::is_control), "{}", message);
            prop_assert!(message.len() < 900);
        }
    }

    #[test]
    fn a_session_is_read_back_as_it_is_written(session in strategy::session()) {
        prop_assert_eq!(&session.to_string().parse::<SessionId>().unwrap(), &session);
        let json = serde_json::to_string(&session).unwrap();
        prop_assert_eq!(&serde_json::from_str::<SessionId>(&json).unwrap(), &session);
        prop_assert_eq!(&SessionId::new(session.folder_name()).unwrap(), &session);
    }

    #[test]
    fn a_lock_name_is_its_parts(lock in strategy::lock()) {
        prop_assert_eq!(lock.parts().collect::<Vec<_>>().join("/"), lock.as_str());
    }
}
