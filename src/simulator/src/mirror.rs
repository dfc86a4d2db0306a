//! What a core's engine has taken in, and what it must answer.
//!
//! Each turn is decided once more by the model, message by message, and held against the events that the turn has written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use plimsoll_domain::{Command, Counters, Event, PutPool, Reserve, Reserved, ResizeCause, Timestamp};
use plimsoll_engine::limits::{
    PUT_WEIGHT, TURN_COMMAND_COUNT_MAX, WAITING_COMMAND_COUNT_MAX, WAITING_MESSAGE_COUNT_MAX,
};
use plimsoll_engine::{Answer, Call, Message, PoolReport, PutResult, ReservationReport, wire_state};
use plimsoll_protocol::{Applies, Status, wire};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::housekeeping::Housekeeping;
use crate::log::Happened;
use crate::model::{Model, ModelPool, Prediction, PutPrediction, SlotRoom};
use crate::trace::note;

enum Mirrored {
    Commands {
        sender: usize,
        continues: bool,
        entries: Vec<(u32, Command)>,
    },
    Request(Call),
}

enum Expected {
    /// The outcomes, which of them may be overloaded as well, and what remains.
    Outcomes(Vec<wire::Outcome>, Vec<bool>, Vec<i64>),
    Answer(Answer),
}

struct Waiting {
    upto: u64,
    command_count: usize,
    expected: Expected,
}

/// What the core could refuse for want of segments.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    /// Segments prepared when the turn was over.
    pub(crate) prepared_count: usize,
    /// The turn asks for another one.
    pub(crate) wants_more: bool,
    /// How it is refused.
    pub(crate) status: Status,
}

#[derive(Default)]
pub(crate) struct Mirror {
    inbox: VecDeque<Mirrored>,
    inbox_command_count: usize,
    waiting: VecDeque<Waiting>,
    waiting_command_count: usize,
    overloaded: BTreeMap<usize, u32>,
    pub(crate) housekeeping: Housekeeping,
}

impl Mirror {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.inbox.len(), self.inbox_command_count)
    }

    /// The engine has taken the message.
    pub(crate) fn submit(&mut self, message: &Message) {
        let mirrored = match message {
            Message::Commands(batch) => Mirrored::Commands {
                sender: batch.sender,
                continues: batch.continues,
                entries: batch
                    .entries
                    .iter()
                    .map(|entry| (entry.frame, entry.command.clone()))
                    .collect(),
            },
            Message::Request(request) => Mirrored::Request(request.call.clone()),
        };
        self.inbox_command_count += command_count(&mirrored);
        self.inbox.push_back(mirrored);
    }

    /// The engine has taken a turn that wrote these events.
    pub(crate) fn turn(
        &mut self,
        model: &mut Model,
        events: Vec<Happened>,
        now: i64,
        upto: u64,
        room: Room,
    ) -> Result<(), Violation> {
        if let Some(other) = events.iter().find(|happened| happened.at != now) {
            return violation(Promise::Forgotten, || format!("a turn at {now} has written {other:?}"));
        }
        let mut events = VecDeque::from(events);
        if !self.housekeeping.turn(model, &mut events, now, room)? {
            return hold(events.is_empty(), Promise::Time, || {
                format!("deadlines are still to be moved, and something else comes first: {events:?}")
            });
        }
        let mut turn = Turn {
            model,
            housekeeping: &mut self.housekeeping,
            events,
            now,
            room,
            is_unsure: false,
        };
        let mut taken = 0;
        while taken < TURN_COMMAND_COUNT_MAX
            && self.waiting.len() < WAITING_MESSAGE_COUNT_MAX
            && self.waiting_command_count < WAITING_COMMAND_COUNT_MAX
            && let Some(message) = self.inbox.pop_front()
        {
            let count = command_count(&message);
            self.inbox_command_count -= count;
            taken += turn_weight(&message);
            let expected = match message {
                Mirrored::Commands {
                    sender,
                    continues,
                    entries,
                } => {
                    let mut overloaded = self.overloaded.remove(&sender).filter(|_| continues);
                    let mut outcomes = Vec::with_capacity(entries.len());
                    let mut remaining = Vec::new();
                    let (mut unsure, mut may_be_overloaded) = (None, Vec::with_capacity(entries.len()));
                    for (frame, command) in &entries {
                        let outcome = if overloaded == Some(*frame) {
                            wire::Outcome::refused(Status::Overloaded)
                        } else {
                            turn.command(command, &mut remaining)?
                        };
                        if std::mem::take(&mut turn.is_unsure) {
                            unsure = Some(*frame);
                        }
                        may_be_overloaded.push(unsure == Some(*frame));
                        if outcome.status() == Status::Overloaded.number() {
                            overloaded = Some(*frame);
                        }
                        outcomes.push(outcome);
                    }
                    if let Some(frame) = overloaded {
                        self.overloaded.insert(sender, frame);
                    }
                    Expected::Outcomes(outcomes, may_be_overloaded, remaining)
                }
                Mirrored::Request(call) => Expected::Answer(turn.call(&call)?),
            };
            self.waiting_command_count += count;
            self.waiting.push_back(Waiting {
                upto,
                command_count: count,
                expected,
            });
        }
        hold(turn.events.is_empty(), Promise::Answer, || {
            format!("events that nobody asked for: {:?}", turn.events)
        })
    }

    /// The engine gives a message back; the LSN that it rests on.
    pub(crate) fn reply(&mut self, message: &Message, durable: u64, dimension_count: usize) -> Result<u64, Violation> {
        let Some(Waiting {
            upto,
            command_count,
            expected,
        }) = self.waiting.pop_front()
        else {
            return violation(Promise::Order, || {
                format!("an answer that nobody waits for: {message:?}")
            });
        };
        self.waiting_command_count -= command_count;
        hold(upto <= durable, Promise::Durable, || {
            format!("an answer that rests on LSN {upto} leaves at {durable}")
        })?;
        match (message, expected) {
            (Message::Commands(batch), Expected::Outcomes(outcomes, may_be_overloaded, remaining)) => {
                let mut expected = outcomes.iter().zip(&may_be_overloaded);
                let are_right = batch.outcomes.len() == outcomes.len()
                    && batch.outcomes.iter().all(|found| {
                        expected.next().is_some_and(|(expected, may_be_overloaded)| {
                            found == expected || (*may_be_overloaded && found.status() == Status::Overloaded.number())
                        })
                    });
                hold(are_right, Promise::Answer, || {
                    format!(
                        "{:?}\n    answered with {:?}\n    instead of {outcomes:?}",
                        batch.entries, batch.outcomes
                    )
                })?;
                let is_equal = batch
                    .remaining
                    .chunks(dimension_count)
                    .eq(remaining.chunks(8).map(|of| &of[..dimension_count]));
                hold(is_equal, Promise::Answer, || {
                    format!("remaining {:?} instead of {remaining:?}", batch.remaining)
                })?;
                Ok(upto)
            }
            (Message::Request(request), Expected::Answer(answer)) => {
                let may_be_either = answer == Answer::Pending;
                hold(may_be_either || request.answer == answer, Promise::Answer, || {
                    format!(
                        "{:?}\n    answered with {:?}\n    instead of {answer:?}",
                        request.call, request.answer
                    )
                })?;
                Ok(upto)
            }
            _ => violation(Promise::Order, || {
                format!("another message was to be answered: {message:?}")
            }),
        }
    }
}

/// What a message takes of a turn, in commands.
fn turn_weight(message: &Mirrored) -> usize {
    let weight = match message {
        Mirrored::Commands { entries, .. } => entries.len(),
        Mirrored::Request(Call::PutPools { puts, .. }) => PUT_WEIGHT * puts.len(),
        Mirrored::Request(Call::ResolvePools(names) | Call::GetPools(names)) => names.len(),
        Mirrored::Request(Call::ListPools { limit, .. }) => *limit,
        Mirrored::Request(Call::GetReservations(ids)) => ids.len(),
        Mirrored::Request(Call::ResetPool { .. }) => TURN_COMMAND_COUNT_MAX,
    };
    weight.max(1)
}

fn command_count(message: &Mirrored) -> usize {
    match message {
        Mirrored::Commands { entries, .. } => entries.len(),
        Mirrored::Request(_) => 1,
    }
}

pub(crate) struct Turn<'core> {
    pub(crate) model: &'core mut Model,
    housekeeping: &'core mut Housekeeping,
    pub(crate) events: VecDeque<Happened>,
    pub(crate) now: i64,
    room: Room,
    /// Whether the last command may have found a slot or not.
    is_unsure: bool,
}

impl Turn<'_> {
    fn command(&mut self, command: &Command, remaining_values: &mut Vec<i64>) -> Result<wire::Outcome, Violation> {
        let prediction = self.model.decide(command, self.now);
        match &prediction {
            Prediction::Standing(view) => {
                note("effect stands", [0; 4]);
                return Ok(about(view, true));
            }
            Prediction::Refused(status) => {
                note(status.name(), [0; 4]);
                return Ok(wire::Outcome::refused(*status));
            }
            Prediction::Insufficient { short, remaining } => {
                note("insufficient capacity", [u64::from(*short), 0, 0, 0]);
                remaining_values.extend_from_slice(remaining);
                if let Command::Reserve(reserve) = command {
                    self.housekeeping.turned_away(reserve.pool.0, &reserve.units, self.now);
                }
                return Ok(wire::Outcome::insufficient(*short));
            }
            Prediction::Lapsed => return self.lapsed(command),
            Prediction::Reserve { .. } | Prediction::Move | Prediction::Resize { .. } => {}
        }
        let next = self.events.front().map(|happened| &happened.event);
        if !next.is_some_and(|event| self.is_expected(event, command, &prediction)) {
            let slot_room = SlotRoom::Maybe;
            if matches!(prediction, Prediction::Reserve { slot_room: found, .. } if found == slot_room) {
                // With a slot it lacks room in the journal, without one it is overloaded, and so is the rest of its frame.
                self.is_unsure = self.room.prepared_count < 2 && self.room.status != Status::Overloaded;
                let status = if self.is_unsure {
                    self.room.status
                } else {
                    Status::Overloaded
                };
                return Ok(wire::Outcome::refused(status));
            }
            let is_normal = matches!(
                prediction,
                Prediction::Reserve { .. } | Prediction::Resize { grows: true, .. }
            );
            let prepared_count_min = if is_normal { 2 } else { 1 };
            return self.no_room(prepared_count_min, command).map(wire::Outcome::refused);
        }
        let event = self.events.pop_front().expect("the event that was looked at").event;
        self.model.apply(&event, self.now)?;
        let id = match &event {
            Event::Reserved(event) => {
                if event.reservation.parts().generation > 0 {
                    note("slot used again", [0; 4]);
                }
                if event.would_refuse {
                    note("shadow reserve", [0; 4]);
                }
                event.reservation
            }
            Event::Confirmed(event) => {
                note("confirmed", [0; 4]);
                event.reservation
            }
            Event::Resized(event) => {
                note("resized", [0; 4]);
                event.reservation
            }
            Event::Released(event) => event.reservation,
            event => unreachable!("no command expects {event:?}"),
        };
        Ok(about(
            &self.model.reservation(id.0).expect("just applied").view(),
            false,
        ))
    }

    /// A command comes too late for a hold that has not been ended yet: that it has ended is recorded before it is told.
    fn lapsed(&mut self, command: &Command) -> Result<wire::Outcome, Violation> {
        let id = match command {
            Command::Confirm(confirm) => confirm.reservation,
            Command::Resize(resize) => resize.reservation,
            Command::Reserve(_) | Command::Release(_) => unreachable!("only a hold's own commands come too late"),
        };
        let next = self.events.front().map(|happened| &happened.event);
        let is_end = matches!(next, Some(Event::Expired(event)) if event.reservation == id && event.at.0 == self.now);
        if !is_end {
            return self.no_room(1, command).map(wire::Outcome::refused);
        }
        let event = self.events.pop_front().expect("the event that was looked at").event;
        self.model.apply(&event, self.now)?;
        note("told too late", [0; 4]);
        Ok(wire::Outcome::refused(Status::HoldExpired))
    }

    fn is_expected(&self, event: &Event, command: &Command, prediction: &Prediction) -> bool {
        match (event, command, prediction) {
            (Event::Reserved(event), Command::Reserve(reserve), Prediction::Reserve { would_refuse, .. }) => {
                is_event_of(event, reserve) && event.would_refuse == *would_refuse && event.at.0 == self.now
            }
            (Event::Confirmed(event), Command::Confirm(confirm), Prediction::Move) => {
                event.reservation == confirm.reservation
                    && event.occurred_at == confirm.occurred_at
                    && event.at.0 == self.now
            }
            (Event::Released(event), Command::Release(release), Prediction::Move) => {
                event.reservation == release.reservation
                    && event.occurred_at == release.occurred_at
                    && event.at.0 == self.now
            }
            (
                Event::Resized(event),
                Command::Resize(resize),
                Prediction::Resize {
                    units,
                    expires_at,
                    version,
                    would_refuse,
                    ..
                },
            ) => {
                event.reservation == resize.reservation
                    && event.occurred_at == resize.occurred_at
                    && event.at.0 == self.now
                    && event.cause == ResizeCause::Asked
                    && event.units == *units
                    && event.expires_at.map(|time| time.0) == *expires_at
                    && event.version == *version
                    && event.would_refuse == *would_refuse
            }
            _ => false,
        }
    }

    /// Nothing was written although it was decided: only when there is no segment for it.
    pub(crate) fn no_room(&self, prepared_count_min: usize, what: &dyn std::fmt::Debug) -> Result<Status, Violation> {
        hold(self.room.prepared_count < prepared_count_min, Promise::BadDisk, || {
            format!(
                "{what:?} was not recorded, though {} segments are prepared; the next event is {:?}",
                self.room.prepared_count,
                self.events.front()
            )
        })?;
        let is_full = self.room.status == Status::StorageFull;
        note(
            if is_full { "storage full" } else { "ring exhausted" },
            [self.room.prepared_count as u64, 0, 0, 0],
        );
        Ok(self.room.status)
    }

    fn call(&mut self, call: &Call) -> Result<Answer, Violation> {
        Ok(match call {
            Call::ResolvePools(names) => Answer::ResolvedPools(
                names
                    .iter()
                    .map(|name| self.model.pool_id(name).map(plimsoll_domain::PoolId))
                    .collect(),
            ),
            Call::PutPools { puts, dry_run } => {
                let mut results = Vec::with_capacity(puts.len());
                for put in puts {
                    results.push(self.put(put, *dry_run)?);
                }
                Answer::PutPools(results)
            }
            Call::GetPools(names) => {
                let found = names.iter().filter_map(|name| self.model.pool_id(name));
                Answer::Pools(found.map(|id| report(id, &self.model.pools[&id])).collect())
            }
            Call::ListPools { after, limit } => {
                let mut pools: Vec<_> = self.model.pools.iter().filter(|(_, pool)| pool.name > *after).collect();
                pools.sort_by(|left, right| left.1.name.cmp(&right.1.name));
                Answer::Pools(
                    pools
                        .into_iter()
                        .take(*limit)
                        .map(|(id, pool)| report(*id, pool))
                        .collect(),
                )
            }
            Call::ResetPool {
                pool,
                target,
                expected_version,
                dry_run,
            } => self.reset(pool, target, *expected_version, *dry_run)?,
            Call::GetReservations(ids) => Answer::Reservations(
                ids.iter()
                    .map(|id| {
                        let found = self.model.remembered(id.0, self.now)?;
                        Some(ReservationReport {
                            view: found.view(),
                            pool_name: self.model.pools[&found.event.pool.0].name.clone(),
                            reference: found.event.reference.clone(),
                        })
                    })
                    .collect(),
            ),
        })
    }

    fn put(&mut self, put: &PutPool, dry_run: bool) -> Result<PutResult, Violation> {
        let refused = |status| PutResult {
            status,
            change: wire::Change::none,
            pool: 0,
            version: 0,
        };
        let (is_new, version) = match self.model.decide_put(put) {
            PutPrediction::Refused(status) => return Ok(refused(status)),
            PutPrediction::Unchanged { pool, version } => {
                return Ok(PutResult {
                    status: Status::Ok,
                    change: wire::Change::unchanged,
                    pool,
                    version,
                });
            }
            PutPrediction::Change { is_new, version } => (is_new, version),
        };
        assert!(!dry_run, "the simulated planner makes no dry runs");
        let is_expected = match self.events.front().map(|happened| &happened.event) {
            Some(Event::PoolCreated(event)) => {
                is_new && *event.definition == put.definition && event.version == version
            }
            Some(Event::PoolChanged(event)) => {
                !is_new && *event.definition == put.definition && event.version == version
            }
            _ => false,
        };
        if !is_expected {
            let prepared_count_min = if is_new { 2 } else { 1 };
            return self.no_room(prepared_count_min, put).map(refused);
        }
        let event = self.events.pop_front().expect("the event that was looked at").event;
        self.model.apply(&event, self.now)?;
        let pool = self.model.pool_id(&put.definition.name).expect("just applied");
        let change = if is_new {
            wire::Change::created
        } else {
            wire::Change::changed
        };
        Ok(PutResult {
            status: Status::Ok,
            change,
            pool,
            version,
        })
    }
}

fn is_event_of(event: &Reserved, reserve: &Reserve) -> bool {
    event.pool == reserve.pool
        && event.key == reserve.key
        && event.units == reserve.units
        && event.hold_seconds == reserve.hold_seconds
        && event.occurred_at == reserve.occurred_at
        && event.reference == reserve.reference
        && event.reservation.parts().random == reserve.random & ((1 << 56) - 1)
}

fn about(view: &plimsoll_domain::ReservationView, repeated: bool) -> wire::Outcome {
    wire::Outcome::about(
        Status::Ok,
        &Applies {
            reservation: plimsoll_protocol::ReservationId(view.id.0),
            state: wire_state(view.state),
            version: view.version,
            created_at: view.created_at.0,
            expires_at: view.expires_at.map_or(0, |time: Timestamp| time.0),
            repeated,
            would_refuse: view.would_refuse,
        },
    )
}

fn report(id: u64, pool: &ModelPool) -> PoolReport {
    PoolReport {
        id: plimsoll_domain::PoolId(id),
        definition: Arc::clone(&pool.definition),
        version: pool.version,
        held: Counters(pool.held),
        confirmed: Counters(pool.confirmed),
    }
}
