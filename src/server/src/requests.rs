//! The operations that are not commands: split by owner, gathered again, and answered.

use std::rc::Rc;

use plimsoll_domain::limits::POOL_NAME_SIZE_MAX;
use plimsoll_domain::{PoolDefinition, PutPool, ReservationId, Timestamp, Units, partition_of};
use plimsoll_engine::limits::{ANSWER_SIZE_MAX, ITEM_COUNT_MAX};
use plimsoll_engine::{Answer, Call, PoolReport, PutResult, Request, ReservationReport};
use plimsoll_protocol::frame::{Frame, Head};
use plimsoll_protocol::{Encoder, Operation, PayloadError, Status, VERSION, payload, wire};

use crate::connection::Connection;
use crate::core::{Core, Inner};
use crate::dispatch::existing;
use crate::encode;
use crate::limits::{ACCEPTED_REQUESTS_MAX, COMMANDS_MAX, REQUEST_WEIGHT, WINDOW_COMMANDS};

type Refused = (Status, String);

fn malformed(error: &PayloadError) -> Refused {
    (error.status(), error.to_string())
}

/// Requests whose parts are with their owners, by a small number that is used again.
#[derive(Default)]
pub(crate) struct Requests {
    places: Vec<Option<Pending>>,
    count: usize,
}

struct Pending {
    connection: Rc<Connection>,
    head: Head,
    missing: usize,
    /// By part, where each item of its answer belongs.
    positions: Vec<Vec<u32>>,
    gathered: Gathered,
    refused: Option<Status>,
}

enum Gathered {
    Resolved(Vec<u64>),
    Put(Vec<PutResult>),
    Pools {
        pools: Vec<PoolReport>,
        limit: Option<usize>,
    },
    Reservations(Vec<Option<ReservationReport>>),
}

impl Requests {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn insert(&mut self, pending: Pending) -> u32 {
        self.count += 1;
        let place = self
            .places
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(pending);
        place as u32
    }

    fn take(&mut self, origin: u32) -> Pending {
        self.count -= 1;
        self.places[origin as usize]
            .take()
            .expect("answers come for requests that wait")
    }
}

/// The parts of one request: for each owner that is asked, what it is asked for and where its items belong.
struct Part {
    owner: usize,
    call: Call,
    positions: Vec<u32>,
}

impl Core {
    pub(crate) fn take_request(
        &self,
        connection: &Rc<Connection>,
        frame: &Frame<'_>,
        operation: Operation,
    ) -> Result<(), Refused> {
        // From the header alone, before anything is checksummed or decoded.
        let is_light = matches!(operation, Operation::Hello | Operation::Ping);
        if !is_light && self.with(|inner| inner.requests.count >= ACCEPTED_REQUESTS_MAX) {
            return Err((Status::Overloaded, "too many requests wait".into()));
        }
        frame
            .check_payload()
            .map_err(|error| (error.status(), error.to_string()))?;
        let head = Head::answer_to(&frame.header);
        match operation {
            Operation::Hello => self.welcome(connection, frame, head),
            _ if !connection.is_welcome.get() => Err((Status::Malformed, "the first frame must be hello".into())),
            Operation::Ping => {
                self.with(|inner| inner.encoder.empty(&mut connection.unsent.borrow_mut(), head));
                self.wants_flush(connection);
                Ok(())
            }
            Operation::ResolvePools => {
                let table =
                    payload::table::<wire::ResolvePools>("ResolvePools", frame.payload).map_err(|e| malformed(&e))?;
                let names = texts(table.names())?;
                let gathered = Gathered::Resolved(vec![0; names.len()]);
                let parts = self.split(names, |name| self.owner_of(name), Call::ResolvePools);
                self.ask(connection, head, gathered, parts)
            }
            Operation::PutPools => self.put_pools(connection, frame, head),
            Operation::Stats => self.answer_stats(connection, head),
            Operation::Availability => self.answer_availability(connection, frame, head),
            Operation::GetPools => {
                let table = payload::table::<wire::GetPools>("GetPools", frame.payload).map_err(|e| malformed(&e))?;
                let parts = self.split(texts(table.names())?, |name| self.owner_of(name), Call::GetPools);
                self.ask(
                    connection,
                    head,
                    Gathered::Pools {
                        pools: Vec::new(),
                        limit: None,
                    },
                    parts,
                )
            }
            Operation::ListPools => {
                let table = payload::table::<wire::ListPools>("ListPools", frame.payload).map_err(|e| malformed(&e))?;
                let limit = match table.limit() as usize {
                    0 => ITEM_COUNT_MAX,
                    limit => limit.min(ITEM_COUNT_MAX),
                };
                let after: Box<str> = table.after().unwrap_or_default().into();
                let parts = (0..self.shared.core_count())
                    .map(|owner| Part {
                        owner,
                        // One more than is asked for tells whether there are more.
                        call: Call::ListPools {
                            after: after.clone(),
                            limit: limit + 1,
                        },
                        positions: Vec::new(),
                    })
                    .collect();
                self.ask(
                    connection,
                    head,
                    Gathered::Pools {
                        pools: Vec::new(),
                        limit: Some(limit),
                    },
                    parts,
                )
            }
            Operation::GetReservations => {
                let table = payload::table::<wire::GetReservations>("GetReservations", frame.payload)
                    .map_err(|e| malformed(&e))?;
                let ids = table.reservations();
                check_item_count(ids.len())?;
                let ids: Vec<_> = ids
                    .iter()
                    .map(|id| ReservationId(u128::from(id.high()) << 64 | u128::from(id.low())))
                    .collect();
                let gathered = Gathered::Reservations(vec![None; ids.len()]);
                let owner = |id: &ReservationId| {
                    let partition = existing(id.parts().partition, Status::ReservationNotFound).ok()?;
                    Some(usize::from(self.shared.owners[partition.index()]))
                };
                let parts = self.split(ids, owner, Call::GetReservations);
                self.ask(connection, head, gathered, parts)
            }
            Operation::PoolEvents
            | Operation::Feed
            | Operation::SearchReservations
            | Operation::PastState
            | Operation::ResetPool => self.ask_history(connection, frame, head, operation),
            _ => Err((Status::Unsupported, "not an operation of this server".into())),
        }
    }

    fn welcome(&self, connection: &Rc<Connection>, frame: &Frame<'_>, head: Head) -> Result<(), Refused> {
        let hello = payload::table::<wire::Hello>("Hello", frame.payload).map_err(|e| malformed(&e))?;
        if hello.version_min() > VERSION || hello.version_max() < VERSION {
            connection.close();
            let detail = format!(
                "this server speaks version {VERSION}, the client {} to {}",
                hello.version_min(),
                hello.version_max()
            );
            return Err((Status::VersionUnsupported, detail));
        }
        if hello.credentials().is_some() {
            return Err((Status::Unsupported, "this server has no authentication".into()));
        }
        tracing::debug!(peer = %connection.peer, client = hello.client().unwrap_or("?"), "hello");
        let shared = &self.shared;
        let welcome = encode::Welcome {
            directory_id: &shared.directory_id,
            dimensions: &shared.dimensions,
            cores: shared.core_count() as u16,
            commands_max: COMMANDS_MAX,
            window_commands: WINDOW_COMMANDS as u32,
            items_max: ITEM_COUNT_MAX as u32,
        };
        self.with(|inner| encode::welcome(&mut inner.encoder, &mut connection.unsent.borrow_mut(), head, &welcome));
        connection.is_welcome.set(true);
        self.wants_flush(connection);
        Ok(())
    }

    fn put_pools(&self, connection: &Rc<Connection>, frame: &Frame<'_>, head: Head) -> Result<(), Refused> {
        let table = payload::table::<wire::PutPools>("PutPools", frame.payload).map_err(|e| malformed(&e))?;
        let definitions = table.definitions();
        check_item_count(definitions.len())?;
        let mut puts = Vec::with_capacity(definitions.len());
        for (index, definition) in definitions.iter().enumerate() {
            let put = self
                .read_definition(&definition)
                .map_err(|detail| (Status::Invalid, format!("definitions[{index}].{detail}")))?;
            puts.push(put);
        }
        let dry_run = table.dry_run();
        let gathered = Gathered::Put(vec![
            PutResult {
                status: Status::Ok,
                change: wire::Change::none,
                pool: 0,
                version: 0
            };
            puts.len()
        ]);
        let parts = self.split(
            puts,
            |put| self.owner_of(&put.definition.name),
            |puts| Call::PutPools { puts, dry_run },
        );
        self.ask(connection, head, gathered, parts)
    }

    fn read_definition(&self, wire: &wire::PoolDefinition<'_>) -> Result<PutPool, String> {
        let dimension_count = self.shared.dimensions.len();
        let units = |values, field| read_units(values, field, dimension_count);
        let definition = PoolDefinition {
            name: wire.name().into(),
            zone: wire.zone().into(),
            kind: wire.kind().into(),
            starts_at: Timestamp(wire.starts_at()),
            ends_at: Timestamp(wire.ends_at()),
            opens_at: Timestamp(wire.opens_at()),
            closes_at: Timestamp(wire.closes_at()),
            coverage: wire
                .coverage()
                .map(|prefixes| prefixes.iter().map(Box::from).collect())
                .unwrap_or_default(),
            closed: wire.closed(),
            shadow: wire.shadow(),
            limits: units(Some(wire.limits()), "limits")?,
            overbook: units(wire.overbook(), "overbook")?,
        };
        definition.check().map_err(|error| error.to_string())?;
        let expected_version = Some(wire.version()).filter(|version| *version != 0);
        Ok(PutPool {
            definition,
            expected_version,
        })
    }

    fn owner_of(&self, name: &str) -> Option<usize> {
        Some(usize::from(self.shared.owners[partition_of(name).index()]))
    }

    /// Splits items by their owners; items without one are left out.
    fn split<T>(&self, items: Vec<T>, owner: impl Fn(&T) -> Option<usize>, call: impl Fn(Vec<T>) -> Call) -> Vec<Part> {
        let mut by_owner: Vec<(Vec<T>, Vec<u32>)> = (0..self.shared.core_count())
            .map(|_| (Vec::new(), Vec::new()))
            .collect();
        for (position, item) in items.into_iter().enumerate() {
            if let Some(owner) = owner(&item) {
                by_owner[owner].0.push(item);
                by_owner[owner].1.push(position as u32);
            }
        }
        let asked = by_owner
            .into_iter()
            .enumerate()
            .filter(|(_, (items, _))| !items.is_empty());
        asked
            .map(|(owner, (items, positions))| Part {
                owner,
                call: call(items),
                positions,
            })
            .collect()
    }

    fn ask(
        &self,
        connection: &Rc<Connection>,
        head: Head,
        gathered: Gathered,
        parts: Vec<Part>,
    ) -> Result<(), Refused> {
        self.with(|inner| {
            connection.add_in_flight(REQUEST_WEIGHT);
            let pending = Pending {
                connection: Rc::clone(connection),
                head,
                missing: parts.len(),
                positions: parts.iter().map(|part| part.positions.clone()).collect(),
                gathered,
                refused: None,
            };
            let origin = inner.requests.insert(pending);
            if parts.is_empty() {
                self.answer_request(inner, origin);
            }
            for (index, part) in parts.into_iter().enumerate() {
                let request = Request {
                    sender: self.index(),
                    origin,
                    part: index as u32,
                    call: part.call,
                    answer: Answer::Pending,
                };
                inner.outgoing.push_request(part.owner, Box::new(request));
            }
            Ok(())
        })
    }

    /// Takes one owner's part of an answer.
    pub(crate) fn take_answer(&self, inner: &mut Inner, request: Request) {
        let pending = inner.requests.places[request.origin as usize]
            .as_mut()
            .expect("answers come for requests that wait");
        let positions = std::mem::take(&mut pending.positions[request.part as usize]);
        let places = positions.iter().map(|position| *position as usize);
        match (&mut pending.gathered, request.answer) {
            (Gathered::Resolved(ids), Answer::ResolvedPools(found)) => {
                for (place, id) in places.zip(found) {
                    ids[place] = id.map_or(0, |id| id.0);
                }
            }
            (Gathered::Put(results), Answer::PutPools(found)) => {
                for (place, result) in places.zip(found) {
                    results[place] = result;
                }
            }
            (Gathered::Pools { pools, .. }, Answer::Pools(found)) => pools.extend(found),
            (Gathered::Reservations(reservations), Answer::Reservations(found)) => {
                for (place, reservation) in places.zip(found) {
                    reservations[place] = reservation;
                }
            }
            // A put that one owner took and another refused is told item by item.
            (Gathered::Put(results), Answer::Refused(status)) => {
                for place in places {
                    results[place].status = status;
                }
            }
            (_, Answer::Refused(status)) => pending.refused = Some(status),
            (_, answer) => unreachable!("an answer of another sort came back: {answer:?}"),
        }
        pending.missing -= 1;
        if pending.missing == 0 {
            self.answer_request(inner, request.origin);
        }
    }

    fn answer_request(&self, inner: &mut Inner, origin: u32) {
        let pending = inner.requests.take(origin);
        let connection = pending.connection;
        connection.answered(REQUEST_WEIGHT);
        let unsent = &mut *connection.unsent.borrow_mut();
        let dimension_count = self.shared.dimensions.len();
        let encoder: &mut Encoder = &mut inner.encoder;
        let encoded = match (pending.refused, pending.gathered) {
            (Some(status), _) => {
                encoder.failure(unsent, pending.head, status, "an owner of a part of it refused");
                Ok(())
            }
            (None, Gathered::Resolved(ids)) => encode::resolved(encoder, unsent, pending.head, &ids),
            (None, Gathered::Put(results)) => encode::put_results(encoder, unsent, pending.head, &results),
            (None, Gathered::Pools { mut pools, limit }) => {
                pools.sort_unstable_by(|left, right| left.definition.name.cmp(&right.definition.name));
                let fitting = limit.map_or(pools.len(), |limit| page_length(&pools, limit));
                let more = pools.len() > fitting;
                pools.truncate(fitting);
                encode::pools(encoder, unsent, pending.head, dimension_count, &pools, more)
            }
            (None, Gathered::Reservations(reservations)) => encode::reservations(
                encoder,
                unsent,
                pending.head,
                dimension_count,
                reservations.iter().flatten(),
            ),
        };
        if let Err(error) = encoded {
            encoder.failure(
                unsent,
                pending.head,
                Status::FrameTooLarge,
                &format!("the answer does not fit: {error}; ask for less"),
            );
        }
        inner.mark_dirty(&connection);
    }
}

/// A value for each dimension; zeros where there is no list.
pub(crate) fn read_units(
    values: Option<flatbuffers::Vector<'_, u32>>,
    field: &str,
    dimension_count: usize,
) -> Result<Units, String> {
    let mut units = Units::default();
    if let Some(values) = values {
        if values.len() != dimension_count {
            return Err(format!(
                "{field}: expected a value for each of {dimension_count} dimensions, found {}",
                values.len()
            ));
        }
        for (unit, value) in units.0.iter_mut().zip(values) {
            *unit = value;
        }
    }
    Ok(units)
}

/// How many of the pools a page takes: at most `limit`, at least one, and no more than fit an answer.
fn page_length(pools: &[PoolReport], limit: usize) -> usize {
    // An owner's part ends behind this bound, or at its limit, so that no name before the last one of the page is missing.
    let mut total = 0;
    let fitting = pools.iter().take(limit).take_while(|pool| {
        total += pool.size_in_answer();
        total <= ANSWER_SIZE_MAX
    });
    fitting.count().max(1).min(pools.len())
}

fn check_item_count(count: usize) -> Result<(), Refused> {
    if count <= ITEM_COUNT_MAX {
        Ok(())
    } else {
        Err((
            Status::FrameTooLarge,
            format!("at most {ITEM_COUNT_MAX} items in a request, found {count}"),
        ))
    }
}

fn texts(names: flatbuffers::Vector<'_, flatbuffers::ForwardsUOffset<&str>>) -> Result<Vec<Box<str>>, Refused> {
    check_item_count(names.len())?;
    // No pool has a longer name, so it is not copied either.
    let name = |name: &str| {
        if name.len() > POOL_NAME_SIZE_MAX {
            "".into()
        } else {
            name.into()
        }
    };
    Ok(names.iter().map(name).collect())
}
