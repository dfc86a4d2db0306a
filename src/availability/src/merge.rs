//! Many lists of pools as one, in the order of answers, with bounded work.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::entry::{Extent, List, Listed, earliest_start};
use crate::limits::LIST_COST;
use crate::tree::Cursor;

/// Which pools of a list are wanted: those that sell at `now` and whose window overlaps `[from, to)`.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) now: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Wanted {
    /// A window without length overlaps what it begins in.
    #[inline]
    fn admits(&self, pool: &Listed) -> bool {
        let sells = pool.opens_at <= self.now && self.now < pool.closes_at;
        let overlaps = pool.starts_at < self.to && (pool.ends_at > self.from || pool.starts_at >= self.from);
        sells & overlaps
    }

    /// Whether pools of this extent may be among them. Where they start is known by their place in the list.
    #[inline]
    fn may_admit(&self, extent: Extent) -> bool {
        extent.opens_at_min <= self.now && self.now < extent.closes_at_max && extent.ends_at_max >= self.from
    }
}

/// The memory of a merge, without what was in it, so that the next one allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    cursors: Vec<Cursor<'static, Listed>>,
    fronts: Vec<Front<'static>>,
}

/// Lists being merged.
///
/// - `fronts` holds the next wanted pool of each list that has one.
pub(crate) struct Merge<'a> {
    wanted: Wanted,
    /// What may still be looked at.
    left: u32,
    cursors: Vec<Cursor<'a, Listed>>,
    fronts: BinaryHeap<Front<'a>>,
}

struct Front<'a> {
    pool: &'a Listed,
    /// Index of the list's cursor.
    cursor: usize,
}

impl Ord for Front<'_> {
    /// The first in the order of answers is the greatest, which a heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.pool.order(self.pool.starts_at, &self.pool.entry)
    }
}

impl PartialOrd for Front<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Front<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Front<'_> {}

impl<'a> Merge<'a> {
    pub(crate) fn new(wanted: Wanted, examined_max: u32, scratch: Scratch) -> Merge<'a> {
        Merge {
            wanted,
            left: examined_max,
            cursors: scratch.cursors,
            fronts: BinaryHeap::from(scratch.fronts),
        }
    }

    /// Gives the memory back.
    pub(crate) fn into_scratch(self) -> Scratch {
        Scratch {
            cursors: emptied(self.cursors),
            fronts: emptied(self.fronts.into_vec()),
        }
    }

    /// Counts work that is done outside of lists.
    #[inline]
    pub(crate) fn charge(&mut self, examined: u32) {
        self.left = self.left.saturating_sub(examined);
    }

    /// Adds a list.
    #[inline]
    pub(crate) fn add(&mut self, list: &'a List) {
        self.charge(LIST_COST);
        let mut cursor = list.pools.from(earliest_start(list.level, self.wanted.from));
        if let Some(pool) = next_wanted(&mut cursor, &self.wanted, &mut self.left) {
            self.fronts.push(Front {
                pool,
                cursor: self.cursors.len(),
            });
            self.cursors.push(cursor);
        }
    }

    /// Whether there was more to look at than is allowed. What comes after is not known then, and nothing is returned.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.left == 0
    }

    /// The next wanted pool of all lists.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<&'a Listed> {
        if self.is_cut_short() {
            return None;
        }
        let mut front = self.fronts.peek_mut()?;
        let pool = front.pool;
        match next_wanted(&mut self.cursors[front.cursor], &self.wanted, &mut self.left) {
            Some(next) => front.pool = next,
            None => drop(PeekMut::pop(front)),
        }
        Some(pool)
    }
}

/// The next wanted pool of one list; none also when nothing more may be looked at.
#[inline]
fn next_wanted<'a>(cursor: &mut Cursor<'a, Listed>, wanted: &Wanted, left: &mut u32) -> Option<&'a Listed> {
    while *left > 0 {
        let pool = cursor.next(|extent| {
            *left = left.saturating_sub(1);
            *left == 0 || wanted.may_admit(extent)
        })?;
        if pool.starts_at >= wanted.to {
            return None;
        }
        if wanted.admits(pool) {
            return Some(pool);
        }
        *left = left.saturating_sub(1);
    }
    None
}

/// The memory of a list, for items of another lifetime: collecting in place keeps the allocation.
fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}
