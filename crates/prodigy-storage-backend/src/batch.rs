//! A batch of events on its way into a log.

use serde::Serialize;
use serde_json::ser::Serializer;

use crate::body::{Guard, Loadable, Outcome, Raw};
use crate::error::Result;
use crate::fence::Fence;
use crate::id::EventId;
use crate::record::{FENCE_FIELD, MAX_NESTING};

/// Events serialised and ready to be appended, in one buffer that can be used again.
///
/// A batch owns the bodies of its events; the backend adds id, timestamp and checksum. After
/// [`append`](crate::LogStore::append) the ids stand in [`ids`](Self::ids), also when the outcome is unknown: the
/// same batch appended again is then stored under the same ids, and each event once.
///
/// ```
/// use prodigy_storage_backend::Batch;
///
/// let mut batch = Batch::new();
/// batch.push(&serde_json::json!({"agent": 3, "status": "done"}))?;
/// assert_eq!(batch.len(), 1);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    ids: Vec<EventId>,
    fence: Option<Fence>,
    /// The field of each record that holds the token; empty without one.
    fence_field: Vec<u8>,
}

/// Optional fields beside an event's payload.
///
/// ```
/// use prodigy_storage_backend::{Annotations, Batch};
///
/// let mut batch = Batch::new();
/// let annotations = Annotations { correlation_id: Some("run-7"), metadata: Some(&["eu"]) };
/// batch.push_with("agent started", annotations)?;
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a log has to store each field")]
pub struct Annotations<'a, M = ()> {
    /// The id that events of one cause share.
    pub correlation_id: Option<&'a str>,
    /// Any JSON object about the event.
    pub metadata: Option<&'a M>,
}

// By hand: a derive would ask the same of `M`, which is only referred to.
impl<M> Clone for Annotations<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Annotations<'_, M> {}

impl<M> Default for Annotations<'_, M> {
    fn default() -> Self {
        Self {
            correlation_id: None,
            metadata: None,
        }
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.ids.clear();
        self.fence = None;
        self.fence_field.clear();
    }

    /// The fencing token that its events are appended under.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Sets the fencing token of all its events, those that are pushed later included. Each record carries it, so that a reader
    /// can leave out what an overtaken writer stored.
    ///
    /// ```
    /// use prodigy_storage_backend::{Batch, Fence};
    ///
    /// let fence: Fence = "shop/coordinator=5".parse()?;
    /// let mut batch = Batch::new();
    /// batch.push("planned")?;
    /// batch.set_fence(Some(&fence));
    /// assert_eq!(batch.fence(), Some(&fence));
    /// assert_eq!(batch.bodies().next(), Some(&br#","event":"planned","fence":"shop/coordinator=5""#[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_fence(&mut self, fence: Option<&Fence>) {
        if self.fence.as_ref() == fence {
            return;
        }
        let old = std::mem::take(&mut self.fence_field);
        if let Some(fence) = fence {
            // The name of a lock may hold a quotation mark.
            let text = serde_json::Value::from(fence.to_string());
            self.fence_field = format!("{FENCE_FIELD}{text}").into_bytes();
        }
        self.fence = fence.cloned();
        if self.ends.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut start = 0;
        for end in &mut self.ends {
            let body = bytes.get(start..*end).unwrap_or_default();
            start = *end;
            self.bytes
                .extend_from_slice(body.strip_suffix(&*old).unwrap_or(body));
            self.bytes.extend_from_slice(&self.fence_field);
            *end = self.bytes.len();
        }
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bodies, in order: the part of each record between the timestamp and the crc.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let body = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            body
        })
    }

    /// The ids that were given or assigned, one an event; empty before either.
    #[must_use]
    pub fn ids(&self) -> &[EventId] {
        &self.ids
    }

    /// Gives the ids to store the events under: one an event, in order. An event whose id is stored already is
    /// acknowledged and not stored again. A backend calls it with the ids that it assigned.
    pub fn set_ids(&mut self, ids: impl IntoIterator<Item = EventId>) {
        self.ids.clear();
        self.ids.extend(ids);
    }

    /// Takes the ids out again: the next append assigns new ones.
    pub fn clear_ids(&mut self) {
        self.ids.clear();
    }

    /// Adds all events of another batch, without their ids.
    ///
    /// ```
    /// # use prodigy_storage_backend::Batch;
    /// let (mut all, mut more) = (Batch::new(), Batch::new());
    /// all.push("started")?;
    /// more.push("finished")?;
    /// all.extend_from(&more);
    /// assert_eq!(all.len(), 2);
    /// # Ok::<(), prodigy_storage_backend::StorageError>(())
    /// ```
    pub fn extend_from(&mut self, other: &Self) {
        for body in other.bodies() {
            let body = body.strip_suffix(&*other.fence_field).unwrap_or(body);
            self.bytes.extend_from_slice(body);
            self.bytes.extend_from_slice(&self.fence_field);
            self.ends.push(self.bytes.len());
        }
        self.ids.clear();
    }

    /// Adds an event.
    ///
    /// # Errors
    /// As [`push_with`](Self::push_with).
    pub fn push<T: Serialize + ?Sized>(&mut self, event: &T) -> Result<()> {
        self.push_with(event, Annotations::<()>::default())
    }

    /// Adds an event and its optional fields. Bytes of a raw payload ([`serde_json::value::RawValue`]) pass through
    /// untouched, except line breaks between tokens, which become spaces.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what does not serialise, for nesting over 127, and for text that is not
    /// well-formed Unicode. The batch is then as before.
    pub fn push_with<T, M>(&mut self, event: &T, beside: Annotations<'_, M>) -> Result<()>
    where
        T: Serialize + ?Sized,
        M: Serialize,
    {
        let start = self.bytes.len();
        match self.write_body(event, &beside) {
            Ok(()) => {
                self.ends.push(self.bytes.len());
                self.ids.clear();
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    fn write_body<T, M>(&mut self, event: &T, beside: &Annotations<'_, M>) -> Result<()>
    where
        T: Serialize + ?Sized,
        M: Serialize,
    {
        if let Some(id) = beside.correlation_id {
            self.bytes.extend_from_slice(b",\"correlation_id\":");
            self.write_json(id)?;
        }
        self.bytes.extend_from_slice(b",\"event\":");
        self.write_json(event)?;
        if let Some(metadata) = beside.metadata {
            self.bytes.extend_from_slice(b",\"metadata\":");
            self.write_json(metadata)?;
        }
        self.bytes.extend_from_slice(&self.fence_field);
        Ok(())
    }

    fn write_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let mut outcome = Outcome::default();
        let guard = Guard::new(MAX_NESTING, Raw::OnOneLine, &mut outcome);
        let written = Loadable::new(value).serialize(&mut Serializer::with_formatter(&mut self.bytes, guard));
        outcome
            .of(value, written)
            .map_err(|fault| fault.refused("append event", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::value::RawValue;

    #[test]
    fn raw_payloads_pass_untouched_but_for_line_breaks() {
        let raw = RawValue::from_string("{\"a\" :\r\n 1e2,\t\"b\":\"\\n\"}".into()).unwrap();
        let mut batch = Batch::new();
        batch.push(&raw).unwrap();
        assert_eq!(
            batch.bodies().next().unwrap(),
            b",\"event\":{\"a\" :   1e2,\t\"b\":\"\\n\"}"
        );
    }

    #[test]
    fn what_is_refused_leaves_the_batch_as_it_was() {
        let mut batch = Batch::new();
        batch.push("first").unwrap();
        let deep = RawValue::from_string(format!("{}{}", "[".repeat(128), "]".repeat(128))).unwrap();
        assert_eq!(batch.push(&deep).unwrap_err().kind(), ErrorKind::InvalidInput);
        let half = RawValue::from_string("\"\\ud800\"".into()).unwrap();
        assert_eq!(batch.push(&half).unwrap_err().kind(), ErrorKind::InvalidInput);
        let deepest = RawValue::from_string(format!("{}{}", "[".repeat(127), "]".repeat(127))).unwrap();
        batch.push(&deepest).unwrap();
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.bodies().next().unwrap(), b",\"event\":\"first\"");
    }

    #[test]
    fn who_writes_no_json_is_refused() {
        struct Careless;
        impl Serialize for Careless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_key("no value")?;
                map.end()
            }
        }
        struct Nothing;
        impl Serialize for Nothing {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct;
                // As raw JSON serialises, but without its text.
                serializer
                    .serialize_struct("$serde_json::private::RawValue", 1)?
                    .end()
            }
        }
        let mut batch = Batch::new();
        for error in [
            batch.push(&Careless).unwrap_err(),
            batch.push(&Nothing).unwrap_err(),
        ] {
            assert!(error.why().contains("`Serialize`"), "{error}");
        }
        assert_eq!(batch.bytes(), 0);
        for scalar in [
            serde_json::json!(null),
            serde_json::json!("[{"),
            serde_json::json!(-1.5),
        ] {
            batch.push(&scalar).unwrap();
        }
        assert_eq!(batch.len(), 3);
    }

    #[test]
    fn annotations_stand_around_the_event() {
        let mut batch = Batch::new();
        let beside = Annotations {
            correlation_id: Some("run\n1"),
            metadata: Some(&["m"]),
        };
        batch.push_with(&1, beside).unwrap();
        assert_eq!(
            batch.bodies().next().unwrap(),
            b",\"correlation_id\":\"run\\n1\",\"event\":1,\"metadata\":[\"m\"]"
        );
    }
}
