//! Taking the events of a journal into a state.
//!
//! Invariants:
//! - Until the last event is taken, the key tables and the timer wheel stand still, and nobody looks anything up in them:
//!   whether an event fits, and what it changes, depends on neither.
//! - They follow from the reservations, and at the end they are made of them. That costs what is there, not what ever
//!   happened, and goes through one partition at a time, whose table fits the cache.
//! - A reset gives keys back, and who has one then does not follow from the reservations alone. So they are made before
//!   the first event that restores a reservation, and move from then on.

use crate::holds::Holds;
use crate::partition::Partition;
use crate::reservation::ReservationState;
use crate::stored::StoredReservation;
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

    /// Reads where the reservation stands, or will stand, so that it is in the cache when an event of it is taken. For a few events at once, before they are taken, these reads overlap. Any
    /// id will do; the result only keeps the compiler from leaving the reads out.
    #[inline]
    pub fn touch_reservation(&self, id: ReservationId) -> u64 {
        let parts = id.parts();
        let partition = self.state.partition(parts.partition);
        let entry = partition.and_then(|partition| partition.reservations.get(parts.slot as u32));
        entry.map_or(0, |entry| entry.random)
    }

    /// The same of a pool and its counters.
    #[inline]
    pub fn touch_pool(&self, id: PoolId) -> u64 {
        let partition = self.state.partition(id.partition());
        let pool = partition.and_then(|partition| partition.pools.at(id.slot()));
        pool.map_or(0, |pool| {
            pool.touched_in ^ (pool.held.0[0] ^ pool.confirmed.0[0] ^ pool.ceiling().0[0]) as u64
        })
    }

    /// Takes the event into the state.
    ///
    /// # Errors
    /// What does not fit ([`State::check_fits`]): nothing of the event has an effect then.
    #[inline]
    pub fn take(&mut self, event: &Event) -> Result<(), &'static str> {
        if matches!(event, Event::Restored(_)) {
            self.index();
        }
        self.state.check_fits(event)?;
        self.state.apply(event);
        Ok(())
    }

    /// Makes what follows from the reservations, unless that was done.
    #[cold]
    fn index(&mut self) {
        let State { partitions, holds, .. } = &mut self.state;
        if !holds.stands_still() {
            return;
        }
        holds.moves();
        for partition in partitions.iter_mut().flatten() {
            partition.index(holds);
        }
    }

    /// The state, with everything that follows from its reservations.
    pub fn finish(mut self) -> State {
        self.index();
        self.state
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
            let (key, age, has_key) = (entry.key, age(entry), entry.has_key());
            let held_until = (entry.state() == ReservationState::Held).then_some(entry.moment);
            let reservations = &self.reservations;
            let key_at = |slot| reservations.key_at(slot);
            if has_key {
                // A key whose reservation ended long ago may have been used again: the later one has it.
                let is_older = |known| reservations.get(known).is_some_and(|known| self::age(known) < age);
                if let Some(loser) = self.keys.insert_if(key, slot, key_at, is_older) {
                    self.reservations.lose_key(loser);
                }
            }
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
