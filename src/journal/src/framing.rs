//! Checksums of records, exchangeable so that a simulator can plant a bug in them.

use crc32c::crc32c_append;

use crate::identifier::{JournalId, SegmentNumber};

/// How a record is told from leftovers of other uses of a file. Production code uses [`CrcFraming`] and nothing else; the trait is there so
/// that a simulator can show that its checkers see what a weaker framing would do.
pub trait Framing {
    /// The value that the checksums of a segment's records start from.
    fn seed(journal: JournalId, incarnation: u64, number: SegmentNumber) -> u32;

    /// The checksum of a record: `bytes` begin with the record's size (offset 4) and end with its padding.
    fn checksum(seed: u32, bytes: &[u8]) -> u32;
}

/// CRC-32C, seeded with journal, incarnation and segment number.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrcFraming;

impl Framing for CrcFraming {
    fn seed(journal: JournalId, incarnation: u64, number: SegmentNumber) -> u32 {
        let seed = crc32c_append(0, &journal.0);
        let seed = crc32c_append(seed, &incarnation.to_le_bytes());
        crc32c_append(seed, &number.0.to_le_bytes())
    }

    #[inline]
    fn checksum(seed: u32, bytes: &[u8]) -> u32 {
        crc32c_append(seed, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(CrcFraming::checksum(0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn seed_depends_on_each_of_its_parts() {
        let seed = CrcFraming::seed(JournalId([1; 16]), 2, SegmentNumber(3));
        let mut bytes = vec![1; 16];
        bytes.extend_from_slice(&2u64.to_le_bytes());
        bytes.extend_from_slice(&3u64.to_le_bytes());
        assert_eq!(seed, crc32c::crc32c(&bytes));
        assert_ne!(seed, CrcFraming::seed(JournalId([2; 16]), 2, SegmentNumber(3)));
        assert_ne!(seed, CrcFraming::seed(JournalId([1; 16]), 3, SegmentNumber(3)));
        assert_ne!(seed, CrcFraming::seed(JournalId([1; 16]), 2, SegmentNumber(2)));
    }
}
