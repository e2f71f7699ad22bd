//! The compressed form of superseded checkpoints: `….json.zst`.
//!
//! After adding a checkpoint, a writer compresses the one before it, under the job's state lock. The compressed file is
//! durable before the plain file is removed, so one of the two always exists. If the process dies in between, both exist and
//! have the same contents. Readers try the plain file first.

use std::io;
use std::path::Path;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::{Document, Entry};

use super::Documents;
use crate::fs::{FsFile, Metadata, OpenMode};

impl Documents {
    /// Opens the compressed form of a document whose plain file is absent. `None` if the document has neither form.
    pub(super) fn open_packed(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> Result<Option<Box<dyn FsFile>>> {
        let Some(Entry::Document(document)) = Entry::parse(path) else {
            return Ok(None);
        };
        if !document.may_be_packed() {
            return Ok(None);
        }
        let packed = document.packed_path();
        match self.root.fs.open(&packed, OpenMode::Read) {
            Ok(file) => self.unpack(operation, &packed, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.root.read_fault(operation, &packed, error)),
        }
    }

    /// The metadata of a document's plain file or, if that is absent, of its compressed form.
    pub(super) fn packed_metadata(
        &self,
        document: &Document,
        plain: io::Result<Metadata>,
    ) -> io::Result<Metadata> {
        match plain {
            Err(error) if error.kind() == io::ErrorKind::NotFound && document.may_be_packed() => {
                self.root.fs.metadata(&document.packed_path())
            }
            other => other,
        }
    }

    /// Removes the compressed form of a document. Returns false if it is absent.
    pub(super) fn unlink_packed(&self, operation: &'static str, document: &Document) -> Result<bool> {
        if !document.may_be_packed() {
            return Ok(false);
        }
        self.root.unlink(operation, &document.packed_path())
    }
}

#[cfg(feature = "compression")]
mod with {
    use std::io::Read;

    use prodigy_storage_backend::Durability;

    use super::*;
    use crate::document::read::DocumentRead;
    use crate::fs::FileRead;
    use crate::root::{Replace, TempFile};

    const PACK: &str = "compress checkpoint";
    const LEVEL: i32 = 3;

    impl Documents {
        /// Decompresses a document into memory, up to the size limit. A file that does not decompress is returned unchanged,
        /// so that its reader reports the damage.
        pub(in crate::document) fn unpack(
            &self,
            operation: &'static str,
            path: &Path,
            file: Box<dyn FsFile>,
        ) -> Result<Box<dyn FsFile>> {
            let limit = self.most_read();
            let mut bytes = Vec::new();
            let decoded =
                zstd::stream::read::Decoder::new(FileRead::new(&*file, 0)).and_then(|mut decoder| {
                    // Level 3 needs a window of 2 MiB. The limit of 8 MiB bounds the memory that a hostile file can
                    // make this process use.
                    decoder.window_log_max(23)?;
                    decoder.take(limit.saturating_add(1)).read_to_end(&mut bytes)
                });
            match decoded {
                Ok(read) if read as u64 > limit => {
                    Err(self.too_large(operation, self.root.absolute(path).display()))
                }
                Ok(_) => Ok(Box::new(Unpacked { bytes, file })),
                Err(_) => Ok(file),
            }
        }

        /// Compresses a superseded checkpoint. After a failure the plain file stays. The caller holds the job's state
        /// lock.
        pub(in crate::document) fn pack(&self, document: &Document) {
            if !self.root.options.compression || !document.may_be_packed() {
                return;
            }
            if let Err(error) = self.try_pack(document) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %document, "a superseded checkpoint could not be compressed");
            }
        }

        fn try_pack(&self, document: &Document) -> Result<()> {
            let (path, packed) = (document.path(), document.packed_path());
            let fault = |error| self.root.write_fault(PACK, &path, error);
            let file = match self.root.fs.open(&path, OpenMode::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(fault(error)),
            };
            let DocumentRead::Valid(found) = self.read_document(PACK, &path, &*file)? else {
                return Ok(());
            };
            if !found.is_verified() {
                return Ok(());
            }
            let plain = file.read_to_end(0, self.most_read()).map_err(fault)?;
            let bytes = encode(&plain).map_err(fault)?;
            if zstd::decode_all(&*bytes).map_err(fault)? != plain {
                return Err(fault(io::Error::other(
                    "the compressed form does not decode to the same bytes",
                )));
            }
            TempFile::write_whole(
                &self.root,
                PACK,
                &packed,
                &[&bytes],
                Replace::Over,
                Durability::Strict,
            )?;
            self.root.fs.unlink(&path).map_err(fault)?;
            tracing::debug!(%document, from = plain.len(), to = bytes.len(), "checkpoint compressed");
            Ok(())
        }
    }

    fn encode(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        io::Write::write_all(&mut encoder, bytes)?;
        encoder.finish()
    }

    /// The decompressed contents of a file, for reading only.
    #[derive(Debug)]
    struct Unpacked {
        bytes: Vec<u8>,
        file: Box<dyn FsFile>,
    }

    fn read_only<T>() -> io::Result<T> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    impl FsFile for Unpacked {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let mut rest = self.bytes.get(start..).unwrap_or_default();
            rest.read(buffer)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            read_only()
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            read_only()
        }

        fn sync(&self) -> io::Result<()> {
            read_only()
        }

        fn sync_all(&self) -> io::Result<()> {
            read_only()
        }

        fn try_lock(&self) -> io::Result<bool> {
            read_only()
        }

        fn unlock(&self) -> io::Result<()> {
            read_only()
        }

        fn set_mode(&self, mode: u32) -> io::Result<()> {
            self.file.set_mode(mode)
        }

        fn metadata(&self) -> io::Result<Metadata> {
            let mut metadata = self.file.metadata()?;
            metadata.len = self.bytes.len() as u64;
            Ok(metadata)
        }

        #[cfg(unix)]
        fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            self.file.descriptor()
        }
    }
}

#[cfg(not(feature = "compression"))]
impl Documents {
    pub(super) fn unpack(
        &self,
        operation: &'static str,
        path: &Path,
        _: Box<dyn FsFile>,
    ) -> Result<Box<dyn FsFile>> {
        let kind = prodigy_storage_backend::ErrorKind::Unsupported;
        let why = "it is compressed, and this build can't read that";
        Err(prodigy_storage_backend::StorageError::new(
            kind,
            operation,
            self.root.absolute(path).display(),
            why,
        )
        .with_hint("build with the feature `compression`"))
    }

    pub(super) fn pack(&self, _: &Document) {}
}
