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
        let slot = self.state.slot_that_fits(event)?;
        self.state.apply_at(event, slot);
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::{Command, Decision, Key, PoolDefinition, PutOutcome, PutPool, Release, Reserve, Units};

    const RETENTION_MICROS: i64 = 100;

    struct Run {
        state: State,
        events: Vec<Event>,
        pool: PoolId,
        now: Timestamp,
    }

    impl Run {
        fn new() -> Run {
            let mut state = State::new(options());
            let put = PutPool {
                definition: PoolDefinition::sample("slot-1", &[10]),
                expected_version: None,
            };
            let Ok(PutOutcome::Created(created)) = state.decide_put(&put, Timestamp(0)) else {
                panic!("there is no such pool")
            };
            let pool = created.pool;
            let event = Event::PoolCreated(created);
            state.apply(&event);
            Run {
                state,
                events: alloc::vec![event],
                pool,
                now: Timestamp(0),
            }
        }

        fn decide(&mut self, command: &Command) {
            self.now = self.now.plus_micros(1);
            let Ok(Decision::Change(event)) = self.state.decide(command, self.now) else {
                panic!("{command:?} has no effect")
            };
            self.state.apply(&event);
            self.events.push(event);
        }

        fn reserve(&self, key: u128) -> Command {
            Command::Reserve(Reserve {
                pool: self.pool,
                key: Key(key),
                units: Units::from_slice(&[1]),
                hold_seconds: 0,
                occurred_at: Timestamp::ABSENT,
                random: 0,
                reference: None,
            })
        }
    }

    fn options() -> StateOptions {
        StateOptions {
            key_retention_micros: RETENTION_MICROS,
            ..StateOptions::new(1)
        }
    }

    /// Two reservations have one key for a while, the later one in either slot.
    #[test]
    fn a_key_names_the_later_reservation_whichever_slot_that_has() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut run = Run::new();
            for key in [first, second] {
                run.decide(&run.reserve(key));
            }
            let ids: Vec<ReservationId> = run.state.reservations(run.now).map(|view| view.id).collect();
            // The slot of key 2 is the one that is used again.
            for key in [2, 1] {
                let reservation = ids[usize::from(key == second)];
                run.decide(&Command::Release(Release {
                    reservation,
                    occurred_at: Timestamp::ABSENT,
                }));
            }
            run.now = run.now.plus_micros(RETENTION_MICROS + 1);
            run.decide(&run.reserve(1));
            let mut replaying = Replaying::new(options());
            for event in &run.events {
                assert_eq!(replaying.take(event), Ok(()));
            }
            let replayed = replaying.finish();
            assert_eq!(replayed.digest(run.now), run.state.digest(run.now));
            let again = replayed.decide(&run.reserve(1), run.now);
            assert!(matches!(again, Ok(Decision::Standing(_))), "{again:?}");
            assert_eq!(again, run.state.decide(&run.reserve(1), run.now));
        }
    }
}
