//! A journal's storage in memory, so that a bench measures the engine and no disk.
//!
//! - A segment that is being written belongs to the journal alone; the disk has it once it is given up. So the bytes have
//!   one owner while they are stored into, and nothing is copied.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use plimsoll_journal::{
    CONTROL_HEADER_SIZE, ControlField, HEADER_SIZE, JournalId, Look, Segment, SegmentNumber, Storage, StorageError,
    limits, new_control_page,
};

const JOURNAL: JournalId = JournalId([7; 16]);
/// Always enough, whatever the priority of a record.
const PREPARED_COUNT: usize = limits::RING_SEGMENT_COUNT_DEFAULT;

/// What becomes of a segment that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullSegments {
    /// It stays, so that recovery can read it.
    Stay,
    /// Its memory is used again, so that a bench runs for as long as it likes.
    AreUsedAgain,
}

/// What remains of a journal when its engine is gone.
#[derive(Clone)]
pub struct SimDisk(Rc<RefCell<Contents>>);

struct Contents {
    segments: BTreeMap<SegmentNumber, Rc<Vec<u8>>>,
    control: [u8; limits::PAGE_SIZE],
    segment_size: usize,
}

/// The storage of a journal on a [`SimDisk`].
pub struct SimStorage {
    disk: SimDisk,
    full_segments: FullSegments,
    spare: Vec<Rc<Vec<u8>>>,
}

/// A segment in memory.
pub struct SimSegment {
    number: SegmentNumber,
    bytes: Rc<Vec<u8>>,
    disk: SimDisk,
    /// The disk does not have these bytes yet.
    is_new: bool,
}

impl SimDisk {
    /// An empty one. The size must be one that segments may have.
    pub fn new(segment_size: usize) -> SimDisk {
        SimDisk(Rc::new(RefCell::new(Contents {
            segments: BTreeMap::new(),
            control: new_control_page(JOURNAL, segment_size),
            segment_size,
        })))
    }

    /// The storage of the journal. One at a time.
    pub fn storage(&self, full_segments: FullSegments) -> SimStorage {
        SimStorage {
            disk: self.clone(),
            full_segments,
            spare: Vec::new(),
        }
    }
}

impl SimStorage {
    fn fresh(&mut self, number: SegmentNumber) -> SimSegment {
        let segment_size = self.segment_size();
        let bytes = self.spare.pop().unwrap_or_else(|| Rc::new(vec![0; segment_size]));
        SimSegment {
            number,
            bytes,
            disk: self.disk.clone(),
            is_new: true,
        }
    }
}

impl Segment for SimSegment {
    fn number(&self) -> SegmentNumber {
        self.number
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.is_new = true;
        &mut Rc::make_mut(&mut self.bytes)[range]
    }
}

impl Drop for SimSegment {
    fn drop(&mut self) {
        if self.is_new {
            let segments = &mut self.disk.0.borrow_mut().segments;
            segments.insert(self.number, Rc::clone(&self.bytes));
        }
    }
}

impl Storage for SimStorage {
    type Segment = SimSegment;

    fn journal_id(&self) -> JournalId {
        JOURNAL
    }

    fn segment_size(&self) -> usize {
        self.disk.0.borrow().segment_size
    }

    fn take_prepared(&mut self, number: SegmentNumber) -> Option<SimSegment> {
        Some(self.fresh(number))
    }

    fn retire(&mut self, mut segment: SimSegment) {
        if self.full_segments == FullSegments::AreUsedAgain {
            segment.is_new = false;
            self.spare.push(Rc::clone(&segment.bytes));
        }
    }

    fn prepared_count(&self) -> usize {
        PREPARED_COUNT
    }

    fn is_full(&self) -> bool {
        false
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        self.disk.0.borrow().control.first_chunk().copied()
    }

    fn control_load(&self, field: ControlField) -> u64 {
        let bytes = &self.disk.0.borrow().control[field.offset()..][..8];
        u64::from_le_bytes(bytes.try_into().expect("a field has 8 bytes"))
    }

    fn control_store(&mut self, field: ControlField, value: u64) {
        self.disk.0.borrow_mut().control[field.offset()..][..8].copy_from_slice(&value.to_le_bytes());
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        Ok(self.disk.0.borrow().segments.keys().copied().collect())
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        let disk = self.disk.0.borrow();
        let found = disk.segments.get(&number).map(|bytes| {
            let header = bytes.first_chunk::<HEADER_SIZE>();
            Look::Header(*header.expect("a segment has a header"))
        });
        Ok(found.unwrap_or(Look::Missing))
    }

    fn open(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        let bytes = Rc::clone(&self.disk.0.borrow().segments[&number]);
        Ok(SimSegment {
            number,
            bytes,
            disk: self.disk.clone(),
            is_new: false,
        })
    }

    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.disk.0.borrow_mut().segments.remove(&number);
        Ok(())
    }

    fn sync_removals(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn prepare(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        Ok(self.fresh(number))
    }

    fn sync_segment(&mut self, _segment: &SimSegment) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync_control(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
