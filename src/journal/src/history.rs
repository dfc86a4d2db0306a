//! Reading a journal from any LSN on, wherever its records are: archives, sealed segments, and what is durable of the newest ones.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::archive::{
    ArchiveReader, SegmentMarks, SegmentReader, SegmentSource, archive_path, archive_summary, open_archive,
};
use crate::damage::{FileDamage, FileError, FileFault};
use crate::directory::JournalEnd;
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
    /// What must come next; unknown where records are left out.
    expected: Option<Expected>,
    bytes: u64,
}

/// What a file that was read to its end leads to.
#[derive(Debug)]
struct Expected {
    /// The LSN of the next record, commit records included.
    lsn: Lsn,
    /// The segment has no valid record here: either it ended, or what follows is damaged. The next file tells.
    stopped: Option<FileDamage>,
}

/// The bytes of the files that reading a journal from its beginning passes, about.
///
/// # Errors
/// When its control page or its directory cannot be read.
pub fn history_size(source: &SegmentSource<'_>) -> Result<u64, FileError> {
    let (_, newest) = source.durable()?;
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
    end: Option<JournalEnd>,
    marks: SegmentMarks,
}

impl Files {
    pub(crate) fn new(source: &SegmentSource<'_>, marks: &SegmentMarks) -> Files {
        Files {
            directory: source.directory.to_owned(),
            journal: source.journal,
            segment_size: source.segment_size,
            end: source.end,
            marks: marks.clone(),
        }
    }

    fn source(&self) -> SegmentSource<'_> {
        SegmentSource {
            directory: &self.directory,
            journal: self.journal,
            segment_size: self.segment_size,
            end: self.end,
        }
    }

    pub(crate) fn damaged_segment(&self, number: SegmentNumber, offset: u64, fault: FileFault) -> FileError {
        FileError::Damaged(self.damage_of_segment(number, offset, fault))
    }

    fn damage_of_segment(&self, number: SegmentNumber, offset: u64, fault: FileFault) -> FileDamage {
        FileDamage {
            path: segment_path(&self.directory, number),
            offset,
            fault,
        }
    }

    /// The segment that the LSN lies in: the last one up to `newest` that does not begin behind it. Files that are damaged or missing are passed over, as
    /// long as the LSN cannot lie in them.
    pub(crate) fn segment_of(&self, lsn: Lsn, newest: SegmentNumber) -> Result<SegmentNumber, FileError> {
        if lsn.0 <= 1 || newest <= SegmentNumber::FIRST {
            return Ok(SegmentNumber::FIRST);
        }
        // What is asked for most is what happened last.
        match self.first_lsn_of(newest) {
            Ok(first) if first <= lsn => return Ok(newest),
            Ok(_) | Err(FileError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let (mut low, mut high) = (SegmentNumber::FIRST.0, newest.0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.first_lsn_near(middle, low, high)? {
                Ok((number, first)) if first <= lsn => low = number,
                Ok((number, _)) => high = number - 1,
                // None of those behind this one can be read: the LSN must lie in it, or nobody knows.
                Err(damage) => {
                    let archive = archive_summary(&self.source(), SegmentNumber(low))?;
                    if archive.is_none_or(|archive| archive.last_lsn < lsn) {
                        return Err(damage.into());
                    }
                    high = low;
                }
            }
        }
        Ok(SegmentNumber(low))
    }

    /// Of the segments above `low` and up to `high` one that can be read, the nearest to `middle`, and where it begins; otherwise what is wrong with
    /// the first of them.
    fn first_lsn_near(&self, middle: u64, low: u64, high: u64) -> Result<Result<(u64, Lsn), FileDamage>, FileError> {
        let mut damage = None;
        for number in (middle..=high).chain((low + 1..middle).rev()) {
            match self.first_lsn_of(SegmentNumber(number)) {
                Ok(first) => return Ok(Ok((number, first))),
                Err(FileError::Damaged(found)) => {
                    damage = Some((number, found))
                        .into_iter()
                        .chain(damage)
                        .min_by_key(|(number, _)| *number);
                }
                Err(error) => return Err(error),
            }
        }
        let (_, damage) = damage.expect("there is at least the one in the middle");
        Ok(Err(damage))
    }

    fn first_lsn_of(&self, number: SegmentNumber) -> Result<Lsn, FileError> {
        match archive_summary(&self.source(), number)? {
            Some(summary) => Ok(summary.first_lsn),
            None => match self.open(number)? {
                SegmentFile::Archive(reader) => Ok(reader.summary().first_lsn),
                SegmentFile::Segment(reader) => Ok(reader.first_lsn()),
            },
        }
    }

    /// The archive, or the segment as long as there is none.
    pub(crate) fn open(&self, number: SegmentNumber) -> Result<SegmentFile, FileError> {
        if let Some(reader) = open_archive(&self.source(), number)? {
            return Ok(SegmentFile::Archive(Box::new(reader)));
        }
        if let Some(reader) = SegmentReader::open(&self.source(), number)? {
            return Ok(SegmentFile::Segment(Box::new(reader.with_marks(&self.marks))));
        }
        // A segment goes only when its archive is there.
        match open_archive(&self.source(), number)? {
            Some(reader) => Ok(SegmentFile::Archive(Box::new(reader))),
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
        let (durable, newest) = source.durable()?;
        let mut reader = HistoryReader {
            files: Files::new(source, marks),
            range: HistoryRange {
                upto: range.upto.min(durable),
                ..range
            },
            next: SegmentNumber::FIRST,
            newest,
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

    /// Whether the record that was given last is found by this key: it was read in a segment, of which all is read, or its archive's index leads to it.
    pub fn is_indexed(&self, key: u64) -> bool {
        match &self.current {
            Some(SegmentFile::Archive(reader)) => reader.is_indexed(key),
            Some(SegmentFile::Segment(_)) | None => true,
        }
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
                            self.expected = self.range.keys.is_none().then(|| Expected {
                                lsn: Lsn(reader.summary().last_lsn.0 + 1),
                                stopped: None,
                            });
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
                            let stopped = self.files.damage_of_segment(segment, offset, FileFault::Record);
                            self.expected = Some(Expected {
                                lsn,
                                stopped: Some(stopped),
                            });
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
            if let Some(summary) = archive_summary(&self.files.source(), number)?
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
            if let Some(expected) = &self.expected
                && expected.lsn != first_lsn
            {
                // What lies between is missing at the end of the segment before, if that had no end of its own.
                let stopped = expected.stopped.clone().filter(|_| first_lsn > expected.lsn);
                let fault = FileFault::DoesNotContinue;
                let damage = stopped.unwrap_or(FileDamage { path, offset: 0, fault });
                return Err(damage.into());
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
