//! Paths inside a JSON value.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// The longest path that is shown, in characters; a longer one is cut.
const LONGEST: usize = 200;

/// One step of a path: from an object or array to one of its values.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Name(Cow<'static, str>),
    Index(usize),
}

impl Step {
    pub(super) fn name(name: &'static str) -> Self {
        Self::Name(name.into())
    }

    pub(super) fn key<K: Serialize + ?Sized>(key: &K) -> Self {
        Self::Name(match serde_json::to_value(key) {
            Ok(serde_json::Value::String(text)) => text.into(),
            Ok(other) => other.to_string().into(),
            Err(_) => "?".into(),
        })
    }
}

/// The steps from the top of a value, such as `results[3].score`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    pub(super) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// This path as it is from the value of `field`: without its first step, if that step is `field`.
    pub(super) fn below(mut self, field: &str) -> Self {
        if matches!(self.0.first(), Some(Step::Name(name)) if name == field) {
            self.0.remove(0);
        }
        self
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if at == 0 => text.push_str(crate::escape(name).as_ref()),
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(crate::escape(name).as_ref());
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}
