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

/// Searches a series for the newest document that can be read. `older(None)` has to return the newest document,
/// and `older(Some(name))` the one before `name`. `read` reads a document; if it is damaged, belongs to another
/// program, or was deleted meanwhile, the next older document is read.
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
/// An error of `older`, and an error of `read` that has another reason.
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
