//! Reading a journal from any LSN on, wherever its records are: archives, sealed segments, and what is durable of the newest ones.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::archive::{ArchiveReader, SegmentMarks, SegmentReader, SegmentSource, archive_path, archive_summary};
use crate::damage::{FileDamage, FileError, FileFault};
use crate::identifier::{JournalId, Lsn, Record, SegmentNumber};
use crate::mmap::segment_path;
use crate::record::{COMMIT_KIND, OWN_KIND_MIN};

/// Which records of a journal are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRange {
    /// The first LSN.
    pub from: Lsn,
    /// The last LSN; what is not durable is never read.
    pub upto: Lsn,
    /// Archives whose last record is older than this may be passed over, in microseconds since 1970.
    pub not_before: i64,
    /// Of archives only what holds records with one of these keys need be read. Records of others come along: the caller looks at each.
    pub keys: Option<RangeInclusive<u64>>,
}

impl HistoryRange {
    /// Everything.
    pub const ALL: HistoryRange = HistoryRange {
        from: Lsn(1),
        upto: Lsn(u64::MAX),
        not_before: i64::MIN,
        keys: None,
    };
}

/// Where a record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPlace {
    /// The segment that it belongs to.
    pub segment: SegmentNumber,
    /// Whether it was read in the segment's archive.
    pub is_archived: bool,
    /// Bytes from the beginning of the file: to the record in a segment, to its frame in an archive.
    pub offset: u64,
}

impl HistoryPlace {
    /// The file.
    pub fn path(&self, journal: &Path) -> PathBuf {
        if self.is_archived {
            archive_path(journal, self.segment)
        } else {
            segment_path(journal, self.segment)
        }
    }
}

/// Reads the records of a journal in their order, without commit records, also while the journal runs. An archive is read rather than its segment, so that no
/// lease keeps the journal from using the segment again. Holds one frame of an archive, or a window of a segment, in memory.
#[derive(Debug)]
pub struct HistoryReader {
    files: Files,
    range: HistoryRange,
    /// The next segment to be opened, and the newest of which something is durable.
    next: SegmentNumber,
    newest: SegmentNumber,
    current: Option<SegmentFile>,
    /// The LSN of the record that must come next, commit records included; unknown where records are left out.
    expected: Option<Lsn>,
    bytes: u64,
}

/// The bytes of the files that reading a journal from its beginning passes, about.
///
/// # Errors
/// When its control page or its directory cannot be read.
pub fn history_size(source: &SegmentSource<'_>) -> Result<u64, FileError> {
    let newest = source.control()?.newest_durable_segment;
    let mut size = 0;
    for number in (SegmentNumber::FIRST.0..=newest.0).map(SegmentNumber) {
        size += std::fs::metadata(archive_path(source.directory, number))
            .map_or(source.segment_size as u64, |archive| archive.len());
    }
    Ok(size)
}

/// A file that holds a segment's records.
#[derive(Debug)]
pub(crate) enum SegmentFile {
    Archive(Box<ArchiveReader>),
    Segment(Box<SegmentReader>),
}

/// A journal's files, each by its segment's number.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    journal: JournalId,
    segment_size: usize,
    marks: SegmentMarks,
}

impl Files {
    pub(crate) fn new(source: &SegmentSource<'_>, marks: &SegmentMarks) -> Files {
        Files {
            directory: source.directory.to_owned(),
            journal: source.journal,
            segment_size: source.segment_size,
            marks: marks.clone(),
        }
    }

    fn source(&self) -> SegmentSource<'_> {
        SegmentSource {
            directory: &self.directory,
            journal: self.journal,
            segment_size: self.segment_size,
        }
    }

    pub(crate) fn damaged_segment(&self, number: SegmentNumber, offset: u64, fault: FileFault) -> FileError {
        FileError::Damaged(FileDamage {
            path: segment_path(&self.directory, number),
            offset,
            fault,
        })
    }

    /// The segment that the LSN lies in: the last one up to `newest` that does not begin behind it.
    pub(crate) fn segment_of(&self, lsn: Lsn, newest: SegmentNumber) -> Result<SegmentNumber, FileError> {
        // Whoever follows what becomes durable asks for the newest one time and again. Its damage is none of those who read what lies before.
        if self.first_lsn_of(newest).is_ok_and(|first| first <= lsn) {
            return Ok(newest);
        }
        let (mut low, mut high) = (SegmentNumber::FIRST.0, newest.0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.first_lsn_of(SegmentNumber(middle))? <= lsn {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(SegmentNumber(low))
    }

    fn first_lsn_of(&self, number: SegmentNumber) -> Result<Lsn, FileError> {
        match archive_summary(&self.directory, number)? {
            Some(summary) => Ok(summary.first_lsn),
            None => match self.open(number)? {
                SegmentFile::Archive(reader) => Ok(reader.summary().first_lsn),
                SegmentFile::Segment(reader) => Ok(reader.first_lsn()),
            },
        }
    }

    /// The archive, or the segment as long as there is none.
    pub(crate) fn open(&self, number: SegmentNumber) -> Result<SegmentFile, FileError> {
        let path = archive_path(&self.directory, number);
        if path.exists() {
            return Ok(SegmentFile::Archive(Box::new(ArchiveReader::open(&path)?)));
        }
        match SegmentReader::open(&self.source(), number)? {
            Some(reader) => Ok(SegmentFile::Segment(Box::new(reader.with_marks(&self.marks)))),
            // A segment goes only when its archive is there.
            None if path.exists() => Ok(SegmentFile::Archive(Box::new(ArchiveReader::open(&path)?))),
            None => Err(self.damaged_segment(number, 0, FileFault::Missing)),
        }
    }
}

impl HistoryReader {
    /// Prepares to read what is durable now. With `marks` of earlier readers it need not pass what lies in a segment before the first record.
    ///
    /// # Errors
    /// When the control page or the file that reading begins with is damaged or cannot be read.
    pub fn open(
        source: &SegmentSource<'_>,
        range: HistoryRange,
        marks: &SegmentMarks,
    ) -> Result<HistoryReader, FileError> {
        let control = source.control()?;
        let mut reader = HistoryReader {
            files: Files::new(source, marks),
            range: HistoryRange {
                upto: range.upto.min(control.durable_lsn),
                ..range
            },
            next: SegmentNumber::FIRST,
            newest: control.newest_durable_segment,
            current: None,
            expected: None,
            bytes: 0,
        };
        reader.next = reader.files.segment_of(reader.range.from, reader.newest)?;
        Ok(reader)
    }

    /// The last LSN that is read.
    pub fn upto(&self) -> Lsn {
        self.range.upto
    }

    /// How many bytes of files were passed so far, for progress.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the next record to `take`, and returns what that makes of it; nothing behind the last one.
    ///
    /// # Errors
    /// Damage names file and offset. Others may be retried by opening it again from the record after the last one taken.
    pub fn next<T>(&mut self, take: impl FnOnce(&Record<'_>, HistoryPlace) -> T) -> Result<Option<T>, FileError> {
        loop {
            let segment = SegmentNumber(self.next.0.saturating_sub(1));
            match &mut self.current {
                None => {
                    if !self.open_next()? {
                        return Ok(None);
                    }
                }
                Some(SegmentFile::Archive(reader)) => {
                    let record = reader.next_record()?.map(|record| record.lsn);
                    match record {
                        Some(lsn) if lsn > self.range.upto => return Ok(None),
                        Some(lsn) if lsn < self.range.from => {}
                        Some(_) => {
                            let place = HistoryPlace {
                                segment,
                                is_archived: true,
                                offset: reader.frame_offset(),
                            };
                            return Ok(Some(take(&reader.last_record(), place)));
                        }
                        None => {
                            self.bytes += reader.size();
                            self.expected = (self.range.keys.is_none()).then(|| Lsn(reader.summary().last_lsn.0 + 1));
                            self.current = None;
                        }
                    }
                }
                Some(SegmentFile::Segment(reader)) => {
                    if reader.next_lsn() > self.range.upto {
                        return Ok(None);
                    }
                    let (lsn, offset) = (reader.next_lsn(), reader.offset());
                    match reader.next_record()? {
                        Some(record) if record.tag.kind >= OWN_KIND_MIN && record.tag.kind != COMMIT_KIND => {
                            let fault = FileFault::UnknownKind(record.tag.kind);
                            return Err(self.files.damaged_segment(segment, offset, fault));
                        }
                        Some(record) if lsn < self.range.from || record.tag.kind == COMMIT_KIND => {}
                        Some(record) => {
                            let place = HistoryPlace {
                                segment,
                                is_archived: false,
                                offset,
                            };
                            return Ok(Some(take(&record, place)));
                        }
                        None if self.next <= self.newest => {
                            // Sealed: the next file tells whether it ended here.
                            self.bytes += offset;
                            self.expected = Some(lsn);
                            self.current = None;
                        }
                        None => return Err(self.files.damaged_segment(segment, offset, FileFault::Record)),
                    }
                }
            }
        }
    }

    /// Opens the next file that may hold something. False if there is none.
    fn open_next(&mut self) -> Result<bool, FileError> {
        loop {
            let number = self.next;
            if number > self.newest || self.range.upto < self.range.from {
                return Ok(false);
            }
            if let Some(summary) = archive_summary(&self.files.directory, number)?
                && summary.last_time < self.range.not_before
            {
                self.next = number.next();
                self.expected = None;
                continue;
            }
            let mut file = self.files.open(number)?;
            let (first_lsn, path) = match &file {
                SegmentFile::Archive(reader) => {
                    (reader.summary().first_lsn, archive_path(&self.files.directory, number))
                }
                SegmentFile::Segment(reader) => (reader.first_lsn(), segment_path(&self.files.directory, number)),
            };
            if self.expected.is_some_and(|expected| expected != first_lsn) {
                return Err(FileError::Damaged(FileDamage {
                    path,
                    offset: 0,
                    fault: FileFault::DoesNotContinue,
                }));
            }
            if first_lsn > self.range.upto {
                return Ok(false);
            }
            match (&mut file, &self.range.keys) {
                (SegmentFile::Archive(reader), Some(keys)) => reader.only(keys.clone()),
                (SegmentFile::Archive(reader), None) if self.range.from > first_lsn => reader.seek(self.range.from)?,
                (SegmentFile::Archive(_), None) => {}
                (SegmentFile::Segment(reader), _) => reader.seek_near(self.range.from),
            }
            self.next = number.next();
            self.current = Some(file);
            return Ok(true);
        }
    }
}
