//! History: sealed segments, and their compressed copies.
//!
//! Invariants:
//! - An archive holds the same bytes as the whole batches of its segment, commit records included, in the same order.
//! - It has its name only when it is whole and durable, and is never changed. A segment goes only after that.
//! - Whoever reads a segment leases its file, so that it stays as it is meanwhile.

mod end;
mod free;
mod history;
mod marks;
mod reader;
mod segment;
mod writer;

pub use end::check_end;
pub use free::free_archived;
pub use history::{HistorySummary, check_history};
pub use marks::SegmentMarks;
pub use reader::{ArchiveReader, verify_archive};
pub(crate) use reader::{open_archive, read_archive};
pub use segment::{JournalFiles, SegmentReader, SegmentSource};
pub use writer::{archive_last_segment, archive_segment, archive_segment_again};

use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};

use crate::bytes::{array_at, i64_at, put, u32_at, u64_at};
use crate::damage::{FileError, FileFault, SourceFile};
use crate::header::SegmentHeader;
use crate::identifier::{JournalId, Lsn, Record, SegmentNumber};
use crate::limits::{ARCHIVE_FRAME_SIZE, RECORD_SIZE_MAX};
use crate::record::as_commit;

/// The directory within a journal's directory that archives are in.
pub(crate) const ARCHIVE_DIRECTORY: &str = "archive";

const ARCHIVE_SUFFIX: &str = ".archive";
const HEADER_MAGIC: [u8; 8] = *b"PLIMARC1";
const TRAILER_MAGIC: [u8; 8] = *b"PLIMAEND";
const VERSION: u32 = 1;
const ARCHIVE_HEADER_SIZE: usize = 128;
const FRAME_HEADER_SIZE: usize = 32;
const TRAILER_SIZE: usize = 64;
/// What the keys mean that this program asks for. An index with another number leads to nothing, and all frames are read.
const KEY_SCHEME: u32 = 0;
/// Offset and first LSN of a frame.
const FRAME_ENTRY_SIZE: usize = 16;
/// A key, where its frames begin in the list of frames, and how many they are.
const KEY_ENTRY_SIZE: usize = 16;
/// The number of a frame.
const REFERENCE_SIZE: usize = 4;
/// A frame is closed before a record that would make it larger than [`ARCHIVE_FRAME_SIZE`]; a single record may be larger.
const FRAME_BYTES_MAX: usize = if ARCHIVE_FRAME_SIZE > RECORD_SIZE_MAX {
    ARCHIVE_FRAME_SIZE
} else {
    RECORD_SIZE_MAX
};

/// What an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// The journal.
    pub journal: JournalId,
    /// The number of the segment.
    pub number: SegmentNumber,
    /// The segment's incarnation.
    pub incarnation: u64,
    /// That of the segment before it, 0 for the first.
    pub previous_incarnation: u64,
    /// The LSN of the first record.
    pub first_lsn: Lsn,
    /// The LSN of the last record, a commit record.
    pub last_lsn: Lsn,
    /// The time of the first record, in microseconds since 1970.
    pub first_time: i64,
    /// The time of the last record.
    pub last_time: i64,
}

impl ArchiveSummary {
    fn encode(&self) -> [u8; ARCHIVE_HEADER_SIZE] {
        let mut bytes = [0; ARCHIVE_HEADER_SIZE];
        put(&mut bytes, 0, &HEADER_MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.journal.0);
        put(&mut bytes, 32, &self.number.0.to_le_bytes());
        put(&mut bytes, 40, &self.incarnation.to_le_bytes());
        put(&mut bytes, 48, &self.first_lsn.0.to_le_bytes());
        put(&mut bytes, 56, &self.last_lsn.0.to_le_bytes());
        put(&mut bytes, 64, &self.first_time.to_le_bytes());
        put(&mut bytes, 72, &self.last_time.to_le_bytes());
        put(&mut bytes, 80, &self.previous_incarnation.to_le_bytes());
        let crc = header_checksum(&bytes);
        put(&mut bytes, 12, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ARCHIVE_HEADER_SIZE]) -> Result<ArchiveSummary, FileFault> {
        if bytes[..8] != HEADER_MAGIC || u32_at(bytes, 12) != header_checksum(bytes) {
            return Err(FileFault::Header);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(FileFault::UnknownVersion(version));
        }
        Ok(ArchiveSummary {
            journal: JournalId(array_at(bytes, 16)),
            number: SegmentNumber(u64_at(bytes, 32)),
            incarnation: u64_at(bytes, 40),
            first_lsn: Lsn(u64_at(bytes, 48)),
            last_lsn: Lsn(u64_at(bytes, 56)),
            first_time: i64_at(bytes, 64),
            last_time: i64_at(bytes, 72),
            previous_incarnation: u64_at(bytes, 80),
        })
    }

    /// Whether this is what the archive of the segment with this header says.
    pub(crate) fn is_of(&self, header: &SegmentHeader) -> bool {
        (self.journal, self.number, self.incarnation, self.first_lsn)
            == (header.journal, header.number, header.incarnation, header.first_lsn)
    }

    /// What the checksum of the frame with this index starts from.
    fn frame_seed(&self, index: u64) -> u32 {
        let seed = crc32c(&self.journal.0);
        let seed = crc32c_append(seed, &self.number.0.to_le_bytes());
        crc32c_append(seed, &index.to_le_bytes())
    }
}

fn header_checksum(bytes: &[u8; ARCHIVE_HEADER_SIZE]) -> u32 {
    crc32c_append(crc32c(&bytes[..12]), &bytes[16..])
}

/// The end of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trailer {
    index_crc: u32,
    frame_count: u64,
    key_count: u64,
    reference_count: u64,
    index_offset: u64,
    file_size: u64,
    /// What the keys mean.
    key_scheme: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut bytes = [0; TRAILER_SIZE];
        put(&mut bytes, 0, &TRAILER_MAGIC);
        put(&mut bytes, 12, &self.index_crc.to_le_bytes());
        put(&mut bytes, 16, &self.frame_count.to_le_bytes());
        put(&mut bytes, 24, &self.key_count.to_le_bytes());
        put(&mut bytes, 32, &self.reference_count.to_le_bytes());
        put(&mut bytes, 40, &self.index_offset.to_le_bytes());
        put(&mut bytes, 48, &self.file_size.to_le_bytes());
        put(&mut bytes, 56, &self.key_scheme.to_le_bytes());
        let crc = trailer_checksum(&bytes);
        put(&mut bytes, 8, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; TRAILER_SIZE]) -> Option<Trailer> {
        if bytes[..8] != TRAILER_MAGIC || u32_at(bytes, 8) != trailer_checksum(bytes) {
            return None;
        }
        Some(Trailer {
            index_crc: u32_at(bytes, 12),
            frame_count: u64_at(bytes, 16),
            key_count: u64_at(bytes, 24),
            reference_count: u64_at(bytes, 32),
            index_offset: u64_at(bytes, 40),
            file_size: u64_at(bytes, 48),
            key_scheme: u32_at(bytes, 56),
        })
    }

    /// The size of the index in bytes; nothing if the counts cannot be right.
    fn index_size(&self) -> Option<u64> {
        let frames = self.frame_count.checked_mul(FRAME_ENTRY_SIZE as u64)?;
        let keys = self.key_count.checked_mul(KEY_ENTRY_SIZE as u64)?;
        let references = self.reference_count.checked_mul(REFERENCE_SIZE as u64)?;
        frames.checked_add(keys)?.checked_add(references)
    }
}

fn trailer_checksum(bytes: &[u8; TRAILER_SIZE]) -> u32 {
    crc32c_append(crc32c(&bytes[..8]), &bytes[12..])
}

/// Where the archive of a segment of the journal with this directory is, or would be.
pub fn archive_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    directory
        .join(ARCHIVE_DIRECTORY)
        .join(format!("{:010}{ARCHIVE_SUFFIX}", number.0))
}

/// What the archive of a segment says that it is of, from its header alone; nothing if there is none. One of another journal is damage.
pub(crate) fn archive_summary(
    journal: &SegmentSource<'_>,
    number: SegmentNumber,
) -> Result<Option<ArchiveSummary>, FileError> {
    let path = archive_path(journal.directory, number);
    let Some(source) = SourceFile::open_if_there(&path)? else {
        return Ok(None);
    };
    let mut header = [0; ARCHIVE_HEADER_SIZE];
    source.read_at(&mut header, 0)?;
    let summary = ArchiveSummary::decode(&header).map_err(|fault| source.damaged(0, fault))?;
    if summary.number != number {
        return Err(source.damaged(0, FileFault::OtherFile));
    }
    if summary.journal != journal.journal {
        return Err(source.damaged(0, FileFault::OtherJournal(summary.journal)));
    }
    Ok(Some(summary))
}

/// Follows the batches of a segment from record to record.
#[derive(Debug)]
pub(crate) struct Batches {
    /// The LSN of the first record of the batch that is open.
    first: Lsn,
}

impl Batches {
    pub(crate) fn new(first: Lsn) -> Batches {
        Batches { first }
    }

    /// The LSN of the first record that no commit record closes yet.
    pub(crate) fn open_from(&self) -> Lsn {
        self.first
    }

    /// Whether the record may follow; a commit record closes its batch.
    pub(crate) fn take(&mut self, record: &Record<'_>) -> bool {
        if record.tag.kind < crate::record::OWN_KIND_MIN {
            return true;
        }
        let is_right = as_commit(record).is_some_and(|commit| {
            commit.first_lsn == self.first && u64::from(commit.record_count) == record.lsn.0 - self.first.0
        });
        self.first = Lsn(record.lsn.0 + 1);
        is_right
    }
}

#[cfg(test)]
mod tests;
