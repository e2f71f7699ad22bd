//! Tests of archives that are damaged, truncated or made up.

use std::io::Cursor as Reader;

use prodigy_storage_backend::ErrorKind;
use prodigy_storage_file::Backup;
use sha2::{Digest, Sha256};

use super::{Place, append, job, push};

fn archive(place: &Place) -> Vec<u8> {
    let backend = place.open("root");
    append(&backend, &job("a"), 0..3);
    push(&backend, &job("a"), "one");
    place.archive("root", None)
}

#[test]
fn each_flipped_byte_and_each_cut_is_found() {
    let place = Place::new();
    let whole = archive(&place);
    Backup::check(&mut whole.as_slice()).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let error = Backup::check(&mut flipped.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "byte {at}: {error}");
        let cut = Backup::check(&mut &whole[..at]).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Damaged, "cut at {at}: {cut}");
    }
    for at in (0..whole.len()).step_by(97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let error = place
            .backup("copy")
            .restore(&mut Reader::new(flipped), None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "byte {at}: {error}");
        assert!(!place.root("copy").exists(), "byte {at}: nothing is written");
    }
}

/// Changes the decompressed contents of an archive, and compresses them again, so that all checksums around them match.
fn changed(whole: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut tar = zstd::decode_all(whole).unwrap();
    change(&mut tar);
    sealed(&tar)
}

/// Compresses the entries of an archive, and appends the checksum of the whole.
fn sealed(tar: &[u8]) -> Vec<u8> {
    let mut archive = zstd::encode_all(tar, 1).unwrap();
    let sum = Sha256::digest(&archive);
    archive.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0]);
    archive.extend_from_slice(&sum);
    archive
}

#[test]
fn a_file_that_differs_from_the_manifest_is_named() {
    let place = Place::new();
    let changed = changed(&archive(&place), |tar| {
        let at = tar
            .windows(9)
            .position(|window| window == b"\"event\":1")
            .unwrap();
        tar[at + 8] = b'7';
    });
    let error = Backup::check(&mut changed.as_slice()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.target().starts_with("events/shop/a/"), "{error}");
}

/// An archive with an additional entry before its files.
fn with_entry(whole: &[u8], path: &str, kind: tar::EntryType) -> Vec<u8> {
    let plain = zstd::decode_all(whole).unwrap();
    let mut from = tar::Archive::new(plain.as_slice());
    let mut into = tar::Builder::new(Vec::new());
    for (at, entry) in from.entries().unwrap().enumerate() {
        if at == 1 {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o777);
            header.set_size(if kind.is_file() { 4 } else { 0 });
            if kind.is_symlink() {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            into.append(&header, if kind.is_file() { &b"evil"[..] } else { b"" })
                .unwrap();
        }
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        into.append(&header, &mut entry).unwrap();
    }
    sealed(&into.into_inner().unwrap())
}

#[test]
fn nothing_is_written_from_an_archive_with_a_foreign_entry() {
    let place = Place::new();
    let whole = archive(&place);
    for (path, kind) in [
        ("../evil", tar::EntryType::Regular),
        ("/tmp/evil", tar::EntryType::Regular),
        ("events/../../evil", tar::EntryType::Regular),
        ("locks/registry.lock", tar::EntryType::Regular),
        ("other/evil", tar::EntryType::Regular),
        ("events/shop", tar::EntryType::Symlink),
        ("events/shop/a/evil", tar::EntryType::Symlink),
        ("events/shop/a/fifo", tar::EntryType::Fifo),
    ] {
        let made_up = with_entry(&whole, path, kind);
        let error = place
            .backup("copy")
            .restore(&mut Reader::new(made_up), None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{path}: {error}");
        assert!(error.why().contains("no backup of a store"), "{path}: {error}");
        assert!(!place.root("copy").exists(), "{path}");
    }
}

#[test]
fn other_files_are_no_archives() {
    for text in [
        &b""[..],
        b"{}",
        b"(\xb5\x2f\xfd",
        &zstd::encode_all(&b"x"[..], 1).unwrap(),
    ] {
        let error = Backup::check(&mut &*text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("backup")),
            "{error}"
        );
    }
}

/// An archive of a later version, with another form of the first entry, and a file of an unknown kind.
fn of_a_later_version() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in [
        (
            "archive.json",
            &b"{\"archive\":3,\"made_by\":{\"version\":9}}"[..],
        ),
        ("chunks/0001.bin", b"\x00\x01"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text).unwrap();
    }
    sealed(&tar.into_inner().unwrap())
}

#[test]
fn an_archive_of_a_later_version_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let later = of_a_later_version();
    let checked = Backup::check(&mut later.as_slice()).unwrap_err();
    let restored = place.restore("copy", &later, None).unwrap_err();
    let one = place.restore("copy", &later, Some(&job("a"))).unwrap_err();
    for error in [checked, restored, one] {
        assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
        assert!(error.why().contains("has version 3"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("newer")), "{error}");
    }
    assert!(!place.root("copy").exists());
    // A damaged byte is reported as damage, and not as a later version.
    let mut flipped = later;
    flipped[20] ^= 1;
    let error = Backup::check(&mut flipped.as_slice()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}
