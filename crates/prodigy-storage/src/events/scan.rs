//! A scan that outlives its connection.

use std::sync::Arc;

use prodigy_storage_backend::{Cursor, Result, Scan, ScanItem, ScanOptions, StorageError};
use prodigy_storage_layout::JobAddress;

use crate::call::operation::SCAN;
use crate::storage::Inner;

/// A scan that is begun again behind its last item after a transient failure, as any other call is repeated.
pub(super) struct RepeatedScan {
    inner: Arc<Inner>,
    job: JobAddress,
    /// The options of the scan, from its first position.
    options: ScanOptions,
    scan: Box<dyn Scan>,
}

impl RepeatedScan {
    pub(super) fn new(
        inner: &Arc<Inner>,
        job: &JobAddress,
        options: ScanOptions,
        scan: Box<dyn Scan>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            job: job.clone(),
            options,
            scan,
        }
    }

    fn begin_again(&mut self, error: &StorageError) -> Result<()> {
        tracing::warn!(job = %self.job, %error, "a scan failed, and is begun again behind its last event");
        let mut options = self.options.clone();
        options.from = Some(self.scan.cursor());
        let deadline = self.inner.deadline();
        self.scan = self.inner.caller.call(SCAN, &self.job, deadline, |backend| {
            let mut scan = backend.scan(&self.job, &options, deadline)?;
            scan.fetch()?;
            Ok(scan)
        })?;
        Ok(())
    }
}

impl Scan for RepeatedScan {
    fn fetch(&mut self) -> Result<()> {
        match self.scan.fetch() {
            Err(error) if SCAN.may_repeat(&error) => self.begin_again(&error),
            fetched => fetched,
        }
    }

    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        self.fetch()?;
        self.scan.next()
    }

    fn cursor(&self) -> Cursor {
        self.scan.cursor()
    }
}
