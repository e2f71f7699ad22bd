//! Appends: the only writes that are repeated after an unknown outcome, under the same ids.

use std::sync::atomic::Ordering;

use prodigy_storage_backend::{AppendOptions, Appended, Batch, Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use super::Caller;
use super::operation::APPEND;

impl Caller {
    /// Appends a batch. Events that an attempt with an unknown outcome stored are not stored again.
    ///
    /// If an attempt had an unknown outcome and the last attempt failed, the error is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) with the ids, whatever the last error was. Only
    /// [`Fenced`](ErrorKind::Fenced) is returned as it is.
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
            // Ids that are new in this call belong to no other event, so an earlier attempt stored the duplicates.
            Ok(Appended { stored, duplicates }) if !brought_ids => Ok(Appended {
                stored: stored + duplicates,
                duplicates: 0,
            }),
            // Events of a fenced append may be stored too, but the caller has to stop.
            Err(error) if error.kind() == ErrorKind::Fenced => Err(error.with_ids(batch.ids())),
            Err(error) if unclear && error.kind() != ErrorKind::OutcomeUnknown => {
                Err(still_unclear(job, batch, error))
            }
            outcome => outcome,
        }
    }
}

/// The error of an append that failed in the end, although an earlier attempt may have stored its events.
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
    // Only this error states the number of attempts, not its source.
    .with_source(last.with_attempts(1))
}
