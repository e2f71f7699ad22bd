//! Commands that fix the doctor's findings.

use std::path::{Path, PathBuf};

use prodigy_storage::doctor::{Finding, FindingKind, FindingSeverity};

use super::DoctorArgs;
use super::problems::SET_CLOCK;
use crate::app::{Access, App};
use crate::shell::{as_word, tool};

/// The tool's name and global flags, so that the printed commands reach the same store.
pub(super) struct Advice {
    tool: String,
    repair: String,
    root: Option<PathBuf>,
    /// The present time, which makes the name of a moved file unique.
    now: String,
}

impl Advice {
    pub(super) fn new(app: &mut App<'_>, arguments: &DoctorArgs) -> Self {
        let tool = tool(&app.global);
        let mut repair = format!("{tool} doctor --repair");
        for (flag, value) in [("--repo", &arguments.repo), ("--job", &arguments.job)] {
            if let Some(value) = value {
                repair.push_str(&format!(" {flag} {}", as_word(value)));
            }
        }
        let storage = app.open_quietly(Access::Read).ok();
        let root = storage.and_then(|storage| storage.capabilities().root);
        let now = prodigy_storage::Timestamp::now()
            .to_rfc3339()
            .replace([':', '-'], "");
        Self {
            tool,
            repair,
            root,
            now,
        }
    }

    /// The command that fixes a finding, if there is one.
    pub(super) fn command(&self, finding: &Finding) -> Option<String> {
        let place = as_word(&finding.place);
        let path = Path::new(&finding.place);
        match finding.kind {
            FindingKind::DamagedEvents
            | FindingKind::DamagedArchive
            | FindingKind::DamagedItems
            | FindingKind::DamagedDocument
            | FindingKind::DamagedFormat
            | FindingKind::LockBehindMark
            | FindingKind::Temporary
            | FindingKind::UntrueMark
            | FindingKind::TwoForms => Some(self.repair.clone()),
            FindingKind::DamagedLock if finding.severity > FindingSeverity::Note => Some(self.repair.clone()),
            FindingKind::Registry if finding.severity == FindingSeverity::Damage => Some(self.repair.clone()),
            FindingKind::Mode if !path.is_dir() => Some(self.repair.clone()),
            FindingKind::Mode => Some(format!("chmod 0700 {}", as_word(self.root.as_ref()?.to_str()?))),
            FindingKind::AheadOfClock => Some(SET_CLOCK.to_owned()),
            // A link without a target hides no data, so it may be removed.
            FindingKind::Link | FindingKind::InTheWay if path.is_symlink() => {
                (!path.exists()).then(|| format!("rm {place}"))
            }
            FindingKind::Stray | FindingKind::Imported | FindingKind::Link | FindingKind::InTheWay => {
                let quarantine = self.root.as_ref()?.join("quarantine");
                let name = path
                    .strip_prefix(self.root.as_ref()?)
                    .ok()?
                    .to_str()?
                    .replace('/', "_");
                // The time in the name keeps files of the same name apart. `touch` resets the age, by which the
                // quarantine is emptied.
                let to = quarantine.join(format!("{}-{name}", self.now));
                let (folder, to) = (as_word(quarantine.to_str()?), as_word(to.to_str()?));
                Some(format!(
                    "mkdir -p -m 0700 {folder} && mv {place} {to} && touch -h {to}"
                ))
            }
            // Only a damaged mark of a moved job is removed. An intact mark needs no repair.
            FindingKind::Moved if finding.severity == FindingSeverity::Damage => Some(format!("rm {place}")),
            FindingKind::NameCollision => self.rename(path),
            FindingKind::UnfinishedDeletion => {
                let job = path.file_stem()?.to_str()?;
                let folder = path.parent()?.file_name()?.to_str()?;
                let repo = folder.strip_prefix('.').unwrap_or(folder);
                let (job, repo) = (as_word(job), as_word(repo));
                Some(format!("{} job delete {job} --repo {repo} --yes", self.tool))
            }
            _ => None,
        }
    }

    /// The command that gives a job a free name. `None` for a repository: it also has a registry entry, documents and
    /// worktrees.
    fn rename(&self, path: &Path) -> Option<String> {
        let (job, repo) = (path.file_name()?.to_str()?, path.parent()?);
        let repo = match repo.file_name()?.to_str()? {
            "jobs" => repo.parent()?.parent()?.file_name()?.to_str()?,
            name => name,
        };
        let areas = self
            .root
            .iter()
            .flat_map(|root| ["events", "dlq", "state"].map(|area| root.join(area)));
        if areas.into_iter().any(|area| path.parent() == Some(&area)) {
            return None;
        }
        let free = (2..).map(|number| format!("{job}-{number}"));
        let mut free = free.filter(|name| !path.with_file_name(name).exists());
        let (new, tool) = (free.next()?, &self.tool);
        let (new, job, repo) = (as_word(&new), as_word(job), as_word(repo));
        Some(format!(
            "file=$(mktemp -d)/job.jsonl && {tool} export --repo {repo} --job {job} \"$file\" && \
             {tool} import \"$file\" --repo {repo} --job {new} && {tool} job delete {job} --repo {repo} --yes"
        ))
    }
}
