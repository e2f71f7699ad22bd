//! Finds numbers in raw JSON that are too large to load.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::path::{Path, Step};

/// A number can exceed the range of a 64-bit float only with at least this number of digits, in itself (`DIGITS`)
/// or in its exponent (`EXPONENT`). With an exponent below 100 it needs more than 200 digits before the exponent.
const DIGITS: usize = 200;
const EXPONENT: usize = 3;

/// The path of the first number beyond the range of a 64-bit float, such as `1e999`. `json` has to be well-formed,
/// and nested no deeper than a parser allows.
pub(crate) fn out_of_range(json: &str) -> Option<Path> {
    if !may_be_out_of_range(json.as_bytes()) {
        return None;
    }
    let mut path = Path::default();
    let mut parser = serde_json::Deserializer::from_str(json);
    parser.disable_recursion_limit();
    let walked = Walk(&mut path).deserialize(&mut parser);
    let out = walked.is_err_and(|error| error.to_string().starts_with("number out of range"));
    out.then_some(path)
}

/// True if the text has `EXPONENT` digits after an `e`, or `DIGITS` digits in a row, even inside a string. Only
/// such a text may have a number that is too large.
fn may_be_out_of_range(json: &[u8]) -> bool {
    let digits_from = |at: usize| {
        let rest = json.get(at..).unwrap_or_default();
        rest.iter()
            .take(DIGITS)
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let has_exponent = has_exponent(json)
        && memchr::memchr2_iter(b'e', b'E', json).any(|at| {
            let before = at.checked_sub(1).and_then(|before| json.get(before));
            if !before.is_some_and(u8::is_ascii_digit) {
                return false;
            }
            let sign = usize::from(json.get(at + 1) == Some(&b'+'));
            digits_from(at + 1 + sign) >= EXPONENT
        });
    // Only every `DIGITS / 2`-th byte is tested, with the bytes after it. A row of `DIGITS` digits holds a tested
    // byte that at least half of its digits follow.
    let half = DIGITS / 2;
    has_exponent || (0..json.len()).step_by(half).any(|at| digits_from(at) >= half)
}

/// True if an `e` follows a digit. All bytes are compared without a branch, so that the compiler compares many at once.
fn has_exponent(json: &[u8]) -> bool {
    let pairs = json.iter().zip(json.iter().skip(1));
    pairs.fold(false, |any, (digit, e)| {
        any | (digit.is_ascii_digit() & (e | 0x20 == b'e'))
    })
}

/// Parses every number of a value, and stores the path of the first number that fails to parse.
struct Walk<'a>(&'a mut Path);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($method:ident($($value:ident: $type:ty)?);)*) => {$(
        fn $method<E>(self $(, $value: $type)?) -> Result<(), E> {
            $(let _ = $value;)?
            Ok(())
        }
    )*};
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    scalars! {
        visit_unit();
        visit_bool(value: bool);
        visit_i64(value: i64);
        visit_u64(value: u64);
        visit_f64(value: f64);
        visit_str(value: &str);
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut at = 0;
        loop {
            self.0.push(Step::Index(at));
            let more = seq.next_element_seed(Walk(self.0))?;
            self.0.pop();
            if more.is_none() {
                return Ok(());
            }
            at += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.0.push(Step::Name(key.into()));
            map.next_value_seed(Walk(self.0))?;
            self.0.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<String> {
        out_of_range(json).map(|path| path.to_string())
    }

    #[test]
    fn a_number_beyond_every_type_is_found_with_its_path() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("1e999"), some(""));
        assert_eq!(found(r#"{"a":[0,{"b":-1.5E+309}]}"#), some("a[1].b"));
        assert_eq!(found(&format!("[{}]", "9".repeat(310))), some("[0]"));
        assert_eq!(found(&format!("[{}e99]", "9".repeat(250))), some("[0]"));
        for fits in [
            "1.7976931348623157e308",
            "1e-999",
            r#"{"a":"1e999","b":"\"1e999"}"#,
            "18446744073709551616",
            "[1e9,2E10]",
        ] {
            assert_eq!(found(fits), None, "{fits}");
            assert!(serde_json::from_str::<serde_json::Value>(fits).is_ok(), "{fits}");
        }
        assert_eq!(found(&format!("[{}]", "9".repeat(300))), None);
        assert_eq!(found(&format!("[\"{}\"]", "9".repeat(999))), None);
    }
}
