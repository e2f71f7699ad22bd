//! Fencing marks, in which a job keeps the greatest token that it was written to under: a mark is never below the
//! token of a stored write.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::{DocumentStore, ErrorKind, Fence, FenceMarks, LogStore, ScanItem, ScanOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Document, DocumentScope, JobAddress};
use serde::de::IgnoredAny;

use crate::history::{Action, History};
use crate::stage::patience;

pub(super) fn verify(history: &History, backend: &FileBackend) -> Result<()> {
    // The greatest token of an acknowledged write, by job.
    let mut acknowledged: BTreeMap<&JobAddress, u64> = BTreeMap::new();
    for op in history.ops() {
        if let Action::Add {
            job,
            fence: Some(token),
            ..
        }
        | Action::Append {
            job,
            fence: Some(token),
            ..
        }
        | Action::Push {
            job,
            fence: Some(token),
            ..
        } = &op.action
        {
            let greatest = acknowledged.entry(job).or_default();
            if op.answer.is_some() {
                *greatest = *token.max(greatest);
            }
        }
    }
    for (job, mut greatest) in acknowledged {
        // Stored writes count as well if they were not acknowledged.
        for entry in backend
            .list(&DocumentScope::Job(job.clone()), &Default::default(), patience())?
            .entries
        {
            let found = backend
                .get(&entry.document, patience())?
                .context("what was listed is not there")?;
            let body: serde_json::Value = serde_json::from_slice(found.body())?;
            let token = body.get("fencing").and_then(serde_json::Value::as_u64);
            greatest = greatest.max(token.unwrap_or_default());
        }
        greatest = greatest.max(greatest_in_log(backend, job)?);
        let marks = match backend.get(&Document::Fencing(job.clone()), patience())? {
            Some(found) => FenceMarks::parse(found.body())?,
            None => FenceMarks::default(),
        };
        if greatest > 1 {
            let overtaken = marks.check("verify", job, &Fence::unnamed(greatest - 1)?);
            ensure!(
                overtaken.is_err_and(|error| error.kind() == ErrorKind::Fenced),
                "{job} was written to under {greatest}, and its marks are {marks:?}"
            );
        }
    }
    Ok(())
}

/// The greatest token of an event in the log.
fn greatest_in_log(backend: &FileBackend, job: &JobAddress) -> Result<u64> {
    let mut greatest = 0;
    let mut scan = backend.scan(job, &ScanOptions::all(), patience())?;
    while let Some(item) = scan.next()? {
        if let ScanItem::Record(record) = item {
            let fence = record.parse_event::<IgnoredAny>()?.fence;
            greatest = greatest.max(fence.map_or(0, |fence| fence.token()));
        }
    }
    Ok(greatest)
}
