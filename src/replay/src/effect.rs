//! What events do to the counters of their pools.

use plimsoll_domain::{Counters, Event, ReservationState, Units};

/// What an event adds to a pool's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// To what is held.
    pub held: Counters,
    /// To what is confirmed.
    pub confirmed: Counters,
}

impl Effect {
    /// That of an event. The end of a pool's life is none of them: it takes whatever there is.
    pub fn of(event: &Event) -> Effect {
        let mut effect = Effect::default();
        match event {
            Event::Reserved(event) => effect.side(event.hold_seconds > 0).add(&event.units),
            Event::Confirmed(event) => {
                effect.held.subtract(&event.units);
                effect.confirmed.add(&event.units);
            }
            Event::Released(event) => effect.side(!event.was_confirmed).subtract(&event.units),
            Event::Expired(event) => effect.held.subtract(&event.units),
            Event::Resized(event) => {
                let side = effect.side(event.expires_at.is_some());
                side.add(&event.units);
                side.subtract(&event.previous_units);
            }
            Event::Restored(event) => {
                effect.side(event.expires_at.is_some()).add(&event.units);
                if let Some(state) = event.previous_state {
                    effect
                        .side(state == ReservationState::Held)
                        .subtract(&event.previous_units);
                }
            }
            Event::PoolCreated(_)
            | Event::PoolChanged(_)
            | Event::PoolReset(_)
            | Event::PoolRetired(_)
            | Event::Swept(_)
            | Event::TurnedAway(_) => {}
        }
        effect
    }

    fn side(&mut self, is_held: bool) -> &mut Counters {
        if is_held { &mut self.held } else { &mut self.confirmed }
    }
}

/// A pool's counters after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// The limits.
    pub limits: Units,
    /// What is held.
    pub held: Counters,
    /// What is confirmed.
    pub confirmed: Counters,
}

impl After {
    /// From before an event to after it.
    pub fn apply(&mut self, effect: &Effect) {
        change(&mut self.held, &effect.held, 1);
        change(&mut self.confirmed, &effect.confirmed, 1);
    }

    /// From after an event to before it.
    pub fn undo(&mut self, effect: &Effect) {
        change(&mut self.held, &effect.held, -1);
        change(&mut self.confirmed, &effect.confirmed, -1);
    }
}

fn change(counters: &mut Counters, by: &Counters, sign: i64) {
    for (counter, by) in counters.0.iter_mut().zip(by.0) {
        // History that is not whole must not stop whoever reads it.
        *counter = counter.wrapping_add(by.wrapping_mul(sign));
    }
}
