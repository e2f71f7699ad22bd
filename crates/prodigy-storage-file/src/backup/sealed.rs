//! The checksum of a whole archive: a skippable frame at its end, which `zstd` ignores, holds the SHA-256 of all
//! earlier bytes. So a flipped bit is detected even in bytes that a decoder ignores.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// The header of a skippable frame of 32 bytes (RFC 8878, 3.1.2).
const FRAME: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0];
/// The length of the whole frame.
const LEN: usize = FRAME.len() + 32;
const CHUNK: usize = 64 << 10;

/// A writer that appends the checksum of all written bytes at the end.
pub(super) struct Sealing<'w> {
    out: &'w mut dyn Write,
    sum: Sha256,
}

impl<'w> Sealing<'w> {
    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Self {
            out,
            sum: Sha256::new(),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.out.write_all(&FRAME)?;
        self.out.write_all(&self.sum.finalize())?;
        self.out.flush()
    }
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A reader that returns all bytes of an archive except the checksum at the end.
pub(super) struct Sealed<'r> {
    input: &'r mut dyn Read,
    sum: Sha256,
    /// The last bytes that were read but not returned, since they may be the checksum.
    held: Vec<u8>,
    at: usize,
}

impl<'r> Sealed<'r> {
    pub(super) fn new(input: &'r mut dyn Read) -> Self {
        Self {
            input,
            sum: Sha256::new(),
            held: Vec::with_capacity(CHUNK + LEN),
            at: 0,
        }
    }

    /// True if the checksum at the end matches. Must be called after all bytes were read.
    pub(super) fn holds(self) -> bool {
        let expected = FRAME.iter().copied().chain(self.sum.finalize());
        self.held.iter().skip(self.at).copied().eq(expected)
    }
}

impl Read for Sealed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.len() - self.at <= LEN {
            self.held.drain(..self.at);
            self.at = 0;
            let read = Read::take(&mut *self.input, CHUNK as u64).read_to_end(&mut self.held)?;
            if read == 0 {
                return Ok(0);
            }
        }
        let ready = self.held.len() - self.at - LEN;
        let given = ready.min(buffer.len());
        let bytes = self.held.get(self.at..self.at + given).unwrap_or_default();
        if let Some(into) = buffer.get_mut(..given) {
            into.copy_from_slice(bytes);
        }
        self.sum.update(bytes);
        self.at += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_back_and_each_flipped_bit_is_found() {
        for len in [0, 1, LEN, LEN + 1, CHUNK - LEN, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut written = Vec::new();
            let mut sealing = Sealing::new(&mut written);
            sealing.write_all(&bytes).unwrap();
            sealing.finish().unwrap();
            let holds = |written: &[u8]| {
                let mut input = written;
                let mut sealed = Sealed::new(&mut input);
                let mut read = Vec::new();
                sealed.read_to_end(&mut read).unwrap();
                (read == bytes, sealed.holds())
            };
            assert_eq!(holds(&written), (true, true), "{len}");
            for at in [0, len / 2, len, len + 8, len + LEN - 1] {
                let mut flipped = written.clone();
                flipped[at] ^= 1;
                assert!(!holds(&flipped).1, "{len}: byte {at}");
            }
            assert!(!holds(&written[..written.len() - 1]).1);
        }
    }
}
