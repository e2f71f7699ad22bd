//! The result of a redrive.

use std::error::Error;
use std::fmt;

use prodigy_storage_backend::{ItemId, QueueMark, StorageError};

/// The result of a redrive. `taken` is the sum of `done`, `failed`, `parked`, `released`, `kept`, `lost` and
/// `unsettled`.
///
/// ```
/// use prodigy_storage::RedriveReport;
///
/// fn is_clean(report: &RedriveReport) -> bool {
///     report.done == report.taken && report.passed_over_count == 0
/// }
/// # assert!(is_clean(&RedriveReport::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// The number of the queue's last change before the run. Only items that existed at that change were taken.
    pub bound: QueueMark,
    /// The number of items that were taken. Each item is taken at most once.
    pub taken: usize,
    /// The number of items whose work is done and that were removed.
    pub done: usize,
    /// The number of items that failed again and were not parked for it.
    pub failed: usize,
    /// The number of items that were parked, by the outcome of their work or after `max_attempts` failures.
    pub parked: usize,
    /// The number of items that were released: by the outcome of their work, after it panicked, or because the run
    /// ended before it started.
    pub released: usize,
    /// The number of items whose work is done but that were kept, because another failure of them was pushed
    /// meanwhile.
    pub kept: usize,
    /// The number of items whose lease was lost: another worker took them, or an operator released, changed,
    /// parked or removed them. The outcome of their work was not stored, so the work may be done again.
    pub lost: usize,
    /// The number of items whose settlement failed with the error that ended the run. They are pending again when
    /// their leases end, unless the settlement was stored even so.
    pub unsettled: usize,
    /// Items that were left unchanged, because they could not be read or their failure could not be stored. Only
    /// the first ones are listed, at most [`PASSED_OVER`](Self::PASSED_OVER). Unreadable items are looked for at the end of
    /// the run, and not if it was stopped or failed.
    pub passed_over: Vec<PassedOver>,
    /// The number of all items that were left unchanged for these reasons.
    pub passed_over_count: usize,
    /// True if the run was stopped before it had taken all items.
    pub stopped: bool,
}

impl RedriveReport {
    /// The largest number of items in `passed_over`.
    pub const PASSED_OVER: usize = 100;

    pub(super) fn pass_over(&mut self, id: Option<ItemId>, error: &StorageError) {
        self.passed_over_count += 1;
        if self.passed_over.len() < Self::PASSED_OVER {
            let why = error.to_string();
            self.passed_over.push(PassedOver { id, why });
        }
    }
}

/// An item that a redrive left unchanged.
///
/// ```
/// use prodigy_storage::{Dlq, Outcome, RedriveOptions, Select, StorageError};
///
/// fn print_unreadable(dlq: &Dlq) -> Result<(), StorageError> {
///     let report = dlq.redrive(Select::eligible(), &RedriveOptions::new(), |_| Outcome::release())?;
///     for item in report.passed_over {
///         println!("{:?}: {}", item.id, item.why);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassedOver {
    /// The key of the item, if known.
    pub id: Option<ItemId>,
    /// The reason why it was left unchanged.
    pub why: String,
}

/// A redrive that ended early because the backend failed. Its source is the backend's error; with `{:#}` the message ends with it. `Debug` is for
/// people, too: the message with all causes, and the hint.
///
/// ```
/// use prodigy_storage::{Dlq, Outcome, RedriveOptions, Select};
///
/// fn run(dlq: &Dlq) {
///     if let Err(error) = dlq.redrive(Select::eligible(), &RedriveOptions::new(), |_| Outcome::Done) {
///         println!("{error}: {} were done", error.report().done);
///     }
/// }
/// ```
pub struct RedriveError {
    report: Box<RedriveReport>,
    error: StorageError,
}

impl RedriveError {
    pub(super) fn new(report: RedriveReport, error: StorageError) -> Self {
        Self {
            report: Box::new(report),
            error,
        }
    }

    /// The error of a run that could not start.
    #[cfg(feature = "tokio")]
    pub(crate) fn unbegun(error: StorageError) -> Self {
        Self::new(RedriveReport::default(), error)
    }

    /// The report of the run up to the error.
    #[must_use]
    pub fn report(&self) -> &RedriveReport {
        &self.report
    }

    /// The error of the backend.
    #[must_use]
    pub fn error(&self) -> &StorageError {
        &self.error
    }
}

impl fmt::Display for RedriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the redrive ended early, after {} items", self.report.taken)?;
        match f.alternate() {
            true => write!(f, ": {:#}", self.error),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for RedriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}: {:?}", self.error)
    }
}

impl Error for RedriveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Converts to the error of the backend; the report is lost.
impl From<RedriveError> for StorageError {
    fn from(error: RedriveError) -> Self {
        error.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_says_why_where_one_error_is_all_that_is_printed() {
        let why =
            StorageError::invalid("take items", "shop/job-1", "the queue is gone").with_hint("look again");
        let message = format!("the redrive ended early, after 0 items: {why}");
        let error = RedriveError::new(RedriveReport::default(), why);
        assert_eq!(error.to_string(), "the redrive ended early, after 0 items");
        assert_eq!(format!("{error:#}"), message);
        assert_eq!(format!("{error:?}"), format!("{message}\n  hint: look again"));
    }
}
