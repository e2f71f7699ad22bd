//! Named locks: tokens always increase.

use std::collections::HashMap;

use anyhow::{Context, Result};
use prodigy_storage_backend::LockStore;
use prodigy_storage_backend::reference::Tokens;
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::LockName;

use crate::history::{Action, Answer, History};
use crate::stage::patience;

pub(super) fn verify(history: &History, backend: &FileBackend) -> Result<()> {
    let mut newest: HashMap<&LockName, Tokens> = HashMap::new();
    for op in history.ops() {
        if let (Action::Lock { name }, Some((_, Answer::Token(token)))) = (&op.action, &op.answer) {
            let tokens = newest.entry(name).or_default();
            tokens
                .hand_out(*token)
                .with_context(|| format!("lock `{name}`"))?;
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let listed = backend.locks(&Default::default(), patience())?.entries;
    for (name, tokens) in newest {
        let found = listed.iter().find(|info| info.name == *name);
        let found = found.map_or(0, |info| info.fencing);
        tokens.check(found).with_context(|| format!("lock `{name}`"))?;
    }
    Ok(())
}
