//! Every transition of a reservation, as a table, and a walk through all of it.
//!
//! A row says what some commands lead to, in some states of the reservation and of its pool. Every combination of the
//! three is in exactly one row, and the walk brings each of them about.

mod resets;

use std::mem::discriminant;
use std::ops::RangeInclusive;

use plimsoll_domain::{
    Command, Confirm, Counters, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Refusal, Release,
    ReservationId, ReservationState, Reserve, Resize, State, StateOptions, Timestamp, Units,
};

/// Where the reservation stands when the command comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Standing {
    /// Held, its deadline a microsecond away.
    Held,
    /// Held, its deadline now, and no event of it yet.
    PastDeadline,
    Confirmed,
    /// Ended, for as long as the key retention.
    Released,
    Expired,
    /// There never was one of this id and key.
    Unknown,
    /// Ended for a microsecond more than the key retention.
    ForgottenReleased,
    ForgottenExpired,
    /// Its pool is retired.
    RetiredConfirmed,
    RetiredReleased,
    /// Its pool is retired, and what belonged to it was swept.
    Swept,
}

const STANDINGS: [Standing; 11] = [
    Standing::Held,
    Standing::PastDeadline,
    Standing::Confirmed,
    Standing::Released,
    Standing::Expired,
    Standing::Unknown,
    Standing::ForgottenReleased,
    Standing::ForgottenExpired,
    Standing::RetiredConfirmed,
    Standing::RetiredReleased,
    Standing::Swept,
];

/// How the reservation's pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Selling {
    Open,
    /// Full, and in shadow mode.
    Shadow,
    Full,
    /// In the three that follow it is full as well: state and times come before capacity.
    Closed,
    NotOpenYet,
    PastClosing,
}

const SELLINGS: [Selling; 6] = [
    Selling::Open,
    Selling::Shadow,
    Selling::Full,
    Selling::Closed,
    Selling::NotOpenYet,
    Selling::PastClosing,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Confirm,
    Release,
    Shrink,
    Grow,
    /// Another deadline, the same units.
    OtherHold,
    /// A resize that leaves everything as it is.
    ResizeToTheSame,
    ResizeToNothing,
    /// Growth from a version that is not current.
    ResizeFromOtherVersion,
    /// The key and the request of the reservation.
    ReserveAgain,
    /// The key of the reservation with another request.
    ReserveOtherwise,
    /// The pool goes back to a moment at which the reservation did not live.
    ResetToBefore,
    /// To one at which it was held, until the same deadline.
    ResetToHeld,
    /// To one at which it was confirmed.
    ResetToConfirmed,
    /// To one of another pool: what it says contradicts what is known.
    ResetToOther,
}

const COMMANDS: [Asked; 14] = [
    Asked::Confirm,
    Asked::Release,
    Asked::Shrink,
    Asked::Grow,
    Asked::OtherHold,
    Asked::ResizeToTheSame,
    Asked::ResizeToNothing,
    Asked::ResizeFromOtherVersion,
    Asked::ReserveAgain,
    Asked::ReserveOtherwise,
    Asked::ResetToBefore,
    Asked::ResetToHeld,
    Asked::ResetToConfirmed,
    Asked::ResetToOther,
];

#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// An event, after which the reservation stands like this.
    Becomes(&'static str, ReservationState),
    /// No event: the reservation as it is.
    Stands(ReservationState),
    /// No event, and the reservation is not known.
    Nothing,
    Refused(Refusal),
}

struct Row(
    &'static [Asked],
    RangeInclusive<Standing>,
    RangeInclusive<Selling>,
    Outcome,
);

const ANY: RangeInclusive<Selling> = Selling::Open..=Selling::PastClosing;
const SELLS: RangeInclusive<Selling> = Selling::Open..=Selling::Shadow;
const LIVE: RangeInclusive<Standing> = Standing::Held..=Standing::Confirmed;
const REMEMBERED: RangeInclusive<Standing> = Standing::Held..=Standing::Expired;
const RESIZES: &[Asked] = &[
    Asked::Shrink,
    Asked::Grow,
    Asked::OtherHold,
    Asked::ResizeToTheSame,
    Asked::ResizeToNothing,
    Asked::ResizeFromOtherVersion,
];
const BY_ID: &[Asked] = &[
    Asked::Confirm,
    Asked::Release,
    Asked::Shrink,
    Asked::Grow,
    Asked::OtherHold,
    Asked::ResizeToTheSame,
    Asked::ResizeToNothing,
    Asked::ResizeFromOtherVersion,
];
const RESETS: &[Asked] = &[
    Asked::ResetToBefore,
    Asked::ResetToHeld,
    Asked::ResetToConfirmed,
    Asked::ResetToOther,
];
const RESERVES: &[Asked] = &[Asked::ReserveAgain, Asked::ReserveOtherwise];
const SHORT: Refusal = Refusal::InsufficientCapacity {
    short: 0b1,
    remaining: Counters([0; 8]),
};

const fn only<T: Copy>(one: T) -> RangeInclusive<T> {
    RangeInclusive::new(one, one)
}

#[rustfmt::skip]
fn transitions() -> Vec<Row> {
    use Asked::*;
    use Outcome::*;
    use ReservationState as Is;
    use Standing::*;
    let gone = Unknown..=Swept;
    let never_or_forgotten = Unknown..=ForgottenExpired;
    let retired = RetiredConfirmed..=Swept;
    vec![
        // An id that leads nowhere.
        Row(BY_ID, gone, ANY, Refused(Refusal::ReservationNotFound)),
        // Confirm.
        Row(&[Confirm], only(Held), ANY, Becomes("confirmed", Is::Confirmed)),
        Row(&[Confirm], only(PastDeadline), ANY, Refused(Refusal::HoldExpired)),
        Row(&[Confirm], only(Confirmed), ANY, Stands(Is::Confirmed)),
        Row(&[Confirm], only(Released), ANY, Refused(Refusal::ReservationEnded)),
        Row(&[Confirm], only(Expired), ANY, Refused(Refusal::HoldExpired)),
        // Release: always, once.
        Row(&[Release], LIVE, ANY, Becomes("released", Is::Released)),
        Row(&[Release], only(Released), ANY, Stands(Is::Released)),
        Row(&[Release], only(Expired), ANY, Stands(Is::Expired)),
        // Resize: what lives, as long as it can be confirmed.
        Row(RESIZES, only(PastDeadline), ANY, Refused(Refusal::HoldExpired)),
        Row(RESIZES, only(Released), ANY, Refused(Refusal::ReservationEnded)),
        Row(RESIZES, only(Expired), ANY, Refused(Refusal::HoldExpired)),
        Row(&[ResizeFromOtherVersion], only(Held), ANY, Refused(Refusal::ChangedMeanwhile)),
        Row(&[ResizeFromOtherVersion], only(Confirmed), ANY, Refused(Refusal::ChangedMeanwhile)),
        Row(&[ResizeToNothing], only(Held), ANY, Refused(Refusal::NoUnits)),
        Row(&[ResizeToNothing], only(Confirmed), ANY, Refused(Refusal::NoUnits)),
        Row(&[ResizeToTheSame], only(Held), ANY, Stands(Is::Held)),
        Row(&[ResizeToTheSame], only(Confirmed), ANY, Stands(Is::Confirmed)),
        Row(&[Shrink], only(Held), ANY, Becomes("resized", Is::Held)),
        Row(&[Shrink], only(Confirmed), ANY, Becomes("resized", Is::Confirmed)),
        Row(&[OtherHold], only(Held), ANY, Becomes("resized", Is::Held)),
        Row(&[OtherHold], only(Confirmed), ANY, Refused(Refusal::NotHeld)),
        Row(&[Grow], only(Held), SELLS, Becomes("resized", Is::Held)),
        Row(&[Grow], only(Confirmed), SELLS, Becomes("resized", Is::Confirmed)),
        Row(&[Grow], only(Held), only(Selling::Full), Refused(SHORT)),
        Row(&[Grow], only(Confirmed), only(Selling::Full), Refused(SHORT)),
        Row(&[Grow], only(Held), only(Selling::Closed), Refused(Refusal::PoolClosed)),
        Row(&[Grow], only(Confirmed), only(Selling::Closed), Refused(Refusal::PoolClosed)),
        Row(&[Grow], only(Held), only(Selling::NotOpenYet), Refused(Refusal::PoolNotOpenYet)),
        Row(&[Grow], only(Confirmed), only(Selling::NotOpenYet), Refused(Refusal::PoolNotOpenYet)),
        Row(&[Grow], only(Held), only(Selling::PastClosing), Refused(Refusal::PoolPastClosing)),
        Row(&[Grow], only(Confirmed), only(Selling::PastClosing), Refused(Refusal::PoolPastClosing)),
        // Reserve with a key that is remembered.
        Row(&[ReserveAgain], only(Held), ANY, Stands(Is::Held)),
        Row(&[ReserveAgain], only(PastDeadline), ANY, Stands(Is::Held)),
        Row(&[ReserveAgain], only(Confirmed), ANY, Stands(Is::Confirmed)),
        Row(&[ReserveAgain], only(Released), ANY, Stands(Is::Released)),
        Row(&[ReserveAgain], only(Expired), ANY, Stands(Is::Expired)),
        Row(&[ReserveOtherwise], REMEMBERED, ANY, Refused(Refusal::KeyReused)),
        // With a key that is not.
        Row(RESERVES, never_or_forgotten.clone(), SELLS, Becomes("reserved", Is::Held)),
        Row(RESERVES, never_or_forgotten.clone(), only(Selling::Full), Refused(SHORT)),
        Row(RESERVES, never_or_forgotten.clone(), only(Selling::Closed), Refused(Refusal::PoolClosed)),
        Row(RESERVES, never_or_forgotten.clone(), only(Selling::NotOpenYet), Refused(Refusal::PoolNotOpenYet)),
        Row(RESERVES, never_or_forgotten.clone(), only(Selling::PastClosing), Refused(Refusal::PoolPastClosing)),
        Row(RESERVES, retired.clone(), ANY, Refused(Refusal::PoolNotFound)),
        // Reset: whatever the pool sells.
        Row(RESETS, retired, ANY, Refused(Refusal::PoolNotFound)),
        Row(&[ResetToBefore], LIVE, ANY, Becomes("released", Is::Released)),
        Row(&[ResetToBefore], only(Released), ANY, Stands(Is::Released)),
        Row(&[ResetToBefore], only(Expired), ANY, Stands(Is::Expired)),
        Row(&[ResetToBefore], never_or_forgotten.clone(), ANY, Nothing),
        // A hold whose deadline has passed does not come back.
        Row(&[ResetToHeld], only(Held), ANY, Stands(Is::Held)),
        Row(&[ResetToHeld], only(PastDeadline), ANY, Becomes("released", Is::Released)),
        Row(&[ResetToHeld], only(Confirmed), ANY, Refused(Refusal::NotAPast)),
        Row(&[ResetToHeld], only(Released), ANY, Becomes("restored", Is::Held)),
        Row(&[ResetToHeld], only(Expired), ANY, Stands(Is::Expired)),
        Row(&[ResetToHeld], Unknown..=ForgottenReleased, ANY, Becomes("restored", Is::Held)),
        Row(&[ResetToHeld], only(ForgottenExpired), ANY, Nothing),
        Row(&[ResetToConfirmed], Held..=PastDeadline, ANY, Becomes("restored", Is::Confirmed)),
        Row(&[ResetToConfirmed], only(Confirmed), ANY, Stands(Is::Confirmed)),
        Row(&[ResetToConfirmed], Released..=ForgottenExpired, ANY, Becomes("restored", Is::Confirmed)),
        Row(&[ResetToOther], Held..=Expired, ANY, Refused(Refusal::NotAPast)),
        Row(&[ResetToOther], only(Unknown), ANY, Becomes("restored", Is::Confirmed)),
        Row(&[ResetToOther], ForgottenReleased..=ForgottenExpired, ANY, Refused(Refusal::NotAPast)),
    ]
}

const RETENTION_MICROS: i64 = 1_000_000;
const RETIRE_AFTER_MICROS: i64 = 3_000_000;
const HOLD_SECONDS: u32 = 600;
const DEADLINE: i64 = START + HOLD_SECONDS as i64 * 1_000_000;
const START: i64 = 1_000_000_000;
const KEY: Key = Key(1);

/// A state with a pool and, mostly, a reservation in it.
struct Scene {
    state: State,
    now: i64,
    pool: PoolId,
    reservation: ReservationId,
    /// What fills the pool.
    filler: Option<(ReservationId, u32, i64)>,
}

fn definition() -> PoolDefinition {
    PoolDefinition {
        name: "slot-1".into(),
        zone: "north".into(),
        kind: "delivery".into(),
        starts_at: Timestamp(0),
        ends_at: Timestamp(1),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: Vec::new(),
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[10]),
        overbook: Units::default(),
    }
}

fn reserve(pool: PoolId, key: Key, units: u32, hold_seconds: u32) -> Command {
    Command::Reserve(Reserve {
        pool,
        key,
        units: Units::from_slice(&[units]),
        hold_seconds,
        occurred_at: Timestamp::ABSENT,
        random: 5,
        reference: None,
    })
}

fn resize(reservation: ReservationId, units: u32, hold_seconds: u32) -> Resize {
    Resize {
        reservation,
        expected_version: Some(0),
        units: Units::from_slice(&[units]),
        hold_seconds,
        occurred_at: Timestamp::ABSENT,
    }
}

impl Scene {
    /// The reservation has 2 units. What fills the pool takes the rest of its 10; there are 4 left in an open one.
    fn set(standing: Standing, selling: Selling) -> Scene {
        let mut scene = Scene {
            state: State::new(StateOptions {
                key_retention_micros: RETENTION_MICROS,
                retire_after_micros: RETIRE_AFTER_MICROS,
                ..StateOptions::new(1)
            }),
            now: START,
            pool: PoolId(0),
            reservation: ReservationId(0),
            filler: None,
        };
        scene.put(&definition());
        scene.pool = scene.state.pool_id("slot-1").expect("it was just put");
        let hold_seconds = match standing {
            Standing::Confirmed => 0,
            _ => HOLD_SECONDS,
        };
        if standing == Standing::Unknown {
            // One of this pool that was never made.
            scene.reservation = ReservationId(u128::from(scene.pool.partition().0) << 112 | 77 << 72 | 5);
        } else {
            scene.reservation = scene.make(&reserve(scene.pool, KEY, 2, hold_seconds));
        }
        scene.bring_about(standing, selling);
        scene
    }

    fn bring_about(&mut self, standing: Standing, selling: Selling) {
        let reservation = self.reservation;
        let occurred_at = Timestamp::ABSENT;
        match standing {
            Standing::Unknown | Standing::Confirmed => {}
            Standing::Held => self.now = DEADLINE - 1,
            Standing::PastDeadline => self.now = DEADLINE,
            Standing::Released | Standing::ForgottenReleased | Standing::RetiredReleased | Standing::Swept => {
                self.change(&Command::Release(Release {
                    reservation,
                    occurred_at,
                }));
            }
            Standing::Expired | Standing::ForgottenExpired => {
                // The quarter of a second of its deadline is over by then.
                self.now = DEADLINE + (1 << 18);
                let event = self.state.next_expiry(Timestamp(self.now)).expect("it is due");
                self.state.apply(&event);
            }
            Standing::RetiredConfirmed => self.change(&Command::Confirm(Confirm {
                reservation,
                occurred_at,
            })),
        }
        let ended_at = self.now;
        self.prepare_pool(standing, selling);
        match standing {
            Standing::Released | Standing::Expired => self.now = ended_at + RETENTION_MICROS,
            Standing::ForgottenReleased | Standing::ForgottenExpired => self.now = ended_at + RETENTION_MICROS + 1,
            Standing::RetiredConfirmed | Standing::RetiredReleased | Standing::Swept => self.retire(standing),
            _ => {}
        }
    }

    fn prepare_pool(&mut self, standing: Standing, selling: Selling) {
        let mut changed = definition();
        let takes_units = matches!(
            standing,
            Standing::Held | Standing::PastDeadline | Standing::Confirmed | Standing::RetiredConfirmed
        );
        let free = if takes_units { 8 } else { 10 };
        let filling = if selling == Selling::Open { free - 4 } else { free };
        let filler = self.make(&reserve(self.pool, Key(2), filling, 0));
        self.filler = Some((filler, filling, self.now));
        match selling {
            Selling::Open | Selling::Full => {}
            Selling::Shadow => changed.shadow = true,
            Selling::Closed => changed.closed = true,
            Selling::NotOpenYet => changed.opens_at = Timestamp(self.now + 1_000_000_000),
            Selling::PastClosing => changed.closes_at = Timestamp(self.now),
        }
        self.put(&changed);
    }

    fn retire(&mut self, standing: Standing) {
        self.now += RETIRE_AFTER_MICROS + 1;
        let event = self
            .state
            .next_retirement(Timestamp(self.now))
            .expect("its life is over");
        self.state.apply(&event);
        while standing == Standing::Swept
            && let Some(event) = self.state.next_sweep(Timestamp(self.now))
        {
            self.state.apply(&event);
        }
    }

    fn put(&mut self, definition: &PoolDefinition) {
        let put = PutPool {
            definition: definition.clone(),
            expected_version: None,
        };
        match self.state.decide_put(&put, Timestamp(self.now)) {
            Ok(PutOutcome::Created(event)) => self.state.apply(&Event::PoolCreated(event)),
            Ok(PutOutcome::Changed(event)) => self.state.apply(&Event::PoolChanged(event)),
            Ok(PutOutcome::Unchanged { .. }) => {}
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    fn change(&mut self, command: &Command) {
        let decision = self.state.decide(command, Timestamp(self.now));
        let Ok(Decision::Change(event)) = decision else {
            panic!("{decision:?}")
        };
        self.state.apply(&event);
    }

    fn make(&mut self, command: &Command) -> ReservationId {
        let decision = self.state.decide(command, Timestamp(self.now));
        let Ok(Decision::Change(Event::Reserved(event))) = decision else {
            panic!("{decision:?}")
        };
        let id = event.reservation;
        self.state.apply(&Event::Reserved(event));
        id
    }

    fn command(&self, asked: Asked, standing: Standing) -> Command {
        let reservation = self.reservation;
        let occurred_at = Timestamp::ABSENT;
        let hold_seconds = if standing == Standing::Confirmed {
            0
        } else {
            HOLD_SECONDS
        };
        match asked {
            Asked::Confirm => Command::Confirm(Confirm {
                reservation,
                occurred_at,
            }),
            Asked::Release => Command::Release(Release {
                reservation,
                occurred_at,
            }),
            Asked::Shrink => Command::Resize(resize(reservation, 1, 0)),
            Asked::Grow => Command::Resize(resize(reservation, 3, 0)),
            Asked::OtherHold => Command::Resize(resize(reservation, Resize::UNCHANGED, 7)),
            Asked::ResizeToTheSame => Command::Resize(resize(reservation, Resize::UNCHANGED, 0)),
            Asked::ResizeToNothing => Command::Resize(resize(reservation, 0, 0)),
            Asked::ResizeFromOtherVersion => Command::Resize(Resize {
                expected_version: Some(1),
                ..resize(reservation, 3, 0)
            }),
            Asked::ReserveAgain => reserve(self.pool, KEY, 2, hold_seconds),
            Asked::ReserveOtherwise => reserve(self.pool, KEY, 1, hold_seconds),
            asked => panic!("{asked:?} is no command on a reservation"),
        }
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::PoolCreated(_) => "pool created",
        Event::PoolChanged(_) => "pool changed",
        Event::Reserved(_) => "reserved",
        Event::Confirmed(_) => "confirmed",
        Event::Released(_) => "released",
        Event::Expired(_) => "expired",
        Event::Resized(_) => "resized",
        Event::PoolRetired(_) => "pool retired",
        Event::Swept(_) => "swept",
        Event::TurnedAway(_) => "turned away",
        Event::PoolReset(_) => "pool reset",
        Event::Restored(_) => "restored",
    }
}

fn check(standing: Standing, selling: Selling, asked: Asked, expected: Outcome) {
    let context = format!("{asked:?} in {standing:?}, pool {selling:?}");
    let mut scene = Scene::set(standing, selling);
    let now = Timestamp(scene.now);
    if let Some(target) = scene.target(asked, standing) {
        return resets::check(&mut scene, &target, expected, &context);
    }
    let command = scene.command(asked, standing);
    let decision = scene.state.decide(&command, now);
    match (expected, decision) {
        (Outcome::Becomes(name, state), Ok(Decision::Change(event))) => {
            assert_eq!(kind(&event), name, "{context}");
            scene.state.apply(&event);
            let id = match event {
                Event::Reserved(event) => event.reservation,
                _ => scene.reservation,
            };
            let view = scene.state.reservation(id, now).expect("it has just changed");
            assert_eq!(view.state, state, "{context}");
            let in_shadow = selling == Selling::Shadow && matches!(name, "reserved" | "resized");
            let adds = in_shadow && !matches!(asked, Asked::Shrink | Asked::OtherHold);
            assert_eq!(view.would_refuse, adds, "{context}");
        }
        (Outcome::Stands(state), Ok(Decision::Standing(view))) => {
            assert_eq!(view.state, state, "{context}");
            assert_eq!(Some(view), scene.state.reservation(scene.reservation, now), "{context}");
        }
        (Outcome::Refused(expected), Err(refusal)) => {
            assert_eq!(
                discriminant(&refusal),
                discriminant(&expected),
                "{context}: {refusal:?}"
            );
        }
        (expected, decision) => panic!("{context}: {decision:?} instead of {expected:?}"),
    }
    scene.state.assert_counters();
}

#[test]
fn every_row_of_the_table_holds_and_every_case_is_in_one() {
    let rows = transitions();
    for standing in STANDINGS {
        for selling in SELLINGS {
            for asked in COMMANDS {
                let mut fitting = rows.iter().filter(|Row(commands, standings, sellings, _)| {
                    commands.contains(&asked) && standings.contains(&standing) && sellings.contains(&selling)
                });
                let row = fitting.next();
                let Some(Row(_, _, _, expected)) = row else {
                    panic!("{asked:?} in {standing:?}, pool {selling:?}, is in no row")
                };
                assert!(
                    fitting.next().is_none(),
                    "{asked:?} in {standing:?}, pool {selling:?}, is in two rows"
                );
                check(standing, selling, asked, *expected);
            }
        }
    }
}

/// The canary: a wrong row does not pass.
#[test]
#[should_panic(expected = "Confirm in PastDeadline, pool Open")]
fn a_wrong_row_is_noticed() {
    let wrong = Outcome::Becomes("confirmed", ReservationState::Confirmed);
    check(Standing::PastDeadline, Selling::Open, Asked::Confirm, wrong);
}
