//! The first page of a segment.

use crc32c::{crc32c, crc32c_append};

use crate::bytes::{array_at, i64_at, put, u32_at, u64_at};
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::limits::PAGE_SIZE;

/// Records begin behind the header's page.
pub(crate) const HEADER_PAGE_SIZE: usize = PAGE_SIZE;
/// The bytes of a segment's header that mean something.
pub const HEADER_SIZE: usize = 128;

const MAGIC: [u8; 8] = *b"PLIMSEG1";
const VERSION: u32 = 1;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: JournalId,
    pub(crate) number: SegmentNumber,
    pub(crate) incarnation: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) file_size: u64,
    pub(crate) opened_at: i64,
    pub(crate) durable_lsn: Lsn,
    pub(crate) previous_incarnation: u64,
}

/// Why 128 bytes are not the header that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// No header, a damaged one, or one of another number or size: leftovers of another use count as this.
    NotValid,
    /// An intact header of a version that this program does not know.
    UnknownVersion(u32),
    /// An intact header of another journal.
    OtherJournal(JournalId),
}

/// What a header is expected to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderExpectation {
    pub(crate) journal: JournalId,
    pub(crate) number: SegmentNumber,
    pub(crate) file_size: usize,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.journal.0);
        put(&mut bytes, 32, &self.number.0.to_le_bytes());
        put(&mut bytes, 40, &self.incarnation.to_le_bytes());
        put(&mut bytes, 48, &self.first_lsn.0.to_le_bytes());
        put(&mut bytes, 56, &self.file_size.to_le_bytes());
        put(&mut bytes, 64, &self.opened_at.to_le_bytes());
        put(&mut bytes, 72, &self.durable_lsn.0.to_le_bytes());
        put(&mut bytes, 80, &self.previous_incarnation.to_le_bytes());
        let crc = checksum(&bytes);
        put(&mut bytes, 12, &crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_SIZE], expected: HeaderExpectation) -> Result<SegmentHeader, HeaderFault> {
        if bytes[..8] != MAGIC || u32_at(bytes, 12) != checksum(bytes) {
            return Err(HeaderFault::NotValid);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderFault::UnknownVersion(version));
        }
        let header = SegmentHeader {
            journal: JournalId(array_at(bytes, 16)),
            number: SegmentNumber(u64_at(bytes, 32)),
            incarnation: u64_at(bytes, 40),
            first_lsn: Lsn(u64_at(bytes, 48)),
            file_size: u64_at(bytes, 56),
            opened_at: i64_at(bytes, 64),
            durable_lsn: Lsn(u64_at(bytes, 72)),
            previous_incarnation: u64_at(bytes, 80),
        };
        if header.journal != expected.journal {
            return Err(HeaderFault::OtherJournal(header.journal));
        }
        // LSNs begin with 1.
        let is_of_file = header.number == expected.number && header.file_size == expected.file_size as u64;
        if !is_of_file || header.first_lsn.0 == 0 {
            return Err(HeaderFault::NotValid);
        }
        Ok(header)
    }
}

fn checksum(bytes: &[u8; HEADER_SIZE]) -> u32 {
    crc32c_append(crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        journal: JournalId([7; 16]),
        number: SegmentNumber(3),
        incarnation: 0x0102_0304_0506_0708,
        first_lsn: Lsn(99),
        file_size: 65536,
        opened_at: -5,
        durable_lsn: Lsn(98),
        previous_incarnation: 11,
    };
    const EXPECTED: HeaderExpectation = HeaderExpectation {
        journal: JournalId([7; 16]),
        number: SegmentNumber(3),
        file_size: 65536,
    };

    #[test]
    fn decodes_what_was_encoded() {
        assert_eq!(SegmentHeader::decode(&HEADER.encode(), EXPECTED), Ok(HEADER));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 0..HEADER_SIZE * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                SegmentHeader::decode(&bytes, EXPECTED),
                Err(HeaderFault::NotValid),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn tells_strangers_from_leftovers() {
        let check = |expected: HeaderExpectation, fault| {
            assert_eq!(SegmentHeader::decode(&HEADER.encode(), expected), Err(fault));
        };
        check(
            HeaderExpectation {
                number: SegmentNumber(4),
                ..EXPECTED
            },
            HeaderFault::NotValid,
        );
        check(
            HeaderExpectation {
                file_size: 4096 * 17,
                ..EXPECTED
            },
            HeaderFault::NotValid,
        );
        check(
            HeaderExpectation {
                journal: JournalId([8; 16]),
                ..EXPECTED
            },
            HeaderFault::OtherJournal(JournalId([7; 16])),
        );
        let mut bytes = HEADER.encode();
        put(&mut bytes, 8, &2u32.to_le_bytes());
        let crc = checksum(&bytes);
        put(&mut bytes, 12, &crc.to_le_bytes());
        assert_eq!(
            SegmentHeader::decode(&bytes, EXPECTED),
            Err(HeaderFault::UnknownVersion(2))
        );
    }
}
