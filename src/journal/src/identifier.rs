//! Names of journals, segments and records.

use std::fmt;

/// The number of a record in its journal: the previous record's plus 1, from 1. 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number of a segment in its journal, from 1 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The first segment of every journal.
    pub const FIRST: SegmentNumber = SegmentNumber(1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Which journal: 128 random bits, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub [u8; 16]);

impl JournalId {
    /// The name of the journal's directory within the data directory: `journal-` and the first 8 bytes in hexadecimal.
    pub fn directory_name(self) -> String {
        let mut name = String::from("journal-");
        push_hex(&mut name, &self.0[..8]);
        name
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for JournalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(32);
        push_hex(&mut text, &self.0);
        formatter.write_str(&text)
    }
}

impl fmt::Debug for JournalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JournalId({self})")
    }
}

/// Appends the bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a digit"));
        }
    }
}

/// What the journal keeps of a record without knowing what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What the record is; from `0xFF00` on kinds are the journal's own.
    pub kind: u16,
    /// The partition that the record belongs to.
    pub partition: u16,
    /// Bits whose meaning depends on the kind.
    pub detail: u32,
}

/// A record as recovery hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'journal> {
    /// Its number.
    pub lsn: Lsn,
    /// When its turn began, in microseconds since 1970; never below the record before it.
    pub time: i64,
    /// What it is.
    pub tag: Tag,
    /// The body as it was appended, without padding.
    pub body: &'journal [u8],
}

/// A place in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub segment: SegmentNumber,
    /// Bytes from the beginning of the segment's file.
    pub offset: u64,
    /// The LSN that belongs there.
    pub lsn: Lsn,
}
