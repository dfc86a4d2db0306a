//! `plimsoll replay dump`

use std::collections::HashSet;

use clap::Args;
use plimsoll_client::{Key, KeySource};
use plimsoll_domain::{Event, PoolId, ReservationId, Timestamp};
use plimsoll_replay::{Catalog, EventRange, KINDS, RecordedEvent, keys_of_pool, kind_of, reservation_of};

use crate::failure::Failure;
use crate::output::Output;

use super::event_form::Recorded;
use super::moment::parse_timestamp;
use super::{SourceArguments, failure_of, online, open, pools_named, progress_bar};

/// Events between two looks at the progress.
const PROGRESS_EVENT_COUNT: u64 = 1 << 12;

/// The command line of `plimsoll replay dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
One JSON object on a line for each event, in the order of time; those of a pool in the order in which they took effect. Several
filters must all hold. --reference and --key give all that happened to the reservations that were made with them.

Examples:
  plimsoll replay dump --data ./slots --pool zone-7:monday --kind reserved,released
  plimsoll replay dump --data ./slots --from 2026-12-24T00:00:00Z --until 2026-12-25T00:00:00Z | gzip > christmas.ndjson.gz
  plimsoll replay dump --data ./slots --reference 4711 | jq .kind
  plimsoll replay dump --engine 127.0.0.1:7440 --from 2026-12-24T00:00:00Z")]
pub(crate) struct DumpArguments {
    /// Only events of this pool
    #[arg(long, value_name = "NAME")]
    pub(super) pool: Option<String>,

    /// Only events of this reservation
    #[arg(long, value_name = "ID")]
    pub(super) reservation: Option<plimsoll_client::ReservationId>,

    /// Only events of reservations with this reference
    #[arg(long, value_name = "TEXT")]
    pub(super) reference: Option<String>,

    /// Only events of reservations that were made with this idempotency key
    #[arg(long, value_name = "KEY", value_parser = <Key as KeySource>::from_text)]
    pub(super) key: Option<Key>,

    /// Only events of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = KINDS)]
    pub(super) kind: Vec<String>,

    /// Only events from this time on
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(super) from: Option<Timestamp>,

    /// Only events up to this time
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(super) until: Option<Timestamp>,

    #[command(flatten)]
    pub(super) source: SourceArguments,
}

pub(super) fn run(arguments: &DumpArguments) -> Result<(), Failure> {
    if let Some(engine) = &arguments.source.engine {
        return online::dump(arguments, engine);
    }
    let data = &arguments.source.data;
    let history = open(data)?;
    let failed = |error| failure_of(error, data);
    let mut filter = Filter::new(arguments);
    let mut range = EventRange {
        until: arguments.until.unwrap_or(EventRange::ALL.until),
        ..EventRange::ALL
    };
    if let Some(name) = &arguments.pool {
        filter.pools = Some(pools_named(&history, name, data)?);
        range.partition = Some(plimsoll_domain::partition_of(name));
        if let Some([pool]) = filter.pools.as_deref() {
            range.keys = Some(keys_of_pool(*pool));
        }
    }
    if let Some(reservation) = arguments.reservation {
        range.partition = Some(ReservationId(reservation.0).parts().partition);
    }
    // What made the reservations may lie before.
    let starts_late = arguments.from.filter(|_| !filter.follows_reservations());
    let mut catalog = Catalog::default();
    if let Some(from) = starts_late {
        range.from = from;
        catalog = Catalog::before(&history, from).map_err(failed)?;
    }
    let dimensions = history.view().dimensions();
    let mut output = Output::new();
    let bar = progress_bar(history.size().map_err(failed)?);
    let mut events = history.events(&range).map_err(failed)?;
    let mut count = 0u64;
    while let Some(recorded) = events.next().map_err(failed)? {
        count += 1;
        if count.is_multiple_of(PROGRESS_EVENT_COUNT) {
            bar.set_position(events.bytes());
        }
        catalog.take(&recorded.event);
        if filter.takes(&recorded) && arguments.from.is_none_or(|from| recorded.time >= from) {
            let definition = recorded.event.pool().and_then(|pool| catalog.get(pool));
            let reference = match &recorded.event {
                Event::Reserved(reserved) => reserved.reference.as_deref(),
                Event::Restored(restored) => restored.reference.as_deref(),
                _ => arguments.reference.as_deref(),
            };
            let name = definition.map(|definition| &*definition.name);
            let recorded = Recorded::new(&recorded, name, reference, None, dimensions.len());
            output.json(&recorded.form(dimensions))?;
        }
        catalog.forget_retired(&recorded.event);
    }
    bar.finish_and_clear();
    output.finish()
}

/// What of an event must hold for it to be printed.
struct Filter<'arguments> {
    pools: Option<Vec<PoolId>>,
    reservation: Option<ReservationId>,
    reference: Option<&'arguments str>,
    key: Option<Key>,
    kinds: &'arguments [String],
    /// The reservations that were made with the reference and the key.
    found: HashSet<ReservationId>,
}

impl<'arguments> Filter<'arguments> {
    fn new(arguments: &'arguments DumpArguments) -> Filter<'arguments> {
        Filter {
            pools: None,
            reservation: arguments.reservation.map(|id| ReservationId(id.0)),
            reference: arguments.reference.as_deref(),
            key: arguments.key,
            kinds: &arguments.kind,
            found: HashSet::new(),
        }
    }

    fn follows_reservations(&self) -> bool {
        self.reference.is_some() || self.key.is_some()
    }

    fn takes(&mut self, recorded: &RecordedEvent) -> bool {
        let event = &recorded.event;
        let reservation = reservation_of(event);
        if self.follows_reservations() {
            if let Event::Reserved(reserved) = event
                && self
                    .reference
                    .is_none_or(|text| reserved.reference.as_deref() == Some(text))
                && self.key.is_none_or(|key| reserved.key.0 == key.0)
            {
                self.found.insert(reserved.reservation);
            }
            if reservation.is_none_or(|id| !self.found.contains(&id)) {
                return false;
            }
        }
        let is_of_pool = |pools: &Vec<PoolId>| event.pool().is_some_and(|pool| pools.contains(&pool));
        self.pools.as_ref().is_none_or(is_of_pool)
            && self.reservation.is_none_or(|id| reservation == Some(id))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == kind_of(event)))
    }
}
