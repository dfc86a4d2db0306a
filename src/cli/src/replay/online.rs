//! The same, asked of a running engine.

use std::time::Duration;

use crate::connection::{block_on, connect_patiently, read_failure};
use crate::failure::Failure;
use crate::output::Output;
use plimsoll_client::{Error, Event, EventKind, FeedQuery, PastQuery, Status};
use plimsoll_form::EventForm;

use super::dump::DumpArguments;
use super::moment::GivenMoment;
use super::never_was;
use super::state::{Printer, StateArguments, no_such_pool};

/// How long the engine may take for each piece of work.
const PATIENCE: Duration = Duration::from_secs(30);
/// Items in one answer.
const PAGE: u32 = 1000;

/// Events from a time on, up to now, in the order of each pool.
pub(super) fn dump(arguments: &DumpArguments, engine: &str) -> Result<(), Failure> {
    if arguments.key.is_some() {
        return Err(Failure::usage("an engine does not tell keys: --key needs --data"));
    }
    let kinds = arguments.kind.iter().filter_map(|name| EventKind::from_name(name));
    let mut query = FeedQuery {
        since: Some(arguments.from.map_or(0, |from| from.0)),
        pool: arguments.pool.clone(),
        kinds: kinds.collect(),
        limit: PAGE,
        ..FeedQuery::default()
    };
    let mut found = std::collections::HashSet::new();
    if arguments.reference.is_some() {
        // The reference is recorded with what made the reservation, which may lie before.
        query.since = Some(0);
        query.kinds = Vec::new();
    }
    let is_wanted = |event: &Event, found: &mut std::collections::HashSet<_>| {
        if let Some(reference) = &arguments.reference {
            if event.reference.as_ref() == Some(reference) {
                found.extend(event.reservation);
            }
            if event.reservation.is_none_or(|id| !found.contains(&id)) {
                return false;
            }
        }
        let kind = event.kind.to_string();
        arguments.reservation.is_none_or(|id| event.reservation == Some(id))
            && (arguments.kind.is_empty() || arguments.kind.contains(&kind))
            && arguments.from.is_none_or(|from| event.at >= from.0)
            && arguments.until.is_none_or(|until| event.at <= until.0)
    };
    block_on(async {
        let client = connect_patiently(engine, PATIENCE).await?;
        if let Some(name) = &arguments.pool {
            // A feed would wait for a pool that may come.
            match client.pool_events(name, None, 1).await {
                Ok(_) => {}
                Err(Error::Refused(refusal)) if refusal.is(Status::PoolNotFound) => return Err(never_was(name)),
                Err(error) => return Err(read_failure(error, engine)),
            }
        }
        let dimensions = client.dimensions();
        let mut feed = client.feed(query);
        let mut output = Output::new();
        loop {
            let page = feed.next().await.map_err(|error| read_failure(error, engine))?;
            for event in page.events.iter().filter(|event| is_wanted(event, &mut found)) {
                output.json(&EventForm::new(event, &dimensions))?;
            }
            // What was durable then was told.
            let is_behind = arguments.until.is_some_and(|until| page.as_of > until.0);
            if is_behind || !page.more {
                return output.finish();
            }
        }
    })
}

/// Pools as they were.
pub(super) fn state(arguments: &StateArguments, engine: &str, moment: GivenMoment) -> Result<(), Failure> {
    if arguments.reservations {
        return Err(Failure::usage("--reservations needs --data"));
    }
    let name = arguments.pool.as_deref();
    let at = match moment {
        GivenMoment::NOW => None,
        GivenMoment::Time(time) => Some(time.0),
        GivenMoment::Lsn { .. } => return Err(Failure::usage("an engine knows times only: --at lsn: needs --data")),
    };
    block_on(async {
        let client = connect_patiently(engine, PATIENCE).await?;
        let dimensions = client.dimensions();
        let mut is_found = name.is_none();
        let mut printer = Printer::new(arguments, &dimensions)?;
        let mut after = None::<String>;
        loop {
            let page = match at {
                Some(at) => {
                    let query = PastQuery {
                        at,
                        pool: name,
                        after: after.as_deref(),
                        limit: PAGE,
                        ..PastQuery::default()
                    };
                    client.past_pools(&query).await
                }
                None => client.pools(after.as_deref(), 0).await,
            };
            let page = page.map_err(|error| read_failure(error, engine))?;
            for pool in &page.pools {
                if name.is_none_or(|name| name == pool.definition.name) {
                    is_found = true;
                    printer.shown(pool)?;
                }
            }
            match page.pools.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.definition.name),
                _ if is_found => return printer.finish(),
                _ => return Err(no_such_pool(name.unwrap_or_default())),
            }
        }
    })
}
