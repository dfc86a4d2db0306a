//! Taking events into the state. It cannot fail: what an event says was decided against this very state.

use alloc::sync::Arc;

use crate::reservation::{NONE, ReservationState};
use crate::stored::StoredReservation;
use crate::{
    Counters, Event, Moved, Pool, PoolDefined, PoolId, PoolRetired, Released, ReservationId, Reserved, Resized, State,
    Timestamp,
};

impl State {
    /// Takes the event into the state.
    ///
    /// # Panics
    /// When the event does not fit the state, which only a bug or a foreign journal can bring about, and when it would
    /// oversell a pool.
    #[inline]
    pub fn apply(&mut self, event: &Event) {
        let slot = match event {
            Event::Confirmed(event) | Event::Expired(event) => self.slot_of(event.reservation),
            Event::Released(event) => self.slot_of(event.reservation),
            Event::Resized(event) => self.slot_of(event.reservation),
            _ => NONE,
        };
        self.apply_at(event, slot);
    }

    /// Where an existing reservation lies.
    #[inline]
    fn slot_of(&self, id: ReservationId) -> u32 {
        let parts = id.parts();
        let found = self
            .partition(parts.partition)
            .and_then(|partition| partition.reservations.find(&parts));
        found.expect("events name existing reservations").0
    }

    /// The same, where it is known where the reservation lies that the event changes, see [`State::slot_that_fits`].
    #[inline]
    pub(crate) fn apply_at(&mut self, event: &Event, slot: u32) {
        let partition = self.partition_mut(event.partition());
        assert_eq!(
            event.sequence(),
            partition.sequence + 1,
            "a partition's events are numbered without gaps and applied in order"
        );
        partition.sequence += 1;
        match event {
            Event::Reserved(event) => self.apply_reserved(event),
            Event::Confirmed(event) => self.apply_confirmed(event, slot),
            Event::Released(event) => self.apply_released(event, slot),
            Event::Expired(event) => self.apply_expired(event, slot),
            Event::Resized(event) => self.apply_resized(event, slot),
            Event::PoolCreated(event) => self.apply_pool_created(event),
            Event::PoolChanged(event) => self.apply_pool_changed(event),
            Event::PoolRetired(event) => self.apply_pool_retired(event),
            Event::Swept(event) => {
                let partition = self.partition_mut(event.partition);
                partition.apply_swept(event);
                if !partition.pools.has_retired() {
                    self.unswept.remove(&event.partition);
                }
            }
            Event::TurnedAway(_) => {}
            Event::PoolReset(event) => {
                self.touch_pool(event.pool, event.at);
            }
            Event::Restored(event) => self.apply_restored(event),
        }
    }

    fn apply_reserved(&mut self, event: &Reserved) {
        let parts = event.reservation.parts();
        let partition = self.partition_mut(parts.partition);
        let slot = u32::try_from(parts.slot).expect("slots fit 32 bits");
        let slot_count = partition.reservations.len();
        if let Some(key) = partition.reservations.vacate(slot) {
            partition.keys.remove(key, slot);
        }
        let reference = event.reference.as_deref();
        let entry = StoredReservation::new(event);
        partition.reservations.put(slot, entry, &event.units, reference);
        partition.give_key(event.key, slot);
        self.slot_count += self.partition_mut(parts.partition).reservations.len() - slot_count;
        if event.hold_seconds > 0 {
            let deadline = event.at.plus_seconds(event.hold_seconds);
            let node = self.holds.insert(deadline, parts.partition, slot);
            self.partition_mut(parts.partition).reservations.set_link(slot, node);
        }
        let pool = self.touch_pool(event.pool, event.at);
        if event.hold_seconds == 0 {
            pool.confirmed.add(&event.units);
        } else {
            pool.held.add(&event.units);
        }
        if !event.would_refuse {
            pool.assert_not_oversold(&event.units);
        }
    }

    fn apply_confirmed(&mut self, event: &Moved, slot: u32) {
        self.take_out_of_holds(event, slot);
        self.partition_mut(event.pool.partition()).reservations.confirm(slot);
        let pool = self.touch_pool(event.pool, event.at);
        pool.held.subtract(&event.units);
        pool.confirmed.add(&event.units);
    }

    fn apply_expired(&mut self, event: &Moved, slot: u32) {
        self.take_out_of_holds(event, slot);
        let partition = self.partition_mut(event.pool.partition());
        partition.reservations.end(slot, ReservationState::Expired, event.at);
        self.touch_pool(event.pool, event.at).held.subtract(&event.units);
    }

    /// A held reservation leaves the timer wheel.
    fn take_out_of_holds(&mut self, event: &Moved, slot: u32) {
        let reservations = &self.partition_mut(event.pool.partition()).reservations;
        let entry = reservations.get(slot).expect("events name existing reservations");
        assert_eq!(
            entry.state(),
            ReservationState::Held,
            "only a hold is confirmed or expires"
        );
        debug_assert_eq!(reservations.units(slot), event.units);
        let node = entry.link;
        self.holds.remove(node);
    }

    fn apply_released(&mut self, event: &Released, slot: u32) {
        let reservations = &mut self.partition_mut(event.pool.partition()).reservations;
        let entry = reservations.get(slot).expect("events name existing reservations");
        assert_eq!(
            event.was_confirmed,
            entry.state() == ReservationState::Confirmed,
            "a release gives back what was taken"
        );
        let hold = (!event.was_confirmed).then_some(entry.link);
        debug_assert_eq!(reservations.units(slot), event.units);
        reservations.end(slot, ReservationState::Released, event.at);
        if let Some(node) = hold {
            self.holds.remove(node);
        }
        let pool = self.touch_pool(event.pool, event.at);
        if event.was_confirmed {
            pool.confirmed.subtract(&event.units);
        } else {
            pool.held.subtract(&event.units);
        }
    }

    fn apply_resized(&mut self, event: &Resized, slot: u32) {
        let parts = event.reservation.parts();
        let reservations = &mut self.partition_mut(parts.partition).reservations;
        let entry = reservations.get(slot).expect("events name existing reservations");
        let (state, old_deadline, node) = (entry.state(), entry.moment, entry.link);
        debug_assert_eq!(reservations.units(slot), event.previous_units);
        reservations.resize(slot, event);
        if let Some(expires_at) = event.expires_at
            && expires_at != old_deadline
        {
            assert_eq!(state, ReservationState::Held, "only a hold has a deadline");
            self.holds.remove(node);
            let node = self.holds.insert(expires_at, parts.partition, slot);
            self.partition_mut(parts.partition).reservations.set_link(slot, node);
        }
        let pool = self.touch_pool(event.pool, event.at);
        let counters = match state {
            ReservationState::Held => &mut pool.held,
            ReservationState::Confirmed => &mut pool.confirmed,
            ReservationState::Released | ReservationState::Expired => panic!("only a live reservation is resized"),
        };
        counters.subtract(&event.previous_units);
        counters.add(&event.units);
        if !event.would_refuse {
            pool.assert_not_oversold(&event.units.grown_from(&event.previous_units));
        }
    }

    fn apply_pool_created(&mut self, event: &PoolDefined) {
        let id = event.pool;
        let definition = Arc::clone(&event.definition);
        self.names.insert(Arc::from(&*definition.name), id);
        self.pool_queue.insert((definition.ends_at, id));
        let pool = Pool::new(id.generation(), event.version, event.at, definition);
        self.partition_mut(id.partition()).pools.put(id.slot(), pool);
        self.touch_pool(id, event.at);
    }

    fn apply_pool_changed(&mut self, event: &PoolDefined) {
        let pool = self.touch_pool(event.pool, event.at);
        let old_place = (pool.queued_at, event.pool);
        pool.redefine(event.version, event.at, Arc::clone(&event.definition));
        let place = (pool.queued_at, event.pool);
        self.pool_queue.remove(&old_place);
        self.pool_queue.insert(place);
    }

    fn apply_pool_retired(&mut self, event: &PoolRetired) {
        let held = self.touch_pool(event.pool, Timestamp(0)).held;
        assert_eq!(
            held,
            Counters::default(),
            "a pool of which something is held is not retired"
        );
        let partition_id = event.pool.partition();
        let pool = self
            .partition_mut(partition_id)
            .pools
            .retire(event.pool, event.sequence);
        self.pool_queue.remove(&(pool.queued_at, event.pool));
        self.names.remove(&*pool.definition().name);
        self.unswept.insert(partition_id);
    }

    /// The pool, which an event of this time changes.
    #[inline]
    pub(crate) fn touch_pool(&mut self, id: PoolId, at: Timestamp) -> &mut Pool {
        let collection = self.touch_collection;
        let partition = self.partitions[id.partition().index()]
            .as_mut()
            .expect("events name existing pools");
        let pool = partition.pools.get_mut(id).expect("events name existing pools");
        pool.last_event = pool.last_event.max(at);
        if pool.touched_in != collection {
            pool.touched_in = collection;
            self.touched.push(id);
        }
        pool
    }
}
