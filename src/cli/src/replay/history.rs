//! `plimsoll replay history`

use std::ops::ControlFlow;

use clap::Args;
use plimsoll_domain::{PoolId, ReservationId, Timestamp};
use plimsoll_replay::{History, PoolLedger, ReplayError, Selection, reservation_of};

use crate::failure::{Exit, Failure};
use crate::output::Output;

use super::event_form::Recorded;
use super::moment::parse_end;
use super::{DataArguments, failure_of, open, pools_named};

/// The command line of `plimsoll replay history`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each event, the oldest first: when, what, whose, and what it left of the pool.

Examples:
  plimsoll replay history zone-7:monday --data ./slots
  plimsoll replay history --reservation 01ARZ3NDEKTSV4RRFFQ69G5FAV --data ./slots --json")]
pub(crate) struct HistoryArguments {
    /// The pool's name
    #[arg(required_unless_present = "reservation")]
    pool: Option<String>,

    /// Only what happened to this reservation
    #[arg(long, value_name = "ID")]
    reservation: Option<plimsoll_client::ReservationId>,

    /// Only events up to this time; one with milliseconds is the end of that millisecond
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
    until: Option<Timestamp>,

    #[command(flatten)]
    data: DataArguments,
}

pub(super) fn run(arguments: &HistoryArguments) -> Result<(), Failure> {
    let data = &arguments.data;
    let history = open(data)?;
    let reservation = arguments.reservation.map(|id| ReservationId(id.0));
    let mut pools = match &arguments.pool {
        Some(name) => pools_named(&history, name, data)?,
        None => Vec::new(),
    };
    if let Some(id) = reservation {
        let pool = pool_of(&history, id).map_err(|error| failure_of(error, data))?;
        let is_there = |pool: &PoolId| arguments.pool.is_none() || pools.contains(pool);
        let Some(pool) = pool.filter(is_there) else {
            return Err(Failure::new(Exit::Failed, "there never was such a reservation"));
        };
        pools = vec![pool];
    }
    let dimensions = history.view().dimensions();
    let until = arguments.until.unwrap_or(Timestamp(i64::MAX));
    let mut output = Output::new();
    let mut printed = Ok(());
    for pool in pools {
        if printed.is_err() {
            break;
        }
        let mut ledger = PoolLedger::new(pool);
        let followed = ledger.follow(&history, until, |recorded, reference, ledger| {
            if reservation.is_some_and(|id| reservation_of(&recorded.event) != Some(id)) {
                return ControlFlow::Continue(());
            }
            let name = ledger.definition.as_ref().map(|definition| &*definition.name);
            let recorded = Recorded::new(recorded, name, reference, Some(&ledger.after()), history.view());
            printed = match data.json {
                true => output.json(&recorded.form(dimensions)),
                false => output.line(recorded.line(dimensions)),
            };
            // Nobody reads on.
            match printed {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        followed.map_err(|error| failure_of(error, data))?;
    }
    printed?;
    output.finish()
}

/// The pool of a reservation: no index leads from one to the other, so its partition's events are read until it is made.
fn pool_of(history: &History, id: ReservationId) -> Result<Option<PoolId>, ReplayError> {
    let mut events = history.events(Selection {
        partition: Some(id.parts().partition),
        ..Selection::ALL
    })?;
    while let Some(recorded) = events.next(history)? {
        if reservation_of(&recorded.event) == Some(id) {
            return Ok(recorded.event.pool());
        }
    }
    Ok(None)
}
