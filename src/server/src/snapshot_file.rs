//! Pieces of a state to a snapshot's file.

use std::path::Path;

use plimsoll_domain::SnapshotPiece;
use plimsoll_journal::{FinishedSnapshot, SnapshotHeader, SnapshotWriter, StorageError};

/// Pieces are gathered up to this before they are written. The largest piece, a page of pools with the most coverage, is smaller than what is left of a
/// chunk then.
const CHUNK_SIZE: usize = 128 * 1024;

/// Writes one snapshot.
pub(crate) struct SnapshotFile {
    writer: SnapshotWriter,
    chunk: Vec<u8>,
    dimension_count: usize,
}

impl SnapshotFile {
    pub(crate) fn create(
        data: &Path,
        header: SnapshotHeader,
        dimension_count: usize,
    ) -> Result<SnapshotFile, StorageError> {
        Ok(SnapshotFile {
            writer: SnapshotWriter::create(data, header)?,
            chunk: Vec::with_capacity(2 * CHUNK_SIZE),
            dimension_count,
        })
    }

    pub(crate) fn put(&mut self, piece: &SnapshotPiece) -> Result<(), StorageError> {
        plimsoll_record::encode_piece(piece, self.dimension_count, &mut self.chunk);
        if self.chunk.len() >= CHUNK_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.writer.put(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Whole and durable; it counts when the manifest names it.
    pub(crate) fn finish(mut self) -> Result<FinishedSnapshot, StorageError> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        self.writer.finish()
    }
}
