//! Cursors: where reading goes on, as a text of `[A-Za-z0-9_-]`.
//!
//! A cursor is bytes in the alphabet of base64url: which sort, of which directory, of which question, what it says, and a checksum over all of it. Numbers
//! take as many bytes as they need. It holds nothing that the server would trust: positions are held against the journals, and whoever forges one deceives himself.

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{Counters, Units};
use plimsoll_journal::Lsn;
use plimsoll_protocol::Status;
use plimsoll_replay::Positions;

use super::Refused;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CRC_SIZE: usize = 4;
/// Sort, directory and question.
const HEAD_SIZE: usize = 5;

/// Which question it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Events = 1,
    Feed = 2,
    Search = 3,
}

/// Puts a cursor together.
pub(super) struct Writer(Vec<u8>);

/// Takes a cursor apart.
pub(super) struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

pub(super) fn not_valid() -> Refused {
    Refused(
        Status::Invalid,
        "the cursor is not one of this question and data directory, or of a later time".into(),
    )
}

/// Tells questions apart: what must stay the same from page to page.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u16 {
    let add = |crc, part: &&[u8]| crc32c::crc32c_append(crc32c::crc32c_append(crc, &part.len().to_le_bytes()), part);
    let crc = parts.iter().fold(0, add);
    (crc >> 16) as u16 ^ crc as u16
}

fn head(sort: Sort, directory: [u8; 16], question: u16) -> [u8; HEAD_SIZE] {
    let [low, high] = question.to_le_bytes();
    [sort as u8, directory[0], directory[1], low, high]
}

impl Writer {
    pub(super) fn new(sort: Sort, directory: [u8; 16], question: u16) -> Writer {
        Writer(head(sort, directory, question).to_vec())
    }

    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Small ones of either sign are short.
    pub(super) fn signed(&mut self, value: i64) {
        self.number((value << 1 ^ value >> 63) as u64);
    }

    pub(super) fn positions(&mut self, positions: &Positions) {
        self.number(positions.0.len() as u64);
        for position in &positions.0 {
            // One that is read to its end becomes 0.
            self.number(position.0.wrapping_add(1));
        }
    }

    pub(super) fn counters(&mut self, counters: &Counters, dimension_count: usize) {
        for counter in &counters.0[..dimension_count] {
            self.signed(*counter);
        }
    }

    pub(super) fn units(&mut self, units: &Units, dimension_count: usize) {
        for unit in &units.0[..dimension_count] {
            self.number(u64::from(*unit));
        }
    }

    pub(super) fn finish(mut self) -> String {
        let crc = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        encode(&self.0)
    }
}

impl Reader {
    /// # Errors
    /// It is not a cursor of this sort, directory and question.
    pub(super) fn new(text: &str, sort: Sort, directory: [u8; 16], question: u16) -> Result<Reader, Refused> {
        let mut bytes = decode(text).ok_or_else(not_valid)?;
        let body = bytes.len().checked_sub(CRC_SIZE).ok_or_else(not_valid)?;
        let crc = crc32c::crc32c(&bytes[..body]);
        let is_right = bytes[body..] == crc.to_le_bytes() && bytes.starts_with(&head(sort, directory, question));
        bytes.truncate(body);
        if is_right {
            Ok(Reader { bytes, at: HEAD_SIZE })
        } else {
            Err(not_valid())
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Refused> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(not_valid)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(not_valid())
    }

    pub(super) fn signed(&mut self) -> Result<i64, Refused> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Positions up to `end`; of a journal without a core, also that all of it was read.
    pub(super) fn positions(&mut self, end: &Positions) -> Result<Positions, Refused> {
        let count = self.number()? as usize;
        if count > end.0.len() {
            return Err(not_valid());
        }
        let mut positions = Vec::with_capacity(count);
        for journal in 0..count {
            let position = Lsn(self.number()?.wrapping_sub(1));
            if position > end.of(journal) && position != Positions::ALL_READ {
                return Err(not_valid());
            }
            positions.push(position);
        }
        Ok(Positions(positions))
    }

    pub(super) fn counters(&mut self, dimension_count: usize) -> Result<Counters, Refused> {
        let mut counters = Counters([0; DIMENSION_COUNT_MAX]);
        for counter in &mut counters.0[..dimension_count] {
            *counter = self.signed()?;
        }
        Ok(counters)
    }

    pub(super) fn units(&mut self, dimension_count: usize) -> Result<Units, Refused> {
        let mut units = Units::default();
        for unit in &mut units.0[..dimension_count] {
            *unit = self.number()? as u32;
        }
        Ok(units)
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..1 + chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        for (place, byte) in chunk.iter().enumerate() {
            let value = ALPHABET.iter().position(|letter| letter == byte)? as u32;
            word |= value << (18 - 6 * place);
        }
        let count = chunk.len().checked_sub(1).filter(|count| *count > 0)?;
        bytes.extend_from_slice(&word.to_be_bytes()[1..=count]);
    }
    // One text for each cursor: bits that no byte takes are 0.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: [u8; 16] = [7; 16];

    fn written() -> String {
        let mut writer = Writer::new(Sort::Feed, DIRECTORY, 7);
        writer.positions(&Positions(vec![Positions::ALL_READ, Lsn(1), Lsn(1 << 40)]));
        writer.signed(i64::MIN);
        writer.signed(-3);
        writer.counters(&Counters([-1, 2, 0, 0, 0, 0, 0, 0]), 2);
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = written();
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        );
        let end = Positions(vec![Lsn(5), Lsn(5), Lsn(1 << 41), Lsn(9)]);
        let mut reader = Reader::new(&text, Sort::Feed, DIRECTORY, 7).unwrap();
        let positions = reader.positions(&end).unwrap();
        assert_eq!(positions, Positions(vec![Positions::ALL_READ, Lsn(1), Lsn(1 << 40)]));
        assert_eq!((reader.signed().unwrap(), reader.signed().unwrap()), (i64::MIN, -3));
        assert_eq!(reader.counters(2).unwrap().0[..2], [-1, 2]);
        assert!(reader.number().is_err());
        // A position behind the end is of another directory, or of a later time.
        let mut reader = Reader::new(&text, Sort::Feed, DIRECTORY, 7).unwrap();
        assert!(reader.positions(&Positions(vec![Lsn(5), Lsn(5), Lsn(9)])).is_err());
    }

    #[test]
    fn no_other_text_is_taken_for_a_cursor() {
        let text = written();
        assert!(Reader::new(&text, Sort::Search, DIRECTORY, 7).is_err());
        assert!(Reader::new(&text, Sort::Feed, [8; 16], 7).is_err());
        assert!(Reader::new(&text, Sort::Feed, DIRECTORY, 8).is_err());
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Reader::new(&changed, Sort::Feed, DIRECTORY, 7).is_err(), "{place}");
            assert!(
                Reader::new(&text[..place], Sort::Feed, DIRECTORY, 7).is_err(),
                "{place}"
            );
        }
        for text in ["", "A", "====", "ÄÖÜ", "AAAAAAAAAAAA"] {
            assert!(Reader::new(text, Sort::Feed, DIRECTORY, 7).is_err(), "{text}");
        }
    }

    #[test]
    fn questions_are_told_apart() {
        let check = |one: &[&[u8]], other: &[&[u8]]| assert_ne!(fingerprint(one), fingerprint(other));
        check(&[b"pool-1"], &[b"pool-2"]);
        check(&[b"a", b"", &[0]], &[b"", b"a", &[0]]);
        check(&[b"a", b"", &[0]], &[b"a", b"", &[1]]);
    }
}
