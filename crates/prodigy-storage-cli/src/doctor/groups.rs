//! Findings of one kind, printed together.

use std::collections::BTreeMap;

use prodigy_storage::doctor::{Finding, FindingKind, FindingOutcome, FindingSeverity};
use prodigy_storage::escape;

use super::outside::print_remedy;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::problems::{ALSO, right_clock};
use crate::shell::{in_this_store, tool};

/// Findings of one kind that have the same remedy.
struct Group {
    first: Finding,
    count: u64,
    repaired: u64,
    /// The quarantined copy of the first repaired finding.
    kept: Option<String>,
    /// The reason why the first unrepaired finding was not repaired.
    left: Option<String>,
    command: Option<String>,
}

/// The findings of an examination, by kind. The memory depends on the number of kinds, not on the number of findings.
#[derive(Default)]
pub(super) struct Groups(BTreeMap<(std::cmp::Reverse<FindingSeverity>, String, String), Group>);

impl Groups {
    pub(super) fn add(&mut self, finding: Finding, command: Option<String>) {
        let remedy = command.clone().unwrap_or_else(|| finding.advice.clone());
        // These form one group, although each has a command of its own, which `--verbose` prints.
        let remedy = match finding.kind {
            FindingKind::Imported | FindingKind::MissingEvents => String::new(),
            _ => remedy,
        };
        let key = (std::cmp::Reverse(finding.severity), title(finding.kind), remedy);
        let group = self.0.entry(key).or_insert_with(|| Group {
            first: finding.clone(),
            count: 0,
            repaired: 0,
            kept: None,
            left: None,
            command,
        });
        group.count += finding.count;
        match finding.outcome {
            FindingOutcome::Repaired { kept } => {
                group.repaired += 1;
                group.kept = group.kept.take().or(kept);
            }
            FindingOutcome::Left { why } => drop(group.left.get_or_insert(why)),
            _ => {}
        }
    }

    pub(super) fn print(&self, app: &mut App<'_>) -> Result<()> {
        for ((_, title, _), group) in &self.0 {
            group.print(app, title)?;
        }
        Ok(())
    }
}

impl Group {
    fn print(&self, app: &mut App<'_>, title: &str) -> Result<()> {
        let first = &self.first;
        let times = match self.count {
            1 => String::new(),
            count => format!(" ({count}; the first)"),
        };
        let what = format!("{title}{times}: {}: {}", place(first), escape(&first.why));
        app.finding(word(first.severity), &what)?;
        app.detail("why it matters", matters(first.kind))?;
        if first.lost != "nothing" {
            app.detail("lost", &escape(&first.lost))?;
        }
        if self.repaired > 0 {
            let kept = self
                .kept
                .as_ref()
                .map(|kept| format!("; the bytes are kept in {}", escape(kept)));
            let text = format!("{}{}", self.repaired, kept.unwrap_or_default());
            app.detail("repaired", &text)?;
        }
        match &self.left {
            Some(why) => {
                app.detail("left", &escape(why))?;
                self.command
                    .as_deref()
                    .map_or(Ok(()), |command| print_remedy(app, Some(command), None))
            }
            // The repair keeps the name; only a person knows its repository.
            None if self.repaired > 0 && first.kind == FindingKind::Registry => {
                print_remedy(app, None, Some(&first.advice))
            }
            None if self.repaired > 0 => Ok(()),
            None => print_advice(app, first, self.command.as_deref()),
        }?;
        let is_of_each = matches!(
            first.kind,
            FindingKind::Stray | FindingKind::Imported | FindingKind::MissingEvents
        );
        // No command moves what another program may still use.
        let is_of_each = is_of_each && (self.command.is_some() || first.kind == FindingKind::MissingEvents);
        if is_of_each && self.count > first.paths().len() as u64 {
            let also = format!(
                "`{} doctor --verbose` prints the command for each",
                tool(&app.global)
            );
            return app.detail(ALSO, &also);
        }
        Ok(())
    }
}

/// Prints the command for a finding, or what to do.
pub(super) fn print_advice(app: &mut App<'_>, finding: &Finding, command: Option<&str>) -> Result<()> {
    print_remedy(app, command, Some(&finding.advice))?;
    match (finding.kind, command) {
        (FindingKind::AheadOfClock, Some(_)) => {
            let root = app.open_quietly(Access::Read).ok().and_then(|storage| storage.capabilities().root);
            app.detail(ALSO, &escape(&right_clock(root.as_deref())))
        }
        (FindingKind::NameCollision, Some(_)) => app.detail(
            ALSO,
            "it removes its own copy; the freed name stays in `repo list`, without jobs, if it had documents, whose lock file stays",
        ),
        (FindingKind::Registry, Some(_)) => {
            let advice = in_this_store(&finding.advice, &app.global).into_owned();
            app.detail(ALSO, &escape(&advice))
        }
        _ => Ok(()),
    }
}

/// The word for a severity.
pub(super) fn word(severity: FindingSeverity) -> &'static str {
    match severity {
        FindingSeverity::Damage => "damage",
        FindingSeverity::Warning => "warning",
        _ => "note",
    }
}

/// The file of a finding, and the position in it.
pub(super) fn place(finding: &Finding) -> String {
    let place = escape(&finding.place);
    match finding.len {
        0 => place.into_owned(),
        len => format!("{place} at offset {}, {len} bytes", finding.offset),
    }
}

/// The kind as words, as in `--json`.
pub(super) fn title(kind: FindingKind) -> String {
    let name = serde_json::to_value(kind).unwrap_or_default();
    name.as_str().unwrap_or("finding").replace('_', " ")
}

/// The consequence of findings of a kind.
pub(super) fn matters(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::DamagedEvents | FindingKind::DamagedArchive => {
            "readers skip these events and end with code 5; the other events are read"
        }
        FindingKind::DamagedItems => "these dead letters can be neither seen nor run again",
        FindingKind::DamagedDocument => "a resume falls back to the state before it, or fails",
        FindingKind::Registry => {
            "the repository may not be found from its folder, or gets the data of another one"
        }
        FindingKind::DamagedLock => "the last holder is not known; locks work, and no token is issued twice",
        FindingKind::LockBehindMark => {
            "writes of the next holder are refused, as if another process had overtaken it"
        }
        FindingKind::DamagedFormat | FindingKind::UnknownFormat => "nothing can open this root",
        FindingKind::DamagedSnapshot => "the store begins empty, or can't be opened",
        FindingKind::Unverified => "damage in this data can't be detected",
        FindingKind::TornEnd => {
            "no acknowledged data is lost if a writer died there: the write was cut short before it was acknowledged"
        }
        FindingKind::Temporary => "it takes space, and nothing else",
        FindingKind::TwoForms => "it takes space twice; readers return the events of both forms, each once",
        FindingKind::OverLimit => "readers skip it, and say so",
        FindingKind::MissingEvents => {
            "events that were stored can't be read any more; a resume may continue with a state that contains them"
        }
        FindingKind::OutOfOrder => "a reader may skip events, and a search by time or id may not find them",
        FindingKind::AheadOfClock => "new events get later ids than the clock gives, until it has caught up",
        FindingKind::UntrueMark => {
            "if it counted, events could be hidden, come in the wrong order or be stored twice"
        }
        FindingKind::HiddenEvents => "readers do not return these events",
        FindingKind::UnfinishedDeletion => "the job is gone for readers, and what is left of it takes space",
        FindingKind::Moved => "writes to it are refused here, and reads give what it was before the move",
        FindingKind::Mode => "other users of this machine may read or change it",
        FindingKind::NameCollision => {
            "on a case-insensitive file system, as on macOS, both are the same name"
        }
        FindingKind::NoStore => "another folder may hold the store, and this one belongs to something else",
        FindingKind::Displaced => "the store does not read it: readers do not see this data",
        FindingKind::Stray => "it takes space, and the store does not read it",
        FindingKind::Foreign => "it belongs to another program, which may still need it",
        FindingKind::Imported => "it takes space; its contents are stored",
        FindingKind::Link => "links are not followed: data behind it is not seen",
        FindingKind::InTheWay => "every read and write there fails, and listings and backups lack the data",
        FindingKind::NewerFormat => "this version can't read it",
        FindingKind::Unreadable => "every read of it fails",
        _ => "it differs from what was written",
    }
}
