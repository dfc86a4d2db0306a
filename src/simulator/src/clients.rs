//! Clients, what they want, and what they were told.
//!
//! The ledger is the black box: it knows only what clients sent and which answers reached them, and holds the engines to that.

use std::collections::{BTreeMap, VecDeque};

use plimsoll_domain::{
    Key, PoolDefinition, PoolId, ReservationId, ReservationState, Reserve, State, Timestamp, Units, partition_of,
};
use plimsoll_protocol::{Status, wire};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::dice::Dice;
use crate::model::Model;

/// Open wishes of one client.
const OPEN_COUNT_MAX: usize = 24;

/// Where a reserve's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    New,
    /// The same request as an earlier one that was answered.
    Same(usize),
    /// The key of an earlier one that was answered, with other units.
    Conflict(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Reserve {
        pool: usize,
        key: u128,
        units: Units,
        hold_seconds: u32,
        reference: Option<Box<str>>,
        origin: Origin,
    },
    Release {
        reservation: u128,
        of: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Open,
    Done(u128),
    Refused(Status),
}

#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) wish: Wish,
    pub(crate) attempts: u32,
    pub(crate) progress: Progress,
    pub(crate) release_attempted: bool,
    release_done: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The core that accepted the connection.
    pub(crate) core: usize,
    pub(crate) connection: u32,
    /// To be sent, for the first time or again.
    pub(crate) open: VecDeque<usize>,
    pub(crate) frames_in_flight: usize,
    /// Frames whose answers are on their way to the client.
    pub(crate) answers: VecDeque<u32>,
    /// Reserves that it knows to hold.
    pub(crate) held: Vec<usize>,
    /// In flight or open.
    pub(crate) unfinished: usize,
}

pub(crate) struct PoolLedger {
    pub(crate) name: String,
    pub(crate) core: usize,
    pub(crate) id: Option<PoolId>,
    pub(crate) acked_version: u64,
    acked: Option<PoolDefinition>,
    /// The definition that has no answer yet, and whether it is on its way.
    pub(crate) pending: Option<(PoolDefinition, bool)>,
    was_shadow: bool,
    ceiling_max: [i64; 8],
}

pub(crate) struct Ledger {
    pub(crate) dimension_count: usize,
    pub(crate) intents: Vec<Intent>,
    pub(crate) pools: Vec<PoolLedger>,
    key_count: u64,
    pub(crate) key_changes_on_retry: bool,
    /// The most coverage prefixes of a large definition: definitions fill segments.
    pub(crate) prefix_count_max: usize,
}

impl Ledger {
    pub(crate) fn new(dimension_count: usize, core_count: usize, pool_count: usize) -> Ledger {
        let pools = (0..pool_count)
            .map(|number| {
                let name = format!("slot-{number}");
                PoolLedger {
                    core: partition_of(&name).index() % core_count,
                    name,
                    id: None,
                    acked_version: 0,
                    acked: None,
                    pending: None,
                    was_shadow: false,
                    ceiling_max: [0; 8],
                }
            })
            .collect();
        Ledger {
            dimension_count,
            intents: Vec::new(),
            pools,
            key_count: 0,
            key_changes_on_retry: false,
            prefix_count_max: 4,
        }
    }

    fn new_key(&mut self) -> u128 {
        self.key_count += 1;
        u128::from(self.key_count) << 64 | u128::from(self.key_count.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A client comes up with something new; nothing if it waits for much already or knows no pool.
    pub(crate) fn wish(&mut self, client: &mut Client, dice: &mut Dice) {
        if client.unfinished >= OPEN_COUNT_MAX {
            return;
        }
        let what = dice.below(100);
        let wish = match what {
            0..30 if !client.held.is_empty() => {
                let of = client.held.swap_remove(dice.index(client.held.len()));
                let Progress::Done(reservation) = self.intents[of].progress else {
                    unreachable!("held means done")
                };
                self.intents[of].release_attempted = true;
                Wish::Release {
                    reservation,
                    of: Some(of),
                }
            }
            30..33 => {
                let known = client.held.first().and_then(|of| match self.intents[*of].progress {
                    Progress::Done(id) => Some(id ^ 1 << dice.below(128)),
                    _ => None,
                });
                Wish::Release {
                    reservation: known.unwrap_or(u128::from(dice.bits())),
                    of: None,
                }
            }
            33..41 if !client.held.is_empty() => {
                let earlier = client.held[dice.index(client.held.len())];
                let mut wish = self.intents[earlier].wish.clone();
                if let Wish::Reserve { units, origin, .. } = &mut wish {
                    if what < 37 {
                        *origin = Origin::Same(earlier);
                    } else {
                        *origin = Origin::Conflict(earlier);
                        units.0[0] += 1;
                    }
                }
                wish
            }
            _ => {
                let pool = dice.index(self.pools.len());
                if self.pools[pool].id.is_none() {
                    return;
                }
                let mut units = Units::default();
                for dimension in 0..self.dimension_count {
                    units.0[dimension] = dice.below(3) as u32;
                }
                units.0[dice.index(self.dimension_count)] += 1 + dice.below(2) as u32;
                let reference = dice
                    .permille(300)
                    .then(|| "r".repeat(1 + dice.index(64)).into_boxed_str());
                let hold_seconds = dice.pick(&[0, 0, 600]);
                Wish::Reserve {
                    pool,
                    key: self.new_key(),
                    units,
                    hold_seconds,
                    reference,
                    origin: Origin::New,
                }
            }
        };
        client.unfinished += 1;
        client.open.push_back(self.intents.len());
        self.intents.push(Intent {
            wish,
            attempts: 0,
            progress: Progress::Open,
            release_attempted: false,
            release_done: false,
        });
    }

    /// The command for a wish, as a client sends it and the server hands it on.
    pub(crate) fn command(&mut self, index: usize, random: u64) -> (usize, plimsoll_domain::Command) {
        let changes_key = self.key_changes_on_retry && self.intents[index].attempts > 0;
        let new_key = if changes_key { Some(self.new_key()) } else { None };
        self.intents[index].attempts += 1;
        let intent = &self.intents[index];
        let occurred_at = Timestamp(index as i64);
        match &intent.wish {
            Wish::Reserve {
                pool,
                key,
                units,
                hold_seconds,
                reference,
                origin,
            } => {
                let pool = &self.pools[*pool];
                let key = new_key.filter(|_| *origin == Origin::New).unwrap_or(*key);
                let reserve = Reserve {
                    pool: pool.id.expect("only known pools are asked for"),
                    key: Key(key),
                    units: *units,
                    hold_seconds: *hold_seconds,
                    occurred_at,
                    random,
                    reference: reference.clone(),
                };
                (pool.core, plimsoll_domain::Command::Reserve(reserve))
            }
            Wish::Release { reservation, of } => {
                let core = match of {
                    Some(of) => match &self.intents[*of].wish {
                        Wish::Reserve { pool, .. } => self.pools[*pool].core,
                        Wish::Release { .. } => unreachable!("only reserves are released"),
                    },
                    // As the server does, by the partition that the id names; one that does not exist goes anywhere.
                    None => usize::MAX,
                };
                let release = plimsoll_domain::Release {
                    reservation: ReservationId(*reservation),
                    occurred_at,
                };
                (core, plimsoll_domain::Command::Release(release))
            }
        }
    }

    /// An outcome has reached its client. True when the wish stays open.
    pub(crate) fn outcome(
        &mut self,
        index: usize,
        client: &mut Client,
        outcome: &wire::Outcome,
    ) -> Result<bool, Violation> {
        let number = outcome.status_number();
        let Some(status) = number.known() else {
            return violation(Promise::Answer, || format!("unknown status {number:?}"));
        };
        if status.retryable() {
            return Ok(true);
        }
        let id = outcome.reservation_id().0;
        let intent = &self.intents[index];
        let breach = |promise, what: &str| {
            violation(promise, || {
                format!("{what}: wish {index} {intent:?}, outcome {outcome:?}")
            })
        };
        match (&intent.wish, status) {
            (
                Wish::Reserve {
                    origin: Origin::New, ..
                },
                Status::KeyReused,
            ) => {
                return breach(Promise::OneEffect, "a key that nobody else has is refused as used");
            }
            (Wish::Reserve { .. }, Status::PoolNotFound) => {
                return breach(Promise::Durable, "a pool that was acknowledged is gone");
            }
            (
                Wish::Reserve {
                    origin: Origin::Same(first),
                    ..
                },
                _,
            ) if !self.intents[*first].release_attempted
                && (status != Status::Ok || self.intents[*first].progress != Progress::Done(id)) =>
            {
                return breach(Promise::OneEffect, "a repetition does not get the first outcome");
            }
            (
                Wish::Reserve {
                    origin: Origin::Conflict(first),
                    ..
                },
                _,
            ) if !self.intents[*first].release_attempted && status != Status::KeyReused => {
                return breach(Promise::OneEffect, "another request under a used key is not refused");
            }
            (Wish::Release { of: Some(_), .. }, Status::Ok) if outcome.state() != wire::State::released => {
                return breach(Promise::OneEffect, "what was released is not");
            }
            (Wish::Release { of: Some(_), .. }, Status::Ok) => {}
            (Wish::Release { of: Some(_), .. }, _) if intent.attempts == 1 => {
                return breach(
                    Promise::Durable,
                    "a reservation that was acknowledged cannot be released",
                );
            }
            _ => {}
        }
        let wish = intent.wish.clone();
        self.intents[index].progress = if status == Status::Ok {
            Progress::Done(id)
        } else {
            Progress::Refused(status)
        };
        match wish {
            Wish::Reserve {
                origin: Origin::New, ..
            } if status == Status::Ok => client.held.push(index),
            Wish::Reserve { .. } => {}
            Wish::Release { of: Some(of), .. } => self.intents[of].release_done = status == Status::Ok,
            Wish::Release { of: None, .. } => {}
        }
        Ok(false)
    }

    /// A definition that the planner wants next.
    pub(crate) fn plan(&mut self, pool: usize, now: i64, dice: &mut Dice) -> bool {
        let ledger = &mut self.pools[pool];
        if let Some((_, is_on_its_way)) = &mut ledger.pending {
            return !std::mem::replace(is_on_its_way, true);
        }
        let mut definition = ledger.acked.clone().unwrap_or_else(|| PoolDefinition {
            name: ledger.name.as_str().into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(1),
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::default(),
            overbook: Units::default(),
        });
        for dimension in 0..self.dimension_count {
            definition.limits.0[dimension] = dice.below(60) as u32;
            definition.overbook.0[dimension] = if dice.coin() { 0 } else { dice.below(8) as u32 };
        }
        definition.shadow = dice.permille(120);
        definition.closed = dice.permille(60);
        definition.opens_at = Timestamp(if dice.permille(80) { now + 200_000 } else { 0 });
        definition.closes_at = if dice.permille(80) {
            Timestamp(now + 800_000)
        } else {
            Timestamp::NEVER
        };
        let prefixes = if dice.permille(300) {
            dice.index(self.prefix_count_max)
        } else {
            dice.index(4)
        };
        definition.coverage = (0..prefixes)
            .map(|number| format!("{number:032}").into_boxed_str())
            .collect();
        ledger.was_shadow |= definition.shadow;
        for dimension in 0..8 {
            let ceiling = i64::from(definition.limits.0[dimension]) + i64::from(definition.overbook.0[dimension]);
            ledger.ceiling_max[dimension] = ledger.ceiling_max[dimension].max(ceiling);
        }
        ledger.pending = Some((definition, true));
        true
    }

    /// A definition got no answer, or none that settles it: it is sent again.
    pub(crate) fn put_is_lost(&mut self, pool: usize) {
        if let Some((_, is_on_its_way)) = &mut self.pools[pool].pending {
            *is_on_its_way = false;
        }
    }

    /// The planner got an answer.
    pub(crate) fn planned(&mut self, pool: usize, result: &plimsoll_engine::PutResult) -> Result<(), Violation> {
        let ledger = &mut self.pools[pool];
        if result.status.retryable() {
            self.put_is_lost(pool);
            return Ok(());
        }
        let is_right = result.status == Status::Ok
            && result.version >= ledger.acked_version
            && ledger.id.is_none_or(|id| id.0 == result.pool);
        hold(is_right, Promise::Durable, || {
            format!(
                "pool {} was acknowledged in version {}, and now {result:?}",
                ledger.name, ledger.acked_version
            )
        })?;
        ledger.id = Some(PoolId(result.pool));
        ledger.acked_version = result.version;
        ledger.acked = ledger.pending.take().map(|(definition, _)| definition);
        Ok(())
    }

    /// What clients were told stands in the state of the core.
    pub(crate) fn check(&self, core: usize, state: &State) -> Result<(), Violation> {
        for pool in self.pools.iter().filter(|pool| pool.core == core) {
            let Some(id) = pool.id else { continue };
            let found = state.pool(id).filter(|found| *found.definition().name == *pool.name);
            let is_right = found.is_some_and(|found| {
                found.version() > pool.acked_version
                    || found.version() == pool.acked_version && Some(found.definition()) == pool.acked.as_ref()
            });
            hold(is_right, Promise::Durable, || {
                format!(
                    "pool {} was acknowledged in version {}, and is {found:?}",
                    pool.name, pool.acked_version
                )
            })?;
        }
        for (index, intent) in self.intents.iter().enumerate() {
            let (Wish::Reserve { pool, units, .. }, Progress::Done(id)) = (&intent.wish, intent.progress) else {
                continue;
            };
            let pool = &self.pools[*pool];
            if pool.core != core {
                continue;
            }
            let found = state.reservation(ReservationId(id), Timestamp::ABSENT);
            let lives =
                found.is_some_and(|found| matches!(found.state, ReservationState::Held | ReservationState::Confirmed));
            let is_same = found.is_none_or(|found| found.units == *units && Some(found.pool) == pool.id);
            let first = match intent.wish {
                Wish::Reserve {
                    origin: Origin::Same(first),
                    ..
                } => &self.intents[first],
                _ => intent,
            };
            let is_right = is_same && (lives || first.release_attempted || intent.release_attempted);
            hold(is_right, Promise::Durable, || {
                format!("wish {index} was acknowledged: {intent:?}, and its reservation is {found:?}")
            })?;
            hold(!(lives && intent.release_done), Promise::Durable, || {
                format!("the release of wish {index} was acknowledged: {intent:?}, and its reservation is {found:?}")
            })?;
        }
        Ok(())
    }

    /// When everything is answered: each wish has at most one effect, and no effect is unknown to its client; what clients hold fits.
    pub(crate) fn check_effects(&self, model: &Model, state: &State) -> Result<(), Violation> {
        let mut effects = BTreeMap::new();
        for view in state.reservations(Timestamp::ABSENT) {
            let Some(found) = model.reservation(view.id.0).filter(|found| crate::mirror::lives(found)) else {
                continue;
            };
            let wish = found.event.occurred_at.0 as usize;
            if let Some(other) = effects.insert(wish, view.id) {
                return violation(Promise::OneEffect, || {
                    format!(
                        "wish {wish} has two effects, {other:?} and {:?}: {:?}",
                        view.id, self.intents[wish]
                    )
                });
            }
            let told = self.intents[wish].progress;
            hold(told == Progress::Done(view.id.0), Promise::OneEffect, || {
                format!("wish {wish} has the effect {view:?}, and its client was told {told:?}")
            })?;
        }
        for (number, pool) in self.pools.iter().enumerate().filter(|(_, pool)| !pool.was_shadow) {
            let mut sums = [0; 8];
            for intent in &self.intents {
                if let (
                    Wish::Reserve {
                        pool,
                        units,
                        origin: Origin::New,
                        ..
                    },
                    Progress::Done(_),
                ) = (&intent.wish, intent.progress)
                    && *pool == number
                    && !intent.release_attempted
                {
                    sums.iter_mut()
                        .zip(units.0)
                        .for_each(|(sum, units)| *sum += i64::from(units));
                }
            }
            let fits = sums.iter().zip(pool.ceiling_max).all(|(sum, ceiling)| *sum <= ceiling);
            hold(fits, Promise::Oversold, || {
                format!(
                    "clients hold {sums:?} of pool {}, whose ceiling never was above {:?}",
                    pool.name, pool.ceiling_max
                )
            })?;
        }
        Ok(())
    }
}
