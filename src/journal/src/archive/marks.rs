//! Where in a segment its records begin, so that reading need not start at its first one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::header::HEADER_PAGE_SIZE;
use crate::identifier::{JournalId, Lsn, SegmentNumber};

/// Of so many segments marks are kept; past that all are forgotten and found anew.
const SEGMENT_COUNT_MAX: usize = 1024;

/// A place where a record begins, and the LSN that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: usize,
    pub(crate) lsn: Lsn,
}

/// One segment, in one of its lives.
type Key = (JournalId, SegmentNumber, u64);

/// Places in segments that were read, one for each window or so, kept for whoever reads the same segments again: about 4 KiB for a segment of 64 MiB.
/// Clones share them. Everything before a mark was read once, with its checksums.
#[derive(Clone, Debug, Default)]
pub struct SegmentMarks {
    by_segment: Arc<Mutex<HashMap<Key, MarkList>>>,
}

/// The marks of one segment, rising.
#[derive(Clone, Debug, Default)]
pub(crate) struct MarkList(Arc<Mutex<Vec<Mark>>>);

impl SegmentMarks {
    pub(crate) fn of(&self, journal: JournalId, number: SegmentNumber, incarnation: u64) -> MarkList {
        let mut by_segment = lock(&self.by_segment);
        if by_segment.len() >= SEGMENT_COUNT_MAX {
            by_segment.clear();
        }
        by_segment.entry((journal, number, incarnation)).or_default().clone()
    }
}

impl MarkList {
    /// Remembers a place, unless there is one there or behind it.
    pub(crate) fn add(&self, mark: Mark) {
        let mut marks = lock(&self.0);
        if mark.offset > HEADER_PAGE_SIZE && marks.last().is_none_or(|last| last.offset < mark.offset) {
            marks.push(mark);
        }
    }

    /// The last place whose record has at most this LSN.
    pub(crate) fn before(&self, lsn: Lsn) -> Option<Mark> {
        let marks = lock(&self.0);
        let count = marks.partition_point(|mark| mark.lsn <= lsn);
        count.checked_sub(1).map(|last| marks[last])
    }
}

/// What is behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_before_a_record_is_found() {
        let marks = MarkList::default();
        assert_eq!(marks.before(Lsn(9)), None);
        let mark = |offset, lsn| Mark { offset, lsn: Lsn(lsn) };
        for mark in [mark(5000, 10), mark(9000, 20), mark(7000, 15)] {
            marks.add(mark);
        }
        let found = [9, 10, 19, 20, 21].map(|lsn| marks.before(Lsn(lsn)));
        let (first, second) = (Some(mark(5000, 10)), Some(mark(9000, 20)));
        assert_eq!(found, [None, first, first, second, second]);
    }
}
