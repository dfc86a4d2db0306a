//! The pools of one partition.
//!
//! Invariants:
//! - A slot is used by one pool at a time; `generation` counts its uses.
//! - A retired pool keeps its slot until no reservation names it any more; then the slot is in the list of free ones.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::chunked::Chunked;
use crate::reservation::NONE;
use crate::snapshot::{PoolImage, PoolPage};
use crate::stamps::Stamps;
use crate::{PartitionId, Pool, PoolId};

/// The last generation of a slot.
pub(crate) const GENERATION_MAX: u32 = (1 << 24) - 1;

/// How many pools a page has: their counters take about 2 KiB.
pub(crate) const PAGE_POOL_COUNT: usize = 16;

/// What a slot holds.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all slots are used, and a box would cost each of them a read more"
)]
pub(crate) enum PoolSlot {
    Used(Pool),
    /// Retired by the partition's event of this sequence.
    Retired {
        generation: u32,
        sequence: u64,
    },
    /// To be used again, after the generation; `next` is the next one in the list.
    Free {
        generation: u32,
        next: u32,
    },
}

pub(crate) struct Pools {
    slots: Chunked<PoolSlot>,
    first_free: u32,
    /// The retired ones, in the order of their events.
    retired: VecDeque<u32>,
    stamps: Stamps,
    preserved: Vec<PoolPage>,
}

/// A slot and its generation, for the next pool.
pub(crate) struct FreePoolSlot {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Pools {
    pub(crate) fn new() -> Pools {
        Pools {
            slots: Chunked::new(),
            first_free: NONE,
            retired: VecDeque::new(),
            stamps: Stamps::default(),
            preserved: Vec::new(),
        }
    }

    /// How many slots there are, used or not.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What is in this slot, if it exists.
    pub(crate) fn slot(&self, slot: u32) -> Option<&PoolSlot> {
        self.slots.get(slot as usize)
    }

    /// The pool in this slot.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<&Pool> {
        match self.slots.get(slot as usize)? {
            PoolSlot::Used(pool) => Some(pool),
            PoolSlot::Retired { .. } | PoolSlot::Free { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.at(id.slot()).filter(|pool| pool.generation == id.generation())
    }

    /// The only way to a pool that is about to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        match self.slot_mut(id.slot())? {
            PoolSlot::Used(pool) if pool.generation == id.generation() => Some(pool),
            _ => None,
        }
    }

    #[inline]
    fn slot_mut(&mut self, slot: u32) -> Option<&mut PoolSlot> {
        if slot as usize >= self.slots.len() {
            return None;
        }
        let page = slot as usize / PAGE_POOL_COUNT;
        if self.stamps.needs(page) {
            self.preserve(page);
        }
        self.slots.get_mut(slot as usize)
    }

    /// The current id of the pool in this slot, if there is one.
    #[inline]
    pub(crate) fn id_at(&self, partition: PartitionId, slot: u32) -> Option<PoolId> {
        Some(PoolId::new(partition, slot, self.at(slot)?.generation))
    }

    /// Where the next pool goes.
    pub(crate) fn next_slot(&self) -> FreePoolSlot {
        match self.slots.get(self.first_free as usize) {
            Some(PoolSlot::Free { generation, .. }) => FreePoolSlot {
                slot: self.first_free,
                generation: generation + 1,
            },
            _ => FreePoolSlot {
                slot: self.slots.len() as u32,
                generation: 1,
            },
        }
    }

    pub(crate) fn put(&mut self, slot: u32, pool: Pool) {
        if let Some(place) = self.slot_mut(slot) {
            let PoolSlot::Free { next, .. } = *place else {
                panic!("a pool takes a free slot")
            };
            *place = PoolSlot::Used(pool);
            assert_eq!(self.first_free, slot, "free slots are used in the order of their list");
            self.first_free = next;
        } else {
            assert_eq!(slot as usize, self.slots.len(), "pools take slots in order");
            self.push(PoolSlot::Used(pool));
        }
    }

    fn push(&mut self, slot: PoolSlot) {
        let page = self.slots.len() / PAGE_POOL_COUNT;
        if page == self.stamps.page_count() {
            self.stamps.add_page();
        } else if self.stamps.needs(page) {
            self.preserve(page);
        }
        self.slots.push(slot);
    }

    /// Retires a pool and returns it.
    pub(crate) fn retire(&mut self, id: PoolId, sequence: u64) -> Pool {
        let place = self.slot_mut(id.slot()).expect("events name existing pools");
        let retired = PoolSlot::Retired {
            generation: id.generation(),
            sequence,
        };
        let PoolSlot::Used(pool) = core::mem::replace(place, retired) else {
            panic!("events name existing pools")
        };
        self.retired.push_back(id.slot());
        pool
    }

    /// Whether retired pools still have their slots.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// No reservation names the pools any more that were retired up to this event: their slots can be used again. Sees
    /// to at most `count` of them, and says whether those were all.
    pub(crate) fn free_retired(&mut self, upto: u64, count: u32) -> bool {
        let mut left = count;
        while let Some(&slot) = self.retired.front() {
            let Some(&PoolSlot::Retired { generation, sequence }) = self.slot(slot) else {
                panic!("a retired pool keeps its slot")
            };
            if sequence > upto {
                break;
            }
            if left == 0 {
                return false;
            }
            left -= 1;
            self.retired.pop_front();
            if generation < GENERATION_MAX {
                let next = self.first_free;
                *self.slot_mut(slot).expect("retired pools have slots") = PoolSlot::Free { generation, next };
                self.first_free = slot;
            }
        }
        true
    }

    /// Whether the list of free slots and the queue of retired ones are what a table can have: in a table from outside
    /// they may be anything that names existing slots.
    pub(crate) fn check_lists(&self) -> Result<(), &'static str> {
        let free_count = self.slots.iter().filter(|slot| matches!(slot, PoolSlot::Free { .. }));
        let (mut free_left, mut free) = (free_count.count(), self.first_free);
        while free != NONE {
            let Some(PoolSlot::Free { next, .. }) = self.slot(free) else {
                return Err("the list of free slots for pools names another one");
            };
            // One that goes on after as many steps as there are free slots goes round.
            free_left = free_left
                .checked_sub(1)
                .ok_or("the list of free slots for pools has no end")?;
            free = *next;
        }
        if free_left > 0 {
            return Err("the list of free slots for pools lacks one");
        }
        let mut last = None;
        for slot in &self.retired {
            let Some(PoolSlot::Retired { sequence, .. }) = self.slot(*slot) else {
                return Err("the queue of retired pools names another one");
            };
            if last >= Some(*sequence) {
                return Err("the queue of retired pools is not in their order");
            }
            last = Some(*sequence);
        }
        // One whose slot cannot be used again left the queue for good.
        let waiting = self
            .slots
            .iter()
            .filter(|slot| matches!(slot, PoolSlot::Retired { generation, .. } if *generation < GENERATION_MAX));
        if waiting.count() > self.retired.len() {
            return Err("the queue of retired pools lacks one");
        }
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Pool)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| match place {
            PoolSlot::Used(pool) => Some((slot as u32, pool)),
            PoolSlot::Retired { .. } | PoolSlot::Free { .. } => None,
        })
    }

    /// A snapshot begins: it will have everything as it is now.
    pub(crate) fn begin_snapshot(&mut self) {
        self.stamps.begin(self.slots.len());
    }

    /// Copies what the snapshot still needs of this page, if anything.
    pub(crate) fn copy_page(&mut self, page: usize) {
        if self.stamps.needs(page) {
            self.preserve(page);
        }
    }

    /// How many pages the snapshot has in all.
    pub(crate) fn snapshot_page_count(&self) -> usize {
        self.stamps.entry_count().div_ceil(PAGE_POOL_COUNT)
    }

    /// The pages that were copied since the last call.
    pub(crate) fn take_preserved(&mut self) -> Vec<PoolPage> {
        core::mem::take(&mut self.preserved)
    }

    #[cold]
    fn preserve(&mut self, page: usize) {
        self.stamps.take(page);
        let first = page * PAGE_POOL_COUNT;
        let last = self.stamps.entry_count().min(first + PAGE_POOL_COUNT);
        let images = (first..last)
            .filter_map(|slot| self.slots.get(slot))
            .map(|slot| match slot {
                PoolSlot::Used(pool) => PoolImage::Used {
                    generation: pool.generation,
                    version: pool.version(),
                    definition: Arc::clone(pool.definition()),
                    held: pool.held,
                    confirmed: pool.confirmed,
                    last_event: pool.last_event,
                },
                PoolSlot::Retired { generation, sequence } => PoolImage::Retired {
                    generation: *generation,
                    sequence: *sequence,
                },
                PoolSlot::Free { generation, next } => PoolImage::Free {
                    generation: *generation,
                    next: *next,
                },
            });
        let images = images.collect();
        self.preserved.push(PoolPage {
            first_slot: first as u32,
            images,
        });
    }

    /// The retired ones, in the order of their events.
    pub(crate) fn retired(&self) -> impl Iterator<Item = u32> {
        self.retired.iter().copied()
    }

    /// The first free slot.
    pub(crate) fn first_free(&self) -> u32 {
        self.first_free
    }

    /// Makes an empty table one with this many slots, to be filled from a snapshot.
    pub(crate) fn prepare(&mut self, count: usize, first_free: u32, retired: &[u32]) {
        for _ in 0..count {
            self.push(PoolSlot::Free {
                generation: 0,
                next: NONE,
            });
        }
        self.first_free = first_free;
        self.retired = retired.iter().copied().collect();
    }

    /// Fills slots from a snapshot. The caller has checked that they exist.
    pub(crate) fn restore(&mut self, page: &PoolPage) {
        for (offset, image) in page.images.iter().enumerate() {
            let place = self
                .slot_mut(page.first_slot + offset as u32)
                .expect("the caller has checked that the slot exists");
            *place = match image {
                PoolImage::Used {
                    generation,
                    version,
                    definition,
                    held,
                    confirmed,
                    last_event,
                } => {
                    let mut pool = Pool::new(*generation, *version, *last_event, Arc::clone(definition));
                    pool.held = *held;
                    pool.confirmed = *confirmed;
                    PoolSlot::Used(pool)
                }
                PoolImage::Retired { generation, sequence } => PoolSlot::Retired {
                    generation: *generation,
                    sequence: *sequence,
                },
                PoolImage::Free { generation, next } => PoolSlot::Free {
                    generation: *generation,
                    next: *next,
                },
            };
        }
    }
}
