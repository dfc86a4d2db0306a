//! What clients were told, beside the states of the cores.

use std::collections::BTreeMap;

use plimsoll_domain::{ReservationId, ReservationState, State, Timestamp};

use super::{Intent, Ledger, Origin, Progress, Wish};
use crate::checkers::{Promise, Violation, hold, violation};
use crate::model::Model;

impl Ledger {
    /// What clients were told stands in the state of the core.
    pub(crate) fn check(&self, core: usize, state: &State) -> Result<(), Violation> {
        for (number, pool) in self.pools.iter().enumerate().filter(|(_, pool)| pool.core == core) {
            let Some(id) = pool.id else { continue };
            let found = state.pool(id).filter(|found| *found.definition().name == *pool.name);
            let is_right = match found {
                Some(found) => {
                    found.version() > pool.acked_version
                        || found.version() == pool.acked_version && Some(&**found.definition()) == pool.acked.as_ref()
                }
                None => self.may_be_retired(number, id),
            };
            hold(is_right, Promise::Durable, || {
                format!(
                    "pool {} was acknowledged in version {}, and is {found:?}",
                    pool.name, pool.acked_version
                )
            })?;
        }
        for (index, intent) in self.intents.iter().enumerate() {
            let (Wish::Reserve { pool, origin, .. }, Progress::Done(id)) = (&intent.wish, intent.progress) else {
                continue;
            };
            // The first one's, with which everything else is done.
            let is_first = match origin {
                Origin::Same(first) | Origin::Conflict(first) => self.intents[*first].progress != Progress::Done(id),
                Origin::New => true,
            };
            if self.pools[*pool].core == core && is_first {
                self.check_reservation(index, intent, ReservationId(id), state)?;
            }
        }
        Ok(())
    }

    fn check_reservation(
        &self,
        index: usize,
        intent: &Intent,
        id: ReservationId,
        state: &State,
    ) -> Result<(), Violation> {
        let Wish::Reserve { id: pool, .. } = &intent.wish else {
            return Ok(());
        };
        if self.may_be_reset(index) {
            return Ok(());
        }
        let found = state.reservation(id, Timestamp::ABSENT);
        let lives =
            found.is_some_and(|found| matches!(found.state, ReservationState::Held | ReservationState::Confirmed));
        let is_same = found.is_none_or(|found| intent.holding.units.contains(&found.units) && found.pool == *pool);
        let is_right = is_same && (lives || intent.release_attempted || self.may_have_ended(index));
        hold(is_right, Promise::Durable, || {
            format!("wish {index} was acknowledged: {intent:?}, and its reservation is {found:?}")
        })?;
        hold(!(lives && intent.release_done), Promise::Durable, || {
            format!("the release of wish {index} was acknowledged: {intent:?}, and its reservation is {found:?}")
        })?;
        let is_held = found.is_some_and(|found| found.state == ReservationState::Held);
        hold(!(is_held && intent.is_confirmed()), Promise::Durable, || {
            format!("the confirmation of wish {index} was acknowledged: {intent:?}, and its reservation is {found:?}")
        })
    }

    /// When everything is answered: each wish has at most one effect, and no effect is unknown to its client; what clients hold fits.
    pub(crate) fn check_effects(&self, model: &Model, state: &State) -> Result<(), Violation> {
        let mut effects = BTreeMap::new();
        for view in state
            .reservations(Timestamp::ABSENT)
            .filter(|view| !view.state.is_ended())
        {
            let Some(found) = model.reservation(view.id.0) else {
                continue;
            };
            let wish = found.event.occurred_at.0 as usize;
            if self.may_be_reset(wish) {
                continue;
            }
            if let Some(other) = effects.insert(wish, view.id) {
                return violation(Promise::OneEffect, || {
                    format!(
                        "wish {wish} has two effects, {other:?} and {:?}: {:?}",
                        view.id, self.intents[wish]
                    )
                });
            }
            let told = self.intents[wish].progress;
            let is_known = told == Progress::Done(view.id.0) || told == Progress::Abandoned;
            hold(is_known, Promise::OneEffect, || {
                format!("wish {wish} has the effect {view:?}, and its client was told {told:?}")
            })?;
        }
        for (number, pool) in self.pools.iter().enumerate() {
            let Some(id) = pool.id else { continue };
            if pool.was_shadow || pool.was_replaced || pool.was_reset || self.may_be_retired(number, id) {
                continue;
            }
            let mut sums = [0; 8];
            for (index, intent) in self.intents.iter().enumerate() {
                if let (
                    Wish::Reserve {
                        pool,
                        origin: Origin::New,
                        ..
                    },
                    Progress::Done(_),
                ) = (&intent.wish, intent.progress)
                    && *pool == number
                    && !intent.release_attempted
                    && !self.may_have_ended(index)
                {
                    for (dimension, sum) in sums.iter_mut().enumerate() {
                        let least = intent.holding.units.iter().map(|units| units.0[dimension]).min();
                        *sum += i64::from(least.unwrap_or(0));
                    }
                }
            }
            let fits = sums.iter().zip(pool.ceiling_max).all(|(sum, ceiling)| *sum <= ceiling);
            hold(fits, Promise::Oversold, || {
                format!(
                    "clients hold {sums:?} of pool {}, whose ceiling never was above {:?}",
                    pool.name, pool.ceiling_max
                )
            })?;
        }
        Ok(())
    }
}
