//! Dead letters as Rust types, for callers that do not handle JSON themselves.

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::normalise::normalise;
use crate::body::to_raw;
use crate::error::Result;
use crate::queue::{ItemId, QueueItem};

/// A work item that failed, with the history of its failures.
///
/// The queue fills each field that is `None` on a push (see [`normalise`]).
///
/// ```
/// use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, WorktreeArtifacts};
/// use prodigy_storage_backend::ItemId;
///
/// let letter = DeadLetter::new(ItemId::new("src/a.rs")?, "review this file")
///     .failure(Failure::new("Timeout", "no answer in 30s").agent("agent-17"))
///     .artifacts(WorktreeArtifacts::new("/srv/session-1", "agent-17"))
///     .eligible(false);
/// assert_eq!(letter.failure_history.len(), 1);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The key of the item in the queue.
    pub item_id: ItemId,
    /// The work item itself.
    pub item_data: T,
    /// The time of the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt: Option<Timestamp>,
    /// The time of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Timestamp>,
    /// The number of failures, at least the length of the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_count: Option<u64>,
    /// The failures of the item, oldest first.
    #[serde(default, deserialize_with = "or_default")]
    pub failure_history: Vec<Failure>,
    /// The signature that failures with one cause share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_signature: Option<String>,
    /// The files that the last attempt left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree_artifacts: Option<WorktreeArtifacts>,
    /// True if a redrive may take the item.
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub reprocess_eligible: bool,
    /// True if a person has to check the item first.
    #[serde(default, deserialize_with = "or_default")]
    pub manual_review_required: bool,
    /// The reason why the item was parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_reason: Option<String>,
    /// All other fields of the item.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl<T> DeadLetter<T> {
    /// An item that has failed now, for the first time.
    #[must_use]
    pub fn new(item_id: ItemId, item_data: T) -> Self {
        Self {
            item_id,
            item_data,
            first_attempt: None,
            last_attempt: None,
            failure_count: None,
            failure_history: Vec::new(),
            error_signature: None,
            worktree_artifacts: None,
            reprocess_eligible: true,
            manual_review_required: false,
            parked_reason: None,
            extra: Map::new(),
        }
    }

    /// Adds a failure, the newest so far.
    #[must_use]
    pub fn failure(mut self, failure: Failure) -> Self {
        self.failure_history.push(failure);
        self
    }

    /// Sets the files that the last attempt left behind.
    #[must_use]
    pub fn artifacts(mut self, artifacts: WorktreeArtifacts) -> Self {
        self.worktree_artifacts = Some(artifacts);
        self
    }

    /// Sets whether a redrive may take the item.
    #[must_use]
    pub fn eligible(mut self, yes: bool) -> Self {
        self.reprocess_eligible = yes;
        self
    }

    /// Sets whether a person has to check the item first.
    #[must_use]
    pub fn review(mut self, yes: bool) -> Self {
        self.manual_review_required = yes;
        self
    }
}

impl<T: Serialize> DeadLetter<T> {
    /// Converts into the item that is pushed to a queue.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the data can't be written as JSON, and in the
    /// cases that [`normalise`] lists.
    pub fn to_item(&self) -> Result<QueueItem> {
        let raw = to_raw(self).map_err(|fault| fault.refused("push item", &self.item_id))?;
        normalise(&raw)
    }
}

/// One failure of an item.
///
/// ```
/// use prodigy_storage_backend::dead_letter::Failure;
///
/// let failure = Failure::new("CommandFailed", "exit code 101").step("cargo test").agent("agent-17");
/// assert!(failure.timestamp.is_some());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Failure {
    /// The number of the attempt, from 1. If absent, the queue fills it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_number: Option<u64>,
    /// The time of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The kind of failure. An object that another program wrote is kept as its JSON text.
    #[serde(deserialize_with = "text_or_json")]
    pub error_type: String,
    /// The message for a person.
    #[serde(deserialize_with = "or_default")]
    pub error_message: String,
    /// Any JSON value that explains the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_context: Option<Value>,
    /// The stack trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_trace: Option<String>,
    /// The agent that made the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The step of the workflow that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_failed: Option<String>,
    /// The duration of the attempt in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The path of the agent's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_log_location: Option<String>,
    /// All other fields of the failure.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Failure {
    /// A failure of this kind with this message, at the present time. If the same value is pushed twice, it counts
    /// once.
    #[must_use]
    pub fn new(error_type: impl Into<String>, error_message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            error_message: error_message.into(),
            timestamp: Some(Timestamp::now()),
            ..Self::default()
        }
    }

    /// Sets the number of the attempt, from 1. Without it the queue gives the failure the next number.
    #[must_use]
    pub fn attempt(mut self, number: u64) -> Self {
        self.attempt_number = Some(number);
        self
    }

    /// Sets the time of the failure.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.timestamp = Some(time);
        self
    }

    /// Sets the agent that made the attempt.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent_id = Some(agent.into());
        self
    }

    /// Sets the step that failed.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step_failed = Some(step.into());
        self
    }
}

/// The files that a failed attempt left in its worktree.
///
/// ```
/// use prodigy_storage_backend::dead_letter::WorktreeArtifacts;
///
/// let artifacts = WorktreeArtifacts::new("/srv/session-1", "agent-17");
/// assert_eq!(artifacts.branch_name.as_deref(), Some("agent-17"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorktreeArtifacts {
    /// The path of the worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree_path: Option<String>,
    /// The branch of the worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_name: Option<String>,
    /// Changes that were not committed: a list, a text, or the place where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncommitted_changes: Option<Value>,
    /// Logs: a list, a text, or the place where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_logs: Option<Value>,
    /// All other fields of the artifacts.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl WorktreeArtifacts {
    /// Artifacts in this worktree, on this branch.
    #[must_use]
    pub fn new(worktree_path: impl Into<String>, branch_name: impl Into<String>) -> Self {
        Self {
            worktree_path: Some(worktree_path.into()),
            branch_name: Some(branch_name.into()),
            ..Self::default()
        }
    }
}

fn yes() -> bool {
    true
}

fn or_yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(true))
}

/// Reads `null` as the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn text_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}
