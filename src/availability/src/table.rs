//! What writers and readers share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use plimsoll_domain::Timestamp;

use crate::index::Index;
use crate::query::Reader;
use crate::writer::Writer;

/// What one core publishes.
///
/// - `as_of` is stored after everything that it speaks of, and never goes back.
pub(crate) struct Part {
    index: SharedLine<ArcSwap<Index>>,
    as_of: SharedLine<AtomicI64>,
}

/// Apart from its neighbours: the index is only read for minutes, the time is written after each sync. Two lines, since
/// processors fetch them in pairs.
#[repr(align(128))]
struct SharedLine<T>(T);

/// A part, seen as its index.
#[derive(Clone)]
pub(crate) struct SharedPart(Arc<Part>);

impl Deref for SharedPart {
    type Target = ArcSwap<Index>;

    #[inline]
    fn deref(&self) -> &ArcSwap<Index> {
        &self.0.index.0
    }
}

impl SharedPart {
    fn new() -> SharedPart {
        SharedPart(Arc::new(Part {
            index: SharedLine(ArcSwap::from_pointee(Index::new())),
            as_of: SharedLine(AtomicI64::new(Timestamp::ABSENT.0)),
        }))
    }

    /// What is read after this is at least as new.
    #[inline]
    pub(crate) fn as_of(&self) -> Timestamp {
        Timestamp(self.0.as_of.0.load(Ordering::Acquire))
    }

    /// Everything that was written before this is seen by whoever sees the time.
    pub(crate) fn set_as_of(&self, as_of: Timestamp) {
        self.0.as_of.0.store(as_of.0, Ordering::Release);
    }
}

/// The availability of all pools of a server, in one part for each core. Clones are the same table.
#[derive(Clone)]
pub struct Table {
    parts: Arc<[SharedPart]>,
}

impl Table {
    /// An empty table, and the writers of its parts, in order. There are no others, so each part has one writer for ever.
    ///
    /// `dimension_count` is that of the data directory, 1 to 8.
    ///
    /// # Panics
    /// If there is no part, or `dimension_count` is out of its range.
    pub fn new(part_count: usize, dimension_count: usize) -> (Table, Vec<Writer>) {
        assert!(part_count > 0, "a table has parts");
        let parts: Arc<[SharedPart]> = (0..part_count).map(|_| SharedPart::new()).collect();
        let writers = parts
            .iter()
            .map(|part| Writer::new(part.clone(), dimension_count))
            .collect();
        (Table { parts }, writers)
    }

    /// A reader of all parts; each thread has its own.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.parts)
    }
}
