mod misbehaving;
mod properties;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::error::ErrorKind;

fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

fn written<T: Serialize + ?Sized>(value: &T) -> Result<String, BodyError> {
    let mut buffer = b"left from before".to_vec();
    Body::write(&mut buffer, value).map(|body| String::from_utf8(body.as_bytes().to_vec()).unwrap())
}

fn nested(arrays: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays))
}

#[test]
fn a_body_is_an_object_and_nothing_else() {
    let parse = |bytes: &'static [u8]| Body::parse(bytes).map(Body::as_bytes).ok();
    assert_eq!(parse(b" \r\n{\"a\" : 1}\n\t"), Some(&b"{\"a\" : 1}"[..]));
    assert_eq!(parse(b"{}"), Some(Body::EMPTY.as_bytes()));
    assert_eq!(parse(b"{\n}"), Some(&b"{\n}"[..]));
    for refused in [
        &b""[..],
        b" ",
        b"[]",
        b"1",
        b"{",
        b"{\"a\":1",
        b"{\"a\":1}}",
        b"{}{}",
        b"{\"a\":1,}",
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        br#"{"a":"\ud800"}"#,
    ] {
        assert_eq!(parse(refused), None, "{refused:?}");
    }
    assert!(Body::parse(nested(127).as_bytes()).is_ok());
    assert!(Body::parse(nested(128).as_bytes()).is_err());
    assert!(Body::parse(nested(1_000_000).as_bytes()).is_err());
}

#[test]
fn what_is_refused_is_pointed_at() {
    let fault = |bytes: &'static [u8]| Body::parse(bytes).unwrap_err();
    let utf8 = fault(b" {\"a\":\"\xff\"}");
    assert_eq!(
        (utf8.at(), utf8.to_string().as_str()),
        (Some(7), "it is not well-formed UTF-8, at byte 7")
    );
    let half = fault(br#" {"a":"\ud800"}"#);
    assert_eq!(half.at(), Some(7));
    assert!(half.why().contains(r"`\ud800` is half"), "{half}");

    let error = fault(b"{\"a\" 1}").refused("put document", "x");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("put document x: "), "{error}");
    assert!(format!("{error:#}").contains("column 6"), "{error:#}");
    assert!(error.hint().is_some());

    let deep = nested(128);
    let deep = Body::parse(deep.as_bytes()).unwrap_err();
    assert_eq!(deep.why(), "its nesting is over 128");
    assert!(deep.hint().unwrap().contains("flatten"));
}

#[test]
fn what_is_written_takes_the_place_of_what_was_there() {
    assert_eq!(
        written(&json!({"a": [1, 2.5, null]})).unwrap(),
        r#"{"a":[1,2.5,null]}"#
    );
    assert_eq!(written(&json!({})).unwrap(), "{}");
    assert_eq!(
        written(&raw("{ \"a\" :\r\n1e2}")).unwrap(),
        "{ \"a\" :\r\n1e2}",
        "raw bytes stay"
    );
    assert_eq!(
        written(
            &[("a", raw(" [ ]"))]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
        )
        .unwrap(),
        "{\"a\":[ ]}"
    );
}

#[test]
fn what_is_no_object_is_not_written() {
    for value in [json!([]), json!([{}]), json!(1), json!("{}"), json!(null)] {
        assert_eq!(
            written(&value).unwrap_err().why(),
            "it is not a JSON object",
            "{value}"
        );
    }
    assert_eq!(written(&raw("[1]")).unwrap_err().why(), "it is not a JSON object");
}

#[test]
fn the_deepest_value_is_written_and_a_deeper_one_is_not() {
    #[derive(Serialize)]
    struct Around<T> {
        data: T,
    }
    let deep = |arrays: usize| {
        let mut value = json!([]);
        for _ in 1..arrays {
            value = json!([value]);
        }
        value
    };
    assert_eq!(
        written(&Around { data: deep(127) }).unwrap(),
        nested(127).replace("\"a\"", "\"data\"")
    );
    let fault = written(&Around { data: deep(128) }).unwrap_err();
    assert_eq!(fault.why(), "its nesting is over 128");
    // The nesting of raw text is counted with the levels around it.
    let text = |arrays: usize| raw(format!("{}{}", "[".repeat(arrays), "]".repeat(arrays)));
    assert!(written(&Around { data: text(127) }).is_ok());
    assert_eq!(
        written(&Around { data: text(128) }).unwrap_err().why(),
        "its nesting is over 128"
    );
    assert_eq!(
        written(&Around { data: [text(127)] }).unwrap_err().why(),
        "its nesting is over 128"
    );
    // Many nested values side by side are not deep.
    assert!(
        written(&Around {
            data: vec![deep(100); 50]
        })
        .is_ok()
    );
}

#[test]
fn half_a_character_in_raw_text_is_not_written() {
    let fault = written(&json!({"a": 1})).map(drop);
    assert!(fault.is_ok());
    let half = [("a", raw(r#""\ud800""#))]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>();
    let fault = written(&half).unwrap_err();
    assert!(fault.why().contains(r"`\ud800` is half"), "{fault}");
    assert_eq!(
        fault.at(),
        None,
        "offsets in raw text are not offsets in the body"
    );
    // Without the escape, the same letters are plain text.
    assert_eq!(written(&json!({"a": "\\ud800"})).unwrap(), r#"{"a":"\\ud800"}"#);
}

#[test]
fn what_does_not_serialise_says_why() {
    let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
    let fault = written(&json!({"a": 1}))
        .map(|_| written(&keys).unwrap_err())
        .unwrap();
    assert_eq!(fault.why(), "it does not serialise as JSON");
    assert!(
        fault
            .into_cause()
            .unwrap()
            .to_string()
            .contains("key must be a string")
    );
}
