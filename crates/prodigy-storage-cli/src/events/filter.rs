//! `--filter FIELD=VALUE`.

use prodigy_storage::Record;
use serde_json::Value;

/// A field and the value that it has to have.
///
/// The field is a path of names, or places in an array, joined by dots. It is looked up in the payload first, then, if the
/// payload has no such field, in the envelope around it.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    field: String,
    text: String,
    literal: Option<Value>,
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((field, value)) if !field.is_empty() => Ok(Self {
                field: field.to_owned(),
                text: value.to_owned(),
                literal: serde_json::from_str(value).ok(),
            }),
            _ => Err("a filter is FIELD=VALUE, such as `status=done` or `agent.id=3`".to_owned()),
        }
    }
}

impl Filter {
    /// Whether all of them hold.
    pub(crate) fn all(filters: &[Self], record: &Record<'_>) -> Result<bool, serde_json::Error> {
        if filters.is_empty() {
            return Ok(true);
        }
        let envelope: Value = record.parse()?;
        Ok(filters.iter().all(|filter| filter.holds(&envelope)))
    }

    fn holds(&self, envelope: &Value) -> bool {
        let found = envelope
            .get("event")
            .and_then(|payload| look_up(payload, &self.field))
            .or_else(|| look_up(envelope, &self.field));
        match found {
            Some(Value::String(text)) => *text == self.text,
            Some(Value::Number(number)) => match &self.literal {
                Some(Value::Number(wanted)) => number == wanted || number.as_f64() == wanted.as_f64(),
                _ => false,
            },
            Some(other) => self.literal.as_ref() == Some(other),
            None => false,
        }
    }
}

fn look_up<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(filter: &str) -> bool {
        let envelope = json!({
            "id": "e-1", "correlation_id": "run-7",
            "event": {"id": "payload", "n": 1, "ok": true, "none": null, "agent": {"id": "3"}, "list": [10, "x"]},
        });
        filter.parse::<Filter>().unwrap().holds(&envelope)
    }

    #[test]
    fn payload_first_then_envelope() {
        assert!(holds("id=payload") && !holds("id=e-1"));
        assert!(holds("correlation_id=run-7"));
        assert!(holds("event.n=1"));
    }

    #[test]
    fn text_compares_as_text_and_the_rest_as_json() {
        assert!(
            holds("agent.id=3") && holds("n=1") && holds("n=1.0") && holds("ok=true") && holds("none=null")
        );
        assert!(holds("list.0=10") && holds("list.1=x") && holds("list=[10,\"x\"]"));
        assert!(!holds("n=\"1\"") && !holds("ok=yes") && !holds("missing=null") && !holds("list.9=1"));
        assert!("novalue".parse::<Filter>().is_err() && "=x".parse::<Filter>().is_err());
    }
}
