//! Named locks: tokens only ever rise.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use prodigy_storage_backend::LockStore;
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::LockName;

use crate::stage::patience;
use crate::story::{Action, Answer, Story};

pub(super) fn verify(story: &Story, backend: &FileBackend) -> Result<()> {
    let mut newest: HashMap<&LockName, u64> = HashMap::new();
    for deed in story.deeds() {
        if let (Action::Lock { name }, Some((_, Answer::Token(token)))) = (&deed.action, &deed.answer) {
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
    let listed = backend.locks(patience())?;
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
