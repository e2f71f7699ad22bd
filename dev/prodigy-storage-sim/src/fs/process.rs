//! One simulated process.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use prodigy_storage_backend::Clock;
use prodigy_storage_file::fs::{DirEntry, FileSystem, FsFile, FsFolder, Metadata, OpenMode, Space};

use super::SimFs;
use super::doom::{Doom, Kind, Written};
use super::file::SimFile;
use super::folder::SimFolder;
use super::state::{Caller, State};
use crate::clock::ProcessClock;

/// The free space of a simulated disk, which is constant.
const FREE: u64 = 1 << 40;

/// A process that uses a [`SimFs`]. Its open files hold its locks; a kill releases them at once.
#[derive(Debug)]
pub struct Process {
    pub(super) shared: Arc<Shared>,
}

/// The state that a process and its open files share.
pub(super) struct Shared {
    sim: Arc<SimFs>,
    number: u32,
    clock: Arc<ProcessClock>,
    life: Mutex<LifeState>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

/// The end of a lock file's name, and an action of another process that runs just before this process tries to take
/// that lock.
type Meanwhile = (&'static str, Box<dyn FnOnce() + Send>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (self.number, *self.life.lock());
        f.debug_tuple("Shared").field(&shown).finish()
    }
}

#[derive(Clone, Copy, Debug)]
enum LifeState {
    Alive,
    /// The process dies in its next call that matches.
    Doomed(Doom),
    Dead,
}

impl Process {
    pub(super) fn new(sim: Arc<SimFs>, number: u32) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock: Arc::new(ProcessClock::new(sim.clock())),
                sim,
                number,
                life: Mutex::new(LifeState::Alive),
                meanwhile: Mutex::new(None),
            }),
        }
    }

    /// The process number, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.shared.number
    }

    /// The wall clock of the process.
    #[must_use]
    pub fn clock(&self) -> Arc<ProcessClock> {
        Arc::clone(&self.shared.clock)
    }

    /// Kills the process: every later call fails and changes nothing, and its locks are released at once.
    pub fn kill(&self) {
        self.shared.die(&mut self.shared.life.lock());
    }

    /// Kills the process in its next call of this kind.
    pub fn kill_in(&self, doom: Doom) {
        *self.shared.life.lock() = LifeState::Doomed(doom);
    }

    /// Runs `meanwhile` before the process next tries the lock of a file whose name has this end: other processes may
    /// act between the open of a file and its lock.
    pub fn before_it_locks(&self, name_end: &'static str, meanwhile: impl FnOnce() + Send + 'static) {
        *self.shared.meanwhile.lock() = Some((name_end, Box::new(meanwhile)));
    }

    /// True if the process has ended.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(*self.shared.life.lock(), LifeState::Dead)
    }

    fn caller<'p>(&self, path: &'p Path) -> Caller<'p> {
        self.shared.caller(path)
    }
}

/// The part of a write that is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Whole,
    /// Only this part is written, and the process dies.
    Last(Written),
}

impl Shared {
    pub(super) fn caller<'p>(&self, path: &'p Path) -> Caller<'p> {
        Caller {
            process: self.number,
            path,
            time: self.sim.clock.now(),
        }
    }

    fn die(&self, life: &mut LifeState) {
        *life = LifeState::Dead;
        self.sim.state.lock().end(self.number);
    }

    /// Runs the planned action of another process, if this path is the lock that it waits for.
    pub(super) fn meet_others(&self, path: &Path) {
        let path = path.to_string_lossy();
        let due = self.meanwhile.lock().take_if(|(end, _)| path.ends_with(*end));
        if let Some((_, meanwhile)) = due {
            meanwhile();
        }
    }

    /// Makes a call that changes nothing.
    pub(super) fn look<T>(&self, call: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        if matches!(*self.life.lock(), LifeState::Dead) {
            return Err(killed());
        }
        let mut state = self.sim.state.lock();
        state.tick();
        call(&state)
    }

    /// Makes a call that may change something.
    pub(super) fn act<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let life = self.life.lock();
        if matches!(*life, LifeState::Dead) {
            return Err(killed());
        }
        let mut state = self.sim.state.lock();
        state.tick();
        call(&mut state)
    }

    /// The kind of call in which the process has to die, if this path matches.
    fn doom(&self, path: &Path) -> Option<Kind> {
        match *self.life.lock() {
            LifeState::Doomed(doom) if doom.is_on(path) => Some(doom.kind),
            _ => None,
        }
    }

    /// Makes a write, in which the process may die.
    pub(super) fn write(
        &self,
        path: &Path,
        call: impl FnOnce(&mut State, Turn) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(Kind::Write(written)) = self.doom(path) else {
            return self.act(|state| call(state, Turn::Whole));
        };
        let done = self.act(|state| call(state, Turn::Last(written)));
        self.die(&mut self.life.lock());
        done.and(Err(killed()))
    }

    /// Makes a rename, before which the process may die.
    fn rename(&self, from: &Path, to: &Path, over: bool) -> io::Result<()> {
        if self.doom(to) == Some(Kind::Rename) {
            self.die(&mut self.life.lock());
        }
        let caller = self.caller(to);
        self.act(|state| state.rename(caller, from, over))
    }

    /// Closes a descriptor. A dead process's descriptors are closed as well.
    pub(super) fn close(&self, call: impl FnOnce(&mut State)) {
        call(&mut self.sim.state.lock());
    }
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

impl FileSystem for Process {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        let caller = self.caller(path);
        let (inode, owner) = self.shared.act(|state| state.open(caller, mode))?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(SimFile::new(shared, inode, owner, path, mode)))
    }

    fn create_root(&self) -> io::Result<()> {
        let caller = self.caller(Path::new(""));
        self.shared.act(|state| {
            state.create_root(caller);
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let caller = self.caller(path);
        self.shared.act(|state| state.create_dir(caller))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let caller = self.caller(path);
        self.shared.act(|state| state.sync_dir(caller))
    }

    fn sync_above_root(&self) -> io::Result<()> {
        let caller = self.caller(Path::new(""));
        self.shared.act(|state| state.sync_above_root(caller))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.rename(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.rename(from, to, false)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let caller = self.caller(path);
        self.shared.act(|state| state.unlink(caller))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let caller = self.caller(path);
        self.shared.act(|state| state.remove_dir(caller))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.shared.look(|state| {
            let folder = state.readable_folder(path)?;
            let entries = state.disk.folder(folder).into_iter().flatten();
            Ok(entries
                .filter_map(|(name, inode)| {
                    Some(DirEntry {
                        name: name.clone(),
                        kind: state.disk.node(*inode)?.kind(),
                    })
                })
                .collect())
        })
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        let number = self.shared.number;
        let (inode, owner) = self.shared.act(|state| {
            let inode = state.readable_folder(path)?;
            Ok((inode, state.handle(number)))
        })?;
        Ok(Box::new(SimFolder::new(Arc::clone(&self.shared), inode, owner)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.shared.look(|state| {
            let inode = state.disk.find(path)?;
            state.disk.about(inode).ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn space(&self) -> io::Result<Space> {
        self.shared.look(|_| {
            Ok(Space {
                free: FREE,
                capacity: FREE,
                free_inodes: None,
            })
        })
    }
}
