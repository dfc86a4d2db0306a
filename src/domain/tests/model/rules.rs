//! What the model decides, and what events do to it.

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{
    Command, Confirm, Decision, Event, Moved, PartitionId, PoolDefined, PoolId, PutOutcome, PutPool, Refusal, Release,
    ReleaseCause, Released, ReservationId, ReservationParts, ReservationState, Reserve, Reserved, Resize, ResizeCause,
    Resized, Swept, Timestamp, Units, partition_of,
};

use crate::faults::Fault;
use crate::naive::{Model, ModelPool, ModelReservation};

impl Model {
    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Refusal> {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve),
            Command::Confirm(confirm) => self.decide_confirm(confirm),
            Command::Release(release) => self.decide_release(release),
            Command::Resize(resize) => self.decide_resize(resize),
        }
    }

    fn check_selling(&self, pool: &ModelPool) -> Result<(), Refusal> {
        let definition = &pool.definition;
        if definition.closed {
            return Err(Refusal::PoolClosed);
        }
        if self.now < definition.opens_at.0 {
            return Err(Refusal::PoolNotOpenYet);
        }
        let last = i64::from(self.has(Fault::ClosingTimeStillSells));
        if definition.closes_at != Timestamp::NEVER && self.now >= definition.closes_at.0 + last {
            return Err(Refusal::PoolPastClosing);
        }
        Ok(())
    }

    /// Whether more is asked for than there is, which only a shadow pool lets pass.
    fn check_capacity(&self, pool: &ModelPool, more: &Units) -> Result<bool, Refusal> {
        let remaining = self.remaining(pool);
        let mut short = 0;
        for (dimension, unit) in more.0.iter().enumerate() {
            if *unit > 0 && i64::from(*unit) > remaining.0[dimension] {
                short |= 1 << dimension;
            }
        }
        if short != 0 && !pool.definition.shadow {
            return Err(Refusal::InsufficientCapacity { short, remaining });
        }
        Ok(short != 0)
    }

    fn decide_reserve(&self, reserve: &Reserve) -> Result<Decision, Refusal> {
        let partition = reserve.pool.partition();
        let earlier = self
            .known()
            .filter(|reservation| reservation.has_key)
            .find(|reservation| {
                reservation.event.key == reserve.key && reservation.event.pool.partition() == partition
            });
        if let Some(earlier) = earlier {
            let units = match self.fault {
                Some(Fault::RetryAfterResizeRefused) => earlier.units,
                _ => earlier.event.units,
            };
            let same = earlier.event.pool == reserve.pool
                && units == reserve.units
                && (self.has(Fault::HoldNotCompared) || earlier.event.hold_seconds == reserve.hold_seconds)
                && earlier.event.reference == reserve.reference;
            return if same {
                Ok(Decision::Standing(earlier.view()))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let pool = self.pool(reserve.pool).ok_or(Refusal::PoolNotFound)?;
        self.check_selling(pool)?;
        let would_refuse = self.check_capacity(pool, &reserve.units)?;
        let (slot, generation) = self.next_slot(partition).ok_or(Refusal::Full)?;
        Ok(Decision::Change(Event::Reserved(Reserved {
            sequence: self.next_sequence(partition),
            at: Timestamp(self.now),
            key: reserve.key,
            reservation: ReservationId::new(ReservationParts {
                partition,
                slot: u64::from(slot),
                generation,
                random: reserve.random,
            }),
            pool: reserve.pool,
            units: reserve.units,
            hold_seconds: reserve.hold_seconds,
            occurred_at: reserve.occurred_at,
            would_refuse,
            reference: reserve.reference.clone(),
        })))
    }

    fn named(&self, id: ReservationId) -> Result<&ModelReservation, Refusal> {
        self.reservation(id).ok_or(Refusal::ReservationNotFound)
    }

    /// Whether the reservation can still be changed, and how it cannot.
    fn check_live(&self, reservation: &ModelReservation) -> Result<(), Refusal> {
        let last = i64::from(self.has(Fault::DeadlineStillConfirms));
        match reservation.state {
            ReservationState::Held if self.now < reservation.deadline + last => Ok(()),
            ReservationState::Confirmed => Ok(()),
            ReservationState::Held | ReservationState::Expired => Err(Refusal::HoldExpired),
            ReservationState::Released => Err(Refusal::ReservationEnded),
        }
    }

    fn moved(&self, reservation: &ModelReservation, occurred_at: Timestamp) -> Moved {
        Moved {
            sequence: self.next_sequence(reservation.event.pool.partition()),
            at: Timestamp(self.now),
            reservation: reservation.id(),
            pool: reservation.event.pool,
            units: reservation.units,
            occurred_at,
        }
    }

    fn decide_confirm(&self, confirm: &Confirm) -> Result<Decision, Refusal> {
        let reservation = self.named(confirm.reservation)?;
        self.check_live(reservation)?;
        if !reservation.is_held() {
            return Ok(Decision::Standing(reservation.view()));
        }
        let moved = self.moved(reservation, confirm.occurred_at);
        Ok(Decision::Change(Event::Confirmed(moved)))
    }

    fn decide_release(&self, release: &Release) -> Result<Decision, Refusal> {
        let reservation = self.named(release.reservation)?;
        if reservation.ended.is_some() {
            return Ok(Decision::Standing(reservation.view()));
        }
        Ok(Decision::Change(Event::Released(Released {
            sequence: self.next_sequence(reservation.event.pool.partition()),
            at: Timestamp(self.now),
            reservation: reservation.id(),
            pool: reservation.event.pool,
            units: reservation.units,
            was_confirmed: !reservation.is_held(),
            cause: ReleaseCause::Asked,
            occurred_at: release.occurred_at,
        })))
    }

    fn decide_resize(&self, resize: &Resize) -> Result<Decision, Refusal> {
        let reservation = self.named(resize.reservation)?;
        self.check_live(reservation)?;
        if resize
            .expected_version
            .is_some_and(|version| version != reservation.version)
        {
            return Err(Refusal::ChangedMeanwhile);
        }
        if resize.hold_seconds > 0 && !reservation.is_held() {
            return Err(Refusal::NotHeld);
        }
        let (mut units, mut more) = (reservation.units, Units::default());
        for dimension in 0..self.dimension_count {
            units.0[dimension] = match resize.units.0[dimension] {
                Resize::UNCHANGED if self.has(Fault::UnchangedTakenAsZero) => 0,
                Resize::UNCHANGED => reservation.units.0[dimension],
                asked => asked,
            };
            more.0[dimension] = units.0[dimension].saturating_sub(reservation.units.0[dimension]);
        }
        if units.0.iter().all(|unit| *unit == 0) {
            return Err(Refusal::NoUnits);
        }
        if units == reservation.units && resize.hold_seconds == 0 {
            return Ok(Decision::Standing(reservation.view()));
        }
        let pool = self.pool(reservation.event.pool).ok_or(Refusal::PoolNotFound)?;
        let grows = more.0.iter().any(|unit| *unit > 0);
        if grows || self.has(Fault::ShrinkingNeedsAnOpenPool) {
            self.check_selling(pool)?;
        }
        let would_refuse = grows && !self.has(Fault::GrowthNotChecked) && self.check_capacity(pool, &more)?;
        let deadline = match resize.hold_seconds {
            0 => reservation.deadline,
            seconds => self.now + i64::from(seconds) * 1_000_000,
        };
        let step = u16::from(!self.has(Fault::ResizeKeepsVersion));
        Ok(Decision::Change(Event::Resized(Resized {
            sequence: self.next_sequence(reservation.event.pool.partition()),
            at: Timestamp(self.now),
            reservation: reservation.id(),
            pool: reservation.event.pool,
            units,
            previous_units: reservation.units,
            expires_at: reservation.is_held().then_some(Timestamp(deadline)),
            version: reservation.version + step,
            cause: ResizeCause::Asked,
            would_refuse,
            occurred_at: resize.occurred_at,
        })))
    }

    pub(crate) fn decide_put(&self, put: &PutPool) -> Result<PutOutcome, Refusal> {
        let definition = &put.definition;
        let partition = partition_of(&definition.name);
        let defined = |pool, version| PoolDefined {
            sequence: self.next_sequence(partition),
            at: Timestamp(self.now),
            pool,
            version,
            definition: definition.clone().into(),
        };
        let Some(pool) = self.pools.get(&*definition.name) else {
            if !matches!(put.expected_version, None | Some(PutPool::MUST_NOT_EXIST)) {
                return Err(Refusal::ChangedMeanwhile);
            }
            let more = usize::from(self.has(Fault::OnePoolTooMany));
            if self.pools.len() >= self.bounds.pool_count_max + more {
                return Err(Refusal::Full);
            }
            let (slot, generation) = self.partitions.get(&partition.0).map_or((0, 1), |partition| {
                let new = partition.pool_generations.len() as u32;
                let free = partition.free_pool_slots.last();
                free.map_or((new, 1), |slot| (*slot, partition.pool_generations[*slot as usize] + 1))
            });
            let id = u64::from(partition.0) << 48 | u64::from(slot) << 24 | u64::from(generation);
            return Ok(PutOutcome::Created(defined(PoolId(id), 1)));
        };
        match put.expected_version {
            Some(version) if version != pool.version => Err(Refusal::ChangedMeanwhile),
            _ if pool.definition == *definition => Ok(PutOutcome::Unchanged {
                pool: pool.id,
                version: pool.version,
            }),
            _ => Ok(PutOutcome::Changed(defined(pool.id, pool.version + 1))),
        }
    }

    /// A hold whose deadline has come.
    fn due(&self, id: ReservationId) -> Option<&ModelReservation> {
        let mut all = self.reservations.iter();
        all.find(|reservation| reservation.id() == id && reservation.is_held() && reservation.deadline <= self.now)
    }

    /// The event that ends this hold, if its deadline has come.
    pub(crate) fn expiry(&self, id: ReservationId) -> Option<Event> {
        let reservation = self.due(id)?;
        Some(Event::Expired(self.moved(reservation, Timestamp::ABSENT)))
    }

    /// The event that moves this hold's deadline, if it has come.
    pub(crate) fn extension(&self, id: ReservationId, expires_at: i64) -> Option<Event> {
        let reservation = self.due(id)?;
        Some(Event::Resized(Resized {
            sequence: self.next_sequence(reservation.event.pool.partition()),
            at: Timestamp(self.now),
            reservation: reservation.id(),
            pool: reservation.event.pool,
            units: reservation.units,
            previous_units: reservation.units,
            expires_at: Some(Timestamp(expires_at)),
            version: reservation.version + u16::from(self.has(Fault::ExtensionCountsVersion)),
            cause: ResizeCause::Downtime,
            would_refuse: false,
            occurred_at: Timestamp::ABSENT,
        }))
    }

    /// A hold that is overdue: the quarter of a second in which its deadline lies is over.
    pub(crate) fn overdue(&self) -> Option<ReservationId> {
        let bucket = |time: i64| match self.fault {
            Some(Fault::ExpiryWithinTheBucket) => time,
            _ => time.div_euclid(1 << 18),
        };
        let mut all = self.reservations.iter();
        all.find(|reservation| reservation.is_held() && bucket(reservation.deadline) < bucket(self.now))
            .map(ModelReservation::id)
    }

    /// Which pools the event changes is what it names.
    pub(crate) fn pool_changed_by(event: &Event) -> Option<PoolId> {
        match event {
            Event::PoolCreated(event) | Event::PoolChanged(event) => Some(event.pool),
            Event::Reserved(event) => Some(event.pool),
            Event::Confirmed(event) | Event::Expired(event) => Some(event.pool),
            Event::Released(event) => Some(event.pool),
            Event::Resized(event) => Some(event.pool),
            Event::PoolRetired(event) => Some(event.pool),
            Event::PoolReset(event) => Some(event.pool),
            Event::Restored(event) => Some(event.pool),
            Event::Swept(_) | Event::TurnedAway(_) => None,
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        self.partition_mut(event.partition()).sequence += 1;
        let now = self.now;
        match event {
            Event::Reserved(event) => self.apply_reserved(event),
            Event::Confirmed(event) => {
                self.reservation_mut(event.reservation).state = ReservationState::Confirmed;
            }
            Event::Released(event) => self.end(event.reservation, ReservationState::Released),
            Event::Expired(event) => self.end(event.reservation, ReservationState::Expired),
            Event::Resized(event) => {
                let loses_flag = self.has(Fault::GrowthLosesFlag);
                let reservation = self.reservation_mut(event.reservation);
                reservation.units = event.units;
                reservation.version = event.version;
                reservation.would_refuse |= event.would_refuse && !loses_flag;
                if let Some(Timestamp(deadline)) = event.expires_at {
                    reservation.has_moved_deadline |= deadline != reservation.deadline;
                    reservation.deadline = deadline;
                }
            }
            Event::PoolCreated(event) => {
                let slot = event.pool.slot();
                let partition = self.partition_mut(event.pool.partition());
                match partition.free_pool_slots.pop() {
                    Some(_) => partition.pool_generations[slot as usize] += 1,
                    None => partition.pool_generations.push(1),
                }
                self.define(event);
            }
            Event::PoolChanged(event) => self.define(event),
            Event::PoolRetired(event) => {
                self.pools.retain(|_, pool| pool.id != event.pool);
                let partition = self.partition_mut(event.pool.partition());
                partition.retired.push((event.pool, event.sequence));
            }
            Event::Swept(event) => self.apply_swept(event),
            Event::Restored(event) => self.apply_restored(event),
            Event::TurnedAway(_) | Event::PoolReset(_) => {}
        }
        let changed = match event {
            Event::PoolRetired(_) => None,
            Event::TurnedAway(event) if self.has(Fault::RefusalsKeepAPool) => Some(event.pool),
            event => Model::pool_changed_by(event),
        };
        if let Some(pool) = changed {
            self.pool_mut(pool).last_event = now;
        }
    }

    fn define(&mut self, event: &PoolDefined) {
        let pool = ModelPool {
            id: event.pool,
            version: event.version,
            last_event: event.at.0,
            definition: (*event.definition).clone(),
        };
        self.pools.insert(pool.definition.name.to_string(), pool);
    }

    fn apply_reserved(&mut self, event: &Reserved) {
        let parts = event.reservation.parts();
        self.take_slot(parts.partition, parts.slot as u32, parts.generation);
        self.reservations.push(ModelReservation {
            event: event.clone(),
            state: match event.hold_seconds {
                0 => ReservationState::Confirmed,
                _ => ReservationState::Held,
            },
            units: event.units,
            deadline: event.at.0 + i64::from(event.hold_seconds) * 1_000_000,
            has_moved_deadline: false,
            version: 0,
            would_refuse: event.would_refuse,
            ended: None,
            slot: parts.slot as u32,
            has_key: true,
            is_husk: false,
            has_slot: true,
        });
    }

    /// Whatever had the slot has it no more.
    pub(crate) fn take_slot(&mut self, id: PartitionId, slot: u32, generation: u16) {
        for earlier in &mut self.reservations {
            if earlier.slot == slot && earlier.event.pool.partition() == id {
                earlier.has_slot = false;
            }
        }
        let partition = self.partition_mut(id);
        partition.free_slots.retain(|free| *free != slot);
        if slot as usize == partition.generations.len() {
            partition.generations.push(0);
        }
        partition.generations[slot as usize] = generation;
    }

    fn end(&mut self, id: ReservationId, state: ReservationState) {
        let ended = Some((self.now, self.ended_count));
        self.ended_count += 1;
        let reservation = self.reservation_mut(id);
        reservation.state = state;
        reservation.ended = ended;
    }

    fn apply_swept(&mut self, event: &Swept) {
        let count = event.count as usize;
        let mut ended: Vec<(usize, u32)> = self
            .in_slots(event.partition)
            .filter_map(|reservation| Some((reservation.ended?, reservation.slot)))
            .filter(|((at, _), _)| *at < event.ended_before.0 && !self.has(Fault::SweepLeavesEnded))
            .map(|((_, order), slot)| (order, slot))
            .collect();
        ended.sort_unstable();
        let has_more = ended.len() > count;
        let slot_count = self.partitions[&event.partition.0].generations.len() as u32;
        let end = event.from.saturating_add(event.count).min(slot_count);
        let mut orphans: Vec<u32> = self
            .in_slots(event.partition)
            .filter(|reservation| reservation.ended.is_none())
            .filter(|reservation| self.pool(reservation.event.pool).is_none() || self.has(Fault::SweepFreesLivePools))
            .map(|reservation| reservation.slot)
            .filter(|slot| (event.from..end).contains(slot))
            .collect();
        orphans.sort_unstable();
        let freed: Vec<u32> = ended
            .into_iter()
            .take(count)
            .map(|(_, slot)| slot)
            .chain(orphans)
            .collect();
        for reservation in &mut self.reservations {
            let is_here = reservation.event.pool.partition() == event.partition;
            if is_here && reservation.has_slot && freed.contains(&reservation.slot) {
                reservation.has_slot = false;
            }
        }
        let partition = self.partition_mut(event.partition);
        // A slot's generation counts its uses; the next use adds one, whatever freed it.
        partition.free_slots.extend(freed);
        if event.from == 0 {
            partition.sweep.began_at = event.sequence;
        }
        partition.sweep.next = end.max(1);
        if end < slot_count || has_more {
            return;
        }
        let began_at = partition.sweep.began_at;
        let through = partition.retired.iter().filter(|(_, sequence)| *sequence <= began_at);
        let through_count = through.count();
        let freed = partition.retired.drain(..through_count.min(count));
        partition.free_pool_slots.extend(freed.map(|(pool, _)| pool.slot()));
        if through_count <= count {
            partition.sweep.next = 0;
        }
    }

    /// The next step of forgetting.
    pub(crate) fn next_sweep(&self, retention: i64, count: u32) -> Option<Swept> {
        let (id, partition) = self
            .partitions
            .iter()
            .find(|(_, partition)| !partition.retired.is_empty())?;
        Some(Swept {
            partition: plimsoll_domain::PartitionId(*id),
            sequence: partition.sequence + 1,
            ended_before: Timestamp(self.now - retention),
            from: partition.sweep.next,
            count,
        })
    }
}

/// Units that leave everything as it is.
pub(crate) fn unchanged() -> Units {
    Units([Resize::UNCHANGED; DIMENSION_COUNT_MAX])
}
