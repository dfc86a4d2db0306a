//! Taking a snapshot beside the traffic, and making a state from one.
//!
//! A snapshot is of one moment, and is copied piece by piece afterwards. Pages that are about to be written to are copied first (`stamps`), so
//! that no call copies more than what it changes itself or is told to. What follows from the rest is not part of it: names, the key table,
//! the timer wheel, the order in which pools retire.
//!
//! Invariant: the pieces of a partition are one [`PartitionImage`] and every page of it exactly once; the image comes first.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::partition::{Partition, Sweep};
use crate::pools::PAGE_POOL_COUNT;
use crate::reservation::{NONE, PAGE_ENTRY_COUNT, ReservationEnds, ReservationState, StoredReservation};
use crate::{Counters, PartitionId, PoolDefinition, PoolId, State, StateOptions, Timestamp, Units};

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPiece {
    /// A partition as a whole.
    Partition(PartitionImage),
    /// Some of its pools.
    Pools(PartitionId, PoolPage),
    /// Some of its reservations.
    Reservations(PartitionId, ReservationPage),
}

impl SnapshotPiece {
    /// The partition that it belongs to.
    pub fn partition(&self) -> PartitionId {
        match self {
            SnapshotPiece::Partition(image) => image.partition,
            SnapshotPiece::Pools(partition, _) | SnapshotPiece::Reservations(partition, _) => *partition,
        }
    }

    /// About as many bytes as were copied for it.
    fn size(&self) -> usize {
        match self {
            SnapshotPiece::Partition(_) => size_of::<PartitionImage>(),
            SnapshotPiece::Pools(_, page) => page.images.len() * size_of::<PoolImage>(),
            SnapshotPiece::Reservations(_, page) => {
                page.entries.len() * size_of::<StoredReservation>()
                    + page.more_units.len() * 24
                    + (page.references.len() + page.first_requests.len()) * 64
            }
        }
    }
}

/// A partition without its pools and reservations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Which.
    pub partition: PartitionId,
    /// The number of its last event.
    pub sequence: u64,
    /// Slots for pools.
    pub pool_slot_count: u32,
    /// The first free one; all ones: none.
    pub first_free_pool: u32,
    /// Slots of retired pools that cannot be used again yet, in the order of their events.
    pub retired: Vec<u32>,
    /// Slots for reservations.
    pub reservation_slot_count: u32,
    /// Where the queue of ended reservations and the list of free slots begin and end.
    pub ends: ReservationEnds,
    /// How far what belongs to retired pools has been forgotten.
    pub sweep: Sweep,
}

/// Neighbouring pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPage {
    /// The slot of the first one; a multiple of 16.
    pub first_slot: u32,
    /// At most 16.
    pub images: Vec<PoolImage>,
}

/// What a pool's slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolImage {
    /// A pool.
    Used {
        /// Counts the uses of the slot.
        generation: u32,
        /// Counts its definitions.
        version: u64,
        /// What the planner says of it.
        definition: Arc<PoolDefinition>,
        /// Units that wait for confirmation.
        held: Counters,
        /// Confirmed units.
        confirmed: Counters,
        /// When its last event happened.
        last_event: Timestamp,
    },
    /// A retired pool that reservations may still name.
    Retired {
        /// Its generation.
        generation: u32,
        /// The event that retired it.
        sequence: u64,
    },
    /// Nothing.
    Free {
        /// The generation of the last use.
        generation: u32,
        /// The next free slot; all ones: none.
        next: u32,
    },
}

/// Neighbouring reservations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationPage {
    /// The slot of the first one; a multiple of 64.
    pub first_slot: u32,
    /// At most 64.
    pub entries: Vec<StoredReservation>,
    /// In a directory with more than two dimensions, the units of the others, for each entry.
    pub more_units: Vec<[u32; 6]>,
    /// The callers' own names, by slot.
    pub references: Vec<(u32, Arc<str>)>,
    /// By slot, the units that were asked for first, where they were changed.
    pub first_requests: Vec<(u32, Units)>,
}

/// How far the snapshot that is being taken has been copied.
pub(crate) struct SnapshotCursor {
    partition: usize,
    pool_page: usize,
    reservation_page: usize,
    images: Vec<Option<PartitionImage>>,
}

impl State {
    /// Begins a snapshot of this moment. One at a time.
    ///
    /// # Panics
    /// When another one is being taken.
    pub fn begin_snapshot(&mut self) {
        assert!(self.snapshot.is_none(), "one snapshot at a time");
        let images = self.partitions.iter_mut().map(|partition| {
            let partition = partition.as_deref_mut()?;
            partition.pools.begin_snapshot();
            partition.reservations.begin_snapshot();
            Some(image(partition))
        });
        self.snapshot = Some(SnapshotCursor {
            partition: 0,
            pool_page: 0,
            reservation_page: 0,
            images: images.collect(),
        });
    }

    /// Whether a snapshot is being taken.
    pub fn is_taking_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Copies about this many bytes of the snapshot that is being taken, and whatever was copied because it was about to be written to, to the end
    /// of `pieces`. True when that was all of it.
    pub fn copy_snapshot(&mut self, byte_count: usize, pieces: &mut Vec<SnapshotPiece>) -> bool {
        let Some(mut cursor) = self.snapshot.take() else {
            return true;
        };
        let mut copied = 0;
        while copied < byte_count {
            let Some(partition) = self.partitions.get_mut(cursor.partition) else {
                return true;
            };
            let first = pieces.len();
            match partition.as_deref_mut() {
                Some(partition) => cursor.copy(partition, pieces),
                None => cursor.next_partition(),
            }
            copied += 64 + pieces[first..].iter().map(SnapshotPiece::size).sum::<usize>();
        }
        self.snapshot = Some(cursor);
        false
    }
}

impl SnapshotCursor {
    fn next_partition(&mut self) {
        (self.partition, self.pool_page, self.reservation_page) = (self.partition + 1, 0, 0);
    }

    /// Copies the next page of the partition, or goes on to the next partition.
    fn copy(&mut self, partition: &mut Partition, pieces: &mut Vec<SnapshotPiece>) {
        let id = partition.id;
        // A partition that came into being after the snapshot's moment has no image, and no page of it is needed.
        if let Some(image) = self.images[self.partition].take() {
            pieces.push(SnapshotPiece::Partition(image));
        }
        if self.pool_page < partition.pools.snapshot_page_count() {
            partition.pools.copy_page(self.pool_page);
            self.pool_page += 1;
        } else if self.reservation_page < partition.reservations.snapshot_page_count() {
            partition.reservations.copy_page(self.reservation_page);
            self.reservation_page += 1;
        } else {
            self.next_partition();
        }
        let pools = partition.pools.take_preserved();
        pieces.extend(pools.into_iter().map(|page| SnapshotPiece::Pools(id, page)));
        let reservations = partition.reservations.take_preserved();
        pieces.extend(
            reservations
                .into_iter()
                .map(|page| SnapshotPiece::Reservations(id, page)),
        );
    }
}

fn image(partition: &Partition) -> PartitionImage {
    PartitionImage {
        partition: partition.id,
        sequence: partition.sequence,
        pool_slot_count: partition.pools.len() as u32,
        first_free_pool: partition.pools.first_free(),
        retired: partition.pools.retired().collect(),
        reservation_slot_count: partition.reservations.len() as u32,
        ends: partition.reservations.ends(),
        sweep: partition.sweep,
    }
}

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

/// A state that is being made from the pieces of a snapshot.
pub struct Restoring {
    state: State,
    /// By partition, pages that are still missing.
    missing: Vec<usize>,
}

impl Restoring {
    /// Nothing yet.
    pub fn new(options: StateOptions) -> Restoring {
        Restoring {
            missing: alloc::vec![0; crate::limits::PARTITION_COUNT],
            state: State::new(options),
        }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// When the piece contradicts the ones before it.
    pub fn take(&mut self, piece: &SnapshotPiece) -> Result<(), RestoreError> {
        let id = piece.partition();
        let error = |reason| RestoreError { partition: id, reason };
        if id.index() >= crate::limits::PARTITION_COUNT {
            return Err(error("there is no such partition"));
        }
        let exists = self.state.partition(id).is_some();
        match piece {
            SnapshotPiece::Partition(_) if exists => Err(error("it comes twice")),
            SnapshotPiece::Partition(image) => self.prepare(image),
            _ if !exists => Err(error("pages come before the partition")),
            SnapshotPiece::Pools(_, page) => {
                let partition = self.state.partition_mut(id);
                let end = page.first_slot as usize + page.images.len();
                let is_whole = page.images.len() == PAGE_POOL_COUNT || end == partition.pools.len();
                if !(page.first_slot as usize).is_multiple_of(PAGE_POOL_COUNT)
                    || end > partition.pools.len()
                    || !is_whole
                {
                    return Err(error("pools stand where there are none"));
                }
                partition.pools.restore(page);
                self.count_page(id)
            }
            SnapshotPiece::Reservations(_, page) => {
                let has_more_units = self.state.options.dimension_count > 2;
                let partition = self.state.partition_mut(id);
                let slot_count = partition.reservations.len();
                let (first, end) = (page.first_slot as usize, page.first_slot as usize + page.entries.len());
                let is_whole = page.entries.len() == PAGE_ENTRY_COUNT || end == slot_count;
                if !first.is_multiple_of(PAGE_ENTRY_COUNT) || end > slot_count || !is_whole {
                    return Err(error("reservations stand where there are none"));
                }
                let more_units_expected = if has_more_units { page.entries.len() } else { 0 };
                let slots = page.references.iter().map(|(slot, _)| slot);
                let mut slots = slots.chain(page.first_requests.iter().map(|(slot, _)| slot));
                if page.more_units.len() != more_units_expected
                    || slots.any(|slot| !(first..end).contains(&(*slot as usize)))
                {
                    return Err(error("a page of reservations is not whole"));
                }
                let in_range = |link: u32| link == NONE || (link as usize) < slot_count;
                let is_consistent = |entry: &StoredReservation| {
                    let links = entry.is_free() || entry.state().is_ended();
                    (!links || in_range(entry.link))
                        && (entry.is_free() || (entry.pool_slot as usize) < partition.pools.len())
                };
                if !page.entries.iter().all(is_consistent) {
                    return Err(error("a reservation names what does not exist"));
                }
                partition.reservations.restore(page);
                self.count_page(id)
            }
        }
    }

    fn prepare(&mut self, image: &PartitionImage) -> Result<(), RestoreError> {
        let id = image.partition;
        let error = |reason| RestoreError { partition: id, reason };
        let in_range = |link: u32, count: u32| link == NONE || link < count;
        let ends = image.ends;
        let links = [ends.oldest_ended, ends.newest_ended, ends.first_free];
        if !links.iter().all(|link| in_range(*link, image.reservation_slot_count))
            || !in_range(image.first_free_pool, image.pool_slot_count)
            || !image.retired.iter().all(|slot| *slot < image.pool_slot_count)
        {
            return Err(error("it names what does not exist"));
        }
        let partition = self.state.partition_mut(id);
        partition.sequence = image.sequence;
        partition.sweep = image.sweep;
        let (pool_count, slot_count) = (image.pool_slot_count as usize, image.reservation_slot_count as usize);
        partition
            .pools
            .prepare(pool_count, image.first_free_pool, &image.retired);
        partition.reservations.prepare(slot_count, ends);
        self.state.slot_count += slot_count;
        if !image.retired.is_empty() {
            self.state.unswept.insert(id);
        }
        self.missing[id.index()] = pool_count.div_ceil(PAGE_POOL_COUNT) + slot_count.div_ceil(PAGE_ENTRY_COUNT);
        Ok(())
    }

    fn count_page(&mut self, partition: PartitionId) -> Result<(), RestoreError> {
        let missing = &mut self.missing[partition.index()];
        *missing = missing.checked_sub(1).ok_or(RestoreError {
            partition,
            reason: "a page comes twice",
        })?;
        Ok(())
    }

    /// The state, with everything that follows from the pieces.
    ///
    /// # Errors
    /// When pieces are missing, or the counters of a pool are not the sum of its reservations.
    pub fn finish(self) -> Result<State, RestoreError> {
        let Restoring { mut state, missing } = self;
        if let Some(index) = missing.iter().position(|missing| *missing > 0) {
            return Err(RestoreError {
                partition: PartitionId(index as u16),
                reason: "pages are missing",
            });
        }
        for index in 0..state.partitions.len() {
            if let Some(mut partition) = state.partitions[index].take() {
                state.complete(&mut partition)?;
                state.partitions[index] = Some(partition);
            }
        }
        Ok(state)
    }
}

impl State {
    /// Rebuilds what follows from a partition's pools and reservations.
    fn complete(&mut self, partition: &mut Partition) -> Result<(), RestoreError> {
        let id = partition.id;
        let error = |reason| RestoreError { partition: id, reason };
        let mut sums = alloc::vec![(Counters::default(), Counters::default()); partition.pools.len()];
        for slot in 0..partition.reservations.len() as u32 {
            let Some(entry) = partition.reservations.get(slot).filter(|entry| !entry.is_free()) else {
                continue;
            };
            let (key, state, moment, pool_slot) = (entry.key, entry.state(), entry.moment, entry.pool_slot);
            let created_at = entry.created_at;
            // A key whose reservation ended long ago may have been used again: the later one has it.
            let known = partition.keys.find(key, |slot| partition.reservations.key_at(slot));
            let is_newer = known
                .and_then(|known| partition.reservations.get(known))
                .is_none_or(|known| (known.created_at, !known.state().is_ended()) < (created_at, !state.is_ended()));
            if is_newer {
                partition
                    .keys
                    .insert(key, slot, |slot| partition.reservations.key_at(slot));
            }
            let units = partition.reservations.units(slot);
            let (held, confirmed) = &mut sums[pool_slot as usize];
            match state {
                ReservationState::Held => {
                    held.add(&units);
                    let node = self.holds.insert(moment, id, slot);
                    partition.reservations.set_link(slot, node);
                }
                ReservationState::Confirmed => confirmed.add(&units),
                ReservationState::Released | ReservationState::Expired => {}
            }
        }
        for (slot, pool) in partition.pools.iter() {
            if (pool.held, pool.confirmed) != sums[slot as usize] {
                return Err(error("the counters of a pool are not the sum of its reservations"));
            }
            let pool_id = PoolId::new(id, slot, pool.generation);
            let name: Arc<str> = Arc::from(&*pool.definition().name);
            if crate::partition_of(&name) != id || self.names.insert(name, pool_id).is_some() {
                return Err(error("a pool's name belongs to another partition, or comes twice"));
            }
            self.pool_queue.insert((pool.queued_at, pool_id));
            self.touched.push(pool_id);
        }
        Ok(())
    }
}
