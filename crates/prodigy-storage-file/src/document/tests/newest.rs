//! The newest of a series, on a real file system: what other programs do to the folder is seen by the next call.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicUsize;

use prodigy_storage_layout::checkpoints_folder;

use super::*;
use crate::fs::{DirEntry, FileSystem, FsFile, FsFolder, Metadata, OpenMode, Space};

/// A real file system whose clock is an hour ahead of that which stamps folders: each of them looks as if nothing had
/// changed for long, so that what is remembered is trusted. Counts how often names are listed.
#[derive(Debug)]
struct Ahead {
    real: RealFs,
    listings: Arc<AtomicUsize>,
}

const HOUR: i64 = 3_600_000_000_000;

impl FileSystem for Ahead {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        self.real.open(path, mode)
    }

    fn create_root(&self) -> io::Result<()> {
        self.real.create_root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.real.sync_dir(path)
    }

    fn sync_above_root(&self) -> io::Result<()> {
        self.real.sync_above_root()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.real.unlink(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.real.list(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        Ok(Box::new(AheadFolder {
            real: self.real.folder(path)?,
            listings: Arc::clone(&self.listings),
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.real.metadata(path)
    }

    fn probe_lock(&self) -> io::Result<()> {
        self.real.probe_lock()
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }
}

#[derive(Debug)]
struct AheadFolder {
    real: Box<dyn FsFolder>,
    listings: Arc<AtomicUsize>,
}

impl FsFolder for AheadFolder {
    fn metadata(&self) -> io::Result<Metadata> {
        self.real.metadata()
    }

    fn names(&self, show: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        self.real.names(show)
    }

    fn metadata_of(&self, name: &std::ffi::OsStr) -> io::Result<Metadata> {
        self.real.metadata_of(name)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.real.try_lock()
    }

    fn lock_holder(&self) -> Option<u32> {
        self.real.lock_holder()
    }

    fn clock(&self) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(Timestamp::now().as_nanos() + HOUR))
    }
}

struct Watched {
    place: Place,
    store: Store,
    listings: Arc<AtomicUsize>,
}

impl Watched {
    fn new() -> Self {
        let place = Place::new();
        let listings = Arc::default();
        let fs = Ahead {
            real: RealFs::new(place.root()),
            listings: Arc::clone(&listings),
        };
        let options = FileOptions::new(place.root()).clock(Arc::clone(&place.hand) as _);
        let store = Store::new(Arc::new(fs), options);
        fs::create_dir_all(folder(&place)).unwrap();
        Self {
            place,
            store,
            listings,
        }
    }

    fn listings(&self) -> usize {
        self.listings.swap(0, Ordering::Relaxed)
    }

    fn folder(&self) -> PathBuf {
        folder(&self.place)
    }

    /// Does something to the folder, and waits until the kernel has stamped it with another time: one that it stamps
    /// by a coarse clock looks unchanged for up to 10 ms, and the clock of these tests hides that.
    fn changed_by(&self, change: impl FnOnce()) {
        let stamp =
            || fs::metadata(self.folder()).map(|found| (found.ino(), found.ctime(), found.ctime_nsec()));
        let before = stamp().ok();
        change();
        while stamp().ok() == before {
            fs::write(self.folder().join("other"), "").unwrap();
            fs::remove_file(self.folder().join("other")).unwrap();
        }
    }
}

fn folder(place: &Place) -> PathBuf {
    place.root().join(checkpoints_folder(&job()))
}

fn map(millis: i64) -> Document {
    Document::Map(job(), Stamp::from(Timestamp::from_millis(millis)))
}

fn newest(store: &Store) -> Option<Document> {
    let found = store.newest(&job(), Phase::Map, None, never()).unwrap();
    found.map(|entry| entry.document)
}

/// Another program's way: a temporary file, then its name.
fn drop_in(place: &Place, document: &Document) {
    let made = place.root().join("made-elsewhere");
    fs::write(&made, "{}").unwrap();
    fs::rename(made, place.path(document)).unwrap();
}

#[test]
fn every_change_of_another_program_is_seen_by_the_next_call() {
    let place = Place::new();
    fs::create_dir_all(folder(&place)).unwrap();
    let store = place.reader();
    assert_eq!(newest(&store), None);
    for n in 1..300 {
        drop_in(&place, &map(n));
        assert_eq!(newest(&store), Some(map(n)));
        match n % 3 {
            0 => {
                fs::remove_file(place.path(&map(n))).unwrap();
                assert_eq!(newest(&store), Some(map(n - 1)));
            }
            1 => {
                // Over the one before: that is gone, and this one stands where it stood.
                let moved = map(1_000 + n);
                fs::rename(place.path(&map(n)), place.path(&moved)).unwrap();
                assert_eq!(newest(&store), Some(moved.clone()));
                drop_in(&place, &moved);
                assert_eq!(newest(&store), Some(moved.clone()));
                fs::rename(place.path(&moved), place.path(&map(n))).unwrap();
                assert_eq!(newest(&store), Some(map(n)));
            }
            _ => {}
        }
    }
}

#[test]
fn an_unchanged_folder_is_listed_once_and_every_change_is_seen() {
    let watched = Watched::new();
    let (place, store) = (&watched.place, &watched.store);
    for n in 1..300 {
        watched.changed_by(|| drop_in(place, &map(n)));
        for _ in 0..3 {
            assert_eq!(newest(store), Some(map(n)));
        }
        assert_eq!(watched.listings(), 1);
        if n % 3 == 0 {
            watched.changed_by(|| fs::remove_file(place.path(&map(n))).unwrap());
            assert_eq!(newest(store), Some(map(n - 1)));
            let older = store.newest(&job(), Phase::Map, Some(&map(n - 1)), never());
            assert_eq!(older.unwrap().map(|entry| entry.document), Some(map(n - 2)));
            assert_eq!(watched.listings(), 1);
        }
        if n % 3 == 1 {
            watched.changed_by(|| fs::rename(place.path(&map(n)), place.path(&map(1_000))).unwrap());
            assert_eq!(newest(store), Some(map(1_000)));
            watched.changed_by(|| fs::rename(place.path(&map(1_000)), place.path(&map(n))).unwrap());
            assert_eq!(newest(store), Some(map(n)));
            watched.listings();
        }
    }
}

#[test]
fn a_changed_file_is_told_as_it_is_though_its_folder_did_not_change() {
    let watched = Watched::new();
    watched.changed_by(|| drop_in(&watched.place, &map(1)));
    let look = || {
        watched
            .store
            .newest(&job(), Phase::Map, None, never())
            .unwrap()
            .unwrap()
    };
    assert_eq!(look().bytes, 2);
    fs::write(watched.place.path(&map(1)), "{\"n\":1}").unwrap();
    let told = look();
    assert_eq!(told.bytes, 7);
    let listed = watched
        .store
        .list(&DocumentScope::Checkpoints(job(), Phase::Map), never())
        .unwrap();
    assert_eq!(listed, [told]);
}

#[test]
fn a_time_of_modification_that_was_set_back_hides_nothing() {
    let watched = Watched::new();
    watched.changed_by(|| drop_in(&watched.place, &map(1)));
    assert_eq!(newest(&watched.store), Some(map(1)));
    for n in 2..50 {
        let opened = fs::File::open(watched.folder()).unwrap();
        let modified = opened.metadata().unwrap().modified().unwrap();
        watched.changed_by(|| {
            drop_in(&watched.place, &map(n));
            opened.set_modified(modified).unwrap();
        });
        opened.set_modified(modified).unwrap();
        assert_eq!(opened.metadata().unwrap().modified().unwrap(), modified);
        assert_eq!(newest(&watched.store), Some(map(n)));
    }
}

#[test]
fn a_folder_that_was_replaced_as_a_whole_is_another_one() {
    let watched = Watched::new();
    let (place, store) = (&watched.place, &watched.store);
    let (here, away) = (watched.folder(), place.root().join("away"));
    watched.changed_by(|| drop_in(place, &map(100)));
    assert_eq!(newest(store), Some(map(100)));
    for n in 1..30 {
        // Removed and made anew, perhaps under the same inode.
        watched.changed_by(|| {
            fs::remove_dir_all(&here).unwrap();
            fs::create_dir(&here).unwrap();
        });
        assert_eq!(newest(store), None);
        watched.changed_by(|| drop_in(place, &map(n)));
        assert_eq!(newest(store), Some(map(n)));
        // Moved away, and another moved in.
        let other = place.root().join("other-folder");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(place.path(&map(50 + n)).file_name().unwrap()), "{}").unwrap();
        watched.changed_by(|| {
            fs::rename(&here, &away).unwrap();
            fs::rename(&other, &here).unwrap();
        });
        assert_eq!(newest(store), Some(map(50 + n)));
        watched.changed_by(|| {
            fs::remove_dir_all(&here).unwrap();
            fs::rename(&away, &here).unwrap();
        });
        assert_eq!(newest(store), Some(map(n)));
        fs::remove_dir_all(&here).unwrap();
        assert_eq!(newest(store), None);
        fs::create_dir(&here).unwrap();
    }
}

#[test]
fn a_writer_sees_its_own_additions_and_deletions() {
    let watched = Watched::new();
    let store = &watched.store;
    let mut made = Vec::new();
    for n in 0..40 {
        watched.changed_by(|| {
            made.push(
                add(store, Phase::Map, "{}", &PutOptions::default())
                    .unwrap()
                    .document,
            );
        });
        assert_eq!(newest(store).as_ref(), made.last());
        if n % 4 == 3 {
            let last = made.pop().unwrap();
            watched.changed_by(|| {
                assert!(
                    store
                        .delete(&last, Expected::Any, Durability::Relaxed, never())
                        .unwrap()
                );
            });
            assert_eq!(newest(store).as_ref(), made.last());
        }
    }
    // Deeper than what is remembered.
    let mut before = None;
    for wanted in made.iter().rev() {
        let found = store.newest(&job(), Phase::Map, before, never()).unwrap();
        assert_eq!(found.map(|entry| entry.document).as_ref(), Some(wanted));
        before = Some(wanted);
    }
    let found = store.newest(&job(), Phase::Map, before, never()).unwrap();
    assert_eq!(found, None);
}

#[test]
fn a_long_row_of_damaged_ones_is_passed_over_and_put_aside() {
    let place = Place::new();
    let store = place.writer();
    let first = add(&store, Phase::Map, r#"{"fencing":5}"#, &fenced(5)).unwrap();
    for _ in 0..9 {
        let next = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
        fs::write(place.path(&next.document), "damaged").unwrap();
    }
    assert_eq!(kind(add(&store, Phase::Map, "{}", &fenced(4))), ErrorKind::Fenced);
    let expected = PutOptions::default().expect(Expected::Revision(first.revision));
    let next = add(&store, Phase::Map, "{}", &expected).unwrap();
    assert_eq!(place.quarantined().len(), 9);
    assert_eq!(newest(&store), Some(next.document));
}

#[test]
fn what_takes_the_place_of_the_folder_is_told() {
    let place = Place::new();
    let store = place.reader();
    assert_eq!(newest(&store), None);
    let folder = folder(&place);
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    assert_eq!(newest(&store), None);
    symlink("/", &folder).unwrap();
    let refused = store.newest(&job(), Phase::Map, None, never());
    assert_eq!(
        kind(refused),
        kind(store.list(&DocumentScope::Job(job()), never()))
    );
}
