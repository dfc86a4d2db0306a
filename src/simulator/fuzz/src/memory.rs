//! A journal's storage in memory: whatever stands in its files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use plimsoll_journal::{
    Action, CONTROL_HEADER_SIZE, ControlField, HEADER_SIZE, JournalId, Look, Segment, SegmentNumber, Storage,
    StorageError, limits::SEGMENT_SIZE_MIN, new_control_page,
};

pub(crate) const JOURNAL: JournalId = JournalId([7; 16]);
pub(crate) const SIZE: usize = SEGMENT_SIZE_MIN;

/// The files of a journal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) control: Option<[u8; 4096]>,
    pub(crate) segments: BTreeMap<u64, Vec<u8>>,
}

impl Files {
    pub(crate) fn new() -> Files {
        Files {
            control: Some(new_control_page(JOURNAL, SIZE)),
            segments: BTreeMap::new(),
        }
    }

    pub(crate) fn set(&mut self, field: ControlField, value: u64) {
        if let Some(control) = &mut self.control {
            control[field.offset()..][..8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

pub(crate) struct MemorySegment {
    number: SegmentNumber,
    bytes: Vec<u8>,
}

impl Segment for MemorySegment {
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

/// Shares its files with whoever looks at them afterwards. What was stored into a segment is in its file once it is synced or retired.
pub(crate) struct MemoryStorage(pub(crate) Rc<RefCell<Files>>);

fn missing() -> StorageError {
    StorageError::Io {
        action: Action::Open,
        path: PathBuf::from("segment"),
        source: io::Error::from(io::ErrorKind::NotFound),
    }
}

impl MemoryStorage {
    fn store(&mut self, segment: &MemorySegment) {
        self.0
            .borrow_mut()
            .segments
            .insert(segment.number.0, segment.bytes.clone());
    }
}

impl Storage for MemoryStorage {
    type Segment = MemorySegment;

    fn journal_id(&self) -> JournalId {
        JOURNAL
    }

    fn segment_size(&self) -> usize {
        SIZE
    }

    fn take_prepared(&mut self, number: SegmentNumber) -> Option<MemorySegment> {
        Some(MemorySegment {
            number,
            bytes: vec![0; SIZE],
        })
    }

    fn retire(&mut self, segment: MemorySegment) {
        self.store(&segment);
    }

    fn prepared_count(&self) -> usize {
        3
    }

    fn is_full(&self) -> bool {
        false
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        let files = self.0.borrow();
        files.control.as_ref().and_then(|page| page.first_chunk().copied())
    }

    fn control_load(&self, field: ControlField) -> u64 {
        let files = self.0.borrow();
        let page = files.control.as_ref().expect("the header was there");
        let field = page[field.offset()..].first_chunk().expect("a page holds its fields");
        u64::from_le_bytes(*field)
    }

    fn control_store(&mut self, field: ControlField, value: u64) {
        self.0.borrow_mut().set(field, value);
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        Ok(self
            .0
            .borrow()
            .segments
            .keys()
            .rev()
            .map(|number| SegmentNumber(*number))
            .collect())
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        let files = self.0.borrow();
        Ok(match files.segments.get(&number.0) {
            None => Look::Missing,
            Some(bytes) if bytes.len() != SIZE => Look::WrongSize,
            Some(bytes) => Look::Header(*bytes.first_chunk::<HEADER_SIZE>().expect("a segment has a header")),
        })
    }

    fn open(&mut self, number: SegmentNumber) -> Result<MemorySegment, StorageError> {
        let files = self.0.borrow();
        let bytes = files.segments.get(&number.0).filter(|bytes| bytes.len() == SIZE);
        let bytes = bytes.ok_or_else(missing)?.clone();
        Ok(MemorySegment { number, bytes })
    }

    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.0
            .borrow_mut()
            .segments
            .remove(&number.0)
            .map(drop)
            .ok_or_else(missing)
    }

    fn sync_removals(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn prepare(&mut self, number: SegmentNumber) -> Result<MemorySegment, StorageError> {
        let segment = MemorySegment {
            number,
            bytes: vec![0; SIZE],
        };
        self.store(&segment);
        Ok(segment)
    }

    fn sync_segment(&mut self, segment: &MemorySegment) -> Result<(), StorageError> {
        self.store(segment);
        Ok(())
    }

    fn sync_control(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
