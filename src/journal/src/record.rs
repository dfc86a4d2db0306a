//! Records and commit records as bytes.

use std::ops::Range;

use crate::bytes::{array_at, i64_at, put, u16_at, u32_at, u64_at};
use crate::framing::Framing;
use crate::identifier::{Lsn, Record, Tag};
use crate::limits::{PAGE_SIZE, RECORD_SIZE_MAX};

/// The header of a record, in bytes.
pub const RECORD_HEADER_SIZE: usize = 32;
/// A commit record with its header, in bytes.
pub const COMMIT_SIZE: usize = 56;
/// Kinds from here on are the journal's own.
pub const OWN_KIND_MIN: u16 = 0xFF00;
/// The kind of a commit record.
pub const COMMIT_KIND: u16 = 0xFFFF;

const COMMIT_BODY_SIZE: usize = COMMIT_SIZE - RECORD_HEADER_SIZE;
const COMMIT_TAG: Tag = Tag {
    kind: COMMIT_KIND,
    partition: 0,
    detail: 0,
};

const _: () = assert!(COMMIT_SIZE.is_multiple_of(8) && RECORD_SIZE_MAX.is_multiple_of(8));

/// The size with padding.
#[inline]
pub(crate) const fn padded(size: usize) -> usize {
    size.next_multiple_of(8)
}

/// Writes a record over the whole of `into`, which has the record's padded size.
#[inline]
pub(crate) fn write<F: Framing>(into: &mut [u8], seed: u32, record: &Record<'_>) {
    let size = RECORD_HEADER_SIZE + record.body.len();
    debug_assert_eq!(into.len(), padded(size));
    let (head, tail) = into
        .split_first_chunk_mut::<RECORD_HEADER_SIZE>()
        .expect("a record has room for its header");
    let mut header = [0; RECORD_HEADER_SIZE];
    put(&mut header, 4, &(size as u32).to_le_bytes());
    put(&mut header, 8, &record.lsn.0.to_le_bytes());
    put(&mut header, 16, &record.time.to_le_bytes());
    put(&mut header, 24, &record.tag.kind.to_le_bytes());
    put(&mut header, 26, &record.tag.partition.to_le_bytes());
    put(&mut header, 28, &record.tag.detail.to_le_bytes());
    *head = header;
    let (body, padding) = tail.split_at_mut(record.body.len());
    body.copy_from_slice(record.body);
    padding.fill(0);
    let crc = F::checksum(seed, &into[4..]);
    put(into, 0, &crc.to_le_bytes());
}

/// What a commit record says beyond its own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) first_lsn: Lsn,
    pub(crate) record_count: u32,
    pub(crate) durable_lsn: Lsn,
}

/// Writes a commit record over the whole of `into`, [`COMMIT_SIZE`] bytes.
pub(crate) fn write_commit<F: Framing>(into: &mut [u8], seed: u32, time: i64, commit: Commit) {
    let mut body = [0; COMMIT_BODY_SIZE];
    put(&mut body, 0, &commit.first_lsn.0.to_le_bytes());
    put(&mut body, 8, &commit.record_count.to_le_bytes());
    put(&mut body, 16, &commit.durable_lsn.0.to_le_bytes());
    let lsn = Lsn(commit.first_lsn.0 + u64::from(commit.record_count));
    write::<F>(
        into,
        seed,
        &Record {
            lsn,
            time,
            tag: COMMIT_TAG,
            body: &body,
        },
    );
}

/// The valid record at the offset and the offset behind it, if it is the one with this LSN.
#[inline]
pub(crate) fn read<F: Framing>(segment: &[u8], seed: u32, offset: usize, lsn: Lsn) -> Option<(Record<'_>, usize)> {
    let bytes = segment.get(offset..)?;
    if bytes.len() < RECORD_HEADER_SIZE || u64_at(bytes, 8) != lsn.0 {
        return None;
    }
    let record = read_any::<F>(bytes, seed)?;
    Some((record, offset + padded(RECORD_HEADER_SIZE + record.body.len())))
}

/// The record at the beginning of `bytes`, if its size is in range and its checksum is right.
#[inline]
fn read_any<F: Framing>(bytes: &[u8], seed: u32) -> Option<Record<'_>> {
    let size = u32_at(bytes, 4) as usize;
    if !(RECORD_HEADER_SIZE..=RECORD_SIZE_MAX).contains(&size) {
        return None;
    }
    let whole = bytes.get(..padded(size))?;
    (F::checksum(seed, &whole[4..]) == u32_at(whole, 0)).then(|| parse(whole, size))
}

/// The record at the offset, whose size and checksum were found right before, and the offset behind it.
#[inline]
pub(crate) fn read_checked(segment: &[u8], offset: usize) -> (Record<'_>, usize) {
    let bytes = &segment[offset..];
    let size = u32_at(bytes, 4) as usize;
    (parse(bytes, size), offset + padded(size))
}

/// Records that follow each other, each of which was found whole.
#[derive(Clone, Debug)]
pub struct Records<'journal> {
    segment: &'journal [u8],
    left: Range<usize>,
}

impl<'journal> Records<'journal> {
    /// Those in this range of the segment, whose sizes and checksums were found right before.
    pub(crate) fn new(segment: &'journal [u8], range: Range<usize>) -> Records<'journal> {
        Records { segment, left: range }
    }
}

impl<'journal> Iterator for Records<'journal> {
    type Item = Record<'journal>;

    #[inline]
    fn next(&mut self) -> Option<Record<'journal>> {
        if self.left.is_empty() {
            return None;
        }
        let (record, after) = read_checked(self.segment, self.left.start);
        self.left.start = after;
        Some(record)
    }
}

#[inline]
fn parse(bytes: &[u8], size: usize) -> Record<'_> {
    let header: [u8; RECORD_HEADER_SIZE] = array_at(bytes, 0);
    Record {
        lsn: Lsn(u64_at(&header, 8)),
        time: i64_at(&header, 16),
        tag: Tag {
            kind: u16_at(&header, 24),
            partition: u16_at(&header, 26),
            detail: u32_at(&header, 28),
        },
        body: &bytes[RECORD_HEADER_SIZE..size],
    }
}

/// What the record says, if it has the form of a commit record.
#[inline]
pub(crate) fn as_commit(record: &Record<'_>) -> Option<Commit> {
    if record.tag != COMMIT_TAG || record.body.len() != COMMIT_BODY_SIZE || u32_at(record.body, 12) != 0 {
        return None;
    }
    Some(Commit {
        first_lsn: Lsn(u64_at(record.body, 0)),
        record_count: u32_at(record.body, 8),
        durable_lsn: Lsn(u64_at(record.body, 16)),
    })
}

/// The highest durable LSN that a commit record at any multiple of 8 from the offset on proves; only those whose own LSN is above `hole` and
/// whose checksum is right count.
pub(crate) fn scan_for_evidence<F: Framing>(segment: &[u8], seed: u32, offset: usize, hole: Lsn) -> Option<Lsn> {
    let mut evidence = None;
    let mut offset = offset;
    while offset + COMMIT_SIZE <= segment.len() {
        // Most of what is scanned was never written. No record begins in zeros: its size stands in its first 8 bytes.
        if offset.is_multiple_of(PAGE_SIZE)
            && let Some(block) = segment.get(offset..offset + PAGE_SIZE)
            && block.iter().fold(0, |all, byte| all | byte) == 0
        {
            offset += PAGE_SIZE;
            continue;
        }
        let bytes = &segment[offset..offset + COMMIT_SIZE];
        // The cheap tests come first: of millions of places hardly any passes them.
        if u32_at(bytes, 4) as usize == COMMIT_SIZE
            && u16_at(bytes, 24) == COMMIT_KIND
            && u64_at(bytes, 8) > hole.0
            && let Some(commit) = read_any::<F>(bytes, seed).and_then(|record| as_commit(&record))
        {
            evidence = evidence.max(Some(commit.durable_lsn));
        }
        offset += 8;
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::CrcFraming;

    #[test]
    fn evidence_is_found_anywhere_between_zeros() {
        let commit = Commit {
            first_lsn: Lsn(20),
            record_count: 3,
            durable_lsn: Lsn(19),
        };
        let scan = |segment: &[u8]| scan_for_evidence::<CrcFraming>(segment, 7, PAGE_SIZE, Lsn(20));
        let places = (0..PAGE_SIZE + COMMIT_SIZE).step_by(8);
        for offset in places.map(|place| 2 * PAGE_SIZE - COMMIT_SIZE + place) {
            let mut segment = vec![0; 5 * PAGE_SIZE];
            assert_eq!(scan(&segment), None);
            write_commit::<CrcFraming>(&mut segment[offset..offset + COMMIT_SIZE], 7, 5, commit);
            assert_eq!(scan(&segment), Some(Lsn(19)), "at {offset}");
        }
    }
}
