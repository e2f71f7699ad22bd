//! Leaves out what has no name under which the store could keep it, so that the rest is imported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prodigy_storage::{DocumentName, JobId, RepoName};

use super::find::{Files, ImportFile, Kind};
use super::store::Importer;
use super::words;

/// A name that the store does not take: the file or folder that has it, and why.
struct Refused {
    place: PathBuf,
    why: String,
}

/// Removes the files under a name that is not allowed from the list, and refuses the folder or file with each such name once.
/// Returns true if there is one.
pub(super) fn leave_out(files: &mut Files, importer: &mut Importer<'_>) -> bool {
    let (mut said, mut has_refused_names) = (BTreeSet::new(), false);
    files.found.retain(|file| {
        let refused = match &file.repo {
            Some(repo) => of_names(file, repo),
            None => Some(Refused {
                place: file.path.clone(),
                why: "nothing says which repository it belongs to: name it with `--repo`".to_owned(),
            }),
        };
        let Some(Refused { place, why }) = refused else {
            return true;
        };
        has_refused_names |= file.repo.is_some();
        if said.insert((place.clone(), words(file.kind))) {
            importer.refuse(place.display(), why);
            importer.count_as(words(file.kind));
        }
        false
    });
    has_refused_names
}

/// The first name of a file that is not allowed.
fn of_names(file: &ImportFile, repo: &str) -> Option<Refused> {
    let refused = |name: &str, why: String| Refused {
        place: with_name(&file.path, name),
        why,
    };
    match RepoName::new(repo) {
        Err(error) => return Some(refused(repo, format!("{error}; {}", error.hint()))),
        Ok(name) if name.is_reserved() => {
            let why = format!("the store keeps data of its own under the repository name `{repo}`");
            return Some(refused(repo, why));
        }
        Ok(_) => {}
    }
    if let Some(job) = &file.job
        && let Err(error) = JobId::new(job)
    {
        return Some(refused(job, format!("{error}; {}", error.hint())));
    }
    let is_named_by_file = matches!(file.kind, Kind::JobDocument(_) | Kind::RepoDocument(_));
    let stem = file.path.file_stem()?.to_str().filter(|_| is_named_by_file)?;
    let error = DocumentName::new(stem).err()?;
    Some(refused(stem, format!("{error}; {}", error.hint())))
}

/// The file or folder with this name in a path: the last one, since the first parts are of the folder that the user named.
fn with_name(path: &Path, name: &str) -> PathBuf {
    let file = format!("{name}.json");
    let has_name = |part: &&Path| {
        part.file_name()
            .is_some_and(|part| part == name || part == file.as_str())
    };
    path.ancestors().find(has_name).unwrap_or(path).to_owned()
}
