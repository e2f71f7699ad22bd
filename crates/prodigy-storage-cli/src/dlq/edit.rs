//! The command `dlq edit`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use prodigy_storage::{
    Change, Claim, Dlq, DlqItem, ItemId, ItemState, RESERVED, Settled, Settlement, escape,
};
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use super::list::{get, no_item};
use super::view::{State, View};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::unreadable;
use crate::job::{JobArgs, Opened};
use crate::json::{compact, merge_patch, pretty};
use crate::signals::Stop;

/// The largest number of times that a patch is applied, if the item keeps changing meanwhile.
const TRIES: usize = 16;
/// The editor if the environment names none.
const EDITOR: &str = "vi";

#[derive(Debug, clap::Args)]
pub(crate) struct EditArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The item's `item_id`.
    #[arg(value_name = "ID")]
    id: ItemId,
    /// A JSON merge patch (RFC 7396) instead of an editor; `-` reads it from standard input.
    #[arg(long, value_name = "JSON")]
    patch: Option<String>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &EditArgs) -> Result<Exit> {
    let patch = arguments
        .patch
        .as_deref()
        .map(|patch| read_patch(app, patch))
        .transpose()?;
    let opened = arguments.job.open(app, Access::Write)?;
    let edit = Edit {
        dlq: opened.job.dlq(),
        opened: &opened,
        id: &arguments.id,
    };
    match patch {
        Some(patch) => edit.patch(app, &patch),
        None => edit.with_editor(app),
    }
}

fn read_patch(app: &mut App<'_>, patch: &str) -> Result<String> {
    let mut text = String::new();
    if patch == "-" {
        app.input
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Failed, format!("read standard input: {error}")))?;
    } else {
        patch.clone_into(&mut text);
    }
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(patch) if patch.get().starts_with('{') => Ok(text),
        Ok(_) => Err(Failure::usage("the patch is not a JSON object")),
        Err(error) => Err(Failure::usage(format!("the patch is not JSON: {error}"))),
    }
}

/// The state of an edit.
struct Edit<'e> {
    dlq: Dlq,
    opened: &'e Opened,
    id: &'e ItemId,
}

impl Edit<'_> {
    /// Applies a patch. If the item changes meanwhile, applies the patch to the changed item.
    fn patch(&self, app: &mut App<'_>, patch: &str) -> Result<Exit> {
        for _ in 0..TRIES {
            let item = get(self.opened, &self.dlq, self.id)?;
            let merged = merge_patch(item.body.get(), patch)
                .map_err(|why| Failure::new(Exit::Failed, format!("patch `{}`: {why}", self.id)))?;
            self.refuse_reserved(patch)?;
            match self.store(&item, merged)? {
                Settled::Changed => {}
                settled => return self.print(app, &item, settled),
            }
        }
        let what = format!(
            "patch `{}`: it was changed by others {TRIES} times in a row",
            self.id
        );
        Err(Failure::new(Exit::Failed, what).hint("try again"))
    }

    fn with_editor(&self, app: &mut App<'_>) -> Result<Exit> {
        let item = get(self.opened, &self.dlq, self.id)?;
        // The editor handles an interrupt from the terminal. The tool ends at a signal only after the editor has
        // ended.
        let stop = Stop::on_request();
        let before = pretty(item.body.get());
        let file = Draft::new(&before)?;
        let edited = file.edit();
        let after = match (edited, stop.signal()) {
            (Ok(text), None | Some(SIGINT)) => text,
            (Ok(text), Some(signal)) => {
                self.keep(app, file, &before, &text);
                return Ok(Exit::Signal(signal));
            }
            (Err(failure), _) => return Err(failure),
        };
        if after.trim() == before.trim() {
            app.note(&format!("`{}` was not edited, and stays as it is", self.id));
            return Ok(Exit::Done);
        }
        let settled = match serde_json::from_str::<&RawValue>(&after) {
            Ok(_) => self
                .refuse_reserved(&after)
                .and_then(|()| self.store(&item, compact(&after))),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!("edit `{}`: the text is not JSON: {error}", self.id),
            )),
        };
        match settled {
            Ok(Settled::Done) => self.print(app, &item, Settled::Done),
            Ok(settled) => {
                self.keep(app, file, &before, &after);
                self.print(app, &item, settled)
            }
            Err(failure) => {
                self.keep(app, file, &before, &after);
                Err(failure)
            }
        }
    }

    /// Refuses a change of a field that only the queue sets.
    fn refuse_reserved(&self, edit: &str) -> Result<()> {
        let fields: HashMap<String, &RawValue> = serde_json::from_str(edit).unwrap_or_default();
        let Some(name) = RESERVED.into_iter().find(|name| fields.contains_key(*name)) else {
            return Ok(());
        };
        let what = format!("edit `{}`: only the queue itself sets `{name}`", self.id);
        Err(Failure::new(Exit::Failed, what)
            .hint("leave it out; `dlq release` ends a lease or a delay, `dlq renew` extends a lease"))
    }

    fn store(&self, item: &DlqItem, body: String) -> Result<Settled> {
        let body = RawValue::from_string(body)
            .map_err(|error| Failure::new(Exit::Failed, format!("edit `{}`: {error}", self.id)))?;
        let claim = Claim::Revision(item.id.clone(), item.revision);
        let settled = self.dlq.settle(&[Settlement::new(claim, Change::Edit(body))])?;
        Ok(settled.first().copied().unwrap_or(Settled::Unknown))
    }

    fn print(&self, app: &mut App<'_>, item: &DlqItem, settled: Settled) -> Result<Exit> {
        match settled {
            Settled::Done => {}
            Settled::Changed => {
                let what = format!(
                    "edit `{}`: the item was changed meanwhile, and stays as it is now",
                    self.id
                );
                return Err(
                    Failure::new(Exit::Failed, what).hint("look at it with `dlq show`, and edit it again")
                );
            }
            _ => return Err(Failure::new(Exit::Missing, no_item(self.opened, self.id))),
        }
        if app.json() {
            app.json_line(&json!({"edited": self.id}))?;
        } else {
            app.line(format!("`{}` edited", escape(self.id.as_str())))?;
        }
        app.flush()?;
        if item.state == ItemState::Leased {
            app.note("it was taken: the edit ended that lease");
        }
        if let Some(item) = self.dlq.get(self.id)?
            && View::of(item).state == State::Parked
        {
            app.note(&format!(
                "it is parked: `dlq unpark {}` makes it eligible again",
                self.id
            ));
        }
        Ok(Exit::Done)
    }

    /// Keeps the edited text in a file for the user.
    fn keep(&self, app: &mut App<'_>, file: Draft, before: &str, after: &str) {
        if before == after {
            return;
        }
        match file.keep() {
            Ok(path) => app.note(&format!("your text is kept in {}", path.display())),
            Err(why) => app.error(&why),
        }
    }
}

/// The number of the signal that Ctrl-C sends.
const SIGINT: u8 = 2;

/// A private file with the item, for the editor. It is removed at the end unless the edit has to be kept.
struct Draft(NamedTempFile);

impl Draft {
    fn new(text: &str) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Failure::new(
                Exit::Failed,
                format!(
                    "write the item to a file in {}: {error}",
                    std::env::temp_dir().display()
                ),
            )
            .hint("set `TMPDIR` to a folder that can be written")
        };
        let mut file = tempfile::Builder::new()
            .prefix("prodigy-item-")
            .suffix(".json")
            .tempfile()
            .map_err(failed)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.flush())
            .map_err(failed)?;
        Ok(Self(file))
    }

    /// Opens the file in the user's editor, and returns the edited text.
    fn edit(&self) -> Result<String> {
        let editor = ["VISUAL", "EDITOR"]
            .iter()
            .filter_map(std::env::var_os)
            .find(|editor| !editor.is_empty())
            .unwrap_or_else(|| EDITOR.into());
        let path = self.0.path();
        // Started through a shell, as git does: the variable may contain arguments.
        let mut script = editor.clone();
        script.push(" \"$@\"");
        let status = Command::new("sh")
            .args([OsString::from("-c"), script, editor.clone()])
            .arg(path)
            .status();
        let failed = |why: String| {
            let what = format!("run the editor `{}`: {why}", editor.to_string_lossy());
            Failure::new(Exit::Failed, what)
                .hint("set `EDITOR`, or edit with `--patch`; the item is unchanged")
        };
        match status {
            Ok(status) if status.success() => read(path),
            Ok(status) => Err(failed(format!("it ended with {status}"))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn keep(self) -> Result<PathBuf, String> {
        match self.0.keep() {
            Ok((_, path)) => Ok(path),
            Err(error) => Err(format!("keep the text: {}", error.error)),
        }
    }
}

/// Reads the file by its path, since an editor may have replaced it.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), &error))
}
