//! A segment that is appended to.
//!
//! Records are gathered in memory and written to the file when they are to become durable. Storing them through a mapping would cost a fault for each page
//! after each sync, since the kernel then protects the page again, and interrupt the other processors for it. Whoever reads the file, or maps it to read,
//! sees what was written.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::identifier::SegmentNumber;
use crate::limits::PAGE_SIZE;

/// A buffer that one large batch let grow beyond this is given up afterwards.
const KEPT_SIZE_MAX: usize = 4 * 1024 * 1024;

/// A segment that is appended to.
#[derive(Debug)]
pub struct AppendedSegment {
    number: SegmentNumber,
    file: File,
    size: usize,
    /// What was stored since it was last written, and before it the beginning of its page, so that whole pages are written: the kernel then has
    /// no need to read one first.
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: usize,
    /// How much of the buffer is written.
    written: usize,
}

impl AppendedSegment {
    /// A file of at least `size` bytes, all of them written before, so that writing neither fails for want of room nor changes its metadata.
    pub(super) fn new(file: File, number: SegmentNumber, size: usize) -> AppendedSegment {
        AppendedSegment {
            number,
            file,
            size,
            buffer: Vec::new(),
            start: 0,
            written: 0,
        }
    }

    pub(super) fn number(&self) -> SegmentNumber {
        self.number
    }

    /// Bytes to store into: behind all that were asked for before. What is left out in between becomes 0.
    #[inline]
    pub(super) fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let begin = range.start.checked_sub(self.start);
        let begin = begin.expect("a segment is stored into from its beginning on");
        assert!(
            begin >= self.buffer.len() && range.end <= self.size,
            "a segment is stored into once, and within its size"
        );
        self.buffer.resize(range.end - self.start, 0);
        &mut self.buffer[begin..]
    }

    /// Writes what was stored since the last time, and makes that durable if `is_durable`.
    pub(super) fn write_out(&mut self, is_durable: bool) -> io::Result<()> {
        let stored = self.buffer.len();
        if stored == self.written {
            return Ok(());
        }
        self.buffer.resize(stored.next_multiple_of(PAGE_SIZE), 0);
        let flags = if is_durable {
            ReadWriteFlags::DSYNC
        } else {
            ReadWriteFlags::empty()
        };
        let mut done = 0;
        while done < self.buffer.len() {
            let rest = IoSlice::new(&self.buffer[done..]);
            match pwritev2(&self.file, &[rest], (self.start + done) as u64, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let last_page = stored / PAGE_SIZE * PAGE_SIZE;
        self.buffer.copy_within(last_page..stored, 0);
        self.buffer.truncate(stored - last_page);
        self.buffer.shrink_to(KEPT_SIZE_MAX);
        self.start += last_page;
        self.written = self.buffer.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    const SIZE: usize = 16 * PAGE_SIZE;

    /// Whatever is stored between two writes, the file has all of it afterwards, with zeros up to the page's end and what was there before behind that.
    #[test]
    fn what_is_stored_is_in_the_file_once_it_is_written() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("segment");
        fs::write(&path, [0xEE; SIZE]).expect("written");
        let open = || OpenOptions::new().write(true).open(&path).expect("it is there");
        let mut segment = AppendedSegment::new(open(), SegmentNumber(1), SIZE);
        let mut expected = vec![0xEE; SIZE];
        let mut at = 0;
        segment.write_out(true).expect("nothing to write");
        let sizes = [
            128,
            PAGE_SIZE - 128,
            96,
            8,
            PAGE_SIZE - 104,
            3 * PAGE_SIZE + 8,
            1,
            PAGE_SIZE,
        ];
        for (round, size) in sizes.into_iter().enumerate() {
            segment.slice_mut(at..at + size).fill(round as u8 + 1);
            expected[at..at + size].fill(round as u8 + 1);
            at += size;
            if round == 2 {
                continue;
            }
            segment.write_out(round % 2 == 0).expect("it is written");
            expected[at..at.next_multiple_of(PAGE_SIZE)].fill(0);
            assert_eq!(fs::read(&path).expect("it is there"), expected, "round {round}");
        }
        // What is left out, as behind a header, becomes 0; the end of the file is no page beyond it.
        segment.slice_mut(SIZE - 8..SIZE).fill(9);
        expected[at..SIZE - 8].fill(0);
        expected[SIZE - 8..].fill(9);
        segment.write_out(true).expect("it is written");
        assert_eq!(fs::read(&path).expect("it is there"), expected);
    }

    #[test]
    #[should_panic(expected = "stored into once")]
    fn nothing_is_stored_twice() {
        let file = tempfile::tempfile().expect("a file for the test");
        let mut segment = AppendedSegment::new(file, SegmentNumber(1), SIZE);
        segment.slice_mut(0..16).fill(1);
        segment.slice_mut(8..24).fill(2);
    }
}
