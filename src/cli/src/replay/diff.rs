//! `plimsoll replay diff`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use plimsoll_client::ReservationId;
use plimsoll_domain::{Counters, Event, PoolDefinition, PoolId, ReservationView, State, Timestamp};
use plimsoll_form::{ByDimension, by_name};
use plimsoll_replay::{Moment, Replayer, reservation_of};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

use super::event_form::{counter_form, unit_form};
use super::moment::{GivenMoment, parse_moment};
use super::{DataArguments, failure_of_moment, open, pools_named};

/// The command line of `plimsoll replay diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
For each pool that is not the same at both moments: its counters before and after, what changed in its definition, and how many
reservations began, ended and changed; with --reservations each of them. What came and went between the moments does not show:
'plimsoll replay dump --from --until' prints that.

Examples:
  plimsoll replay diff --data ./slots --from 2026-12-24T00:00:00Z --to 2026-12-25T00:00:00Z
  plimsoll replay diff zone-7:monday --data ./slots --from lsn:0:4711 --to lsn:0:4800 --reservations")]
pub(crate) struct DiffArguments {
    /// Only this pool
    pool: Option<String>,

    /// The earlier moment: a time, lsn:CORE:N, or lsn:N where there is one core; a time with milliseconds is the end of that millisecond
    #[arg(long, value_name = "TIME|LSN", value_parser = parse_moment)]
    from: GivenMoment,

    /// The later moment [default: now]
    #[arg(long, value_name = "TIME|LSN", value_parser = parse_moment)]
    to: Option<GivenMoment>,

    /// Name each reservation
    #[arg(long)]
    reservations: bool,

    #[command(flatten)]
    data: DataArguments,
}

/// What a pool was at one of the moments.
#[derive(Clone, PartialEq)]
struct PoolThen {
    definition: Arc<PoolDefinition>,
    held: Counters,
    confirmed: Counters,
}

#[derive(Serialize)]
struct PoolChange<'run> {
    pool: &'run str,
    change: &'static str,
    before: Option<Then<'run>>,
    after: Option<Then<'run>>,
    definition_changed: bool,
    began: u64,
    ended: u64,
    changed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reservations: Vec<ReservationChange<'run>>,
}

#[derive(Serialize)]
struct Then<'run> {
    limits: ByDimension<'run, i64>,
    held: ByDimension<'run, i64>,
    confirmed: ByDimension<'run, i64>,
}

#[derive(Serialize)]
struct ReservationChange<'run> {
    reservation: String,
    change: &'static str,
    before: Option<ReservationThen<'run>>,
    after: Option<ReservationThen<'run>>,
}

#[derive(Serialize)]
struct ReservationThen<'run> {
    state: &'static str,
    units: ByDimension<'run, i64>,
}

pub(super) fn run(arguments: &DiffArguments) -> Result<(), Failure> {
    let data = &arguments.data;
    let history = open(data)?;
    if let Some(name) = &arguments.pool {
        pools_named(&history, name, data)?;
    }
    let from = arguments.from.of(&history, "--from")?;
    let to = arguments.to.unwrap_or(GivenMoment::NOW).of(&history, "--to")?;
    let failed_from = |error| failure_of_moment(error, "--from", data);
    let failed_to = |error| failure_of_moment(error, "--to", data);
    if let (Moment::Time(from), Moment::Time(to)) = (from, to)
        && from > to
    {
        return Err(Failure::usage("--from lies behind --to"));
    }
    let mut replayer = Replayer::near(&history, from).map_err(failed_from)?;
    replayer.advance(from, |_, _| ()).map_err(failed_from)?;
    let mut pools = BTreeMap::new();
    let mut reservations = BTreeMap::new();
    let advanced = replayer.advance(to, |state, recorded| {
        if let Some(pool) = recorded.event.pool() {
            pools.entry(pool).or_insert_with(|| pool_then(state, pool));
        }
        if let Some(id) = reservation_of(&recorded.event) {
            let before = reservations.entry(id).or_insert_with(|| live(state, id));
            // What came and went does not show, and there is no end to it.
            if before.is_none() && matches!(recorded.event, Event::Released(_) | Event::Expired(_)) {
                reservations.remove(&id);
            }
        }
    });
    advanced.map_err(failed_to)?;
    let state = replayer.state();
    let dimensions = history.view().dimensions();
    let mut of_pools: BTreeMap<PoolId, Vec<(plimsoll_domain::ReservationId, _, _)>> = BTreeMap::new();
    for (id, before) in reservations {
        let after = live(state, id);
        if before != after
            && let Some(pool) = before.or(after).map(|view| view.pool)
        {
            of_pools.entry(pool).or_default().push((id, before, after));
        }
    }
    let mut changes: Vec<_> = pools
        .into_iter()
        .map(|(pool, before)| (pool, before, pool_then(state, pool)))
        .filter(|(pool, before, after)| before != after || of_pools.contains_key(pool))
        .collect();
    changes.sort_by(|(_, before, after), (_, other_before, other_after)| {
        name_of(before, after).cmp(name_of(other_before, other_after))
    });
    let mut output = Output::new();
    for (pool, before, after) in &changes {
        let name = name_of(before, after);
        if arguments.pool.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let reservations = of_pools.remove(pool).unwrap_or_default();
        let change = pool_change(
            name,
            before.as_ref(),
            after.as_ref(),
            &reservations,
            dimensions,
            arguments,
        );
        if data.json {
            output.json(&change)?;
        } else {
            print(&change, &mut output)?;
        }
    }
    output.finish()
}

fn name_of<'then>(before: &'then Option<PoolThen>, after: &'then Option<PoolThen>) -> &'then str {
    let then = after.as_ref().or(before.as_ref());
    then.map_or("", |then| &then.definition.name)
}

fn pool_then(state: &State, pool: PoolId) -> Option<PoolThen> {
    let pool = state.pool(pool)?;
    Some(PoolThen {
        definition: Arc::clone(pool.definition()),
        held: *pool.held(),
        confirmed: *pool.confirmed(),
    })
}

/// The reservation, if it takes units.
fn live(state: &State, id: plimsoll_domain::ReservationId) -> Option<ReservationView> {
    state
        .reservation(id, Timestamp(0))
        .filter(|view| !view.state.is_ended())
}

fn pool_change<'run>(
    name: &'run str,
    before: Option<&PoolThen>,
    after: Option<&PoolThen>,
    reservations: &[(
        plimsoll_domain::ReservationId,
        Option<ReservationView>,
        Option<ReservationView>,
    )],
    dimensions: &'run [String],
    arguments: &DiffArguments,
) -> PoolChange<'run> {
    let then = |then: &PoolThen| Then {
        limits: unit_form(&then.definition.limits, dimensions),
        held: counter_form(&then.held, dimensions),
        confirmed: counter_form(&then.confirmed, dimensions),
    };
    let reservation_then = |view: &ReservationView| ReservationThen {
        state: match view.state {
            plimsoll_domain::ReservationState::Held => "held",
            _ => "confirmed",
        },
        units: unit_form(&view.units, dimensions),
    };
    let mut change = PoolChange {
        pool: name,
        change: match (before, after) {
            (None, _) => "created",
            (_, None) => "retired",
            _ => "changed",
        },
        before: before.map(then),
        after: after.map(then),
        definition_changed: matches!((before, after), (Some(before), Some(after)) if before.definition != after.definition),
        began: 0,
        ended: 0,
        changed: 0,
        reservations: Vec::new(),
    };
    for (id, before, after) in reservations {
        let (kind, count) = match (before, after) {
            (None, _) => ("began", &mut change.began),
            (_, None) => ("ended", &mut change.ended),
            _ => ("changed", &mut change.changed),
        };
        *count += 1;
        if arguments.reservations {
            change.reservations.push(ReservationChange {
                reservation: ReservationId(id.0).to_string(),
                change: kind,
                before: before.as_ref().map(reservation_then),
                after: after.as_ref().map(reservation_then),
            });
        }
    }
    change
}

fn print(change: &PoolChange<'_>, output: &mut Output) -> Result<(), Failure> {
    let then = |then: &Option<Then<'_>>| {
        then.as_ref().map_or_else(
            || "-".to_owned(),
            |then| {
                let (held, confirmed) = (by_name(&then.held), by_name(&then.confirmed));
                format!("held {held} confirmed {confirmed} of {}", by_name(&then.limits))
            },
        )
    };
    output.line(format_args!(
        "{} {}: {} -> {}; {} began, {} ended, {} changed{}",
        change.pool,
        change.change,
        then(&change.before),
        then(&change.after),
        change.began,
        change.ended,
        change.changed,
        if change.definition_changed {
            "; another definition"
        } else {
            ""
        }
    ))?;
    for reservation in &change.reservations {
        let then = |then: &Option<ReservationThen<'_>>| {
            then.as_ref().map_or_else(
                || "-".to_owned(),
                |then| format!("{} {}", then.state, by_name(&then.units)),
            )
        };
        output.line(format_args!(
            "  {} {}: {} -> {}",
            reservation.reservation,
            reservation.change,
            then(&reservation.before),
            then(&reservation.after)
        ))?;
    }
    Ok(())
}
