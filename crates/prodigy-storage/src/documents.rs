//! Documents of kinds that the caller defines.

use std::sync::Arc;

use prodigy_storage_backend::{
    Body, DocumentEntry, Durability, Expected, Fence, Page, PutOptions, Result, Revision,
};
use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, LockName, Timestamp,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::buffer::with_buffer;
use crate::call::operation::LIST;
use crate::checkpoints::stored_fence;
use crate::error::other_shape;
use crate::json;
use crate::listing::Listing;
use crate::storage::Inner;

/// Documents of one kind that the caller defines, such as the sessions of a job or the workflows of a repository.
/// Each is a value under a name, which is stored, replaced and read whole.
///
/// Kinds and names have to follow the rules for all names. A kind exists while it has a document. With
/// `enable_cache`, a document that is read again comes from memory if the backend still has the same revision. The
/// page `docs/how-to/documents.md` of the project introduces them.
///
/// ```
/// use prodigy_storage::{DocumentOptions, ErrorKind, Expected, Storage};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Session { worktree: String, turns: u32 }
///
/// # let storage = Storage::in_memory()?;
/// let sessions = storage.repo("shop")?.job("mapreduce-7")?.documents("sessions")?;
/// let session = Session { worktree: "/tmp/shop-1".into(), turns: 1 };
/// sessions.put("s-1", &session, DocumentOptions::new().expected_revision(Expected::Absent))?;
///
/// let found = sessions.get::<Session>("s-1")?.expect("it was put");
/// let next = Session { turns: found.data.turns + 1, ..found.data };
/// // Compare-and-set: stored only if the document still has the revision that was read.
/// let unchanged = DocumentOptions::new().expected_revision(Expected::Revision(found.revision));
/// sessions.put("s-1", &next, unchanged)?;
/// assert_eq!(sessions.put("s-1", &next, unchanged).unwrap_err().kind(), ErrorKind::Conflict);
///
/// for session in sessions.list() {
///     assert_eq!(session?.name.as_str(), "s-1");
/// }
/// assert!(sessions.delete("s-1", DocumentOptions::new())?);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Documents {
    inner: Arc<Inner>,
    pub(crate) owner: DocumentOwner,
    kind: DocumentKind,
    /// The fencing token that each write carries.
    fence: Option<Fence>,
}

/// How to put or delete a document; `Default` sets no condition.
///
/// ```
/// use prodigy_storage::{DocumentOptions, Expected};
///
/// let first = DocumentOptions::new().expected_revision(Expected::Absent);
/// assert_eq!(first.durability, None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DocumentOptions {
    /// The expected revision of the stored document. If it has another one, the call fails as a conflict.
    pub expected_revision: Expected,
    /// The durability of this call, instead of the configured one.
    pub durability: Option<Durability>,
}

impl DocumentOptions {
    /// Options without a condition, with the configured durability.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the call fail as a conflict unless the document has this revision, or is absent.
    #[must_use]
    pub fn expected_revision(mut self, expected: Expected) -> Self {
        self.expected_revision = expected;
        self
    }

    /// Sets the durability of this call, instead of the configured one.
    #[must_use]
    pub fn durability(mut self, durability: impl Into<Option<Durability>>) -> Self {
        self.durability = durability.into();
        self
    }
}

/// A document that was read.
///
/// ```
/// # use prodigy_storage::{DocumentOptions, Storage};
/// # let plans = Storage::in_memory()?.repo("shop")?.documents("plans")?;
/// let revision = plans.put("nightly", &["build", "test"], DocumentOptions::new())?;
/// let found = plans.get::<Vec<String>>("nightly")?.expect("it was put");
/// assert_eq!((found.revision, found.data.len()), (revision, 2));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored<T> {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The name of the document.
    pub name: DocumentName,
    /// The revision of the document, for [`DocumentOptions::expected_revision`].
    pub revision: Revision,
    /// True if the document has a checksum that matches. A file that was written by hand has no checksum.
    pub verified: bool,
    /// The time at which it was put, by the writer's clock; `None` for a file that was written by hand.
    pub saved_at: Option<Timestamp>,
    /// The fencing token under which it was put, without the token's origin.
    pub fencing: Option<Fence>,
    /// The value; for a file that was written by hand, the whole file.
    pub data: T,
}

/// An entry in a listing of documents. A listing never reads values.
///
/// ```
/// # use prodigy_storage::{DocumentOptions, Storage};
/// # let repo = Storage::in_memory()?.repo("shop")?;
/// repo.documents("plans")?.put("nightly", &1, DocumentOptions::new())?;
/// for document in repo.all_documents() {
///     let document = document?;
///     println!("{}/{} has {} bytes", document.kind, document.name, document.bytes);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentInfo {
    /// The kind of the document.
    pub kind: DocumentKind,
    /// The name of the document.
    pub name: DocumentName,
    /// The stored size in bytes.
    pub bytes: u64,
    /// The time at which it was stored, by the backend's clock.
    pub modified: Timestamp,
}

/// The stored form of a document. The value is its last field.
#[derive(Serialize)]
struct Saved<'a, T: ?Sized> {
    saved_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_lock: Option<&'a str>,
    data: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    saved_at: Option<Timestamp>,
    #[serde(default)]
    fencing: Option<u64>,
    #[serde(default)]
    fencing_lock: Option<String>,
    data: T,
}

impl Documents {
    pub(crate) fn new(
        inner: Arc<Inner>,
        owner: DocumentOwner,
        kind: impl AsRef<str>,
        fence: Option<Fence>,
    ) -> Result<Self> {
        let kind = DocumentKind::new(kind)?;
        Ok(Self {
            inner,
            owner,
            kind,
            fence,
        })
    }

    /// The kind of these documents.
    #[must_use]
    pub fn kind(&self) -> &DocumentKind {
        &self.kind
    }

    /// Stores a value under a name, whole or not at all. A document that has the name already is replaced.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the stored document does not meet the condition;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name, and for a value that
    /// does not serialise as JSON, is nested deeper than 127, or contains malformed raw JSON;
    /// [`TooLarge`](crate::ErrorKind::TooLarge) for a document over `max_document_size`; other errors of the
    /// backend.
    pub fn put<T: Serialize + ?Sized>(
        &self,
        name: impl AsRef<str>,
        value: &T,
        options: DocumentOptions,
    ) -> Result<Revision> {
        let document = self.document(name)?;
        let put = self.put_options(options);
        let saved = Saved {
            saved_at: self.inner.clock.now(),
            fencing: put.fencing.as_ref().map(Fence::token),
            fencing_lock: put.fencing.as_ref().and_then(Fence::lock).map(LockName::as_str),
            data: value,
        };
        with_buffer(|buffer| {
            let body = Body::write(buffer, &saved)
                .map_err(|fault| fault.below("data").refused("put document", &document))?;
            self.inner
                .caller
                .put(&document, body, &put, self.inner.deadline())
        })
    }

    /// Serialises a value to JSON. Refuses the values that [`put`](Self::put) refuses.
    #[cfg(feature = "tokio")]
    pub(crate) fn serialise<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<Box<RawValue>> {
        let document = self.document(name)?;
        prodigy_storage_backend::to_raw(value).map_err(|fault| fault.refused("put document", &document))
    }

    /// The value under a name; `None` if no document has the name.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) for a document whose checksum does not match;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value is not a `T`, and for a text that is not a
    /// valid name; other errors of the backend.
    pub fn get<T: DeserializeOwned>(&self, name: impl AsRef<str>) -> Result<Option<Stored<T>>> {
        let name = DocumentName::new(name)?;
        let document = self.at(&name);
        let Some(stored) = self.inner.caller.get(&document, self.inner.deadline())? else {
            return Ok(None);
        };
        let refuse = |error| other_shape("read document", &document, error);
        let verified = stored.is_verified();
        let read = if verified {
            json::parse(stored.body()).map_err(refuse)?
        } else {
            Read {
                saved_at: None,
                fencing: None,
                fencing_lock: None,
                data: json::parse(stored.body()).map_err(refuse)?,
            }
        };
        Ok(Some(Stored {
            kind: self.kind.clone(),
            name,
            revision: stored.revision(),
            verified,
            saved_at: read.saved_at,
            fencing: stored_fence(read.fencing, read.fencing_lock)?,
            data: read.data,
        }))
    }

    /// The value under a name as it is stored, byte for byte.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_raw(&self, name: impl AsRef<str>) -> Result<Option<Stored<Box<RawValue>>>> {
        self.get(name)
    }

    /// The revision of the document under a name, at less cost than reading it; `None` if no document has the
    /// name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name; other errors of the
    /// backend.
    pub fn revision(&self, name: impl AsRef<str>) -> Result<Option<Revision>> {
        let document = self.document(name)?;
        self.inner.caller.revision(&document, self.inner.deadline())
    }

    /// Deletes the document under a name; false if no document has the name.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the stored document does not meet the condition;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name; other errors of the
    /// backend.
    pub fn delete(&self, name: impl AsRef<str>, options: DocumentOptions) -> Result<bool> {
        let document = self.document(name)?;
        let put = self.put_options(options);
        let deadline = self.inner.deadline();
        self.inner.caller.delete(
            &document,
            put.expected,
            put.durability,
            put.fencing.as_ref(),
            deadline,
        )
    }

    /// The documents of this kind, sorted by name.
    pub fn list(&self) -> Listing<DocumentInfo> {
        list(&self.inner, self.owner.clone(), Some(self.kind.clone()))
    }

    fn document(&self, name: impl AsRef<str>) -> Result<Document> {
        Ok(self.at(&DocumentName::new(name)?))
    }

    fn at(&self, name: &DocumentName) -> Document {
        Document::Own(self.owner.clone(), self.kind.clone(), name.clone())
    }

    fn put_options(&self, options: DocumentOptions) -> PutOptions {
        let durability = options.durability.unwrap_or(self.inner.config.durability);
        PutOptions::new(durability)
            .expect(options.expected_revision)
            .fencing(self.fence.clone())
    }
}

/// The documents of an owner, of one kind or of all kinds, sorted by kind and name.
pub(crate) fn list(
    inner: &Arc<Inner>,
    owner: DocumentOwner,
    kind: Option<DocumentKind>,
) -> Listing<DocumentInfo> {
    let target = owner.to_string();
    let scope = DocumentScope::Own(owner, kind);
    Listing::new(Arc::clone(inner), LIST, target, move |backend, page, deadline| {
        let page = backend.list(&scope, page, deadline)?;
        Ok(Page::new(
            page.entries.into_iter().filter_map(info).collect(),
            page.next,
        ))
    })
}

/// The entry of a document of a kind that the caller defines; `None` for any other document.
fn info(entry: DocumentEntry) -> Option<DocumentInfo> {
    match entry.document {
        Document::Own(_, kind, name) => Some(DocumentInfo {
            kind,
            name,
            bytes: entry.bytes,
            modified: entry.modified,
        }),
        _ => None,
    }
}
