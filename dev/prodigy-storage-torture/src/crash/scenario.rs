//! Scenarios: the work of the tool when it is struck, and the conditions that hold afterwards.
//!
//! A scenario prepares a store once; each trial strikes the tool over a copy of it.

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

/// The repository and the job that are written to.
pub(super) const REPO: &str = "crash";
pub(super) const JOB: &str = "struck";

/// One command of the tool over a prepared store.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether its threads are struck, too. Not where it starts a command of its own, which would be struck instead.
    pub(super) threads: bool,
    /// Settings of the tool, as variables.
    settings: &'static [(&'static str, &'static str)],
    /// The folder that it is run in, below the scenario's.
    place: &'static str,
    /// Makes the store.
    prepare: fn(&Scene<'_>) -> Result<Before>,
    /// The command that is struck.
    act: fn(&Scene<'_>, &Before) -> Act,
    /// Checks that all acknowledged data holds, continues, and checks again.
    check: fn(&Scene<'_>, &Before, &[u8]) -> Result<()>,
}

/// The common part of most scenarios: a new store.
const BASE: Scenario = Scenario {
    name: "",
    threads: true,
    settings: &[],
    place: "",
    prepare: |_| Ok(Before::default()),
    act: |_, _| Act::new(&[], b""),
    check: |_, _, _| Ok(()),
};

/// All of them.
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

/// The scenarios that move data. They make many calls, and have a section of their own.
pub(super) fn moves() -> &'static [Scenario] {
    moves::SCENARIOS
}

/// Where a scenario takes place.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    pub(super) lab: &'a Lab<'a>,
    pub(super) tool: Tool,
    /// True if the next writer has to mend every torn tail. It leaves a tail that can't be synced, which nobody reports
    /// as damage.
    pub(super) mended: bool,
    /// The standard error of the struck command.
    told: String,
}

/// The known state before the tool is struck.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Events that were acknowledged, each with the position of its payload in the input.
    events: Vec<(Uuid, usize)>,
    /// Events that may be read: whole, but nobody acknowledged them.
    perhaps: Vec<(Uuid, usize)>,
    /// Ids that are given to what is sent.
    given: Vec<Uuid>,
    /// Revisions, lease tokens, fencing tokens.
    words: Vec<String>,
}

/// A command and what it is fed.
#[derive(Debug)]
pub(super) struct Act {
    arguments: Vec<String>,
    pub(super) input: Vec<u8>,
    /// Requests to one handle, and no command of the tool.
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
    /// Makes the store in a folder.
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
        // A transient error is worth no wait here.
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
            told: String::new(),
        })
    }
}

/// A scenario with its store.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) scenario: &'static Scenario,
    lab: &'a Lab<'a>,
    folder: PathBuf,
    before: Before,
}

impl<'a> Prepared<'a> {
    /// A copy of the store, the command to strike over it.
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

/// One copy of the store.
#[derive(Debug)]
pub(super) struct Trial<'a, 'p> {
    prepared: &'p Prepared<'a>,
    pub(super) scene: Scene<'a>,
    pub(super) act: Act,
}

impl Trial<'_, '_> {
    /// The command to strike.
    pub(super) fn command(&self) -> Command {
        if self.act.served {
            return self.scene.tool.command_of(self.scene.lab.served);
        }
        self.scene.tool.command(&self.act.arguments)
    }

    /// Whether all holds, given what the struck command had printed; the copy goes if so.
    pub(super) fn check(&self, answer: &Answer) -> Result<()> {
        let scene = Scene {
            told: answer.stderr.clone(),
            ..self.scene.clone()
        };
        (self.prepared.scenario.check)(&scene, &self.prepared.before, &answer.stdout)?;
        let folder = scene.tool.base().parent();
        let folder = folder.context("a store lies in a folder")?;
        std::fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))
    }
}

impl Scene<'_> {
    /// Runs a command that has to succeed without a word of complaint.
    fn look(&self, arguments: &[&str]) -> Result<Answer> {
        self.go(arguments, b"", &[])
    }

    /// The same with input; it may say lines that hold one of these.
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

    /// Input from one position to another.
    fn text(&self, positions: std::ops::Range<usize>) -> Vec<u8> {
        crate::input::joined(positions.map(|position| self.lab.input.at(position)))
    }
}

/// The whole lines that a process printed before it died.
fn whole_lines(said: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = said
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    lines(said.get(..end).unwrap_or_default())
}

/// Copies a folder with the modes of its contents; an absent one stays absent.
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
