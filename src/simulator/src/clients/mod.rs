//! Clients, what they want, and what they were told.
//!
//! The ledger is the black box: it knows only what clients sent and which answers reached them, and holds the engines to that.

mod answers;
mod check;
mod planner;

pub(crate) use planner::LATE;

use std::collections::VecDeque;

use plimsoll_domain::{Key, PoolDefinition, PoolId, ReservationId, Reserve, Resize, Timestamp, Units, partition_of};
use plimsoll_protocol::Status;

use crate::dice::Dice;
use crate::model::Rules;

/// Open wishes of one client.
const OPEN_COUNT_MAX: usize = 24;
/// Reservations that a client remembers after their end.
const ENDED_COUNT_MAX: usize = 6;

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
        id: PoolId,
        key: u128,
        units: Units,
        hold_seconds: u32,
        reference: Option<Box<str>>,
        origin: Origin,
    },
    Confirm {
        reservation: u128,
        of: usize,
    },
    Release {
        reservation: u128,
        of: Option<usize>,
    },
    Resize {
        reservation: u128,
        of: usize,
        expected_version: Option<u16>,
        /// The version is what the client was told last.
        is_current: bool,
        units: Units,
        hold_seconds: u32,
        /// What was known before.
        before: Box<Holding>,
    },
}

impl Wish {
    /// The reserve whose reservation it is about, if a client made it.
    fn of(&self) -> Option<usize> {
        match self {
            Wish::Reserve { .. } => None,
            Wish::Confirm { of, .. } | Wish::Resize { of, .. } => Some(*of),
            Wish::Release { of, .. } => *of,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Open,
    Done(u128),
    Refused(Status),
    /// There never was room for it, as far as the client was told.
    Abandoned,
}

/// What a client knows of its reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// What it may take.
    units: Vec<Units>,
    /// It cannot expire before; 0 when that is unknown, the end of time once it is confirmed.
    deadline: i64,
    version: Option<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) wish: Wish,
    pub(crate) attempts: u32,
    pub(crate) progress: Progress,
    /// Of a reserve.
    holding: Holding,
    release_attempted: bool,
    release_done: bool,
    /// Whatever the answer was: it does not live any more.
    release_answered: bool,
    confirm_done: bool,
    expired_told: bool,
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
    /// Reserves that it knows to hold and that it does nothing with.
    pub(crate) held: Vec<usize>,
    /// Reserves whose reservations it knows to have ended.
    pub(crate) ended: VecDeque<usize>,
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
    /// The earliest end of its life that some definition of it had.
    pub(crate) ends_at_min: i64,
    was_replaced: bool,
    /// It may have gone back to an earlier moment, and its reservations with it: what clients were told of these need not
    /// stand. What does is the model's to say.
    pub(crate) was_reset: bool,
    refusals: u32,
}

pub(crate) struct Ledger {
    rules: Rules,
    pub(crate) intents: Vec<Intent>,
    pub(crate) pools: Vec<PoolLedger>,
    key_count: u64,
    /// The latest time that there was.
    pub(crate) latest: i64,
    pub(crate) key_changes_on_retry: bool,
    /// The most coverage prefixes of a large definition: definitions fill segments.
    pub(crate) prefix_count_max: usize,
    /// Whether definitions say that pools end soon.
    pub(crate) pools_end: bool,
    /// Whether pools go back to earlier moments.
    pub(crate) resets: bool,
}

impl Ledger {
    pub(crate) fn new(rules: Rules, core_count: usize, pool_count: usize) -> Ledger {
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
                    ends_at_min: i64::MAX,
                    was_replaced: false,
                    was_reset: false,
                    refusals: 0,
                }
            })
            .collect();
        Ledger {
            rules,
            intents: Vec::new(),
            pools,
            key_count: 0,
            latest: 0,
            key_changes_on_retry: false,
            prefix_count_max: 4,
            pools_end: false,
            resets: false,
        }
    }

    fn new_key(&mut self) -> u128 {
        self.key_count += 1;
        u128::from(self.key_count) << 64 | u128::from(self.key_count.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The pool may have retired.
    fn may_be_retired(&self, pool: usize, id: PoolId) -> bool {
        let pool = &self.pools[pool];
        pool.id != Some(id) || pool.ends_at_min.saturating_add(self.rules.pool_wait_micros()) < self.latest
    }

    /// The pool of this wish may have gone back to an earlier moment.
    fn may_be_reset(&self, index: usize) -> bool {
        match self.intents[index].wish {
            Wish::Reserve { pool, .. } => self.pools[pool].was_reset,
            _ => false,
        }
    }

    /// The reservation of this reserve need not live any more, although nobody released it.
    fn may_have_ended(&self, index: usize) -> bool {
        let intent = &self.intents[index];
        let Wish::Reserve { pool, id, .. } = intent.wish else {
            return false;
        };
        intent.holding.deadline <= self.latest || self.may_be_retired(pool, id) || self.pools[pool].was_reset
    }

    /// A client comes up with something new; nothing if it waits for much already or knows no pool.
    pub(crate) fn wish(&mut self, client: &mut Client, dice: &mut Dice) {
        if client.unfinished >= OPEN_COUNT_MAX {
            return;
        }
        let what = dice.below(100);
        let wish = match what {
            0..50 if !client.held.is_empty() => {
                let of = client.held.swap_remove(dice.index(client.held.len()));
                self.wish_about(of, what, dice)
            }
            50..55 if !client.ended.is_empty() => {
                let of = client.ended[dice.index(client.ended.len())];
                let Progress::Done(reservation) = self.intents[of].progress else {
                    unreachable!("ended means done")
                };
                match dice.below(3) {
                    0 => Wish::Confirm { reservation, of },
                    1 => {
                        self.intents[of].release_attempted = true;
                        Wish::Release {
                            reservation,
                            of: Some(of),
                        }
                    }
                    // Once it is forgotten, its key is another reservation's.
                    _ => {
                        let mut wish = self.intents[of].wish.clone();
                        if let Wish::Reserve { origin, .. } = &mut wish {
                            *origin = Origin::Same(of);
                        }
                        wish
                    }
                }
            }
            55..57 => {
                let known = client.held.first().and_then(|of| match self.intents[*of].progress {
                    Progress::Done(id) => Some(id ^ 1 << dice.below(128)),
                    _ => None,
                });
                Wish::Release {
                    reservation: known.unwrap_or(u128::from(dice.bits())),
                    of: None,
                }
            }
            57..64 if !client.held.is_empty() => {
                let earlier = client.held[dice.index(client.held.len())];
                let mut wish = self.intents[earlier].wish.clone();
                if let Wish::Reserve { units, origin, .. } = &mut wish {
                    if what < 61 {
                        *origin = Origin::Same(earlier);
                    } else {
                        *origin = Origin::Conflict(earlier);
                        units.0[0] += 1;
                    }
                }
                wish
            }
            _ => match self.wish_reserve(dice) {
                Some(wish) => wish,
                None => return,
            },
        };
        let units = match &wish {
            Wish::Reserve { units, .. } => vec![*units],
            _ => Vec::new(),
        };
        client.unfinished += 1;
        client.open.push_back(self.intents.len());
        self.intents.push(Intent {
            wish,
            attempts: 0,
            progress: Progress::Open,
            holding: Holding {
                units,
                deadline: 0,
                version: None,
            },
            release_attempted: false,
            release_done: false,
            release_answered: false,
            confirm_done: false,
            expired_told: false,
        });
    }

    fn wish_reserve(&mut self, dice: &mut Dice) -> Option<Wish> {
        let pool = dice.index(self.pools.len());
        let id = self.pools[pool].id?;
        let mut units = Units::default();
        for dimension in 0..self.rules.dimension_count {
            units.0[dimension] = dice.below(3) as u32;
        }
        units.0[dice.index(self.rules.dimension_count)] += 1 + dice.below(2) as u32;
        let reference = dice
            .permille(300)
            .then(|| "r".repeat(1 + dice.index(64)).into_boxed_str());
        let hold_seconds = dice.pick(&[0, 0, 0, 1, 1, 2, 5, 60, 600, 3_600]);
        Some(Wish::Reserve {
            pool,
            id,
            key: self.new_key(),
            units,
            hold_seconds,
            reference,
            origin: Origin::New,
        })
    }

    /// What a client wants of a reservation that it holds.
    fn wish_about(&mut self, of: usize, what: u64, dice: &mut Dice) -> Wish {
        let Progress::Done(reservation) = self.intents[of].progress else {
            unreachable!("held means done")
        };
        if what < 22 {
            self.intents[of].release_attempted = true;
            return Wish::Release {
                reservation,
                of: Some(of),
            };
        }
        if what < 36 {
            return Wish::Confirm { reservation, of };
        }
        let before = Box::new(self.intents[of].holding.clone());
        let mut units = Units([Resize::UNCHANGED; 8]);
        for dimension in 0..self.rules.dimension_count {
            if dice.coin() {
                units.0[dimension] = dice.below(5) as u32;
            }
        }
        let hold_seconds = dice.pick(&[0, 0, 0, 1, 60, 3_600]);
        let known = before.version.filter(|_| dice.coin());
        let is_wrong = dice.permille(200);
        let expected_version = known.map(|version| if is_wrong { version + 1 } else { version });
        let holding = &mut self.intents[of].holding;
        for units_before in before.units.clone() {
            holding.units.push(resized(&units_before, &units));
        }
        holding.units.dedup();
        holding.version = None;
        if hold_seconds > 0 {
            holding.deadline = holding.deadline.min(0);
        }
        Wish::Resize {
            reservation,
            of,
            expected_version,
            is_current: known.is_some() && !is_wrong,
            units,
            hold_seconds,
            before,
        }
    }

    /// The command for a wish, as a client sends it and the server hands it on.
    pub(crate) fn command(&mut self, index: usize, random: u64) -> (Option<usize>, plimsoll_domain::Command) {
        let changes_key = self.key_changes_on_retry && self.intents[index].attempts > 0;
        let new_key = if changes_key { Some(self.new_key()) } else { None };
        self.intents[index].attempts += 1;
        let intent = &self.intents[index];
        let occurred_at = Timestamp(index as i64);
        // As the server does, by the partition that the id names; one that does not exist goes anywhere.
        let core = intent.wish.of().map(|of| match &self.intents[of].wish {
            Wish::Reserve { pool, .. } => self.pools[*pool].core,
            _ => unreachable!("only a reserve makes a reservation"),
        });
        match &intent.wish {
            Wish::Reserve {
                pool,
                id,
                key,
                units,
                hold_seconds,
                reference,
                origin,
            } => {
                let key = new_key.filter(|_| *origin == Origin::New).unwrap_or(*key);
                let reserve = Reserve {
                    pool: *id,
                    key: Key(key),
                    units: *units,
                    hold_seconds: *hold_seconds,
                    occurred_at,
                    random,
                    reference: reference.clone(),
                };
                (Some(self.pools[*pool].core), plimsoll_domain::Command::Reserve(reserve))
            }
            Wish::Confirm { reservation, .. } => {
                let confirm = plimsoll_domain::Confirm {
                    reservation: ReservationId(*reservation),
                    occurred_at,
                };
                (core, plimsoll_domain::Command::Confirm(confirm))
            }
            Wish::Release { reservation, .. } => {
                let release = plimsoll_domain::Release {
                    reservation: ReservationId(*reservation),
                    occurred_at,
                };
                (core, plimsoll_domain::Command::Release(release))
            }
            Wish::Resize {
                reservation,
                expected_version,
                units,
                hold_seconds,
                ..
            } => {
                let resize = Resize {
                    reservation: ReservationId(*reservation),
                    expected_version: *expected_version,
                    units: *units,
                    hold_seconds: *hold_seconds,
                    occurred_at,
                };
                (core, plimsoll_domain::Command::Resize(resize))
            }
        }
    }
}

/// What is asked for, put over what there was.
fn resized(before: &Units, asked: &Units) -> Units {
    let mut units = *before;
    for (unit, asked) in units.0.iter_mut().zip(asked.0) {
        if asked != Resize::UNCHANGED {
            *unit = asked;
        }
    }
    units
}
