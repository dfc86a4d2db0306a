//! Taking events into the state. It cannot fail: what an event says was decided against this very state.

use alloc::sync::Arc;

use crate::reservation::{Reservation, ReservationState};
use crate::{Event, Pool, PoolDefined, Released, Reserved, State};

impl State {
    /// Takes the event into the state.
    ///
    /// # Panics
    /// When the event does not fit the state, which only a bug or a foreign journal can bring about, and when it would oversell a pool.
    #[inline]
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Reserved(event) => self.apply_reserved(event),
            Event::Released(event) => self.apply_released(event),
            Event::PoolCreated(event) => self.apply_pool_created(event),
            Event::PoolChanged(event) => self.apply_pool_changed(event),
        }
    }

    fn apply_reserved(&mut self, event: &Reserved) {
        let parts = event.reservation.parts();
        let partition = self.partition_mut(parts.partition);
        advance(&mut partition.sequence, event.sequence);
        let slot = u32::try_from(parts.slot).expect("slots fit 32 bits");
        if let Some(key) = partition.reservations.get(slot).map(|entry| entry.key) {
            partition.reservations.forget(slot);
            partition.keys.remove(key, slot);
            partition.references.remove(&slot);
        }
        partition.reservations.put(slot, Reservation::new(event), &event.units);
        partition
            .keys
            .insert(event.key, slot, |slot| partition.reservations.key_at(slot));
        if let Some(reference) = &event.reference {
            partition.references.insert(slot, reference.clone());
        }
        let pool = partition.pool_mut(event.pool).expect("events name existing pools");
        if event.hold_seconds == 0 {
            pool.confirmed.add(&event.units);
        } else {
            pool.held.add(&event.units);
        }
        if !event.would_refuse {
            pool.assert_not_oversold(&event.units);
        }
    }

    fn apply_released(&mut self, event: &Released) {
        let parts = event.reservation.parts();
        let partition = self.partition_mut(parts.partition);
        advance(&mut partition.sequence, event.sequence);
        let (slot, _) = partition
            .reservations
            .find(&parts)
            .expect("events name existing reservations");
        debug_assert_eq!(partition.reservations.units(slot), event.units);
        partition.reservations.end(slot, ReservationState::Released, event.at);
        let pool = partition.pool_mut(event.pool).expect("events name existing pools");
        if event.was_confirmed {
            pool.confirmed.subtract(&event.units);
        } else {
            pool.held.subtract(&event.units);
        }
    }

    fn apply_pool_created(&mut self, event: &PoolDefined) {
        let id = event.pool;
        let partition = self.partition_mut(id.partition());
        advance(&mut partition.sequence, event.sequence);
        assert_eq!(partition.pools.len(), id.slot() as usize, "pools take slots in order");
        partition
            .pools
            .push(Pool::new(id.generation(), event.version, event.definition.clone()));
        self.names.insert(Arc::from(&*event.definition.name), id);
    }

    fn apply_pool_changed(&mut self, event: &PoolDefined) {
        let partition = self.partition_mut(event.pool.partition());
        advance(&mut partition.sequence, event.sequence);
        let pool = partition.pool_mut(event.pool).expect("events name existing pools");
        pool.redefine(event.version, event.definition.clone());
    }
}

/// A partition's events are numbered without gaps.
#[inline]
fn advance(sequence: &mut u64, next: u64) {
    assert_eq!(next, *sequence + 1, "a partition's events are applied in order");
    *sequence = next;
}
