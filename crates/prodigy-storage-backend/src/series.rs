//! Finds the newest valid document of a series.

use crate::{ErrorKind, Result, StorageError};

/// The result of [`newest_valid`].
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, StorageError, newest_valid};
///
/// let damaged = |at: &usize| StorageError::new(ErrorKind::Damaged, "read", at, "it is torn");
/// let newest = newest_valid(
///     |last: Option<&usize>| Ok(last.copied().unwrap_or(2).checked_sub(1)),
///     |at| Err::<(), _>(damaged(at)),
/// )?;
/// assert_eq!((newest.found, newest.skipped.len()), (None, 2));
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NewestValid<N, T> {
    /// The newest document that could be read, with its content; `None` if no document could be read.
    pub found: Option<(N, T)>,
    /// Newer documents that were skipped, each with the reason, the newest first.
    pub skipped: Vec<(N, StorageError)>,
}

/// Searches a series for the newest document that can be read. `older` returns the newest document or, for a skipped
/// one, the document before it. `read` reads a document; a document that is damaged, belongs to another program, or was
/// deleted is skipped.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, StorageError, newest_valid};
///
/// let series = ["whole", "whole", "torn"];
/// let newest = newest_valid(
///     |last: Option<&usize>| Ok(last.copied().unwrap_or(series.len()).checked_sub(1)),
///     |at| match series[*at] {
///         "torn" => Err(StorageError::new(ErrorKind::Damaged, "read", at, "it is torn")),
///         state => Ok(state),
///     },
/// )?;
/// assert_eq!(newest.found, Some((1, "whole")));
/// assert_eq!(newest.skipped.len(), 1);
/// # Ok::<(), StorageError>(())
/// ```
///
/// # Errors
/// The errors of `older`, and the errors of `read` for any other reason.
pub fn newest_valid<N, T>(
    mut older: impl FnMut(Option<&N>) -> Result<Option<N>>,
    mut read: impl FnMut(&N) -> Result<T>,
) -> Result<NewestValid<N, T>> {
    let mut skipped: Vec<(N, StorageError)> = Vec::new();
    while let Some(next) = older(skipped.last().map(|(last, _)| last))? {
        match read(&next) {
            Ok(content) => {
                return Ok(NewestValid {
                    found: Some((next, content)),
                    skipped,
                });
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Damaged | ErrorKind::Foreign | ErrorKind::NotFound
                ) =>
            {
                skipped.push((next, error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(NewestValid { found: None, skipped })
}
