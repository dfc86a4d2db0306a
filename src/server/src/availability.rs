//! The published read side: a core publishes what has become durable, and answers from what all cores have published.

use std::rc::Rc;

use plimsoll_availability::{Query, Reader, Table, Writer};
use plimsoll_domain::Timestamp;
use plimsoll_domain::limits::UNITS_MAX;
use plimsoll_engine::limits::ITEM_COUNT_MAX;
use plimsoll_protocol::frame::{Frame, Head};
use plimsoll_protocol::{Status, payload, wire};

use crate::connection::Connection;
use crate::core::{Core, Inner};
use crate::requests::read_units;

/// How many pools an answer has at most when the question does not say.
const POOL_COUNT_DEFAULT: usize = 200;

/// One core's part in the table.
pub(crate) struct Availability {
    writer: Writer,
    reader: Reader,
    as_of: Timestamp,
    /// Where answers are gathered.
    pools: Vec<wire::AvailablePool>,
    remaining: Vec<i64>,
}

impl Availability {
    pub(crate) fn new(table: &Table, writer: Writer) -> Availability {
        Availability {
            writer,
            reader: table.reader(),
            as_of: Timestamp(i64::MIN),
            pools: Vec::new(),
            remaining: Vec::new(),
        }
    }

    /// What is published is as of this time, microseconds since 1970.
    pub(crate) fn as_of(&self) -> i64 {
        self.as_of.0
    }
}

/// Publishes what has become durable. It comes before the replies, so that whoever has a reply sees its change everywhere.
pub(crate) fn publish(inner: &mut Inner, now: Timestamp) {
    let Inner {
        engine, availability, ..
    } = inner;
    while let Some(publication) = engine.next_publication() {
        for pool in &publication.retired {
            availability.writer.remove(*pool);
        }
        for defined in &publication.defined {
            availability
                .writer
                .put(defined.pool, defined.version, &defined.definition);
        }
        for (pool, reserved) in &publication.reserved {
            availability.writer.set_reserved(*pool, reserved);
        }
        engine.recycle(publication);
    }
    // The clock may be set back; what was told stays true.
    availability.as_of = availability.as_of.max(engine.published_as_of(now));
    availability.writer.publish(availability.as_of);
}

impl Core {
    /// Answers from the table: no other core is asked.
    pub(crate) fn answer_availability(
        &self,
        connection: &Rc<Connection>,
        frame: &Frame<'_>,
        head: Head,
    ) -> Result<(), (Status, String)> {
        let asked = payload::table::<wire::AvailabilityQuery>("AvailabilityQuery", frame.payload)
            .map_err(|error| (error.status(), error.to_string()))?;
        let invalid = |detail: &str| Err((Status::Invalid, detail.to_owned()));
        if asked.zone().is_none() && asked.location().is_none() {
            return invalid("a zone or a location must be given");
        }
        let dimension_count = self.shared.dimensions.len();
        let units = read_units(asked.units(), "units", dimension_count).map_err(|detail| (Status::Invalid, detail))?;
        if units.0.iter().any(|unit| *unit > UNITS_MAX) {
            return invalid("units: at most 2147483647");
        }
        let limit = match asked.limit() as usize {
            0 => POOL_COUNT_DEFAULT,
            limit => limit.min(ITEM_COUNT_MAX),
        };
        self.with(|inner| {
            let now = inner.clock.now();
            let from = match asked.from() {
                i64::MIN => now,
                from => Timestamp(from),
            };
            if asked.to() <= from.0 {
                return invalid("to must be after from");
            }
            let query = Query {
                zone: asked.zone(),
                location: asked.location(),
                kind: asked.kind(),
                from,
                to: Timestamp(asked.to()),
                units,
                limit,
            };
            let Inner {
                availability, encoder, ..
            } = inner;
            let mut unsent = connection.unsent.borrow_mut();
            let encoded = encoder.table(&mut unsent, head, |builder| {
                let (pools, remaining) = (&mut availability.pools, &mut availability.remaining);
                pools.clear();
                remaining.clear();
                let (mut names, mut zones, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
                let summary = availability.reader.query(&query, now, |found| {
                    pools.push(wire::AvailablePool::new(
                        found.pool.0,
                        found.starts_at.0,
                        found.ends_at.0,
                        found.version as u32,
                        wire::Band(found.band as u8),
                        u8::from(found.fits),
                        0,
                    ));
                    if asked.exact() {
                        remaining.extend_from_slice(&found.remaining.0[..dimension_count]);
                    }
                    if asked.names() {
                        names.push(builder.create_string(found.name));
                        zones.push(builder.create_shared_string(found.zone));
                        kinds.push(builder.create_shared_string(found.kind));
                    }
                });
                let args = wire::AvailabilityArgs {
                    as_of: summary.as_of.0,
                    pools: Some(builder.create_vector(pools)),
                    remaining: asked.exact().then(|| builder.create_vector(remaining)),
                    names: asked.names().then(|| builder.create_vector(&names)),
                    zones: asked.names().then(|| builder.create_vector(&zones)),
                    kinds: asked.names().then(|| builder.create_vector(&kinds)),
                    truncated: summary.truncated,
                };
                wire::Availability::create(builder, &args)
            });
            encoded.map_err(|error| (Status::FrameTooLarge, format!("the answer does not fit: {error}")))
        })?;
        self.counters().availability_answered();
        self.wants_flush(connection);
        Ok(())
    }
}
