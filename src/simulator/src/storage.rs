//! The journal's storage on a simulated disk.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use plimsoll_journal::{
    CONTROL_HEADER_SIZE, ControlField, HEADER_SIZE, JournalId, Look, Segment, SegmentNumber, Storage, StorageError,
};

use crate::disk::{CONTROL, Fuse, SEGMENT_SIZE, SimDisk, crashed};
use crate::memory::Memory;

/// A segment in the page cache of a [`SimStorage`].
pub struct SimSegment {
    number: SegmentNumber,
    memory: Rc<Memory>,
    fuse: Rc<Fuse>,
    /// Where stores go once the process is dead.
    nowhere: Vec<u8>,
    is_noticed: bool,
}

impl Segment for SimSegment {
    fn number(&self) -> SegmentNumber {
        self.number
    }

    fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    #[allow(unsafe_code)]
    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        if self.fuse.burn() {
            self.nowhere.clear();
            self.nowhere.extend_from_slice(&self.memory.bytes()[range]);
            return &mut self.nowhere;
        }
        // SAFETY: the result borrows this segment mutably. The journal has one segment that it stores into, and calls nothing of the storage
        // while it holds a slice of it; the disk is looked at only between calls of the journal.
        unsafe { self.memory.slice_mut(range, self.is_noticed) }
    }
}

/// The storage of one journal on a simulated disk, shared with the world that syncs it and takes its power away.
pub struct SimStorage {
    journal: JournalId,
    disk: Rc<RefCell<SimDisk>>,
    fuse: Rc<Fuse>,
}

impl SimStorage {
    pub(crate) fn new(disk: &Rc<RefCell<SimDisk>>) -> SimStorage {
        let (journal, fuse) = (disk.borrow().journal, Rc::clone(&disk.borrow().fuse));
        SimStorage {
            journal,
            disk: Rc::clone(disk),
            fuse,
        }
    }

    fn segment(&self, number: SegmentNumber, is_noticed: bool) -> Option<SimSegment> {
        let memory = Rc::clone(self.disk.borrow().memory(number.0)?);
        Some(SimSegment {
            number,
            memory,
            fuse: Rc::clone(&self.fuse),
            nowhere: Vec::new(),
            is_noticed,
        })
    }

    fn step(&self) -> Result<(), StorageError> {
        if self.fuse.burn() { Err(crashed()) } else { Ok(()) }
    }

    fn sync(&self, number: u64) -> Result<(), StorageError> {
        self.step()?;
        self.disk.borrow_mut().begin_sync(std::iter::once(number));
        // Between the two the process can be stopped with everything on its way.
        self.step()?;
        self.disk.borrow_mut().finish_sync();
        Ok(())
    }
}

impl Storage for SimStorage {
    type Segment = SimSegment;

    fn journal_id(&self) -> JournalId {
        self.journal
    }

    fn segment_size(&self) -> usize {
        SEGMENT_SIZE
    }

    fn take_prepared(&mut self, number: SegmentNumber) -> Option<SimSegment> {
        {
            let disk = &mut self.disk.borrow_mut();
            let front = *disk.prepared.front()?;
            assert_eq!(front, number.0, "the journal asks for the numbers in order");
            disk.prepared.pop_front();
        }
        self.segment(number, true)
    }

    fn prepared_count(&self) -> usize {
        self.disk.borrow().prepared.len()
    }

    #[expect(
        clippy::misnamed_getters,
        reason = "the journal learns that the disk is full from an attempt, not at once"
    )]
    fn is_full(&self) -> bool {
        self.disk.borrow().is_reported_full
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        self.disk.borrow().control().bytes().first_chunk().copied()
    }

    fn control_load(&self, field: ControlField) -> u64 {
        self.disk.borrow().control_field(field)
    }

    fn control_store(&mut self, field: ControlField, value: u64) {
        if !self.fuse.burn() {
            self.disk.borrow().control().store(field.offset(), &value.to_le_bytes());
        }
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        self.step()?;
        let mut numbers: Vec<_> = self.disk.borrow().numbers().map(SegmentNumber).collect();
        // In any order; this is one that nobody would expect.
        let middle = numbers.len() / 2;
        numbers.rotate_left(middle);
        Ok(numbers)
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        self.step()?;
        let disk = self.disk.borrow();
        let Some(memory) = disk.memory(number.0) else {
            return Ok(Look::Missing);
        };
        Ok(Look::Header(
            *memory
                .bytes()
                .first_chunk::<HEADER_SIZE>()
                .expect("a segment has a header"),
        ))
    }

    fn open(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        self.step()?;
        let is_noticed = !self.disk.borrow().plants.rewrite_is_dropped;
        self.segment(number, is_noticed).ok_or_else(crashed)
    }

    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.step()?;
        if self.disk.borrow_mut().remove(number.0) {
            Ok(())
        } else {
            Err(crashed())
        }
    }

    fn sync_removals(&mut self) -> Result<(), StorageError> {
        self.step()?;
        self.disk.borrow_mut().sync_removals();
        Ok(())
    }

    fn prepare(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        self.step()?;
        {
            let disk = &mut self.disk.borrow_mut();
            disk.prepare(number.0)?;
            disk.prepare_next = number.0 + 1;
        }
        self.step()?;
        Ok(self.segment(number, true).expect("it was prepared right now"))
    }

    fn sync_segment(&mut self, segment: &SimSegment) -> Result<(), StorageError> {
        self.sync(segment.number.0)
    }

    fn sync_control(&mut self) -> Result<(), StorageError> {
        self.sync(CONTROL)
    }
}
