//! Reads files that are compressed, or whose names only suggest so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Opens a file for reading. The first bytes decide whether it is compressed: Prodigy's rotated event files are plain
/// text in spite of `.gz`.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let head = file.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?))
        }
        _ => Box::new(file),
    })
}

/// Reads a file of at most this number of bytes.
pub(super) fn whole(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(longest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::other(format!("it is larger than {longest} bytes")));
    }
    Ok(bytes)
}
