//! Answers of history as FlatBuffers tables.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use plimsoll_domain::{
    Counters, Event, PoolDefinition, ReleaseCause, ReservationId, ResetAction, ResizeCause, Standing, Timestamp, Units,
};
use plimsoll_engine::ResetReport;
use plimsoll_protocol::wire;
use plimsoll_replay::After;

use super::search::Found;
use crate::encode::pool_definition;

/// An event that is told.
pub(super) struct Told {
    pub(super) event: Event,
    /// When its turn began.
    pub(super) time: Timestamp,
    pub(super) pool: Box<str>,
    pub(super) zone: Option<Box<str>>,
    pub(super) after: Option<After>,
    pub(super) cursor: Option<String>,
}

/// The fixed parts of an event's tables, and texts of usual length.
const EVENT_SIZE: usize = 512;

/// At least as many bytes as the event takes in an answer, beside its cursor.
pub(super) fn event_size(event: &Event) -> usize {
    let definition = match event {
        Event::PoolCreated(defined) | Event::PoolChanged(defined) => {
            let coverage = defined.definition.coverage.iter();
            1024 + coverage.map(|prefix| prefix.len() + 16).sum::<usize>()
        }
        _ => 0,
    };
    EVENT_SIZE + definition
}

/// The kind of an event as it is told; nothing of housekeeping.
pub(super) fn kind_of(event: &Event) -> Option<wire::EventKind> {
    Some(match event {
        Event::PoolCreated(_) => wire::EventKind::pool_created,
        Event::PoolChanged(_) => wire::EventKind::pool_changed,
        Event::PoolReset(_) => wire::EventKind::pool_reset,
        Event::PoolRetired(_) => wire::EventKind::pool_retired,
        Event::Reserved(_) => wire::EventKind::reserved,
        Event::Confirmed(_) => wire::EventKind::confirmed,
        Event::Released(_) => wire::EventKind::released,
        Event::Expired(_) => wire::EventKind::expired,
        Event::Resized(_) => wire::EventKind::resized,
        Event::Restored(_) => wire::EventKind::restored,
        Event::TurnedAway(_) => wire::EventKind::turned_away,
        Event::Swept(_) => return None,
    })
}

/// What an event says, in the terms of the wire.
#[derive(Default)]
struct Details<'event> {
    at: Option<Timestamp>,
    cause: wire::Cause,
    reservation: Option<ReservationId>,
    units: Option<&'event Units>,
    previous_units: Option<&'event Units>,
    expires_at: Option<Timestamp>,
    version: u16,
    would_refuse: bool,
    was_confirmed: bool,
    occurred_at: Option<Timestamp>,
    reference: Option<&'event str>,
    since: i64,
    refusals: u64,
    refused_units: Option<&'event [u64]>,
    definition: Option<(&'event PoolDefinition, u64)>,
}

fn details<'event>(event: &'event Event) -> Details<'event> {
    let of = |reservation, units: &'event Units, at, occurred_at| Details {
        at: Some(at),
        reservation: Some(reservation),
        units: Some(units),
        occurred_at: Some(occurred_at),
        ..Details::default()
    };
    match event {
        Event::PoolCreated(event) | Event::PoolChanged(event) => Details {
            at: Some(event.at),
            definition: Some((&event.definition, event.version)),
            ..Details::default()
        },
        Event::Reserved(event) => Details {
            expires_at: (event.hold_seconds > 0).then(|| event.at.plus_seconds(event.hold_seconds)),
            would_refuse: event.would_refuse,
            reference: event.reference.as_deref(),
            ..of(event.reservation, &event.units, event.at, event.occurred_at)
        },
        Event::Confirmed(event) | Event::Expired(event) => {
            of(event.reservation, &event.units, event.at, event.occurred_at)
        }
        Event::Released(event) => Details {
            was_confirmed: event.was_confirmed,
            cause: match event.cause {
                ReleaseCause::Asked => wire::Cause::asked,
                ReleaseCause::Reset => wire::Cause::reset,
            },
            ..of(event.reservation, &event.units, event.at, event.occurred_at)
        },
        Event::Resized(event) => Details {
            previous_units: Some(&event.previous_units),
            expires_at: event.expires_at,
            version: event.version,
            would_refuse: event.would_refuse,
            cause: match event.cause {
                ResizeCause::Asked => wire::Cause::asked,
                ResizeCause::Downtime => wire::Cause::downtime,
            },
            ..of(event.reservation, &event.units, event.at, event.occurred_at)
        },
        Event::Restored(event) => Details {
            previous_units: Some(&event.previous_units),
            expires_at: event.expires_at,
            version: event.version,
            would_refuse: event.would_refuse,
            cause: wire::Cause::reset,
            reference: event.reference.as_deref(),
            ..of(event.reservation, &event.units, event.at, Timestamp::ABSENT)
        },
        Event::PoolReset(event) => Details {
            at: Some(event.at),
            cause: wire::Cause::reset,
            occurred_at: Some(event.to),
            ..Details::default()
        },
        Event::TurnedAway(event) => Details {
            at: Some(event.at),
            since: event.since.0,
            refusals: event.refusals,
            refused_units: Some(&event.units),
            ..Details::default()
        },
        Event::PoolRetired(_) | Event::Swept(_) => Details::default(),
    }
}

fn event<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    told: &Told,
    dimension_count: usize,
) -> WIPOffset<wire::Event<'builder>> {
    let details = details(&told.event);
    let pool = Some(builder.create_shared_string(&told.pool));
    let zone = told.zone.as_deref().map(|zone| builder.create_shared_string(zone));
    let units = details
        .units
        .map(|units| builder.create_vector(&units.0[..dimension_count]));
    let previous_units = details.previous_units;
    let previous_units = previous_units.map(|units| builder.create_vector(&units.0[..dimension_count]));
    let reference = details.reference.map(|text| builder.create_string(text));
    let refused_units = details.refused_units;
    let refused_units = refused_units.map(|units| builder.create_vector(&units[..dimension_count]));
    let definition = details.definition;
    let definition =
        definition.map(|(definition, version)| pool_definition(builder, definition, version, dimension_count));
    let after = told
        .after
        .as_ref()
        .map(|after| counters(builder, (&after.limits, &after.held, &after.confirmed), dimension_count));
    let cursor = told.cursor.as_ref().map(|cursor| builder.create_string(cursor));
    let reservation = details.reservation.map_or(0, |id| id.0);
    let args = wire::EventArgs {
        partition: told.event.partition().0,
        sequence: told.event.sequence(),
        at: details.at.unwrap_or(told.time).0,
        kind: kind_of(&told.event).unwrap_or_default(),
        cause: details.cause,
        pool,
        zone,
        reservation_high: (reservation >> 64) as u64,
        reservation_low: reservation as u64,
        units,
        previous_units,
        expires_at: details.expires_at.map_or(0, |time| time.0),
        version: details.version,
        would_refuse: details.would_refuse,
        was_confirmed: details.was_confirmed,
        occurred_at: details.occurred_at.unwrap_or(Timestamp::ABSENT).0,
        reference,
        since: details.since,
        refusals: details.refusals,
        refused_units,
        definition,
        after,
        cursor,
    };
    wire::Event::create(builder, &args)
}

pub(super) fn pool_events<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    events: &[Told],
    next: Option<&str>,
    dimension_count: usize,
) -> WIPOffset<wire::PoolEvents<'builder>> {
    let tables: Vec<_> = events
        .iter()
        .map(|told| event(builder, told, dimension_count))
        .collect();
    let events = Some(builder.create_vector(&tables));
    let next = next.map(|next| builder.create_string(next));
    wire::PoolEvents::create(builder, &wire::PoolEventsArgs { events, next })
}

/// What a page of the feed says beside its events.
pub(super) struct FeedPage {
    pub(super) cursor: String,
    pub(super) as_of: Timestamp,
    pub(super) more: bool,
}

pub(super) fn feed<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    events: &[Told],
    page: &FeedPage,
    dimension_count: usize,
) -> WIPOffset<wire::Feed<'builder>> {
    let tables: Vec<_> = events
        .iter()
        .map(|told| event(builder, told, dimension_count))
        .collect();
    let args = wire::FeedArgs {
        events: Some(builder.create_vector(&tables)),
        cursor: Some(builder.create_string(&page.cursor)),
        as_of: page.as_of.0,
        more: page.more,
    };
    wire::Feed::create(builder, &args)
}

pub(super) fn found<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    found: &[Found],
    next: Option<&str>,
    dimension_count: usize,
) -> WIPOffset<wire::FoundReservations<'builder>> {
    let mut tables = Vec::with_capacity(found.len());
    for Found { view, pool, reference } in found {
        let args = wire::ReservationArgs {
            reservation_high: (view.id.0 >> 64) as u64,
            reservation_low: view.id.0 as u64,
            state: plimsoll_engine::wire_state(view.state),
            pool: Some(builder.create_shared_string(pool)),
            units: Some(builder.create_vector(&view.units.0[..dimension_count])),
            reference: reference.as_deref().map(|text| builder.create_string(text)),
            created_at: view.created_at.0,
            expires_at: view.expires_at.map_or(0, |time| time.0),
            version: view.version,
            would_refuse: view.would_refuse,
        };
        tables.push(wire::Reservation::create(builder, &args));
    }
    let args = wire::FoundReservationsArgs {
        reservations: Some(builder.create_vector(&tables)),
        next: next.map(|next| builder.create_string(next)),
    };
    wire::FoundReservations::create(builder, &args)
}

/// What a reset does: those of its changes that were asked for, the definition's first.
pub(super) fn reset<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    report: &ResetReport,
    (offset, limit): (usize, usize),
    dimension_count: usize,
) -> WIPOffset<wire::ResetResult<'builder>> {
    let (definition_before, definition_after) = &report.definition;
    let redefines = definition_before != definition_after;
    let mut changes = Vec::new();
    if redefines && offset == 0 {
        let args = wire::ResetChangeArgs {
            kind: wire::EventKind::pool_changed,
            ..wire::ResetChangeArgs::default()
        };
        changes.push(wire::ResetChange::create(builder, &args));
    }
    let listed = report
        .changes
        .iter()
        .skip(offset.saturating_sub(usize::from(redefines)));
    for change in listed.take(limit - changes.len().min(limit)) {
        let state = |standing: &Standing| plimsoll_engine::wire_state(standing.state);
        let before = change.before.as_ref();
        let args = wire::ResetChangeArgs {
            kind: match change.action {
                ResetAction::Release => wire::EventKind::released,
                ResetAction::Restore(_) => wire::EventKind::restored,
            },
            reservation_high: (change.reservation.0 >> 64) as u64,
            reservation_low: change.reservation.0 as u64,
            reference: change.reference.as_deref().map(|text| builder.create_string(text)),
            state_before: before.map_or(wire::State::none, state),
            units_before: before.map(|standing| builder.create_vector(&standing.units.0[..dimension_count])),
            state_after: state(&change.after),
            units_after: Some(builder.create_vector(&change.after.units.0[..dimension_count])),
        };
        changes.push(wire::ResetChange::create(builder, &args));
    }
    let before = counters(
        builder,
        (&definition_before.limits, &report.held.0, &report.confirmed.0),
        dimension_count,
    );
    let after = counters(
        builder,
        (&definition_after.limits, &report.held.1, &report.confirmed.1),
        dimension_count,
    );
    let args = wire::ResetResultArgs {
        version: report.version,
        change_count: (report.changes.len() + usize::from(redefines)) as u32,
        changes: Some(builder.create_vector(&changes)),
        before: Some(before),
        after: Some(after),
    };
    wire::ResetResult::create(builder, &args)
}

fn counters<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    (limits, held, confirmed): (&Units, &Counters, &Counters),
    dimension_count: usize,
) -> WIPOffset<wire::After<'builder>> {
    let args = wire::AfterArgs {
        limits: Some(builder.create_vector(&limits.0[..dimension_count])),
        held: Some(builder.create_vector(&held.0[..dimension_count])),
        confirmed: Some(builder.create_vector(&confirmed.0[..dimension_count])),
    };
    wire::After::create(builder, &args)
}
