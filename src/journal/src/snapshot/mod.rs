//! Snapshots: the state that a journal's records up to an LSN lead to, as chunks of bytes that only the engine understands.
//!
//! Invariants:
//! - A snapshot has its name only when it is whole and durable; it counts only when the manifest names it.
//! - Each chunk's checksum depends on journal, LSN and the chunk's place, so that none is missing, moved or of another snapshot.
//! - The trailer is the last thing written: a file that ends early is never taken for a whole one.

mod reader;
mod writer;

pub use reader::{SnapshotReader, SnapshotSummary, verify_snapshot};
pub use writer::{FinishedSnapshot, SnapshotWriter};

use crc32c::{crc32c, crc32c_append};

use crate::bytes::{array_at, i64_at, put, u32_at, u64_at};
use crate::damage::FileFault;
use crate::identifier::{JournalId, Lsn, SegmentNumber, push_hex};
use crate::limits::PAGE_SIZE;

/// The directory within the data directory that snapshots are in.
pub(crate) const SNAPSHOTS_DIRECTORY: &str = "snapshots";

const MAGIC: [u8; 8] = *b"PLIMSNP1";
const VERSION: u32 = 1;
const NAME_PREFIX: &str = "snapshot-";
const NAME_SUFFIX: &str = ".snapshot";
const LSN_DIGIT_COUNT: usize = 20;
/// Checksum and size, before a chunk's bytes.
const FRAME_HEADER_SIZE: usize = 8;
/// Count of chunks, bytes of chunks, bytes of the file; behind a frame header whose size is 0.
const TRAILER_BODY_SIZE: usize = 24;
const TRAILER_SIZE: usize = FRAME_HEADER_SIZE + TRAILER_BODY_SIZE;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The journal.
    pub journal: JournalId,
    /// The LSN that it covers: the last record, a commit record, whose effect is in it. 0 for the state that a new journal begins with.
    pub lsn: Lsn,
    /// The segment that the LSN lies in, from 1.
    pub segment: SegmentNumber,
    /// The time of the record at the LSN, in microseconds since 1970.
    pub time: i64,
}

impl SnapshotHeader {
    /// The name of the file: `snapshot-`, the first 8 bytes of the journal's id in hexadecimal, `-`, the LSN in 20 digits, `.snapshot`.
    pub(crate) fn file_name(&self) -> String {
        file_name(self.journal, self.lsn)
    }

    fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        put(&mut page, 0, &MAGIC);
        put(&mut page, 8, &VERSION.to_le_bytes());
        put(&mut page, 16, &self.journal.0);
        put(&mut page, 32, &self.lsn.0.to_le_bytes());
        put(&mut page, 40, &self.segment.0.to_le_bytes());
        put(&mut page, 48, &self.time.to_le_bytes());
        let crc = header_checksum(&page);
        put(&mut page, 12, &crc.to_le_bytes());
        page
    }

    fn decode(page: &[u8; PAGE_SIZE]) -> Result<SnapshotHeader, FileFault> {
        if page[..8] != MAGIC || u32_at(page, 12) != header_checksum(page) {
            return Err(FileFault::Header);
        }
        let version = u32_at(page, 8);
        if version != VERSION {
            return Err(FileFault::UnknownVersion(version));
        }
        let header = SnapshotHeader {
            journal: JournalId(array_at(page, 16)),
            lsn: Lsn(u64_at(page, 32)),
            segment: SegmentNumber(u64_at(page, 40)),
            time: i64_at(page, 48),
        };
        // Segments are numbered from 1, and LSN 0 lies before the first.
        if header.segment.0 == 0 || (header.lsn.0 == 0 && header.segment != SegmentNumber::FIRST) {
            return Err(FileFault::Header);
        }
        Ok(header)
    }

    /// What the checksum of the chunk at this index starts from.
    fn seed(&self, index: u64) -> u32 {
        let seed = crc32c(&self.journal.0);
        let seed = crc32c_append(seed, &self.lsn.0.to_le_bytes());
        crc32c_append(seed, &index.to_le_bytes())
    }
}

pub(crate) fn file_name(journal: JournalId, lsn: Lsn) -> String {
    let mut name = String::from(NAME_PREFIX);
    push_hex(&mut name, &journal.0[..8]);
    name.push('-');
    name.push_str(&format!("{:0LSN_DIGIT_COUNT$}", lsn.0));
    name.push_str(NAME_SUFFIX);
    name
}

/// Whether only a snapshot has such a name.
pub(crate) fn is_snapshot_name(name: &str) -> bool {
    let Some((journal, lsn)) = name
        .strip_prefix(NAME_PREFIX)
        .and_then(|rest| rest.strip_suffix(NAME_SUFFIX))
        .and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    journal.len() == 16
        && journal.bytes().all(|byte| byte.is_ascii_hexdigit())
        && lsn.len() == LSN_DIGIT_COUNT
        && lsn.bytes().all(|byte| byte.is_ascii_digit())
}

fn header_checksum(page: &[u8; PAGE_SIZE]) -> u32 {
    crc32c_append(crc32c(&page[..12]), &page[16..])
}

#[cfg(test)]
mod tests;
