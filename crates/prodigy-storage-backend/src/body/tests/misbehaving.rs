//! Implementations of `Serialize` that make `serde_json` write invalid JSON.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTupleVariant, Serializer,
};

use super::*;

/// A value, with the way in which its `Serialize` misuses the serialiser.
#[derive(Clone, Debug)]
pub(super) enum Odd {
    Number(i32),
    Text(String),
    Bytes(Vec<u8>),
    /// An array with these elements, which states this length.
    Array(Option<usize>, Vec<Odd>),
    /// An object with these fields, which states this length.
    Object(Option<usize>, Vec<Step>),
    /// An enum variant with these elements, which states this length.
    Variant(usize, Vec<Odd>),
    /// Raw JSON: these texts, one after the other.
    Raw(Vec<String>),
    /// Writes the value, and then returns an error.
    Fails(Box<Odd>),
    /// Fails without writing anything.
    Refuses,
}

/// A call on the serialiser of an object. An error of the call is ignored.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Key(Odd),
    Value(Odd),
    Entry(String, Odd),
}

/// The name by which `serde_json` knows raw JSON.
const RAW: &str = "$serde_json::private::RawValue";

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i32(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Array(said, values) => {
                let mut array = serializer.serialize_seq(*said)?;
                for value in values {
                    let _ = array.serialize_element(value);
                }
                array.end()
            }
            Self::Object(said, steps) => {
                let mut object = serializer.serialize_map(*said)?;
                for step in steps {
                    let _ = match step {
                        Step::Key(key) => object.serialize_key(key),
                        Step::Value(value) => object.serialize_value(value),
                        Step::Entry(key, value) => object.serialize_entry(key, value),
                    };
                }
                object.end()
            }
            Self::Variant(said, values) => {
                let mut variant = serializer.serialize_tuple_variant("Odd", 0, "odd", *said)?;
                for value in values {
                    let _ = variant.serialize_field(value);
                }
                variant.end()
            }
            Self::Raw(texts) => {
                let mut raw = serializer.serialize_struct(RAW, 1)?;
                for text in texts {
                    let _ = raw.serialize_field(RAW, text);
                }
                raw.end()
            }
            Self::Fails(value) => match &**value {
                Self::Array(_, values) => {
                    let mut array = serializer.serialize_seq(None)?;
                    for value in values {
                        array.serialize_element(value)?;
                    }
                    Err(S::Error::custom("it stops"))
                }
                Self::Object(..) => {
                    let mut object = serializer.serialize_map(None)?;
                    object.serialize_key("a")?;
                    Err(S::Error::custom("it stops"))
                }
                other => {
                    other.serialize(serializer)?;
                    Err(S::Error::custom("it stops"))
                }
            },
            Self::Refuses => Err(S::Error::custom("it refuses")),
        }
    }
}

fn text(text: &str) -> Odd {
    Odd::Text(text.into())
}

fn array(values: impl Into<Vec<Odd>>) -> Odd {
    Odd::Array(None, values.into())
}

fn object(steps: impl Into<Vec<Step>>) -> Odd {
    Odd::Object(None, steps.into())
}

fn entry(value: Odd) -> Step {
    Step::Entry("a".into(), value)
}

fn raw_texts(texts: &[&str]) -> Odd {
    Odd::Raw(texts.iter().map(|text| (*text).into()).collect())
}

#[test]
fn who_goes_on_after_an_error_is_refused() {
    for bad in [
        array([Odd::Refuses]),
        array([Odd::Number(1), Odd::Refuses, Odd::Number(2)]),
        array([Odd::Fails(Box::new(array([Odd::Number(1)]))), Odd::Number(2)]),
        array([Odd::Fails(Box::new(array([])))]),
        array([Odd::Fails(Box::new(object([])))]),
        array([Odd::Fails(Box::new(Odd::Number(1)))]),
        object([entry(Odd::Refuses)]),
        object([entry(Odd::Fails(Box::new(object([])))), entry(Odd::Number(1))]),
        // Only a string or a number can be a key.
        object([Step::Key(array([])), Step::Value(Odd::Number(1))]),
    ] {
        let fault = written(&object([entry(bad.clone())])).unwrap_err();
        assert!(fault.why().contains("`Serialize`"), "{bad:?}: {fault}");
    }
}

#[test]
fn keys_and_values_out_of_order_are_refused() {
    for steps in [
        vec![Step::Key(text("a"))],
        vec![Step::Value(Odd::Number(1))],
        vec![Step::Key(text("a")), entry(Odd::Number(1))],
        vec![entry(Odd::Number(1)), Step::Value(Odd::Number(1))],
        vec![
            Step::Key(text("a")),
            Step::Key(text("b")),
            Step::Value(Odd::Number(1)),
        ],
    ] {
        assert!(written(&object(steps.clone())).is_err(), "{steps:?}");
        assert!(
            written(&object([entry(object(steps.clone()))])).is_err(),
            "inside: {steps:?}"
        );
    }
    assert_eq!(
        written(&object([Step::Key(Odd::Number(7)), Step::Value(object([]))])).unwrap(),
        "{\"7\":{}}"
    );
}

#[test]
fn a_length_of_nothing_that_is_no_truth_is_refused() {
    for bad in [
        Odd::Array(Some(0), vec![Odd::Number(1)]),
        Odd::Object(Some(0), vec![entry(Odd::Number(1))]),
        Odd::Variant(0, vec![Odd::Number(1)]),
        array([Odd::Array(Some(0), vec![Odd::Number(1)])]),
    ] {
        assert!(written(&object([entry(bad.clone())])).is_err(), "{bad:?}");
    }
    assert!(written(&Odd::Object(Some(0), vec![entry(Odd::Number(1))])).is_err());
    // A length other than zero is not written, so a wrong one does no harm.
    let wrong = Odd::Array(Some(9), vec![Odd::Number(1)]);
    assert_eq!(written(&object([entry(wrong)])).unwrap(), "{\"a\":[1]}");
    assert_eq!(
        written(&Odd::Variant(0, vec![])).unwrap(),
        "{\"odd\":[]}",
        "the stated length 0 is right"
    );
}

#[test]
fn raw_text_is_one_json_value() {
    for texts in [
        &[][..],
        &[""],
        &["1", "2"],
        &["{", "}"],
        &["tru"],
        &["1,2"],
        &["\"a\u{1}\""],
    ] {
        assert!(written(&object([entry(raw_texts(texts))])).is_err(), "{texts:?}");
        assert!(written(&raw_texts(texts)).is_err(), "outermost: {texts:?}");
        let in_array = array([Odd::Number(1), raw_texts(texts)]);
        assert!(
            written(&object([entry(in_array)])).is_err(),
            "in an array: {texts:?}"
        );
    }
    assert!(written(&raw_texts(&["{}", "{}"])).is_err());
    assert!(
        written(&raw_texts(&[" {}"])).is_err(),
        "a body has no white space around it"
    );
    assert_eq!(
        written(&object([entry(raw_texts(&[" [1]\n"]))])).unwrap(),
        "{\"a\": [1]\n}"
    );
}

#[test]
fn bytes_are_an_array() {
    assert_eq!(
        written(&object([entry(Odd::Bytes(vec![1, 2]))])).unwrap(),
        "{\"a\":[1,2]}"
    );
}
