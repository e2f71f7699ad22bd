//! Appends. They are the only writes that are repeated after an unknown outcome; the repetition uses the same ids.

use std::sync::atomic::Ordering;

use prodigy_storage_backend::{AppendOptions, Appended, Batch, Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::JobAddress;

use super::Caller;
use super::operation::APPEND;

impl Caller {
    /// Appends a batch, with retries. An event that an earlier attempt stored is not stored again.
    ///
    /// If an attempt had an unknown outcome and no later one succeeded, the error is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) with the ids of the events, whatever the error of the last
    /// attempt was. Only [`Fenced`](ErrorKind::Fenced) is returned unchanged.
    pub(crate) fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        self.counted(APPEND, job, || {
            self.append_uncounted(job, batch, options, deadline)
        })
    }

    /// Like [`append`](Self::append), for a caller that counts the appends.
    pub(crate) fn append_uncounted(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        let brought_ids = !batch.ids().is_empty();
        let mut unclear = false;
        let outcome = self.call_uncounted(APPEND, job, deadline, |backend| {
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
            // The ids were made by this call, so no earlier call can have stored these events. An earlier attempt
            // of this call did.
            Ok(Appended { stored, duplicates }) if !brought_ids => Ok(Appended {
                stored: stored + duplicates,
                duplicates: 0,
            }),
            // Events of a fenced append may be stored too, but the caller has to know that it lost the lock.
            Err(error) if error.kind() == ErrorKind::Fenced => Err(error.with_ids(batch.ids())),
            Err(error) if unclear && error.kind() != ErrorKind::OutcomeUnknown => {
                Err(still_unclear(job, batch, error))
            }
            outcome => outcome,
        }
    }
}

/// The error of an append whose last attempt failed, while an earlier attempt may have stored its events.
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
    // The number of attempts is stated by this error alone, so its source states 1.
    .with_source(last.with_attempts(1))
}
