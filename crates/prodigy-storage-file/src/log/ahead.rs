//! Decoding ahead, on a thread of its own.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes decoded at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that are decoded and not read yet, at most, beside the one that is being read and the one being decoded.
const CHUNKS: usize = 2;

/// Reads what another thread decodes meanwhile. The bytes are the same, an error comes where it came, and after one the
/// reading goes on, if it does in what is read.
#[derive(Debug)]
pub(crate) struct Ahead {
    decoded: Option<Receiver<io::Result<Vec<u8>>>>,
    current: Vec<u8>,
    at: usize,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// `Err` gives the bytes back where the system gives no thread.
    pub(crate) fn new(bytes: Box<dyn Read + Send>) -> Result<Self, Box<dyn Read + Send>> {
        let (sender, receiver) = sync_channel(CHUNKS);
        // Handed over only once there is a thread.
        let (hand, take) = sync_channel::<Box<dyn Read + Send>>(1);
        let work = move || {
            if let Ok(bytes) = take.recv() {
                decode(bytes, &sender);
            }
        };
        let Ok(thread) = std::thread::Builder::new().name("decode".to_owned()).spawn(work) else {
            return Err(bytes);
        };
        hand.send(bytes).map_err(|unsent| unsent.0)?;
        Ok(Self {
            decoded: Some(receiver),
            current: Vec::new(),
            at: 0,
            thread: Some(thread),
        })
    }
}

/// Decodes until the end, or until nobody reads any more.
fn decode(mut bytes: Box<dyn Read + Send>, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let mut filled = 0;
        let failed = loop {
            match bytes.read(chunk.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break None,
                Ok(read) => filled += read,
                Err(error) => break Some(error),
            }
        };
        let ended = failed.is_none() && filled < CHUNK;
        chunk.truncate(filled);
        if filled > 0 && to.send(Ok(chunk)).is_err() {
            return;
        }
        if let Some(error) = failed
            && to.send(Err(error)).is_err()
        {
            return;
        }
        if ended {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Some(decoded) = &self.decoded else {
                return Ok(0);
            };
            match decoded.recv() {
                Ok(chunk) => (self.current, self.at) = (chunk?, 0),
                // It sent all that there is.
                Err(_) => return Ok(0),
            }
        }
        let read = self.current.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // First, so that it can't wait for room.
        self.decoded = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// So many bytes in odd pieces, with errors where they are told to be.
    struct Pieces {
        at: usize,
        len: usize,
        errors: Vec<(usize, io::ErrorKind)>,
        dropped: Arc<AtomicBool>,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if let Some((_, kind)) = self.errors.pop_if(|(at, _)| *at <= self.at) {
                return Err(kind.into());
            }
            let next_error = self.errors.last().map_or(usize::MAX, |(at, _)| at - self.at);
            let most = 7919.min(self.len - self.at).min(next_error).min(buffer.len());
            for byte in &mut buffer[..most] {
                *byte = (self.at % 251) as u8;
                self.at += 1;
            }
            Ok(most)
        }
    }

    impl Drop for Pieces {
        fn drop(&mut self) {
            self.dropped.store(true, Ordering::SeqCst);
        }
    }

    fn pieces(len: usize, errors: &[(usize, io::ErrorKind)]) -> (Ahead, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let errors = errors.iter().rev().copied().collect();
        let pieces = Pieces {
            at: 0,
            len,
            errors,
            dropped: Arc::clone(&dropped),
        };
        match Ahead::new(Box::new(pieces)) {
            Ok(ahead) => (ahead, dropped),
            Err(_) => panic!("no thread"),
        }
    }

    fn expected(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn the_bytes_are_the_same() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17] {
            let mut read = Vec::new();
            pieces(len, &[]).0.read_to_end(&mut read).unwrap();
            assert!(read == expected(len), "{len} bytes");
        }
    }

    #[test]
    fn an_error_comes_where_it_came_and_reading_goes_on_behind_it() {
        let (len, first, second) = (3 * CHUNK, CHUNK / 2, CHUNK + 5);
        let errors = [
            (first, io::ErrorKind::InvalidData),
            (second, io::ErrorKind::UnexpectedEof),
        ];
        let (mut ahead, _) = pieces(len, &errors);
        let (mut read, mut told) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; 10_000];
        loop {
            match ahead.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => read.extend_from_slice(&buffer[..n]),
                Err(error) => told.push((read.len(), error.kind())),
            }
        }
        assert_eq!(told, errors);
        assert!(read == expected(len));
    }

    #[test]
    fn one_that_is_dropped_early_lets_go_of_what_it_reads() {
        let (mut ahead, dropped) = pieces(100 * CHUNK, &[]);
        let mut buffer = [0; 10];
        ahead.read_exact(&mut buffer).unwrap();
        drop(ahead);
        assert!(dropped.load(Ordering::SeqCst));
    }
}
