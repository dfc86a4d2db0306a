//! What happens by itself: holds expire, pools retire, and what belonged to them is forgotten.
//!
//! Each function here says what is next, as an event that the caller records and applies like that of a command. What
//! it says follows from the state and the time, so that it may be called again after an event found no room.

use alloc::boxed::Box;

use crate::partition::Partition;
use crate::reservation::ReservationState;
use crate::{
    Event, Moved, PartitionId, PoolId, PoolRetired, ReservationId, ResizeCause, Resized, State, Swept, Timestamp,
    TurnedAway,
};

/// How many reservation slots one event sweeps.
const SWEPT_SLOT_COUNT: u32 = 1024;
/// How many pools are looked at in search of one that may retire.
const POOLS_LOOKED_AT: usize = 16;

/// The deadlines of held reservations.
fn deadlines(partitions: &[Option<Box<Partition>>]) -> impl Fn(PartitionId, u32) -> Timestamp {
    |partition, slot| {
        let partition = partitions[partition.index()].as_deref();
        let entry = partition.and_then(|partition| partition.reservations.get(slot));
        entry.expect("the timer wheel names existing reservations").moment
    }
}

impl State {
    /// The next hold whose deadline has come, as the event that ends it.
    pub fn next_expiry(&mut self, now: Timestamp) -> Option<Event> {
        let deadline_of = deadlines(&self.partitions);
        let (partition, slot) = self.holds.due(now, deadline_of)?;
        self.expiry(partition, slot, now)
    }

    /// The end of this hold, if its deadline has come: for whoever is told so before its turn.
    pub fn expiry_of(&self, id: ReservationId, now: Timestamp) -> Option<Event> {
        let parts = id.parts();
        let partition = self.partition(parts.partition)?;
        let (slot, entry) = partition.reservations.find(&parts)?;
        if entry.state() != ReservationState::Held || now < entry.moment {
            return None;
        }
        self.expiry(parts.partition, slot, now)
    }

    fn expiry(&self, partition: PartitionId, slot: u32, now: Timestamp) -> Option<Event> {
        let (reservation, pool) = self.held(partition, slot)?;
        let partition = self.partition(partition)?;
        Some(Event::Expired(Moved {
            sequence: partition.sequence + 1,
            at: now,
            reservation,
            pool,
            units: partition.reservations.units(slot),
            occurred_at: Timestamp::ABSENT,
        }))
    }

    /// The next hold whose deadline passed while nobody could confirm it, as the event that moves its deadline to
    /// `expires_at`, which is later than now.
    pub fn next_extension(&mut self, now: Timestamp, expires_at: Timestamp) -> Option<Event> {
        let deadline_of = deadlines(&self.partitions);
        let (partition, slot) = self.holds.due_at_once(now, deadline_of)?;
        let partition = self.partition(partition)?;
        let (reservation, pool) = self.held(partition.id, slot)?;
        let units = partition.reservations.units(slot);
        let entry = partition.reservations.get(slot)?;
        Some(Event::Resized(Resized {
            sequence: partition.sequence + 1,
            at: now,
            reservation,
            pool,
            units,
            previous_units: units,
            expires_at: Some(expires_at),
            version: entry.version,
            cause: ResizeCause::Downtime,
            would_refuse: false,
            occurred_at: Timestamp::ABSENT,
        }))
    }

    fn held(&self, partition: PartitionId, slot: u32) -> Option<(ReservationId, PoolId)> {
        let partition = self.partition(partition)?;
        let pool = partition.pool_of(partition.reservations.get(slot)?)?;
        Some((partition.reservations.view(partition.id, slot, pool).id, pool))
    }

    /// The next pool whose life is over, as the event that retires it: its end and its last event are long ago, and
    /// nothing is held. Looks at a few pools only: `None` may mean that it goes on with others at the next call.
    pub fn next_retirement(&mut self, now: Timestamp) -> Option<Event> {
        let wait = self.options.retire_after_micros.max(self.options.key_retention_micros);
        for _ in 0..POOLS_LOOKED_AT {
            let &(queued_at, id) = self.pool_queue.first()?;
            if queued_at.plus_micros(wait) >= now {
                return None;
            }
            let partition = self.partition(id.partition())?;
            let pool = partition.pools.get(id)?;
            let is_held = pool.held().0.iter().any(|held| *held > 0);
            let ended_at = pool.definition().ends_at.max(pool.last_event);
            if !is_held && ended_at.plus_micros(wait) < now {
                return Some(Event::PoolRetired(PoolRetired {
                    sequence: partition.sequence + 1,
                    pool: id,
                }));
            }
            // What is held will have an event.
            let place = if is_held { ended_at.max(now) } else { ended_at };
            self.pool_queue.remove(&(queued_at, id));
            self.pool_queue.insert((place, id));
            if let Some(pool) = self.partition_mut(id.partition()).pools.get_mut(id) {
                pool.queued_at = place;
            }
        }
        None
    }

    /// The next step of forgetting what belongs to retired pools.
    pub fn next_sweep(&self, now: Timestamp) -> Option<Event> {
        let partition = self.partition(*self.unswept.first()?)?;
        Some(Event::Swept(Swept {
            partition: partition.id,
            sequence: partition.sequence + 1,
            ended_before: self.forget_before(now),
            from: partition.sweep.next,
            count: SWEPT_SLOT_COUNT,
        }))
    }

    /// Refusals of a pool as an event; `None` when the pool is gone.
    pub fn turned_away(
        &self,
        pool: PoolId,
        since: Timestamp,
        at: Timestamp,
        refusals: u64,
        units: [u64; 8],
    ) -> Option<Event> {
        let partition = self.partition(pool.partition())?;
        partition.pools.get(pool)?;
        Some(Event::TurnedAway(TurnedAway {
            sequence: partition.sequence + 1,
            pool,
            since,
            at,
            refusals,
            units,
        }))
    }
}
