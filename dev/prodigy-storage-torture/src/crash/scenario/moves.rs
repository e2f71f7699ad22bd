//! Scenarios that move data: an interrupted backup, restore or import is run again, with the same result as a single
//! run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene};
use crate::tool::Tool;

const OF_JOB: &[&str] = &["--repo", REPO, "--job", JOB];

/// The number of events, of checkpoints, and of dead letters.
const EVENTS: usize = 3;
const OTHERS: usize = 2;

/// Paths and contents of files of another program.
const FOREIGN: &[(&str, &str)] = &[
    (
        "events/crash/struck/kept.jsonl",
        "{\"id\":\"7d4b6a52-0b1a-4a53-9d2e-0a3b1c2d3e4f\",\"timestamp\":\"2026-11-28T11:00:01Z\",\"event\":{\"n\":1}}\n\
         {\"id\":\"8d4b6a52-0b1a-4a53-9d2e-0a3b1c2d3e4f\",\"timestamp\":\"2026-11-28T11:00:02Z\",\"event\":{\"n\":2}}\n",
    ),
    (
        "dlq/crash/struck/mapreduce/dlq/struck/items/item_0.json",
        "{\"item_id\":\"item_0\",\"item_data\":{\"n\":1},\"failure_history\":[{\"attempt_number\":1,\
         \"timestamp\":\"2026-11-28T11:00:01Z\",\"error_message\":\"no\"}]}",
    ),
    (
        "state/crash/mapreduce/jobs/struck/checkpoint-v1.json",
        "{\"metadata\":{\"created_at\":\"2026-11-28T11:00:03Z\"},\"done\":2}",
    ),
    ("state/crash/mappings/struck.json", "{\"session\":\"s\"}"),
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "back up a store",
        prepare: |scene| fill(&scene.tool),
        act: |scene, _| Act::new(&["backup", &text(&archive(scene))], b""),
        check: |scene, before, _| check_backup(scene, before),
        ..BASE
    },
    Scenario {
        name: "restore an archive into an empty root",
        prepare: |scene| archived(scene, false),
        act: |_, before| Act::new(&["restore", moved(before)], b""),
        check: |scene, before, _| again(scene, before, &["restore", moved(before)]),
        ..BASE
    },
    Scenario {
        name: "restore a job beside another",
        prepare: |scene| archived(scene, true),
        act: |_, before| Act::new(&[&["restore", moved(before)], OF_JOB].concat(), b""),
        check: |scene, before, _| {
            again(scene, before, &[&["restore", moved(before)], OF_JOB].concat())?;
            beside(scene)
        },
        ..BASE
    },
    Scenario {
        name: "import what another program left",
        prepare: |scene| left(scene, &sibling(scene.tool.base(), "old")?),
        act: |_, before| Act::new(&["import", moved(before)], b""),
        check: |scene, before, _| again(scene, before, &["import", moved(before)]),
        ..BASE
    },
    Scenario {
        name: "import what another program left in the root",
        prepare: |scene| left(scene, scene.tool.base()),
        act: |scene, _| Act::new(&["import", &text(scene.tool.base())], b""),
        check: |scene, before, _| {
            again(scene, before, &["import", &text(scene.tool.base())])?;
            // Readers no longer report an imported file as skipped.
            scene
                .tool
                .run([&["dlq", "list"], OF_JOB].concat(), b"")?
                .expect_code(0)?;
            scene
                .tool
                .run([&["events", "cat"], OF_JOB].concat(), b"")?
                .expect_code(0)
                .map(drop)
        },
        ..BASE
    },
    Scenario {
        name: "import a job that was exported",
        prepare: exported,
        act: |_, before| Act::new(&["import", moved(before)], b""),
        check: |scene, before, _| again(scene, before, &["import", moved(before)]),
        ..BASE
    },
];

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path next to the store's folder.
fn sibling(base: &Path, name: &str) -> Result<PathBuf> {
    Ok(base.parent().context("a store lies in a folder")?.join(name))
}

/// The path of a trial's archive. It begins like the store's path, so that faults are also made in calls on the
/// archive.
fn archive(scene: &Scene<'_>) -> PathBuf {
    scene.tool.base().with_extension("tar.zst")
}

/// The contents of the job that is moved, as stored in `before`.
fn whole(before: &Before) -> &str {
    before.words.first().map_or("", String::as_str)
}

/// The path of the archive or file that is read, as stored in `before`.
fn moved(before: &Before) -> &str {
    before.words.get(1).map_or("", String::as_str)
}

/// Creates a job with events, checkpoints, dead letters and documents. Returns its contents.
fn fill(tool: &Tool) -> Result<Before> {
    for position in 0..EVENTS {
        tool.done(
            [&["events", "append"], OF_JOB].concat(),
            format!("{{\"n\":{position}}}\n").as_bytes(),
        )?;
    }
    for number in 0..OTHERS {
        let item = format!("{{\"item_id\":\"{number}\",\"item_data\":{number}}}\n");
        tool.done([&["dlq", "push"], OF_JOB].concat(), item.as_bytes())?;
        let save = ["checkpoint", "save", "--phase", "map"];
        tool.done([&save, OF_JOB].concat(), number.to_string().as_bytes())?;
    }
    let put = ["document", "put", "--kind", "plan", "--name", "a"];
    tool.done([&put, OF_JOB].concat(), b"{\"steps\":2}")?;
    Ok(Before {
        words: vec![contents(tool)?],
        ..Before::default()
    })
}

/// Makes an archive of a filled store. The trial's own store is new, or has another job if `beside` is true.
fn archived(scene: &Scene<'_>, beside: bool) -> Result<Before> {
    let source = scene.tool.clone().over(sibling(scene.tool.base(), "source")?);
    let mut before = fill(&source)?;
    let file = text(&sibling(scene.tool.base(), "archive")?);
    source.done(["backup", &file], b"")?;
    before.words.push(file);
    if beside {
        scene
            .tool
            .done(["events", "append", "--repo", REPO, "--job", "other"], b"7\n")?;
    }
    Ok(before)
}

/// A file with an exported job.
fn exported(scene: &Scene<'_>) -> Result<Before> {
    let source = scene.tool.clone().over(sibling(scene.tool.base(), "source")?);
    let mut before = fill(&source)?;
    let file = sibling(scene.tool.base(), "exported.jsonl")?;
    std::fs::write(&file, source.done([&["export"], OF_JOB].concat(), b"")?)?;
    let whole = scene.tool.clone().over(sibling(scene.tool.base(), "whole")?);
    whole.done(["import", &text(&file)], b"")?;
    before.words = vec![contents(&whole)?, text(&file)];
    Ok(before)
}

/// Writes the files of another program to a folder, and imports them into a separate store, whose contents are
/// expected.
fn left(scene: &Scene<'_>, folder: &Path) -> Result<Before> {
    let copy = sibling(scene.tool.base(), "copy")?;
    for folder in [folder, &copy] {
        for (path, contents) in FOREIGN {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            std::fs::write(path, contents)?;
        }
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    let whole = scene.tool.clone().over(sibling(scene.tool.base(), "whole")?);
    whole.done(["import", &text(&copy)], b"")?;
    Ok(Before {
        words: vec![contents(&whole)?, text(folder)],
        ..Before::default()
    })
}

/// The contents of a job, without the times of the import.
fn contents(tool: &Tool) -> Result<String> {
    let mut all = Vec::new();
    let mut take = |arguments: &[&str], fields: &[&str]| -> Result<()> {
        let answer = tool.run(arguments, b"")?;
        // Exit code 6: files of another program in this root are skipped until they are imported.
        ensure!(
            matches!(answer.code(), Some(0 | 6)),
            "{}",
            answer.unexpected("success or exit code 6")
        );
        for line in answer.lines() {
            let line: Value = serde_json::from_slice(line)?;
            let of = |field: &&str| line.get(field).cloned().unwrap_or_default();
            all.push(Value::from(fields.iter().map(of).collect::<Vec<_>>()).to_string());
        }
        Ok(())
    };
    take(
        &[&["events", "cat"], OF_JOB].concat(),
        &["id", "event", "metadata"],
    )?;
    take(
        &[&["dlq", "export"], OF_JOB].concat(),
        &["item_id", "item_data", "failure_count"],
    )?;
    take(
        &[&["--json", "checkpoint", "show"], OF_JOB].concat(),
        &["phase", "data"],
    )?;
    take(&[&["--json", "checkpoint", "list"], OF_JOB].concat(), &["phase"])?;
    take(
        &[&["--json", "document", "list"], OF_JOB].concat(),
        &["kind", "name"],
    )?;
    take(&["--json", "document", "list", "--repo", REPO], &["kind", "name"])?;
    Ok(all.join("\n"))
}

/// Runs the interrupted command again, which may find nothing left to do. Compares the store with the result of a
/// single run.
fn again(scene: &Scene<'_>, before: &Before, command: &[&str]) -> Result<()> {
    let answer = scene.tool.run(command, b"")?;
    let is_whole = ["the folder is not empty", "the store has data of this job"]
        .iter()
        .any(|words| answer.stderr.contains(words));
    ensure!(
        answer.code() == Some(0) || is_whole,
        "run again: {}",
        answer.unexpected("success")
    );
    let (found, whole) = (
        contents(&scene.tool)?,
        before.words.first().context("a job is filled")?,
    );
    ensure!(found == *whole, "run again, it holds\n{found}\nand not\n{whole}");
    super::super::audit::is_sound(&scene.tool)
}

/// Checks that the other job in the store is unchanged.
fn beside(scene: &Scene<'_>) -> Result<()> {
    let cat = ["events", "cat", "-o", "payload", "--repo", REPO, "--job", "other"];
    let found = scene.tool.done(cat, b"")?;
    ensure!(
        found == b"7\n",
        "the other job holds {}",
        String::from_utf8_lossy(&found)
    );
    Ok(())
}

/// Checks that the archive is complete or absent, and that the next backup succeeds.
fn check_backup(scene: &Scene<'_>, before: &Before) -> Result<()> {
    let file = archive(scene);
    if file.exists() {
        scene.tool.done(["restore", "--check", &text(&file)], b"")?;
        std::fs::remove_file(&file)?;
    }
    scene.tool.done(["backup", &text(&file)], b"")?;
    let restored = scene.tool.clone().over(sibling(scene.tool.base(), "restored")?);
    restored.done(["restore", &text(&file)], b"")?;
    ensure!(
        contents(&restored)? == whole(before),
        "the archive does not hold what the store holds"
    );
    ensure!(
        contents(&scene.tool)? == whole(before),
        "a backup changed the store"
    );
    Ok(())
}
