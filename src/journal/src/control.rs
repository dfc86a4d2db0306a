//! The control page: what a journal's owner has made durable, for recovery and for followers.

use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use crate::bytes::{array_at, put, u32_at, u64_at};
use crate::damage::{FileError, FileFault, SourceFile};
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::limits::PAGE_SIZE;

/// The part of the control page that never changes, in bytes.
pub const CONTROL_HEADER_SIZE: usize = 64;

const MAGIC: [u8; 8] = *b"PLIMCTL1";
const VERSION: u32 = 1;

/// A field of the control page that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlField {
    /// The LSN up to which the journal is durable: always that of a commit record.
    DurableLsn,
    /// The number of the oldest segment that is needed.
    OldestSegment,
    /// The number of the newest segment whose first sync has finished.
    NewestDurableSegment,
}

impl ControlField {
    /// Where the field lies in the page, in bytes; a multiple of 8.
    pub const fn offset(self) -> usize {
        match self {
            ControlField::DurableLsn => 64,
            ControlField::OldestSegment => 128,
            ControlField::NewestDurableSegment => 136,
        }
    }
}

/// The control page of a journal that has no segment yet.
pub fn new_control_page(journal: JournalId, segment_size: usize) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    put(&mut page, 0, &MAGIC);
    put(&mut page, 8, &VERSION.to_le_bytes());
    put(&mut page, 16, &journal.0);
    put(&mut page, 32, &(segment_size as u64).to_le_bytes());
    let crc = checksum(&array_at(&page, 0));
    put(&mut page, 12, &crc.to_le_bytes());
    put(&mut page, ControlField::OldestSegment.offset(), &1u64.to_le_bytes());
    page
}

/// What the control page of a journal says, read from the file by somebody who does not own the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlValues {
    /// The LSN up to which the journal is durable.
    pub(crate) durable_lsn: Lsn,
    /// The oldest segment that is needed.
    pub(crate) oldest_segment: SegmentNumber,
    /// The newest segment whose first sync has finished, 0 before there is one.
    pub(crate) newest_durable_segment: SegmentNumber,
}

impl ControlValues {
    /// Reads the file, also while the journal runs.
    ///
    /// # Errors
    /// When it cannot be read, or is not this journal's.
    pub(crate) fn read(path: &Path, journal: JournalId, segment_size: usize) -> Result<ControlValues, FileError> {
        let source = SourceFile::open(path)?;
        let mut page = [0; PAGE_SIZE];
        let mut values = None;
        // A read is not promised to see a whole field; two that agree have.
        loop {
            source.read_at(&mut page, 0)?;
            let field = |field: ControlField| u64_at(&page, field.offset());
            let found = ControlValues {
                durable_lsn: Lsn(field(ControlField::DurableLsn)),
                oldest_segment: SegmentNumber(field(ControlField::OldestSegment)),
                newest_durable_segment: SegmentNumber(field(ControlField::NewestDurableSegment)),
            };
            if values.replace(found) == Some(found) {
                break;
            }
        }
        match check_header(&array_at(&page, 0), journal, segment_size) {
            Ok(()) => Ok(values.expect("it was read")),
            Err(ControlFault::NotValid) => Err(source.damaged(0, FileFault::Header)),
            Err(ControlFault::UnknownVersion(version)) => Err(source.damaged(0, FileFault::UnknownVersion(version))),
            Err(ControlFault::OtherJournal) => {
                Err(source.damaged(0, FileFault::OtherJournal(JournalId(array_at(&page, 16)))))
            }
        }
    }
}

/// Why a control page is not the one that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlFault {
    /// No control page, or a wrong checksum or segment size.
    NotValid,
    /// An intact page of a version that this program does not know.
    UnknownVersion(u32),
    /// An intact page of another journal.
    OtherJournal,
}

pub(crate) fn check_header(
    bytes: &[u8; CONTROL_HEADER_SIZE],
    journal: JournalId,
    segment_size: usize,
) -> Result<(), ControlFault> {
    if bytes[..8] != MAGIC || u32_at(bytes, 12) != checksum(bytes) {
        return Err(ControlFault::NotValid);
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(ControlFault::UnknownVersion(version));
    }
    if array_at(bytes, 16) != journal.0 {
        return Err(ControlFault::OtherJournal);
    }
    if u64_at(bytes, 32) != segment_size as u64 {
        return Err(ControlFault::NotValid);
    }
    Ok(())
}

fn checksum(bytes: &[u8; CONTROL_HEADER_SIZE]) -> u32 {
    crc32c_append(crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut page = new_control_page(JournalId([3; 16]), 65536);
        page[8] = 2;
        let crc = checksum(&array_at(&page, 0));
        put(&mut page, 12, &crc.to_le_bytes());
        assert_eq!(
            check_header(&array_at(&page, 0), JournalId([3; 16]), 65536),
            Err(ControlFault::UnknownVersion(2))
        );
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_seen() {
        let page = new_control_page(JournalId([3; 16]), 65536);
        let header: [u8; CONTROL_HEADER_SIZE] = array_at(&page, 0);
        assert_eq!(check_header(&header, JournalId([3; 16]), 65536), Ok(()));
        assert_eq!(
            check_header(&header, JournalId([4; 16]), 65536),
            Err(ControlFault::OtherJournal)
        );
        assert_eq!(
            check_header(&header, JournalId([3; 16]), 131_072),
            Err(ControlFault::NotValid)
        );
        for bit in 0..CONTROL_HEADER_SIZE * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                check_header(&flipped, JournalId([3; 16]), 65536),
                Err(ControlFault::NotValid),
                "bit {bit}"
            );
        }
    }
}
