//! Random values and texts: `write` and `parse` have to accept the same bodies.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::misbehaving::{Odd, Step};
use super::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// A text of JSON tokens in any order, so that much of it is JSON or almost JSON.
fn text() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "{}",
        "[",
        "]",
        "[]",
        "\"",
        "\"a\":",
        "\"b\"",
        ":",
        ",",
        "1",
        "-0.5e3",
        "null",
        "true",
        " ",
        "\n",
        "\\",
        "\\u0000",
        "\\ud83d",
        "\\ude00",
        "\\\\ud83d",
        "\"\\ud800\"",
        "é",
        "\u{1}",
    ]);
    let tokens = prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat());
    prop_oneof![
        tokens.clone(),
        tokens.prop_map(|tokens| format!("{{\"a\":{tokens}}}")),
        value().prop_map(|value| value.to_string()),
    ]
}

fn odd() -> impl Strategy<Value = Odd> {
    let leaf = prop_oneof![
        4 => any::<i32>().prop_map(Odd::Number),
        4 => ".{0,4}".prop_map(Odd::Text),
        1 => prop::collection::vec(any::<u8>(), 0..3).prop_map(Odd::Bytes),
        1 => prop::collection::vec(text(), 0..3).prop_map(Odd::Raw),
        1 => Just(Odd::Refuses),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let said = || prop_oneof![Just(None), (0usize..3).prop_map(Some)];
        let values = prop::collection::vec(inner.clone(), 0..4);
        let step = prop_oneof![
            8 => (".{0,2}", inner.clone()).prop_map(|(key, value)| Step::Entry(key, value)),
            1 => inner.clone().prop_map(Step::Key),
            1 => inner.clone().prop_map(Step::Value),
        ];
        prop_oneof![
            4 => (said(), values.clone()).prop_map(|(said, values)| Odd::Array(said, values)),
            4 => (said(), prop::collection::vec(step, 0..4)).prop_map(|(said, steps)| Odd::Object(said, steps)),
            1 => (0usize..3, values).prop_map(|(said, values)| Odd::Variant(said, values)),
            1 => inner.prop_map(|value| Odd::Fails(Box::new(value))),
        ]
    })
}

/// Checks that `parse` accepts a text that `write` made, and removes nothing from it.
fn is_a_body(text: &str) -> Result<(), TestCaseError> {
    let parsed = Body::parse(text.as_bytes());
    prop_assert!(parsed.is_ok(), "{text}: {}", parsed.unwrap_err());
    prop_assert_eq!(parsed.unwrap().as_bytes(), text.as_bytes());
    Ok(())
}

proptest! {
    #[test]
    fn any_object_is_written_as_serde_json_writes_it(map in prop::collection::btree_map(".{0,4}", value(), 0..5)) {
        let value = Value::Object(map.into_iter().collect::<Map<_, _>>());
        let text = written(&value).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&value).unwrap());
        is_a_body(&text)?;
    }

    #[test]
    fn any_value_is_written_if_it_is_an_object(value in value()) {
        prop_assert_eq!(written(&value).is_ok(), value.is_object());
    }

    #[test]
    fn raw_text_is_written_where_it_would_be_parsed(text in text()) {
        let parsed = Body::parse(text.as_bytes());
        match RawValue::from_string(text.clone()) {
            Err(_) => prop_assert!(parsed.is_err()),
            Ok(raw) => match (parsed, written(&raw)) {
                (Ok(parsed), Ok(written)) => prop_assert_eq!(parsed.as_bytes(), written.as_bytes()),
                (parsed, written) => prop_assert_eq!(parsed.is_ok(), written.is_ok(), "{}", text),
            },
        }
    }

    #[test]
    fn raw_text_inside_is_written_where_it_would_be_parsed(text in text()) {
        let around = |text: &str| format!("{{\"a\":{text}}}");
        if let Ok(raw) = RawValue::from_string(text) {
            let parsed = around(raw.get());
            let entry = std::collections::BTreeMap::from([("a", &raw)]);
            match written(&entry) {
                Ok(written) => {
                    prop_assert_eq!(&written, &parsed);
                    is_a_body(&written)?;
                }
                Err(_) => prop_assert!(Body::parse(parsed.as_bytes()).is_err(), "{}", parsed),
            }
        }
    }

    #[test]
    fn whatever_serialize_does_what_is_written_is_a_body(steps in prop::collection::vec((".{0,2}", odd()), 0..3)) {
        let steps = steps.into_iter().map(|(key, value)| Step::Entry(key, value)).collect();
        if let Ok(text) = written(&Odd::Object(None, steps)) {
            is_a_body(&text)?;
        }
    }
}
