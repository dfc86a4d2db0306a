//! The model beside a state.

use plimsoll_domain::{Command, Counters, Decision, PoolId, State, Timestamp};

use super::{Model, slot_of};
use crate::checkers::{Promise, Violation, hold, violation};

impl Model {
    /// The state shows exactly what the model knows.
    pub(crate) fn compare(&self, state: &State, now: i64) -> Result<(), Violation> {
        let differs = |what: &str, detail: String| {
            violation(Promise::Forgotten, || {
                format!("the state differs from what its events make, in {what}: {detail}")
            })
        };
        if state.pool_count() != self.pools.len() {
            return differs(
                "pools",
                format!("{} instead of {}", state.pool_count(), self.pools.len()),
            );
        }
        for (id, pool) in &self.pools {
            let id = PoolId(*id);
            let found = state.pool(id).filter(|_| state.pool_id(&pool.name) == Some(id));
            let is_equal = found.is_some_and(|found| {
                *found.held() == Counters(pool.held)
                    && *found.confirmed() == Counters(pool.confirmed)
                    && found.version() == pool.version
                    && *found.definition() == pool.definition
                    && found.remaining().0 == pool.remaining()
            });
            if !is_equal {
                return differs("a pool", format!("{found:?} instead of {pool:?}"));
            }
        }
        let mut count = 0;
        for view in state.reservations(Timestamp(now)) {
            count += 1;
            let expected = self.remembered(view.id.0, now);
            let reference = expected.and_then(|expected| expected.event.reference.as_deref());
            if expected.map(super::ModelReservation::view) != Some(view) || state.reference(view.id) != reference {
                return differs("a reservation", format!("{view:?} instead of {expected:?}"));
            }
            let place = state.key(view.id).map(|key| (view.pool.partition().0, key.0));
            let has_key = place.and_then(|place| self.keys.get(&place)) == Some(&view.id.0);
            if state.has_key(view.id) != has_key {
                return differs("who has a key", format!("{view:?} has it: {}", !has_key));
            }
        }
        let remembered = self.slots.values().filter(|id| self.remembered(**id, now).is_some());
        let expected = remembered.count();
        if count != expected {
            return differs("reservations", format!("{count} instead of {expected}"));
        }
        if state.held_count() != self.held_count() {
            return differs(
                "holds",
                format!("{} instead of {}", state.held_count(), self.held_count()),
            );
        }
        Ok(())
    }

    /// What is kept beside pools and reservations works in a state of this time that nobody needs any more: keys find their reservations, and
    /// every hold comes due.
    pub(crate) fn examine(&self, mut state: State, now: i64) -> Result<(), Violation> {
        for ((_, key), id) in &self.keys {
            let Some(found) = self.remembered(*id, now) else {
                continue;
            };
            let reserve = plimsoll_domain::Reserve {
                pool: found.event.pool,
                key: plimsoll_domain::Key(*key),
                units: found.event.units,
                hold_seconds: found.event.hold_seconds,
                occurred_at: Timestamp::ABSENT,
                random: 0,
                reference: found.event.reference.clone(),
            };
            let decision = state.decide(&Command::Reserve(reserve), Timestamp(now));
            let stands = matches!(&decision, Ok(Decision::Standing(view)) if view.id.0 == *id);
            hold(stands, Promise::OneEffect, || {
                format!("the key of {found:?} leads to {decision:?}")
            })?;
        }
        for (deadline, id) in &self.held {
            let found = state.reservation(plimsoll_domain::ReservationId(*id), Timestamp::ABSENT);
            let is_right = found.is_some_and(|found| found.expires_at == Some(Timestamp(*deadline)));
            hold(is_right, Promise::Time, || {
                format!(
                    "the deadline of slot {:#x} is {deadline}, and not as in {found:?}",
                    slot_of(*id)
                )
            })?;
        }
        // Past the longest hold, the wheel has gone round.
        let late = Timestamp(now + 2 * 86_400_000_000);
        let mut expired = 0;
        while let Some(event) = state.next_expiry(late) {
            state.apply(&event);
            expired += 1;
        }
        hold(expired == self.held_count(), Promise::Time, || {
            format!("{expired} holds come due instead of {}", self.held_count())
        })?;
        state.assert_counters();
        Ok(())
    }
}
