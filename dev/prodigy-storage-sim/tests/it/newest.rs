//! The newest of a series is told as it is, whoever changes the folder, and when: also within one step of the clock that
//! stamps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{Body, Deadline, DocumentStore, Durability, Expected, PutOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_file::fs::{FileSystem, OpenMode};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, Stamp, Timestamp, checkpoints_folder};
use prodigy_storage_sim::{Disk, Process, START, SimFs, job};
use proptest::prelude::*;

/// Calls after which a folder that no one changes is trusted.
const QUIET: usize = 400;

struct World {
    sim: Arc<SimFs>,
    backend: FileBackend,
    /// Another program.
    other: Arc<Process>,
    job: JobAddress,
    folder: PathBuf,
}

impl World {
    /// With one checkpoint.
    fn new() -> Self {
        let sim = SimFs::new(Disk::default());
        let (backend, _) = sim.open(sim.options()).unwrap();
        let job = job("one").unwrap();
        let world = Self {
            other: sim.process(),
            folder: checkpoints_folder(&job),
            sim,
            backend,
            job,
        };
        world.add(Phase::Map);
        world
    }

    fn add(&self, phase: Phase) {
        let options = PutOptions::default();
        self.backend
            .add(&self.job, phase, Body::EMPTY, &options, Deadline::never())
            .unwrap();
    }

    fn newest(&self, phase: Phase) -> Option<Document> {
        let found = self.backend.newest(&self.job, phase, None, Deadline::never());
        found.unwrap().map(|entry| entry.document)
    }

    /// What is there, oldest first.
    fn truth(&self, phase: Phase) -> Vec<Document> {
        let mut found: Vec<Document> = self
            .sim
            .disk()
            .files()
            .iter()
            .filter_map(|path| match Entry::parse(path)? {
                Entry::Document(document) => (document.phase() == Some(phase)).then_some(document),
                _ => None,
            })
            .collect();
        found.sort_by(|a, b| a.stamp().cmp(&b.stamp()));
        found
    }

    fn must_agree(&self, when: &str) {
        for phase in Phase::ALL {
            assert_eq!(
                self.newest(phase).as_ref(),
                self.truth(phase).last(),
                "newest of phase {phase} {when}"
            );
        }
    }

    /// Looks around until the folder is trusted.
    fn rest(&self) {
        for _ in 0..QUIET {
            self.other.metadata(Path::new("")).unwrap();
        }
    }

    fn path(&self, millis: i64) -> PathBuf {
        let stamp = Stamp::from(Timestamp::from_millis(START / 1_000_000 + millis));
        Entry::Document(Document::Map(self.job.clone(), stamp)).path()
    }

    /// Another program drops in a document, by a rename.
    fn drop_in(&self, millis: i64) {
        let made = self.folder.join("made-elsewhere");
        self.other.open(&made, OpenMode::Create).unwrap();
        self.other.rename(&made, &self.path(millis)).unwrap();
    }

    fn set_modified(&self, modified: Timestamp, wanted: bool) {
        if wanted {
            self.other.set_modified(&self.folder, modified).unwrap();
        }
    }

    fn modified(&self) -> Timestamp {
        self.other.metadata(&self.folder).unwrap().modified
    }
}

#[test]
fn a_change_in_the_same_step_of_the_clock_is_seen() {
    let world = World::new();
    for round in 1..60 {
        world.rest();
        world.drop_in(round * 10);
        // Asked for at once, and changed at once: at least one of these pairs is in one step.
        world.must_agree("after a document was dropped in");
        for more in 1..5 {
            world.drop_in(round * 10 + more);
            let newest = world.newest(Phase::Map).unwrap();
            assert_eq!(Entry::Document(newest).path(), world.path(round * 10 + more));
        }
    }
}

#[test]
fn a_change_whose_time_of_modification_was_set_back_is_seen() {
    let world = World::new();
    for round in 1..20 {
        world.rest();
        world.must_agree("after a rest");
        let before = world.modified();
        world.drop_in(round);
        world.other.set_modified(&world.folder, before).unwrap();
        assert_eq!(world.modified(), before);
        world.must_agree("after a document was dropped in, and the time set back");
        world.rest();
        world.must_agree("after a rest");
        world.other.unlink(&world.path(round)).unwrap();
        world.other.set_modified(&world.folder, before).unwrap();
        world.must_agree("after a document was removed, and the time set back");
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Add(bool),
    Delete(usize),
    /// And sets the time of modification back, or not.
    DropIn(i64, bool),
    Remove(usize, bool),
    Rest,
    /// The second process goes through all of them.
    Walk,
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => any::<bool>().prop_map(Deed::Add),
        2 => (0..8usize).prop_map(Deed::Delete),
        6 => (0..2000i64, any::<bool>()).prop_map(|(millis, back)| Deed::DropIn(millis, back)),
        4 => (0..3usize, any::<bool>()).prop_map(|(newer, back)| Deed::Remove(newer, back)),
        2 => Just(Deed::Rest),
        2 => Just(Deed::Walk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_processes_and_a_stranger_never_make_it_wrong(deeds in prop::collection::vec(deeds(), 1..60)) {
        let world = World::new();
        let (second, _) = world.sim.open(world.sim.options()).unwrap();
        for deed in &deeds {
            let maps = world.truth(Phase::Map);
            let chosen = |newer: usize| maps.len().checked_sub(newer + 1).and_then(|at| maps.get(at));
            let modified = world.modified();
            match deed {
                Deed::Add(map) => world.add(if *map { Phase::Map } else { Phase::Reduce }),
                Deed::Delete(newer) => {
                    if let Some(document) = chosen(*newer) {
                        second
                            .delete(document, Expected::Any, Durability::Relaxed, Deadline::never())
                            .unwrap();
                    }
                }
                Deed::DropIn(millis, back) => {
                    world.drop_in(*millis);
                    world.set_modified(modified, *back);
                }
                Deed::Remove(newer, back) => {
                    if let Some(document) = chosen(*newer) {
                        world.other.unlink(&Entry::Document(document.clone()).path()).unwrap();
                        world.set_modified(modified, *back);
                    }
                }
                Deed::Rest => world.rest(),
                Deed::Walk => {
                    let mut before = None;
                    for wanted in maps.iter().rev().map(Some).chain([None]) {
                        let found = second.newest(&world.job, Phase::Map, before, Deadline::never()).unwrap();
                        let found = found.map(|entry| entry.document);
                        prop_assert_eq!(found.as_ref(), wanted);
                        before = wanted;
                    }
                    world.must_agree("by the first process");
                }
            }
            // Few calls: several changes fall into one step of the clock.
            let maps = world.truth(Phase::Map);
            let found = world.newest(Phase::Map);
            prop_assert_eq!(found.as_ref(), maps.last());
        }
    }
}
