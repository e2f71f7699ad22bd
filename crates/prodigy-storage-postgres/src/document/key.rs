//! The sort key of a document's row: bytes that sort as the listings do, first by stamp and then by
//! address.

use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, Phase, Stamp};

use crate::sql::Sql;

fn text(key: &mut Vec<u8>, text: &str) {
    // A name contains no zero byte. With one after it, a name sorts before all longer names that begin with it.
    key.extend_from_slice(text.as_bytes());
    key.push(0);
}

fn optional(key: &mut Vec<u8>, value: Option<&str>) {
    key.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(key, value);
    }
}

/// The sort key of a document: its stamp, and then its address.
pub(crate) fn key(document: &Document) -> Vec<u8> {
    let mut key = Vec::with_capacity(96);
    match document.stamp() {
        None => key.push(0),
        Some(stamp) => {
            key.push(1);
            // With the sign bit inverted, the bytes of a number sort as the number does.
            key.extend_from_slice(&(stamp.time().as_nanos() ^ i64::MIN).to_be_bytes());
            let foreign = (!stamp.is_canonical()).then(|| stamp.to_string());
            optional(&mut key, foreign.as_deref());
            optional(&mut key, stamp.key().map(|key| key.as_str()));
        }
    }
    key.extend_from_slice(&kind(document).to_be_bytes());
    if let Document::Own(owner, kind, name) = document {
        key.push(u8::from(owner.job().is_none()));
        text(&mut key, owner.repo().as_str());
        text(&mut key, owner.job().map_or("", |job| job.job.as_str()));
        text(&mut key, kind.as_str());
        text(&mut key, name.as_str());
    } else {
        text(&mut key, document.repo().as_str());
        text(&mut key, document.job().map_or("", |job| job.job.as_str()));
        text(&mut key, series(document).unwrap_or_default().as_str());
    }
    key
}

/// The number of the document's kind in the table.
pub(crate) fn kind(document: &Document) -> i16 {
    match document {
        Document::Setup(_) => 0,
        Document::Map(..) => 1,
        Document::Reduce(..) => 2,
        Document::OwnPhase(..) => 3,
        Document::Orphans(_) => ORPHANS,
        Document::Finished(_) => FINISHED,
        Document::Fencing(_) => 6,
        Document::Repository(_) => REPOSITORY,
        // A new kind of document has to get a number of its own here.
        _ => OWN,
    }
}

const ORPHANS: i16 = 4;
pub(crate) const FINISHED: i16 = 5;
const REPOSITORY: i16 = 7;
pub(crate) const OWN: i16 = 8;

/// The phase, if the document is a checkpoint.
pub(crate) fn series(document: &Document) -> Option<String> {
    document.phase().map(|phase| phase.as_str().to_owned())
}

/// The key of a checkpoint, or the kind of a document whose kind the caller defines.
pub(crate) fn label(document: &Document) -> Option<String> {
    match document {
        Document::Own(_, kind, _) => Some(kind.as_str().to_owned()),
        _ => document
            .stamp()
            .and_then(Stamp::key)
            .map(|key| key.as_str().to_owned()),
    }
}

/// The SQL condition that selects the documents of a scope. Adds its parameters to `sql`.
pub(crate) fn scope(scope: &DocumentScope, sql: &mut Sql) -> String {
    let of_phase = |sql: &mut Sql, phase: &Phase| sql.push(phase.as_str().to_owned());
    let of_job = |sql: &mut Sql, job: &prodigy_storage_layout::JobAddress| {
        let (repo, name) = (
            sql.push(job.repo.as_str().to_owned()),
            sql.push(job.job.as_str().to_owned()),
        );
        format!("d.job = (select id from @.job where repo = {repo} and name = {name} and not deleted)")
    };
    let alive = "exists (select from @.job j where j.id = d.job and not j.deleted)";
    match scope {
        DocumentScope::Checkpoints(job, phase) => {
            let job = of_job(sql, job);
            format!("{job} and d.series = {}", of_phase(sql, phase))
        }
        DocumentScope::Job(job) => format!("{} and d.series is not null", of_job(sql, job)),
        DocumentScope::Keyed(job, key) => {
            let job = of_job(sql, job);
            format!(
                "{job} and d.kind < {ORPHANS} and d.label = {}",
                sql.push(key.as_str().to_owned())
            )
        }
        DocumentScope::Orphans(repo) => {
            let repo = sql.push(repo.as_str().to_owned());
            format!("d.repo = {repo} and d.kind = {ORPHANS} and {alive}")
        }
        DocumentScope::Repositories => format!("d.job = 0 and d.kind = {REPOSITORY}"),
        DocumentScope::Own(owner, of_kind) => {
            let owner = match owner {
                DocumentOwner::Job(job) => of_job(sql, job),
                DocumentOwner::Repo(repo) => {
                    format!("d.job = 0 and d.repo = {}", sql.push(repo.as_str().to_owned()))
                }
            };
            match of_kind {
                Some(of_kind) => format!(
                    "{owner} and d.kind = {OWN} and d.label = {}",
                    sql.push(of_kind.as_str().to_owned())
                ),
                None => format!("{owner} and d.kind = {OWN}"),
            }
        }
        // A new kind of scope selects nothing until it gets a condition here.
        _ => "false".into(),
    }
}

#[cfg(test)]
mod tests {
    use prodigy_storage_layout::{
        CheckpointKey, DocumentKind, DocumentName, JobAddress, JobId, RepoName, Timestamp,
    };

    use super::*;

    #[test]
    fn keys_sort_as_listings_do() {
        let repo = |name: &str| RepoName::new(name).unwrap();
        let job = |of: &str, name: &str| JobAddress::new(repo(of), JobId::new(name).unwrap());
        let stamp = |millis: i64| Stamp::from(Timestamp::from_millis(millis));
        let mut all = vec![Document::Repository(repo("a")), Document::Repository(repo("a-b"))];
        for of in [job("a", "j"), job("a", "j-1"), job("a-b", "i")] {
            all.extend([
                Document::Setup(of.clone()),
                Document::Orphans(of.clone()),
                Document::Finished(of.clone()),
            ]);
            for owner in [
                DocumentOwner::Job(of.clone()),
                DocumentOwner::Repo(of.repo.clone()),
            ] {
                for (kind, name) in [("notes", "n"), ("notes", "n2"), ("notes-2", "a")] {
                    all.push(Document::Own(
                        owner.clone(),
                        DocumentKind::new(kind).unwrap(),
                        DocumentName::new(name).unwrap(),
                    ));
                }
            }
            for phase in [
                Phase::Map,
                Phase::Reduce,
                "review".parse().unwrap(),
                "re".parse().unwrap(),
            ] {
                for millis in [0, 5, 1_763_192_166_123] {
                    all.push(Document::checkpoint(&of, phase, stamp(millis)));
                    let key = Some(CheckpointKey::new("nightly").unwrap());
                    all.push(Document::checkpoint(&of, phase, stamp(millis).with_key(key)));
                }
                let foreign = Stamp::parse("2025-11-15T07:36:06.123Z").unwrap();
                all.push(Document::checkpoint(&of, phase, foreign));
            }
        }
        let mut by_key = all.clone();
        by_key.sort_by_key(key);
        all.sort_by_key(|document| (document.stamp().cloned(), document.clone()));
        let differs = by_key.iter().zip(&all).find(|(one, other)| one != other);
        assert_eq!(differs, None);
    }
}
