//! Decides whether this project or another program wrote the file of a queue.
//!
//! Another program may have its own file at the path of a queue. The doctor repairs or moves only files of ours. A file
//! is ours in three cases: a journal of ours is beside it, it contains a checksum of ours, or it may be the rest of a
//! write of ours after a power loss. Such a rest is empty, or consists of zeros, or begins like our file and then has
//! only zeros, or ends within its first item, since a whole item of ours has its checksum.
//!
//! Text at the path of a queue whose lock file is there is a fourth case: a process of this store has worked on the queue, and its file
//! was overwritten. Another program that has its own file at this path writes JSON there, and no process of ours creates the lock file beside it.

use std::io;
use std::path::Path;

use super::line;
use super::scan::{Value, value};
use crate::fs::FsFile;
use crate::root::{CHECKSUM, Root, has_checksum, is_text};

/// A file of ours begins with this text and an item, or is [`EMPTY`].
const OPENING: &[u8] = b"[\n";
const EMPTY: &[u8] = b"[\n]\n";
/// The number of first bytes by which the writer of a file is recognised.
const BEGINNING: usize = OPENING.len() + line::HEAD.len();
/// A JSON value that does not end within this number of bytes counts as long.
const LONG: usize = 1 << 20;
/// The number of bytes read at once.
const CHUNK: usize = 64 << 10;

/// True if this project wrote the file of a queue. The file is read only up to the first checksum.
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
        // If a push into an empty array was cut short, the array's own line end may follow the first byte of the push.
        // This line end is not the end of an item's line.
        let first = if offset == 0 { EMPTY.len() } else { 0 };
        has_zeros |= bytes.contains(&0);
        has_whole_line |= bytes.get(first..).is_some_and(|rest| rest.contains(&b'\n'));
        if read < CHUNK {
            return Ok(begins && (has_zeros || !has_whole_line));
        }
        // A checksum may begin in one piece and end in the next one, so the pieces overlap.
        offset += (CHUNK - CHECKSUM.len()) as u64;
    }
}

/// The reason for reporting a file of items that [`is_overwritten`].
pub(crate) const OVERWRITTEN: &str =
    "the file is text and no queue, and its lock file is beside it: it was overwritten";
/// The name of the lock file of a queue.
const LOCK: &str = "items.lock";

/// True if text has taken the place of the items of a queue of ours.
pub(super) fn is_overwritten(root: &Root, items: &Path, file: &dyn FsFile) -> io::Result<bool> {
    let mut bytes = vec![0; CHUNK];
    let read = file.read_full_at(&mut bytes, 0)?;
    let is_text = is_text(bytes.get(..read).unwrap_or_default());
    Ok(is_text && root.fs.metadata(&items.with_file_name(LOCK)).is_ok())
}

/// True if a file of another program begins with a long JSON value that is not an array. Such a value contains no item,
/// so its end is not searched for.
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

/// True if each of these first bytes of a file is the byte that we write there, or zero. After a power loss, a byte
/// that was not stored may be zero.
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
            // A file after the first push into an empty array was cut short.
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
        // For these values the result is false: a short value, an array, items on lines, and a file of ours.
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
