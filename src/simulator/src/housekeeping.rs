//! What a core's engine does by itself: deadlines are moved, holds expire, pools retire, lost demand is told. Not predicted one by one: each event
//! must be allowed, and none may be missing for long.

use std::collections::{BTreeMap, VecDeque};

use plimsoll_domain::{Event, ResizeCause, Resized, TurnedAway, Units};
use plimsoll_engine::limits::{EXPIRIES_PER_TURN_MAX, HOUSEKEEPING_PER_TURN_MAX, LOST_DEMAND_MICROS};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::log::Happened;
use crate::mirror::Room;
use crate::model::Model;
use crate::trace::note;

/// A hold expires within a second of its deadline, if turns are taken.
const LATENESS_MICROS_MAX: i64 = 1_000_000;
/// The timer wheel looks at deadlines by so many microseconds at a time, as a power of two, when they are over.
const BUCKET_MICROS_LOG2: u32 = 18;
/// Sweeps that one retired pool can need: the simulated tables are smaller than what one sweep goes through.
const SWEEPS_PER_POOL_MAX: u64 = 4;

/// Refusals of one pool in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    since: i64,
    refusals: u64,
    units: [u64; 8],
}

impl Counted {
    fn minute(&self) -> i64 {
        self.since / LOST_DEMAND_MICROS
    }
}

#[derive(Default)]
pub(crate) struct Housekeeping {
    /// Deadlines that passed while nobody could confirm are moved next.
    pub(crate) is_extending: bool,
    /// By pool, what was turned away and not told.
    lost: BTreeMap<u64, VecDeque<Counted>>,
    sweeps_left: u64,
}

impl Housekeeping {
    /// A core has started with what this model knows.
    pub(crate) fn start(model: &Model) -> Housekeeping {
        Housekeeping {
            is_extending: model.rules.grace_micros > 0,
            lost: BTreeMap::new(),
            sweeps_left: SWEEPS_PER_POOL_MAX * model.retired_count() as u64,
        }
    }

    /// A reserve was refused for want of capacity.
    pub(crate) fn turned_away(&mut self, pool: u64, units: &Units, now: i64) {
        let counts = self.lost.entry(pool).or_default();
        let minute = now / LOST_DEMAND_MICROS;
        if counts.back().is_none_or(|last| last.minute() != minute) {
            counts.push_back(Counted {
                since: now,
                refusals: 0,
                units: [0; 8],
            });
        }
        let last = counts.back_mut().expect("pushed right now");
        last.refusals += 1;
        last.units
            .iter_mut()
            .zip(units.0)
            .for_each(|(sum, units)| *sum += u64::from(units));
    }

    fn told(&mut self, event: &TurnedAway, now: i64) -> Result<(), Violation> {
        let counted = self.lost.get_mut(&event.pool.0).and_then(VecDeque::pop_front);
        let told = Counted {
            since: event.since.0,
            refusals: event.refusals,
            units: event.units,
        };
        let is_over = told.minute() < now / LOST_DEMAND_MICROS;
        hold(is_over && counted.as_ref() == Some(&told), Promise::LostDemand, || {
            format!("{told:?} is told at {now}, and {counted:?} was turned away")
        })
    }

    /// Whether something that was turned away before the minute of `now` is not told.
    pub(crate) fn untold(&self, now: i64) -> Option<u64> {
        let minute = now / LOST_DEMAND_MICROS;
        let mut late = self.lost.iter().filter(|(_, counts)| {
            let first = counts.front();
            first.is_some_and(|first| first.minute() < minute)
        });
        late.next().map(|(pool, _)| *pool)
    }

    /// Takes what a turn did by itself from the front of its events. True when the turn went on to what was asked for.
    pub(crate) fn turn(
        &mut self,
        model: &mut Model,
        events: &mut VecDeque<Happened>,
        now: i64,
        room: Room,
    ) -> Result<bool, Violation> {
        let was_extending = std::mem::take(&mut self.is_extending);
        let (mut expired, mut retired, mut swept) = (0, 0, 0);
        while let Some(happened) = events.front() {
            match &happened.event {
                Event::Resized(Resized {
                    cause: ResizeCause::Downtime,
                    ..
                }) => {
                    hold(was_extending && expired + retired + swept == 0, Promise::Time, || {
                        format!("a deadline is moved although everybody could confirm: {happened:?}")
                    })?;
                    note("deadline moved", [0; 4]);
                }
                // A hold of the bucket of now expires only when a command comes too late for it.
                Event::Expired(event)
                    if expired == EXPIRIES_PER_TURN_MAX
                        || model
                            .reservation(event.reservation.0)
                            .is_some_and(|found| found.deadline >> BUCKET_MICROS_LOG2 == now >> BUCKET_MICROS_LOG2) =>
                {
                    break;
                }
                Event::Expired(_) => {
                    note("hold expires", [0; 4]);
                    expired += 1;
                }
                Event::PoolRetired(event) => {
                    note("pool retires", [event.pool.0, 0, 0, 0]);
                    self.lost.remove(&event.pool.0);
                    self.sweeps_left += SWEEPS_PER_POOL_MAX;
                    retired += 1;
                }
                Event::Swept(_) => {
                    note("sweep", [0; 4]);
                    swept += 1;
                    hold(swept == 1 && self.sweeps_left > 0, Promise::Bounded, || {
                        format!("sweeping does not end: {happened:?}")
                    })?;
                    self.sweeps_left -= 1;
                }
                Event::TurnedAway(event) => {
                    note("turned away", [event.refusals, 0, 0, 0]);
                    self.told(event, now)?;
                }
                _ => break,
            }
            let Happened { at, event, .. } = events.pop_front().expect("looked at above");
            model.apply(&event, at)?;
        }
        hold(
            expired <= EXPIRIES_PER_TURN_MAX && retired <= HOUSEKEEPING_PER_TURN_MAX,
            Promise::Bounded,
            || format!("{expired} holds expire and {retired} pools retire in one turn"),
        )?;
        // For want of a prepared segment, moving deadlines may wait for the next turn, and everything else with it.
        let is_overdue = model.first_deadline().is_some_and(|deadline| deadline <= now);
        self.is_extending = was_extending && is_overdue && room.prepared_count == 0 && room.wants_more;
        self.nothing_is_missing(model, now, room, was_extending, (expired, retired))?;
        Ok(!self.is_extending)
    }

    fn nothing_is_missing(
        &self,
        model: &Model,
        now: i64,
        room: Room,
        was_extending: bool,
        (expired, retired): (usize, usize),
    ) -> Result<(), Violation> {
        if room.prepared_count >= 1 {
            let first_deadline = model.first_deadline().unwrap_or(i64::MAX);
            hold(!was_extending || first_deadline > now, Promise::Time, || {
                format!(
                    "the deadline {first_deadline} passed before {now}, while nobody could confirm, and is not moved"
                )
            })?;
            let is_on_time = first_deadline > now - LATENESS_MICROS_MAX || expired == EXPIRIES_PER_TURN_MAX;
            hold(is_on_time, Promise::Time, || {
                format!("a hold with the deadline {first_deadline} has not expired at {now}")
            })?;
        }
        if room.prepared_count >= 2 {
            let overdue = model.overdue_pool(now);
            if let Some(pool) = overdue.filter(|_| retired < HOUSEKEEPING_PER_TURN_MAX) {
                return violation(Promise::Time, || {
                    format!("a pool whose life is over has not retired at {now}: {pool:?}")
                });
            }
        }
        if room.prepared_count >= 2
            && let Some(pool) = self.untold(now)
        {
            return violation(Promise::LostDemand, || {
                format!(
                    "what pool {pool:#x} turned away is not told at {now}: {:?}",
                    self.lost[&pool]
                )
            });
        }
        Ok(())
    }
}
