//! Reading a segment that is not written to any more.

use std::fs::{self, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::archive::marks::{Mark, MarkList, SegmentMarks};
use crate::archive::{ARCHIVE_DIRECTORY, ARCHIVE_SUFFIX};
use crate::bytes::u32_at;
use crate::control::ControlValues;
use crate::damage::{FileError, FileFault, SourceFile};
use crate::directory::JournalEnd;
use crate::error::{Action, StorageError};
use crate::framing::{CrcFraming, Framing};
use crate::header::{HEADER_PAGE_SIZE, HEADER_SIZE, HeaderExpectation, HeaderFault, SegmentHeader};
use crate::identifier::{JournalId, Lsn, Record, SegmentNumber};
use crate::limits::RECORD_SIZE_MAX;
use crate::mmap::{CONTROL_FILE_NAME, file_names, parse_number, segment_number, segment_path};
use crate::record::{RECORD_HEADER_SIZE, padded, read};

/// So much is read at once.
const WINDOW_SIZE: usize = 256 * 1024;

/// A journal's files, for whoever does not own the journal.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSource<'path> {
    /// The journal's directory.
    pub directory: &'path Path,
    /// Which journal.
    pub journal: JournalId,
    /// The size of its segments in bytes.
    pub segment_size: usize,
    /// Where the manifest says that it ends, if it has no core any more: that counts, whatever its control page says.
    pub end: Option<JournalEnd>,
}

impl SegmentSource<'_> {
    pub(crate) fn control(&self) -> Result<ControlValues, FileError> {
        ControlValues::read(&self.directory.join(CONTROL_FILE_NAME), self.journal, self.segment_size)
    }

    /// Up to where the journal is durable, and the newest segment of which something is.
    pub(crate) fn durable(&self) -> Result<(Lsn, SegmentNumber), FileError> {
        if let Some(end) = self.end {
            return Ok((end.lsn, end.segment));
        }
        let control = self.control()?;
        Ok((control.durable_lsn, control.newest_durable_segment))
    }

    pub(crate) fn segment_path(&self, number: SegmentNumber) -> PathBuf {
        segment_path(self.directory, number)
    }
}

/// Which segments and archives of a journal there are, oldest first. On a running journal it is old as soon as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalFiles {
    /// Segments, prepared files among them.
    pub segments: Vec<SegmentNumber>,
    /// Archives.
    pub archives: Vec<SegmentNumber>,
}

impl JournalFiles {
    /// Lists the directory of a journal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(directory: &Path) -> Result<JournalFiles, StorageError> {
        let mut segments: Vec<_> = file_names(directory)?
            .iter()
            .filter_map(|name| segment_number(name))
            .collect();
        segments.sort_unstable();
        let archives = directory.join(ARCHIVE_DIRECTORY);
        let mut archives: Vec<_> = if archives.is_dir() {
            file_names(&archives)?
        } else {
            Vec::new()
        }
        .iter()
        .filter_map(|name| parse_number(name.strip_suffix(ARCHIVE_SUFFIX)?))
        .collect();
        archives.sort_unstable();
        Ok(JournalFiles { segments, archives })
    }
}

/// Reads the records of a segment in the memory of the largest of them, and leases the file: as long as this is there, the segment is not used
/// again.
#[derive(Debug)]
pub struct SegmentReader {
    source: SourceFile,
    header: SegmentHeader,
    seed: u32,
    window: Vec<u8>,
    /// Where the window lies in the file.
    window_offset: usize,
    /// Where the next record begins.
    offset: usize,
    next: Lsn,
    marks: Option<MarkList>,
}

impl SegmentReader {
    /// Leases the segment; nothing if it is not there or is being used again.
    ///
    /// # Errors
    /// When it cannot be read, or is not this segment.
    pub fn open(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Option<SegmentReader>, FileError> {
        let path = source.segment_path(number);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io(Action::Open, &path)(error).into()),
        };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(StorageError::io(Action::Lock, &path)(error).into()),
        }
        // Between opening and locking the file may have got another name. From here on it does not.
        let inode = file.metadata().map_err(StorageError::io(Action::Read, &path))?.ino();
        match fs::metadata(&path) {
            Ok(named) if named.ino() == inode => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io(Action::Read, &path)(error).into()),
        }
        let segment_size = source.segment_size;
        let file = SourceFile::new(file, &path)?;
        if file.size() != segment_size as u64 {
            return Err(file.damaged(0, FileFault::Size));
        }
        let mut bytes = [0; HEADER_SIZE];
        file.read_at(&mut bytes, 0)?;
        let expected = HeaderExpectation {
            journal: source.journal,
            number,
            file_size: segment_size,
        };
        let header = SegmentHeader::decode(&bytes, expected).map_err(|fault| {
            let fault = match fault {
                HeaderFault::NotValid => FileFault::Header,
                HeaderFault::UnknownVersion(version) => FileFault::UnknownVersion(version),
                HeaderFault::OtherJournal(journal) => FileFault::OtherJournal(journal),
            };
            file.damaged(0, fault)
        })?;
        Ok(Some(SegmentReader {
            seed: CrcFraming::seed(header.journal, header.incarnation, number),
            next: header.first_lsn,
            source: file,
            header,
            window: Vec::new(),
            window_offset: 0,
            offset: HEADER_PAGE_SIZE,
            marks: None,
        }))
    }

    /// From now on places are remembered there.
    pub(crate) fn with_marks(mut self, marks: &SegmentMarks) -> SegmentReader {
        self.marks = Some(marks.of(self.header.journal, self.header.number, self.header.incarnation));
        self
    }

    /// Goes on at the last remembered place before this record, or at the first record; whatever was read before.
    pub(crate) fn seek_near(&mut self, lsn: Lsn) {
        let first = Mark {
            offset: HEADER_PAGE_SIZE,
            lsn: self.header.first_lsn,
        };
        let mark = self.marks.as_ref().and_then(|marks| marks.before(lsn));
        let mark = mark.unwrap_or(first);
        (self.offset, self.next) = (mark.offset, mark.lsn);
    }

    /// The LSN of the first record.
    pub fn first_lsn(&self) -> Lsn {
        self.header.first_lsn
    }

    /// The LSN of the next record.
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Where the next record begins, in bytes from the beginning of the file.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn source(&self) -> &SourceFile {
        &self.source
    }

    /// The next record, commit records included (their kind is [`crate::COMMIT_KIND`]); nothing where no valid one follows. In a segment that is still
    /// written to, what lies behind the journal's durable LSN may be taken back by a crash, and changes while it is read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, FileError> {
        Ok(self.next_with_bytes()?.map(|(record, _)| record))
    }

    /// The next record, and the bytes that it takes.
    pub(crate) fn next_with_bytes(&mut self) -> Result<Option<(Record<'_>, &[u8])>, FileError> {
        if !self.fill(RECORD_HEADER_SIZE)? {
            return Ok(None);
        }
        let size = u32_at(&self.window, self.offset - self.window_offset + 4) as usize;
        if !(RECORD_HEADER_SIZE..=RECORD_SIZE_MAX).contains(&size) || !self.fill(padded(size))? {
            return Ok(None);
        }
        let at = self.offset - self.window_offset;
        let Some((record, end)) = read::<CrcFraming>(&self.window, self.seed, at, self.next) else {
            return Ok(None);
        };
        self.offset += end - at;
        self.next = Lsn(self.next.0 + 1);
        Ok(Some((record, &self.window[at..end])))
    }

    /// Sees to it that the window holds so many bytes from the offset on. False if the segment does not have them.
    fn fill(&mut self, size: usize) -> Result<bool, FileError> {
        let segment_size = self.header.file_size as usize;
        if self.offset + size > segment_size {
            return Ok(false);
        }
        let end = self.window_offset + self.window.len();
        if self.offset < self.window_offset || self.offset + size > end {
            self.window
                .resize(size.max(WINDOW_SIZE).min(segment_size - self.offset), 0);
            self.window_offset = self.offset;
            if let Some(marks) = &self.marks {
                let (offset, lsn) = (self.offset, self.next);
                marks.add(Mark { offset, lsn });
            }
            self.source.read_at(&mut self.window, self.offset as u64)?;
        }
        Ok(true)
    }
}
