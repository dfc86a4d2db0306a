//! A simulated disk: pages of 4 KiB, of which any subset of the unsynced ones survives a crash.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use crate::bytes::{array_at, put, u64_at};
use crate::control::{CONTROL_HEADER_SIZE, ControlField, new_control_page};
use crate::error::{Action, StorageError};
use crate::identifier::{JournalId, SegmentNumber};
use crate::limits::PAGE_SIZE;
use crate::storage::{Look, Segment, Storage};

pub(crate) const JOURNAL: JournalId = JournalId([0xA5; 16]);
pub(crate) const SIZE: usize = 64 * 1024;

/// A small generator with a fixed stream.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    pub(crate) fn is_one_in(&mut self, count: u64) -> bool {
        self.roll().is_multiple_of(count)
    }
}

/// A file: what the disk holds, what the page cache holds, and which pages of the cache the disk is to get.
#[derive(Clone)]
pub(crate) struct SimFile {
    pub(crate) durable: Vec<u8>,
    pub(crate) cached: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl SimFile {
    fn new(bytes: Vec<u8>) -> SimFile {
        SimFile {
            cached: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }

    fn write_page(&mut self, page: usize) {
        let range = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.write_page(page);
        }
    }
}

pub(crate) struct Disk {
    pub(crate) files: BTreeMap<SegmentNumber, SimFile>,
    /// Removed, and back after a crash unless the removal is synced.
    removed: BTreeMap<SegmentNumber, SimFile>,
    pub(crate) control: Option<SimFile>,
    /// Fallible operations until the machine crashes.
    pub(crate) fuel: Option<usize>,
    /// Segments that there is room for.
    pub(crate) room: usize,
    pub(crate) ring: usize,
    /// What prepared segments are filled with, from what was last in them.
    pub(crate) stale: BTreeMap<SegmentNumber, Vec<u8>>,
    pub(crate) removals: Vec<SegmentNumber>,
}

#[derive(Clone)]
pub(crate) struct SimStorage {
    pub(crate) disk: Rc<RefCell<Disk>>,
    next: SegmentNumber,
}

#[derive(Clone)]
pub(crate) struct SimSegment {
    number: SegmentNumber,
    bytes: Vec<u8>,
    dirty: BTreeSet<usize>,
    disk: Rc<RefCell<Disk>>,
}

impl SimSegment {
    /// Puts what was stored so far into the page cache.
    pub(crate) fn flush(&self) {
        let mut disk = self.disk.borrow_mut();
        // A removed file is nobody's concern.
        if let Some(file) = disk.files.get_mut(&self.number) {
            for page in &self.dirty {
                let range = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
                if file.cached[range.clone()] != self.bytes[range.clone()] {
                    file.dirty.insert(*page);
                    file.cached[range.clone()].copy_from_slice(&self.bytes[range]);
                }
            }
        }
    }

    /// As [`SimSegment::flush`]; pages that hold what they held before become dirty too.
    fn flush_all(&self) {
        self.flush();
        let mut disk = self.disk.borrow_mut();
        if let Some(file) = disk.files.get_mut(&self.number) {
            file.dirty.extend(&self.dirty);
        }
    }
}

impl Drop for SimSegment {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Segment for SimSegment {
    fn number(&self) -> SegmentNumber {
        self.number
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.dirty
            .extend(range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE));
        &mut self.bytes[range]
    }
}

impl SimStorage {
    pub(crate) fn new() -> SimStorage {
        let control = Some(SimFile::new(new_control_page(JOURNAL, SIZE).to_vec()));
        let disk = Disk {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            control,
            fuel: None,
            room: usize::MAX,
            ring: 3,
            stale: BTreeMap::new(),
            removals: Vec::new(),
        };
        SimStorage {
            disk: Rc::new(RefCell::new(disk)),
            next: SegmentNumber(0),
        }
    }

    /// A storage on the same disk, as a new process has it.
    pub(crate) fn reopened(&self) -> SimStorage {
        SimStorage {
            disk: Rc::clone(&self.disk),
            next: SegmentNumber(0),
        }
    }

    /// The machine loses power: any subset of what was not synced is on the disk. Each unsynced page survives if the dice say so.
    pub(crate) fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut disk = self.disk.borrow_mut();
        disk.fuel = None;
        for (number, file) in std::mem::take(&mut disk.removed) {
            if survives() {
                disk.files.entry(number).or_insert(file);
            }
        }
        let Disk { files, control, .. } = &mut *disk;
        for file in files.values_mut().chain(control) {
            for page in std::mem::take(&mut file.dirty) {
                if survives() {
                    file.write_page(page);
                }
            }
            file.cached.clone_from(&file.durable);
        }
    }

    /// The kernel writes some pages when it likes, without anybody knowing.
    pub(crate) fn write_back(&self, mut is_chosen: impl FnMut() -> bool) {
        let mut disk = self.disk.borrow_mut();
        for file in disk.files.values_mut() {
            for page in file.dirty.clone() {
                if is_chosen() {
                    file.write_page(page);
                    file.dirty.remove(&page);
                }
            }
        }
    }

    /// A sync fails: the kernel takes the pages for clean from now on, although the disk has not got them.
    pub(crate) fn fail_sync(&self) {
        for file in self.disk.borrow_mut().files.values_mut() {
            file.dirty.clear();
        }
    }

    pub(crate) fn sync(&self, number: SegmentNumber) {
        self.disk
            .borrow_mut()
            .files
            .get_mut(&number)
            .expect("the segment is there")
            .sync();
    }

    pub(crate) fn sync_the_control(&self) {
        self.disk.borrow_mut().control.as_mut().expect("a control page").sync();
    }

    /// Changes bytes behind the journal's back, durably.
    pub(crate) fn damage(&self, number: SegmentNumber, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk.borrow_mut();
        let file = disk.files.get_mut(&number).expect("the segment is there");
        change(&mut file.durable);
        file.cached.clone_from(&file.durable);
        file.dirty.clear();
    }

    pub(crate) fn put_file(&self, number: SegmentNumber, bytes: Vec<u8>) {
        self.disk.borrow_mut().files.insert(number, SimFile::new(bytes));
    }

    pub(crate) fn set_control(&self, field: ControlField, value: u64) {
        let mut disk = self.disk.borrow_mut();
        let file = disk.control.as_mut().expect("a control page");
        put(&mut file.durable, field.offset(), &value.to_le_bytes());
        file.cached.clone_from(&file.durable);
    }

    /// The numbers of the files.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.disk.borrow().files.keys().map(|number| number.0).collect()
    }

    fn spend(&self, path: &str) -> Result<(), StorageError> {
        let mut disk = self.disk.borrow_mut();
        match &mut disk.fuel {
            Some(0) => Err(StorageError::io(Action::Sync, &PathBuf::from(path))(
                io::ErrorKind::Interrupted.into(),
            )),
            Some(fuel) => {
                *fuel -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn make(&mut self, number: SegmentNumber) -> SimSegment {
        let mut disk = self.disk.borrow_mut();
        disk.room -= 1;
        let bytes = disk.stale.remove(&number).unwrap_or_else(|| vec![0; SIZE]);
        assert!(
            disk.files.insert(number, SimFile::new(bytes.clone())).is_none(),
            "{number} is there already"
        );
        self.next = number.next();
        SimSegment {
            number,
            bytes,
            dirty: BTreeSet::new(),
            disk: Rc::clone(&self.disk),
        }
    }
}

impl Storage for SimStorage {
    type Segment = SimSegment;

    fn journal_id(&self) -> JournalId {
        JOURNAL
    }

    fn segment_size(&self) -> usize {
        SIZE
    }

    fn take_prepared(&mut self, number: SegmentNumber) -> Option<SimSegment> {
        assert_eq!(number, self.next);
        if self.prepared_count() == 0 {
            return None;
        }
        self.disk.borrow_mut().ring -= 1;
        Some(self.make(number))
    }

    fn prepared_count(&self) -> usize {
        let disk = self.disk.borrow();
        disk.ring.min(disk.room)
    }

    fn is_full(&self) -> bool {
        self.disk.borrow().room == 0
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        self.disk
            .borrow()
            .control
            .as_ref()
            .map(|file| array_at(&file.cached, 0))
    }

    fn control_load(&self, field: ControlField) -> u64 {
        u64_at(
            &self.disk.borrow().control.as_ref().expect("a control page").cached,
            field.offset(),
        )
    }

    fn control_store(&mut self, field: ControlField, value: u64) {
        let mut disk = self.disk.borrow_mut();
        let file = disk.control.as_mut().expect("a control page");
        assert!(value >= u64_at(&file.cached, field.offset()), "{field:?} only grows");
        put(&mut file.cached, field.offset(), &value.to_le_bytes());
        file.dirty.insert(0);
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        self.spend("list")?;
        Ok(self.disk.borrow().files.keys().rev().copied().collect())
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        let disk = self.disk.borrow();
        Ok(match disk.files.get(&number) {
            None => Look::Missing,
            Some(file) if file.cached.len() != SIZE => Look::WrongSize,
            Some(file) => Look::Header(array_at(&file.cached, 0)),
        })
    }

    fn open(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        let bytes = self.disk.borrow().files[&number].cached.clone();
        Ok(SimSegment {
            number,
            bytes,
            dirty: BTreeSet::new(),
            disk: Rc::clone(&self.disk),
        })
    }

    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.spend("remove")?;
        let mut disk = self.disk.borrow_mut();
        let file = disk.files.remove(&number).expect("the segment is there");
        let mut stale = file.cached.clone();
        // Whoever uses the file again sees to it that no header of that number is left.
        stale.truncate(SIZE);
        stale.resize(SIZE, 0);
        stale[..PAGE_SIZE].fill(0);
        disk.stale.insert(number, stale);
        disk.removed.insert(number, file);
        disk.removals.push(number);
        Ok(())
    }

    fn sync_removals(&mut self) -> Result<(), StorageError> {
        self.spend("sync of removals")?;
        self.disk.borrow_mut().removed.clear();
        Ok(())
    }

    fn prepare(&mut self, number: SegmentNumber) -> Result<SimSegment, StorageError> {
        self.spend("prepare")?;
        if self.disk.borrow().room == 0 {
            let source = rustix::io::Errno::NOSPC.into();
            return Err(StorageError::NoRoom {
                path: "next".into(),
                bytes_needed: SIZE as u64,
                source,
            });
        }
        self.disk.borrow_mut().ring = 3;
        Ok(self.make(number))
    }

    fn sync_segment(&mut self, segment: &SimSegment) -> Result<(), StorageError> {
        segment.flush_all();
        self.spend("sync of a segment")?;
        self.sync(segment.number);
        Ok(())
    }

    fn sync_control(&mut self) -> Result<(), StorageError> {
        self.spend("sync of the control page")?;
        self.sync_the_control();
        Ok(())
    }
}
