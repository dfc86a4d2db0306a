//! Taking the events of a journal into a state.
//!
//! Invariants:
//! - Until the last event is taken, the key tables and the timer wheel stand still, and nobody looks anything up in them:
//!   whether an event fits, and what it changes, depends on neither.
//! - They follow from the reservations, and at the end they are made of them. That costs what is there, not what ever
//!   happened, and goes through one partition at a time, whose table fits the cache.

use crate::holds::Holds;
use crate::partition::Partition;
use crate::reservation::{ReservationState, StoredReservation};
use crate::{Event, PoolId, ReservationId, State, StateOptions, Timestamp};

/// A state that events are being replayed into.
pub struct Replaying {
    state: State,
}

impl Replaying {
    /// Into an empty state.
    pub fn new(options: StateOptions) -> Replaying {
        Replaying {
            state: State::before_replay(options),
        }
    }

    /// Into what a snapshot gave.
    pub(crate) fn from_restored(state: State) -> Replaying {
        assert!(state.holds.stands_still(), "a restored state has no wheel yet");
        Replaying { state }
    }

    /// Reads what the event will read and change, so that it is in the cache then. For a few events at once, before they
    /// are taken, these reads overlap. Any event may be asked about; the result only keeps the compiler from leaving the
    /// reads out.
    #[inline]
    pub fn touch(&self, event: &Event) -> u64 {
        match event {
            Event::Reserved(event) => self.touch_places(event.reservation, event.pool),
            Event::Released(event) => self.touch_places(event.reservation, event.pool),
            Event::Confirmed(event) | Event::Expired(event) => self.touch_places(event.reservation, event.pool),
            Event::Resized(event) => self.touch_places(event.reservation, event.pool),
            Event::PoolCreated(_)
            | Event::PoolChanged(_)
            | Event::PoolRetired(_)
            | Event::Swept(_)
            | Event::TurnedAway(_) => 0,
        }
    }

    #[inline]
    fn touch_places(&self, reservation: ReservationId, pool: PoolId) -> u64 {
        let parts = reservation.parts();
        let Some(partition) = self.state.partition(parts.partition) else {
            return 0;
        };
        let entry = partition.reservations.get(parts.slot as u32);
        let pool = partition.pools.at(pool.slot());
        entry.map_or(0, |entry| entry.random) ^ pool.map_or(0, |pool| pool.touched_in)
    }

    /// Takes the event into the state.
    ///
    /// # Errors
    /// What does not fit ([`State::check_fits`]): nothing of the event has an effect then.
    #[inline]
    pub fn take(&mut self, event: &Event) -> Result<(), &'static str> {
        self.state.check_fits(event)?;
        self.state.apply(event);
        Ok(())
    }

    /// The state, with everything that follows from its reservations.
    pub fn finish(self) -> State {
        let mut state = self.state;
        state.holds.moves();
        let State { partitions, holds, .. } = &mut state;
        for partition in partitions.iter_mut().flatten() {
            partition.index(holds);
        }
        state
    }
}

impl State {
    /// An empty state whose timer wheel, and the key tables of whose partitions, stand still.
    pub(crate) fn before_replay(options: StateOptions) -> State {
        State {
            holds: Holds::standing_still(),
            ..State::new(options)
        }
    }
}

impl Partition {
    /// Makes the key table, and puts what is held into the wheel.
    fn index(&mut self, holds: &mut Holds) {
        let slot_count = self.reservations.len();
        self.keys.moves(slot_count);
        for slot in 0..slot_count as u32 {
            let Some(entry) = self.reservations.get(slot).filter(|entry| !entry.is_free()) else {
                continue;
            };
            let (key, age) = (entry.key, age(entry));
            let held_until = (entry.state() == ReservationState::Held).then_some(entry.moment);
            let reservations = &self.reservations;
            let key_at = |slot| reservations.key_at(slot);
            // A key whose reservation ended long ago may have been used again: the later one has it.
            let is_older = |known| reservations.get(known).is_some_and(|known| self::age(known) < age);
            self.keys.insert_if(key, slot, key_at, is_older);
            if let Some(deadline) = held_until {
                let node = holds.insert(deadline, self.id, slot);
                self.reservations.set_link(slot, node);
            }
        }
    }
}

/// Of two reservations with one key, the earlier one had ended when the later one was made.
fn age(entry: &StoredReservation) -> (Timestamp, bool) {
    (entry.created_at, !entry.state().is_ended())
}
