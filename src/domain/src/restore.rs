//! Making a state from the pieces of a snapshot.
//!
//! The pieces come from a file, so nothing about them is assumed. What is taken is kept as it came until all of it is
//! there: the counts of a partition ask for no memory before there are as many pages. A state that is given out keeps
//! every invariant of its parts: queues and lists name each of their entries once and end, and counters are sums.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::limits::{HOLD_SECONDS_MAX, PARTITION_COUNT, POOLS_PER_PARTITION_MAX, REFERENCE_SIZE_MAX, UNITS_MAX};
use crate::partition::Partition;
use crate::pools::{GENERATION_MAX, PAGE_POOL_COUNT, PoolSlot};
use crate::reservation::{NONE, PAGE_ENTRY_COUNT, ReservationState, Reservations};
use crate::stored::StoredReservation;
use crate::{
    Counters, MovedPage, PartitionId, PartitionImage, PoolImage, PoolPage, Replaying, ReservationPage, SnapshotPiece,
    State, StateOptions, Timestamp, Units,
};

/// Sequences and versions up to here can be counted on for ever.
const COUNT_MAX: u64 = 1 << 62;

/// Why pieces do not make a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreError {
    /// Where.
    pub partition: PartitionId,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {}: {}", self.partition.0, self.reason)
    }
}

impl core::error::Error for RestoreError {}

/// What is wrong with a part.
type Check = Result<(), &'static str>;

fn rule(holds: bool, reason: &'static str) -> Check {
    if holds { Ok(()) } else { Err(reason) }
}

/// Whether a page begins where one begins, and has all that it must have.
fn is_page(first: u32, len: usize, page_len: usize, count: u32) -> bool {
    (first as usize).is_multiple_of(page_len) && first < count && len == page_len.min((count - first) as usize)
}

/// What has come of a partition.
struct Pieces {
    image: PartitionImage,
    /// By first slot.
    pools: BTreeMap<u32, PoolPage>,
    reservations: BTreeMap<u32, ReservationPage>,
    moved: BTreeMap<u32, MovedPage>,
}

/// A state that is being made from the pieces of a snapshot.
pub struct Restoring {
    options: StateOptions,
    partitions: BTreeMap<PartitionId, Pieces>,
}

impl Restoring {
    /// Nothing yet.
    pub fn new(options: StateOptions) -> Restoring {
        Restoring {
            options,
            partitions: BTreeMap::new(),
        }
    }

    /// Takes a piece. That of a partition as a whole comes before its pages, which may come in any order.
    ///
    /// # Errors
    /// When the piece is wrong in itself or contradicts the ones before it.
    pub fn take(&mut self, piece: &SnapshotPiece) -> Result<(), RestoreError> {
        let partition = piece.partition();
        self.take_piece(piece)
            .map_err(|reason| RestoreError { partition, reason })
    }

    fn take_piece(&mut self, piece: &SnapshotPiece) -> Check {
        let id = piece.partition();
        rule(id.index() < PARTITION_COUNT, "there is no such partition")?;
        let pieces = self.partitions.get_mut(&id);
        match (piece, pieces) {
            (SnapshotPiece::Partition(_), Some(_)) => Err("it comes twice"),
            (SnapshotPiece::Partition(image), None) => {
                check_image(image)?;
                let pieces = Pieces {
                    image: image.clone(),
                    pools: BTreeMap::new(),
                    reservations: BTreeMap::new(),
                    moved: BTreeMap::new(),
                };
                self.partitions.insert(id, pieces);
                Ok(())
            }
            (_, None) => Err("pages come before the partition"),
            (SnapshotPiece::Pools(_, page), Some(pieces)) => {
                check_pools(page, &pieces.image)?;
                let earlier = pieces.pools.insert(page.first_slot, page.clone());
                rule(earlier.is_none(), "a page comes twice")
            }
            (SnapshotPiece::Reservations(_, page), Some(pieces)) => {
                check_reservations(page, &pieces.image, self.options.dimension_count)?;
                let earlier = pieces.reservations.insert(page.first_slot, page.clone());
                rule(earlier.is_none(), "a page comes twice")
            }
            (SnapshotPiece::Moved(_, page), Some(pieces)) => {
                check_moved(page, &pieces.image)?;
                let earlier = pieces.moved.insert(page.first_slot, page.clone());
                rule(earlier.is_none(), "a page comes twice")
            }
        }
    }

    /// The state, with everything that follows from the pieces.
    ///
    /// # Errors
    /// When pieces are missing, or do not fit together.
    pub fn finish(self) -> Result<State, RestoreError> {
        Ok(self.before_replay()?.finish())
    }

    /// The state for events to be replayed into.
    ///
    /// # Errors
    /// When pieces are missing, or do not fit together.
    pub fn before_replay(self) -> Result<Replaying, RestoreError> {
        let mut state = State::before_replay(self.options);
        for (partition, pieces) in self.partitions {
            state
                .restore(pieces)
                .map_err(|reason| RestoreError { partition, reason })?;
        }
        Ok(Replaying::from_restored(state))
    }
}

fn check_image(image: &PartitionImage) -> Check {
    let in_range = |link: u32, count: u32| link == NONE || link < count;
    let (pool_count, slot_count) = (image.pool_slot_count, image.reservation_slot_count);
    let ends = image.ends;
    let links = [ends.oldest_ended, ends.newest_ended, ends.first_free];
    rule(
        links.iter().all(|link| in_range(*link, slot_count))
            && in_range(image.first_free_pool, pool_count)
            && image.retired.iter().all(|slot| *slot < pool_count),
        "it names what does not exist",
    )?;
    rule(
        pool_count as usize <= POOLS_PER_PARTITION_MAX && image.sequence <= COUNT_MAX,
        "it counts too far",
    )?;
    let sweep = image.sweep;
    rule(
        sweep.next <= slot_count.max(1)
            && sweep.began_at <= image.sequence
            && (sweep.next == 0 || !image.retired.is_empty()),
        "nothing can have been swept that far",
    )
}

fn check_pools(page: &PoolPage, image: &PartitionImage) -> Check {
    let count = image.pool_slot_count;
    rule(
        is_page(page.first_slot, page.images.len(), PAGE_POOL_COUNT, count),
        "pools stand where there are none",
    )?;
    let is_sound = |pool: &PoolImage| match pool {
        PoolImage::Used {
            generation, version, ..
        } => (1..=GENERATION_MAX).contains(generation) && (1..=COUNT_MAX).contains(version),
        PoolImage::Retired { generation, sequence } => {
            (1..=GENERATION_MAX).contains(generation) && *sequence <= image.sequence
        }
        PoolImage::Free { generation, next } => *generation < GENERATION_MAX && (*next == NONE || *next < count),
    };
    rule(page.images.iter().all(is_sound), "a pool cannot be like that")
}

fn check_reservations(page: &ReservationPage, image: &PartitionImage, dimension_count: usize) -> Check {
    let slot_count = image.reservation_slot_count;
    let len = page.entries.len();
    rule(
        is_page(page.first_slot, len, PAGE_ENTRY_COUNT, slot_count),
        "reservations stand where there are none",
    )?;
    rule(
        page.more_units.len() == if dimension_count > 2 { len } else { 0 },
        "a page of reservations is not whole",
    )?;
    let is_used = |slot: u32| {
        let offset = slot.checked_sub(page.first_slot);
        let entry = offset.and_then(|offset| page.entries.get(offset as usize));
        entry.is_some_and(|entry| !entry.is_free())
    };
    rule(
        page.references
            .iter()
            .all(|(slot, text)| is_used(*slot) && text.len() <= REFERENCE_SIZE_MAX)
            && page.first_requests.iter().all(|(slot, _)| is_used(*slot)),
        "something belongs to a reservation that does not exist",
    )?;
    for (offset, entry) in page.entries.iter().enumerate() {
        let mut units = Units::from_slice(&entry.first_units);
        if let Some(more) = page.more_units.get(offset) {
            units.0[2..].copy_from_slice(more);
        }
        rule(
            is_sound(entry, &units, image, dimension_count),
            "a reservation cannot be like that",
        )?;
    }
    Ok(())
}

fn check_moved(page: &MovedPage, image: &PartitionImage) -> Check {
    let last = image
        .reservation_slot_count
        .min(page.first_slot.saturating_add(PAGE_ENTRY_COUNT as u32));
    rule(
        (page.first_slot as usize).is_multiple_of(PAGE_ENTRY_COUNT)
            && !page.moved.is_empty()
            && page.moved.is_sorted_by(|one, next| one.slot < next.slot)
            && page
                .moved
                .iter()
                .all(|moved| (page.first_slot..last).contains(&moved.slot)),
        "reservations lie elsewhere where there are none",
    )
}

fn is_sound(entry: &StoredReservation, units: &Units, image: &PartitionImage, dimension_count: usize) -> bool {
    let is_link = entry.link == NONE || entry.link < image.reservation_slot_count;
    if entry.is_free() {
        return is_link;
    }
    let Some(is_ended) = entry.known_state().map(ReservationState::is_ended) else {
        return false;
    };
    entry.random < 1 << 56
        && entry.hold_seconds() <= HOLD_SECONDS_MAX
        && (is_link || !is_ended)
        && (entry.pool_slot < image.pool_slot_count || (is_ended && entry.pool_slot == NONE))
        && units.0.iter().all(|unit| *unit <= UNITS_MAX)
        && units.0[dimension_count..].iter().all(|unit| *unit == 0)
        && !units.is_zero()
}

/// Whether the queue of ended reservations and the list of free slots are what a table can have: in a table from
/// outside they may be anything that names existing slots.
fn check_lists(reservations: &Reservations) -> Check {
    let ends = reservations.ends();
    let (mut free_left, mut ended_left) = (0_usize, 0_usize);
    for slot in 0..reservations.len() as u32 {
        let entry = reservations.get(slot).expect("slots below the count exist");
        free_left += usize::from(entry.is_free());
        ended_left += usize::from(!entry.is_free() && entry.state().is_ended());
    }
    let mut next = ends.first_free;
    while let Some(entry) = reservations.get(next) {
        if !entry.is_free() {
            return Err("the list of free slots names another one");
        }
        // One that goes on after as many steps as there are free slots goes round.
        free_left = free_left.checked_sub(1).ok_or("the list of free slots has no end")?;
        next = entry.link;
    }
    let (mut next, mut last) = (ends.oldest_ended, NONE);
    let mut ended_at = Timestamp::ABSENT;
    while let Some(entry) = reservations.get(next) {
        if entry.is_free() || !entry.state().is_ended() {
            return Err("the queue of ended reservations names another one");
        }
        if entry.moment < ended_at {
            return Err("the queue of ended reservations is not in the order of time");
        }
        ended_left = ended_left
            .checked_sub(1)
            .ok_or("the queue of ended reservations has no end")?;
        (last, ended_at, next) = (next, entry.moment, entry.link);
    }
    if free_left > 0 || ended_left > 0 || last != ends.newest_ended {
        return Err("the queue of ended reservations or the list of free slots lacks one");
    }
    Ok(())
}

/// Whether every reservation names a pool that it may, and the counters of the pools are the sums of these.
fn check_sums(partition: &Partition) -> Check {
    let mut sums: Vec<_> = alloc::vec![(Counters::default(), Counters::default()); partition.pools.len()];
    for (slot, entry) in partition.reservations.iter() {
        let state = entry.state();
        let fits = match partition.pools.slot(entry.pool_slot) {
            Some(PoolSlot::Used(_)) => true,
            // What is held keeps its pool.
            Some(PoolSlot::Retired { .. }) => state != ReservationState::Held,
            // The next pool in the slot would take it for its own.
            Some(PoolSlot::Free { .. }) => false,
            None => state.is_ended(),
        };
        rule(fits, "a reservation names a pool that is gone")?;
        let units = partition.reservations.units(slot);
        match state {
            ReservationState::Held => sums[entry.pool_slot as usize].0.add(&units),
            ReservationState::Confirmed => sums[entry.pool_slot as usize].1.add(&units),
            ReservationState::Released | ReservationState::Expired => {}
        }
    }
    rule(
        partition
            .pools
            .iter()
            .all(|(slot, pool)| (pool.held, pool.confirmed) == sums[slot as usize]),
        "the counters of a pool are not the sum of its reservations",
    )
}

impl State {
    fn restore(&mut self, pieces: Pieces) -> Check {
        let Pieces {
            image,
            pools,
            reservations,
            moved,
        } = pieces;
        let (pool_count, slot_count) = (image.pool_slot_count as usize, image.reservation_slot_count as usize);
        // Each page is there once, and none that there should not be.
        rule(
            pools.len() == pool_count.div_ceil(PAGE_POOL_COUNT)
                && reservations.len() == slot_count.div_ceil(PAGE_ENTRY_COUNT),
            "pages are missing",
        )?;
        let (id, options) = (image.partition, self.options);
        let mut partition = Partition::without_keys(id, options.dimension_count, options.hash_seed);
        partition.sequence = image.sequence;
        partition.sweep = image.sweep;
        partition
            .pools
            .prepare(pool_count, image.first_free_pool, &image.retired);
        pools.into_values().for_each(|page| partition.pools.restore(&page));
        partition.reservations.prepare(slot_count, image.ends);
        reservations
            .into_values()
            .for_each(|page| partition.reservations.restore(&page));
        moved
            .into_values()
            .for_each(|page| partition.reservations.restore_moved(&page));
        partition.pools.check_lists()?;
        check_lists(&partition.reservations)?;
        partition.reservations.check_moved()?;
        check_sums(&partition)?;
        self.restore_pools(&mut partition)?;
        self.slot_count += slot_count;
        if partition.pools.has_retired() {
            self.unswept.insert(id);
        }
        self.partitions[id.index()] = Some(alloc::boxed::Box::new(partition));
        Ok(())
    }

    /// The names and the queue of pools, from the pools. All of them count as touched.
    fn restore_pools(&mut self, partition: &mut Partition) -> Check {
        let id = partition.id;
        let collection = self.touch_collection;
        for slot in 0..partition.pools.len() as u32 {
            let Some(pool_id) = partition.pools.id_at(id, slot) else {
                continue;
            };
            let pool = partition.pools.get_mut(pool_id).expect("the slot has this pool");
            pool.touched_in = collection;
            let queued_at = pool.queued_at;
            let name: Arc<str> = Arc::from(&*pool.definition().name);
            rule(
                crate::partition_of(&name) == id,
                "a pool's name belongs to another partition",
            )?;
            rule(self.names.insert(name, pool_id).is_none(), "a pool's name comes twice")?;
            self.pool_queue.insert((queued_at, pool_id));
            self.touched.push(pool_id);
        }
        Ok(())
    }
}
