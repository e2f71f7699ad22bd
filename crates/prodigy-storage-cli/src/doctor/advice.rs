//! Commands that fix the doctor's findings.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use prodigy_storage::doctor::{Finding, FindingKind, FindingSeverity};
use prodigy_storage::{JobState, Storage};

use super::DoctorArgs;
use crate::app::{Access, App};
use crate::problems::SET_CLOCK;
use crate::shell::{as_word, tool};

/// The most jobs, or documents, of a repository that a command names.
const MOST_NAMED: usize = 100;

/// The tool's name and global flags, so that the printed commands reach the same store.
pub(super) struct Advice {
    tool: String,
    repair: String,
    storage: Option<Storage>,
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
        let root = storage.as_ref().and_then(|storage| storage.capabilities().root);
        let now = prodigy_storage::Timestamp::now()
            .to_rfc3339()
            .replace([':', '-'], "");
        Self {
            tool,
            repair,
            storage,
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
            FindingKind::Link | FindingKind::InTheWay if path.is_symlink() && !path.exists() => {
                Some(format!("rm {place}"))
            }
            // The data of the store may be behind it: it is copied to the place of the link, and also stays where it is.
            FindingKind::InTheWay if path.is_symlink() => {
                let copy = format!("{}.copy", finding.place);
                let copy = as_word(&copy);
                Some(format!(
                    "cp -aL {place} {copy} && rm {place} && mv {copy} {place}"
                ))
            }
            FindingKind::Stray | FindingKind::Imported | FindingKind::Link | FindingKind::InTheWay => {
                self.move_away(path, self.root.as_ref()?)
            }
            // Such a root can't be opened.
            FindingKind::UnknownFormat => self.move_away(path, path.parent()?),
            // The mark itself is as it should be.
            FindingKind::Moved if finding.severity == FindingSeverity::Damage => Some(format!("rm {place}")),
            FindingKind::NameCollision => self.rename(path),
            FindingKind::Registry => {
                let repo = path.parent()?.file_name()?.to_str()?;
                Some(format!("{} repo unregister {} --yes", self.tool, as_word(repo)))
            }
            FindingKind::Foreign if finding.advice.contains("import`") => {
                let root = self.root.as_ref()?.to_str()?;
                Some(format!("{} import {}", self.tool, as_word(root)))
            }
            FindingKind::OverLimit => {
                let key = match finding.advice.contains("max_document_size") {
                    true => "MAX_DOCUMENT_SIZE",
                    false => "MAX_RECORD_SIZE",
                };
                let size = (finding.len + 1).next_power_of_two();
                Some(format!("export PRODIGY__STORAGE__BACKEND_CONFIG__{key}={size}"))
            }
            // Only a person can say what the bytes are.
            FindingKind::Unverified if finding.len > 0 => {
                let (start, len) = (finding.offset + 1, finding.len);
                Some(format!("tail -c +{start} {place} | head -c {len}"))
            }
            FindingKind::Unreadable => self.open(path),
            FindingKind::UnfinishedDeletion => {
                let job = path.file_stem()?.to_str()?;
                let folder = path.parent()?.file_name()?.to_str()?;
                let repo = folder.strip_prefix('.').unwrap_or(folder);
                let (job, repo) = (as_word(job), as_word(repo));
                Some(format!("{} clean --repo {repo} --job {job} --yes", self.tool))
            }
            _ => None,
        }
    }

    /// Gives this user access to a file or folder that another user, or the mode, keeps from it. `None` if neither is the reason.
    fn open(&self, path: &Path) -> Option<String> {
        let root = std::fs::metadata(self.root.as_ref()?).ok()?;
        // Of the folders above it, the first one that can't be entered is the reason.
        let closed = path
            .ancestors()
            .find_map(|part| Some((part, part.symlink_metadata().ok()?)));
        let (path, found) = closed?;
        let place = as_word(path.to_str()?);
        let (rights, needed) = match found.is_dir() {
            true => ("rwx", 0o700),
            false => ("r", 0o400),
        };
        if found.uid() != root.uid() {
            Some(format!("sudo chown -hR {} {place}", root.uid()))
        } else if found.mode() & needed != needed {
            Some(format!("chmod u+{rights} {place}"))
        } else {
            None
        }
    }

    /// Moves a file to the quarantine. `None` without a sign that the root is one of this store: its files may be a user's,
    /// below a mistyped path.
    fn move_away(&self, path: &Path, root: &Path) -> Option<String> {
        if !root.join("format.json").is_file() {
            return None;
        }
        let quarantine = root.join("quarantine");
        let name = path.strip_prefix(root).ok()?.to_str()?.replace('/', "_");
        // Two such files may have one name; and the quarantine is emptied by the age of its files.
        let to = quarantine.join(format!("{}-{name}", self.now));
        let (folder, to) = (as_word(quarantine.to_str()?), as_word(to.to_str()?));
        let place = as_word(path.to_str()?);
        Some(format!(
            "mkdir -p -m 0700 {folder} && mv {place} {to} && touch -h {to}"
        ))
    }

    /// True if this command is the repair itself, which can't help where it left something.
    pub(super) fn is_repair(&self, command: &str) -> bool {
        command == self.repair
    }

    /// The command that gives a repository or a job a free name.
    fn rename(&self, path: &Path) -> Option<String> {
        let (name, parent) = (path.file_name()?.to_str()?, path.parent()?);
        let areas = self
            .root
            .iter()
            .flat_map(|root| ["events", "dlq", "state"].map(|area| root.join(area)));
        if areas.into_iter().any(|area| parent == area) {
            return self.rename_repo(name);
        }
        let repo = match parent.file_name()?.to_str()? {
            "jobs" => parent.parent()?.parent()?.file_name()?.to_str()?,
            name => name,
        };
        let free = (2..).map(|number| format!("{name}-{number}"));
        let mut free = free.filter(|name| !path.with_file_name(name).exists());
        let (new, tool) = (free.next()?, &self.tool);
        let (new, job, repo) = (as_word(&new), as_word(name), as_word(repo));
        Some(format!(
            "file=$(mktemp -d)/job.jsonl && {tool} export --repo {repo} --job {job} \"$file\" && \
             {tool} import \"$file\" --repo {repo} --job {new} && {tool} job delete {job} --repo {repo} --yes"
        ))
    }

    /// Copies a repository, imports the copy under a free name, and removes what was copied. `None` for one with worktrees, whose
    /// paths git knows, with more parts than a command should name, or with an active job.
    fn rename_repo(&self, name: &str) -> Option<String> {
        let repo = self.storage.as_ref()?.repo(name).ok()?;
        let jobs = repo
            .survey()
            .take(MOST_NAMED + 1)
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        let jobs = jobs.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
        let documents = repo.all_documents().take(MOST_NAMED + 1);
        let documents = documents.collect::<Result<Vec<_>, _>>().ok()?;
        let is_active = jobs.iter().any(|job| job.status.state == JobState::Active);
        let is_large = jobs.len() > MOST_NAMED || documents.len() > MOST_NAMED;
        if is_active || is_large || !repo.worktrees().list().ok()?.is_empty() {
            return None;
        }
        let registered = repo.registration().ok()?;
        let known = self.storage.as_ref()?.repositories().all().ok()?;
        let free = (2..).map(|number| format!("{name}-{number}"));
        let mut free = free.filter(|name| known.iter().all(|known| known.as_str() != name));
        let (new, tool) = (free.next()?, &self.tool);
        let (new, old) = (as_word(&new), as_word(name));
        let mut command = format!(
            "folder=$(mktemp -d)/copy && {tool} copy --to \"$folder\" --repo {old} --keep-source && \
             {tool} import \"$folder\" --repo {new}"
        );
        if !jobs.is_empty() {
            let jobs: Vec<_> = jobs.iter().map(|job| as_word(job.address.job.as_str())).collect();
            command.push_str(&format!(
                " && {tool} job delete {} --repo {old} --yes",
                jobs.join(" ")
            ));
        }
        for document in documents {
            let (kind, name) = (as_word(document.kind.as_str()), as_word(document.name.as_str()));
            command.push_str(&format!(
                " && {tool} document delete --repo {old} --kind {kind} --name {name}"
            ));
        }
        if let Some(registration) = registered {
            command.push_str(&format!(" && {tool} repo unregister {old} --yes"));
            if let Some(path) = registration.path.filter(|path| path.exists()) {
                let path = as_word(path.to_str()?);
                command.push_str(&format!(" && {tool} repo register --as {new} {path}"));
            }
        }
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use prodigy_storage::doctor::{Finding, FindingKind, FindingSeverity};

    use super::*;

    /// A kind of finding, with the file below the root that a doctor names for it, and a part of the command that it gets. `None` for a
    /// kind whose advice says what to do, because no command can.
    type Row = (FindingKind, &'static str, Option<&'static str>);

    const REPAIR: Option<&str> = Some("prodigy-storage doctor --repair");

    #[rustfmt::skip]
    const TABLE: [Row; 30] = [
        (FindingKind::DamagedEvents, "events/shop/job/events-1.jsonl", REPAIR),
        (FindingKind::DamagedArchive, "events/shop/job/events-1.jsonl.zst", REPAIR),
        (FindingKind::DamagedItems, "dlq/shop/job/items.json", REPAIR),
        (FindingKind::DamagedDocument, "state/shop/mapreduce/jobs/job/setup-checkpoint.json", REPAIR),
        (FindingKind::Registry, "state/shop/repository.json", Some("prodigy-storage repo unregister shop --yes")),
        (FindingKind::DamagedLock, "locks/1/l.lock", REPAIR),
        (FindingKind::LockBehindMark, "locks/1/l.lock", REPAIR),
        (FindingKind::DamagedFormat, "format.json", REPAIR),
        (FindingKind::UnknownFormat, "format.json", Some("mv ")),
        // Only a copy of the snapshot helps.
        (FindingKind::DamagedSnapshot, "store.jsonl", None),
        (FindingKind::Unverified, "events/shop/job/events-1.jsonl", Some("| head -c 7")),
        // Nothing has to be done: the next writer removes it.
        (FindingKind::TornEnd, "events/shop/job/events-1.jsonl", None),
        (FindingKind::Temporary, "state/shop/.tmp-1", REPAIR),
        (FindingKind::TwoForms, "events/shop/job/events-1.jsonl", REPAIR),
        (FindingKind::OverLimit, "events/shop/job/events-1.jsonl", Some("MAX_RECORD_SIZE=8")),
        // Only a backup has the events.
        (FindingKind::MissingEvents, "state/shop/mapreduce/jobs/job/setup-checkpoint.json", None),
        (FindingKind::AheadOfClock, "events/shop/job", Some(SET_CLOCK)),
        (FindingKind::UntrueMark, "events/shop/job/.sealed-1", REPAIR),
        (FindingKind::UnfinishedDeletion, "deletions/shop/job.json", Some("prodigy-storage clean --repo shop --job job --yes")),
        (FindingKind::Moved, "moved/store.json", Some("rm ")),
        (FindingKind::Mode, "events/shop/job/events-1.jsonl", REPAIR),
        (FindingKind::NameCollision, "events/shop/job", Some("prodigy-storage export --repo shop --job job ")),
        (FindingKind::NoStore, "", None),
        (FindingKind::Stray, "notes.txt", Some("mv ")),
        (FindingKind::Foreign, "events/shop/job/old.jsonl", Some("prodigy-storage import ")),
        (FindingKind::Imported, "events/shop/job/old.jsonl", Some("mv ")),
        (FindingKind::Link, "events/shop/job/link", Some("rm ")),
        (FindingKind::InTheWay, "events/shop", Some("mv ")),
        // Only another version of the program reads it.
        (FindingKind::NewerFormat, "state/shop/mapreduce/jobs/job/setup-checkpoint.json", None),
        (FindingKind::Unreadable, "locked", Some("chmod u+r ")),
    ];

    #[test]
    fn each_kind_of_finding_has_a_command_or_a_reason_why_it_has_none() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        std::fs::create_dir_all(root.join("events/shop/job")).unwrap();
        symlink("/nowhere", root.join("events/shop/job/link")).unwrap();
        std::fs::write(root.join("format.json"), "{").unwrap();
        std::fs::write(root.join("locked"), "").unwrap();
        std::fs::set_permissions(root.join("locked"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let advice = Advice {
            tool: "prodigy-storage".to_owned(),
            repair: "prodigy-storage doctor --repair".to_owned(),
            storage: None,
            root: Some(root.clone()),
            now: "20261124T000000Z".to_owned(),
        };
        for kind in FindingKind::ALL {
            let row = TABLE.iter().find(|(of, ..)| *of == kind);
            let (_, place, wanted) = row.unwrap_or_else(|| panic!("{kind:?} has no row"));
            let place = root.join(place).display().to_string();
            let mut finding = Finding::new(FindingSeverity::Damage, kind, place, "why")
                .advice("`prodigy-storage import` stores its contents");
            finding.len = 7;
            if kind == FindingKind::Registry {
                finding.severity = FindingSeverity::Warning;
            }
            let command = advice.command(&finding);
            match wanted {
                Some(part) => assert!(
                    command.as_deref().is_some_and(|command| command.contains(part)),
                    "{kind:?}: {command:?}"
                ),
                None => assert_eq!(command, None, "{kind:?}"),
            }
        }
    }
}
