//! The one error of the storage crates.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use prodigy_storage_layout::NameError;

use crate::id::EventId;

/// The result of a fallible call of a backend, a layer or the facade.
///
/// ```
/// use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
///
/// fn durability(text: &str) -> Result<Durability> {
///     let found = Durability::ALL.iter().find(|durability| durability.as_str() == text);
///     found.copied().ok_or_else(|| StorageError::invalid("read durability", text, "no such durability"))
/// }
/// assert_eq!(durability("lax").unwrap_err().kind(), ErrorKind::InvalidInput);
/// ```
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// The kind of a failure: the part of a [`StorageError`] that a program branches on.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, StorageError};
///
/// fn exit_code(error: &StorageError) -> u8 {
///     match error.kind() {
///         ErrorKind::NotFound => 3,
///         ErrorKind::LockUnavailable | ErrorKind::Timeout => 4,
///         _ => 1,
///     }
/// }
/// # let _ = exit_code;
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named job, document or item does not exist.
    NotFound,
    /// The caller's input is refused: a name, an event, an item or an option. Nothing was stored.
    InvalidInput,
    /// The configuration is refused, for example an unknown key.
    InvalidConfig,
    /// A record, document or item is larger than the configured limit. A refused write stored nothing.
    TooLarge,
    /// A compare-and-set found another revision, or a document where none was expected.
    Conflict,
    /// A write carried an overtaken fencing token: a later holder of the lock has written under a greater one.
    Fenced,
    /// A lock of the store, or a named lock, could not be acquired in time.
    LockUnavailable,
    /// The storage directory is not writable.
    NotWritable,
    /// The disk, or the memory backend's limit, is full. What was stored before is intact.
    DiskFull,
    /// The queue has reached the size that its configuration allows. Nothing of the push was stored.
    QueueFull,
    /// Stored data is damaged. The message says where and how.
    Damaged,
    /// A file with this name exists, but another program wrote it in an unknown form. The file is unchanged.
    Foreign,
    /// A newer version wrote the store in a format that this version does not know.
    NewerFormat,
    /// A cursor points to data that no longer exists, so events after the cursor may be missing.
    CursorGap,
    /// The call was not done by its deadline.
    Timeout,
    /// A wait for another process was ended by the program itself
    /// ([`Deadline::or_when`](crate::Deadline::or_when)). Nothing was changed.
    Interrupted,
    /// A write failed, but its data may be stored. For an append, [`StorageError::ids`] has the ids of the events.
    OutcomeUnknown,
    /// The handle was opened for reading only, or the data was moved to another store.
    ReadOnly,
    /// This backend, platform or file system does not support the operation.
    Unsupported,
    /// The folder is refused for safety: other users may write to it, it is on a network file system, or a link
    /// leads out of the root.
    Refused,
    /// The store was removed, moved or replaced by another folder while this handle, guard or scan used it, or the
    /// lease of a named lock in a database has ended. Open the storage again.
    Replaced,
    /// The job was deleted during the call, which was a write or a scan.
    Deleted,
    /// The service behind the store can't be reached or refuses work at present, for example because of a network
    /// failure or a restart. Always transient: the same call may succeed later.
    Unavailable,
    /// The service behind the store refused the caller's name, secret or rights.
    Unauthorised,
    /// Any other failure of the operating system.
    Io,
}

impl ErrorKind {
    /// The name of the kind, as in the troubleshooting pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::InvalidInput => "invalid input",
            Self::InvalidConfig => "invalid configuration",
            Self::TooLarge => "too large",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced off",
            Self::LockUnavailable => "failed to acquire storage lock",
            Self::NotWritable => "storage directory not writable",
            Self::DiskFull => "disk space full",
            Self::QueueFull => "queue full",
            Self::Damaged => "damaged data",
            Self::Foreign => "another program's data",
            Self::NewerFormat => "newer format",
            Self::CursorGap => "cursor gap",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::OutcomeUnknown => "outcome unknown",
            Self::ReadOnly => "read only",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
            Self::Replaced => "store replaced",
            Self::Deleted => "deleted",
            Self::Unavailable => "unavailable",
            Self::Unauthorised => "unauthorised",
            Self::Io => "input/output error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation: its name, its path or key, the reason, and a hint.
///
/// A program reads [`kind`](Self::kind) and [`is_transient`](Self::is_transient); a person reads the rest. The
/// message is one line, `kind: operation target: why`, and lists up to 32 of the [`ids`](Self::ids). The hint is
/// not part of it, since it has a line of its own. The cause, such as an error of the operating system, is the
/// [`source`](StdError::source). With `{:#}` the message ends with all causes.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, StorageError};
///
/// let error = StorageError::new(ErrorKind::Conflict, "put document", "shop/job-1 map", "the revision is another one")
///     .with_hint("read it again and decide");
/// assert_eq!(error.kind(), ErrorKind::Conflict);
/// assert_eq!(error.to_string(), "conflict: put document shop/job-1 map: the revision is another one");
/// assert!(!error.is_transient());
///
/// let error = error.with_source(std::io::Error::other("device lost"));
/// assert!(std::error::Error::source(&error).is_some());
/// assert!(format!("{error:#}").ends_with("the revision is another one: device lost"));
/// ```
///
/// A clone is meant for another caller of the same failed work, and shares the source. `Debug` is for people, too, because a `main` that
/// returns the error prints it so, and `unwrap` as well: the message with all causes, and the hint on a line of its own.
#[derive(Clone)]
#[non_exhaustive]
pub struct StorageError {
    // Boxed, so that a `Result` stays small.
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    target: String,
    why: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    transient: bool,
    attempts: u32,
    ids: Vec<EventId>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The most ids that a message lists.
const IDS_SHOWN: usize = 32;

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.operation)?;
        if !self.target.is_empty() {
            write!(f, " {}", escape(&self.target))?;
        }
        write!(f, ": {}", self.why)?;
        if let [first, rest @ ..] = self.ids.as_slice() {
            write!(f, "; may be stored: {first}")?;
            for id in rest.iter().take(IDS_SHOWN - 1) {
                write!(f, ", {id}")?;
            }
            if self.ids.len() > IDS_SHOWN {
                write!(f, " and {} more", self.ids.len() - IDS_SHOWN)?;
            }
        }
        if self.attempts > 1 {
            write!(f, " (after {} tries)", self.attempts)?;
        }
        let mut source = self
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static));
        while let Some(cause) = source.filter(|_| f.alternate()) {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")?;
        match self.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for StorageError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// A refused name is [`InvalidInput`](ErrorKind::InvalidInput), with the hint of the name's error.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, StorageError};
/// use prodigy_storage_layout::JobId;
///
/// fn job() -> Result<JobId, StorageError> {
///     Ok(JobId::new("../escape")?)
/// }
/// assert_eq!(job().unwrap_err().kind(), ErrorKind::InvalidInput);
/// ```
impl From<NameError> for StorageError {
    fn from(error: NameError) -> Self {
        Self::invalid("check name", error.kind(), error.to_string()).with_hint(error.hint())
    }
}

impl StorageError {
    /// A new error. It is transient only if its kind is [`Unavailable`](ErrorKind::Unavailable). `target` is the
    /// path or key of the operation. It may be empty, and is escaped when it is shown.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        target: impl fmt::Display,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                operation,
                target: target.to_string(),
                why: why.into(),
                hint: None,
                transient: kind == ErrorKind::Unavailable,
                attempts: 1,
                ids: Vec::new(),
                source: None,
            }),
        }
    }

    /// An error of kind [`InvalidInput`](ErrorKind::InvalidInput), for input that is refused.
    pub fn invalid(
        operation: &'static str,
        target: impl fmt::Display,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::InvalidInput, operation, target, why)
    }

    /// An error of kind [`Timeout`](ErrorKind::Timeout): the deadline passed while the caller waited for
    /// `waited_for`.
    pub fn timeout(operation: &'static str, target: impl fmt::Display, waited_for: &str) -> Self {
        Self::new(
            ErrorKind::Timeout,
            operation,
            target,
            format!("the deadline passed while waiting for {waited_for}"),
        )
        .with_hint("raise `timeout`, or find out what holds it up")
    }

    /// The error for a push of `more` bytes that would make a queue of `bytes` larger than its maximum size.
    pub fn queue_full(
        operation: &'static str,
        target: impl fmt::Display,
        bytes: u64,
        more: u64,
        max: u64,
    ) -> Self {
        let why = format!(
            "the queue has {bytes} bytes and this push takes {more} more, `max_queue_size` is {max}; nothing was stored"
        );
        Self::new(ErrorKind::QueueFull, operation, target, why).with_hint(
            "redrive or remove dead letters, compact the queue, or raise `backend_config.max_queue_size`",
        )
    }

    /// Sets the hint: what a person can do about the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Sets the cause of the error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.inner.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks the error as transient: the same call may succeed later.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.inner.transient = true;
        self
    }

    /// Adds the ids of the events that may or may not be stored.
    #[must_use]
    pub fn with_ids(mut self, ids: &[EventId]) -> Self {
        self.inner.ids = ids.to_vec();
        self
    }

    /// Sets the number of times that the operation was tried.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.inner.attempts = attempts;
        self
    }

    /// The kind, which a program branches on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// The path or key that the operation was called for, not escaped.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.inner.target
    }

    /// The reason, without the kind, the operation and the target.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.inner.why
    }

    /// The hint: what a person can do about the error.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// True if the same call may succeed later. Only such errors are retried.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.inner.transient
    }

    /// The ids of the events that may or may not be stored, for an error of kind [`ErrorKind::OutcomeUnknown`];
    /// otherwise empty.
    #[must_use]
    pub fn ids(&self) -> &[EventId] {
        &self.inner.ids
    }

    /// The number of times that the operation was tried; 1 without retries.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }
}

/// Escapes control and format characters, so that text from outside can't control a terminal.
///
/// ```
/// assert_eq!(prodigy_storage_backend::escape("a\u{1b}[31mb"), "a\\u{1b}[31mb");
/// ```
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    let risky = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    if !text.contains(risky) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if risky(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use prodigy_storage_layout::Timestamp;

    use super::*;

    #[test]
    fn a_message_names_the_ids_up_to_a_bound_and_the_number_of_the_others() {
        let ids: Vec<EventId> = (1..=40)
            .map(|millis| EventId::floor(Timestamp::from_millis(millis)))
            .collect();
        let message = |ids: &[EventId]| {
            let error = StorageError::new(
                ErrorKind::OutcomeUnknown,
                "append events",
                "shop/job-1",
                "the sync failed",
            );
            error.with_ids(ids).to_string()
        };
        assert!(message(&[]).ends_with(": the sync failed"));
        assert!(message(&ids[..2]).ends_with(&format!("; may be stored: {}, {}", ids[0], ids[1])));
        let all = message(&ids[..32]);
        assert!(all.ends_with(&ids[31].to_string()), "{all}");
        let many = message(&ids);
        assert!(
            many.contains(&ids[31].to_string()) && !many.contains(&ids[32].to_string()),
            "{many}"
        );
        assert!(many.ends_with(" and 8 more"), "{many}");
    }

    #[test]
    fn the_debug_form_is_the_message_with_causes_and_hint() {
        let error = StorageError::new(
            ErrorKind::Io,
            "put document",
            "shop/job-1 map",
            "the write failed",
        );
        assert_eq!(format!("{error:?}"), error.to_string());
        let error = error
            .with_source(std::io::Error::other("device lost"))
            .with_hint("look at the disk");
        let expected = "input/output error: put document shop/job-1 map: the write failed: device lost\n  hint: look at the disk";
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(format!("{error:#?}"), expected);
    }

    #[test]
    fn only_what_is_unavailable_is_transient_by_its_kind() {
        let error = |kind| StorageError::new(kind, "get document", "shop/job-1", "the server restarts");
        assert!(error(ErrorKind::Unavailable).is_transient());
        for kind in [ErrorKind::Unauthorised, ErrorKind::Timeout, ErrorKind::Io] {
            assert!(!error(kind).is_transient(), "{kind}");
        }
        assert!(
            error(ErrorKind::Unauthorised)
                .to_string()
                .starts_with("unauthorised: get document")
        );
    }
}
