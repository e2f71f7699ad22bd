//! Writers without file locks.

use super::support::{Place, id, line, mode, name, payloads, set_mode};

#[test]
fn a_writer_without_locks_makes_a_segment_of_its_own_and_mends_nothing() {
    let place = Place::new();
    let mut torn = line(id(0), "a");
    torn.extend_from_slice(b"{\"id\":\"");
    let path = place.plant(&name(0, 0), &torn);
    let sealed = place.plant(&name(1, 1), line(id(1), "b"));
    set_mode(&sealed, 0o400);
    place.plant(".tmp-left", b"x");
    let (store, reel) = place.taped(
        place
            .options()
            .file_locks(false)
            .compression(true)
            .max_file_size(200),
    );
    for payload in ["c", "d", "e"] {
        place.append(&store, &[payload]).unwrap();
    }
    place.seal(&store);
    store.flush(super::support::NEVER).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), torn, "not repaired");
    assert!(sealed.exists() && place.log().join(".tmp-left").exists());
    let own: Vec<_> = place
        .files()
        .into_iter()
        .filter(|file| *file > name(1, 1) && file.ends_with(".jsonl"))
        .collect();
    assert!(own.len() >= 2, "{own:?}");
    for file in &own {
        assert_eq!(mode(&place.log().join(file)), 0o700, "{file} is not sealed");
    }
    assert!(place.files().iter().all(|file| !file.ends_with(".zst")));
    let locks: Vec<_> = reel
        .take()
        .into_iter()
        .filter(|call| call.starts_with("lock"))
        .collect();
    assert_eq!(locks, [] as [String; 0]);
    assert_eq!(payloads(&place.items(&store)), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_writer_with_locks_never_goes_on_in_one_without() {
    let place = Place::new();
    let unlocked = place.with(place.options().file_locks(false));
    place.append(&unlocked, &["a"]).unwrap();
    let path = place.only();
    let before = std::fs::read(&path).unwrap();
    let locked = place.store();
    place.clock.turn(1);
    place.append(&locked, &["b"]).unwrap();
    place.clock.turn(1);
    place.append(&unlocked, &["c"]).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(&before));
    assert_eq!(place.files().len(), 2);
    assert_eq!(payloads(&place.items(&locked)), ["a", "b", "c"]);
}

#[test]
fn a_segment_without_locks_has_its_mark_before_it_has_its_name() {
    let place = Place::new();
    let (unlocked, reel) = place.taped(place.options().file_locks(false));
    let (root, log) = (place.root(), place.log());
    // At each call it makes, another one with locks may look.
    reel.on(move |_, _| {
        let Ok(folder) = std::fs::read_dir(&log) else {
            return Ok(());
        };
        for entry in folder.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".jsonl") {
                assert_eq!(mode(&entry.path()), 0o700, "under {}", root.display());
            }
        }
        Ok(())
    });
    place.append(&unlocked, &["a"]).unwrap();
    reel.off();
    assert_eq!(place.files().len(), 1);
}

#[test]
fn two_writers_without_locks_write_two_segments() {
    let place = Place::new();
    let options = || place.options().file_locks(false);
    let (one, two) = (place.with(options()), place.with(options()));
    for _ in 0..3 {
        place.append(&one, &["x"]).unwrap();
        place.append(&two, &["x"]).unwrap();
    }
    assert_eq!(place.files().len(), 2);
    assert_eq!(place.items(&one).len(), 6);
}
