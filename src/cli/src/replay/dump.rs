//! `plimsoll replay dump`

use std::collections::{HashMap, HashSet};

use clap::Args;
use plimsoll_client::{Key, KeySource};
use plimsoll_domain::{Event, PoolId, ReservationId, Timestamp};
use plimsoll_replay::{
    Catalog, History, KINDS, Moment, PoolLedger, RecordedEvent, ReplayError, Replayer, Selection, keys_of_pool,
    kind_of, reservation_of,
};

use crate::failure::Failure;
use crate::output::Output;

use super::event_form::Recorded;
use super::moment::{parse_end, parse_start};
use super::{SourceArguments, failure_of, online, open, pools_named, progress_bar};

/// Events between two looks at the progress.
const PROGRESS_EVENT_COUNT: u64 = 1 << 12;

/// The command line of `plimsoll replay dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
One JSON object on a line for each event, in the order of time; those of a pool in the order in which they took effect. Several
filters must all hold. --reference and --key give all that happened to the reservations that were made with them. From a directory each
event of a reservation has its reference, through an engine only those that made it (reserved, restored).

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
    #[arg(long, value_name = "TIME", value_parser = parse_start)]
    pub(super) from: Option<Timestamp>,

    /// Only events up to this time; one with milliseconds is the end of that millisecond
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
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
    let until = arguments.until.unwrap_or(Timestamp(i64::MAX));
    let mut selection = Selection::until(until);
    if let Some(name) = &arguments.pool {
        filter.pools = Some(pools_named(&history, name, data)?);
        selection.partition = Some(plimsoll_domain::partition_of(name));
        if let Some([pool]) = filter.pools.as_deref() {
            selection.keys = Some(keys_of_pool(*pool));
        }
    }
    if let Some(reservation) = arguments.reservation {
        selection.partition = Some(ReservationId(reservation.0).parts().partition);
    }
    // What made the reservations may lie before.
    let starts_late = arguments.from.filter(|_| !filter.follows_reservations());
    let mut catalog = Catalog::default();
    let mut references = References::default();
    if let Some(from) = starts_late {
        selection.times = from..=until;
        catalog = Catalog::before(&history, from).map_err(failed)?;
        if filter.needs_references() {
            references = References::before(&history, from, filter.pools.as_deref()).map_err(failed)?;
        }
    }
    let dimensions = history.view().dimensions();
    let mut output = Output::new();
    let bar = progress_bar(history.size().map_err(failed)?);
    let mut events = history.events(selection).map_err(failed)?;
    let mut count = 0u64;
    while let Some(recorded) = events.next(&history).map_err(failed)? {
        count += 1;
        if count.is_multiple_of(PROGRESS_EVENT_COUNT) {
            bar.set_position(events.bytes());
        }
        catalog.take(&recorded.event);
        references.take(&recorded.event);
        if filter.takes(&recorded) && arguments.from.is_none_or(|from| recorded.time >= from) {
            let definition = recorded.event.pool().and_then(|pool| catalog.get(pool));
            let name = definition.map(|definition| &*definition.name);
            let printed = Recorded::new(&recorded, name, references.of(&recorded.event), None, history.view());
            output.json(&printed.form(dimensions))?;
        }
        references.forget_ended(&recorded.event);
        catalog.forget_retired(&recorded.event);
    }
    bar.finish_and_clear();
    output.finish()
}

/// The references of the reservations that live, where they have one: only what makes a reservation records it.
#[derive(Default)]
struct References(HashMap<ReservationId, Box<str>>);

impl References {
    /// Those of the reservations that lived just before this time, of all pools or of these.
    fn before(history: &History, time: Timestamp, pools: Option<&[PoolId]>) -> Result<References, ReplayError> {
        let before = Timestamp(time.0.saturating_sub(1));
        let mut references = HashMap::new();
        for pool in pools.unwrap_or_default() {
            let ledger = PoolLedger::at(history, *pool, before)?;
            let live = ledger.reservations.into_iter();
            references.extend(live.filter_map(|(id, reservation)| Some((id, reservation.reference?))));
        }
        if pools.is_none() {
            let moment = Moment::Time(before);
            let mut replayer = Replayer::near(history, moment)?;
            replayer.advance(moment, |_, _| ())?;
            let state = replayer.state();
            let live = state.reservations(Timestamp(0)).filter(|view| !view.state.is_ended());
            references.extend(live.filter_map(|view| Some((view.id, state.reference(view.id)?.into()))));
        }
        Ok(References(references))
    }

    fn take(&mut self, event: &Event) {
        let (id, reference) = match event {
            Event::Reserved(reserved) => (reserved.reservation, &reserved.reference),
            Event::Restored(restored) => (restored.reservation, &restored.reference),
            _ => return,
        };
        if let Some(reference) = reference {
            self.0.insert(id, reference.clone());
        }
    }

    fn of(&self, event: &Event) -> Option<&str> {
        reservation_of(event).and_then(|id| self.0.get(&id)).map(|text| &**text)
    }

    /// To be called behind [`References::of`]: the event that ends a reservation has its reference too.
    fn forget_ended(&mut self, event: &Event) {
        if let (Event::Released(_) | Event::Expired(_), Some(id)) = (event, reservation_of(event)) {
            self.0.remove(&id);
        }
    }
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

    /// Whether events are wanted that do not record their reference themselves.
    fn needs_references(&self) -> bool {
        let records_it = |kind: &String| ["reserved", "restored"].contains(&kind.as_str());
        self.kinds.is_empty() || !self.kinds.iter().all(records_it)
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
