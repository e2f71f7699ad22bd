//! The key of an item.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};

/// The key of an item: any text of 1 to 1,024 bytes.
///
/// ```
/// use prodigy_storage_backend::ItemId;
///
/// assert_eq!(ItemId::new("src/a.rs")?.as_str(), "src/a.rs");
/// assert!(ItemId::new("").is_err());
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId(String);

impl ItemId {
    /// The length of the longest key, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Makes a key from a text, and checks its length.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if it is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX_LEN {
            let shown: String = text.chars().take(40).collect();
            let why = format!(
                "an `item_id` has 1 to {} bytes, this one has {}",
                Self::MAX_LEN,
                text.len()
            );
            return Err(StorageError::invalid("read item", shown, why));
        }
        Ok(Self(text))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ItemId {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for ItemId {
    type Error = StorageError;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0
    }
}
