//! `plimsoll replay state`

use clap::Args;
use indicatif::ProgressBar;
use plimsoll_client::{Pool, PoolId, ReservationDetails, ReservationId};
use plimsoll_domain::{Counters, PoolDefinition, ReservationState, ReservationView, State, Timestamp};
use plimsoll_form::{PoolForm, ReservationForm, wire_form};
use plimsoll_replay::{History, Moment, PoolLedger, Replayer};

use crate::failure::{Exit, Failure};
use crate::output::{Output, Table};
use crate::pool_form::{TABLE_TEXT_COLUMNS, table_head, table_row, used_line};
use crate::values::{DimensionNames, parse_dimensions};

use super::moment::{GivenMoment, parse_moment};
use super::{DataArguments, SourceArguments, failure_of, failure_of_moment, online, open, pools_named};

/// Events between two looks at the progress.
const PROGRESS_EVENT_COUNT: u64 = 1 << 14;

/// The command line of `plimsoll replay state`.
#[derive(Debug, Args)]
#[command(after_help = "\
The moment is a time, or a place in a core's journal, as 'plimsoll replay dump' prints it as core and lsn: lsn:CORE:N, or lsn:N where there
is one core; the other cores are then shown as of the same time. A time with milliseconds, as `at` is printed, is the end of that
millisecond. Without --at: as of now, up to what is durable.

Examples:
  plimsoll replay state --data ./slots --at 2026-12-24T12:00:00+01:00
  plimsoll replay state zone-7:monday --data ./slots --at 1782302400 --reservations
  plimsoll replay state --data ./slots --at lsn:0:4711 --used | sha256sum")]
pub(crate) struct StateArguments {
    /// Only this pool
    pub(super) pool: Option<String>,

    /// The moment
    #[arg(long, value_name = "TIME|LSN", value_parser = parse_moment)]
    at: Option<GivenMoment>,

    /// Print the reservations that took units, instead of pools
    #[arg(long)]
    pub(super) reservations: bool,

    /// Print only name,used[,used..] (held + confirmed) of each pool, in the order of dimensions
    #[arg(long, conflicts_with_all = ["json", "reservations"])]
    used: bool,

    /// With --used: only these dimensions, in the order of dimensions
    #[arg(long, value_name = "NAMES", value_parser = parse_dimensions, requires = "used")]
    dimensions: Option<DimensionNames>,

    #[command(flatten)]
    pub(super) source: SourceArguments,
}

pub(super) fn run(arguments: &StateArguments) -> Result<(), Failure> {
    let data = &arguments.source.data;
    let moment = arguments.at.unwrap_or(GivenMoment::NOW);
    if let Some(engine) = &arguments.source.engine {
        return online::state(arguments, engine, moment);
    }
    let history = open(data)?;
    let moment = moment.of(&history, "--at")?;
    let mut printer = Printer::new(arguments, history.view().dimensions())?;
    match (&arguments.pool, moment) {
        (Some(name), Moment::Time(time)) => print_pool(&history, name, time, &mut printer, data)?,
        (name, moment) => print_all(&history, name.as_deref(), moment, &mut printer, data)?,
    }
    printer.finish()
}

/// One pool, to which an index leads.
fn print_pool(
    history: &History,
    name: &str,
    time: Timestamp,
    printer: &mut Printer<'_>,
    data: &DataArguments,
) -> Result<(), Failure> {
    for pool in pools_named(history, name, data)? {
        let ledger = PoolLedger::at(history, pool, time).map_err(|error| failure_of(error, data))?;
        let Some(definition) = ledger.definition.filter(|_| !ledger.is_retired) else {
            continue;
        };
        let form = PoolAt {
            id: pool.0,
            definition: &definition,
            version: ledger.version,
            held: ledger.held,
            confirmed: ledger.confirmed,
        };
        printer.pool(&form)?;
        for (id, reservation) in &ledger.reservations {
            let view = ReservationView {
                id: *id,
                pool,
                units: reservation.units,
                state: match reservation.expires_at {
                    Some(_) => ReservationState::Held,
                    None => ReservationState::Confirmed,
                },
                created_at: reservation.created_at,
                expires_at: reservation.expires_at,
                version: reservation.version,
                would_refuse: reservation.would_refuse,
            };
            printer.reservation(&view, &definition.name, reservation.reference.as_deref())?;
        }
        return Ok(());
    }
    Err(no_such_pool(name))
}

pub(super) fn no_such_pool(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("there was no pool {name:?} at that moment"))
        .help("'plimsoll replay history' shows when it was created and retired")
}

/// The state of all cores.
fn print_all(
    history: &History,
    name: Option<&str>,
    moment: Moment,
    printer: &mut Printer<'_>,
    data: &DataArguments,
) -> Result<(), Failure> {
    let failed = |error| failure_of_moment(error, "--at", data);
    // How much there is to read depends on the snapshots, so only what was done is told.
    let bar = ProgressBar::new_spinner();
    let mut replayer = Replayer::near(history, moment).map_err(failed)?;
    let mut count = 0u64;
    let advanced = replayer.advance(moment, |_, _| {
        count += 1;
        if count.is_multiple_of(PROGRESS_EVENT_COUNT) {
            bar.set_message(format!("{count} events"));
        }
    });
    bar.finish_and_clear();
    advanced.map_err(failed)?;
    let state = replayer.state();
    let mut is_found = false;
    for (id, pool) in state.pools_after("") {
        if name.is_some_and(|name| name != &*pool.definition().name) {
            continue;
        }
        is_found = true;
        printer.pool(&PoolAt {
            id: id.0,
            definition: pool.definition(),
            version: pool.version(),
            held: *pool.held(),
            confirmed: *pool.confirmed(),
        })?;
    }
    if let Some(name) = name.filter(|_| !is_found) {
        return Err(no_such_pool(name));
    }
    if printer.arguments.reservations {
        print_reservations(state, name, printer)?;
    }
    Ok(())
}

fn print_reservations(state: &State, name: Option<&str>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    // As of any time: ended ones are left out.
    for view in state.reservations(Timestamp(0)).filter(|view| !view.state.is_ended()) {
        if let Some(pool) = state.pool(view.pool)
            && name.is_none_or(|name| name == &*pool.definition().name)
        {
            printer.reservation(&view, &pool.definition().name, state.reference(view.id))?;
        }
    }
    Ok(())
}

fn state_of(state: ReservationState) -> plimsoll_client::State {
    match state {
        ReservationState::Held => plimsoll_client::State::Held,
        ReservationState::Confirmed => plimsoll_client::State::Confirmed,
        ReservationState::Released => plimsoll_client::State::Released,
        ReservationState::Expired => plimsoll_client::State::Expired,
    }
}

/// A pool at a moment.
struct PoolAt<'state> {
    id: u64,
    definition: &'state PoolDefinition,
    version: u64,
    held: Counters,
    confirmed: Counters,
}

/// Prints pools and reservations as they are asked for.
pub(super) struct Printer<'run> {
    arguments: &'run StateArguments,
    dimensions: &'run [String],
    places: Vec<usize>,
    table: Table,
    output: Output,
}

impl<'run> Printer<'run> {
    pub(super) fn new(arguments: &'run StateArguments, dimensions: &'run [String]) -> Result<Printer<'run>, Failure> {
        let places = match &arguments.dimensions {
            Some(names) => names
                .places(dimensions)
                .map_err(|error| Failure::usage(format!("--dimensions: {error}")))?,
            None => (0..dimensions.len()).collect(),
        };
        Ok(Printer {
            arguments,
            dimensions,
            places,
            table: Table::new(table_head(dimensions), TABLE_TEXT_COLUMNS),
            output: Output::new(),
        })
    }

    fn pool(&mut self, pool: &PoolAt<'_>) -> Result<(), Failure> {
        if self.arguments.reservations {
            return Ok(());
        }
        let count = self.dimensions.len();
        let mut definition = wire_form(pool.definition, count);
        definition.version = pool.version;
        self.shown(&Pool {
            id: PoolId(pool.id),
            definition,
            held: pool.held.0[..count].to_vec(),
            confirmed: pool.confirmed.0[..count].to_vec(),
        })
    }

    pub(super) fn shown(&mut self, pool: &Pool) -> Result<(), Failure> {
        if self.arguments.used {
            self.output.line(used_line(pool, &self.places))
        } else if self.arguments.source.data.json {
            self.output.json(&PoolForm::new(pool, self.dimensions))
        } else {
            self.table.row(table_row(pool));
            Ok(())
        }
    }

    fn reservation(&mut self, view: &ReservationView, pool: &str, reference: Option<&str>) -> Result<(), Failure> {
        if !self.arguments.reservations {
            return Ok(());
        }
        let details = ReservationDetails {
            id: ReservationId(view.id.0),
            state: state_of(view.state),
            pool: pool.to_owned(),
            units: view.units.0[..self.dimensions.len()].to_vec(),
            reference: reference.map(str::to_owned),
            created_at: view.created_at.0,
            expires_at: view.expires_at.map(|time| time.0),
            version: view.version,
            would_refuse: view.would_refuse,
        };
        let form = ReservationForm::new(&details, self.dimensions);
        match self.arguments.source.data.json {
            true => self.output.json(&form),
            false => self.output.line(crate::reservation_form::line(&form)),
        }
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        if !self.arguments.used && !self.arguments.source.data.json && !self.arguments.reservations {
            for line in self.table.lines() {
                self.output.line(line)?;
            }
        }
        self.output.finish()
    }
}
