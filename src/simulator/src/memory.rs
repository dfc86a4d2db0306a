//! The page cache of one file.
//!
//! Invariants:
//! - A page that differs from what is on the disk is marked `diverged`; one that will be written at some time is marked `dirty` too.
//! - The bytes are shared with copies, and with the disk, until one of them stores.
//! - References into the bytes live no longer than one call of the journal, or one call of `look`.

// The journal keeps a segment for as long as it appends to it, and the simulated disk reads the same bytes in between, as the kernel does
// with a mapping. No safe type gives out `&mut [u8]` and shares the bytes.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::rc::Rc;

pub(crate) const PAGE_SIZE: usize = 4096;

pub(crate) struct Memory {
    bytes: UnsafeCell<Rc<[u8]>>,
    dirty: Cell<u64>,
    diverged: Cell<u64>,
}

impl Memory {
    pub(crate) fn new(bytes: Rc<[u8]>) -> Memory {
        assert!(
            bytes.len().is_multiple_of(PAGE_SIZE) && bytes.len() <= 64 * PAGE_SIZE,
            "a page is a bit of 64"
        );
        Memory {
            bytes: UnsafeCell::new(bytes),
            dirty: Cell::new(0),
            diverged: Cell::new(0),
        }
    }

    /// The bytes, for reading.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: everything runs on one thread, and `slice_mut` says for how long its result may live: no longer than the call of the journal that
        // asked for it. The disk calls this only between such calls, and the journal never keeps one slice while it asks for another.
        unsafe { &*self.bytes.get() }
    }

    /// The bytes as they are now.
    pub(crate) fn shared(&self) -> Rc<[u8]> {
        // SAFETY: as in `bytes`.
        Rc::clone(unsafe { &*self.bytes.get() })
    }

    /// Bytes to store into; their pages become dirty. `is_noticed` is false where a planted bug keeps the store from the disk.
    ///
    /// # Safety
    /// The result must be gone before anything else of this file is read or written: only a segment's `slice_mut` calls this, which lends
    /// itself mutably for as long.
    #[expect(
        clippy::mut_from_ref,
        reason = "the cache is shared; the caller promises not to overlap"
    )]
    pub(crate) unsafe fn slice_mut(&self, range: Range<usize>, is_noticed: bool) -> &mut [u8] {
        let pages = pages(&range);
        if is_noticed {
            self.dirty.set(self.dirty.get() | pages);
        }
        self.diverged.set(self.diverged.get() | pages);
        // SAFETY: the caller promises that nothing else refers to the bytes meanwhile.
        let bytes = unsafe { &mut *self.bytes.get() };
        &mut Rc::make_mut(bytes)[range]
    }

    /// Stores bytes; their pages become dirty.
    pub(crate) fn store(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: the slice ends with this statement, and one thread runs.
        unsafe { self.slice_mut(offset..offset + bytes.len(), true) }.copy_from_slice(bytes);
    }

    /// Loads a page from the disk, which thereby is neither dirty nor diverged.
    pub(crate) fn load_page(&self, page: usize, from: &[u8]) {
        let range = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
        // SAFETY: the slice ends with this statement, and one thread runs.
        unsafe { self.slice_mut(range, false) }.copy_from_slice(from);
        self.dirty.set(self.dirty.get() & !(1 << page));
        self.diverged.set(self.diverged.get() & !(1 << page));
    }

    pub(crate) fn page(&self, page: usize) -> &[u8] {
        &self.bytes()[page * PAGE_SIZE..(page + 1) * PAGE_SIZE]
    }

    pub(crate) fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes()[offset..offset + 8].try_into().expect("8 bytes"))
    }

    pub(crate) fn dirty(&self) -> u64 {
        self.dirty.get()
    }

    pub(crate) fn diverged(&self) -> u64 {
        self.diverged.get()
    }

    /// The pages are about to be written as they are now.
    pub(crate) fn clean(&self, pages: u64) {
        self.dirty.set(self.dirty.get() & !pages);
    }

    /// The pages have to be written again.
    pub(crate) fn soil(&self, pages: u64) {
        self.dirty.set(self.dirty.get() | pages);
    }

    /// What is cached of the page is on the disk.
    pub(crate) fn agree(&self, page: usize) {
        self.diverged.set(self.diverged.get() & !(1 << page));
    }

    pub(crate) fn copy(&self) -> Memory {
        Memory {
            bytes: UnsafeCell::new(self.shared()),
            dirty: self.dirty.clone(),
            diverged: self.diverged.clone(),
        }
    }
}

/// A bit for each page that the range touches.
fn pages(range: &Range<usize>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = (range.start / PAGE_SIZE, (range.end - 1) / PAGE_SIZE);
    u64::MAX >> (63 - last) & u64::MAX << first
}

/// The pages of a set, in order.
pub(crate) fn each_page(mut pages: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let page = (pages != 0).then(|| pages.trailing_zeros() as usize)?;
        pages &= pages - 1;
        Some(page)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_its_pages() {
        for (range, expected) in [
            (0..0, 0),
            (0..1, 1),
            (0..4096, 1),
            (4095..4097, 0b11),
            (8192..16384, 0b1100),
            (0..262_144, u64::MAX),
        ] {
            assert_eq!(pages(&range), expected, "{range:?}");
        }
        assert_eq!(each_page(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
    }
}
