//! Documents: the possible contents of each name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::DocumentStore;
use prodigy_storage_backend::reference::Content;
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase};

use super::certainty;
use crate::crash::Loss;
use crate::history::{Action, Answer, History, Op};
use crate::stage::patience;

/// The expected documents of a history.
#[derive(Debug, Default)]
struct Expectations<'a> {
    names: BTreeMap<Document, Content<&'a str>>,
    series: BTreeSet<(JobAddress, Phase)>,
    /// The states of checkpoints whose saves were not acknowledged: they may exist, under unknown names.
    unnamed: HashSet<&'a str>,
}

pub(super) fn verify(history: &History, loss: Loss, backend: &FileBackend) -> Result<()> {
    let mut expected_all = Expectations::default();
    for op in history.ops() {
        expected_all.take_in(op, loss)?;
    }
    for (document, expected) in &expected_all.names {
        let found = get(backend, document)?;
        expected
            .check(found.as_deref().as_ref())
            .with_context(|| format!("document {document:?}"))?;
    }
    let mut strangers = HashSet::new();
    for (job, phase) in &expected_all.series {
        let scope = DocumentScope::Checkpoints(job.clone(), *phase);
        for entry in backend.list(&scope, &Default::default(), patience())?.entries {
            if expected_all.names.contains_key(&entry.document) {
                continue;
            }
            let body = get(backend, &entry.document)?.context("what was listed is not there")?;
            ensure!(
                expected_all.unnamed.contains(body.as_str()),
                "{:?} holds what nobody added: {body:.30}",
                entry.document
            );
            ensure!(strangers.insert(body), "what was added once stands there twice");
        }
    }
    Ok(())
}

fn get(backend: &FileBackend, document: &Document) -> Result<Option<String>> {
    let Some(found) = backend.get(document, patience())? else {
        return Ok(None);
    };
    ensure!(found.is_verified(), "{document:?} has no checksum");
    Ok(Some(String::from_utf8(found.body().to_vec())?))
}

impl<'a> Expectations<'a> {
    fn take_in(&mut self, op: &'a Op, loss: Loss) -> Result<()> {
        match &op.action {
            Action::Put {
                document,
                body,
                durability,
            } => {
                let name = self.names.entry(document.clone()).or_default();
                name.put(body.as_deref(), certainty(op, *durability, loss));
            }
            Action::Add {
                job,
                phase: Phase::Setup,
                body,
                durability,
                ..
            } => {
                let name = self.names.entry(Document::Setup(job.clone())).or_default();
                name.put(Some(body), certainty(op, *durability, loss));
            }
            Action::Add {
                job,
                phase,
                body,
                durability,
                ..
            } => {
                self.series.insert((job.clone(), *phase));
                let Some((_, Answer::Added(document))) = &op.answer else {
                    self.unnamed.insert(body);
                    return Ok(());
                };
                // A name must be new, unless a power loss removed its earlier document.
                if self.names.contains_key(document) && loss == Loss::Death {
                    bail!("the name {document:?} was given twice");
                }
                let name = self.names.entry(document.clone()).or_default();
                name.put(Some(body), certainty(op, *durability, loss));
            }
            Action::PowerFailure => self.names.values_mut().for_each(Content::lose),
            Action::Flush if op.answer.is_some() => {
                for name in self.names.values_mut() {
                    name.flush(op.process);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
