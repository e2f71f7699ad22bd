//! The newest checkpoint of a series is found, no matter which process changed the folder, and when.

use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::{Body, Deadline, DocumentStore, Durability, Expected, PutOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_file::fs::{FileSystem, OpenMode};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, Stamp, Timestamp, checkpoints_folder};
use prodigy_storage_sim::{Disk, Process, START, SimFs, job};
use proptest::prelude::*;

struct World {
    sim: Arc<SimFs>,
    backend: FileBackend,
    /// A process of another program.
    other: Arc<Process>,
    job: JobAddress,
    folder: PathBuf,
}

impl World {
    /// A store with one checkpoint, in the phase `map`.
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

    /// The existing documents, oldest first.
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

    fn path(&self, millis: i64) -> PathBuf {
        let stamp = Stamp::from(Timestamp::from_millis(START / 1_000_000 + millis));
        Entry::Document(Document::Map(self.job.clone(), stamp)).path()
    }

    /// Another program renames a document into the folder.
    fn drop_in(&self, millis: i64) {
        let made = self.folder.join("made-elsewhere");
        self.other.open(&made, OpenMode::Create).unwrap();
        self.other.rename(&made, &self.path(millis)).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(bool),
    Delete(usize),
    DropIn(i64),
    Remove(usize),
    /// The second process lists all documents.
    Walk,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => any::<bool>().prop_map(Op::Add),
        2 => (0..8usize).prop_map(Op::Delete),
        6 => (0..2000i64).prop_map(Op::DropIn),
        4 => (0..3usize).prop_map(Op::Remove),
        2 => Just(Op::Walk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_processes_and_a_stranger_never_make_it_wrong(ops in prop::collection::vec(ops(), 1..60)) {
        let world = World::new();
        let (second, _) = world.sim.open(world.sim.options()).unwrap();
        for op in &ops {
            let maps = world.truth(Phase::Map);
            let chosen = |newer: usize| maps.len().checked_sub(newer + 1).and_then(|at| maps.get(at));
            match op {
                Op::Add(map) => world.add(if *map { Phase::Map } else { Phase::Reduce }),
                Op::Delete(newer) => {
                    if let Some(document) = chosen(*newer) {
                        second
                            .delete(document, Expected::Any, Durability::Relaxed, None, Deadline::never())
                            .unwrap();
                    }
                }
                Op::DropIn(millis) => world.drop_in(*millis),
                Op::Remove(newer) => {
                    if let Some(document) = chosen(*newer) {
                        world.other.unlink(&document.path()).unwrap();
                    }
                }
                Op::Walk => {
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
            let maps = world.truth(Phase::Map);
            let found = world.newest(Phase::Map);
            prop_assert_eq!(found.as_ref(), maps.last());
        }
    }
}
