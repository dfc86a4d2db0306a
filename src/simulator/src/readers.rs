//! What readers of a core's publications see, and what they may see.
//!
//! Invariants:
//! - A publication is given out only when its batch is durable, before the replies of that batch, and holds the numbers of that batch's end.
//! - What was given out is never taken back: a recovery reaches at least that far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use plimsoll_domain::{Event, PoolDefinition, Timestamp};
use plimsoll_engine::Publication;
use plimsoll_engine::limits::TICKETS_IN_FLIGHT_MAX;

use crate::checkers::{Promise, Violation, hold, violation};
use crate::log::Happened;
use crate::model::Model;

/// A pool, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    version: u64,
    definition: Arc<PoolDefinition>,
    reserved: [i64; 8],
}

/// A batch that is not given out yet.
#[derive(Debug)]
struct Expected {
    upto: u64,
    at: i64,
    defined: BTreeSet<u64>,
    /// What each pool in which something changed is then; nothing when it is retired.
    pools: BTreeMap<u64, Option<Seen>>,
}

#[derive(Default)]
pub(crate) struct Readers {
    seen: BTreeMap<u64, Seen>,
    expected: VecDeque<Expected>,
    /// The LSN up to which everything was given out.
    pub(crate) published_upto: u64,
    as_of: i64,
    asked_at: i64,
}

fn seen(model: &Model, pool: u64) -> Option<Seen> {
    model.pools.get(&pool).map(|pool| Seen {
        version: pool.version,
        definition: Arc::clone(&pool.definition),
        reserved: pool.reserved(),
    })
}

/// The pools that the events touch, and those of them that they define.
pub(crate) fn touched(events: &[Happened]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut touched, mut defined) = (BTreeSet::new(), BTreeSet::new());
    for happened in events {
        let pool = match &happened.event {
            Event::PoolCreated(event) | Event::PoolChanged(event) => {
                defined.insert(event.pool.0);
                event.pool
            }
            Event::PoolRetired(event) => event.pool,
            Event::Reserved(event) => event.pool,
            Event::Confirmed(event) | Event::Expired(event) => event.pool,
            Event::Released(event) => event.pool,
            Event::Resized(event) => event.pool,
            Event::PoolReset(event) => event.pool,
            Event::Restored(event) => event.pool,
            Event::Swept(_) | Event::TurnedAway(_) => continue,
        };
        touched.insert(pool.0);
    }
    (touched, defined)
}

impl Readers {
    /// After a start everything is given out once.
    pub(crate) fn start(&mut self, model: &Model, upto: u64, now: i64) {
        let all: BTreeSet<u64> = model.pools.keys().copied().collect();
        *self = Readers {
            as_of: 0,
            asked_at: now,
            ..Readers::default()
        };
        self.expect(model, (all.clone(), all), upto, now);
    }

    /// A batch was closed in which these pools changed.
    pub(crate) fn expect(
        &mut self,
        model: &Model,
        (touched, defined): (BTreeSet<u64>, BTreeSet<u64>),
        upto: u64,
        at: i64,
    ) {
        let pools = touched.into_iter().map(|pool| (pool, seen(model, pool)));
        self.expected.push_back(Expected {
            upto,
            at,
            defined,
            pools: pools.collect(),
        });
    }

    /// The engine gives something out.
    pub(crate) fn take(&mut self, publication: &Publication, durable: u64) -> Result<(), Violation> {
        let Some(expected) = self.expected.pop_front() else {
            return violation(Promise::Fresh, || format!("a publication of nothing: {publication:?}"));
        };
        hold(expected.upto <= durable, Promise::Fresh, || {
            format!("the batch up to LSN {} is published at {durable}", expected.upto)
        })?;
        hold(publication.at.0 == expected.at, Promise::Fresh, || {
            format!("the publication of {} is of {}", expected.at, publication.at.0)
        })?;
        for pool in &publication.retired {
            self.seen.remove(&pool.0);
        }
        for defined in &publication.defined {
            let reserved = self.seen.get(&defined.pool.0).map_or([0; 8], |seen| seen.reserved);
            let pool = Seen {
                version: defined.version,
                definition: Arc::clone(&defined.definition),
                reserved,
            };
            self.seen.insert(defined.pool.0, pool);
        }
        for (pool, reserved) in &publication.reserved {
            if let Some(seen) = self.seen.get_mut(&pool.0) {
                seen.reserved = reserved.0;
            }
        }
        let told = publication.reserved.len() + publication.retired.len();
        let defined = expected.defined.iter().filter(|pool| expected.pools[*pool].is_some());
        let is_exact = told == expected.pools.len() && publication.defined.len() == defined.count();
        hold(is_exact, Promise::Fresh, || {
            format!("{publication:?} tells of other pools than {expected:?}")
        })?;
        self.published_upto = self.published_upto.max(expected.upto);
        for (pool, expected) in &expected.pools {
            let seen = self.seen.get(pool);
            hold(seen == expected.as_ref(), Promise::Fresh, || {
                format!("readers see {seen:?} of pool {pool:#x} instead of {expected:?}")
            })?;
        }
        Ok(())
    }

    /// Planted: what a batch changed is told when it is closed.
    pub(crate) fn take_early(&mut self) {
        while let Some(expected) = self.expected.pop_front() {
            self.published_upto = self.published_upto.max(expected.upto);
            for (pool, seen) in expected.pools {
                match seen {
                    Some(seen) => self.seen.insert(pool, seen),
                    None => self.seen.remove(&pool),
                };
            }
        }
    }

    /// A reply that rests on this LSN leaves: whoever has it must see its change everywhere.
    pub(crate) fn reply(&self, upto: u64) -> Result<(), Violation> {
        let first = self.expected.front().map_or(u64::MAX, |expected| expected.upto);
        hold(first > upto, Promise::Fresh, || {
            format!("an answer that rests on LSN {upto} leaves before the publication of the batch up to {first}")
        })
    }

    /// What readers are told of the age of what they see.
    pub(crate) fn tell_age(&mut self, as_of: Timestamp, now: i64, clock: i64) -> Result<(), Violation> {
        let as_of = as_of.0;
        let oldest = self.expected.front().map_or(i64::MAX, |expected| expected.at);
        hold(as_of <= oldest && as_of <= now.max(clock), Promise::Fresh, || {
            format!("readers see everything up to {as_of}, and not what happened at {oldest}; it is {now}")
        })?;
        // Two turns can have one time: what the second one does is not told in the answer for the first.
        hold(now < self.asked_at || as_of >= self.as_of - 1, Promise::Fresh, || {
            format!(
                "readers see everything up to {as_of}, and once did up to {}",
                self.as_of
            )
        })?;
        let is_fresh = !self.expected.is_empty() || as_of >= now;
        hold(is_fresh, Promise::Fresh, || {
            format!("nothing waits to be published at {now}, and readers see everything up to {as_of}")
        })?;
        (self.as_of, self.asked_at) = (as_of, now);
        Ok(())
    }

    pub(crate) fn is_bounded(&self) -> Result<(), Violation> {
        let count = self.expected.len();
        // One for each ticket, and that of the start.
        hold(count <= TICKETS_IN_FLIGHT_MAX + 1, Promise::Bounded, || {
            format!("{count} publications wait")
        })
    }

    /// What the model knows at the LSN up to which everything was given out is what readers see.
    pub(crate) fn compare(&self, model: &Model) -> Result<(), Violation> {
        let expected: BTreeMap<u64, Seen> = model
            .pools
            .keys()
            .filter_map(|pool| Some((*pool, seen(model, *pool)?)))
            .collect();
        hold(self.seen == expected, Promise::Fresh, || {
            format!(
                "at LSN {} readers saw {:?}\n    instead of {expected:?}",
                self.published_upto, self.seen
            )
        })
    }
}
