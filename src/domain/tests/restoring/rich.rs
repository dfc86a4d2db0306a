//! A state that has something of everything.

use plimsoll_domain::{
    Command, Decision, Event, Key, PastReservation, PoolDefinition, PoolId, PutOutcome, PutPool, Release,
    ReservationId, Reserve, ResetTarget, Resize, State, StateOptions, Timestamp, Units, partition_of,
};

pub(crate) const START: i64 = 1_000_000_000;
const POOL_COUNT: usize = 40;

pub(crate) fn options() -> StateOptions {
    StateOptions {
        key_retention_micros: 1_000_000,
        retire_after_micros: 2_000_000,
        ..StateOptions::new(3)
    }
}

/// Names of one partition, so that it has several pages.
pub(crate) fn names() -> Vec<String> {
    let all = (0..).map(|number| format!("pool-{number}"));
    all.filter(|name| partition_of(name).0 == 7).take(POOL_COUNT).collect()
}

pub(crate) fn put(state: &mut State, name: &str, now: i64) -> Option<PoolId> {
    let put = PutPool {
        definition: PoolDefinition {
            name: name.into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(0),
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::from_slice(&[100, 100, 100]),
            overbook: Units::default(),
        },
        expected_version: None,
    };
    let Ok(PutOutcome::Created(event)) = state.decide_put(&put, Timestamp(now)) else {
        return None;
    };
    let id = event.pool;
    state.apply(&Event::PoolCreated(event));
    Some(id)
}

pub(crate) fn decide(state: &mut State, command: &Command, now: i64) -> Option<ReservationId> {
    let Ok(Decision::Change(event)) = state.decide(command, Timestamp(now)) else {
        return None;
    };
    state.apply(&event);
    match event {
        Event::Reserved(event) => Some(event.reservation),
        _ => None,
    }
}

pub(crate) fn reserve(pool: PoolId, key: u128, hold_seconds: u32) -> Command {
    Command::Reserve(Reserve {
        pool,
        key: Key(key),
        units: Units::from_slice(&[1, 2, 3]),
        hold_seconds,
        occurred_at: Timestamp::ABSENT,
        random: 5,
        reference: key.is_multiple_of(3).then(|| "order".into()),
    })
}

/// A reservation of [`reserve`] that was confirmed at once.
pub(crate) fn past(reservation: ReservationId, key: u128, created_at: i64) -> PastReservation {
    PastReservation {
        reservation,
        key: Key(key),
        created_at: Timestamp(created_at),
        units: Units::from_slice(&[1, 2, 3]),
        requested_units: Units::from_slice(&[1, 2, 3]),
        hold_seconds: 0,
        expires_at: None,
        version: 0,
        would_refuse: false,
        reference: key.is_multiple_of(3).then(|| "order".into()),
    }
}

/// How many events a reset takes.
pub(crate) fn reset(state: &mut State, pool: PoolId, target: &ResetTarget, now: i64) -> usize {
    let Ok(plan) = state.plan_reset(pool, target, None, Timestamp(now)) else {
        return 0;
    };
    for index in 0..plan.event_count() {
        let event = state.reset_event(target, &plan, index, Timestamp(now));
        assert_eq!(state.check_fits(&event), Ok(()), "{event:?}");
        state.apply(&event);
    }
    plan.event_count()
}

/// Pools and reservations of every kind, and a sweep that has just begun; returns the time as well.
pub(crate) fn rich_state() -> (State, i64) {
    let mut state = State::new(options());
    let mut now = START;
    let occurred_at = Timestamp::ABSENT;
    let pools: Vec<PoolId> = names().iter().filter_map(|name| put(&mut state, name, START)).collect();
    let mut live = Vec::new();
    let mut released = Vec::new();
    for (number, pool) in pools.iter().enumerate() {
        for n in 0..8_u128 {
            now += 1;
            let held = if n < 4 { 0 } else { 600 + n as u32 };
            // Pools past the 20th have nothing held, so that they can retire.
            if number >= 20 && held > 0 {
                continue;
            }
            let key = number as u128 * 100 + n;
            let reservation = decide(&mut state, &reserve(*pool, key, held), now).expect("there is room");
            match n {
                0 | 4 => {
                    if n == 0 && (1..3).contains(&number) {
                        released.push((*pool, past(reservation, key, now)));
                    }
                    let release = Release {
                        reservation,
                        occurred_at,
                    };
                    decide(&mut state, &Command::Release(release), now);
                }
                1 | 5 => {
                    let resize = Resize {
                        reservation,
                        expected_version: None,
                        units: Units::from_slice(&[2, 2, 2]),
                        hold_seconds: 0,
                        occurred_at,
                    };
                    decide(&mut state, &Command::Resize(resize), now);
                }
                _ => live.push(reservation),
            }
        }
    }
    assert!(live.len() > 64);
    let late = now + 3_000_000;
    // Some have retired and been swept, some have only retired.
    for count in [12, 6] {
        for _ in 0..count {
            // Looking for one gives up after a few that may not retire.
            let event = (0..POOL_COUNT).find_map(|_| state.next_retirement(Timestamp(late)));
            let event = event.expect("their lives are over");
            state.apply(&event);
        }
        if count == 12 {
            while let Some(event) = state.next_sweep(Timestamp(late)) {
                state.apply(&event);
            }
        }
    }
    // What ended lately is in the queue.
    for reservation in live.iter().take(20) {
        let release = Release {
            reservation: *reservation,
            occurred_at,
        };
        decide(&mut state, &Command::Release(release), late);
    }
    // Some live again in other slots.
    for (pool, past) in released {
        let target = ResetTarget {
            to: Timestamp(START),
            definition: None,
            reservations: vec![past],
        };
        assert!(reset(&mut state, pool, &target, late) > 1);
    }
    let Some(Event::Swept(swept)) = state.next_sweep(Timestamp(late)) else {
        panic!("retired pools are left")
    };
    state.apply(&Event::Swept(plimsoll_domain::Swept { count: 10, ..swept }));
    (state, late)
}
