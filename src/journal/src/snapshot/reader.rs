//! Reading a snapshot.

use std::ops::ControlFlow;
use std::path::Path;

use crc32c::crc32c_append;

use crate::bytes::{u32_at, u64_at};
use crate::damage::{FileError, FileFault, SourceFile};
use crate::limits::{PAGE_SIZE, SNAPSHOT_CHUNK_SIZE_MAX};
use crate::record::padded;
use crate::snapshot::{FRAME_HEADER_SIZE, SnapshotHeader, TRAILER_SIZE};

/// Reads a snapshot chunk by chunk, in the memory of one chunk. An open one stays readable when a newer snapshot takes its place.
#[derive(Debug)]
pub struct SnapshotReader {
    source: SourceFile,
    header: SnapshotHeader,
    chunk_count: u64,
    chunk_bytes: u64,
    /// Where the next frame begins; the end of the file once the trailer was read.
    offset: u64,
    is_at_end: bool,
    frame: Vec<u8>,
}

/// What a whole snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// What it is of.
    pub header: SnapshotHeader,
    /// How many chunks.
    pub chunks: u64,
    /// The bytes of all chunks.
    pub chunk_bytes: u64,
    /// The size of the file in bytes.
    pub size: u64,
}

impl SnapshotReader {
    /// Opens the file and checks its header, and that its name is the header's.
    ///
    /// # Errors
    /// Damage names the offset; other errors may be retried.
    pub fn open(path: &Path) -> Result<SnapshotReader, FileError> {
        let source = SourceFile::open(path)?;
        let mut page = [0; PAGE_SIZE];
        source.read_at(&mut page, 0)?;
        let header = SnapshotHeader::decode(&page).map_err(|fault| source.damaged(0, fault))?;
        if path
            .file_name()
            .is_none_or(|name| name.to_str() != Some(&header.file_name()))
        {
            return Err(source.damaged(0, FileFault::OtherFile));
        }
        Ok(SnapshotReader {
            source,
            header,
            chunk_count: 0,
            chunk_bytes: 0,
            offset: PAGE_SIZE as u64,
            is_at_end: false,
            frame: Vec::new(),
        })
    }

    /// What it is of.
    pub fn header(&self) -> SnapshotHeader {
        self.header
    }

    /// Bytes of the file that were read so far, of [`SnapshotReader::size`].
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// The next chunk; nothing once all were read and the end was found to be in order. Only then is the snapshot known to be whole.
    ///
    /// # Errors
    /// Damage names the offset of the frame; other errors may be retried by opening the file again.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, FileError> {
        if self.is_at_end {
            return Ok(None);
        }
        let offset = self.offset;
        self.frame.resize(FRAME_HEADER_SIZE, 0);
        self.source.read_at(&mut self.frame, offset)?;
        let size = u32_at(&self.frame, 4) as usize;
        if size > SNAPSHOT_CHUNK_SIZE_MAX {
            return Err(self.source.damaged(offset, FileFault::Size));
        }
        let whole = if size == 0 {
            TRAILER_SIZE
        } else {
            padded(FRAME_HEADER_SIZE + size)
        };
        self.frame.resize(whole, 0);
        self.source
            .read_at(&mut self.frame[FRAME_HEADER_SIZE..], offset + FRAME_HEADER_SIZE as u64)
            .map_err(|error| match error {
                FileError::Damaged(damage) => self.source.damaged(offset, damage.fault),
                other => other,
            })?;
        if crc32c_append(self.header.seed(self.chunk_count), &self.frame[4..]) != u32_at(&self.frame, 0) {
            return Err(self.source.damaged(offset, FileFault::Checksum));
        }
        self.offset += whole as u64;
        if size > 0 {
            self.chunk_count += 1;
            self.chunk_bytes += size as u64;
            return Ok(Some(&self.frame[FRAME_HEADER_SIZE..FRAME_HEADER_SIZE + size]));
        }
        let [chunk_count, chunk_bytes, file_size] =
            [0, 8, 16].map(|field| u64_at(&self.frame, FRAME_HEADER_SIZE + field));
        if (chunk_count, chunk_bytes, file_size) != (self.chunk_count, self.chunk_bytes, self.offset) {
            return Err(self.source.damaged(offset, FileFault::Counts));
        }
        if self.source.size() != file_size {
            return Err(self.source.damaged(file_size, FileFault::Excess));
        }
        self.is_at_end = true;
        Ok(None)
    }
}

/// Reads a snapshot to its end without understanding it. `pause` is called after each chunk with the bytes read since; when it breaks, the result is
/// nothing.
///
/// # Errors
/// As for [`SnapshotReader`].
pub fn verify_snapshot(
    path: &Path,
    mut pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<SnapshotSummary>, FileError> {
    let mut reader = SnapshotReader::open(path)?;
    let mut before = 0;
    while reader.next_chunk()?.is_some() {
        if pause(reader.offset - before).is_break() {
            return Ok(None);
        }
        before = reader.offset;
    }
    Ok(Some(SnapshotSummary {
        header: reader.header,
        chunks: reader.chunk_count,
        chunk_bytes: reader.chunk_bytes,
        size: reader.offset,
    }))
}
