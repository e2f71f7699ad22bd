//! Scenarios: a command of the tool that is interrupted, and the checks afterwards.
//!
//! A scenario prepares a store once; each trial interrupts the tool on a copy of it.

mod clean;
mod documents;
mod events;
mod letters;
mod locks;
mod moves;
mod orphans;
mod repositories;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::section::Lab;
use crate::tool::{Answer, Tool, lines};

/// The repository and the job of the scenarios.
pub(super) const REPO: &str = "crash";
pub(super) const JOB: &str = "struck";

/// A command of the tool on a prepared store.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The name of the scenario.
    pub(super) name: &'static str,
    /// True if the fault strikes calls of all threads and child processes. False for a scenario that starts a command
    /// of its own, because the fault would strike that command instead.
    pub(super) threads: bool,
    /// Settings of the tool, as environment variables.
    settings: &'static [(&'static str, &'static str)],
    /// True if the disk is full at each sync once, in addition to the random faults.
    pub(super) full_at_each_sync: bool,
    /// The current folder of the command, relative to the scenario's folder.
    place: &'static str,
    /// Creates the store, and returns its contents.
    prepare: fn(&Scene<'_>) -> Result<Before>,
    /// The command that a fault interrupts.
    act: fn(&Scene<'_>, &Before) -> Act,
    /// Checks that all acknowledged data exists, continues with another process, and checks again.
    check: fn(&Scene<'_>, &Before, &[u8]) -> Result<()>,
}

/// The defaults of a scenario: a new store, and nothing to run or to check.
const BASE: Scenario = Scenario {
    name: "",
    threads: true,
    settings: &[],
    full_at_each_sync: false,
    place: "",
    prepare: |_| Ok(Before::default()),
    act: |_, _| Act::new(&[], b""),
    check: |_, _, _| Ok(()),
};

/// All scenarios except those of [`moves()`].
pub(super) fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        events::SCENARIOS,
        clean::SCENARIOS,
        documents::SCENARIOS,
        letters::SCENARIOS,
        locks::SCENARIOS,
        orphans::SCENARIOS,
        repositories::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

/// The scenarios that move data. They make many calls, so they have a section of their own.
pub(super) fn moves() -> &'static [Scenario] {
    moves::SCENARIOS
}

/// The store and the tool of a trial.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    pub(super) lab: &'a Lab<'a>,
    pub(super) tool: Tool,
    /// True if the next writer must have removed every torn tail. False after a failed call: a writer leaves a torn
    /// tail that it can't sync, which is not reported as damage.
    pub(super) mended: bool,
    /// The standard error of the interrupted command.
    complaints: String,
}

/// The contents of the store before the interrupted command.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// The acknowledged events, each with the position of its payload in the input.
    events: Vec<(Uuid, usize)>,
    /// Complete events that were never acknowledged: reading them is allowed.
    perhaps: Vec<(Uuid, usize)>,
    /// The ids under which the command's events are sent.
    given: Vec<Uuid>,
    /// Arguments of the command: revisions, lease tokens or fencing tokens.
    words: Vec<String>,
}

/// A command and its input.
#[derive(Debug)]
pub(super) struct Act {
    arguments: Vec<String>,
    pub(super) input: Vec<u8>,
    /// True if the input has requests for `torture-served`, which is run instead of the tool.
    served: bool,
}

impl Act {
    fn new(arguments: &[&str], input: impl Into<Vec<u8>>) -> Self {
        Self {
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            input: input.into(),
            served: false,
        }
    }

    fn served(requests: impl Into<Vec<u8>>) -> Self {
        Self {
            served: true,
            ..Self::new(&[], requests)
        }
    }
}

impl Scenario {
    /// Creates the store in a folder.
    pub(super) fn prepared<'a>(&'static self, lab: &'a Lab<'a>, folder: &Path) -> Result<Prepared<'a>> {
        let scene = self.scene(lab, folder, folder.join("store"))?;
        let before = (self.prepare)(&scene).with_context(|| format!("can't prepare {}", self.name))?;
        Ok(Prepared {
            scenario: self,
            lab,
            folder: folder.to_owned(),
            before,
        })
    }

    fn scene<'a>(&self, lab: &'a Lab<'a>, folder: &Path, base: PathBuf) -> Result<Scene<'a>> {
        let place = folder.join(self.place);
        std::fs::create_dir_all(&place)?;
        // Transient errors are not retried, since waiting would not help.
        let mut tool = Tool::new(lab.binary, folder)?
            .over(base)
            .within(&place)
            .with("PRODIGY__STORAGE__RETRY_POLICY__INITIAL_DELAY", "1ms")
            .with("PRODIGY__STORAGE__RETRY_POLICY__MAX_DELAY", "1ms");
        for (name, value) in self.settings {
            tool = tool.with(name, value);
        }
        Ok(Scene {
            lab,
            tool,
            mended: true,
            complaints: String::new(),
        })
    }
}

/// A scenario and its prepared store.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) scenario: &'static Scenario,
    lab: &'a Lab<'a>,
    folder: PathBuf,
    before: Before,
}

impl<'a> Prepared<'a> {
    /// Copies the store for a trial, and returns it with the command to interrupt.
    pub(super) fn trial(&self, name: &str) -> Result<Trial<'a, '_>> {
        let base = self.folder.join(name).join("store");
        copy(&self.folder.join("store"), &base)?;
        let scene = self.scenario.scene(self.lab, &self.folder, base)?;
        let act = (self.scenario.act)(&scene, &self.before);
        Ok(Trial {
            prepared: self,
            scene,
            act,
        })
    }
}

/// A trial: a copy of the store, and the command to interrupt.
#[derive(Debug)]
pub(super) struct Trial<'a, 'p> {
    prepared: &'p Prepared<'a>,
    pub(super) scene: Scene<'a>,
    pub(super) act: Act,
}

impl Trial<'_, '_> {
    /// The command to interrupt.
    pub(super) fn command(&self) -> Command {
        if self.act.served {
            return self.scene.tool.command_of(self.scene.lab.served);
        }
        self.scene.tool.command(&self.act.arguments)
    }

    /// Checks the store, given the output of the interrupted command. Removes the copy if the check succeeds.
    pub(super) fn check(&self, answer: &Answer) -> Result<()> {
        let scene = Scene {
            complaints: answer.stderr.clone(),
            ..self.scene.clone()
        };
        (self.prepared.scenario.check)(&scene, &self.prepared.before, &answer.stdout)?;
        let folder = scene.tool.base().parent();
        let folder = folder.context("a store lies in a folder")?;
        std::fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))
    }
}

impl Scene<'_> {
    /// Runs a command that has to succeed without messages.
    fn look(&self, arguments: &[&str]) -> Result<Answer> {
        self.go(arguments, b"", &[])
    }

    /// Runs a command that has to succeed. Its messages may only be lines that contain one of the texts `may_say`.
    fn go(&self, arguments: &[&str], input: &[u8], may_say: &[&str]) -> Result<Answer> {
        let answer = self.tool.run(arguments, input)?.expect_code(0)?;
        let odd = |line: &&str| !may_say.iter().any(|words| line.contains(words));
        let complaint = answer.stderr.lines().find(odd);
        ensure!(
            complaint.is_none(),
            "`{}` complains: {}",
            arguments.join(" "),
            answer.stderr
        );
        Ok(answer)
    }

    /// The lines of the input at these positions.
    fn text(&self, positions: std::ops::Range<usize>) -> Vec<u8> {
        crate::input::joined(positions.map(|position| self.lab.input.at(position)))
    }
}

/// The complete lines that a process printed.
fn whole_lines(said: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = said
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    lines(said.get(..end).unwrap_or_default())
}

/// Copies a folder with the modes of its contents; does nothing if it is absent.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a folder has a parent")?;
    std::fs::create_dir_all(parent)?;
    if !from.exists() {
        return Ok(());
    }
    std::fs::create_dir(to).with_context(|| format!("can't make {}", to.display()))?;
    std::fs::set_permissions(to, from.metadata()?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("can't copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
