//! Writing a snapshot.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crc32c::crc32c_append;

use crate::bytes::put;
use crate::error::{Action, StorageError};
use crate::limits::SNAPSHOT_CHUNK_SIZE_MAX;
use crate::mmap::sync_directory;
use crate::new_file::NewFile;
use crate::record::padded;
use crate::snapshot::{FRAME_HEADER_SIZE, SNAPSHOTS_DIRECTORY, SnapshotHeader, TRAILER_SIZE};

/// Writes one snapshot, on any thread. What is not finished is removed, at the latest when the data directory is opened the next time.
#[derive(Debug)]
pub struct SnapshotWriter {
    file: NewFile,
    path: PathBuf,
    header: SnapshotHeader,
    chunk_count: u64,
    chunk_bytes: u64,
    frame: Vec<u8>,
}

/// A snapshot that is whole and durable, and that no manifest names yet.
#[derive(Debug)]
#[must_use = "a snapshot counts only when the manifest names it"]
pub struct FinishedSnapshot {
    pub(crate) header: SnapshotHeader,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

impl FinishedSnapshot {
    /// What it is of.
    pub fn header(&self) -> SnapshotHeader {
        self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl SnapshotWriter {
    /// Begins the snapshot in the data directory at `data`.
    ///
    /// # Errors
    /// When the file cannot be made. May be tried again.
    ///
    /// # Panics
    /// When the segment is 0, or the LSN is 0 and the segment not the first.
    pub fn create(data: &Path, header: SnapshotHeader) -> Result<SnapshotWriter, StorageError> {
        assert!(header.segment.0 > 0, "segments are numbered from 1");
        assert!(
            header.lsn.0 > 0 || header.segment.0 == 1,
            "LSN 0 lies before segment {}",
            header.segment
        );
        let directory = data.join(SNAPSHOTS_DIRECTORY);
        match fs::create_dir(&directory) {
            Ok(()) => sync_directory(data)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StorageError::io(Action::Create, &directory)(error)),
        }
        let path = directory.join(header.file_name());
        let mut file = NewFile::create(&path)?;
        file.write(&header.encode())?;
        Ok(SnapshotWriter {
            file,
            path,
            header,
            chunk_count: 0,
            chunk_bytes: 0,
            frame: Vec::new(),
        })
    }

    /// Appends a chunk of 1 to [`SNAPSHOT_CHUNK_SIZE_MAX`] bytes. Waits for the disk now and then.
    ///
    /// # Errors
    /// [`StorageError::ChunkSize`] when the chunk is empty or larger: nothing is written then, and trying again does
    /// not help. Otherwise it cannot be written, and the snapshot is given up.
    pub fn put(&mut self, chunk: &[u8]) -> Result<(), StorageError> {
        if !(1..=SNAPSHOT_CHUNK_SIZE_MAX).contains(&chunk.len()) {
            return Err(StorageError::ChunkSize { bytes: chunk.len() });
        }
        self.write_frame(chunk.len() as u32, chunk)?;
        self.chunk_count += 1;
        self.chunk_bytes += chunk.len() as u64;
        Ok(())
    }

    /// Closes the snapshot and makes it durable under its name.
    ///
    /// # Errors
    /// When it cannot be; then the snapshot is given up.
    pub fn finish(mut self) -> Result<FinishedSnapshot, StorageError> {
        let mut trailer = [0; TRAILER_SIZE - FRAME_HEADER_SIZE];
        let size = self.file.size() + TRAILER_SIZE as u64;
        put(&mut trailer, 0, &self.chunk_count.to_le_bytes());
        put(&mut trailer, 8, &self.chunk_bytes.to_le_bytes());
        put(&mut trailer, 16, &size.to_le_bytes());
        self.write_frame(0, &trailer)?;
        self.file.finish()?;
        Ok(FinishedSnapshot {
            header: self.header,
            path: self.path,
            size,
        })
    }

    fn write_frame(&mut self, size: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_SIZE, 0);
        put(&mut self.frame, 4, &size.to_le_bytes());
        self.frame.extend_from_slice(bytes);
        self.frame.resize(padded(self.frame.len()), 0);
        let crc = crc32c_append(self.header.seed(self.chunk_count), &self.frame[4..]);
        put(&mut self.frame, 0, &crc.to_le_bytes());
        self.file.write(&self.frame)
    }
}
