//! What a command must lead to.

use plimsoll_domain::{Command, Confirm, PutPool, Release, ReservationState, Reserve, Resize};
use plimsoll_protocol::Status;

use super::{Model, ModelPool, ModelReservation, Prediction, PutPrediction, SlotRoom, partition_of_slot};

impl Model {
    pub(crate) fn decide(&self, command: &Command, now: i64) -> Prediction {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve, now),
            Command::Confirm(confirm) => self.decide_confirm(confirm, now),
            Command::Release(release) => self.decide_release(release, now),
            Command::Resize(resize) => self.decide_resize(resize, now),
        }
    }

    fn decide_reserve(&self, reserve: &Reserve, now: i64) -> Prediction {
        let earlier = self
            .keys
            .get(&(reserve.pool.partition().0, reserve.key.0))
            .map(|id| &self.reservations[id]);
        if let Some(earlier) = earlier.filter(|earlier| !self.is_gone(earlier, now)) {
            let is_same = earlier.event.pool == reserve.pool
                && earlier.event.units == reserve.units
                && earlier.event.hold_seconds == reserve.hold_seconds
                && earlier.event.reference == reserve.reference;
            return if is_same {
                Prediction::Standing(earlier.view())
            } else {
                Prediction::Refused(Status::KeyReused)
            };
        }
        let Some(pool) = self.pools.get(&reserve.pool.0) else {
            return Prediction::Refused(Status::PoolNotFound);
        };
        if let Some(status) = not_selling(pool, now) {
            return Prediction::Refused(status);
        }
        let short = pool.short(&reserve.units);
        if short != 0 && !pool.definition.shadow {
            let remaining = pool.remaining();
            return Prediction::Insufficient { short, remaining };
        }
        let slot_room = self.slot_room(reserve.pool.partition().0, now);
        if slot_room == SlotRoom::None {
            return Prediction::Refused(Status::Overloaded);
        }
        Prediction::Reserve {
            would_refuse: short != 0,
            slot_room,
        }
    }

    fn slot_room(&self, partition: u16, now: i64) -> SlotRoom {
        if self.slots.len() < self.rules.reservation_count_max {
            return SlotRoom::Sure;
        }
        let mut room = SlotRoom::None;
        for (slot, id) in self
            .slots
            .iter()
            .filter(|(slot, _)| partition_of_slot(**slot) == partition)
        {
            if self.is_reusable(*slot, *id, now) {
                return SlotRoom::Sure;
            }
            if self.reservations.get(id).is_some_and(|found| self.is_gone(found, now)) {
                room = SlotRoom::Maybe;
            }
        }
        room
    }

    fn decide_confirm(&self, confirm: &Confirm, now: i64) -> Prediction {
        match self.remembered(confirm.reservation.0, now) {
            None => Prediction::Refused(Status::ReservationNotFound),
            Some(found) => match found.state {
                ReservationState::Confirmed => Prediction::Standing(found.view()),
                ReservationState::Released => Prediction::Refused(Status::ReservationEnded),
                ReservationState::Held if now < found.deadline => Prediction::Move,
                ReservationState::Held => Prediction::Lapsed,
                ReservationState::Expired => Prediction::Refused(Status::HoldExpired),
            },
        }
    }

    fn decide_release(&self, release: &Release, now: i64) -> Prediction {
        match self.remembered(release.reservation.0, now) {
            None => Prediction::Refused(Status::ReservationNotFound),
            Some(found) if found.ended_at.is_some() => Prediction::Standing(found.view()),
            Some(_) => Prediction::Move,
        }
    }

    fn decide_resize(&self, resize: &Resize, now: i64) -> Prediction {
        match self.remembered(resize.reservation.0, now) {
            None => Prediction::Refused(Status::ReservationNotFound),
            Some(found) => match found.state {
                ReservationState::Released => Prediction::Refused(Status::ReservationEnded),
                ReservationState::Expired => Prediction::Refused(Status::HoldExpired),
                ReservationState::Held if found.deadline <= now => Prediction::Lapsed,
                ReservationState::Held | ReservationState::Confirmed => self.decide_live_resize(found, resize, now),
            },
        }
    }

    fn decide_live_resize(&self, found: &ModelReservation, resize: &Resize, now: i64) -> Prediction {
        let is_held = found.state == ReservationState::Held;
        if resize.expected_version.is_some_and(|version| version != found.version) {
            return Prediction::Refused(Status::ChangedMeanwhile);
        }
        if !is_held && resize.hold_seconds > 0 {
            return Prediction::Refused(Status::NotHeld);
        }
        let mut units = found.units;
        let mut grown = found.units;
        for dimension in 0..8 {
            let asked = resize.units.0[dimension];
            if dimension < self.rules.dimension_count && asked != Resize::UNCHANGED {
                units.0[dimension] = asked;
            }
            grown.0[dimension] = units.0[dimension].saturating_sub(found.units.0[dimension]);
        }
        if units.is_zero() {
            return Prediction::Refused(Status::Invalid);
        }
        if units == found.units && resize.hold_seconds == 0 {
            return Prediction::Standing(found.view());
        }
        let mut short = 0;
        if !grown.is_zero() {
            let pool = &self.pools[&found.event.pool.0];
            if let Some(status) = not_selling(pool, now) {
                return Prediction::Refused(status);
            }
            short = pool.short(&grown);
            if short != 0 && !pool.definition.shadow {
                let remaining = pool.remaining();
                return Prediction::Insufficient { short, remaining };
            }
        }
        let expires_at = match resize.hold_seconds {
            _ if !is_held => None,
            0 => Some(found.deadline),
            seconds => Some(now + i64::from(seconds) * 1_000_000),
        };
        Prediction::Resize {
            units,
            grows: !grown.is_zero(),
            expires_at,
            version: found.version + 1,
            would_refuse: short != 0,
        }
    }

    pub(crate) fn decide_put(&self, put: &PutPool) -> PutPrediction {
        let expected = put.expected_version;
        match self.pool_id(&put.definition.name) {
            None if expected.is_some_and(|version| version != PutPool::MUST_NOT_EXIST) => {
                PutPrediction::Refused(Status::ChangedMeanwhile)
            }
            None if self.pools.len() >= self.rules.pool_count_max => PutPrediction::Refused(Status::Overloaded),
            None => PutPrediction::Change {
                is_new: true,
                version: 1,
            },
            Some(id) => {
                let pool = &self.pools[&id];
                if expected.is_some_and(|version| version != pool.version) {
                    PutPrediction::Refused(Status::ChangedMeanwhile)
                } else if *pool.definition == put.definition {
                    PutPrediction::Unchanged {
                        pool: id,
                        version: pool.version,
                    }
                } else {
                    PutPrediction::Change {
                        is_new: false,
                        version: pool.version + 1,
                    }
                }
            }
        }
    }
}

fn not_selling(pool: &ModelPool, now: i64) -> Option<Status> {
    let definition = &pool.definition;
    if definition.closed {
        Some(Status::PoolClosed)
    } else if now < definition.opens_at.0 {
        Some(Status::PoolNotOpenYet)
    } else if now >= definition.closes_at.0 {
        Some(Status::PoolPastClosing)
    } else {
        None
    }
}
