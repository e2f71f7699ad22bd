//! Reformats JSON text. Each token is kept byte for byte: numbers are not rounded, and escapes are not rewritten.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest indentation; deeper levels are indented like this one.
const DEEPEST_INDENT: usize = 40;
/// The deepest nesting of a merge patch; items can't be nested deeper.
const DEEPEST_PATCH: usize = 127;

/// The tokens of valid JSON, without white space between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        let end = match text.bytes().next()? {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            b'"' => end_of_text(text),
            _ => text
                .find([' ', '\t', '\n', '\r', ',', ':', '{', '}', '[', ']'])
                .unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        self.0 = rest;
        Some(token)
    }
}

/// The length of the JSON string at the beginning of `text`.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Valid JSON over several lines, indented by two spaces per level.
pub(crate) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 2);
    let mut depth = 0_usize;
    let mut tokens = Tokens(json).peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if let Some(end) = tokens.next_if(|next| matches!(*next, "}" | "]")) {
                    out.push_str(end);
                } else {
                    depth += 1;
                    indent(&mut out, depth);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                indent(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                indent(&mut out, depth);
            }
            ":" => out.push_str(": "),
            token => out.push_str(token),
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth.min(DEEPEST_INDENT) {
        out.push_str("  ");
    }
}

/// Valid JSON on one line, without white space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    Tokens(json).collect()
}

/// Replaces the line breaks of valid JSON by spaces. A value that was stored with line breaks has them between its
/// tokens, never within a string.
pub(crate) fn on_one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// The members of an object, in order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

/// Applies a JSON merge patch (RFC 7396): a member of the patch that is `null` removes the member, an object is merged
/// into it, any other value replaces it.
///
/// # Errors
/// The reason, if the target or the patch is not JSON, or the patch is nested too deep.
pub(crate) fn merge_patch(target: &str, patch: &str) -> Result<String, String> {
    patched(Some(target), patch, 0)
}

fn patched(target: Option<&str>, patch: &str, depth: usize) -> Result<String, String> {
    if depth > DEEPEST_PATCH {
        return Err(format!(
            "the patch is nested more than {DEEPEST_PATCH} levels deep"
        ));
    }
    if !is_object(patch) {
        return Ok(patch.trim().to_owned());
    }
    let members = |json| -> Result<Vec<(String, &RawValue)>, String> {
        let members: Members<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(members.0)
    };
    let old = target
        .filter(|json| is_object(json))
        .map_or(Ok(Vec::new()), members)?;
    let mut merged: Vec<(String, String)> = Vec::with_capacity(old.len());
    for (name, value) in old {
        merged.push((name, value.get().to_owned()));
    }
    for (name, value) in members(patch)? {
        let at = merged.iter().position(|(known, _)| *known == name);
        if value.get() == "null" {
            merged.retain(|(known, _)| *known != name);
            continue;
        }
        let before = at.and_then(|at| merged.get(at)).map(|(_, value)| value.as_str());
        let value = patched(before, value.get(), depth + 1)?;
        match at.and_then(|at| merged.get_mut(at)) {
            Some(member) => member.1 = value,
            None => merged.push((name, value)),
        }
    }
    let members: Vec<String> = merged
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name)))
        .collect();
    Ok(format!("{{{}}}", members.join(",")))
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stay_as_they_are() {
        let json = r#"{"a":1.0,"b":[],"c":{},"d":["x, \"y\": {z}",-1e400,null,123456789012345678901234567890],"e":{"f":"\u00e4\\"}}"#;
        let shown = pretty(json);
        assert_eq!(
            shown,
            r#"{
  "a": 1.0,
  "b": [],
  "c": {},
  "d": [
    "x, \"y\": {z}",
    -1e400,
    null,
    123456789012345678901234567890
  ],
  "e": {
    "f": "\u00e4\\"
  }
}"#
        );
        assert_eq!(compact(&shown), json);
        assert_eq!(compact(" 1 "), "1");
    }

    #[test]
    fn nesting_of_any_depth_is_shown_in_little_room() {
        let json = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
        let shown = pretty(&json);
        assert!(shown.len() < 200 * json.len(), "{}", shown.len());
        assert_eq!(compact(&shown), json);
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn a_merge_patch_does_what_its_standard_says() {
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (target, patch, wanted) in cases {
            assert_eq!(
                merge_patch(target, patch).as_deref(),
                Ok(wanted),
                "{target} {patch}"
            );
        }
    }

    #[test]
    fn a_merge_patch_leaves_other_members_byte_for_byte() {
        let target = r#"{"n":1.0,"big":123456789012345678901,"o":{"x":1e3 , "y":2}}"#;
        assert_eq!(
            merge_patch(target, r#"{"o":{"y":3}}"#).as_deref(),
            Ok(r#"{"n":1.0,"big":123456789012345678901,"o":{"x":1e3,"y":3}}"#)
        );
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        assert!(
            merge_patch("{}", &deep)
                .unwrap_err()
                .contains("nested more than 127")
        );
        assert!(merge_patch("{}", "{").is_err());
    }
}
