//! A batch of events to append to a log.

use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::Serialize;
use serde_json::ser::Serializer;

use crate::body::{Guard, Loadable, Outcome, Raw};
use crate::error::{Result, StorageError};
use crate::fence::Fence;
use crate::id::EventId;
use crate::record::{FENCE_FIELD, MAX_NESTING, Record};

/// Events that are serialised and ready to be appended, in one reusable buffer.
///
/// A batch owns the bodies of its events; the backend adds id, timestamp and checksum. After
/// [`append`](crate::LogStore::append) the batch has the [`ids`](Self::ids), even if the outcome is unknown. Appending
/// the same batch again uses these ids, and stores each event once.
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
    /// The text `,"fence":…` with the fencing token, which each record gets; empty without a token.
    fence_field: Vec<u8>,
    is_copied: bool,
}

/// Optional fields of an event besides its payload, for [`Batch::push_with`].
///
/// ```
/// use std::collections::BTreeMap;
/// use prodigy_storage_backend::{Annotations, Batch};
///
/// let (mut batch, metadata) = (Batch::new(), BTreeMap::from([("region", "eu")]));
/// for agent in ["agent 1 started", "agent 2 started"] {
///     let annotations = Annotations { correlation_id: Some("run-7"), metadata: Some(&metadata) };
///     batch.push_with(agent, annotations)?;
/// }
/// // Without metadata its type has to be named.
/// batch.push_with("ended", Annotations::<()> { correlation_id: Some("run-7"), ..Default::default() })?;
/// assert_eq!(batch.len(), 3);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a log has to store each field")]
pub struct Annotations<'a, M = ()> {
    /// The id that events with one cause share.
    pub correlation_id: Option<&'a str>,
    /// Facts about the event: any JSON value.
    pub metadata: Option<&'a M>,
}

// Implemented by hand, since a derive would demand `M: Clone`, although `M` is only borrowed.
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

    /// Removes all events, and keeps the memory for reuse.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.ids.clear();
        self.fence = None;
        self.fence_field.clear();
        self.is_copied = false;
    }

    /// Says that the events are copied from another store. It has accepted their ids, so [`check_ids`](Self::check_ids) does
    /// not compare these with the clock again.
    pub fn set_copied(&mut self) {
        self.is_copied = true;
    }

    /// The fencing token of the events.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Sets the fencing token of all events, including those that are pushed later. Each record carries the token, so
    /// that a reader can leave out events of an overtaken writer.
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
            // The name of a lock may contain a quotation mark, so it is escaped.
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

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if the batch has no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The length of all bodies in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bodies of the events, in order. A body is the part of a record between its timestamp and its checksum.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let body = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            body
        })
    }

    /// The ids of the events, in the order of the events; empty until they are set or assigned.
    #[must_use]
    pub fn ids(&self) -> &[EventId] {
        &self.ids
    }

    /// Sets the ids under which the events are stored, one for each event, in order. An event whose id is already
    /// stored is acknowledged and not stored again. A backend calls this with the ids that it assigned.
    pub fn set_ids(&mut self, ids: impl IntoIterator<Item = EventId>) {
        self.ids.clear();
        self.ids.extend(ids);
    }

    /// Checks the ids for a backend. `newest` is the newest id of the log. An id that is at most a second above it passes
    /// whatever the clock says: the log may have given it itself, if its newest id is ahead of the clock.
    ///
    /// ```
    /// use prodigy_storage_backend::{Batch, EventId};
    /// use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let now = Timestamp::from_millis(1_767_225_600_000);
    /// let mut batch = Batch::new();
    /// batch.push("planned")?;
    /// batch.set_ids([EventId::for_key(Timestamp::from_millis(now.as_millis() + 7_200_000), "planned")]);
    /// assert!(batch.check_ids(&job, now, EventId::MIN).is_err());
    /// let newest = batch.ids()[0];
    /// assert!(batch.check_ids(&job, now, newest).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for another number of ids than of events, for an id that is not of
    /// version 7, and for an id that is [more than an hour ahead](EventId::is_ahead_of) of `now` and more than a second above
    /// `newest`: all later ids would have to be above it. The last does not apply to [copied](Self::set_copied) events.
    pub fn check_ids(&self, job: &JobAddress, now: Timestamp, newest: EventId) -> Result<()> {
        const SECOND: i64 = 1_000_000_000;
        let given_by_log = newest.time().as_nanos().saturating_add(SECOND);
        let refused = |why| StorageError::invalid("append events", job, why);
        if !self.ids.is_empty() && self.ids.len() != self.len() {
            let why = format!("{} ids were given for {} events", self.ids.len(), self.len());
            return Err(refused(why).with_hint(
                "give one id for each event, in the order of the events, or none: then the log gives them",
            ));
        }
        for id in &self.ids {
            if !id.is_v7() {
                return Err(
                    refused(format!("the id {id} is not a UUID of version 7")).with_hint(
                        "a log is ordered by its ids, so an id has to carry the time at which it was made",
                    ),
                );
            }
            if !self.is_copied && id.is_ahead_of(now) && id.time().as_nanos() > given_by_log {
                let time = id.time().to_rfc3339();
                return Err(refused(format!(
                    "the id {id} was made at {time}, over an hour ahead of the clock"
                ))
                .with_hint("check the clock of the machine that made it, or the time that it was made of"));
            }
        }
        Ok(())
    }

    /// Removes the ids, so that the next append assigns new ones.
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

    /// Adds an event and its optional fields. A raw payload ([`serde_json::value::RawValue`]) is stored byte for byte,
    /// except that line breaks between tokens become spaces.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an event that does not serialise, is nested deeper than
    /// 127, or is not well-formed Unicode. The batch is then unchanged.
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

    /// Adds the event of a stored record, with its optional fields, byte for byte: so an event is copied to
    /// another log. Returns false for a record of another program, which is not added.
    ///
    /// ```
    /// use prodigy_storage_backend::record::{RecordEncoder, read_line};
    /// use prodigy_storage_backend::{Batch, EventId};
    /// use prodigy_storage_layout::Timestamp;
    ///
    /// let (now, mut line) = (Timestamp::from_millis(1_764_018_118_000), Vec::new());
    /// RecordEncoder::new().encode(&mut line, EventId::floor(now), now, br#","event":"started""#);
    /// let mut batch = Batch::new();
    /// assert!(batch.push_record(&read_line(&line).expect("it is whole")));
    /// assert_eq!(batch.bodies().next(), Some(&br#","event":"started""#[..]));
    /// ```
    pub fn push_record(&mut self, record: &Record<'_>) -> bool {
        let Some(body) = record.body() else { return false };
        self.bytes.extend_from_slice(body.as_bytes());
        self.ends.push(self.bytes.len());
        self.ids.clear();
        true
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
                // Serialises like raw JSON, but does not hold the text.
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
