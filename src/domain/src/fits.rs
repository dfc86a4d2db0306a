//! Whether an event from outside, say from a journal, fits the state that it is to be applied to.

use crate::partition::Partition;
use crate::reservation::{NONE, ReservationState};
use crate::stored::StoredReservation;
use crate::{
    Event, PoolDefined, PoolId, PoolReset, ReservationId, ReservationParts, Reserved, Resized, Restored, State, Units,
};

impl State {
    /// Checks what [`State::apply`] takes for granted. Events that were decided against this state always fit.
    ///
    /// # Errors
    /// What does not fit: the journal is foreign, or there is a bug.
    #[inline]
    pub fn check_fits(&self, event: &Event) -> Result<(), &'static str> {
        self.slot_that_fits(event).map(|_| ())
    }

    /// Where the reservation lies that an event changes which fits; nowhere ([`NONE`]) with other events.
    #[inline]
    pub(crate) fn slot_that_fits(&self, event: &Event) -> Result<u32, &'static str> {
        let partition = self.partition(event.partition());
        let sequence = partition.map_or(0, |partition| partition.sequence);
        rule(
            event.sequence() == sequence + 1,
            "its sequence does not follow the last one of its partition",
        )?;
        match event {
            Event::PoolCreated(event) => self.created_fits(event)?,
            Event::TurnedAway(_) => {}
            event => match partition {
                Some(partition) => return fits_partition(partition, event),
                None => return Err("its partition has no pools"),
            },
        }
        Ok(NONE)
    }

    fn created_fits(&self, event: &PoolDefined) -> Result<(), &'static str> {
        rule(
            self.pool_id(&event.definition.name).is_none(),
            "a pool of this name exists already",
        )?;
        let (slot, generation) = match self.partition(event.pool.partition()) {
            Some(partition) => {
                let next = partition.pools.next_slot();
                (next.slot, next.generation)
            }
            None => (0, 1),
        };
        let id = PoolId::new(event.pool.partition(), slot, generation);
        rule(event.pool == id, "a new pool takes another slot")
    }
}

fn rule(holds: bool, broken: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(broken) }
}

fn fits_partition(partition: &Partition, event: &Event) -> Result<u32, &'static str> {
    match event {
        Event::Reserved(event) => reserved_fits(partition, event)?,
        Event::Confirmed(event) | Event::Expired(event) => {
            let (slot, state) = live(partition, event.reservation, event.pool, &event.units)?;
            rule(state == ReservationState::Held, "the reservation is not held")?;
            return Ok(slot);
        }
        Event::Released(event) => {
            let (slot, state) = live(partition, event.reservation, event.pool, &event.units)?;
            let was_confirmed = state == ReservationState::Confirmed;
            rule(
                event.was_confirmed == was_confirmed,
                "the reservation stands elsewhere in its life",
            )?;
            return Ok(slot);
        }
        Event::Resized(event) => return resized_fits(partition, event),
        Event::PoolChanged(event) => {
            let pool = partition.pools.get(event.pool).ok_or("there is no such pool")?;
            rule(
                pool.definition().name == event.definition.name,
                "a pool does not change its name",
            )?;
        }
        Event::PoolRetired(event) => {
            let pool = partition.pools.get(event.pool).ok_or("there is no such pool")?;
            rule(
                pool.held().0.iter().all(|held| *held == 0),
                "a pool retires while something is held",
            )?;
        }
        Event::Swept(event) => rule(
            event.from == partition.sweep.next,
            "a sweep does not go on where it was",
        )?,
        Event::PoolReset(event) => pool_reset_fits(partition, event)?,
        Event::Restored(event) => restored_fits(partition, event)?,
        Event::PoolCreated(_) | Event::TurnedAway(_) => {}
    }
    Ok(NONE)
}

fn pool_reset_fits(partition: &Partition, event: &PoolReset) -> Result<(), &'static str> {
    rule(partition.pools.get(event.pool).is_some(), "there is no such pool")?;
    let counted = event.released_count.checked_add(event.restored_count);
    let is_sum = counted.is_some_and(|counted| (counted..=counted.saturating_add(1)).contains(&event.change_count));
    rule(is_sum, "a reset has other changes than it says")
}

/// Whether a reservation may go into this slot that does not lie there.
fn takes_slot(partition: &Partition, parts: &ReservationParts) -> bool {
    let ends = partition.reservations.ends();
    let slot_count = partition.reservations.len() as u64;
    match u32::try_from(parts.slot) {
        Ok(slot) if parts.slot < slot_count => slot == ends.first_free || slot == ends.oldest_ended,
        Ok(_) => parts.slot == slot_count,
        Err(_) => false,
    }
}

fn restored_fits(partition: &Partition, event: &Restored) -> Result<(), &'static str> {
    let parts = event.reservation.parts();
    rule(
        parts.partition == partition.id,
        "the reservation is of another partition",
    )?;
    rule(
        parts.slot < u64::from(u32::MAX),
        "the id names a slot that no table has",
    )?;
    rule(partition.pools.get(event.pool).is_some(), "there is no such pool")?;
    rule(
        event.expires_at.is_none() || event.hold_seconds > 0,
        "a hold was asked for as one",
    )?;
    let found = partition.reservations.find(&parts);
    if let Some((_, entry)) = found {
        rule(
            entry.key == event.key && partition.pool_of(entry) == Some(event.pool),
            "another reservation has the id",
        )?;
    }
    let Some(previous_state) = event.previous_state else {
        let has_ended = found.is_none_or(|(_, entry)| entry.state().is_ended());
        rule(has_ended && event.previous_units.is_zero(), "the reservation lives")?;
        let place = ReservationParts {
            slot: u64::from(event.slot),
            ..parts
        };
        return rule(
            takes_slot(partition, &place),
            "a restored reservation takes another slot",
        );
    };
    let (_, state) = live(partition, event.reservation, event.pool, &event.previous_units)?;
    let is_there = found.is_some_and(|(slot, entry)| (slot, entry.generation) == (event.slot, event.generation));
    rule(is_there, "a reservation that lives stays where it lies")?;
    rule(state == previous_state, "the reservation stands elsewhere in its life")
}

fn reserved_fits(partition: &Partition, event: &Reserved) -> Result<(), &'static str> {
    let parts = event.reservation.parts();
    rule(takes_slot(partition, &parts), "a new reservation takes another slot")?;
    rule(
        !partition.reservations.is_taken(&parts),
        "another reservation has the id",
    )?;
    let pool = partition.pools.get(event.pool).ok_or("there is no such pool")?;
    rule(
        event.would_refuse || pool.short_dimensions(&event.units) == 0,
        "the pool would be oversold",
    )
}

fn resized_fits(partition: &Partition, event: &Resized) -> Result<u32, &'static str> {
    let (slot, state) = live(partition, event.reservation, event.pool, &event.previous_units)?;
    rule(
        event.expires_at.is_some() == (state == ReservationState::Held),
        "a hold has a deadline, and nothing else has",
    )?;
    let pool = partition.pools.get(event.pool).ok_or("there is no such pool")?;
    let grown = event.units.grown_from(&event.previous_units);
    rule(
        event.would_refuse || pool.short_dimensions(&grown) == 0,
        "the pool would be oversold",
    )?;
    Ok(slot)
}

/// Where a reservation lies, and where it stands, that takes these units from this pool.
#[inline]
fn live(
    partition: &Partition,
    id: ReservationId,
    pool: PoolId,
    units: &Units,
) -> Result<(u32, ReservationState), &'static str> {
    let (slot, entry): (u32, &StoredReservation) = partition
        .reservations
        .find(&id.parts())
        .ok_or("there is no such reservation")?;
    let state = entry.state();
    rule(!state.is_ended(), "the reservation has ended")?;
    rule(
        partition.pool_of(entry) == Some(pool),
        "the reservation takes from another pool",
    )?;
    rule(
        partition.reservations.takes(slot, units),
        "the reservation takes other units",
    )?;
    Ok((slot, state))
}
