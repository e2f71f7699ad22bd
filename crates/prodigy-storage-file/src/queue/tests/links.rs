//! Tests of files with a second hard link, which may be outside of the root.

use super::support::Place;

#[test]
fn a_push_and_a_mending_do_not_write_through_a_second_name() {
    for torn in [false, true] {
        let place = Place::new();
        place.put(&place.store(), &["a"]).unwrap();
        // This handle already has the file open.
        let known = place.store();
        place.put(&known, &["b"]).unwrap();
        let mut text = place.bytes();
        if torn {
            text.truncate(text.len() - 3);
            text.extend_from_slice(b",\n{\"item_id\":\"torn");
            std::fs::write(place.path(), &text).unwrap();
        }
        let outside = tempfile::tempdir().unwrap();
        let other = outside.path().join("other");
        std::fs::hard_link(place.path(), &other).unwrap();
        place.put(&known, &["c"]).unwrap();
        place.put(&place.store(), &["d"]).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), text, "torn: {torn}");
        assert_eq!(place.ids(&known), ["a", "b", "c", "d"]);
    }
}
