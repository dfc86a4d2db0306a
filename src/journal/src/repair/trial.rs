//! The files of a journal as a repair would leave them, to be read before anything is changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::PathBuf;

use crate::archive::{
    ArchiveSummary, Batches, JournalFiles, SegmentSource, archive_path, archive_summary, read_archive,
};
use crate::bytes::{array_at, put, u64_at};
use crate::control::{CONTROL_HEADER_SIZE, ControlFault, ControlField, ControlValues, check_header, new_control_page};
use crate::damage::{FileDamage, FileError, FileFault};
use crate::error::{Action, StorageError};
use crate::framing::{CrcFraming, Framing};
use crate::header::{HEADER_PAGE_SIZE, HEADER_SIZE, HeaderExpectation, HeaderFault, SegmentHeader};
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::limits::PAGE_SIZE;
use crate::mmap::CONTROL_FILE_NAME;
use crate::record::{read, scan_for_evidence};
use crate::recovery::Found;
use crate::repair::RepairError;
use crate::storage::{Look, Segment, Stored};

/// Reads the files, and what is to take their places.
#[derive(Debug)]
pub(super) struct Trial<'path> {
    pub(super) source: SegmentSource<'path>,
    control: Option<[u8; PAGE_SIZE]>,
    segments: BTreeMap<SegmentNumber, Content>,
}

/// Where the bytes of a segment come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The file as it is.
    File,
    /// The segment's archive, which is whole.
    Archive,
    /// The file up to this offset, zeros behind it.
    UpTo(usize),
}

/// A segment that was read.
pub(super) struct TrialSegment {
    number: SegmentNumber,
    bytes: Vec<u8>,
}

impl Segment for TrialSegment {
    fn number(&self) -> SegmentNumber {
        self.number
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }
}

/// What a segment or an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) incarnation: u64,
    pub(super) previous_incarnation: u64,
    pub(super) first_lsn: Lsn,
    pub(super) last_lsn: Lsn,
}

impl From<ArchiveSummary> for Identity {
    fn from(summary: ArchiveSummary) -> Identity {
        Identity {
            incarnation: summary.incarnation,
            previous_incarnation: summary.previous_incarnation,
            first_lsn: summary.first_lsn,
            last_lsn: summary.last_lsn,
        }
    }
}

impl<'path> Trial<'path> {
    pub(super) fn new(source: SegmentSource<'path>, files: &JournalFiles) -> Result<Trial<'path>, StorageError> {
        let path = source.directory.join(CONTROL_FILE_NAME);
        let control = match fs::read(&path) {
            Ok(page) => page.try_into().ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(StorageError::io(Action::Read, &path)(error)),
        };
        Ok(Trial {
            source,
            control,
            segments: files.segments.iter().map(|number| (*number, Content::File)).collect(),
        })
    }

    pub(super) fn control_path(&self) -> PathBuf {
        self.source.directory.join(CONTROL_FILE_NAME)
    }

    pub(super) fn segment_path(&self, number: SegmentNumber) -> PathBuf {
        self.source.segment_path(number)
    }

    /// What is wrong with the control page.
    pub(super) fn control_fault(&self) -> Option<Found> {
        let Some(page) = &self.control else {
            return Some(Found::ControlPageMissing);
        };
        match check_header(&array_at(page, 0), self.source.journal, self.source.segment_size) {
            Ok(()) => None,
            Err(ControlFault::NotValid) => Some(Found::ControlPageNotValid),
            // No damage: reading refuses it.
            Err(ControlFault::UnknownVersion(_)) => None,
            Err(ControlFault::OtherJournal) => Some(Found::ControlPageOfOtherJournal),
        }
    }

    /// The version of a control page that is intact, and of a newer program.
    pub(super) fn control_version(&self) -> Option<u32> {
        let header = array_at(self.control.as_ref()?, 0);
        match check_header(&header, self.source.journal, self.source.segment_size) {
            Err(ControlFault::UnknownVersion(version)) => Some(version),
            _ => None,
        }
    }

    pub(super) fn control(&self) -> ControlValues {
        ControlValues {
            durable_lsn: Lsn(self.control_load(ControlField::DurableLsn)),
            oldest_segment: SegmentNumber(self.control_load(ControlField::OldestSegment)),
            newest_durable_segment: SegmentNumber(self.control_load(ControlField::NewestDurableSegment)),
        }
    }

    pub(super) fn set_control(&mut self, values: ControlValues) {
        self.control = Some(control_page(&self.source, values));
    }

    /// The segments that there are, from this one on.
    pub(super) fn numbers_from(&self, number: SegmentNumber) -> Vec<SegmentNumber> {
        self.segments.range(number..).map(|(number, _)| *number).collect()
    }

    pub(super) fn content(&self, number: SegmentNumber) -> Option<Content> {
        self.segments.get(&number).copied()
    }

    /// Puts something in the segment's place; nothing takes it away.
    pub(super) fn put(&mut self, number: SegmentNumber, content: Option<Content>) {
        match content {
            Some(content) => self.segments.insert(number, content),
            None => self.segments.remove(&number),
        };
    }

    /// The segments that are taken from their archives.
    pub(super) fn restored(&self) -> impl Iterator<Item = SegmentNumber> + '_ {
        self.segments
            .iter()
            .filter(|(_, content)| **content == Content::Archive)
            .map(|(number, _)| *number)
    }

    /// The segment's header, if it is valid.
    pub(super) fn header(&mut self, number: SegmentNumber) -> Result<Option<SegmentHeader>, StorageError> {
        let Look::Header(bytes) = self.look(number)? else {
            return Ok(None);
        };
        Ok(SegmentHeader::decode(&bytes, self.expectation(number)).ok())
    }

    fn expectation(&self, number: SegmentNumber) -> HeaderExpectation {
        HeaderExpectation {
            journal: self.source.journal,
            number,
            file_size: self.source.segment_size,
        }
    }

    /// The highest LSN that the segments from this one on prove to have been durable: by their headers, and by their commit records above the
    /// hole.
    pub(super) fn proven(&mut self, from: SegmentNumber, hole: Lsn) -> Result<Lsn, StorageError> {
        let mut proven = Lsn(0);
        for number in self.numbers_from(from) {
            let Some(header) = self.header(number)? else {
                continue;
            };
            let seed = CrcFraming::seed(header.journal, header.incarnation, number);
            let segment = self.open(number)?;
            let scanned = scan_for_evidence::<CrcFraming>(&segment.bytes, seed, HEADER_PAGE_SIZE, hole);
            proven = proven.max(header.durable_lsn).max(scanned.unwrap_or_default());
        }
        Ok(proven)
    }

    /// Whether nothing that could be taken for a record of this segment lies behind its whole batches.
    pub(super) fn is_clean_behind(
        &mut self,
        number: SegmentNumber,
        end: usize,
        last: Lsn,
    ) -> Result<bool, StorageError> {
        let Some(header) = self.header(number)? else {
            return Ok(true);
        };
        let seed = CrcFraming::seed(header.journal, header.incarnation, number);
        let segment = self.open(number)?;
        let next = read::<CrcFraming>(&segment.bytes, seed, end, Lsn(last.0 + 1));
        let behind = scan_for_evidence::<CrcFraming>(&segment.bytes, seed, end, last);
        Ok(next.is_none() && behind.is_none())
    }

    /// What the whole batches of a segment are of, and the offset at which they end; what is wrong with it otherwise.
    pub(super) fn walk(&mut self, number: SegmentNumber) -> Result<Result<(Identity, u64), FileDamage>, RepairError> {
        let path = self.segment_path(number);
        let damage = |offset, fault| FileDamage {
            path: path.clone(),
            offset,
            fault,
        };
        if self.content(number).is_none() {
            return Ok(Err(damage(0, FileFault::Missing)));
        }
        let fault = damage(0, FileFault::Header);
        let header = match self.look(number)? {
            Look::Missing | Look::WrongSize => return Ok(Err(fault)),
            Look::Header(bytes) => match SegmentHeader::decode(&bytes, self.expectation(number)) {
                Ok(header) => header,
                Err(HeaderFault::NotValid) => return Ok(Err(fault)),
                Err(HeaderFault::OtherJournal(_)) => return Ok(Err(damage(0, FileFault::OtherFile))),
                Err(HeaderFault::UnknownVersion(version)) => {
                    return Err(RepairError::Newer(damage(0, FileFault::UnknownVersion(version))));
                }
            },
        };
        let seed = CrcFraming::seed(header.journal, header.incarnation, number);
        let segment = self.open(number)?;
        let mut batches = Batches::new(header.first_lsn);
        let (mut offset, mut lsn, mut end) = (HEADER_PAGE_SIZE, header.first_lsn, HEADER_PAGE_SIZE);
        while let Some((record, next)) = read::<CrcFraming>(&segment.bytes, seed, offset, lsn) {
            if !batches.take(&record) {
                break;
            }
            (offset, lsn) = (next, Lsn(lsn.0 + 1));
            if batches.open_from() == lsn {
                end = offset;
            }
        }
        let identity = Identity {
            incarnation: header.incarnation,
            previous_incarnation: header.previous_incarnation,
            first_lsn: header.first_lsn,
            last_lsn: Lsn(batches.open_from().0 - 1),
        };
        Ok(Ok((identity, end as u64)))
    }
}

impl Stored for Trial<'_> {
    type Segment = TrialSegment;

    fn journal_id(&self) -> JournalId {
        self.source.journal
    }

    fn segment_size(&self) -> usize {
        self.source.segment_size
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        self.control.as_ref().map(|page| array_at(page, 0))
    }

    fn control_load(&self, field: ControlField) -> u64 {
        self.control.as_ref().map_or(0, |page| u64_at(page, field.offset()))
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        Ok(self.segments.keys().copied().collect())
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        match self.content(number) {
            None => Ok(Look::Missing),
            Some(Content::Archive) => {
                let header = archived_header(&self.source, number).map_err(unreadable)?;
                Ok(Look::Header(header.encode()))
            }
            Some(Content::File | Content::UpTo(_)) => look_at_file(&self.source, number),
        }
    }

    fn open(&mut self, number: SegmentNumber) -> Result<TrialSegment, StorageError> {
        let mut bytes = match self.content(number) {
            Some(Content::Archive) => archived(&self.source, number).map_err(unreadable)?,
            content => {
                let path = self.segment_path(number);
                let mut bytes = fs::read(&path).map_err(StorageError::io(Action::Read, &path))?;
                if let Some(Content::UpTo(end)) = content {
                    bytes.truncate(end);
                }
                bytes
            }
        };
        bytes.resize(self.source.segment_size, 0);
        Ok(TrialSegment { number, bytes })
    }
}

/// An archive that was whole a moment ago.
pub(super) fn unreadable(error: FileError) -> StorageError {
    match error {
        FileError::Storage(error) => error,
        FileError::Damaged(FileDamage { ref path, .. }) | FileError::NotSealed { ref path } => StorageError::Io {
            action: Action::Read,
            path: path.clone(),
            source: std::io::Error::other(error),
        },
    }
}

fn look_at_file(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Look, StorageError> {
    let path = source.segment_path(number);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
        Err(error) => return Err(StorageError::io(Action::Open, &path)(error)),
    };
    let size = file.metadata().map_err(StorageError::io(Action::Read, &path))?.len();
    if size != source.segment_size as u64 {
        return Ok(Look::WrongSize);
    }
    let mut header = [0; HEADER_SIZE];
    file.read_exact(&mut header)
        .map_err(StorageError::io(Action::Read, &path))?;
    Ok(Look::Header(header))
}

/// The control page that says this.
pub(super) fn control_page(source: &SegmentSource<'_>, values: ControlValues) -> [u8; PAGE_SIZE] {
    let mut page = new_control_page(source.journal, source.segment_size);
    for (field, value) in [
        (ControlField::DurableLsn, values.durable_lsn.0),
        (ControlField::OldestSegment, values.oldest_segment.0),
        (ControlField::NewestDurableSegment, values.newest_durable_segment.0),
    ] {
        put(&mut page, field.offset(), &value.to_le_bytes());
    }
    page
}

/// A segment from its archive: the header's page, and the records behind it. What an archive does not hold is taken from the file's own header if that is
/// whole; otherwise it says that all before the segment was durable when it was opened, which is true by now.
pub(super) fn archived(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Vec<u8>, FileError> {
    let header = archived_header(source, number)?;
    let (_, records) = read_archive(&archive_path(source.directory, number))?;
    let mut bytes = vec![0; HEADER_PAGE_SIZE];
    put(&mut bytes, 0, &header.encode());
    bytes.extend_from_slice(&records);
    Ok(bytes)
}

/// The header of a segment from its archive.
fn archived_header(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<SegmentHeader, FileError> {
    let Some(summary) = archive_summary(source, number)? else {
        let path = archive_path(source.directory, number);
        let fault = FileFault::Missing;
        return Err(FileDamage { path, offset: 0, fault }.into());
    };
    let expected = HeaderExpectation {
        journal: source.journal,
        number,
        file_size: source.segment_size,
    };
    let own = match look_at_file(source, number)? {
        Look::Header(bytes) => SegmentHeader::decode(&bytes, expected).ok(),
        Look::Missing | Look::WrongSize => None,
    };
    let header = SegmentHeader {
        journal: source.journal,
        number,
        incarnation: summary.incarnation,
        first_lsn: summary.first_lsn,
        file_size: source.segment_size as u64,
        opened_at: summary.first_time,
        durable_lsn: Lsn(summary.first_lsn.0 - 1),
        previous_incarnation: summary.previous_incarnation,
    };
    let is_same = |own: &SegmentHeader| {
        (own.incarnation, own.first_lsn, own.previous_incarnation)
            == (header.incarnation, header.first_lsn, header.previous_incarnation)
    };
    Ok(own.filter(is_same).unwrap_or(header))
}
