//! Deciding, recording and applying one message.

use std::hint::black_box;
use std::sync::Arc;

use plimsoll_domain::{
    Command, Decision, Event, Moved, PoolDefined, PoolRetired, PutOutcome, Refusal, Released, ReservationState,
    ReservationView, Resized, State, Timestamp,
};
use plimsoll_journal::{Framing, Full, Journal, Priority, Storage, Tag};
use plimsoll_protocol::{Applies, Status, wire};

use crate::limits::{ANSWER_SIZE_MAX, ITEM_COUNT_MAX, TOUCHED_AHEAD};
use crate::lost_demand::LostDemand;
use crate::message::{Answer, Batch, Call, Entry, PoolReport, PutResult, Request, ReservationReport, micros_or_zero};
use crate::publication::Publications;

/// The wire's number for a refusal.
pub(crate) fn refusal_status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::KeyReused => Status::KeyReused,
        Refusal::PoolNotFound => Status::PoolNotFound,
        Refusal::ReservationNotFound => Status::ReservationNotFound,
        Refusal::PoolClosed => Status::PoolClosed,
        Refusal::PoolNotOpenYet => Status::PoolNotOpenYet,
        Refusal::PoolPastClosing => Status::PoolPastClosing,
        Refusal::InsufficientCapacity { .. } => Status::InsufficientCapacity,
        Refusal::ChangedMeanwhile => Status::ChangedMeanwhile,
        Refusal::ReservationEnded => Status::ReservationEnded,
        Refusal::HoldExpired => Status::HoldExpired,
        Refusal::NotHeld => Status::NotHeld,
        Refusal::NoUnits | Refusal::NoMoreVersions | Refusal::NotAPast => Status::Invalid,
        Refusal::Full => Status::Overloaded,
    }
}

/// The wire's form of a state.
pub fn wire_state(state: ReservationState) -> wire::State {
    match state {
        ReservationState::Held => wire::State::held,
        ReservationState::Confirmed => wire::State::confirmed,
        ReservationState::Released => wire::State::released,
        ReservationState::Expired => wire::State::expired,
    }
}

fn outcome_of_view(view: &ReservationView, repeated: bool) -> wire::Outcome {
    wire::Outcome::about(
        Status::Ok,
        &Applies {
            reservation: plimsoll_protocol::ReservationId(view.id.0),
            state: wire_state(view.state),
            version: view.version,
            created_at: view.created_at.0,
            expires_at: micros_or_zero(view.expires_at),
            repeated,
            would_refuse: view.would_refuse,
        },
    )
}

/// What a message is decided against.
pub(crate) struct Processing<'engine, S: Storage, F: Framing> {
    pub(crate) state: &'engine mut State,
    pub(crate) journal: &'engine mut Journal<S, F>,
    pub(crate) publications: &'engine mut Publications,
    pub(crate) lost_demand: &'engine mut LostDemand,
    pub(crate) body: &'engine mut Vec<u8>,
    /// By sender, the frame of which a command was refused as overloaded: later ones of it are refused too.
    pub(crate) overloaded: &'engine mut Vec<Option<u32>>,
    pub(crate) now: Timestamp,
}

impl<S: Storage, F: Framing> Processing<'_, S, F> {
    pub(crate) fn batch(&mut self, batch: &mut Batch) {
        if self.overloaded.len() <= batch.sender {
            self.overloaded.resize(batch.sender + 1, None);
        }
        let mut overloaded = self.overloaded[batch.sender].take().filter(|_| batch.continues);
        let dimension_count = self.state.dimension_count();
        batch.outcomes.clear();
        batch.remaining.clear();
        for (place, entry) in batch.entries.iter().enumerate() {
            if place.is_multiple_of(TOUCHED_AHEAD) {
                self.touch(&batch.entries[place..]);
            }
            if overloaded == Some(entry.frame) {
                batch.outcomes.push(wire::Outcome::refused(Status::Overloaded));
                continue;
            }
            let outcome = match self.state.decide(&entry.command, self.now) {
                Ok(Decision::Change(event)) => match self.record(&event) {
                    Ok(()) => outcome_of_event(&event, self.state, self.now),
                    Err(status) => wire::Outcome::refused(status),
                },
                Ok(Decision::Standing(view)) => outcome_of_view(&view, true),
                Err(Refusal::InsufficientCapacity { short, remaining }) => {
                    batch.remaining.extend_from_slice(&remaining.0[..dimension_count]);
                    if let Command::Reserve(reserve) = &entry.command {
                        self.lost_demand.count(reserve.pool, &reserve.units, self.now);
                    }
                    wire::Outcome::insufficient(short)
                }
                Err(Refusal::HoldExpired) => wire::Outcome::refused(self.expire(&entry.command)),
                Err(refusal) => wire::Outcome::refused(refusal_status(&refusal)),
            };
            if outcome.status() == Status::Overloaded.number() {
                overloaded = Some(entry.frame);
            }
            batch.outcomes.push(outcome);
        }
        self.overloaded[batch.sender] = overloaded;
    }

    /// Records that the hold has expired, if that is not recorded yet: once it is told, no downtime may give the hold more time.
    fn expire(&mut self, command: &Command) -> Status {
        let reservation = match command {
            Command::Confirm(confirm) => confirm.reservation,
            Command::Resize(resize) => resize.reservation,
            Command::Reserve(_) | Command::Release(_) => return Status::HoldExpired,
        };
        match self.state.expiry_of(reservation, self.now) {
            Some(event) => self.record(&event).err().unwrap_or(Status::HoldExpired),
            None => Status::HoldExpired,
        }
    }

    /// Reads ahead what the next commands will read.
    #[inline]
    fn touch(&self, entries: &[Entry]) {
        let next = &entries[..entries.len().min(TOUCHED_AHEAD)];
        if next.len() > 1 {
            black_box(
                next.iter()
                    .fold(0, |read, entry| read ^ self.state.touch(&entry.command)),
            );
            black_box(
                next.iter()
                    .fold(0, |read, entry| read ^ self.state.touch_forgotten(&entry.command)),
            );
        }
    }

    /// Appends the event, then applies it. Nothing changes when there is no room for it.
    #[inline]
    pub(crate) fn record(&mut self, event: &Event) -> Result<(), Status> {
        let tag = plimsoll_record::encode(event, self.state.dimension_count(), self.body);
        let tag = Tag {
            kind: tag.kind,
            partition: tag.partition,
            detail: tag.detail,
        };
        match self.journal.append(priority(event), tag, self.body) {
            Ok(_) => {
                self.state.apply(event);
                if let Event::PoolCreated(PoolDefined { pool, .. })
                | Event::PoolChanged(PoolDefined { pool, .. })
                | Event::PoolRetired(PoolRetired { pool, .. }) = event
                {
                    self.publications.redefine(*pool);
                }
                Ok(())
            }
            Err(full) => Err(full_status(&full)),
        }
    }

    pub(crate) fn request(&mut self, request: &mut Request) {
        request.answer = match &request.call {
            Call::ResolvePools(names) => {
                Answer::ResolvedPools(names.iter().map(|name| self.state.pool_id(name)).collect())
            }
            Call::PutPools { puts, dry_run } => {
                let dry_run = *dry_run;
                let mut results = Vec::with_capacity(puts.len());
                let mut full = None;
                for put in puts {
                    // Where one finds no room a later and smaller one finds none either: commands on a pool keep their order.
                    let result = match full {
                        None => self.put(put, dry_run),
                        Some(full) => full,
                    };
                    full = Some(result).filter(|result| result.status.retryable());
                    results.push(result);
                }
                Answer::PutPools(results)
            }
            Call::GetPools(names) => {
                let ids = names.iter().filter_map(|name| self.state.pool_id(name));
                let pools = reports(self.state, ids);
                match pools.iter().map(PoolReport::size_in_answer).sum::<usize>() {
                    size if size > ANSWER_SIZE_MAX => Answer::Refused(Status::FrameTooLarge),
                    _ => Answer::Pools(pools),
                }
            }
            Call::ListPools { after, limit } => {
                let ids = self
                    .state
                    .pools_after(after)
                    .map(|(id, _)| id)
                    .take((*limit).min(ITEM_COUNT_MAX + 1));
                Answer::Pools(reports(self.state, ids))
            }
            Call::GetReservations(ids) => Answer::Reservations(
                ids.iter()
                    .map(|id| {
                        let view = self.state.reservation(*id, self.now)?;
                        let pool = self.state.pool(view.pool)?;
                        Some(ReservationReport {
                            view,
                            pool_name: pool.definition().name.clone(),
                            reference: self.state.reference(*id).map(Box::from),
                        })
                    })
                    .collect(),
            ),
            Call::ResetPool {
                pool,
                target,
                expected_version,
                dry_run,
            } => self.reset_pool(pool, target, *expected_version, *dry_run),
        };
    }

    fn put(&mut self, put: &plimsoll_domain::PutPool, dry_run: bool) -> PutResult {
        let refused = |status| PutResult {
            status,
            change: wire::Change::none,
            pool: 0,
            version: 0,
        };
        let (event, change) = match self.state.decide_put(put, self.now) {
            Ok(PutOutcome::Created(defined)) => (Event::PoolCreated(defined), wire::Change::created),
            Ok(PutOutcome::Changed(defined)) => (Event::PoolChanged(defined), wire::Change::changed),
            Ok(PutOutcome::Unchanged { pool, version }) => {
                return PutResult {
                    status: Status::Ok,
                    change: wire::Change::unchanged,
                    pool: pool.0,
                    version,
                };
            }
            Err(refusal) => return refused(refusal_status(&refusal)),
        };
        if !dry_run && let Err(status) = self.record(&event) {
            return refused(status);
        }
        let (Event::PoolCreated(defined) | Event::PoolChanged(defined)) = event else {
            unreachable!("putting a pool leads to events of pools");
        };
        PutResult {
            status: Status::Ok,
            change,
            pool: defined.pool.0,
            version: defined.version,
        }
    }
}

/// What still finds room when the disk is nearly full: what frees capacity or keeps what was promised, and what the operator decides.
fn priority(event: &Event) -> Priority {
    match event {
        Event::Reserved(_) | Event::PoolCreated(_) | Event::PoolRetired(_) | Event::Swept(_) | Event::TurnedAway(_) => {
            Priority::Normal
        }
        Event::Resized(event) if grows(event) => Priority::Normal,
        Event::Released(_)
        | Event::Confirmed(_)
        | Event::Expired(_)
        | Event::Resized(_)
        | Event::PoolChanged(_)
        | Event::PoolReset(_)
        | Event::Restored(_) => Priority::Essential,
    }
}

fn grows(event: &Resized) -> bool {
    let mut pairs = event.units.0.iter().zip(event.previous_units.0);
    pairs.any(|(unit, before)| *unit > before)
}

pub(crate) fn full_status(full: &Full) -> Status {
    match full {
        Full::Storage => Status::StorageFull,
        _ => Status::Overloaded,
    }
}

fn outcome_of_event(event: &Event, state: &State, now: Timestamp) -> wire::Outcome {
    match event {
        Event::Reserved(event) => wire::Outcome::about(
            Status::Ok,
            &Applies {
                reservation: plimsoll_protocol::ReservationId(event.reservation.0),
                state: if event.hold_seconds == 0 {
                    wire::State::confirmed
                } else {
                    wire::State::held
                },
                version: 0,
                created_at: event.at.0,
                expires_at: if event.hold_seconds == 0 {
                    0
                } else {
                    event.at.plus_seconds(event.hold_seconds).0
                },
                repeated: false,
                would_refuse: event.would_refuse,
            },
        ),
        Event::Released(Released { reservation, .. })
        | Event::Confirmed(Moved { reservation, .. })
        | Event::Resized(Resized { reservation, .. }) => {
            let view = state
                .reservation(*reservation, now)
                .expect("a reservation that changed now is remembered");
            outcome_of_view(&view, false)
        }
        event => unreachable!("no command on a reservation leads to {event:?}"),
    }
}

fn report(state: &State, id: plimsoll_domain::PoolId) -> Option<PoolReport> {
    let pool = state.pool(id)?;
    Some(PoolReport {
        id,
        definition: Arc::clone(pool.definition()),
        version: pool.version(),
        held: *pool.held(),
        confirmed: *pool.confirmed(),
    })
}

/// The pools, up to and including the first that is too much for one answer.
fn reports(state: &State, ids: impl Iterator<Item = plimsoll_domain::PoolId>) -> Vec<PoolReport> {
    let mut reports = Vec::new();
    let mut size = 0;
    for report in ids.filter_map(|id| report(state, id)) {
        size += report.size_in_answer();
        reports.push(report);
        if size > ANSWER_SIZE_MAX {
            break;
        }
    }
    reports
}
