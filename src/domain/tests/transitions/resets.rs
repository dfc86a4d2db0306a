//! Resets in the table.

use plimsoll_domain::{Event, PastReservation, Refusal, ResetTarget, Timestamp, Units};

use crate::{Asked, DEADLINE, HOLD_SECONDS, KEY, Key, Outcome, START, Scene, Standing, kind};

impl Scene {
    /// What the pool is to go back to.
    pub(crate) fn target(&self, asked: Asked, standing: Standing) -> Option<ResetTarget> {
        let past = |reservation, key, units, hold_seconds, created_at| PastReservation {
            reservation,
            key,
            created_at: Timestamp(created_at),
            units: Units::from_slice(&[units]),
            requested_units: Units::from_slice(&[units]),
            hold_seconds,
            expires_at: None,
            version: 0,
            would_refuse: false,
            reference: None,
        };
        let mut reservations = Vec::new();
        if let Some((filler, units, at)) = self.filler {
            reservations.push(past(filler, Key(2), units, 0, at));
        }
        // One that was confirmed at once was no hold: here it was one that is confirmed.
        let hold_seconds = if standing == Standing::Confirmed {
            0
        } else {
            HOLD_SECONDS
        };
        let mut one = past(self.reservation, KEY, 2, hold_seconds, START);
        match asked {
            Asked::ResetToBefore => {}
            Asked::ResetToHeld => {
                one.expires_at = Some(Timestamp(DEADLINE));
                reservations.push(one);
            }
            Asked::ResetToConfirmed => reservations.push(one),
            Asked::ResetToOther => {
                one.key = Key(3);
                reservations.push(one);
            }
            _ => return None,
        }
        Some(ResetTarget {
            to: Timestamp(START),
            definition: None,
            reservations,
        })
    }

    /// Resets, and returns the event about the reservation.
    fn reset(&mut self, target: &ResetTarget) -> Result<Option<Event>, Refusal> {
        let now = Timestamp(self.now);
        let plan = self.state.plan_reset(self.pool, target, None, now)?;
        let mut last = None;
        for index in 0..plan.event_count() {
            let event = self.state.reset_event(target, &plan, index, now);
            self.state.apply(&event);
            last = Some(event);
        }
        Ok(last)
    }
}

pub(crate) fn check(scene: &mut Scene, target: &ResetTarget, expected: Outcome, context: &str) {
    let now = Timestamp(scene.now);
    let before = scene.state.reservation(scene.reservation, now);
    let outcome = scene.reset(target);
    let view = scene.state.reservation(scene.reservation, now);
    match (expected, outcome) {
        (Outcome::Becomes(name, state), Ok(Some(event))) => {
            assert_eq!(kind(&event), name, "{context}");
            assert_eq!(view.map(|view| view.state), Some(state), "{context}");
            let before = before.map_or(0, |before| before.version);
            let counted = u16::from(name == "restored");
            assert_eq!(view.map(|view| view.version), Some(before + counted), "{context}");
        }
        (Outcome::Stands(state), Ok(None)) => {
            assert_eq!(view.map(|view| view.state), Some(state), "{context}");
            assert_eq!(view, before, "{context}");
        }
        (Outcome::Nothing, Ok(None)) => assert_eq!(view, None, "{context}"),
        (Outcome::Refused(expected), Err(refusal)) => assert_eq!(refusal, expected, "{context}"),
        (expected, outcome) => panic!("{context}: {outcome:?} instead of {expected:?}"),
    }
    scene.state.assert_counters();
}
