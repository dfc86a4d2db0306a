//! Which pages of a table the snapshot that is being taken still needs.
//!
//! A page is a few neighbouring entries. While a snapshot is being taken, a page is copied before it is written to for
//! the first time; what is left is copied between batches.

use alloc::vec::Vec;

#[derive(Default)]
pub(crate) struct Stamps {
    /// By page, the last snapshot that has it or does not need it.
    stamps: Vec<u32>,
    /// The last snapshot.
    epoch: u32,
    /// How many entries the table had when the snapshot began.
    entry_count: usize,
}

impl Stamps {
    /// A snapshot of the table's first entries begins: it needs every page of them.
    pub(crate) fn begin(&mut self, entry_count: usize) {
        self.epoch = self.epoch.wrapping_add(1);
        self.entry_count = entry_count;
    }

    /// The table has this page from now on; the snapshot does not need it.
    #[inline]
    pub(crate) fn add_page(&mut self) {
        self.stamps.push(self.epoch);
    }

    /// How many pages there are.
    #[inline]
    pub(crate) fn page_count(&self) -> usize {
        self.stamps.len()
    }

    /// How many entries the table had when the snapshot began.
    pub(crate) fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Whether the snapshot still needs the page as it is now.
    #[inline]
    pub(crate) fn needs(&self, page: usize) -> bool {
        self.stamps[page] != self.epoch
    }

    /// The snapshot has the page.
    pub(crate) fn take(&mut self, page: usize) {
        self.stamps[page] = self.epoch;
    }
}
