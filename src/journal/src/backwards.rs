//! Reading a journal backwards, a block of records at a time.

use std::ops::RangeInclusive;

use crate::archive::{ArchiveReader, SegmentMarks, SegmentReader, SegmentSource};
use crate::damage::{FileError, FileFault};
use crate::history::{Files, HistoryPlace, SegmentFile};
use crate::identifier::{Lsn, Record, SegmentNumber};
use crate::limits::ARCHIVE_FRAME_SIZE;
use crate::record::{COMMIT_KIND, OWN_KIND_MIN};

/// Reads the durable records of a journal from an LSN back to the first one. A block is a frame of an archive, or about as much of a segment; within
/// it records come in their order. Of an archive only the frames with the wanted keys are read.
#[derive(Debug)]
pub struct BackwardReader {
    files: Files,
    keys: Option<RangeInclusive<u64>>,
    before: Lsn,
    /// The segment that is read next; 0 when everything was read.
    number: SegmentNumber,
    current: Option<Current>,
    /// No record that is still to be read is later.
    latest: i64,
}

#[derive(Debug)]
enum Current {
    /// With the frames that are still to be read, the next one last.
    Archive(Box<ArchiveReader>, Vec<u32>),
    Segment(Box<SegmentReader>),
}

impl BackwardReader {
    /// Prepares to read the durable records below an LSN, the last ones first.
    ///
    /// # Errors
    /// When the control page or a file is damaged or cannot be read.
    pub fn open(
        source: &SegmentSource<'_>,
        before: Lsn,
        keys: Option<RangeInclusive<u64>>,
        marks: &SegmentMarks,
    ) -> Result<BackwardReader, FileError> {
        let (durable, newest) = source.durable()?;
        let files = Files::new(source, marks);
        let before = before.min(Lsn(durable.0 + 1));
        let number = match before.0.saturating_sub(1) {
            0 => SegmentNumber(0),
            last => files.segment_of(Lsn(last), newest)?,
        };
        Ok(BackwardReader {
            files,
            keys,
            before,
            number,
            current: None,
            latest: i64::MAX,
        })
    }

    /// The LSN that everything still to be read is below; 1 or less when that is nothing.
    pub fn before(&self) -> Lsn {
        self.before
    }

    /// No record that is still to be read is later than this.
    pub fn latest(&self) -> i64 {
        self.latest
    }

    /// Gives the records of the next block to `take`, in their order, and returns how many bytes were looked at, about; nothing when the beginning of
    /// the journal was reached. A block that holds none of the wanted keys is passed over, at most one file at a time.
    ///
    /// # Errors
    /// Damage names file and offset. Others may be retried by opening it again.
    pub fn next_block(&mut self, mut take: impl FnMut(&Record<'_>, HistoryPlace)) -> Result<Option<u64>, FileError> {
        if self.before.0 <= 1 || self.number.0 == 0 {
            self.before = Lsn(1);
            return Ok(None);
        }
        if self.current.is_none() {
            self.open_file()?;
        }
        let before = self.before;
        let mut first_time = None;
        let mut give = |record: &Record<'_>, place| {
            first_time.get_or_insert(record.time);
            take(record, place);
        };
        let (segment, mut bytes) = (self.number, 0);
        let first = match self.current.as_mut() {
            None => None,
            Some(Current::Archive(reader, frames)) => match frames.pop() {
                None => {
                    self.before = self.before.min(reader.summary().first_lsn);
                    self.latest = self.latest.min(reader.summary().first_time);
                    None
                }
                Some(frame) => {
                    let first = reader.only_frame(frame);
                    while let Some(lsn) = reader.next_record()?.map(|record| record.lsn) {
                        if lsn >= before {
                            break;
                        }
                        let place = HistoryPlace {
                            segment,
                            is_archived: true,
                            offset: reader.frame_offset(),
                        };
                        give(&reader.last_record(), place);
                    }
                    bytes = ARCHIVE_FRAME_SIZE as u64;
                    Some(first)
                }
            },
            Some(Current::Segment(reader)) if reader.first_lsn() >= before => None,
            Some(Current::Segment(reader)) => {
                reader.seek_near(Lsn(before.0 - 1));
                let (first, begin) = (reader.next_lsn(), reader.offset());
                while reader.next_lsn() < before {
                    let offset = reader.offset();
                    let Some(record) = reader.next_record()? else {
                        return Err(self.files.damaged_segment(segment, offset, FileFault::Record));
                    };
                    if record.tag.kind >= OWN_KIND_MIN && record.tag.kind != COMMIT_KIND {
                        let fault = FileFault::UnknownKind(record.tag.kind);
                        return Err(self.files.damaged_segment(segment, offset, fault));
                    }
                    if record.tag.kind < OWN_KIND_MIN {
                        let place = HistoryPlace {
                            segment,
                            is_archived: false,
                            offset,
                        };
                        give(&record, place);
                    }
                }
                bytes = reader.offset() - begin;
                Some(first)
            }
        };
        match first {
            Some(first) => {
                self.before = first;
                self.latest = first_time.unwrap_or(self.latest);
            }
            None => {
                self.current = None;
                self.number = SegmentNumber(self.number.0 - 1);
            }
        }
        Ok(Some(bytes))
    }

    /// Opens the file of the segment whose turn it is. Of a segment the places are found by reading up to where reading back begins.
    fn open_file(&mut self) -> Result<(), FileError> {
        self.current = Some(match self.files.open(self.number)? {
            SegmentFile::Archive(reader) => {
                self.latest = self.latest.min(reader.summary().last_time);
                let frames = reader.frames_before(self.before, self.keys.as_ref());
                Current::Archive(reader, frames)
            }
            SegmentFile::Segment(mut reader) => {
                let last = Lsn(self.before.0 - 1);
                reader.seek_near(last);
                while reader.next_lsn() < last {
                    let offset = reader.offset();
                    if reader.next_record()?.is_none() {
                        // The segment ended before: its last records are those of the next segment.
                        return Err(self.files.damaged_segment(self.number, offset, FileFault::Record));
                    }
                }
                Current::Segment(reader)
            }
        });
        Ok(())
    }
}
