//! Commands that fix the doctor's findings.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use prodigy_storage::doctor::{Finding, FindingKind, FindingSeverity};
use prodigy_storage::{Check, JobAddress, JobId, JobState, RepoName, Storage};

use crate::app::{Access, App};
use crate::problems::{SET_CLOCK, with_tool};
use crate::shell::{as_word, flags, operands, sudo, tool};

/// The most bytes of a path in the name of a moved file.
const LONGEST: usize = 200;
/// The most jobs, or documents, of a repository that a command names.
const MOST_NAMED: usize = 100;

/// The tool's name and global flags, so that the printed commands reach the same store.
pub(super) struct Advice {
    tool: String,
    repair: String,
    storage: Option<Storage>,
    root: Option<PathBuf>,
    /// When the doctor began: a command deletes nothing that was written since.
    seen: String,
    /// The same time, which makes the name of a moved file unique.
    now: String,
}

impl Advice {
    pub(super) fn new(app: &mut App<'_>, repo: Option<&RepoName>, job: Option<&JobId>) -> Self {
        let tool = tool(&app.global);
        let mut repair = format!("{tool} doctor --repair");
        let repo = repo.map(|repo| ("--repo", repo.as_str()));
        let job = job.map(|job| ("--job", job.as_str()));
        if repo.is_some() || job.is_some() {
            repair.push(' ');
            repair.push_str(&flags(repo.into_iter().chain(job)));
        }
        let storage = app.open_quietly(Access::Read).ok();
        let root = storage.as_ref().and_then(|storage| storage.capabilities().root);
        let seen = prodigy_storage::Timestamp::now().to_rfc3339();
        let now = seen.replace([':', '-'], "");
        Self {
            tool,
            repair,
            storage,
            root,
            seen,
            now,
        }
    }

    /// The command that fixes a finding, if there is one.
    pub(super) fn command(&self, finding: &Finding) -> Option<String> {
        let path = finding.path();
        let place = as_word(path);
        match finding.kind {
            // Without the mark nothing says that data may be missing.
            FindingKind::DamagedDocument if finding.advice.contains("copy --reopen") => None,
            // The log and the mark in it contradict each other, and only a person can say which of the two belongs there.
            FindingKind::UntrueMark if path.is_dir() => None,
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
            FindingKind::Registry => self.misplaced(path),
            FindingKind::Mode if !path.is_dir() => Some(self.repair.clone()),
            FindingKind::Mode => Some(format!("chmod 0700 {}", as_word(self.root.as_ref()?))),
            // Each line begins with its id. A sealed segment stays sealed.
            FindingKind::OutOfOrder if finding.advice.contains("the name that it had") => None,
            FindingKind::OutOfOrder if path.extension().is_some_and(|form| form == "jsonl") => {
                let sort = format!("LC_ALL=C sort -o {place} {place}");
                let is_sealed = path.metadata().is_ok_and(|found| found.mode() & 0o200 == 0);
                Some(match is_sealed {
                    true => format!("chmod u+w {place} && {sort} && chmod u-w {place}"),
                    false => sort,
                })
            }
            FindingKind::AheadOfClock if finding.severity == FindingSeverity::Note => None,
            FindingKind::AheadOfClock => Some(SET_CLOCK.to_owned()),
            // A link without a target hides no data, so it may be removed.
            FindingKind::Link | FindingKind::InTheWay if path.is_symlink() && !path.exists() => {
                Some(format!("rm {place}"))
            }
            // The data of the store may be behind it: it is copied to the place of the link, and also stays where it is.
            FindingKind::InTheWay if path.is_symlink() => {
                let mut copy = path.as_os_str().to_owned();
                copy.push(".copy");
                let copy = as_word(Path::new(&copy));
                Some(format!(
                    "cp -aL {place} {copy} && rm {place} && mv {copy} {place}"
                ))
            }
            // `mv` would move it into a folder that is there meanwhile.
            FindingKind::Displaced => {
                let right = as_word(finding.right_place()?);
                Some(format!("test ! -e {right} && mv {place} {right}"))
            }
            // That program may still use them.
            FindingKind::Imported => None,
            FindingKind::Stray if finding.advice.contains("another program") => None,
            FindingKind::Stray | FindingKind::Link | FindingKind::InTheWay | FindingKind::HiddenEvents => {
                self.move_away(&finding.paths(), self.root.as_ref()?)
            }
            // Such a root can't be opened.
            FindingKind::UnknownFormat => self.move_away(&[path], path.parent()?),
            // A person has to see that the data is in its new place before it is deleted, or written to, in the old one.
            FindingKind::Moved => None,
            FindingKind::NameCollision => self.rename(path),
            FindingKind::Foreign if finding.advice.contains("import`") => {
                let root = self.root.as_ref()?;
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
            // The archive has no name here, and the other command discards what was restored.
            FindingKind::UnfinishedDeletion if finding.advice.contains("`restore`") => None,
            FindingKind::UnfinishedDeletion => {
                let job = path.file_stem()?.to_str()?;
                let folder = path.parent()?.file_name()?.to_str()?;
                let repo = folder.strip_prefix('.').unwrap_or(folder);
                let job = JobAddress::new(RepoName::new(repo).ok()?, JobId::new(job).ok()?);
                let command = Check::end_of_deletion(&job);
                Some(format!(
                    "{} {}",
                    self.tool,
                    command.strip_prefix("prodigy-storage ")?
                ))
            }
            _ => None,
        }
    }

    /// Gives this user access to a file or folder that another user, or the mode, keeps from it. `None` if neither is the reason.
    fn open(&self, path: &Path) -> Option<String> {
        // A root whose `format.json` can't be read can't be opened.
        let parent = || {
            (path.file_name()? == "format.json")
                .then(|| path.parent())
                .flatten()
        };
        let root = std::fs::metadata(self.root.as_deref().or_else(parent)?).ok()?;
        // Of the folders above it, the first one that can't be entered is the reason.
        let closed = path
            .ancestors()
            .find_map(|part| Some((part, part.symlink_metadata().ok()?)));
        let (path, found) = closed?;
        let place = as_word(path);
        let (rights, needed) = match found.is_dir() {
            true => ("rwx", 0o700),
            false => ("r", 0o400),
        };
        if found.uid() != root.uid() {
            Some(format!("{}chown -hR {} {place}", sudo(), root.uid()))
        } else if found.mode() & needed != needed {
            Some(format!("chmod u+{rights} {place}"))
        } else {
            None
        }
    }

    /// Moves files to the quarantine. `None` without a sign that the root is one of this store: its files may be a user's,
    /// below a mistyped path.
    fn move_away(&self, paths: &[&Path], root: &Path) -> Option<String> {
        if !root.join("format.json").is_file() {
            return None;
        }
        let quarantine = root.join("quarantine");
        let mut command = String::new();
        if quarantine.symlink_metadata().is_ok() && !quarantine.is_dir() {
            let (from, to) = (as_word(&quarantine), file_beside(&quarantine));
            if *paths == [quarantine.as_path()] {
                return Some(format!("mv {from} {}", as_word(&to)));
            }
            command = format!("{{ test -d {from} || mv {from} {}; }} && ", as_word(&to));
        }
        command.push_str(&format!("mkdir -p -m 0700 {}", as_word(&quarantine)));
        for path in paths {
            // Two such files may have one name; and the quarantine is emptied by the age of its files.
            let path_below = path.strip_prefix(root).ok()?.as_os_str().as_bytes();
            // A name has at most 255 bytes. The end of a path identifies the file best.
            let is_inside = |byte: &&u8| (0x80..0xc0).contains(*byte);
            let tail = path_below.get(path_below.len().saturating_sub(LONGEST)..)?;
            let tail = tail.iter().skip(tail.iter().take_while(is_inside).count());
            let mut name = format!("{}-", self.now).into_bytes();
            name.extend(tail.map(|byte| if *byte == b'/' { b'_' } else { *byte }));
            let to = quarantine.join(OsString::from_vec(name));
            let (place, to) = (as_word(path), as_word(&to));
            command.push_str(&format!(" && mv {place} {to} && touch -h {to}"));
        }
        Some(command)
    }

    /// The command for a registry entry that is under a wrong name.
    fn misplaced(&self, entry: &Path) -> Option<String> {
        let repo = entry.parent()?.file_name()?.to_str()?;
        let entry = self.storage.as_ref()?.repo(repo).ok()?.registration().ok()??;
        Some(with_tool(&entry.misplaced?.remedy, &self.tool))
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
        let (new, tool, seen) = (free.next()?, &self.tool, &self.seen);
        let of = |job| flags([("--repo", repo), ("--job", job)]);
        let (new, old, job, repo) = (of(&new), of(name), operands([name]), flags([("--repo", repo)]));
        Some(format!(
            "file=$(mktemp -d)/job.jsonl && {tool} export {old} \"$file\" && {tool} import \"$file\" {new} && \
             {tool} job delete {repo} --yes --unless-written-after {seen} {job} && rm -r \"${{file%/*}}\""
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
        let (new, tool, seen) = (free.next()?, &self.tool, &self.seen);
        let (of_new, of_old) = (flags([("--repo", new.as_str())]), flags([("--repo", name)]));
        let mut command = format!(
            "folder=$(mktemp -d)/copy && {tool} copy --to \"$folder\" {of_old} --keep-source && \
             {tool} import \"$folder\" {of_new}"
        );
        if !jobs.is_empty() {
            let jobs = operands(jobs.iter().map(|job| job.address.job.as_str()));
            command.push_str(&format!(
                " && {tool} job delete {of_old} --yes --unless-written-after {seen} {jobs}"
            ));
        }
        for document in documents {
            let document = flags([
                ("--repo", name),
                ("--kind", document.kind.as_str()),
                ("--name", document.name.as_str()),
            ]);
            command.push_str(&format!(" && {tool} document delete {document}"));
        }
        if let Some(registration) = registered {
            command.push_str(&format!(" && {tool} repo unregister --yes {}", operands([name])));
            if let Some(path) = registration.path.filter(|path| path.exists()) {
                let (name, path) = (flags([("--as", new.as_str())]), operands([path]));
                command.push_str(&format!(" && {tool} repo register {name} {path}"));
            }
        }
        // A name with empty folders is listed. The commands before make some that are not there yet.
        let root = self.root.as_ref()?;
        let folders = ["events", "dlq", "state"].map(|area| root.join(area).join(name));
        let folders = operands(&folders);
        command.push_str(&format!(
            " && mkdir -p {folders} && find {folders} -type d -empty -delete && rm -r \"${{folder%/*}}\""
        ));
        Some(command)
    }
}

/// A free name beside a file that is at the path of a folder.
fn file_beside(path: &Path) -> PathBuf {
    let named = |end: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut names = std::iter::once(named(".file".to_owned()))
        .chain((2..).map(|number: u64| named(format!(".file-{number}"))));
    let free = names.find(|name| name.symlink_metadata().is_err());
    free.unwrap_or_else(|| named(".file".to_owned()))
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
    const TABLE: [Row; 35] = [
        (FindingKind::DamagedEvents, "events/shop/job/events-1.jsonl", REPAIR),
        (FindingKind::DamagedArchive, "events/shop/job/events-1.jsonl.zst", REPAIR),
        (FindingKind::DamagedItems, "dlq/shop/job/items.json", REPAIR),
        (FindingKind::DamagedDocument, "state/shop/mapreduce/jobs/job/setup-checkpoint.json", REPAIR),
        // Only a person knows where the repository is.
        (FindingKind::Registry, "state/shop/repository.json", None),
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
        (FindingKind::OutOfOrder, "events/shop/job/events-1.jsonl", Some("LC_ALL=C sort -o ")),
        (FindingKind::OutOfOrder, "events/shop/job/events-1.jsonl.zst", None),
        (FindingKind::AheadOfClock, "events/shop/job", Some(SET_CLOCK)),
        (FindingKind::UntrueMark, "events/shop/job/.sealed-1", REPAIR),
        (FindingKind::UntrueMark, "events/shop/job", None),
        (FindingKind::HiddenEvents, "events/shop/job/.removed-1", Some("mv ")),
        (FindingKind::UnfinishedDeletion, "deletions/shop/job.json", Some("prodigy-storage clean --repo shop --job job --yes")),
        (FindingKind::Moved, "moved/store.json", None),
        (FindingKind::Mode, "events/shop/job/events-1.jsonl", REPAIR),
        (FindingKind::NameCollision, "events/shop/job", Some("prodigy-storage export --repo shop --job job ")),
        (FindingKind::NoStore, "", None),
        // Only the doctor knows the place to which it belongs.
        (FindingKind::Displaced, "state/shop/mapreduce.old", None),
        (FindingKind::Stray, "notes.txt", Some("mv ")),
        (FindingKind::Foreign, "events/shop/job/old.jsonl", Some("prodigy-storage import ")),
        // Only a person knows whether its program still uses it.
        (FindingKind::Imported, "events/shop/job/old.jsonl", None),
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
            seen: "2026-11-24T00:00:00Z".to_owned(),
            now: "20261124T000000Z".to_owned(),
        };
        for kind in FindingKind::ALL {
            assert!(TABLE.iter().any(|(of, ..)| *of == kind), "{kind:?} has no row");
        }
        for (kind, place, wanted) in TABLE {
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
