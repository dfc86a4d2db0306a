//! Which holds are due: a timer wheel.
//!
//! Invariants:
//! - Every held reservation is in the wheel exactly once, in the bucket of its deadline; its `link` is its node.
//! - No bucket before `cursor` holds a deadline that is due and has not been given out.
//!
//! The wheel follows from the reservations: it is in no snapshot and in no digest. One that stands still is empty, and is
//! made of the reservations before anything is looked up in it.

use alloc::vec;
use alloc::vec::Vec;

use crate::chunked::Chunked;
use crate::reservation::NONE;
use crate::{PartitionId, Timestamp};

/// A bucket takes the deadlines of 2^18 microseconds, a quarter of a second: nothing expires later than that after its
/// deadline.
const BUCKET_MICROS_LOG2: u32 = 18;
/// The wheel goes round in 2^37 microseconds, 38 hours: longer than the longest hold.
const BUCKET_COUNT: usize = 1 << 19;

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    slot: u32,
    bucket: u32,
    partition: PartitionId,
}

pub(crate) struct Holds {
    /// The first node of each bucket. Empty until there is a hold.
    heads: Vec<u32>,
    nodes: Chunked<Node>,
    free: u32,
    count: usize,
    /// The first bucket, counted from 1970, that may hold something due.
    cursor: i64,
    /// Where looking at once goes on, and in which bucket.
    resume: (i64, u32),
    stands_still: bool,
}

/// A bucket's number, counted from 1970.
#[inline]
fn bucket_of(deadline: Timestamp) -> i64 {
    deadline.0 >> BUCKET_MICROS_LOG2
}

#[inline]
fn place_of(bucket: i64) -> usize {
    bucket as usize & (BUCKET_COUNT - 1)
}

impl Holds {
    pub(crate) fn new() -> Holds {
        Holds {
            heads: Vec::new(),
            nodes: Chunked::new(),
            free: NONE,
            count: 0,
            cursor: i64::MAX,
            resume: (i64::MIN, NONE),
            stands_still: false,
        }
    }

    /// An empty wheel that nothing is put into until [`Holds::moves`].
    pub(crate) fn standing_still() -> Holds {
        Holds {
            stands_still: true,
            ..Holds::new()
        }
    }

    /// Whether nothing is put in.
    #[inline]
    pub(crate) fn stands_still(&self) -> bool {
        self.stands_still
    }

    /// From now on the wheel takes holds.
    pub(crate) fn moves(&mut self) {
        self.stands_still = false;
    }

    /// How many holds there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Puts a hold in and returns its node; none while the wheel stands still.
    pub(crate) fn insert(&mut self, deadline: Timestamp, partition: PartitionId, slot: u32) -> u32 {
        if self.stands_still {
            return NONE;
        }
        if self.heads.is_empty() {
            self.heads = vec![NONE; BUCKET_COUNT];
        }
        let bucket = bucket_of(deadline);
        self.cursor = self.cursor.min(bucket);
        let place = place_of(bucket);
        let node = Node {
            previous: NONE,
            next: self.heads[place],
            slot,
            bucket: place as u32,
            partition,
        };
        let index = match self.free {
            NONE => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
            free => {
                let taken = self.node_mut(free);
                let next_free = taken.next;
                *taken = node;
                self.free = next_free;
                free
            }
        };
        if node.next != NONE {
            self.node_mut(node.next).previous = index;
        }
        self.heads[place] = index;
        self.count += 1;
        index
    }

    /// Takes a hold out.
    pub(crate) fn remove(&mut self, index: u32) {
        if self.stands_still {
            return;
        }
        let node = *self.nodes.get(index as usize).expect("holds name existing nodes");
        match node.previous {
            NONE => self.heads[node.bucket as usize] = node.next,
            previous => self.node_mut(previous).next = node.next,
        }
        if node.next != NONE {
            self.node_mut(node.next).previous = node.previous;
        }
        if self.resume.1 == index {
            self.resume.1 = node.next;
        }
        let free = self.free;
        self.node_mut(index).next = free;
        self.free = index;
        self.count -= 1;
    }

    /// A hold whose deadline has come, if there is one; `deadline_of` tells the deadline of a reservation. It stays in
    /// the wheel until its event is applied.
    pub(crate) fn due(
        &mut self,
        now: Timestamp,
        deadline_of: impl Fn(PartitionId, u32) -> Timestamp,
    ) -> Option<(PartitionId, u32)> {
        if self.count == 0 {
            self.cursor = i64::MAX;
            return None;
        }
        let last = bucket_of(now);
        // After a jump of more than a round every other bucket than that of now is looked at once.
        self.cursor = self.cursor.max(last - BUCKET_COUNT as i64 + 1);
        // The bucket of now waits until it is over: its holds would be gone through again and again.
        while self.cursor < last {
            let first = self.heads[place_of(self.cursor)];
            if let Some(index) = self.due_from(first, now, &deadline_of) {
                return Some(self.hold_at(index));
            }
            self.cursor += 1;
        }
        None
    }

    /// Like [`Holds::due`], and without waiting for the bucket of now: for those few that are looked for once.
    pub(crate) fn due_at_once(
        &mut self,
        now: Timestamp,
        deadline_of: impl Fn(PartitionId, u32) -> Timestamp,
    ) -> Option<(PartitionId, u32)> {
        let due = self.due(now, &deadline_of);
        if due.is_some() || self.count == 0 {
            return due;
        }
        // Not from the beginning each time: those that are not due yet may be many.
        let bucket = bucket_of(now);
        let first = match self.resume {
            (resumed, index) if resumed == bucket => index,
            _ => self.heads[place_of(bucket)],
        };
        let index = self.due_from(first, now, &deadline_of);
        self.resume = index.map_or((i64::MIN, NONE), |index| (bucket, index));
        index.map(|index| self.hold_at(index))
    }

    /// The first node that is due, from this one on.
    fn due_from(
        &self,
        mut index: u32,
        now: Timestamp,
        deadline_of: &impl Fn(PartitionId, u32) -> Timestamp,
    ) -> Option<u32> {
        while index != NONE {
            let node = self.nodes.get(index as usize).expect("nodes name existing nodes");
            if deadline_of(node.partition, node.slot) <= now {
                return Some(index);
            }
            index = node.next;
        }
        None
    }

    fn hold_at(&self, index: u32) -> (PartitionId, u32) {
        let node = self.nodes.get(index as usize).expect("nodes name existing nodes");
        (node.partition, node.slot)
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        self.nodes.get_mut(index as usize).expect("nodes name existing nodes")
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn holds_come_due_once_each_and_never_early() {
        let mut holds = Holds::new();
        let mut deadlines = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let mut random = 1_u64;
        let mut now = 1_700_000_000_000_000_i64;
        for slot in 0..20_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let deadline = Timestamp(now + 30_000_000 + (random >> 33) as i64 % 86_000_000_000);
            deadlines.insert(slot, deadline);
            nodes.insert(slot, holds.insert(deadline, PartitionId(7), slot));
            if slot % 3 == 0 {
                holds.remove(nodes.remove(&slot).expect("it was put in"));
                deadlines.remove(&slot);
            }
            now += 1_000;
        }
        let last = now + 2 * 86_400_000_000;
        while now < last {
            now += 500_000;
            while let Some((_, slot)) = holds.due(Timestamp(now), |_, slot| deadlines[&slot]) {
                let deadline = deadlines.remove(&slot).expect("it comes due once");
                assert!(deadline.0 <= now, "slot {slot} is early");
                assert!(
                    now - deadline.0 < 500_000 + (1 << BUCKET_MICROS_LOG2),
                    "slot {slot} is late"
                );
                holds.remove(nodes[&slot]);
            }
        }
        assert!(deadlines.is_empty() && holds.len() == 0);
    }

    #[test]
    fn what_is_looked_for_once_need_not_wait_for_its_bucket() {
        let mut holds = Holds::new();
        let deadline = Timestamp(1_000_000);
        holds.insert(deadline, PartitionId(3), 4);
        let deadline_of = |_, _| deadline;
        assert_eq!(holds.due_at_once(Timestamp(999_999), deadline_of), None);
        assert_eq!(holds.due(deadline, deadline_of), None);
        assert_eq!(holds.due_at_once(deadline, deadline_of), Some((PartitionId(3), 4)));
    }

    #[test]
    fn a_deadline_before_the_cursor_is_seen() {
        let mut holds = Holds::new();
        let late = Timestamp(10_000_000_000);
        holds.insert(late, PartitionId(0), 1);
        assert_eq!(holds.due(Timestamp(9_000_000_000), |_, _| late), None);
        holds.insert(Timestamp(5), PartitionId(0), 2);
        let deadline_of = |_, slot| if slot == 1 { late } else { Timestamp(5) };
        assert_eq!(
            holds.due(Timestamp(9_000_000_000), deadline_of),
            Some((PartitionId(0), 2))
        );
    }
}
