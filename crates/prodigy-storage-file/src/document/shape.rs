//! The fields that documents of the store itself must have.
//!
//! The checksum of a document shows that it is as it was written. A file without a checksum, which a person or another
//! program put at the path of such a document, may be valid JSON and still lack what readers need.

use prodigy_storage_backend::{FenceMarks, StoredDocument};
use prodigy_storage_layout::{Document, Timestamp};
use serde::Deserialize;

/// The fields of the mark of a finished job.
#[derive(Deserialize)]
struct Finished {
    #[expect(dead_code, reason = "only its presence matters")]
    finished_at: Timestamp,
}

/// The fields of a registry entry.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only the presence of the fields matters")]
struct Registered {
    name: String,
    identity: String,
    registered_at: Timestamp,
}

/// The reason why readers can't use a document without a checksum whose bytes are whole; `None` if they can.
pub(crate) fn misshapen(document: &Document, found: &StoredDocument) -> Option<&'static str> {
    if found.is_verified() {
        return None;
    }
    let body = found.body();
    let is_read = match document {
        Document::Finished(_) => serde_json::from_slice::<Finished>(body).is_ok(),
        Document::Repository(_) => serde_json::from_slice::<Registered>(body).is_ok(),
        Document::Fencing(_) => FenceMarks::parse(body).is_ok(),
        _ => return None,
    };
    (!is_read).then_some(match document {
        Document::Finished(_) => "it does not hold the time at which the job was finished",
        Document::Repository(_) => "it does not name its repository",
        _ => "it does not hold fencing marks",
    })
}
