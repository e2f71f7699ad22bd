//! Appending: the one write that is repeated after an unknown outcome, under the same ids.

use std::sync::atomic::Ordering;

use prodigy_storage_backend::{AppendOptions, Appended, Batch, Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use super::Caller;
use super::operation::APPEND;

impl Caller {
    /// Appends a batch. Whatever was stored by a try whose outcome was unknown is not stored a second time.
    ///
    /// If any try had an unknown outcome and the last one failed, the error is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) with the ids, whatever the last error was except
    /// [`Fenced`](ErrorKind::Fenced).
    pub(crate) fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        let brought_ids = !batch.ids().is_empty();
        let mut unclear = false;
        let outcome = self.call(APPEND, job, deadline, |backend| {
            backend
                .append(job, batch, options, deadline)
                .inspect_err(|error| {
                    if error.kind() == ErrorKind::OutcomeUnknown {
                        self.counters.unclear_appends.fetch_add(1, Ordering::Relaxed);
                        unclear = true;
                        if batch.ids().is_empty() && error.ids().len() == batch.len() {
                            batch.set_ids(error.ids().iter().copied());
                        }
                    }
                })
        });
        match outcome {
            // Ids that are new in this call belong to no other event: an earlier try stored the duplicates.
            Ok(Appended { stored, duplicates }) if !brought_ids => Ok(Appended {
                stored: stored + duplicates,
                duplicates: 0,
            }),
            // Of a fenced append, too, events may be stored, and the caller has to stop.
            Err(error) if error.kind() == ErrorKind::Fenced => Err(error.with_ids(batch.ids())),
            Err(error) if unclear && error.kind() != ErrorKind::OutcomeUnknown => {
                Err(still_unclear(job, batch, error))
            }
            outcome => outcome,
        }
    }
}

/// The error for an append that failed in the end, although an earlier try may have stored its events.
fn still_unclear(job: &JobAddress, batch: &Batch, last: StorageError) -> StorageError {
    let tries = last.attempts();
    let settle = "append the same batch under the same ids: what is stored is not stored again";
    let hint = match last.hint() {
        Some(first) => format!("{first}; then {settle}"),
        None => settle.to_owned(),
    };
    StorageError::new(
        ErrorKind::OutcomeUnknown,
        APPEND.name,
        job,
        "an earlier try may have stored them, and the last one failed",
    )
    .with_ids(batch.ids())
    .with_attempts(tries)
    .with_hint(hint)
    // The number of tries is shown once.
    .with_source(last.with_attempts(1))
}
