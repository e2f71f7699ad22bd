//! Named locks: tokens only ever rise.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use prodigy_storage_backend::LockStore;
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::LockName;

use crate::history::{Action, Answer, History};
use crate::stage::patience;

pub(super) fn verify(history: &History, backend: &FileBackend) -> Result<()> {
    let mut newest: HashMap<&LockName, u64> = HashMap::new();
    for op in history.ops() {
        if let (Action::Lock { name }, Some((_, Answer::Token(token)))) = (&op.action, &op.answer) {
            let before = newest.insert(name, *token).unwrap_or_default();
            ensure!(
                *token > before,
                "lock `{}`: token {token} was handed out behind {before}",
                name.as_str()
            );
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let listed = backend.locks(&Default::default(), patience())?.entries;
    for (name, token) in newest {
        let found = listed.iter().find(|info| info.name == *name);
        let found = found.map_or(0, |info| info.fencing);
        ensure!(
            found >= token,
            "lock `{}`: token {token} was handed out, its file says {found}",
            name.as_str()
        );
    }
    Ok(())
}
