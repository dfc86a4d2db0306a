//! Taking a snapshot beside the traffic; `restore` makes a state from one.
//!
//! A snapshot is of one moment, and is copied piece by piece afterwards. Pages that are about to be written to are
//! copied first (`stamps`), so that no call copies more than what it changes itself or is told to. What follows from
//! the rest is not part of it: names, the key table, the timer wheel, the order in which pools retire.
//!
//! Invariant: the pieces of a partition are one [`PartitionImage`] and every page of it exactly once; the image comes
//! first. A page of reservations has a [`MovedPage`] beside it if some of them lie in another slot than their ids say.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::partition::{Partition, Sweep};
use crate::reservation::ReservationEnds;
use crate::stored::StoredReservation;
use crate::{Counters, MovedPage, MovedReservation, PartitionId, PoolDefinition, State, Timestamp, Units};

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPiece {
    /// A partition as a whole.
    Partition(PartitionImage),
    /// Some of its pools.
    Pools(PartitionId, PoolPage),
    /// Some of its reservations.
    Reservations(PartitionId, ReservationPage),
    /// Which reservations of a page lie in another slot than their ids say.
    Moved(PartitionId, MovedPage),
}

impl SnapshotPiece {
    /// The partition that it belongs to.
    pub fn partition(&self) -> PartitionId {
        match self {
            SnapshotPiece::Partition(image) => image.partition,
            SnapshotPiece::Pools(partition, _)
            | SnapshotPiece::Reservations(partition, _)
            | SnapshotPiece::Moved(partition, _) => *partition,
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
            SnapshotPiece::Moved(_, page) => page.moved.len() * size_of::<MovedReservation>(),
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

    /// Copies about this many bytes of the snapshot that is being taken, and whatever was copied because it was about
    /// to be written to, to the end of `pieces`. True when that was all of it.
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
        let (reservations, moved) = partition.reservations.take_preserved();
        pieces.extend(
            reservations
                .into_iter()
                .map(|page| SnapshotPiece::Reservations(id, page)),
        );
        pieces.extend(moved.into_iter().map(|page| SnapshotPiece::Moved(id, page)));
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
