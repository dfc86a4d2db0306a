//! The simulated disk of one journal, and the kernel's page cache over it.
//!
//! Invariants:
//! - Outside of a power loss the cache is what everybody reads; after it the cache is what is on the disk.
//! - A page reaches the disk as a whole: by a sync, by the kernel's own will, or at a power loss as one of those that survive.
//! - A failed sync leaves pages clean in the cache that never reached the disk.
//! - Creations are durable at once, as `Storage` asks; removals only after `sync_removals`, and until then a power loss undoes any of them.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use plimsoll_journal::{Action, ControlField, JournalId, StorageError, new_control_page};

use crate::dice::Dice;
use crate::memory::{Memory, PAGE_SIZE, each_page};

pub(crate) const SEGMENT_SIZE: usize = plimsoll_journal::limits::SEGMENT_SIZE_MIN;
/// The number under which the control page stands among the files.
pub(crate) const CONTROL: u64 = 0;
/// Contents of removed segments that are kept for the next ones.
const GRAVEYARD_COUNT_MAX: usize = 8;

thread_local! {
    static ZEROS: Rc<[u8]> = Rc::from(vec![0; SEGMENT_SIZE]);
}

/// Stops the process after so many operations of the storage.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: Cell<u64>,
}

impl Fuse {
    pub(crate) fn set(&self, operations: Option<u64>) {
        self.left.set(operations.unwrap_or(u64::MAX));
    }

    /// Counts an operation. True when the process is dead: the operation must have no effect.
    pub(crate) fn burn(&self) -> bool {
        match self.left.get() {
            0 => true,
            u64::MAX => false,
            left => {
                self.left.set(left - 1);
                left == 1
            }
        }
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.left.get() == 0
    }
}

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse {
            left: Cell::new(u64::MAX),
        }
    }
}

/// What prepared segments hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    Zeros,
    Garbage,
    /// Old bytes of removed segments of this journal, the same number's if there are any.
    Recycled,
}

/// What is broken below the journal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskPlants {
    pub(crate) rewrite_is_dropped: bool,
    pub(crate) sync_loses_page: bool,
}

pub(crate) struct File {
    pub(crate) memory: Rc<Memory>,
    /// Shared with copies of the disk until one of them writes.
    durable: Rc<[u8]>,
}

impl File {
    fn new(bytes: Rc<[u8]>) -> File {
        File {
            durable: Rc::clone(&bytes),
            memory: Rc::new(Memory::new(bytes)),
        }
    }

    fn write_page(&mut self, page: usize, bytes: &[u8]) {
        Rc::make_mut(&mut self.durable)[page * PAGE_SIZE..(page + 1) * PAGE_SIZE].copy_from_slice(bytes);
    }

    /// Writes what is cached of the page.
    fn write_cached(&mut self, page: usize) {
        let memory = Rc::clone(&self.memory);
        self.write_page(page, memory.page(page));
        memory.agree(page);
    }

    fn forget_cache(&self) {
        self.memory.clean(u64::MAX);
        for page in each_page(self.memory.diverged()) {
            self.memory
                .load_page(page, &self.durable[page * PAGE_SIZE..(page + 1) * PAGE_SIZE]);
        }
    }

    fn copy(&self) -> File {
        File {
            memory: Rc::new(self.memory.copy()),
            durable: Rc::clone(&self.durable),
        }
    }
}

/// A page on its way to the disk.
struct Flight {
    number: u64,
    page: usize,
    bytes: Box<[u8]>,
}

pub(crate) struct SimDisk {
    pub(crate) journal: JournalId,
    files: BTreeMap<u64, File>,
    removed: BTreeMap<u64, File>,
    graveyard: VecDeque<(u64, Rc<[u8]>)>,
    flights: Vec<Flight>,
    pub(crate) prepared: VecDeque<u64>,
    /// The number that is prepared next; 0 before recovery has prepared one.
    pub(crate) prepare_next: u64,
    pub(crate) ring_segment_count: usize,
    /// No room for another segment.
    pub(crate) is_full: bool,
    /// The last attempt to prepare one failed for that.
    pub(crate) is_reported_full: bool,
    pub(crate) stale: Stale,
    pub(crate) plants: DiskPlants,
    pub(crate) fuse: Rc<Fuse>,
    dice: Dice,
}

impl SimDisk {
    pub(crate) fn new(journal: JournalId, stale: Stale, plants: DiskPlants, dice: Dice) -> SimDisk {
        let control = File::new(Rc::from(new_control_page(journal, SEGMENT_SIZE).as_slice()));
        SimDisk {
            journal,
            files: BTreeMap::from([(CONTROL, control)]),
            removed: BTreeMap::new(),
            graveyard: VecDeque::new(),
            flights: Vec::new(),
            prepared: VecDeque::new(),
            prepare_next: 0,
            ring_segment_count: 3,
            is_full: false,
            is_reported_full: false,
            stale,
            plants,
            fuse: Rc::default(),
            dice,
        }
    }

    /// The same disk and cache once more, for a recovery that must change nothing here.
    pub(crate) fn copy(&self) -> SimDisk {
        let copy = |files: &BTreeMap<u64, File>| files.iter().map(|(number, file)| (*number, file.copy())).collect();
        SimDisk {
            files: copy(&self.files),
            removed: copy(&self.removed),
            graveyard: VecDeque::new(),
            flights: Vec::new(),
            prepared: VecDeque::new(),
            prepare_next: 0,
            ring_segment_count: self.ring_segment_count,
            is_full: false,
            is_reported_full: false,
            stale: Stale::Zeros,
            plants: self.plants,
            fuse: Rc::default(),
            dice: self.dice.clone(),
            journal: self.journal,
        }
    }

    /// What a snapshot covers is gone.
    pub(crate) fn remove_before(&mut self, first: u64) {
        self.files.retain(|number, _| *number == CONTROL || *number >= first);
    }

    pub(crate) fn memory(&self, number: u64) -> Option<&Rc<Memory>> {
        self.files.get(&number).map(|file| &file.memory)
    }

    /// The numbers of the segments, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.files.keys().copied().filter(|number| *number != CONTROL)
    }

    pub(crate) fn control(&self) -> &Memory {
        &self.files[&CONTROL].memory
    }

    pub(crate) fn control_field(&self, field: ControlField) -> u64 {
        self.control().u64_at(field.offset())
    }

    /// Begins to write the dirty pages of these files as they are now.
    pub(crate) fn begin_sync(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let Some(file) = self.files.get(&number) else { continue };
            let dirty = file.memory.dirty();
            for page in each_page(dirty) {
                self.flights.push(Flight {
                    number,
                    page,
                    bytes: file.memory.page(page).into(),
                });
            }
            file.memory.clean(dirty);
        }
        if self.plants.sync_loses_page && self.flights.len() > 1 {
            let lost = self.dice.index(self.flights.len());
            self.flights.swap_remove(lost);
        }
    }

    /// Everything on its way has arrived; of a page that was stored into meanwhile, either version.
    pub(crate) fn finish_sync(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            let Some(file) = self.files.get_mut(&flight.number) else {
                continue;
            };
            if file.memory.dirty() >> flight.page & 1 == 0 {
                file.write_cached(flight.page);
            } else if self.dice.permille(250) {
                let memory = Rc::clone(&file.memory);
                file.write_page(flight.page, memory.page(flight.page));
            } else {
                file.write_page(flight.page, &flight.bytes);
            }
        }
    }

    /// The sync fails: some pages arrived, the others count as clean all the same, as Linux has it.
    pub(crate) fn fail_sync(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            if self.dice.coin()
                && let Some(file) = self.files.get_mut(&flight.number)
            {
                file.write_page(flight.page, &flight.bytes);
            }
        }
    }

    /// The kernel writes a dirty page because it likes to.
    pub(crate) fn write_back(&mut self) {
        let dirty: Vec<_> = self
            .files
            .iter()
            .filter(|(_, file)| file.memory.dirty() != 0)
            .map(|(number, _)| *number)
            .collect();
        if dirty.is_empty() {
            return;
        }
        let file = self
            .files
            .get_mut(&dirty[self.dice.index(dirty.len())])
            .expect("a file of the list");
        let pages: Vec<_> = each_page(file.memory.dirty()).collect();
        let page = pages[self.dice.index(pages.len())];
        file.write_cached(page);
        file.memory.clean(1 << page);
    }

    /// The process is gone, the kernel is not: everything stored stays, and what was on its way goes on.
    pub(crate) fn kill(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            if let Some(file) = self.files.get_mut(&flight.number) {
                if self.dice.coin() {
                    file.write_page(flight.page, &flight.bytes);
                }
                file.memory.soil(1 << flight.page);
            }
        }
        self.end_process();
    }

    /// The power is gone: of what was not synced any part survives, page by page and removal by removal.
    pub(crate) fn lose_power(&mut self) {
        let survivors = self.dice.pick(&[0, 100, 500, 500, 900, 1000]);
        for flight in std::mem::take(&mut self.flights) {
            if self.dice.permille(survivors)
                && let Some(file) = self.files.get_mut(&flight.number)
            {
                file.write_page(flight.page, &flight.bytes);
            }
        }
        for (number, file) in std::mem::take(&mut self.removed) {
            if self.dice.coin() && !self.files.contains_key(&number) {
                self.files.insert(number, file);
            } else {
                self.bury(number, file.memory.shared());
            }
        }
        for file in self.files.values_mut() {
            for page in each_page(file.memory.dirty()) {
                if self.dice.permille(survivors) {
                    file.write_cached(page);
                }
            }
            file.forget_cache();
        }
        self.end_process();
    }

    /// As if the power had been lost and nothing had survived that was not synced.
    pub(crate) fn lose_everything(&mut self) {
        self.flights.clear();
        let removed = std::mem::take(&mut self.removed);
        self.files.extend(removed);
        for file in self.files.values() {
            file.forget_cache();
        }
        self.end_process();
    }

    fn end_process(&mut self) {
        self.prepared.clear();
        self.prepare_next = 0;
        self.is_reported_full = false;
        self.fuse.set(None);
    }

    /// Flips a bit on the disk; the cache is what is on the disk.
    pub(crate) fn flip(&mut self, number: u64, offset: usize, bit: u32) {
        let file = self.files.get_mut(&number).expect("a bit of an existing file");
        Rc::make_mut(&mut file.durable)[offset] ^= 1 << bit;
        let page = offset / PAGE_SIZE;
        file.memory
            .load_page(page, &file.durable[page * PAGE_SIZE..(page + 1) * PAGE_SIZE]);
    }

    pub(crate) fn remove(&mut self, number: u64) -> bool {
        match self.files.remove(&number) {
            Some(file) => {
                self.removed.insert(number, file);
                true
            }
            None => false,
        }
    }

    pub(crate) fn sync_removals(&mut self) {
        for (number, file) in std::mem::take(&mut self.removed) {
            self.bury(number, file.memory.shared());
        }
    }

    fn bury(&mut self, number: u64, bytes: Rc<[u8]>) {
        if self.graveyard.len() == GRAVEYARD_COUNT_MAX {
            self.graveyard.pop_front();
        }
        self.graveyard.push_back((number, bytes));
    }

    /// Makes a segment with old bytes in it.
    pub(crate) fn prepare(&mut self, number: u64) -> Result<(), StorageError> {
        let path = PathBuf::from(format!("{number:010}.segment"));
        if self.files.contains_key(&number) {
            return Err(StorageError::InTheWay { path });
        }
        if self.is_full {
            // ENOSPC
            let source = io::Error::from_raw_os_error(28);
            return Err(StorageError::NoRoom {
                path,
                bytes_needed: SEGMENT_SIZE as u64,
                source,
            });
        }
        let bytes = self.old_bytes(number);
        self.files.insert(number, File::new(bytes));
        Ok(())
    }

    fn old_bytes(&mut self, number: u64) -> Rc<[u8]> {
        let mut bytes = ZEROS.with(Rc::clone);
        match self.stale {
            Stale::Zeros => {}
            Stale::Garbage => {
                for chunk in Rc::make_mut(&mut bytes).chunks_exact_mut(8) {
                    chunk.copy_from_slice(&self.dice.bits().to_le_bytes());
                }
            }
            Stale::Recycled => {
                let same = self.graveyard.iter().rposition(|(buried, _)| *buried == number);
                let index = same.or_else(|| self.graveyard.len().checked_sub(1));
                if let Some((buried, old)) = index.and_then(|index| self.graveyard.remove(index)) {
                    bytes = old;
                    // Whatever is prepared has no header that is valid for its number.
                    if buried == number {
                        Rc::make_mut(&mut bytes)[..PAGE_SIZE].fill(0);
                    }
                }
            }
        }
        bytes
    }

    /// The preparing thread makes one segment, if the ring has room for it.
    pub(crate) fn prepare_ahead(&mut self) -> bool {
        if self.prepare_next == 0 || self.prepared.len() >= self.ring_segment_count {
            return false;
        }
        let number = self.prepare_next;
        match self.prepare(number) {
            Ok(()) => {
                self.is_reported_full = false;
                self.prepared.push_back(number);
                self.prepare_next += 1;
                true
            }
            Err(_) => {
                self.is_reported_full = true;
                false
            }
        }
    }
}

pub(crate) fn crashed() -> StorageError {
    StorageError::Io {
        action: Action::Sync,
        path: PathBuf::from("simulated"),
        source: io::Error::other("the process was stopped here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> SimDisk {
        let mut disk = SimDisk::new(JournalId([1; 16]), Stale::Zeros, DiskPlants::default(), Dice::new(1, 1));
        disk.prepare(1).expect("there is room");
        disk
    }

    fn store(disk: &SimDisk, byte: u8) {
        disk.memory(1).expect("the segment").store(0, &[byte]);
    }

    fn byte(disk: &SimDisk) -> u8 {
        disk.memory(1).map_or(0, |memory| memory.bytes()[0])
    }

    #[test]
    fn what_is_synced_survives_a_power_loss() {
        let mut disk = disk();
        store(&disk, 1);
        disk.begin_sync(1..=1);
        disk.finish_sync();
        store(&disk, 2);
        disk.lose_everything();
        assert_eq!(byte(&disk), 1);
    }

    #[test]
    fn what_is_not_synced_may_survive_or_not() {
        let mut seen = [false; 2];
        for seed in 0..64 {
            let mut disk = disk();
            disk.dice = Dice::new(seed, 1);
            store(&disk, 1);
            disk.lose_power();
            seen[usize::from(byte(&disk))] = true;
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn a_killed_process_leaves_the_cache() {
        let mut disk = disk();
        store(&disk, 1);
        disk.begin_sync(1..=1);
        disk.kill();
        assert_eq!(byte(&disk), 1);
        // And what it had not synced can still be lost, or synced by the next one.
        disk.begin_sync(1..=1);
        disk.finish_sync();
        disk.lose_everything();
        assert_eq!(byte(&disk), 1);
    }

    #[test]
    fn a_failed_sync_leaves_clean_pages_that_are_not_on_the_disk() {
        let mut lost = false;
        for seed in 0..16 {
            let mut disk = disk();
            disk.dice = Dice::new(seed, 1);
            store(&disk, 1);
            disk.begin_sync(1..=1);
            disk.fail_sync();
            assert_eq!((byte(&disk), disk.memory(1).expect("the segment").dirty()), (1, 0));
            disk.begin_sync(1..=1);
            disk.finish_sync();
            disk.lose_everything();
            lost |= byte(&disk) == 0;
        }
        assert!(lost, "a second sync seems to help");
    }

    #[test]
    fn a_removal_counts_once_it_is_synced() {
        let mut disk = disk();
        assert!(disk.remove(1) && !disk.remove(1));
        disk.lose_everything();
        assert_eq!(disk.numbers().collect::<Vec<_>>(), [1]);
        disk.remove(1);
        disk.sync_removals();
        disk.lose_everything();
        assert_eq!(disk.numbers().count(), 0);
    }

    #[test]
    fn a_copy_shares_nothing_that_is_stored_into() {
        let disk = disk();
        let copy = disk.copy();
        store(&copy, 1);
        assert_eq!((byte(&disk), byte(&copy)), (0, 1));
    }

    #[test]
    fn a_segment_is_used_again_with_its_old_records() {
        let mut disk = disk();
        disk.stale = Stale::Recycled;
        disk.memory(1).expect("the segment").store(PAGE_SIZE, b"record");
        disk.memory(1).expect("the segment").store(0, b"header");
        disk.remove(1);
        disk.sync_removals();
        disk.prepare(1).expect("there is room");
        let memory = disk.memory(1).expect("the segment");
        assert_eq!(memory.bytes()[PAGE_SIZE..PAGE_SIZE + 6], *b"record");
        assert_eq!(
            memory.bytes()[..6],
            [0; 6],
            "a header that is valid for the number is none of what may be there"
        );
    }
}
