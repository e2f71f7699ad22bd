//! Decides who owns the file of a queue: this project or another program.
//!
//! Another program may keep its own file at the path of a queue. The doctor repairs or moves only files of ours. A file
//! is ours in three cases: a journal of ours is beside it, it contains a checksum of ours, or its bytes may be left of
//! our write after a power loss. A power loss leaves an empty file, zeros, a beginning followed by zeros, or a
//! beginning that ends within its first item: a whole item of ours has its checksum.

use std::io;

use super::line;
use super::scan::{Value, value};
use crate::fs::FsFile;

/// The bytes before the checksum of each item of ours.
const CHECKSUM: &[u8] = b",\"crc\":\"";
/// The beginning of a queue of ours: this, followed by the beginning of an item; or `EMPTY`.
const OPENING: &[u8] = b"[\n";
const EMPTY: &[u8] = b"[\n]\n";
/// The number of first bytes that decide about the owner.
const BEGINNING: usize = OPENING.len() + line::HEAD.len();
/// A value that does not end within this number of bytes counts as long.
const LONG: usize = 1 << 20;
/// The number of bytes read at once.
const CHUNK: usize = 64 << 10;

/// True if the bytes contain a checksum of an item of ours.
pub(super) fn has_checksum(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, CHECKSUM).is_some()
}

/// True if the file of a queue is ours. It is read only up to our first checksum.
pub(super) fn is_ours(file: &dyn FsFile) -> io::Result<bool> {
    let mut beginning = [0; BEGINNING];
    let read = file.read_full_at(&mut beginning, 0)?;
    let begins = begins_as_ours(beginning.get(..read).unwrap_or_default());
    let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
    let (mut has_zeros, mut has_whole_line) = (false, false);
    loop {
        let read = file.read_full_at(&mut buffer, offset)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if has_checksum(bytes) {
            return Ok(true);
        }
        // A push into an empty array that was cut short may leave the array's line end behind the push's first byte.
        let first = if offset == 0 { EMPTY.len() } else { 0 };
        has_zeros |= bytes.contains(&0);
        has_whole_line |= bytes.get(first..).is_some_and(|rest| rest.contains(&b'\n'));
        if read < CHUNK {
            return Ok(begins && (has_zeros || !has_whole_line));
        }
        // A checksum may cross the border of two pieces.
        offset += (CHUNK - CHECKSUM.len()) as u64;
    }
}

/// True if a file that is not ours begins with a long value that is no array. Such a value contains no item, so it need
/// not be held in memory to find its end.
pub(super) fn is_no_array(file: &dyn FsFile) -> io::Result<bool> {
    let mut bytes = vec![0; CHUNK];
    let mut read = file.read_full_at(&mut bytes, 0)?;
    let text = bytes.get(..read).unwrap_or_default();
    let text = text
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(text)
        .trim_ascii_start();
    if read < CHUNK || text.first().is_none_or(|first| *first == b'[') {
        return Ok(false);
    }
    bytes.resize(LONG, 0);
    read = file.read_full_at(&mut bytes, 0)?;
    let text = bytes.get(..read).unwrap_or_default();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    Ok(read == LONG && matches!(value(text), Value::Open) && !is_ours(file)?)
}

/// True if each of the first bytes of a file is the byte that a write of ours puts there, or zero. A power loss leaves
/// a zero for a byte that was not stored.
fn begins_as_ours(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| {
        let item = OPENING.iter().chain(line::HEAD).nth(at);
        *byte == 0 || item == Some(byte) || EMPTY.get(at) == Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::fs::{FileSystem, OpenMode, RealFs};

    fn ours(bytes: impl AsRef<[u8]>) -> bool {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("items.json"), bytes).unwrap();
        let fs = RealFs::new(folder.path());
        let file = fs.open("items.json".as_ref(), OpenMode::Read).unwrap();
        is_ours(&*file).unwrap()
    }

    const WHOLE: &str = "[\n{\"item_id\":\"a\",\"item_data\":1,\"crc\":\"01234567\"}\n]\n";

    #[test]
    fn each_beginning_of_a_write_of_ours_is_ours_also_with_zeros_behind_or_before_it() {
        for len in 0..=WHOLE.len() {
            let (stored, lost) = WHOLE.as_bytes().split_at(len);
            assert!(ours(stored), "{len}");
            assert!(ours([stored, &vec![0; lost.len()]].concat()), "{len}");
            assert!(ours([&vec![0; stored.len()], lost].concat()), "{len}");
            // The first push into an empty array, cut short.
            let pushed = &WHOLE.as_bytes()[OPENING.len()..];
            let push = [&pushed[..len.min(pushed.len())], &[0; 9]].concat();
            let mut file = EMPTY.to_vec();
            file.resize(file.len().max(OPENING.len() + push.len()), 0);
            file[OPENING.len()..][..push.len()].copy_from_slice(&push);
            assert!(ours(file), "{len}");
        }
        assert!(ours("[\n{\n"));
    }

    #[test]
    fn a_file_of_another_program_is_not_ours() {
        for text in [
            "[]",
            "[ ]\n",
            "{}",
            "{\"items\":[]}",
            "garbage",
            "[{\"item_id\":\"a\"}]",
            "[\n  {\n    \"item_id\": \"a\"\n  }\n]\n",
            "[\n]\n\n{}",
            "[\n{\"id\":1}\n]\n",
            "[\n{\"item_id\":\"a\"},\nnot json\n]\n",
            "[\n{\"item_id\":\"my app\"}: see the wiki\n",
            "\n",
        ] {
            assert!(!ours(text), "{text}");
            assert!(!ours(format!("{text}{}", " ".repeat(2 * CHUNK))), "{text}");
        }
    }

    #[test]
    fn a_long_value_that_is_no_array_needs_no_memory_for_its_items() {
        let is_no_array = |text: &str| {
            let folder = TempDir::new().unwrap();
            std::fs::write(folder.path().join("items.json"), text).unwrap();
            let file = RealFs::new(folder.path()).open("items.json".as_ref(), OpenMode::Read);
            is_no_array(&*file.unwrap()).unwrap()
        };
        let item = "{\"item_id\":\"a\",\"item_data\":1},\n";
        let items = item.repeat(2 * LONG / item.len());
        assert!(is_no_array(&format!("{{\"items\":[{items}]}}")));
        assert!(is_no_array(&format!(
            "\u{feff} \n{{\"items\":[{}",
            items.replace('\n', "")
        )));
        assert!(is_no_array(&format!("\"{}\"", "x".repeat(2 * LONG))));
        // A short value, an array, items on lines, and a file of ours.
        assert!(!is_no_array(&format!("{{\"items\":[{item}]}}")));
        assert!(!is_no_array(&format!(" [{items}]")));
        assert!(!is_no_array(&items));
        assert!(!is_no_array(&format!("{{\"items\":[{items}{WHOLE}")));
    }

    #[test]
    fn a_checksum_anywhere_makes_a_file_ours() {
        let mark = "\"a\":1,\"crc\":\"01234567\"}]";
        for before in [0, 1, CHUNK - 12, CHUNK - 4, CHUNK, 3 * CHUNK - 20] {
            assert!(ours(format!("{{{}{mark}", " ".repeat(before))), "{before}");
        }
    }
}
